"""Bounds of the input, ``low`` and ``high``: in every method that takes them a number holds for all channels, and what
cannot be meant is refused."""

import numpy as np
import pytest
import relmap
import torch
import torch.nn.functional as F
from relmap.catalogue.methods import BOUNDS, CATALOGUE
from relmap.errors import InputError
from relmap.models.card import input_range
from torch import nn

TAKING = [
    method.id for method in CATALOGUE.values() if BOUNDS in method.needs or method.id in ("clrp_gu", "clrp_gu_negated")
]


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 6, 3), nn.ReLU()]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).double().eval()


@pytest.fixture(scope="module")
def images():
    return 4 * torch.rand(2, 3, 9, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) - 2


SAME = [
    (-2, 2),
    (torch.tensor(-2.0), torch.tensor(2)),
    (np.float32(-2), np.int64(2)),
    ([-2, -2, -2], 2.0),
    (-2.0, torch.tensor([2.0, 2.0, 2.0])),
    (np.full(3, -2.0), np.full((1, 3, 1, 1), 2.0)),
    ([torch.tensor(-2.0)] * 3, (np.float64(2),) * 3),
]


@pytest.mark.parametrize("method", TAKING)
def test_a_number_holds_for_all_channels(model, images, method):
    expected = relmap.explain(model, images, 1, method, low=(-2.0,) * 3, high=(2.0,) * 3)
    assert not torch.equal(expected, relmap.explain(model, images, 1, method, low=None, high=None)), "they count"
    for low, high in SAME:
        assert torch.equal(relmap.explain(model, images, 1, method, low=low, high=high), expected), (low, high)


WRONG = [
    ({"low": -9.0}, "low is given without high"),
    ({"high": (9.0,) * 3}, "high is given without low"),
    ({"low": 2.0, "high": -2.0}, "low 2.0 is not below high -2.0"),
    ({"low": (-9.0, 1.0, -9.0), "high": (9.0, 1.0, 9.0)}, "low 1.0 of channel 1 is not below"),
    ({"low": (-9.0,) * 2, "high": 9.0}, "for 2 channels, the images have 3"),
    ({"low": (-9.0,) * 4, "high": (9.0,) * 3}, "low is for 4 channels and high for 3"),
    ({"low": float("nan"), "high": 9.0}, "finite"),
    ({"low": -float("inf"), "high": 9.0}, "finite"),
    ({"low": "0", "high": 9.0}, "give a number"),
    ({"low": [[-9.0, -9.0], [-9.0, -9.0]], "high": 9.0}, r"shape \(2, 2\)"),
    ({"low": [], "high": 9.0}, "finite numbers"),
    ({"low": 0.0, "high": 1.0}, r"channel \d, outside low 0 and high 1; give the range of the images as normalised"),
    ({"low": -9.0, "high": (9.0, 9.0, 1.5)}, "channel 2, outside low -9 and high 1.5"),
]


@pytest.mark.parametrize("method", TAKING)
@pytest.mark.parametrize(("given", "message"), WRONG, ids=[message for _, message in WRONG])
def test_what_cannot_be_meant_is_refused(model, images, method, given, message):
    with pytest.raises(InputError, match=message):
        relmap.explain(model, images, 1, method, **given)


def test_rounding_is_no_offence_and_one_image_of_many_is(model, images):
    scaled = 2 * images / images.abs().amax()
    assert relmap.explain(model, scaled * (1 + 1e-5), 1, "lrp_alpha1_beta0", low=-2, high=2).isfinite().all()
    scaled[1, 2, 3, 3] = 2.01
    with pytest.raises(InputError, match=r"is 2.01 in channel 2"):
        relmap.explain(model, scaled, 1, "lrp_alpha1_beta0", low=-2, high=2, batch_size=1)


def test_bounds_that_would_count_for_nothing_are_refused(model, images):
    for method, given in (
        ("lrp_alpha1_beta0", {"first": "flat"}),
        ("clrp_two_passes", {"first": "same"}),
        ("clrp_gu", {"first": "flat"}),
        ("lrp_epsilon_plus", {}),
    ):
        with pytest.raises(InputError, match="takes no bounds"):
            relmap.explain(model, images, 1, method, low=-2, high=2, **given)
        assert relmap.explain(model, images, 1, method, **given).isfinite().all()


