"""Insertion before a blurred background against the reference vectors, prediction by prediction."""

from pathlib import Path

import numpy as np
import pytest
import torch
from metric_cases import case_of, values_of
from reference_nets import inputs, network
from relmap.errors import InputError
from relmap.evidence.values import image_scores
from relmap.metrics.insertion_blur import gaussian_blur, insertion_predictions, pixels_at, score
from torch import nn

REFERENCE = Path(__file__).parent / "reference" / "metrics"
COUNTS = [pixels_at(percent, 64 * 64) for percent in range(21)]
FILTERS = {
    "A_blur11s5": (11, 5.0, "blurred"),
    "A_blur51s50": (51, 50.0, "blurred"),
    "B_blank_blur11s5": (11, 5.0, "blank"),
}


@pytest.fixture(scope="module")
def shared():
    images, targets = inputs(torch.float32)
    maps = torch.from_numpy(np.load(REFERENCE / "maps.npz")["maps"]).transpose(0, 1)
    return images, targets[0], maps, np.load(REFERENCE / "morf_insertion_blur.npz")


class Keep(nn.Module):
    """Predicts from a few fixed pixels, and keeps what it saw."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.clone(memory_format=torch.contiguous_format))
        return x[:, 0].flatten(1)[:, :5] + x[:, 1].flatten(1)[:, -5:]


@pytest.mark.parametrize("variant", FILTERS)
def test_reference_vectors(shared, variant):
    """Eight images, six maps (one of them constant: ties), 21 shares: every prediction and curve."""
    images, labels, maps, expected = shared
    np.testing.assert_array_equal(expected["n_inserted"], COUNTS)
    repeated, model = images.repeat(6, 1, 1, 1), network("vgg16", torch.float32)
    got = insertion_predictions(model, repeated, maps.flatten(0, 1), COUNTS, *FILTERS[variant]).view(6, 8, 21)
    np.testing.assert_array_equal(got.transpose(0, 1), expected[f"{variant}_pred"])
    right = (got == labels.view(1, -1, 1)).double()
    np.testing.assert_allclose(right.mean(1), expected[f"{variant}_acc_curve"], atol=1e-6)
    clean = (model(images).argmax(1) == labels).double().mean()
    np.testing.assert_allclose(right.mean(1) / clean, expected[f"{variant}_rel_acc_curve"], atol=1e-6)


@pytest.mark.parametrize("variant", FILTERS)
def test_what_the_model_sees(shared, variant):
    images, _, maps, expected = shared
    kernel, sigma, background = FILTERS[variant]
    model = Keep()
    insertion_predictions(model, images[:1], maps[2, :1], [COUNTS[5], COUNTS[20]], kernel, sigma, background)
    np.testing.assert_allclose(torch.cat(model.seen), expected[f"{variant}_img0_map2_p5_p20"], atol=1e-5)
    if f"{variant}_background" in expected:
        theirs = expected[f"{variant}_background"]
        np.testing.assert_allclose(gaussian_blur(images[:2], kernel, sigma), theirs, atol=1e-5)


def test_blur_restated_slowly():
    """A weighted mean over 5 x 7 neighbours' reflections, at every pixel, in float64."""
    image = torch.randn(1, 2, 6, 9, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    offsets = np.arange(-2, 3)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.3**2))
    weights /= weights.sum()
    padded = np.pad(image[0].numpy(), ((0, 0), (2, 2), (2, 2)), mode="reflect")
    expected = [[[(one[y : y + 5, x : x + 5] * weights).sum() for x in range(9)] for y in range(6)] for one in padded]
    np.testing.assert_allclose(gaussian_blur(image, 5, 1.3)[0], expected, atol=1e-12)
    constant = torch.full((1, 1, 6, 9), 0.7, dtype=torch.float64)
    np.testing.assert_allclose(gaussian_blur(constant, 5, 1.3), constant, atol=1e-12)


