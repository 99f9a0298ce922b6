"""RAP, its copy in AGF's code and LRP-alpha-beta in RAP's code: wjNam/Relative_Attributing_Propagation@7fa9682 and
shirgur/AGFVisualization@64c0159 where vectors are at hand, and the equations module by module (``oracles.rap``).
"""

from functools import cache, partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import nam
from oracles import rap as oracle
from oracles.modules import one_hot
from reference_nets import inputs, logit_signs, network, vectors
from relmap.explainers.base import Relevance
from relmap.explainers.rap import (
    AlphaBetaOfRAP,
    ContrastiveRAP,
    RAPLogitInit,
    RelativeAttributingPropagation,
)
from relmap.network import trace
from relmap.propagation import Propagator, starts
from relmap.propagation.rules.base import Record
from relmap.propagation.rules.rap import AbsoluteShare, PassNonZero, RelativeAttributing
from torch import Tensor, nn

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
FILES = {"vgg16s_rap": RelativeAttributingPropagation, "vgg16s_rap_logit_init": RAPLogitInit}
LRP = {"vgg16s_lrp_a1b0": (1, 0), "vgg16s_lrp_a2b1": (2, 1)}


@cache
def propagator(architecture: str) -> Propagator:
    return Propagator(network(architecture))


def relevance(explain: Relevance, images: Tensor, targets: Tensor) -> Tensor:
    return explain.read(explain.walk.forward(images), targets)


@DTYPES
@pytest.mark.parametrize("name", FILES)
def test_maps_of_the_authors(name, dtype):
    maps = nam.explained("vgg16", partial(FILES[name], start="logit"), dtype, 8 if dtype == torch.float64 else 3)
    assert max(nam.map_errors(maps, vectors(f"nam/{name}.npz"))) < (1e-6 if dtype == torch.float64 else 1e-5)


@pytest.mark.parametrize("name", FILES)
def test_every_layer_of_the_authors(name):
    theirs = vectors(f"nam/{name}.npz")
    explain = FILES[name](propagator("vgg16"))
    images, targets = inputs()
    activations = explain.walk.forward(images)
    start = starts.stacked(starts.logit, activations.logits, targets)
    found = nam.observed(partial(explain.walk.propagate, activations, start), {})
    sums = nam.sum_errors(found, theirs)
    assert len(sums) == len(theirs["sum_names"]) - 2  # dropout is no operation
    assert max(sums.values()) < 1e-8, sums  # 1e-9 in denominators, where it counts
    captured = nam.captured_errors(found, theirs)
    assert len(captured) == 3 and max(captured.values()) < 1e-6, captured


@pytest.mark.parametrize("name", LRP)
def test_alpha_beta_of_the_authors(name):
    alpha, beta = LRP[name]
    explain = AlphaBetaOfRAP(propagator("vgg16"), alpha=alpha, beta=beta)
    images, targets = inputs()
    # They start from the logit: of negative ones the map is turned round.
    maps = relevance(explain, images, targets) * logit_signs("vgg16").T[..., None, None, None]
    assert max(nam.map_errors(maps, vectors(f"nam/{name}.npz"))) < 1e-6


@pytest.mark.parametrize("name", FILES)
def test_the_start_is_the_logits_magnitude(name):
    """The authors' map where the logit is positive; another one where it is not, as the rule knows the sign."""
    images, targets = inputs()
    ours = relevance(FILES[name](propagator("vgg16")), images, targets)
    theirs = relevance(FILES[name](propagator("vgg16"), start="logit"), images, targets)
    positive = logit_signs("vgg16").T > 0
    assert positive.any() and not positive.all()
    torch.testing.assert_close(ours[positive], theirs[positive])
    assert (ours.sum((2, 3, 4)) > 0).all() and (theirs.sum((2, 3, 4))[~positive] < 0).all()


