"""Cascading randomisation, and the similarities of maps that it measures by."""

import copy

import numpy as np
import pytest
import torch
from metric_cases import case_of, values_of
from reference_nets import inputs, network
from relmap.catalogue.methods import find
from relmap.errors import InputError
from relmap.evidence.values import image_scores
from relmap.explanation import explain
from relmap.metrics.cascade import layers_from_the_output, randomise, randomised_maps, score, stage_levels
from relmap.metrics.similarity import rank_correlation, structural_similarity
from scipy.stats import kstest, spearmanr
from torch import nn


def pairs_of_maps():
    """Smooth, noisy, tied and nearly equal maps, (20, 16, 18) each."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(20, 16, 18, generator=generator)
    second = torch.lerp(first, torch.randn(20, 16, 18, generator=generator), torch.linspace(0, 1, 20).view(-1, 1, 1))
    first[5:10], second[5:10] = first[5:10].round(), second[5:10].round()
    first[10:15] = first[10:15].clamp(min=0)
    return first, second


def test_rank_correlation_restated():
    first, second = pairs_of_maps()
    expected = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rank_correlation(first, second), expected, atol=1e-10)


def slow_ssim(a, b):
    """Wang et al. 2004, Eq. 13 to 17, window by window in float64."""
    scaled = [(m.astype(np.float64) - m.min()) / (float(m.max()) - float(m.min())) for m in (a, b)]
    offsets = np.arange(-5, 6)
    weights = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * 1.5**2))
    weights /= weights.sum()
    values = []
    for y in range(a.shape[0] - 10):
        for x in range(a.shape[1] - 10):
            p, q = (m[y : y + 11, x : x + 11] for m in scaled)
            mp, mq = (weights * p).sum(), (weights * q).sum()
            vp, vq = (weights * (p - mp) ** 2).sum(), (weights * (q - mq) ** 2).sum()
            cov = (weights * (p - mp) * (q - mq)).sum()
            numerator = (2 * mp * mq + 1e-4) * (2 * cov + 9e-4)
            values.append(numerator / ((mp**2 + mq**2 + 1e-4) * (vp + vq + 9e-4)))
    return np.mean(values)


def test_structural_similarity_restated():
    first, second = pairs_of_maps()
    expected = [slow_ssim(a, b) for a, b in zip(first.numpy(), second.numpy(), strict=True)]
    np.testing.assert_allclose(structural_similarity(first, second), expected, atol=1e-10)
    assert structural_similarity(first, first).allclose(torch.ones(20, dtype=torch.float64))


def test_controls_of_similarity():
    """A turned map is ranked the other way round, and is itself by absolute values; a constant map ranks nothing."""
    first, second = pairs_of_maps()
    assert rank_correlation(first, -first).allclose(-torch.ones(20, dtype=torch.float64))
    assert rank_correlation(first.abs(), (-first).abs()).allclose(torch.ones(20, dtype=torch.float64))
    constant = torch.full_like(first, 0.1)
    assert (rank_correlation(first, constant) == 0).all() and (rank_correlation(constant, constant + 1) == 1).all()
    assert structural_similarity(constant, constant + 1).allclose(torch.ones(20, dtype=torch.float64))
    # Neither changes with scale and origin.
    for similarity in (rank_correlation, structural_similarity):
        torch.testing.assert_close(similarity(first.double() * 3 - 1, second), similarity(first, second))
        with pytest.raises(InputError, match="map 0 contains NaN"):
            similarity(first / 0, second)
        with pytest.raises(ValueError, match="must both be"):
            similarity(first, second[:3])
    with pytest.raises(InputError, match="smaller than SSIM's window"):
        structural_similarity(torch.rand(1, 10, 20), torch.rand(1, 10, 20))


def test_layers_come_from_the_output():
    """VGG has the 16 stages of AE's Figure 7; batch norms are layers; attention's weights belong to it."""
    image = inputs(torch.float32)[0][:1]
    vgg = layers_from_the_output(network("vgg16", torch.float32), image)
    assert len(vgg) == 16 and vgg[0] == ["classifier.6.weight", "classifier.6.bias"]
    assert vgg[-1] == ["features.0.weight", "features.0.bias"]
    resnet = layers_from_the_output(network("resnet50", torch.float32), image)
    assert [names[0] for names in resnet[:3]] == ["fc.weight", "layer4.2.bn3.weight", "layer4.2.conv3.weight"]
    assert len(resnet) == 107 and resnet[-1] == ["conv1.weight"]
    for model in (network("vit", torch.float32), network("resnet50", torch.float32)):
        found = [name for names in layers_from_the_output(model, image) for name in names]
        assert sorted(found) == sorted(name for name, _ in model.named_parameters())
    vit = layers_from_the_output(network("vit", torch.float32), image)
    assert vit[-1] == ["class_token"]
    attention = next(names for names in vit if names[0].endswith("self_attention.in_proj_weight"))
    assert len(attention) == 4, "its output's weights are used, not called"


def test_random_weights():
    """Xavier's bounds, biases in [0, 1], vectors as diagonals; by name and seed alone; statistics stay."""
    model = nn.Sequential(nn.Conv2d(3, 40, 5), nn.BatchNorm2d(40), nn.Conv2d(40, 8, 3), nn.Conv2d(40, 8, 3)).eval()
    statistics = model[1].running_var.clone()
    other = copy.deepcopy(model)
    randomise(model, ["0.weight", "0.bias", "1.weight", "1.bias"], 0)
    bound = (6 / (25 * (3 + 40))) ** 0.5
    weight = model[0].weight
    assert weight.abs().max() <= bound and (model[0].bias >= 0).all() and (model[0].bias <= 1).all()
    # Of a uniform distribution: Kolmogorov and Smirnov's test on many weights and biases.
    large = nn.Linear(40, 4000)
    randomise(large, ["weight", "bias"], 0)
    edge = (6 / (40 + 4000)) ** 0.5
    assert kstest(large.weight.detach().flatten().numpy(), "uniform", (-edge, 2 * edge)).pvalue > 0.01
    assert kstest(large.bias.detach().numpy(), "uniform").pvalue > 0.01
    assert kstest(weight.detach().flatten().numpy(), "uniform", (-bound, 2 * bound)).pvalue > 0.01
    assert 1 < model[1].weight.abs().max() <= 3**0.5 and torch.equal(model[1].running_var, statistics)
    assert torch.equal(model[2].weight, other[2].weight), "what is not named stays"
    randomise(other.double(), ["1.bias", "0.weight"], 0)
    assert torch.equal(other[0].weight.float(), weight), "neither order nor type matters"
    randomise(other, ["2.weight", "3.weight"], 0)
    assert not torch.equal(other[2].weight, other[3].weight), "equal shapes, other names"
    randomise(other, ["0.weight"], 1)
    assert not torch.equal(other[0].weight.float(), weight)