@pytest.mark.parametrize("background", ["blurred", "blank"])
def test_independent_of_the_batch(shared, background):
    images, _, maps, _ = shared
    model = Keep()
    arguments = (model, images[:5], maps[3, :5], [0, 10, 200, 3000], 11, 5.0, background)
    together = insertion_predictions(*arguments, batch_size=1000)
    seen = torch.cat(model.seen)
    for size in (1, 3, 7):
        model.seen.clear()
        assert torch.equal(insertion_predictions(*arguments, batch_size=size), together)
        torch.testing.assert_close(torch.cat(model.seen), seen, atol=1e-6, rtol=0)
        assert [len(batch) for batch in model.seen[:-1]] == [size] * (len(model.seen) - 1)


def test_ends_and_ties(shared):
    """Nothing inserted: the background alone. Everything: the picture. A tie comes in raster order, or at once."""
    images, _, _, _ = shared
    constant, model = torch.zeros(1, 64, 64), Keep()
    insertion_predictions(model, images[:1], constant, [0, 64, 4096])
    background, row, everything = torch.cat(model.seen)
    assert torch.equal(background, gaussian_blur(images[:1], 11, 5.0)[0]) and torch.equal(everything, images[0])
    assert torch.equal(row[:, 0], images[0, :, 0]) and torch.equal(row[:, 1:], background[:, 1:])
    model.seen.clear()
    insertion_predictions(model, images[:1], constant, [0, 1], ties="at_once")
    assert torch.equal(torch.cat(model.seen)[0], background), "no pixel wanted, none given"
    assert torch.equal(torch.cat(model.seen)[1], images[0]), "a constant map shows all with its first pixel"


def test_numbers_of_pixels():
    assert [pixels_at(percent, 50176) for percent in (0, 1, 20)] == [0, 502, 10035]
    assert [pixels_at(percent, 50) for percent in (1, 3, 5)] == [1, 2, 3], "halves up"
    with pytest.raises(InputError, match="105 %"):
        pixels_at(105, 100)


def test_rows(shared):
    """Right is a label of the picture, whatever the target; the column is the mean over 1 to 20 percent."""
    images, labels, maps, expected = shared
    settings = {"insertion": {"steps": 20, "percent": 1, "kernel": 11, "sigma": 5.0, "background": "blurred"}}
    pictures = [{"width": 64, "height": 64, "labels": [int(label)]} for label in labels]
    pairs = [(i, int(label) if i else 9, {"correct": i != 3}) for i, label in enumerate(labels)]
    model = network("vgg16", torch.float32)
    case, stored = case_of(pictures, pairs, maps[2], settings | {"ties": "strict"}, model=model)
    case.images = images
    rows = score(case, "grad_cam", stored)
    theirs = expected["A_blur11s5_pred"][:, 2] == labels.numpy()[:, None]
    got = np.array(values_of(rows, "insertion_correct")).reshape(8, 21)
    np.testing.assert_array_equal(got, theirs)
    assert values_of(rows, "insertion_clean") == [1, 1, 1, 0, 1, 1, 1, 1]
    values = image_scores(rows, "imagenet", "vgg16").set_index("metric")["value"]
    np.testing.assert_allclose(values["insertion_accuracy"], theirs[:, 1:].mean(1))
    assert values["insertion_clean_accuracy"].mean() == 7 / 8


def test_bad_arguments(shared):
    images, _, maps, _ = shared
    images, relevance = images[:1], maps[0, :1]
    with pytest.raises(ValueError, match="do not fit"):
        insertion_predictions(Keep(), images, relevance[:, :5], [1])
    with pytest.raises(InputError, match=r"insertion\.background"):
        insertion_predictions(Keep(), images, relevance, [1], background="black")
    with pytest.raises(InputError, match="map 0 contains NaN"):
        insertion_predictions(Keep(), images, relevance / 0, [1])
    for kernel, sigma in ((10, 5.0), (11, 0.0), (129, 5.0)):
        with pytest.raises(InputError, match="give an odd kernel of less than"):
            insertion_predictions(Keep(), images, relevance, [1], kernel, sigma)
