"""The CLA-layer against a literal float64 statement of Eq. 1 to 5, and its two forms against each other."""

import math

import pytest
import torch
from relmap.errors import InputError

from papers.clam.cla.layer import ClaLayer, best_positions
from papers.clam.cla.loss import balanced_contrastive_loss, paired
from papers.clam.cla.patterns import class_patterns
from papers.clam.cla.sub_features import Store, gather_patches, top_positions

FORMS = [
    {"normalisation": n, "add_on": a, "distance": d, "distance_over": over}
    for n in ("sub_feature", "position")
    for a in ("linear", "sigmoid")
    for d in ("squared_l2", "l2")
    for over in ("mean", "sum")
]


def literal_distances(layer, patch, pattern):
    """Distance maps of one (D, P, P) patch, by loops over every index of Eq. 2 and 3."""
    size, side, windows = layer.patch, layer.attribute_size, layer.windows
    whole = torch.cat([patch, pattern[None]])
    rms = whole.square().mean().sqrt()
    mapped = torch.empty(layer.second_weight.shape[0], size, size, dtype=torch.float64)
    for y in range(size):
        for x in range(size):
            vector = whole[:, y, x]
            norm = rms if layer.normalisation == "sub_feature" else vector.square().mean().sqrt()
            hidden = (layer.first_weight @ (vector / norm) + layer.first_bias).relu()
            out = layer.second_weight @ hidden + layer.second_bias
            mapped[:, y, x] = out.sigmoid() if layer.add_on == "sigmoid" else out
    result = torch.empty(len(layer.attributes), windows, windows, dtype=torch.float64)
    for i, attribute in enumerate(layer.attributes):
        for y in range(windows):
            for x in range(windows):
                squares = (mapped[:, y : y + side, x : x + side] - attribute).square()
                squares = squares.mean() if layer.distance_over == "mean" else squares.sum()
                result[i, y, x] = squares if layer.distance == "squared_l2" else math.sqrt(squares)
    return result


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.values()))
def test_distances_and_search_state_the_equations(form):
    torch.manual_seed(1)
    layer = ClaLayer(5, 3, 3, 2, **form, seed=3).double().requires_grad_(False)
    features, patterns = torch.rand(2, 5, 6, 7).double(), torch.randn(2, 3, 3).double()
    found = layer.search(features, patterns)
    assert found.shape == (2, 3, 4, 5)
    for image in range(2):
        for row, column in ((0, 0), (3, 4), (1, 2)):
            patch = features[image, :, row : row + 3, column : column + 3]
            expected = literal_distances(layer, patch, patterns[image])
            torch.testing.assert_close(found[image, :, row, column], expected.mean((1, 2)), atol=1e-6, rtol=1e-6)
            alone = layer(patch[None], patterns[image][None])[0]
            torch.testing.assert_close(alone, expected, atol=1e-6, rtol=1e-6)


def test_best_position_has_the_least_mean_distance():
    layer = ClaLayer(4, 3, 3, 1, seed=2).requires_grad_(False)
    features, patterns = torch.rand(2, 4, 6, 7), torch.randn(2, 3, 3)
    positions, maps = best_positions(layer, features, patterns)
    means = layer.search(features, patterns)
    assert maps.shape == (2, 3, 3, 3)
    for image in range(2):
        for attribute in range(3):
            row, column = positions[image, attribute].tolist()
            assert means[image, attribute, row, column] == means[image, attribute].min()
            patch = features[image, :, row : row + 3, column : column + 3]
            alone = layer(patch[None], patterns[image][None])[0, attribute]
            torch.testing.assert_close(maps[image, attribute], alone)


def test_a_pattern_tells_classes_apart():
    layer = ClaLayer(4, 2, 2, 1, seed=0)
    patches = torch.rand(1, 4, 2, 2)
    one, other = class_patterns("random", 2, 2, "layer", 0).split(1)
    assert not torch.allclose(layer(patches, one), layer(patches, other))


def test_top_positions_and_patches_follow_equation_1():
    relevance = torch.zeros(1, 2, 5, 5)
    relevance[0, 1, 3, 3] = 5.0
    relevance[0, 0, 0, 0] = 1.0
    # Patches (2, 2), (2, 3), (3, 2), (3, 3) hold the peak; their order is that of the raster.
    positions = top_positions(relevance, 2, 4)
    assert positions[0].tolist() == [[2, 2], [2, 3], [3, 2], [3, 3]]
    features = torch.arange(50.0).view(1, 2, 5, 5)
    patches = gather_patches(features, positions, 2)
    assert patches.shape == (1, 4, 2, 2, 2)
    assert torch.equal(patches[0, 1], features[0, :, 2:4, 3:5])


def test_a_full_disk_is_told_and_nothing_is_left(tmp_path, monkeypatch):
    with Store(2, 3, (4, 5), tmp_path) as store:
        store.values[1, 2] = 7.0
        assert store.values.shape == (2, 3, 4, 5) and store.values.sum() == 140
        assert len(list(tmp_path.iterdir())) == 1
    assert not list(tmp_path.iterdir())

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.posix_fallocate", full)
    with pytest.raises(InputError, match=r"no room for 0.2 GB of sub-features \(No space left on device\); set TMPDIR"):
        Store(2, 3, (10**7,), tmp_path)
    assert not list(tmp_path.iterdir())


def test_pooling_takes_the_maximum_over_channels_first():
    relevance = torch.zeros(1, 2, 3, 3)
    relevance[0, :, 0, 0] = torch.tensor([3.0, 3.0])
    relevance[0, 0, 2, 2] = 4.0
    assert top_positions(relevance, 1, 1)[0, 0].tolist() == [2, 2]


@pytest.mark.parametrize(
    ("reading", "reduce"),
    [
        ("max", lambda d: max(d[i, i].mean() for i in range(3))),
        ("mean", lambda d: sum(d[i, i].mean() for i in range(3)) / 3),
        ("max_of_sums", lambda d: max(sum(d[i, a].sum() for i in range(3)) / (3 * 2 * 2) for a in range(3))),
    ],
)
def test_loss_states_equations_4_and_5(reading, reduce):
    torch.manual_seed(0)
    positive, negative = torch.rand(2, 3, 3, 2, 2), torch.rand(2, 3, 3, 2, 2)
    for image in range(2):
        delta = 0.6 * reduce(positive[image]) - 0.4 * negative[image].sum() / (2 * 2 * 3**2)
        expected = torch.log(1 + torch.exp(0.1 * delta))
        found = balanced_contrastive_loss(positive, negative, 0.1, 0.6, reading)[image]
        torch.testing.assert_close(found, expected)
    assert paired(positive).shape == (2, 3)


@pytest.mark.parametrize("kind", ["random", "orthogonal"])
def test_patterns_are_seeded_unit_and_differ_by_class_and_layer(kind):
    patterns = class_patterns(kind, 12, 2, "features.28", 7)
    assert torch.equal(patterns, class_patterns(kind, 12, 2, "features.28", 7))
    torch.testing.assert_close(patterns.square().mean((1, 2)), torch.ones(12))
    assert not torch.equal(patterns, class_patterns(kind, 12, 2, "features.26", 7))
    if kind == "orthogonal":
        block = patterns[:4].flatten(1)
        torch.testing.assert_close(block @ block.T, 4 * torch.eye(4), atol=1e-5, rtol=0)
