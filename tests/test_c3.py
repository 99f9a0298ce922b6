"""C3-LRP's propagation and its successor's against vectors, against slow oracles, and what they amount to.

Vectors: Eq. 1 and 2 written out in float64 ("literal"), and keio-smilab24/LRP-for-ResNet@cadd126. Arrays are (8 images,
2 targets, 64, 64), summed over channels.
"""

from functools import cache

import pytest
import relmap
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import c3 as oracle
from reference_nets import inputs, network, vectors
from relmap.errors import InputError
from relmap.explainers.c3 import C3LRP, ReleasedC3LRP, c3, released
from relmap.network import trace
from relmap.propagation import Propagator, starts
from relmap.propagation.rules import Record
from relmap.propagation.rules.blocks import residual_blocks
from relmap.propagation.rules.released import AverageShare, ReleasedPlus, SkipShare
from relmap.torchvision_shim import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
MODES = ("flows_skip", "simple", "flows_skip_simple", "latest")
VARIANTS = {
    "eps1e-5": {"signed": False},
    "eps1e-9": {"signed": False, "epsilon": 1e-9},
    "eps1e-5_signed": {},
    "eps1e-5_relu_eq1": {"signed": False, "relu": "equation_1"},
    "eps1e-5_bnid": {"signed": False, "batch_norm": "pass"},
}


@cache
def propagator(architecture: str, dtype: torch.dtype = torch.float64) -> Propagator:
    return Propagator(network(architecture, dtype))


def explain(explainer, images: Tensor, targets: Tensor, model: Propagator) -> Tensor:
    return explainer.read(model.forward(images, explainer.walks, explainer.keep), targets)


def error(ours: Tensor, theirs) -> float:
    """Largest relative L2 error over the maps, ours (2, 8, ...) and theirs (8, 2, ...)."""
    ours, theirs = ours.double().transpose(0, 1).flatten(2), torch.as_tensor(theirs).double().flatten(2)
    return ((ours - theirs).norm(dim=2) / theirs.norm(dim=2)).max().item()


@DTYPES
@pytest.mark.parametrize("variant", VARIANTS)
def test_literal_vectors(variant, dtype):
    model, (images, targets) = propagator("resnet50", dtype), inputs(dtype)
    theirs = vectors(f"lrp/c3lrp_literal_resnet50s_{variant}.npz")
    ours = explain(C3LRP(model, start="one_hot", **VARIANTS[variant]), images, targets, model)
    assert error(ours.sum(2), theirs["map_sum"]) < (1e-6 if dtype == torch.float64 else 1e-4)


def places(layers) -> dict[str, str]:
    """Operation at whose output a layer's input lies, by the names of the vectors."""
    graph = propagator("resnet50").graph
    names = ["input", "conv1", "bn1", "relu", "maxpool"]
    names += [graph.activation_of(block.removesuffix("_input")) for block in reversed(layers) if "layer" in block]
    return dict(zip(reversed(layers), [*names, "flatten"], strict=True))


@pytest.mark.parametrize("variant", VARIANTS)
def test_literal_vectors_at_every_layer(variant):
    model, (images, targets) = propagator("resnet50"), inputs()
    theirs = vectors(f"lrp/c3lrp_literal_resnet50s_{variant}.npz")
    at = places(theirs["layer_names"].tolist())
    walk = C3LRP(model, **VARIANTS[variant]).walk
    activations = walk.forward(images)
    start = starts.stacked(starts.one_hot, activations.logits, targets)
    captured = walk.propagate(activations, start, capture=at.values()).captured
    sums = torch.stack([captured[at[name]].flatten(2).sum(2) for name in theirs["layer_names"]], 2)
    torch.testing.assert_close(
        sums.transpose(0, 1), torch.as_tensor(theirs["layer_sums"]).double(), rtol=1e-6, atol=1e-6
    )
    for name in [name for name in theirs if name.startswith("stage_")]:
        stage = name.removeprefix("stage_")
        stage = stage if stage in at else "layer{}.{}_input".format(*stage.removeprefix("layer").split("_"))
        expected = torch.as_tensor(theirs[name]).double().flatten(1)
        ours = captured[at[stage]][:, 0].flatten(1)
        assert ((ours - expected).norm(dim=1) / expected.norm(dim=1)).max() < 1e-6, name


