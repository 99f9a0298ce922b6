"""Perturbing LeRF against the reference vectors, prediction by prediction."""

from pathlib import Path

import numpy as np
import pytest
import torch
from metric_cases import case_of
from relmap.metrics.lerf import filler_values, lerf_correct, lerf_predictions, pixels_at, removal_steps, score
from safetensors.torch import load_file
from torch import nn

REFERENCE = Path(__file__).parent / "reference"


@pytest.fixture(scope="module")
def vgg16s():
    """The shared VGG-16 at one eighth of its width, written out here so that the metric is tested alone."""
    widths, layers, channels = [8, 8, 0, 16, 16, 0, 32, 32, 32, 0, 64, 64, 64, 0, 64, 64, 64, 0], [], 3
    for width in widths:
        layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()] if width else [nn.MaxPool2d(2)]
        channels = width or channels
    head = [
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(128, 128),
        nn.ReLU(),
        nn.Dropout(),
        nn.Linear(128, 10),
    ]
    model = nn.Sequential()
    model.add_module("features", nn.Sequential(*layers))
    model.add_module("flatten", nn.Flatten())  # the features are 2 x 2 already
    model.add_module("classifier", nn.Sequential(*head))
    model.load_state_dict(load_file(REFERENCE / "nets" / "vgg16s.safetensors"))
    return model.eval()


@pytest.fixture(scope="module")
def shared():
    inputs, arrays = np.load(REFERENCE / "nets" / "inputs.npz"), np.load(REFERENCE / "metrics" / "maps.npz")
    maps = torch.from_numpy(arrays["maps"]).transpose(0, 1).contiguous()
    return torch.from_numpy(inputs["normalised"]), torch.from_numpy(inputs["labels"]), maps


def test_the_network_is_the_reference_network(vgg16s, shared):
    with torch.inference_mode():
        logits = vgg16s(shared[0])
    np.testing.assert_allclose(logits, np.load(REFERENCE / "metrics" / "maps.npz")["logits"], atol=1e-4)


@pytest.mark.parametrize("filler", ["zero", "black"])
def test_reference_vectors(vgg16s, shared, filler):
    """Eight images, six maps (one of them constant: ties), a hundred steps: every prediction."""
    images, labels, maps = shared
    expected = np.load(REFERENCE / "metrics" / "clam_lerf.npz")
    values = filler_values({"zero": "mean", "black": "black"}[filler], (0.5,) * 3, (0.25,) * 3)
    pixels = pixels_at(200, 224, 64)
    got = lerf_predictions(vgg16s, images, maps, 100, pixels, values, batch_size=64)
    np.testing.assert_array_equal(got.permute(1, 0, 2), expected[f"{filler}_pred"][:, :, 1:])
    np.testing.assert_array_equal(np.arange(101) * pixels, expected["n_removed"])
    right = (got == labels.view(1, -1, 1)).double()
    np.testing.assert_allclose(right[:, :, -1].mean(1), expected[f"{filler}_last"], atol=1e-6)
    np.testing.assert_allclose(right.mean((1, 2)), expected[f"{filler}_mean"], atol=1e-6)


class Recorder(nn.Module):
    """Predicts from a few fixed pixels and keeps the batch sizes that it saw."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, x):
        self.batches.append(len(x))
        return x[:, 0].flatten(1)[:, :5] + x[:, 1].flatten(1)[:, -5:]


def test_independent_of_chunks_and_full_batches_only():
    generator = torch.Generator().manual_seed(1)
    images, maps = torch.randn(5, 3, 6, 6, generator=generator), torch.randn(3, 5, 6, 6, generator=generator)
    model = Recorder()
    whole = lerf_predictions(model, images, maps, 7, 4, batch_size=1000)
    assert model.batches == [105]
    model.batches.clear()
    assert torch.equal(lerf_predictions(model, images, maps, 7, 4, batch_size=16), whole)
    assert model.batches == [16] * 6 + [9]
    for method in range(3):
        assert torch.equal(lerf_predictions(model, images, maps[method], 7, 4, batch_size=10), whole[method])


def test_what_the_model_sees():
    """Step t holds the image without its t * p lowest pixels, the filler in their place, in every channel."""
    seen = []

    class Keep(nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return x.flatten(1)

    generator = torch.Generator().manual_seed(2)
    images, relevance = torch.randn(2, 3, 4, 4, generator=generator), torch.randn(2, 4, 4, generator=generator)
    filler = torch.tensor([7.0, 8.0, 9.0])
    lerf_predictions(Keep(), images, relevance, 3, 5, filler, batch_size=4)
    seen = torch.cat(seen).view(2, 3, 3, 16)
    for image in range(2):
        order = relevance[image].flatten().argsort()
        for step in range(1, 4):
            expected = images[image].flatten(1).clone()
            expected[:, order[: 5 * step]] = filler[:, None]
            assert torch.equal(seen[image, step - 1], expected)


def test_correct_and_ties():
    images, labels = torch.rand(2, 3, 4, 4) + 1, torch.tensor([0, 3])
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 5))
    relevance = torch.zeros(2, 4, 4)
    predicted = lerf_predictions(model, images, relevance, 4, 2)
    assert torch.equal(lerf_correct(model, images, relevance, labels, 4, 2), predicted == labels[:, None])
    assert removal_steps(relevance, 2)[0].flatten().tolist() == [1 + i // 2 for i in range(16)]


def test_scaling_by_area():
    assert [pixels_at(200, 224, size) for size in (224, 112, 64, 4)] == [200, 50, 16, 1]


def test_bad_arguments():
    images, model = torch.zeros(1, 3, 4, 4), nn.Flatten()
    with pytest.raises(ValueError, match="remove more than"):
        lerf_predictions(model, images, torch.zeros(1, 4, 4), 4, 5)
    with pytest.raises(ValueError, match="do not fit"):
        lerf_predictions(model, images, torch.zeros(2, 4, 4), 1, 1)
    with pytest.raises(ValueError, match="unknown filler"):
        filler_values("grey", (0.5,), (0.5,))


@pytest.mark.parametrize(("images", "counted"), [(None, {6}), (3, {2, 3}), (99, {6})])
def test_pictures_come_in_parts_and_no_more_than_asked_for(monkeypatch, images, counted):
    """Rows are the same however many pictures are in memory at once."""
    drawn = torch.rand(7, 3, 4, 4, generator=torch.Generator().manual_seed(2)) - 0.5
    asked = []

    def load(manifest, rows, preprocessing, workers):
        asked.append(len(rows))
        return drawn[torch.as_tensor(rows)]

    monkeypatch.setattr("relmap.metrics.case.load_images", load)
    model = nn.Sequential(nn.Flatten(), nn.Linear(48, 4))
    maps = np.random.default_rng(1).random((7, 4, 4))
    settings = {
        "lerf": {"images": images, "steps": 4, "pixels": 2, "reference_size": 4, "fill": "mean"},
        "ties": "strict",
    }
    found = []
    for at_once in (1024, 2):
        monkeypatch.setattr("relmap.metrics.lerf.AT_ONCE", at_once)
        pictures = [{"width": 4, "height": 4, "labels": [k % 4]} for k in range(7)]
        wrong = {"correct": False}
        case, stored = case_of(
            pictures, [(k, k % 4, wrong if k == 5 else {}) for k in range(7)], maps, settings, model=model
        )
        found.append(score(case, "some", stored))
        assert max(asked[-1:]) <= at_once
    assert found[0].equals(found[1])
    assert found[0]["image_id"].nunique() in counted and "p5" not in set(found[0]["image_id"])
