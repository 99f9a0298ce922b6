"""Attribution Equilibrium against its authors' code (wjNam/Attribution-Equilibrium@b4eadf3), the paper's Algorithm 1
written out (``oracles.equilibrium``), and the laws of its sums.
"""

import math
from functools import cache, partial

import pytest
import relmap.torchvision_shim  # noqa: F401  before torchvision
import torch
import torch.nn.functional as F
import torchvision
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import nam
from oracles.equilibrium import Algorithm1, attribution_equilibrium
from oracles.modules import Tape, one_hot
from reference_nets import inputs, network, vectors
from relmap.errors import InputError
from relmap.explainers.equilibrium import AttributionEquilibrium
from relmap.network import trace
from relmap.network.graph import Operation
from relmap.propagation import Activations, Propagator
from relmap.propagation.rules.base import Record
from relmap.propagation.rules.equilibrium import (
    TOTAL,
    Equilibrium,
    FlooredShare,
    MainBranch,
    Terms,
    balanced,
    branch_point,
)
from torch import Tensor, nn

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
FILES = {
    "vgg16s_ae_g1": ("vgg16", 1.0),
    "vgg16s_ae_g1p5": ("vgg16", 1.5),
    "vgg16s_ae_g2": ("vgg16", 2.0),
    "resnet50s_ae_g1": ("resnet50", 1.0),
    "resnet50s_ae_g2": ("resnet50", 2.0),
}
VARIANTS = {
    "paper_literal": lambda gamma: {"total": "printed"},
    "paper_literal_shift_all": lambda gamma: {"total": "printed", "terms": Terms(shift="all")},
    "tau_shift_all": lambda gamma: {"terms": Terms(shift="all")},
    "tau_gammaA": lambda gamma: {"terms": Terms(activated=gamma)},
    "tau_noshift": lambda gamma: {"terms": Terms(shift="none")},
    "tau_mod_final": lambda gamma: {"balanced_input": True},
}


@cache
def explainer(architecture: str, gamma: float, residual: str = "absolute") -> AttributionEquilibrium:
    return AttributionEquilibrium(Propagator(network(architecture)), gamma=gamma, residual=residual)


def forward(explain: AttributionEquilibrium, images: Tensor) -> Activations:
    return explain.walk.propagator.forward(images, explain.walks, explain.keep)


