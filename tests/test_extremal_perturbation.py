"""Extremal perturbations: the search stated pixel by pixel for one pair, and what it finds on a network made for it."""

import math

import numpy as np
import pytest
import relmap
import torch
from reference_nets import inputs, network
from relmap.errors import InputError
from relmap.explainers.extremal_perturbation import (
    ExtremalPerturbation,
    SmoothMask,
    blurred,
    of_area,
    perturbed,
)
from relmap.propagation import Propagator
from scipy import ndimage
from torch import Tensor, nn

ITERATIONS = 4


@pytest.fixture(scope="module")
def propagator():
    return Propagator(network("vgg16"))


def gaussian(values: np.ndarray, sigma: float) -> np.ndarray:
    """Of the last two axes, zeros beyond the border."""
    offsets = np.arange(-math.ceil(4 * sigma), math.ceil(4 * sigma) + 1)
    weights = np.exp(-0.5 * (offsets / sigma) ** 2)
    for axis in (-2, -1):
        values = ndimage.correlate1d(values, weights / weights.sum(), axis, mode="constant")
    return values


def dense_kernel(height: int, width: int, step: int) -> tuple[Tensor, Tensor]:
    """(P, parameters): weight of each parameter for each pixel of the mask with its margin, and whether it is near."""
    sigma = 3 * step
    radius, padding = 1 + math.ceil(sigma / step), 1 + math.ceil(2 * sigma / step)
    grid = [math.ceil(side / step) for side in (height, width)]
    whole = [step * (side + 2 * padding - 2 * radius - 1) + 1 for side in grid]
    pixels = torch.cartesian_prod(*(torch.arange(side) for side in whole))
    parameters = torch.cartesian_prod(*(torch.arange(side) for side in grid))
    at = sigma + step * parameters
    distance = (pixels[:, None] - at[None]).double().norm(dim=2) / sigma
    first = pixels[:, None] // step - padding
    near = ((parameters >= first) & (parameters <= first + 2 * radius)).all(2)
    # Of a full window of (2 r + 1)^2, those beyond the grid count as parameters that are 0.
    return torch.exp(-2 * (distance - 0.5).clamp(min=0) ** 2), near


def literal(model: nn.Module, image: Tensor, target: int, area: float, iterations: int = ITERATIONS) -> Tensor:
    """One mask (H, W) by TorchRay's algorithm, dense matrices, autograd and torch's own SGD."""
    height, width = image.shape[1:]
    scale = min(height, width) / 224
    step = max(1, round(7 * scale))
    kernel, near = dense_kernel(height, width, step)
    absent = (2 * (1 + 3) + 1) ** 2 - near.sum(1)
    levels = [gaussian(image.numpy(), 20 * scale * (1 - level / 7)) for level in range(7)]
    pyramid = torch.from_numpy(np.stack([*levels, image.numpy()]))
    parameters = torch.ones(near.shape[1], dtype=torch.float64, requires_grad=True)
    optimiser = torch.optim.SGD([parameters], lr=0.01, momentum=0.9, dampening=0.9)
    columns = step * (math.ceil(width / step) + 2 * 7 - 2 * 4 - 1) + 1
    rows = len(near) // columns
    outside = int(rows * columns * (1 - area))
    weight = 300.0
    for iteration in range(iterations):
        values = kernel * parameters
        powers = near * torch.exp(20 * values)
        mask = (values * powers).sum(1) / (powers.sum(1) + absent)
        inside = mask.view(rows, columns)[3 * step : 3 * step + height, 3 * step : 3 * step + width]
        level = 7 * inside
        seen = torch.zeros_like(image)
        lower = level.detach().floor().long()
        for index in range(8):
            part = torch.where(lower == index, 1 - (level - lower), 0) + torch.where(
                lower + 1 == index, level - lower, 0
            )
            seen = seen + part * pyramid[index]
        seen = seen.flip(2) if iteration % 2 == 0 else seen
        ordered = mask.detach().sort()[0]
        wanted, edge = torch.zeros_like(ordered), ordered[outside]
        wanted[outside:] = 1
        wanted[(ordered - edge).abs() <= 1e-5] = -1  # equal ones share
        wanted[wanted < 0] = (len(ordered) - outside - (wanted == 1).sum()) / (wanted < 0).sum()
        cost = weight * ((mask.sort()[0] - wanted) ** 2).mean()
        optimiser.zero_grad()
        (cost - model(seen[None])[0, target]).backward()
        optimiser.step()
        with torch.no_grad():
            parameters.clamp_(0, 1)
        weight *= 1.0035
    return inside.detach()


@pytest.mark.parametrize("size", [(64, 64), (40, 52)])
def test_the_search_is_the_one_that_is_stated(propagator, size):
    images, targets = inputs()
    images = images[:2, :, : size[0], : size[1]]
    areas = (0.05, 0.2)
    found = ExtremalPerturbation(propagator, areas=areas, iterations=ITERATIONS).masks(images, targets.T[:2])
    assert found.shape == (2, 2, 2, *size)
    for n, k, a in ((0, 0, 0), (1, 1, 1)):
        expected = literal(network("vgg16"), images[n], int(targets[k, n]), areas[a])
        assert expected.std() > 1e-4
        torch.testing.assert_close(found[n, k, a], expected, rtol=0, atol=1e-10)


