"""Score-CAM, LIME and KernelSHAP: their definitions, mask by mask and coalition by coalition, and their laws."""

import itertools
import math

import numpy as np
import pytest
import relmap
import torch
import torch.nn.functional as F
from reference_nets import inputs, network
from relmap.errors import InputError
from relmap.explainers.score_cam import ScoreCAM
from relmap.explainers.superpixels import mean_colours, regions_of, sizes_of
from relmap.explainers.surrogate import LIME, KernelSHAP
from relmap.propagation import Propagator
from scipy.stats import binomtest, chisquare
from torch import Tensor

METHODS = {"score_cam": {"channels": 9}, "lime": {"samples": 30, "side": 3}, "kernel_shap": {"samples": 30, "side": 3}}


@pytest.fixture(scope="module")
def propagator():
    return Propagator(network("vgg16"))


def cell(side: int, pixels: int) -> list[int]:
    return [row * side // pixels for row in range(pixels)]


def removed(image: Tensor, kept: tuple[int, ...], fill: Tensor) -> Tensor:
    """An image (3, 64, 64) with the cells of a grid filled that a coalition leaves out, pixel by pixel."""
    side = math.isqrt(len(kept))
    result = image.clone()
    for row, of_row in enumerate(cell(side, 64)):
        for column, of_column in enumerate(cell(side, 64)):
            if not kept[of_row * side + of_column]:
                result[:, row, column] = fill[:, row, column]
    return result


def test_score_cam_channel_by_channel(propagator):
    model, (images, targets) = network("vgg16"), inputs()
    found = relmap.explain(propagator, images[:2], targets.T[:2], "score_cam", batch=7)
    for image, classes, maps in zip(images, targets.T, found, strict=False):
        features = model.features[:30](image[None])[0]
        large = F.interpolate(features[None], (64, 64), mode="bilinear", align_corners=False)[0]
        for target, ours in zip(classes.tolist(), maps, strict=True):
            scores = []
            for mask in large:
                span = mask.max() - mask.min()
                mask = (mask - mask.min()) / span if span > 0 else torch.zeros_like(mask)
                scores.append(model((image * mask)[None])[0, target])
            weights = torch.stack(scores).softmax(0)
            cam = sum(weight * channel for weight, channel in zip(weights, features, strict=True)).clamp(min=0)
            expected = F.interpolate(cam[None, None], (64, 64), mode="bilinear", align_corners=False)[0, 0]
            torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


def test_channels_that_vary_most_are_chosen(propagator):
    images, targets = inputs()
    features = network("vgg16").features[:30](images[:1])[0]
    best = features.flatten(1).std(1).argmax()
    alone = ScoreCAM(propagator, channels=1)(images[:1], targets.T[:1])[0, 0]
    expected = F.interpolate(features[best][None, None], (64, 64), mode="bilinear", align_corners=False)[0, 0]
    torch.testing.assert_close(alone, expected)  # its weight is 1


def test_kernel_shap_of_all_coalitions_is_the_shapley_value(propagator):
    """By the sum over all orders' predecessors, for each of four cells; and completeness."""
    model, (images, targets) = network("vgg16"), inputs()
    found = relmap.explain(propagator, images[:2], targets.T[:2], "kernel_shap", side=2, samples=14)
    zero = torch.zeros_like(images[0])
    for image, classes, maps in zip(images, targets.T, found, strict=False):
        score = {kept: model(removed(image, kept, zero)[None])[0] for kept in itertools.product((0, 1), repeat=4)}
        for target, ours in zip(classes.tolist(), maps, strict=True):
            for region in range(4):
                value = 0.0
                for kept in score:
                    if kept[region]:
                        continue
                    with_it = tuple(1 if place == region else old for place, old in enumerate(kept))
                    share = math.factorial(sum(kept)) * math.factorial(3 - sum(kept)) / math.factorial(4)
                    value += share * float(score[with_it][target] - score[kept][target])
                top, left = 32 * (region // 2), 32 * (region % 2)
                torch.testing.assert_close(
                    ours[top : top + 32, left : left + 32], torch.full((32, 32), value / 1024, dtype=torch.float64)
                )
            gain = score[1, 1, 1, 1][target] - score[0, 0, 0, 0][target]
            torch.testing.assert_close(ours.sum(), gain, rtol=1e-10, atol=1e-10)


def test_kernel_shap_of_a_sample_is_the_constrained_fit(propagator):
    model, (images, targets) = network("vgg16"), inputs()
    image, target = images[0], int(targets[0, 0])
    explainer = KernelSHAP(propagator, samples=30, side=3)
    coalitions = explainer.coalitions()
    empty, whole, *between = [tuple(row) for row in coalitions.int().tolist()]
    assert sum(empty) == 0 and sum(whole) == 9 and len(between) == 30
    for first, second in zip(between[::2], between[1::2], strict=True):
        assert [a + b for a, b in zip(first, second, strict=True)] == [1] * 9
        assert 0 < sum(first) < 9
    zero = torch.zeros_like(image)
    score = {kept: float(model(removed(image, kept, zero)[None])[0, target]) for kept in {empty, whole, *between}}
    # Lagrange's conditions of the fit whose sum is the gain.
    design = np.array(between, dtype=float)
    wanted = np.array([score[kept] - score[empty] for kept in between])
    ones = np.ones((9, 1))
    system = np.block([[design.T @ design, ones], [ones.T, np.zeros((1, 1))]])
    values = np.linalg.solve(system, np.concatenate([design.T @ wanted, [score[whole] - score[empty]]]))[:9]
    ours = explainer(images[:1], targets.T[:1, :1])[0, 0]
    for region, value in enumerate(values):
        inside = torch.tensor([[row * 3 + column == region for column in cell(3, 64)] for row in cell(3, 64)])
        torch.testing.assert_close(ours[inside].sum().item(), value, rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(ours.sum().item(), score[whole] - score[empty], rtol=1e-8, atol=1e-10)


def test_sizes_are_drawn_by_the_kernel(propagator):
    """Pairs of a coalition and its complement are independent: the smaller one's size, by a test of frequencies."""
    drawn = KernelSHAP(propagator, samples=20_000, side=4).coalitions()[2::2].sum(1)
    counts = np.bincount(torch.minimum(drawn, 16 - drawn).long().numpy(), minlength=9)[1:]
    twice = np.array([2.0] * 7 + [1.0])  # a size and its complement's, but for half of all
    kernel = twice / np.array([size * (16 - size) for size in range(1, 9)])
    assert chisquare(counts, counts.sum() * kernel / kernel.sum()).pvalue > 1e-3
    for other in (twice, twice / np.arange(1, 9)):  # every size alike; one over the smaller size
        assert chisquare(counts, counts.sum() * other / other.sum()).pvalue < 1e-6


def test_lime_is_the_ridge_regression(propagator):
    model, (images, targets) = network("vgg16"), inputs()
    image, target = images[1], int(targets[0, 1])
    explainer = LIME(propagator, samples=40, side=3, regions="grid", penalty=0.3)
    kept = explainer.coalitions()
    assert torch.equal(kept[0], torch.ones(9, dtype=torch.float64))
    drawn = LIME(propagator, samples=4000, side=3, regions="grid", penalty=0.3).coalitions()[1:]
    assert binomtest(int(drawn.sum()), drawn.numel(), 0.5).pvalue > 1e-3, "each region is kept by the toss of a coin"
    assert binomtest(int(drawn.sum()), drawn.numel(), 0.52).pvalue < 1e-6, "which so many would tell from another"
    fill = image.clone()
    for row, column in itertools.product(range(3), repeat=2):
        inside = torch.tensor([[(r, c) == (row, column) for c in cell(3, 64)] for r in cell(3, 64)])
        fill[:, inside] = image[:, inside].mean(1, keepdim=True)
    rows, scores, roots = [], [], []
    for coalition in kept.int().tolist():
        scores.append(float(model(removed(image, tuple(coalition), fill)[None])[0].softmax(0)[target]))
        cosine = sum(coalition) / (math.sqrt(sum(coalition)) * 3) if any(coalition) else 0.0
        roots.append(math.sqrt(math.sqrt(math.exp(-((1 - cosine) ** 2) / 0.25**2))))
        rows.append([*coalition, 1])
    design, root = np.array(rows, dtype=float), np.array(roots)
    penalty = np.sqrt(0.3) * np.eye(9, 10)  # of the constant term none
    left = np.concatenate([root[:, None] * design, penalty])
    right = np.concatenate([root * scores, np.zeros(9)])
    values = np.linalg.lstsq(left, right, rcond=None)[0][:9]
    ours = explainer(images[1:2], targets.T[1:2, :1])[0, 0]
    for region, value in enumerate(values):
        inside = torch.tensor([[row * 3 + column == region for column in cell(3, 64)] for row in cell(3, 64)])
        torch.testing.assert_close(ours[inside], torch.full_like(ours[inside], value), rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_neither_batches_nor_their_size_change_a_map(propagator, method):
    images, targets = inputs()
    images, targets = images[:2], targets.T[:2]
    whole = relmap.explain(propagator, images, targets, method, **METHODS[method])
    for batch, batch_size in ((1, 2), (7, 1)):
        found = relmap.explain(
            propagator, images, targets, method, **METHODS[method], batch=batch, batch_size=batch_size
        )
        torch.testing.assert_close(found, whole, rtol=1e-8, atol=1e-12)


def test_another_seed_draws_other_coalitions(propagator):
    for maker in (LIME, KernelSHAP):
        one, same, other = (maker(propagator, samples=50, side=5, seed=seed).coalitions() for seed in (0, 0, 1))
        assert torch.equal(one, same) and not torch.equal(one, other)


def test_superpixels():
    """Two colours: no region holds both; with one colour they are the grid; each image's are its own."""
    halves = torch.zeros(1, 3, 32, 32)
    halves[:, :, :, 20:] = 5
    found = regions_of(halves, "slic", 4)[0]
    for region in found.unique():
        assert halves[0, 0][found == region].unique().numel() == 1
    plain = torch.full((1, 3, 32, 32), 0.3)
    assert torch.equal(regions_of(plain, "slic", 4), regions_of(plain, "grid", 4))
    both = torch.cat([halves, inputs(torch.float32)[0][:1, :, :32, :32]])
    together = regions_of(both, "slic", 4)
    assert torch.equal(together[0], found) and torch.equal(together[1:], regions_of(both[1:], "slic", 4))
    assert sizes_of(together, 16).sum(1).tolist() == [1024.0, 1024.0]
    means = mean_colours(both, together, 16)
    inside = together[1] == together[1, 5, 5]
    torch.testing.assert_close(
        means[1][:, inside], both[1][:, inside].mean(1, keepdim=True).expand(-1, int(inside.sum()))
    )


@pytest.mark.parametrize(
    ("maker", "given", "words"),
    [
        (ScoreCAM, {"channels": 0}, "Score-CAM: channels is 0; give at least 1"),
        (ScoreCAM, {"batch": 0}, "Score-CAM: batch is 0"),
        (LIME, {"samples": 0}, "LIME: samples is 0; give at least 1"),
        (LIME, {"width": 0.0}, "LIME: width is 0.0"),
        (LIME, {"regions": "quickshift"}, "LIME: regions 'quickshift' is unknown; choose one of grid, slic"),
        (KernelSHAP, {"score": "sigmoid"}, "KernelSHAP: score 'sigmoid' is unknown; choose one of logit, softmax"),
        (KernelSHAP, {"fill": "blur"}, "KernelSHAP: fill 'blur' is unknown"),
        (KernelSHAP, {"samples": 30}, "30 samples do not tell 49 regions apart"),
    ],
)
def test_refusals(propagator, maker, given, words):
    with pytest.raises(InputError, match=words):
        maker(propagator, **given)


@pytest.mark.parametrize("maker", [ScoreCAM, LIME, KernelSHAP])
def test_only_pictures_have_regions(propagator, maker):
    with pytest.raises(InputError, match="give images"):
        maker(propagator)(torch.zeros(1, 3, 9, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.long))
    if maker is not ScoreCAM:
        with pytest.raises(InputError, match="give 1 to 4"):
            maker(propagator)(torch.zeros(1, 3, 4, 4, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.long))