ORACLES = {
    "rap": (partial(RelativeAttributingPropagation, start="logit"), oracle.RAP(), oracle.logit),
    "crap": (ContrastiveRAP, oracle.RAP(), lambda t: lambda z: one_hot(z, t) - (1 - one_hot(z, t)) / z.shape[1]),
    "rap_logit_init": (partial(RAPLogitInit, start="logit"), oracle.RAPLogitInit(), oracle.logit),
    "lrp_a1b0": (partial(AlphaBetaOfRAP, start="logit"), oracle.AlphaBeta(1, 0), oracle.logit),
    "lrp_a2b1": (partial(AlphaBetaOfRAP, alpha=2, beta=1, start="logit"), oracle.AlphaBeta(2, 1), oracle.logit),
}


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
@pytest.mark.parametrize("name", ORACLES)
def test_equations_module_by_module(architecture, name):
    make, method, start = ORACLES[name]
    images, targets = (v[..., :2, :, :, :] if v.dim() == 4 else v[:, :2] for v in inputs())
    ours = relevance(make(propagator(architecture)), images, targets)
    for i, target in enumerate(targets):
        expected = oracle.relevance(network(architecture), images, method, start(target))
        # Signed shares blow up where branches cancel: RAP and alpha 2 on the ResNet keep fewer digits.
        assert nam.error(ours[i], expected) < 1e-8


def test_the_sum_is_the_logit_at_every_layer_of_vgg():
    images, targets = inputs()
    explain = RelativeAttributingPropagation(propagator("vgg16"))
    activations = explain.walk.forward(images[:3])
    start = starts.stacked(starts.logit, activations.logits, targets[:, :3])
    for name, part in nam.observed(partial(explain.walk.propagate, activations, start), {}).items():
        torch.testing.assert_close(part.flatten(2).sum(2), start.sum(2), rtol=1e-9, atol=0, msg=name)


@pytest.mark.parametrize("make", [RelativeAttributingPropagation, ContrastiveRAP, RAPLogitInit])
def test_batches_and_targets_are_independent(make):
    images, targets = inputs()
    explain = make(propagator("resnet50"))
    together = relevance(explain, images[:3], targets[:, :3])
    assert nam.error(together[1, 1:2], relevance(explain, images[1:2], targets[1:, 1:2])[0]) < 1e-8


LAYERS = {
    "plain": nn.Conv2d(4, 6, 3, padding=1),
    "stride": nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "groups": nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "dilation": nn.Conv2d(4, 6, 3, padding=2, dilation=2),
    "pointwise": nn.Conv2d(4, 6, 1),
    "linear": nn.Linear(12, 5),
}


def record_and_relevance(layer: nn.Module, seed: int) -> tuple[Record, Tensor]:
    layer = layer.double().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    size = (2, 12) if isinstance(layer, nn.Linear) else (2, 4, 9, 8)
    x = torch.randn(size, dtype=torch.float64, generator=generator).relu()
    operation = list(trace(nn.Sequential(layer)))[-1]
    r = torch.randn(3, *layer(x).shape, dtype=torch.float64, generator=generator)
    return Record(operation, (x,), None, (x.shape,)), r


@pytest.mark.parametrize("name", LAYERS)
def test_rule_is_the_equation_on_all_kinds_of_layers(name):
    record, r = record_and_relevance(LAYERS[name], 0)
    rule = RelativeAttributing("positive" if name == "linear" else "negative")
    expected = torch.stack([oracle.RAP().affine(LAYERS[name], record.inputs[0], None, part) for part in r])
    torch.testing.assert_close(rule(record, r)[0], expected, rtol=1e-9, atol=1e-12)


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(sorted(LAYERS)), st.sampled_from(["negative", "positive"]))
def test_rule_conserves(seed, name, negative_by):
    record, r = record_and_relevance(LAYERS[name], seed)
    (ours,) = RelativeAttributing(negative_by)(record, r)
    torch.testing.assert_close(ours.flatten(2).sum(2), r.flatten(2).sum(2), rtol=1e-9, atol=1e-9)
    assert ((ours != 0) <= (record.inputs[0] != 0)).all()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_first_step_is_linear_and_conserves(seed):
    record, r = record_and_relevance(LAYERS["linear"], seed)
    step = AbsoluteShare()
    (one,), (two,), (both,) = (step(record, part) for part in (r[:1], r[1:2], 2 * r[:1] - r[1:2]))
    torch.testing.assert_close(both, 2 * one - two)
    torch.testing.assert_close(one.sum(2), r[:1].sum(2))
    assert ((step(record, r.abs())[0]) >= 0).all()


def test_norms_pass_relevance_where_their_input_is_not_zero():
    x = torch.tensor([[0.0, -1.0, 2.0]])
    (ours,) = PassNonZero()(Record(None, (x,), None, (x.shape,)), torch.ones(2, 1, 3))
    assert ours.tolist() == [[[0, 1, 1]]] * 2