def test_the_map_is_the_sum_of_smoothed_masks(propagator):
    images, targets = inputs()
    explainer = ExtremalPerturbation(propagator, areas=(0.1, 0.2), iterations=2)
    masks = explainer.masks(images[:2, :, :48], targets.T[:2])
    expected = gaussian(masks.sum(2).numpy(), 0.09 * 48)
    torch.testing.assert_close(explainer(images[:2, :, :48], targets.T[:2]), torch.from_numpy(expected))


def test_smooth_masks_gradient_is_that_of_finite_differences():
    shape = SmoothMask((20, 26), torch.zeros(1, dtype=torch.float64))
    shape = SmoothMask((64, 70), torch.zeros(1, dtype=torch.float64)) if shape.step != 1 else shape
    parameters = torch.rand(1, *shape.grid, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert torch.autograd.gradcheck(shape, parameters.requires_grad_(), fast_mode=True)


def test_at_224_it_has_torchrays_sizes():
    shape = SmoothMask((224, 300), torch.zeros(1))
    assert (shape.step, shape.margin, shape.radius, shape.padding) == (7, 21, 4, 7)
    assert shape.grid == (32, 43) and shape.size == (260, 337) and shape.kernel.shape == (9, 9, 49)


def test_equal_pixels_share_the_edge_whatever_their_order():
    masks = torch.tensor([[[0.2, 0.9, 0.5], [0.5, 0.5, 0.1]]], dtype=torch.float64)
    found = of_area(masks, torch.tensor([4]))  # two of six pixels: 0.9, and a third of each 0.5
    expected = torch.tensor([[[0, 1, 1 / 3], [1 / 3, 1 / 3, 0]]], dtype=torch.float64)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(of_area(masks.flip(2), torch.tensor([4])), expected.flip(2))
    ordered = torch.rand(3, 5, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    assert (of_area(ordered, torch.tensor([7, 20, 39])).flatten(1).sum(1) == torch.tensor([33.0, 20.0, 1.0])).all()


def test_a_pyramid_is_read_between_its_levels():
    images = inputs()[0][:1]
    pyramid = blurred(images, 5.0)
    for value, expected in ((1.0, images), (0.0, pyramid[:, 0]), (2.5 / 7, (pyramid[:, 2] + pyramid[:, 3]) / 2)):
        seen = perturbed(pyramid, torch.full((1, 2, 64, 64), value, dtype=torch.float64))
        torch.testing.assert_close(seen, expected[:, None].expand(1, 2, -1, -1, -1))


class Squares(nn.Module):
    """Logits are means of squares of pixels, each in the middle between left and right."""

    def __init__(self) -> None:
        super().__init__()
        places = torch.zeros(2, 32, 32)
        places[0, 4:12, 12:20] = places[1, 19:27, 12:20] = 1 / 192
        self.layer = nn.Linear(3 * 32 * 32, 2, bias=False)
        self.layer.weight.data = places.flatten(1).repeat(1, 3)

    def forward(self, x):
        return self.layer(x.flatten(1))


def test_the_mask_finds_the_region_with_the_asked_area():
    image = torch.zeros(1, 3, 32, 32)
    image[:, :, 4:12, 12:20] = image[:, :, 19:27, 12:20] = 120.0
    areas = (0.05, 0.1)
    explainer = ExtremalPerturbation(Propagator(Squares()), areas=areas, iterations=400)
    masks = explainer.masks(image, torch.tensor([[0, 1]]))
    for target, rows in enumerate((slice(4, 12), slice(19, 27))):
        for index in range(len(areas)):
            mask = masks[0, target, index]
            assert mask[rows, 12:20].mean() > 0.8
            assert mask[rows, 12:20].mean() > 5 * mask[slice(19, 27) if target == 0 else slice(4, 12), 12:20].mean()
        # The area counts a margin of three pixels; after half of the steps masks are still a little larger.
        sizes = masks[0, target].mean((1, 2))
        assert (sizes - torch.tensor(areas) * 38**2 / 32**2).abs().max() < 0.08 and sizes[0] < sizes[1]


def test_neither_batches_nor_neighbours_change_a_map(propagator):
    images, targets = inputs()
    whole = relmap.explain(propagator, images[:3], targets.T[:3], "extremal_perturbation", iterations=3)
    for batch, batch_size in ((1, 3), (8, 3), (64, 1)):
        found = relmap.explain(
            propagator,
            images[:3],
            targets.T[:3],
            "extremal_perturbation",
            iterations=3,
            batch=batch,
            batch_size=batch_size,
        )
        torch.testing.assert_close(found, whole, rtol=1e-9, atol=1e-11)


def test_areas_are_torchrays(propagator):
    assert ExtremalPerturbation(propagator).areas == (0.025, 0.05, 0.1, 0.2)
    assert ExtremalPerturbation(propagator).iterations == 800
    coco = relmap.catalogue.methods.find("extremal_perturbation_coco")
    assert coco.parameters == {"areas": [0.018, 0.025, 0.05, 0.1]}


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"areas": ()}, "give shares between 0 and 1"),
        ({"areas": (0.1, 1.0)}, "give shares between 0 and 1"),
        ({"iterations": 0}, "iterations is 0"),
        ({"batch": 0}, "batch 0"),
    ],
)
def test_refusals(propagator, given, words):
    with pytest.raises(InputError, match=words):
        ExtremalPerturbation(propagator, **given)


def test_only_pictures_have_masks(propagator):
    with pytest.raises(InputError, match="its masks are of pictures"):
        ExtremalPerturbation(propagator)(torch.zeros(1, 3, 9, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.long))
