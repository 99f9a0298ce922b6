"""Places found by what they are: the last feature map, where a stage begins, the class layer."""

import pytest
import relmap
import relmap.torchvision_shim
import torch
import torchvision
from relmap.errors import InputError
from relmap.explainers.cam import last_feature_map, stage_before
from relmap.network import trace
from relmap.network.layouts import feature_maps, layout_of
from torch import Tensor, nn


class SE(nn.Module):
    """Squeeze and excitation with views, as in most repositories."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.gate = nn.Sequential(nn.Linear(channels, 2), nn.ReLU(), nn.Linear(2, channels), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        n, c = x.shape[:2]
        return x * self.gate(self.pool(x).view(n, c)).view(n, c, 1, 1)


class Shuffle(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        return x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


class ChannelsLast(nn.Module):
    """Blocks on (N, H, W, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.norm, self.mlp = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8), nn.Linear(8, 8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).permute(0, 2, 3, 1)
        x = x + torch.relu(self.mlp(self.norm(x)))
        return self.head(x.mean((1, 2)))


class Tokens(nn.Module):
    """A vision transformer; ``read`` is its class token or the mean of its patches; ``first`` puts tokens first."""

    def __init__(self, read: str, first: bool = False) -> None:
        super().__init__()
        self.read, self.first = read, first
        self.patches, self.token = nn.Conv2d(3, 8, 8, 8), nn.Parameter(torch.randn(1, 1, 8))
        layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=not first, norm_first=True)
        self.layers, self.norm = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.LayerNorm(8)
        self.head = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1)
        x = self.norm(self.layers(x.transpose(0, 1)).transpose(0, 1) if self.first else self.layers(x))
        return self.head(x[:, 0] if self.read == "class token" else x[:, 1:].mean(1))


def sequential(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))


OWN = {
    "gates": (
        lambda: sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), SE(8), nn.Conv2d(8, 16, 3), nn.ReLU(), SE(16)),
        "5.mul",
    ),
    "shuffled": (lambda: sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), Shuffle(), nn.Conv2d(16, 16, 1), nn.ReLU()), "4"),
    "channels last": (ChannelsLast, "add"),
    "class token": (lambda: Tokens("class token"), "layers.layers.0.add_1"),
    "mean token": (lambda: Tokens("mean"), "slice"),
    "tokens first": (lambda: Tokens("mean", first=True), "slice"),
    "a convolution of the classes": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        "2",
    ),
}


@pytest.mark.parametrize("name", OWN)
def test_the_last_feature_map(name):
    torch.manual_seed(0)
    make, expected = OWN[name]
    assert last_feature_map(relmap.Propagator(make().eval()).graph) == expected


@pytest.mark.parametrize(
    ("name", "last", "channels", "before"),
    [
        ("convnext_tiny", "features.7.2.add", -3, "features.6.0"),
        ("efficientnet_b0", "features.8.2", -3, "features.6.0.block.0.2"),
        ("shufflenet_v2_x0_5", "conv5.2", -3, "stage3.7.cat"),
        ("mobilenet_v3_small", "features.12.2", -3, "features.9.block.0.2"),
        ("vit_b_32", "encoder.layers.encoder_layer_10.add_1", -1, "encoder.layers.encoder_layer_10.add_1"),
    ],
)
def test_networks_of_torchvision(name, last, channels, before):
    graph = trace(getattr(torchvision.models, name)(num_classes=10).eval())
    assert last_feature_map(graph) == last
    assert layout_of(graph, last).channels == channels
    assert stage_before(graph, last) == before


METHODS = ["grad_cam", "relevance_cam", "attribution_equilibrium", "rsp", "excitation_backprop"]


class AsMaps(nn.Module):
    """The same network with its blocks on (N, C, H, W)."""

    def __init__(self, other: ChannelsLast) -> None:
        super().__init__()
        self.stem, self.head = other.stem, other.head
        self.mlp = nn.Conv2d(8, 8, 1)
        self.mlp.weight.data.copy_(other.mlp.weight[:, :, None, None])
        self.mlp.bias.data.copy_(other.mlp.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + torch.relu(self.mlp(x))
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("method", METHODS)
def test_channels_last_or_first_makes_no_difference(method):
    torch.manual_seed(0)
    last = ChannelsLast().double().eval()
    last.norm = nn.Identity()  # which has no counterpart
    first, x = AsMaps(last).double().eval(), torch.randn(2, 3, 20, 24).double()
    a, b = (relmap.explain(model, x, [1, 2], method) for model in (first, last))
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9 * a.abs().max().item())


@pytest.mark.parametrize("first", [False, True], ids=["batch first", "tokens first"])
def test_tokens_go_back_to_the_grid(first):
    """Grad-CAM of tokens by autograd, at the last layer norm before an attention."""
    torch.manual_seed(0)
    model, x = Tokens("class token", first).double().eval(), torch.randn(2, 3, 24, 40).double()
    kept = []
    model.layers.layers[1].norm1.register_forward_hook(lambda module, inputs, output: kept.append(output))
    with torch.enable_grad():
        logits = model(x.requires_grad_())
        (gradient,) = torch.autograd.grad(logits[:, 1].sum(), kept[0])
    features, gradient = (v.detach().transpose(0, 1) if first else v.detach() for v in (kept[0], gradient))
    features, gradient = (v[:, 1:].transpose(1, 2).unflatten(2, (3, 5)) for v in (features, gradient))
    expected = (features * gradient.mean((2, 3), keepdim=True)).sum(1).relu()
    expected = nn.functional.interpolate(expected[:, None], (24, 40), mode="bilinear")[:, 0]
    torch.testing.assert_close(relmap.explain(model, x.detach(), 1, "grad_cam"), expected)


def test_layouts_go_to_maps_and_back():
    graph = relmap.Propagator(Tokens("class token").eval(), size=(3, 24, 40)).graph
    layout = layout_of(graph, "layers.layers.0.add_1", feature_maps(graph, (3, 24, 40)).shapes)
    assert layout.grid == (3, 5) and layout.channels == -1
    values = torch.randn(2, 8, 3, 5)
    assert torch.equal(layout.to_map(layout.from_map(values)), values)
    assert layout.from_map(values).shape == (2, 16, 8)
    assert not layout.from_map(values)[:, 0].any()


def test_a_network_without_a_feature_map_asks_for_a_layer():
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    with pytest.raises(InputError, match="layer"):
        relmap.explain(model, torch.randn(1, 3, 2, 2), 1, "grad_cam")


class TwoHeads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.a, self.b = nn.Conv2d(3, 8, 3), nn.Linear(8, 4), nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).relu().mean((2, 3))
        return (self.a(x) + self.b(x)) / 2


def test_two_class_layers_are_not_chosen_from():
    """A rule of the class layer is that of both; a method that begins at the one refuses."""
    torch.manual_seed(0)
    model, x = TwoHeads().double().eval(), torch.randn(2, 3, 8, 8).double()
    assert trace(model).class_layers == {"a", "b"}
    model.a.weight.data.copy_(model.b.weight), model.a.bias.data.copy_(model.b.bias)
    model.a.bias.data.sub_(10), model.b.bias.data.sub_(10)  # negative logits turn nothing and lose nothing
    one = nn.Sequential(model.conv, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), model.a).eval()
    for method in ("contrastive_excitation_backprop", "lrp_alpha1_beta0", "clrp"):
        a, b = (relmap.explain(each, x, 1, method) for each in (model, one))
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10 * b.abs().max().item())
    with pytest.raises(InputError, match="the logits come from a, b, not from one"):
        relmap.explain(model, x, 1, "agf")