@DTYPES
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("architecture", ["resnet50", "vgg16"])
def test_released_vectors(architecture, mode, dtype):
    model, (images, targets) = propagator(architecture, dtype), inputs(dtype)
    ours = explain(ReleasedC3LRP(model, mode=mode), images, targets, model)
    theirs = vectors(f"lrp/keio_{architecture}s.npz")[mode if architecture == "resnet50" else "latest"]
    assert error(ours.sum(2), theirs) < (1e-6 if dtype == torch.float64 else 1e-4)


def test_by_name():
    images, targets = inputs()
    maps = relmap.explain(propagator("resnet50"), images, targets.T, method="c3_lrp_literal", start="one_hot")
    assert error(maps.transpose(0, 1), vectors("lrp/c3lrp_literal_resnet50s_eps1e-5.npz")["map_sum"]) < 1e-6
    maps = relmap.explain(propagator("resnet50"), images, targets.T, method="c3_lrp_released", mode="latest")
    assert error(maps.transpose(0, 1), vectors("lrp/keio_resnet50s.npz")["latest"]) < 1e-6


def test_the_start_is_the_targets_logit_without_its_bias_by_default():
    """So that the map is gradient times input to its sign, also where the bias alone gives the logit its sign."""
    model, (images, targets) = propagator("resnet50"), inputs()
    activations = model.forward(images, C3LRP(model).walks)
    one, default = (C3LRP(model, start=start).read(activations, targets) for start in ("one_hot", None))
    scale = (activations.logits - network("resnet50").fc.bias)[torch.arange(8), targets]
    torch.testing.assert_close(one * scale[..., None, None, None], default)


@pytest.mark.parametrize("architecture", ["resnet50", "vgg16"])
def test_printed_formulas_are_gradient_times_input(architecture):
    """As epsilon goes to 0, divisions cancel multiplications: input * gradient of the logit / (logit - bias)."""
    model, (images, targets) = network(architecture), inputs()
    last = model.fc if architecture == "resnet50" else model.classifier[6]
    x = images.clone().requires_grad_()
    expected = []
    for classes in targets:
        logits = model(x).gather(1, classes[:, None])[:, 0]
        (gradient,) = torch.autograd.grad(logits.sum(), x)
        expected.append(images * gradient / (logits - last.bias[classes]).detach()[:, None, None, None])
    errors = []
    for epsilon in (1e-5, 1e-9, 1e-12):
        explainer = C3LRP(propagator(architecture), epsilon=epsilon, start="one_hot")
        ours = explain(explainer, images, targets, propagator(architecture))
        errors.append(error(ours, torch.stack(expected, 1)))
    if architecture == "vgg16":
        # A chain's linear layers leave their bias out of the denominator, so only the last one's scale is known.
        assert errors[2] > 1e-3
    else:
        assert errors[0] < 2e-2
        assert errors[1] < 1e-5
        assert errors[2] < 1e-8


def test_passing_the_batch_norm_breaks_the_identity():
    model, (images, targets) = propagator("resnet50"), inputs()
    tiny = {"epsilon": 1e-12, "start": "one_hot"}
    whole, passed = (
        explain(C3LRP(model, **tiny, batch_norm=choice), images, targets, model) for choice in ("equation_1", "pass")
    )
    assert error(whole, passed.transpose(0, 1)) > 0.1