@DTYPES
@pytest.mark.parametrize("name", FILES)
def test_maps_of_the_authors(name, dtype):
    architecture, gamma = FILES[name]
    make = partial(AttributionEquilibrium, gamma=gamma, residual="authors")
    maps = nam.explained(architecture, make, dtype, 8 if dtype == torch.float64 else 3)
    assert max(nam.map_errors(maps, vectors(f"nam/{name}.npz"))) < (1e-6 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("name", FILES)
def test_every_layer_of_the_authors(name):
    theirs = vectors(f"nam/{name}.npz")
    explain = explainer(*FILES[name], "authors")
    images, targets = inputs()
    activations = forward(explain, images)
    start = explain.start(activations, targets)
    for i, target in enumerate(nam.TARGETS):
        assert nam.error(start[i, :1], theirs[f"init_{target}_0"]) < 1e-6
    blocks = nam.blocks(explain.walk.graph, theirs["sum_names"])
    found = nam.observed(partial(explain.propagate, activations, targets), blocks)
    # What their code sends down a shortcut is never used; here nothing goes there.
    sums = nam.sum_errors(found, theirs, skip=("downsample",))
    assert len(sums) >= len(theirs["sum_names"]) - 8 and max(sums.values()) < 1e-9, sums
    captured = nam.captured_errors(found, theirs)
    assert len(captured) >= 3 and max(captured.values()) < 1e-6, captured


@pytest.mark.parametrize("gamma", [1, 2])
@pytest.mark.parametrize("name", VARIANTS)
def test_readings_of_the_paper(name, gamma):
    theirs = vectors("nam/vgg16s_ae_paper_variants.npz")
    options = VARIANTS[name](gamma)
    images, targets = inputs()
    explain = AttributionEquilibrium(Propagator(network("vgg16")), gamma=gamma, **options)
    ours = explain.read(forward(explain, images[:2]), targets[:1, :2])[0].sum(1)
    assert nam.error(ours, theirs[f"{name}_g{gamma}"]) < 1e-6
    if options.get("total") == "printed":
        start = explain.start(forward(explain, images), targets[:1])[0].flatten(1)
        contributions = torch.as_tensor(theirs["sum_abs_G"])
        torch.testing.assert_close(start.abs().sum(1), contributions, rtol=1e-6, atol=0)


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
@pytest.mark.parametrize("gamma", [1.0, 1.5, 2.0])
def test_algorithm_1_written_out(architecture, gamma):
    images, targets = inputs()
    explain = explainer(architecture, gamma)
    ours = explain.read(forward(explain, images[:2]), targets[:1, :2])[0]
    assert nam.error(ours, attribution_equilibrium(network(architecture), images[:2], targets[0, :2], gamma)) < 1e-10


@pytest.mark.parametrize("gamma", [1.0, 1.3, 2.0])
def test_sum_law_at_every_convolution(gamma):
    """(gamma - 2) tau at the input of convolutions with receptive fields that hold inactive inputs (VGG: all)."""
    images, targets = inputs()
    explain = explainer("vgg16", gamma)
    found = nam.observed(partial(explain.propagate, forward(explain, images[:3]), targets[:, :3]), {})
    for name, part in found.items():
        if name.startswith("features.") and name != "features.29":
            torch.testing.assert_close(
                part.flatten(2).sum(2), torch.full((2, 3), gamma - 2, dtype=torch.float64), rtol=0, atol=1e-9, msg=name
            )


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
@pytest.mark.parametrize("residual", ["absolute", "authors"])
def test_batches_and_targets_are_independent(architecture, residual):
    images, targets = inputs()
    explain = explainer(architecture, 2.0, residual)
    together = explain.read(forward(explain, images[:3]), targets[:, :3])
    alone = explain.read(forward(explain, images[1:2]), targets[1:, 1:2])
    assert nam.error(together[1, 1:2], alone[0]) < 1e-10


LAYERS = {
    "plain": nn.Conv2d(4, 6, 3, padding=1),
    "stride": nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "no padding": nn.Conv2d(4, 6, 3),
    "groups": nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "depthwise": nn.Conv2d(4, 4, 3, padding=1, groups=4),
    "dilation": nn.Conv2d(4, 6, 3, padding=2, dilation=2),
    "rectangular": nn.Conv2d(4, 6, (1, 7), padding=(0, 3)),
    "pointwise": nn.Conv2d(4, 6, 1),
    "linear": nn.Linear(12, 5),
}


def record_of(layer: nn.Module, x: Tensor, **context) -> Record:
    layer = layer.double().requires_grad_(False)
    operation = list(trace(nn.Sequential(layer)))[-1]
    return Record(operation, (x,), None, (x.shape,), context)


def batch(layer: nn.Module, seed: int, share: float = 0.5) -> tuple[Tensor, Tensor]:
    """Inputs (2, ...), about ``share`` of them active, and relevance (3, 2, ...)."""
    generator = torch.Generator().manual_seed(seed)
    size = (2, 12) if isinstance(layer, nn.Linear) else (2, 4, 9, 8)
    x = torch.rand(size, dtype=torch.float64, generator=generator)
    x = x * (torch.rand(size, dtype=torch.float64, generator=generator) < share)
    y = layer.double()(x)
    return x, torch.randn(3, *y.shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("share", [0.0, 0.5, 1.0], ids=["none", "half", "all"])
@pytest.mark.parametrize("gamma", [1.0, 2.0])
def test_rule_is_the_algorithm_on_all_kinds_of_layers(name, share, gamma):
    layer = LAYERS[name]
    x, r = batch(layer, 0, share)
    (ours,) = Equilibrium(gamma, signed_input=False)(record_of(layer, x), r)
    expected = torch.stack([Algorithm1(gamma).affine(layer, x, None, part) for part in r])
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(Equilibrium(gamma, signed_input=True)(record_of(layer, x), r)[0], ours)


@settings(max_examples=40, deadline=None)
@given(st.floats(1, 2), st.integers(0, 1000), st.sampled_from(sorted(set(LAYERS) - {"pointwise"})))
def test_sum_law_of_the_rule(gamma, seed, name):
    layer = LAYERS[name]
    x, r = batch(layer, seed)
    active, inactive = (_all_see(layer, m) for m in ((x > 0).double(), (x <= 0).double()))
    (ours,) = Equilibrium(gamma)(record_of(layer, x), r)
    both_signs = (r > 0).flatten(2).any(2).all() and (r < 0).flatten(2).any(2).all()
    if active and inactive and both_signs:
        torch.testing.assert_close(ours.flatten(2).sum(2), torch.full(r.shape[:2], gamma - 2, dtype=torch.float64))


def _all_see(layer: nn.Module, mask: Tensor) -> bool:
    weight = torch.ones_like(layer.weight)
    if isinstance(layer, nn.Linear):
        return bool((F.linear(mask, weight) > 0).all())
    return bool((F.conv2d(mask, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups) > 0).all())


def test_terms_add_up():
    layer = LAYERS["plain"]
    x, r = batch(layer, 1)

    def of(**terms):
        return Equilibrium(
            2.0, Terms(**{"contribution": 0, "activated": 0, "inactivated": 0, "shift": "none"} | terms)
        )(record_of(layer, x), r)[0]

    parts = [of(contribution=1), of(activated=1), of(inactivated=1), of(shift="activated")]
    assert [round(p.sum((2, 3, 4))[0, 0].item(), 6) for p in parts] == [1, 1, -1, -1]
    torch.testing.assert_close(sum(parts), Equilibrium(2.0)(record_of(layer, x), r)[0])
    torch.testing.assert_close(of(activated=2.0), 2 * parts[1])
    assert ((parts[1] != 0) <= (x > 0)).all() and ((parts[2] != 0) <= (x <= 0)).all()


def test_a_relevance_of_one_sign_has_only_that_part():
    layer = LAYERS["plain"]
    x, r = batch(layer, 2)
    for sign, total in ((1, 1 + 1 - 1), (-1, -1 - 1 - 1)):
        (ours,) = Equilibrium(1.0)(record_of(layer, x), sign * r.abs())
        assert ours.isfinite().all()
        torch.testing.assert_close(ours.flatten(2).sum(2), torch.full((3, 2), total).double())
    (nothing,) = Equilibrium(1.0, Terms(shift="none"))(record_of(layer, x), 0 * r)
    assert (nothing == 0).all()


def test_where_no_input_is_inactive_nothing_is_divided_by_rounding():
    """float32: |W| 1 - |W| alpha is then no exact 0."""
    layer = nn.Conv2d(64, 32, 3, padding=1)
    x = torch.rand(2, 64, 9, 9).add_(0.1)
    x[:, :, :4] *= torch.rand(2, 64, 4, 9) < 0.5
    r = torch.randn(2, 2, 32, 9, 9)
    (expected,) = Equilibrium(1.0)(record_of(layer, x.double()), r.double())
    operation = list(trace(nn.Sequential(layer.float().requires_grad_(False))))[-1]
    (ours,) = Equilibrium(1.0, signed_input=False)(Record(operation, (x,), None, (x.shape,)), r)
    assert nam.error(ours.flatten(0, 1), expected.flatten(0, 1)) < 1e-5


def test_balanced_scales_each_sign_to_the_total():
    r = torch.randn(2, 3, 4, 5, 5, dtype=torch.float64)
    total = torch.rand(2, 3, dtype=torch.float64) + 1
    positive, negative = balanced(r, total)
    torch.testing.assert_close(positive.flatten(2).sum(2), total)
    torch.testing.assert_close(negative.flatten(2).sum(2), -total)
    assert ((positive > 0) == (r > 0)).all() and ((negative < 0) == (r < 0)).all()
    layer = LAYERS["plain"]
    x, r = batch(layer, 3)
    (ours,) = Equilibrium(2.0)(record_of(layer, x, **{TOTAL: torch.full(r.shape[:2], 3.0).double()}), r)
    torch.testing.assert_close(ours.flatten(2).sum(2), torch.full(r.shape[:2], (2 - 1 + 1 - 1) * 3.0 - 1).double())


def test_floored_share_conserves_where_all_inputs_are_zero():
    x = torch.zeros(1, 2, 4, 4, dtype=torch.float64)
    operation = Operation("pool", "average_pool", ("x",), lambda v: F.avg_pool2d(v, 2))
    r = torch.randn(1, 1, 2, 2, 2, dtype=torch.float64)
    (ours,) = FlooredShare()(Record(operation, (x,), None, (x.shape,)), r)
    torch.testing.assert_close(ours, r.repeat_interleave(2, -1).repeat_interleave(2, -2) / 4)


def test_main_branch_and_where_branches_part():
    graph = trace(network("resnet50"))
    for name, point in (("layer1.0.add", "maxpool"), ("layer2.1.add", "layer2.0.relu_2")):
        assert branch_point(graph, graph[name]) == point
        assert graph[name].inputs[MainBranch().at(graph, graph[name]).main].endswith("bn3")


class Dense(nn.Module):
    """Batch norm before ReLU, concatenation, average pool: what DenseNet and Inception have."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3, padding=1), nn.Conv2d(6, 4, 3, padding=1)
        self.norm, self.pool, self.conv3 = nn.BatchNorm2d(10), nn.AvgPool2d(3, 1, 1), nn.Conv2d(10, 8, (3, 1))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(self.conv1(x))
        x = torch.cat([self.pool(x), self.conv2(x)], 1)
        x = F.relu(self.conv3(F.relu(self.norm(x))))
        return self.head(torch.flatten(F.adaptive_avg_pool2d(x, 1), 1))


def test_concatenations_average_pools_and_norms_before_relu():
    torch.manual_seed(0)
    model = Dense().double().eval().requires_grad_(False)
    explain = AttributionEquilibrium(Propagator(model), gamma=2.0, low=(-3.0,) * 3, high=(3.0,) * 3)
    images = torch.randn(2, 3, 12, 12, dtype=torch.float64).clamp(-3, 3)
    targets = torch.tensor([[0, 1], [2, 3]])
    maps = explain.read(forward(explain, images), targets)
    assert maps.shape == (2, 2, 3, 12, 12) and maps.isfinite().all() and maps.abs().sum() > 0
    alone = explain.read(forward(explain, images[1:]), targets[:, 1:])
    torch.testing.assert_close(maps[:, 1:], alone)


@pytest.mark.parametrize(("name", "size"), [("alexnet", 64), ("densenet121", 48), ("inception_v3", 80)])
def test_the_papers_other_networks(name, size):
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None, **({"init_weights": False} if "inc" in name else {}))
    explain = AttributionEquilibrium(Propagator(model.double().eval()), low=(-2.0,) * 3, high=(2.0,) * 3)
    images = torch.rand(2, 3, size, size, dtype=torch.float64) * 4 - 2
    maps = explain.read(forward(explain, images), torch.tensor([[1, 2]]))
    assert maps.isfinite().all() and (maps > 0).any() and (maps < 0).any()
    alone = explain.read(forward(explain, images[1:]), torch.tensor([[2]]))
    assert nam.error(maps[0, 1:], alone[0]) < 1e-9


def test_the_start_is_the_signed_contribution_map():
    images, targets = inputs()
    explain = explainer("vgg16", 1.0)
    start = explain.start(forward(explain, images[:2]), targets[:, :2])
    tape = Tape(network("vgg16"), images[:2])
    a = tape.x[tape.last_map()]
    (g,) = torch.autograd.grad((tape.logits * one_hot(tape.logits, targets[0, :2])).sum(), a)
    expected = (a * g.mean((2, 3), keepdim=True)).detach()
    assert nam.error(start[0] * expected.flatten(1).sum(1).abs().view(-1, 1, 1, 1), expected) < 1e-12
    totals = start.flatten(2).sum(2)
    assert all(math.isclose(abs(v), 1, rel_tol=1e-9) for v in totals.flatten().tolist())


@pytest.mark.parametrize(
    ("options", "says"), [({"gamma": 2.5}, "gamma"), ({"residual": "none"}, "residual"), ({"total": "sum"}, "total")]
)
def test_wrong_parameters_are_named(options, says):
    with pytest.raises(InputError, match=says):
        AttributionEquilibrium(Propagator(network("vgg16")), **options)