def test_the_box_of_gus_code_warns_of_images_beyond_it(model, images):
    with pytest.warns(UserWarning, match="outside low"):
        relmap.explain(model, 2 * images, 1, "clrp_gu")


def test_a_models_own_range_serves_where_bounds_count(model, images):
    low, high = input_range((0.5,) * 3, (0.25,) * 3)
    model.input_range = low, high
    try:
        own = relmap.explain(model, images, 1, "lrp_alpha1_beta0")
        assert torch.equal(own, relmap.explain(model, images, 1, "lrp_alpha1_beta0", low=-2, high=2))
        relmap.explain(model, images, 1, "lrp_alpha1_beta0", first="flat")
        with pytest.raises(InputError, match="the model takes -2 to 2: normalise them"):
            relmap.explain(model, 255 * images, 1, "lrp_alpha1_beta0")
    finally:
        del model.input_range


class Prepared(nn.Module):
    """What networks do to their input: normalise, space to depth, features of a patch as tokens, or flatten."""

    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.conv = nn.Conv2d(12 if kind == "space to depth" else 3, 5, 3)
        self.patch, self.head, self.flat = nn.Linear(12, 5), nn.Linear(5, 4), nn.Linear(192, 5)
        self.register_buffer("mean", torch.tensor([0.2, 0.5, -0.1])[:, None, None])

    def prepared(self, x):
        match self.kind:
            case "normalised":
                return (x - self.mean) * -2
            case "space to depth":
                return F.pixel_unshuffle(x, 2)
            case "patches":
                patches = x.reshape(x.shape[0], 3, 4, 2, 4, 2).permute(0, 2, 4, 1, 3, 5)
                return patches.reshape(x.shape[0], 16, 12)
            case "flat":
                return x.flatten(1)

    def forward(self, x):
        x = self.prepared(x)
        match self.kind:
            case "patches":
                return self.head(self.patch(x).relu().mean(1))
            case "flat":
                return self.head(self.flat(x).relu())
        return self.head(self.conv(x).relu().mean((2, 3)))


@pytest.mark.parametrize("kind", ["normalised", "space to depth", "patches", "flat"])
@pytest.mark.parametrize(("low", "high"), [(-1, 2), ((-1.0, -2.0, -3.0), (2.0, 3.0, 4.0))])
def test_bounds_are_those_of_the_models_input_whatever_it_does_to_it_first(kind, low, high):
    """Against the definition: ``(x - l) * J+^T s + (x - h) * J-^T s`` with the Jacobian J of the whole first layer."""
    torch.manual_seed(2)
    model = Prepared(kind).double().eval()
    x = torch.rand(2, 3, 8, 8, dtype=torch.float64)
    layer = {"patches": model.patch, "flat": model.flat}.get(kind, model.conv)
    prepared = [model.prepared(torch.as_tensor(b, dtype=x.dtype).view(-1, 1, 1).expand_as(x)) for b in (low, high)]
    below, above = torch.minimum(*prepared), torch.maximum(*prepared)
    seen = model.prepared(x)

    def applied(v, weight):
        return F.linear(v, weight) if weight.dim() == 2 else F.conv2d(v, weight)

    plus, minus = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
    z = applied(seen - below, plus) + applied(seen - above, minus)
    propagator = relmap.Propagator(model)
    name = {"patches": "patch", "flat": "flat"}.get(kind, "conv")
    walk = propagator.by(relmap.propagation.composites.alpha_beta(first=relmap.propagation.rules.ZBox(low, high)))
    activations = walk.forward(x)
    start = torch.randn_like(activations.logits)[None]
    source = propagator.graph[name].inputs[0]
    found = walk.propagate(activations, start, stop=source, capture=[name])
    s = found.captured[name][0] / z
    ups = [torch.autograd.functional.vjp(lambda v, w=w: applied(v, w), seen, s)[1] for w in (plus, minus)]
    expected = (seen - below) * ups[0] + (seen - above) * ups[1]
    torch.testing.assert_close(found.relevance[0], expected.detach())
    with pytest.raises(InputError, match=r"outside low"):
        walk.propagate(walk.forward(x + 6), start)