def tiny_resnet(block, layers, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    model = torchvision.models.resnet.ResNet(block, layers, num_classes=5).double().eval()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
            nn.init.normal_(module.weight, 1, 0.2)
            nn.init.normal_(module.bias, 0, 0.2)
    return model.requires_grad_(False)


def some_images(count: int = 2, size: int = 64) -> tuple[Tensor, Tensor]:
    images = torch.randn(count, 3, size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return images, torch.arange(count)[None] % 5


@pytest.mark.parametrize("size", [64, 81])
def test_basic_blocks_against_the_oracle(size):
    model = tiny_resnet(torchvision.models.resnet.BasicBlock, [2, 1, 1, 1])
    images, targets = some_images(size=size)
    ours = explain(C3LRP(Propagator(model), start="one_hot"), images, targets, Propagator(model))[0]
    found = oracle.c3_lrp(model, images, F.one_hot(targets[0], 5).double(), 1e-5, signed=True)
    torch.testing.assert_close(ours, found["conv1"], rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("mode", MODES)
def test_released_against_the_oracle_on_random_bottlenecks(mode):
    model = tiny_resnet(torchvision.models.resnet.Bottleneck, [1, 2, 1, 1], seed=3)
    images, targets = some_images()
    traced = Propagator(model)
    ours = explain(ReleasedC3LRP(traced, mode=mode, start="one_hot"), images, targets, traced)[0]
    found = oracle.released_resnet(model, images, F.one_hot(targets[0], 5).double(), mode)
    torch.testing.assert_close(ours, found, rtol=1e-7, atol=1e-10)


def test_vgg_against_the_oracle():
    model, (images, targets) = network("vgg16"), inputs()
    traced = propagator("vgg16")
    ours = explain(C3LRP(traced, start="one_hot"), images[:2], targets[:1, :2], traced)[0]
    layers = [*model.features, model.avgpool, nn.Flatten(1), *model.classifier]
    found = oracle.c3_chain(layers, images[:2], F.one_hot(targets[0, :2], 10).double(), 1e-5)
    torch.testing.assert_close(ours, found, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(("name", "count", "ends"), [("resnet18", 8, "relu_1"), ("resnet101", 33, "relu_2")])
def test_blocks_of_torchvisions_resnets(name, count, ends):
    with torch.device("meta"):
        graph = trace(getattr(torchvision.models, name)(num_classes=3))
    blocks = residual_blocks(graph)
    assert len(blocks) == count
    assert [block.sink for block in blocks[:2]] == [f"layer1.{i}.{ends}" for i in (0, 1)]
    assert [block.source for block in blocks[:2]] == ["maxpool", f"layer1.0.{ends}"]
    for block in blocks:
        prefix = block.sink.rpartition(".")[0] + "."
        assert block.members == {operation.name for operation in graph if operation.name.startswith(prefix)}


def test_networks_without_additions_have_no_blocks():
    assert residual_blocks(propagator("vgg16").graph) == ()


class Nested(nn.Module):
    """A block inside a block, none of them a module, the outer one without a ReLU after it."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(5)
        self.stem, self.a, self.b, self.c = nn.Conv2d(3, 4, 3), *(nn.Conv2d(4, 4, 3, padding=1) for _ in range(3))
        self.head = nn.Linear(4, 5)
        self.double().eval().requires_grad_(False)

    def block(self, z):
        inner = F.relu(z + self.b(F.relu(self.a(z))))
        return z + self.c(inner)

    def forward(self, x):
        z = self.block(F.relu(self.stem(x)))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(z, 1), 1))


def test_nested_additions_are_one_block():
    model = Nested()
    traced = Propagator(model)
    assert [(block.source, block.sink) for block in residual_blocks(traced.graph)] == [("relu", "add_1")]
    images, targets = some_images(size=9)
    walk = C3LRP(traced, start="one_hot").walk
    activations = walk.forward(images, keep=["relu", "add_1"])
    start = starts.stacked(starts.one_hot, activations.logits, targets)
    captured = walk.propagate(activations, start, capture=["relu", "add_1"]).captured
    z = activations.outputs["relu"].clone().requires_grad_()
    out = model.block(z)
    (gradient,) = torch.autograd.grad(out, z, captured["add_1"][0] / (out + torch.where(out < 0, -1e-5, 1e-5)).detach())
    torch.testing.assert_close(captured["relu"][0], z.detach() * gradient)


class Residual(nn.Module):
    """A small residual network; images are (N, 3, 12, 12), logits (N, 4)."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.norm = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.main, self.skip = nn.Conv2d(4, 6, 3, 2, 1), nn.Conv2d(4, 6, 1, 2)
        self.inner, self.head = nn.Conv2d(6, 6, 3, padding=1, groups=2), nn.Linear(6, 4)
        self.norm.running_mean.normal_(0, 0.3)
        self.norm.running_var.uniform_(0.5, 2)
        self.double().eval()

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.stem(x))), 2)
        x = F.relu(self.main(x) + self.skip(x))
        x = F.relu(self.inner(x) + x)
        return self.head(x.mean((2, 3)))


COMPOSITES = {"c3": c3(), "literal": c3(signed=False), **{mode: released(mode) for mode in MODES}}


@pytest.mark.parametrize("composite", COMPOSITES.values(), ids=COMPOSITES)
@given(seed=st.integers(0, 1000), a=st.floats(-3, 3), b=st.floats(-3, 3))
@settings(max_examples=5, deadline=None, derandomize=True)
def test_laws(composite, seed, a, b):
    """Linear in the start; each start and each image by itself."""
    walk = Propagator(Residual(seed)).by(composite)
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(3, 3, 12, 12, dtype=torch.float64, generator=generator)
    start = torch.randn(2, 3, 4, dtype=torch.float64, generator=generator)
    activations = walk.forward(images)

    def relevance(start, activations=activations):
        return walk.propagate(activations, start).relevance

    together = relevance(start)
    close = {"rtol": 1e-7, "atol": 1e-9 * together.abs().max().item()}
    apart = [relevance(one[None])[0] for one in start]
    torch.testing.assert_close(together, torch.stack(apart), **close)
    mixed = relevance((a * start[0] + b * start[1])[None])[0]
    torch.testing.assert_close(mixed, a * apart[0] + b * apart[1], rtol=1e-7, atol=20 * close["atol"])
    alone = [relevance(start[:, i : i + 1], walk.forward(images[i : i + 1])) for i in range(3)]
    torch.testing.assert_close(together, torch.cat(alone, 1), **close)


def flops(run) -> int:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


@pytest.mark.parametrize("architecture", ["resnet50", "vgg16"])
def test_costs_one_forward_and_one_more_for_each_target(architecture):
    model, (images, targets) = propagator(architecture), inputs()
    explainer = C3LRP(model)
    forward = flops(lambda: model.forward(images))
    for count in (1, 2):
        whole = flops(lambda count=count: explain(explainer, images, targets[:count], model))
        assert whole <= (1 + count) * forward * 1.001


LAYERS = {
    "stride": nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "groups": nn.Conv2d(4, 6, 3, groups=2, bias=False),
    "dilation": nn.Conv2d(4, 5, 3, dilation=2, padding=2),
    "1x1": nn.Conv2d(4, 3, 1),
    "linear": nn.Linear(7, 5),
}


@pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS)
@pytest.mark.parametrize("values", ["own", "signs", "ones"])
@pytest.mark.parametrize("biases", [0.0, 1.0, 2.0])
def test_released_plus_is_its_dense_definition(layer, values, biases):
    torch.manual_seed(7)
    layer = layer.double().requires_grad_(False)
    x = torch.randn(1, 7) if isinstance(layer, nn.Linear) else torch.randn(1, 4, 7, 7)
    x = x.double()
    graph = trace(nn.Sequential(layer))
    operation = graph["0"]
    flat = x.flatten()
    dense = torch.autograd.functional.jacobian(
        lambda v: operation.affine.apply(v.view_as(x), layer.weight).flatten(), flat
    )
    bias = torch.zeros_like(layer(x)) if layer.bias is None else layer(x) - operation.affine.apply(x, layer.weight)
    relevance = torch.randn(2, *layer(x).shape, dtype=torch.float64)
    value = torch.ones_like(flat) if values == "ones" else flat
    products = dense.clamp(min=0) * value
    if values == "signs":
        products = (dense * value).clamp(min=0)
    z = products.sum(1) + biases * bias.flatten() + 1e-3
    expected = (relevance.flatten(1) / z) @ products
    (ours,) = ReleasedPlus(biases, 1e-3, values)(Record(operation, (x,), None, (x.shape,)), relevance)
    torch.testing.assert_close(ours.flatten(1), expected)