def test_stage_levels():
    assert stage_levels(16, None) == list(range(1, 17)) == stage_levels(16, 20)
    assert stage_levels(16, 6) == [1, 4, 7, 10, 13, 16] and stage_levels(107, 1) == [107]


def test_stages_nest_and_the_model_stays():
    """Stage s is the network whose last s layers are random: explained anew, layer by layer; the model is untouched."""
    images, targets = (part[..., :2, :, :, :] if part.dim() == 4 else part[0, :2] for part in inputs(torch.float32))
    model, method = network("vgg16", torch.float32), find("input_x_gradient")
    before = copy.deepcopy(model.state_dict())
    found = dict(randomised_maps(model, method, images, targets, 4, seed=3))
    assert list(found) == [1, 6, 11, 16]
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    for level, maps in found.items():
        copied = copy.deepcopy(model).double()
        for names in layers_from_the_output(copied, images[:1].double())[:level]:
            randomise(copied, names, 3)
        torch.testing.assert_close(maps, explain(copied, images.double(), targets, method))
    few = dict(randomised_maps(model, method, images, targets, 4, seed=3, batch_size=1))
    for level, maps in few.items():
        torch.testing.assert_close(maps, found[level])


@pytest.fixture(scope="module")
def scored():
    """Rows of a gradient, of a map that asks the network nothing, and of two constant ones, on four images."""
    images, targets = inputs(torch.float32)
    model, names = network("vgg16", torch.float32), ["input_x_gradient", "centre_gaussian", "constant"]
    methods, rows = {name: find(name) for name in names}, []
    for name in names:
        maps = explain(model, images[:4], targets[0, :4], methods[name])
        pictures = [{"width": 64, "height": 64, "labels": [int(t)]} for t in targets[0, :4]]
        pairs = [(i, int(t), {}) for i, t in enumerate(targets[0, :4])]
        settings = {"cascade": {"images": 3, "stages": 3}}
        case, stored = case_of(pictures, pairs, maps, settings, model=model, methods=methods, seed=1)
        case.where("image_id in ['p0', 'p1', 'p2']").images = images[:3]
        rows.append(score(case, name, stored))
    return case, stored, rows


def test_what_asks_the_network_changes_and_what_does_not_stays(scored):
    _, _, (gradient, blob, constant) = scored
    for rows in (blob, constant):
        assert len(rows) == 4 * 3 * 3 and np.allclose(rows["value"], 1)
    assert sorted(set(gradient["level"])) == [1, 8, 16] and set(gradient["image_id"]) == {"p0", "p1", "p2"}
    signed = np.array(values_of(gradient, "cascade_rank_signed")).reshape(3, 3)
    absolute = np.array(values_of(gradient, "cascade_rank_absolute")).reshape(3, 3)
    # One random layer turns a map round or not, image by image; a network of random weights leaves no order of signs,
    # and by absolute values no more than that a picture is grey where it is grey.
    assert signed[:, 0].min() < -0.8 and absolute[:, 0].min() > 0.7
    assert np.abs(signed[:, 2]).max() < 0.1 and 0.2 < absolute[:, 2].min() <= absolute[:, 2].max() < 0.4
    assert np.array(values_of(gradient, "cascade_ssim_signed")).max() < 0.95
    assert image_scores(gradient, "imagenet", "vgg16")["metric"].nunique() == 4


def test_a_method_without_a_row_is_refused(scored):
    case, stored, _ = scored
    with pytest.raises(InputError, match="no row of method rise is known"):
        score(case, "rise", stored)
    with pytest.raises(InputError, match="has no parameters"):
        list(randomised_maps(nn.Flatten(), find("saliency"), torch.rand(1, 3, 4, 4), torch.tensor([0])))
