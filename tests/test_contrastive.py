"""The readings of contrastive LRP as explainers.

Vectors on VGG-16: JindongGu/Contrastive-LRP@751c263 (float32), shirgur/AGFVisualization@64c0159, and the formulas of
CLRP and SGLRP written out in float64 without any stabiliser ("literal"). Arrays are (8 images, 2 targets, 64, 64).
"""

from functools import cache

import pytest
import torch
from reference_nets import inputs, logit_signs, network, vectors
from relmap.errors import InputError
from relmap.explainers.base import Relevance
from relmap.explainers.contrastive import READINGS, GuCLRP, GuNegatedCLRP, TwoPasses
from relmap.propagation import Propagator, composites, starts
from relmap.propagation.rules import ZBox
from torch import Tensor, nn

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
FIRST = pytest.mark.parametrize(
    ("file", "first"),
    [("zbox", {"low": (-2.0,) * 3, "high": (2.0,) * 3}), ("zplus", {"first": "same"})],
    ids=["zbox", "zplus"],
)


@cache
def propagator(architecture: str, dtype: torch.dtype = torch.float64) -> Propagator:
    return Propagator(network(architecture, dtype))


def explain(explainer, images: Tensor, targets: Tensor, model: Propagator) -> Tensor:
    return explainer.read(model.forward(images, explainer.walks, explainer.keep), targets)


def errors(ours: Tensor, theirs) -> Tensor:
    """Relative L2 errors of maps, ours (2, 8, C, h, w) and theirs (8, 2, h, w): (8, 2)."""
    ours, theirs = ours.sum(2).double().transpose(0, 1).flatten(2), torch.as_tensor(theirs).double().flatten(2)
    return (ours - theirs).norm(dim=2) / theirs.norm(dim=2)


def for_the_class(theirs) -> Tensor:
    """Authors' maps (8, 2, 64, 64) of VGG from z_t, as they are from |z_t|: those of negative logits turned round."""
    return torch.as_tensor(theirs) * logit_signs("vgg16")[..., None, None]


def tolerance(dtype: torch.dtype) -> float:
    return 1e-6 if dtype == torch.float64 else 1e-4


@DTYPES
@FIRST
@pytest.mark.parametrize("reading", ["clrp", "sglrp"])
def test_literal_two_passes(file, first, reading, dtype):
    """To scale, also where y_t (1 - y_t) is 3e-19."""
    model, (images, targets) = propagator("vgg16", dtype), inputs(dtype)
    ours = explain(TwoPasses(model, reading=reading, **first), images, targets, model)
    theirs = vectors(f"lrp/sglrp_clrp_literal_vgg16s_{file}.npz")[f"{reading}_twopass_rescaled_sum"]
    theirs = for_the_class(theirs) if reading == "clrp" else theirs
    assert errors(ours, theirs).max() < tolerance(dtype)


@DTYPES
@pytest.mark.parametrize(
    ("reading", "file", "key"),
    [("clrp", "clrp_sglrp_agf", "clrp"), ("sglrp_agf", "sglrp_agf", "sglrp")],
    ids=["clrp", "sglrp"],
)
def test_agf(reading, file, key, dtype):
    model, (images, targets) = propagator("vgg16", dtype), inputs(dtype)
    ours = explain(TwoPasses(model, reading=reading), images, targets, model)
    theirs = vectors(f"lrp/{file}_vgg16s.npz")[f"{key}_sum"]
    assert errors(ours, for_the_class(theirs) if reading == "clrp" else theirs).max() < tolerance(dtype)


GU = {1: GuCLRP, 2: GuNegatedCLRP}


def rounding_of_gu(number: int) -> Tensor:
    """Errors (8, 2) of their difference of two nearly equal maps, which is float32 throughout whatever ours is."""
    theirs = {name: torch.as_tensor(array).double() for name, array in vectors("lrp/clrp_gu_vgg16s.npz").items()}
    at, against = (theirs[f"{name}_sum"] for name in ("lrp_target", f"contrast_type{number}"))
    mass = sum((part / part.sum((2, 3), keepdim=True)).flatten(2).norm(dim=2) for part in (at, against))
    return torch.finfo(torch.float32).eps * mass / theirs[f"clrp{number}_diff_sum"].flatten(2).norm(dim=2)


@DTYPES
@pytest.mark.parametrize("number", GU)
def test_gu(number, dtype):
    model, (images, targets) = propagator("vgg16", dtype), inputs(dtype)
    ours = explain(GU[number](model), images, targets, model)
    found = errors(ours, vectors("lrp/clrp_gu_vgg16s.npz")[f"clrp{number}_diff_sum"])
    assert (found < rounding_of_gu(number)).all()
    assert found.median() < 1e-4


