"""Controls: edges as Sobel has them, and maps of a network that has learned nothing."""

import copy

import numpy as np
import pytest
import relmap
import torch
from reference_nets import inputs, network
from relmap.catalogue.methods import CATALOGUE
from relmap.explainers.controls import Edges
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
    assert marked == {"constant", "random", "random_normal", "centre_gaussian", "edges", "random_network"}
    assert marked == {name for name, row in CATALOGUE.items() if row.citation.startswith("control:")}
