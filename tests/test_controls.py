"""Controls: edges as Sobel has them, and maps of a network that has learned nothing."""

import copy

import numpy as np
import pytest
import relmap
import torch
from reference_nets import inputs, network
from relmap.catalogue.methods import CATALOGUE
from relmap.explainers.centred import Centred
from relmap.explainers.controls import CentreSquare, Edges
from relmap.metrics.average_precision import above_mean
from relmap.network.random_weights import randomise


def test_edges_are_sobels():
    images = torch.randn(2, 3, 7, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    found = relmap.explain(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(189, 4)).double(), images, 1, "edges"
    )
    kernel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]) / 8
    for image, own in zip(images.numpy(), found.numpy(), strict=True):
        padded = np.pad(image, ((0, 0), (1, 1), (1, 1)), mode="edge")
        for y, x in np.ndindex(7, 9):
            window = padded[:, y : y + 3, x : x + 3]
            slopes = [(window * way).sum((1, 2)) for way in (kernel, kernel.T)]
            assert own[y, x] == pytest.approx(np.sqrt(np.square(slopes).sum()), abs=1e-12)


def test_a_ramp_has_its_slope_and_a_flat_picture_no_edge():
    edges = Edges(torch.nn.Identity())
    ramp = torch.arange(8.0).expand(1, 1, 8, 8) * 3
    torch.testing.assert_close(
        edges(ramp, torch.zeros(1, 2, dtype=torch.long))[..., 1:-1], torch.full((1, 2, 8, 6), 3.0)
    )
    assert not edges(torch.ones(1, 3, 8, 8), torch.zeros(1, 1, dtype=torch.long)).any()


@pytest.mark.parametrize("name", ["vgg16", "vit"])
def test_random_network_is_the_method_on_random_weights(name):
    images, targets = inputs(torch.float32)
    model = network(name, torch.float32)
    before = copy.deepcopy(model.state_dict())
    found = relmap.explain(model, images[:3], targets[0, :3], "random_network")
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items()), "the network stays"
    other = copy.deepcopy(model).double()
    randomise(other, [key for key, _ in other.named_parameters()], 0)
    base = CATALOGUE["random_network"].parameters["explainer"]
    expected = relmap.explain(other, images[:3].double(), targets[0, :3], base).float()
    assert torch.equal(found, expected)
    assert torch.equal(found[1:2], relmap.explain(model, images[1:2], targets[0, 1:2], "random_network"))
    # It knows nothing of what was learned.
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.5)
    assert torch.equal(found, relmap.explain(model, images[:3], targets[0, :3], "random_network"))


def test_controls_are_marked():
    marked = {name for name, row in CATALOGUE.items() if row.control}
    assert marked == {
        "constant",
        "random",
        "random_normal",
        "centre_gaussian",
        "centre_square",
        "edges",
        "random_network",
    }
    assert marked == {name for name, row in CATALOGUE.items() if row.citation.startswith("control:")}


def test_the_centre_square_is_a_quarter_of_either_side():
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 8 * 13, 4))
    found = relmap.explain(model, torch.randn(2, 3, 8, 13), 1, "centre_square")
    expected = torch.zeros(2, 8, 13)
    expected[:, 3:5, 5:8] = 1
    assert torch.equal(found, expected)
    tiny = CentreSquare(model)(torch.ones(1, 3, 1, 1), torch.zeros(1, 2, dtype=torch.long))
    assert torch.equal(tiny, torch.ones(1, 2, 1, 1)), "a pixel at least"


def test_centred_is_the_inner_map_less_its_mean():
    """Of two targets each by itself; positive where the map exceeds its mean, nowhere if it is constant."""
    images, targets = inputs(torch.float32)
    model = network("vgg16", torch.float32)
    given = images[:3], targets[:, :3].T
    inner = relmap.explain(model, *given, "lrp_alpha1_beta0_rap")
    found = relmap.explain(model, *given, "lrp_alpha1_beta0_rap_centred")
    expected = inner.double() - inner.double().mean((2, 3), keepdim=True)
    torch.testing.assert_close(found.double(), expected, rtol=1e-6, atol=1e-12)
    assert torch.equal(found.flatten(0, 1) > 0, above_mean(inner.flatten(0, 1))) and (inner > 0).double().mean() > 0.9
    for value in (0.1, -3e-5, 1e9):
        constant = Centred(lambda x, t, value=value: torch.full((1, 1, 7, 9), value))
        assert not constant(None, None).any()