@pytest.mark.parametrize("number", GU)
def test_gu_before_the_difference(number):
    """Of the maps that their difference is made of, more digits are left."""
    model, (images, targets) = propagator("vgg16"), inputs()
    theirs = vectors("lrp/clrp_gu_vgg16s.npz")
    composite = composites.alpha_beta(first=ZBox((-2.1179,) * 3, (2.64,) * 3))

    at = explain(Relevance(model, composite), images, targets, model)
    assert errors(at, theirs["lrp_target_sum"]).max() < 1e-6
    at = at / at.sum((2, 3, 4), keepdim=True)
    against = at - explain(GU[number](model), images, targets, model)
    expected = torch.as_tensor(theirs[f"contrast_type{number}_sum"])
    assert errors(against, expected / expected.sum((2, 3), keepdim=True)).max() < 1e-6


@pytest.mark.parametrize("number", GU)
@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_float32_keeps_the_digits_of_the_difference(architecture, number):
    maps = []
    for dtype in (torch.float64, torch.float32):
        model, (images, targets) = propagator(architecture, dtype), inputs(dtype)
        maps.append(explain(GU[number](model), images, targets, model))
    assert errors(maps[1], maps[0].sum(2).transpose(0, 1)).max() < 1e-4


def elsewhere(start):
    return lambda z, t: -start(z, t) * (1 - starts.one_hot(z, t))


def at_target(start):
    return lambda z, t: start(z, t) * starts.one_hot(z, t)


@pytest.mark.parametrize("start", [starts.clrp, starts.sglrp, starts.contrast])
@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_one_pass_is_the_difference_of_two(architecture, start):
    model, (images, targets) = propagator(architecture), inputs()
    composite = composites.alpha_beta(first=ZBox(None, None))
    one, at, others = (
        explain(Relevance(model, composite, s), images, targets, model)
        for s in (start, at_target(start), elsewhere(start))
    )
    torch.testing.assert_close(one, at - others, rtol=1e-7, atol=1e-11 * at.abs().max().item())


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_two_passes_are_rescaled_to_no_total(architecture):
    model, (images, targets) = propagator(architecture), inputs()
    composite = composites.alpha_beta(first=ZBox(None, None))
    at, others = (
        explain(Relevance(model, composite, s), images, targets, model)
        for s in (at_target(starts.clrp), elsewhere(starts.clrp))
    )
    ours = explain(TwoPasses(model), images, targets, model)
    expected = at - others * at.sum((2, 3, 4), keepdim=True) / others.sum((2, 3, 4), keepdim=True)
    torch.testing.assert_close(ours, expected, rtol=1e-7, atol=1e-11 * at.abs().max().item())
    assert (ours.sum((2, 3, 4)).abs() < 1e-9 * at.sum((2, 3, 4)).abs()).all()


EXPLAINERS = {reading: (TwoPasses, {"reading": reading}) for reading in READINGS} | {
    "gu": (GuCLRP, {}),
    "gu_negated": (GuNegatedCLRP, {}),
}


@pytest.mark.parametrize("name", EXPLAINERS)
@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_images_and_targets_by_themselves(architecture, name):
    make, parameters = EXPLAINERS[name]
    model, (images, targets) = propagator(architecture), inputs()
    explainer = make(model, **parameters)
    together = explain(explainer, images[:3], targets[:, :3], model)
    scale = together.abs().amax((2, 3, 4))
    for k in range(2):
        for n in range(3):
            alone = explain(explainer, images[n : n + 1], targets[k : k + 1, n : n + 1], model)
            torch.testing.assert_close(alone[0, 0], together[k, n], rtol=1e-7, atol=1e-8 * scale[k, n].item())


def test_a_class_that_nothing_speaks_for_has_no_relevance():
    """No 0 / 0 where all relevance of a pass is lost."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3, bias=False)).double()
    model[1].weight.data = torch.cat([torch.ones(1, 12), -torch.ones(2, 12)]).double()
    traced, images = Propagator(model), torch.rand(1, 3, 2, 2, dtype=torch.float64)
    for make in (TwoPasses, GuCLRP, GuNegatedCLRP):
        for target in range(3):
            maps = explain(make(traced, first="same"), images, torch.tensor([[target]]), traced)
            assert maps.isfinite().all()


def test_unknown_readings_are_named():
    with pytest.raises(InputError, match="reading 'x'"):
        TwoPasses(propagator("vgg16"), reading="x")
