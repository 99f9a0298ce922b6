"""Map densities against the reference vectors, and the accuracy beside them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from metric_cases import case_of, values_of
from reference_nets import inputs, network
from relmap.errors import InputError
from relmap.evidence.values import image_scores
from relmap.metrics import accuracy
from relmap.metrics.density import densities, score

REFERENCE = Path(__file__).parent / "reference" / "metrics"
VARYING = [0, 1, 2, 3, 5]


@pytest.fixture(scope="module")
def shared():
    """Images, labels, maps (8, 6, 64, 64), of which place 4 is constant, and the numbers."""
    images, targets = inputs(torch.float32)
    maps = torch.from_numpy(np.load(REFERENCE / "maps.npz")["maps"])
    return images, targets[0], maps, np.load(REFERENCE / "segmentation_density.npz")


def test_densities_of_the_vectors(shared):
    """The constant map has a definition of its own: the vectors have none of D+ there, and D- of M = 0."""
    images, labels, maps, expected = shared
    model = network("vgg16", torch.float32)
    owner = torch.arange(8).repeat_interleave(6)
    found = densities(model, images[owner], maps.flatten(0, 1), labels[owner]).view(8, 6, 2)
    for place, name in enumerate(("density_pos", "density_neg")):
        np.testing.assert_allclose(found[:, VARYING, place], expected[name][:, VARYING], rtol=2e-5)
    assert np.isnan(expected["density_pos"][:, 4]).all()
    with torch.no_grad():
        half = 2 * model(images / 2).softmax(1).gather(1, labels.unsqueeze(1)).double()
    np.testing.assert_allclose(found[:, 4], half.expand(8, 2), rtol=1e-5)


def test_restated_slowly_and_whatever_the_batch(shared):
    images, labels, maps, _ = shared
    images, maps = images[:3, :, :, :48].double(), maps[:3, 3, :, :48]
    model = network("vgg16", torch.float64)
    expected = []
    for image, relevance, label in zip(images, maps.double(), labels, strict=False):
        mask = (relevance - relevance.min()) / (relevance.max() - relevance.min())
        probabilities = [model((image * part)[None]).softmax(1)[0, label] for part in (mask, 1 - mask)]
        expected.append([p / part.sum() * 64 * 48 for p, part in zip(probabilities, (mask, 1 - mask), strict=True)])
    for size in (1, 4, 64):
        np.testing.assert_allclose(densities(model, images, maps, labels[:3], size), expected, rtol=1e-10)
    turned = densities(model, images.flip(0), maps.flip(0) * 3 - 1, labels[:3].flip(0))
    np.testing.assert_allclose(turned.flip(0), expected, rtol=1e-5)


def test_bounds(shared):
    """One pixel of 1, or all but one: the sums that divide are 1, and nothing is infinite."""
    images, labels, _, _ = shared
    point = torch.zeros(1, 64, 64)
    point[0, 20, 30] = 1
    both = densities(
        network("vgg16", torch.float32), images[:1].repeat(2, 1, 1, 1), torch.cat([point, -point]), labels[[0, 0]]
    )
    assert both.isfinite().all() and (both <= 4096).all() and torch.equal(both[0], both[1].flip(0))


def test_rows(shared):
    images, labels, maps, expected = shared
    pictures = [{"width": 64, "height": 64, "labels": [int(label)]} for label in labels]
    pairs = [(i, int(label), {"correct": i != 2}) for i, label in enumerate(labels)]
    case, stored = case_of(pictures, pairs, maps[:, 1], model=network("vgg16", torch.float32))
    case.images = images
    rows = score(case, "saliency", stored)
    np.testing.assert_allclose(values_of(rows, "positive_density"), expected["density_pos"][:, 1], rtol=2e-5)
    np.testing.assert_allclose(values_of(rows, "negative_density"), expected["density_neg"][:, 1], rtol=2e-5)
    assert set(image_scores(rows, "imagenet", "vgg16")["metric"]) == {"positive_density", "negative_density"}
    right = accuracy.score(case, "saliency", stored)
    assert values_of(right, "accuracy") == [1, 1, 0, 1, 1, 1, 1, 1]
    assert image_scores(right, "imagenet", "vgg16")["value"].mean() == 7 / 8


def test_bad_arguments(shared):
    images, labels, maps, _ = shared
    with pytest.raises(ValueError, match="do not fit"):
        densities(torch.nn.Identity(), images, maps[:, 0, :5], labels)
    with pytest.raises(InputError, match="map 0 contains NaN"):
        densities(torch.nn.Identity(), images, maps[:, 0] / 0, labels)
