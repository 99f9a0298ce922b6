"""Images are followed to wherever a network puts them: no result depends on the batch."""

import functools

import pytest
import relmap
import torch
from relmap.errors import InputError
from relmap.network.image_axis import Place
from relmap.propagation import Propagator
from torch import Tensor, nn

METHODS = ["lrp_epsilon", "lrp_alpha1_beta0", "clrp", "abslrp", "abslrp_target", "abslrp_normalised", "rap"]


class TokensFirst(nn.Module):
    """(T, N, C): the default of torch's transformer layers."""

    def __init__(self, read: str) -> None:
        super().__init__()
        self.read = read
        self.patches, self.position = nn.Conv2d(3, 16, 4, 4), nn.Parameter(torch.randn(16, 1, 16))
        self.layer, self.head = nn.TransformerEncoderLayer(16, 4, 32), nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).permute(2, 0, 1) + self.position
        x = self.layer(x)
        return self.head(x[0] if self.read == "first" else x.mean(0))


class Windows(nn.Module):
    """Attention within windows: (N * windows, T, C)."""

    def __init__(self, major: bool) -> None:
        super().__init__()
        self.major = major
        self.stem, self.layer = nn.Conv2d(3, 8, 2, 2), nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
        self.bias, self.head = nn.Parameter(torch.randn(4, 1, 8)), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        n, c, h, w = x.shape
        x = x.view(n, c, 2, h // 2, 2, w // 2)
        order = (0, 2, 4, 3, 5, 1) if self.major else (2, 4, 0, 3, 5, 1)
        x = x.permute(order).reshape(4 * n, h * w // 4, c)
        x = self.layer(x)
        x = x.view(n, 4, -1, c) if self.major else x.view(4, n, -1, c).transpose(0, 1)
        return self.head((x + self.bias).mean((1, 2)))


class NormedRows(nn.Module):
    """A batch norm of (N * T, C), as LeViT's."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.norm = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8), nn.BatchNorm1d(8)
        self.head = nn.Linear(8, 5)
        for value in (self.norm.running_mean, self.norm.weight.data, self.norm.bias.data):
            value.normal_()

    def forward(self, x: Tensor) -> Tensor:
        x = self.inner(self.stem(x).flatten(2).transpose(1, 2))
        return self.head(torch.relu(self.norm(x.flatten(0, 1)).reshape_as(x)).mean(1))


class Rows(nn.Module):
    """Linear layers on (N * T, C)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.inner, self.head = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 8), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x).flatten(2).transpose(1, 2)
        y = torch.relu(self.inner(x.reshape(-1, 8)))
        return self.head(y.view(*x.shape).mean(1))


NETWORKS = {
    "first token": lambda: TokensFirst("first"),
    "mean token": lambda: TokensFirst("mean"),
    "windows, image by image": lambda: Windows(True),
    "windows, window by window": lambda: Windows(False),
    "rows": Rows,
    "normed rows": NormedRows,
}


@functools.cache
def traced(name: str) -> tuple[Propagator, Tensor]:
    """A network, traced once for all methods, and images."""
    torch.manual_seed(0)
    return Propagator(NETWORKS[name]().double().eval()), torch.randn(3, 3, 16, 16).double()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", NETWORKS)
def test_images_by_themselves(name, method):
    model, x = traced(name)
    together = relmap.explain(model, x, [[0, 1], [1, 2], [4, 0]], method)
    alone = torch.cat(
        [relmap.explain(model, x[i : i + 1], [t], method) for i, t in enumerate([[0, 1], [1, 2], [4, 0]])]
    )
    torch.testing.assert_close(together, alone, rtol=1e-9, atol=1e-9 * alone.abs().max().item())


@pytest.mark.parametrize("name", ["first token", "mean token"])
@pytest.mark.parametrize("method", ["attribution_equilibrium", "grad_cam", "relevance_cam"])
def test_images_by_themselves_from_a_feature_map(name, method):
    test_images_by_themselves(name, method)


@pytest.mark.parametrize("name", NETWORKS)
def test_the_gradient_is_autograds(name):
    torch.manual_seed(0)
    model, x = NETWORKS[name]().double().eval(), torch.randn(3, 3, 16, 16).double().requires_grad_()
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(model(x)[:, 1].sum(), x)
    expected = (gradient * x).sum(1).detach()
    torch.testing.assert_close(relmap.explain(model, x.detach(), 1, "input_x_gradient"), expected)


def test_tokens_first_are_what_batch_first_is():
    torch.manual_seed(0)
    first = TokensFirst("mean").double().eval()

    class BatchFirst(TokensFirst):
        def forward(self, x: Tensor) -> Tensor:
            x = self.patches(x).flatten(2).transpose(1, 2) + self.position[:, 0]
            return self.head(self.layer(x).mean(1))

    last = BatchFirst("mean").double().eval()
    last.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True).double().eval()
    last.load_state_dict(first.state_dict())
    x = torch.randn(2, 3, 16, 16).double()
    for method in METHODS:
        a, b = (relmap.explain(model, x, 1, method) for model in (first, last))
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-10 * b.abs().max().item(), msg=method)


class Mixing(nn.Module):
    def __init__(self, mix) -> None:
        super().__init__()
        self.conv, self.head, self.mix = nn.Conv2d(3, 8, 4, 4), nn.Linear(8, 5), mix

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.mix(self.conv(x).mean((2, 3))))


@pytest.mark.parametrize(
    ("mix", "culprit"),
    [
        (lambda x: x + x.mean(0, keepdim=True), "'mean_1' (average_pool)"),
        (lambda x: torch.softmax(x, 0), "'softmax' (softmax)"),
        (lambda x: (x @ x.transpose(0, 1)) @ x, "'matmul' (matmul)"),
    ],
)
def test_what_mixes_images_is_refused_by_name(mix, culprit):
    with pytest.raises(InputError) as error:
        relmap.explain(Mixing(mix).eval(), torch.randn(3, 3, 8, 8), 1, "lrp_epsilon")
    assert culprit in str(error.value) and "mixes the images of a batch" in str(error.value)


@pytest.mark.parametrize("place", [Place(), Place(1), Place(0, 1, 4), Place(0, 4, 1), Place(2, 3, 1)])
def test_places_are_inverted(place):
    first = torch.randn(5, *[n for n in (place.before, place.after) if n > 1], 2, 6)
    original = place.original(first if place.axis < 2 else first.movedim(1, -1))
    back = place.first(original)
    assert torch.equal(place.original(back), original) and back.shape[0] == 5
    assert place.shape(back.shape) == original.shape
