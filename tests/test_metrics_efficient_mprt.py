"""Efficient MPRT: the entropy of a map's histogram, before and without what was learnt."""

import copy

import numpy as np
import pytest
import torch
from metric_cases import case_of, values_of
from reference_nets import inputs, network
from relmap.catalogue.methods import find
from relmap.errors import InputError
from relmap.explanation import explain
from relmap.metrics.cascade import layers_from_the_output, randomise
from relmap.metrics.efficient_mprt import histogram_entropy, relative_rise, score
from scipy.stats import entropy

METHODS = {name: find(name) for name in ("input_x_gradient", "constant", "edges")}


def a_case(maps, images=2):
    model, (pictures, targets) = network("vgg16", torch.float32), inputs(torch.float32)
    settings = {"efficient_mprt": {"images": images}}
    of_pairs = [(k, int(targets[0, k]), {}) for k in range(3)]
    described = [{"width": 64, "height": 64, "labels": [0]} for _ in range(3)]
    case, stored = case_of(described, of_pairs, maps, settings, model=model, methods=METHODS, seed=5)
    case.of_first_images(images).__dict__["images"] = pictures[:images]
    return case, stored


def test_entropy_is_that_of_numpy_s_histogram():
    maps = torch.randn(5, 40, 30, generator=torch.Generator().manual_seed(0))
    maps[1] = maps[1].round()
    maps[2] = maps[2].clamp(min=0)
    expected = [entropy(np.histogram(one.double().numpy().ravel(), bins=100)[0]) for one in maps]
    np.testing.assert_allclose(histogram_entropy(maps), expected, rtol=1e-12)
    assert histogram_entropy(torch.full((1, 4, 4), 0.1)) == 0
    torch.testing.assert_close(histogram_entropy(4 * maps), histogram_entropy(maps))
    uniform = torch.arange(10_000.0, dtype=torch.float64).view(1, 100, 100)
    assert histogram_entropy(uniform).item() == pytest.approx(np.log(100), abs=1e-3)
    with pytest.raises(InputError, match="map 0 contains NaN"):
        histogram_entropy(torch.full((1, 2, 2), torch.nan))


def test_the_rise_restated():
    model, (pictures, targets) = network("vgg16", torch.float64), inputs(torch.float64)
    before = explain(model, pictures[:3], targets[0, :3], "input_x_gradient")
    other = copy.deepcopy(model)
    for layer in layers_from_the_output(other, pictures[:1]):
        randomise(other, layer, 5)
    after = explain(other, pictures[:3], targets[0, :3], "input_x_gradient")
    expected = []
    for first, second in zip(before.float().numpy(), after.float().numpy(), strict=True):
        start, end = (entropy(np.histogram(one.astype(np.float64).ravel(), bins=100)[0]) for one in (first, second))
        expected.append((end - start) / start)
    for images, batch_size in ((2, 64), (2, 1)):
        case, stored = a_case(before.numpy(), images)
        case.batch_size = batch_size
        rows = score(case, "input_x_gradient", stored)
        np.testing.assert_allclose(values_of(rows, "efficient_mprt"), expected[:images], atol=2e-3)


def test_what_sees_no_network_does_not_rise():
    case, stored = a_case(np.ones((3, 64, 64)))
    assert values_of(score(case, "constant", stored), "efficient_mprt") == [0.0, 0.0]
    case, _ = a_case(np.ones((3, 64, 64)))
    edges = explain(case.model, inputs(torch.float32)[0][:3], inputs()[1][0, :3], "edges")
    case, stored = a_case(edges.numpy())
    np.testing.assert_allclose(values_of(score(case, "edges", stored), "efficient_mprt"), 0, atol=1e-3)
    with pytest.raises(InputError, match="no row of method saliency"):
        score(case, "saliency", stored)
    assert relative_rise(torch.tensor([0.0, 2.0]), torch.tensor([1.0, 3.0])).tolist() == [0.0, 0.5]