@pytest.mark.parametrize(("size", "pool"), [(8, nn.MaxPool2d(2)), (9, nn.MaxPool2d(3, 2, 1)), (9, nn.AvgPool2d(3, 2))])
def test_average_share_is_its_definition(size, pool):
    """Every output takes its share from the entries that it averages."""
    torch.manual_seed(8)
    x = torch.rand(1, 2, size, size, dtype=torch.float64)
    operation = trace(nn.Sequential(pool, nn.Conv2d(2, 2, 1)))["0"]
    relevance = torch.randn(1, *pool(x).shape, dtype=torch.float64)
    expected = torch.zeros_like(x)
    kernel = 3 if isinstance(pool, nn.AvgPool2d) else 2
    for row in range(relevance.shape[-2]):
        for column in range(relevance.shape[-1]):
            window = (..., slice(2 * row, 2 * row + kernel), slice(2 * column, 2 * column + kernel))
            mean = x[window].mean((2, 3))
            share = relevance[0, :, :, row, column] / (mean + 1e-3) / x[window][0, 0].numel()
            expected[window] += x[window] * share[..., None, None]
    (ours,) = AverageShare(1e-3)(Record(operation, (x,), None, (x.shape,)), relevance)
    torch.testing.assert_close(ours[0], expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("projects", [False, True])
def test_skip_shares(mode, projects):
    graph = propagator("resnet50").graph
    operation = graph["layer1.0.add" if projects else "layer1.1.add"]
    rule = SkipShare(mode).at(graph, operation)
    assert (rule.main, rule.projects) == (0, projects)
    f, s, relevance = torch.tensor([[3.0, 0.0]]), torch.tensor([[-1.0, 2.0]]), torch.tensor([[[8.0, 4.0]]])
    to_main, to_skip = rule(Record(operation, (f, s), None, (f.shape, s.shape)), relevance)
    by_size = torch.tensor([[[6.0, 0.0]]])
    expected = {
        "flows_skip": by_size,
        "simple": relevance / 2 if projects else relevance,
        "flows_skip_simple": relevance / 2,
        "latest": by_size if projects else relevance,
    }[mode]
    torch.testing.assert_close(to_main, expected)
    torch.testing.assert_close(to_main + to_skip, relevance)


class SkipFirst(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = (nn.Conv2d(3, 3, 1) for _ in range(3))
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        x = F.relu(self.a(x))
        return self.head((x + self.c(self.b(x))).mean((2, 3)))


def test_the_main_branch_is_the_one_with_more_layers():
    graph = trace(SkipFirst())
    addition = next(operation for operation in graph if operation.kind == "add")
    rule = SkipShare("simple").at(graph, addition)
    assert (rule.main, rule.projects) == (1, False)
    shape, relevance = torch.Size((1, 3, 2, 2)), torch.ones(1, 1, 3, 2, 2)
    to_skip, to_main = rule(Record(addition, (None, None), None, (shape, shape)), relevance)
    assert (to_skip == 0).all()
    assert (to_main == 1).all()


def test_unknown_choices_are_named():
    model = propagator("vgg16")
    with pytest.raises(InputError, match="mode 'half'"):
        ReleasedC3LRP(model, mode="half")
    with pytest.raises(InputError, match="start 'top'"):
        C3LRP(model, start="top")
    with pytest.raises(InputError, match="relu 'no'"):
        C3LRP(model, relu="no")
    pooled = Propagator(nn.Sequential(nn.MaxPool2d(4), nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(8, 2)).double())
    explainer = ReleasedC3LRP(pooled)
    with pytest.raises(InputError, match="averages of 2 x 2"):
        explain(explainer, torch.rand(1, 3, 8, 8, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.long), pooled)
