"""The energy-based pointing game against the released code's numbers, and against a slow statement of it."""

from pathlib import Path

import numpy as np
import pytest
import torch
from metric_cases import case_of, manifest_of, values_of
from relmap.data.images import Preprocessing
from relmap.errors import InputError
from relmap.evidence.values import image_scores
from relmap.metrics import energy_pointing as module
from relmap.metrics.energy_pointing import covered, energy_pointing, score

REFERENCE = Path(__file__).parent / "reference" / "metrics"


@pytest.fixture(scope="module")
def voc():
    """The synthetic VOC set of the vectors; rows of its 32 pairs."""
    arrays = dict(np.load(REFERENCE / "pointing_game.npz"))
    pictures = []
    for image, (height, width) in enumerate(arrays["sizes_hw"].tolist()):
        own = arrays["objects"][arrays["objects"][:, 0] == image]
        boxes = [[x0 - 1, y0 - 1, x1, y1] for x0, y0, x1, y1 in own[:, 2:6].astype(float).tolist()]
        flags = {"box_labels": own[:, 1].tolist(), "box_difficult": own[:, 6].astype(bool).tolist()}
        pictures.append({"height": height, "width": width, "labels": sorted(set(own[:, 1])), "boxes": boxes, **flags})
    pairs = []
    for image, target in arrays["pairs"].tolist():
        own = arrays["objects"][(arrays["objects"][:, 0] == image) & (arrays["objects"][:, 1] == target)]
        pairs.append((image, target, {"counted": bool((own[:, 6] == 0).any())}))
    case, maps = case_of(pictures, pairs, arrays["saliency"])
    case.manifest = manifest_of(pictures, 20)
    return arrays, score(case, "grad_cam", maps)


def test_pairs_of_the_vectors(voc):
    """What the released code counts as 0, a class with difficult boxes only, has no answer here."""
    arrays, rows = voc
    counted = arrays["pair_t15_all"] != 0
    got = np.array(values_of(rows, "energy_pointing"))
    assert np.isnan(got[~counted]).all() and (~counted).any() and (arrays["pair_energy_all"][~counted] == 0).all()
    np.testing.assert_allclose(got[counted], arrays["pair_energy_all"][counted], atol=1e-6)
    assert len(image_scores(rows, "voc2007", "vgg16")) == 32


@pytest.mark.parametrize("subset", ["all", "dif"])
def test_class_means_of_the_vectors(voc, subset):
    """Class means with their zeros for difficult boxes are the released ones; ours leave these out."""
    arrays, rows = voc
    chosen = arrays[f"pair_energy_{subset}"] >= 0
    own = rows.reset_index(drop=True)[chosen]
    theirs, ours = np.zeros(20), own.groupby("target")["value"].mean().dropna()
    means = own.fillna({"value": 0.0}).groupby("target")["value"].mean()
    theirs[means.index] = means
    np.testing.assert_allclose(theirs, arrays[f"class_acc_energy_{subset}"], atol=1e-6)
    np.testing.assert_allclose(theirs.mean(), arrays[f"acc_official_energy_{subset}"], atol=1e-6)
    assert (ours >= means[ours.index] - 1e-12).all() and ours.mean() > means.mean(), "no zeros among ours"


@pytest.mark.parametrize("region", ["bbox", "mask"])
def test_shares_of_the_vectors(region):
    """Six kinds of maps of eight images, at their own size; constant maps and maps of negative relevance are 0."""
    arrays, expected = np.load(REFERENCE / "maps.npz"), np.load(REFERENCE / "energy_pointing.npz")
    maps = torch.from_numpy(arrays["maps"]).flatten(0, 1)
    if region == "bbox":
        rectangles, owners = np.repeat(arrays["bbox_xyxy"], 6, axis=0), np.arange(48)
    else:  # each pixel of the masks is a rectangle
        owners, y, x = np.nonzero(np.repeat(arrays["masks"], 6, axis=0))
        rectangles = np.stack([x, y, x, y], axis=1)
    sizes = np.full((48, 2), 64)
    got = energy_pointing(maps, sizes, Preprocessing(64, 64, fit="squash"), rectangles, owners).reshape(8, 6)
    np.testing.assert_allclose(got, expected[f"epg_{region}_relu_minmax"], atol=1e-6)
    assert (got[:, 4:] == 0).all() and (got[:, :4] > 0).all()
    if region == "bbox":
        means = [got[arrays["labels"] == label, 2].mean() if label in arrays["labels"] else 0 for label in range(10)]
        np.testing.assert_allclose(means, expected["epg_class_acc_map2"], atol=1e-6)
        np.testing.assert_allclose(np.mean(means), expected["epg_acc_map2"], atol=1e-6)


def test_covered_restated_slowly():
    generator = np.random.default_rng(0)
    corners = generator.integers(-4, 14, (60, 2, 2))
    rectangles = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    rectangles[:3, 0] = rectangles[:3, 2] + 1  # without pixels
    owners = generator.integers(0, 5, 60)
    expected = np.zeros((6, 9, 11), dtype=bool)
    for (x0, y0, x1, y1), owner in zip(rectangles, owners, strict=True):
        expected[owner, max(y0, 0) : max(y1 + 1, 0), max(x0, 0) : max(x1 + 1, 0)] = True
    got = covered(rectangles, owners, (6, 9, 11))
    np.testing.assert_array_equal(got, expected)
    assert not got[5].any() and 0.2 < got[:5].double().mean() < 0.999


def test_crops_sizes_and_chunks(monkeypatch):
    """A map of a crop lies where the crop was; pictures of several sizes, in chunks of one."""
    seen = Preprocessing(10, 8)  # the shorter side to 10, of that the middle 8 x 8
    sizes = np.array([[20, 30], [40, 20], [20, 30], [20, 30]])
    maps = torch.zeros(4, 8, 8)
    maps[:3, 2:4, 1:3] = torch.tensor([[1.0, 3.0], [2.0, -5.0]])
    maps[3, 0, 0] = 1.0
    # A crop of 16 x 16 pixels from (8, 2) of the first, of 16 x 16 from (2, 12) of the second.
    rectangles = np.array([[0, 0, 10, 19], [0, 0, 19, 17], [0, 0, 29, 19], [0, 0, 6, 19], [0, 0, 6, 5]])
    owners = np.array([0, 1, 2, 3, 0])
    found = energy_pointing(maps, sizes, seen, rectangles, owners)
    assert found[2] == 1 and found[3] == 0 and 0 < found[0] < 1 and 0 < found[1] < 1
    slow = torch.nn.functional.interpolate(maps[:1, None].double(), (16, 16), mode="bilinear")[0, 0].clamp(min=0)
    np.testing.assert_allclose(found[0], slow[:, :3].sum() / slow.sum(), atol=1e-12)
    np.testing.assert_allclose(found[1], slow[:6].sum() / slow.sum(), atol=1e-12)
    monkeypatch.setattr(module, "_PIXELS_AT_ONCE", 1)
    np.testing.assert_allclose(energy_pointing(maps, sizes, seen, rectangles, owners), found, atol=1e-15)


def test_what_controls_get():
    """A factor changes nothing, nor does what is added to a positive map; a constant map is a miss at any size."""
    maps = torch.rand(3, 7, 7, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    sizes, seen = np.array([[50, 37]] * 3), Preprocessing(7, 7, fit="squash")
    rectangles, owners = np.array([[5, 5, 30, 40]] * 3), np.arange(3)
    given = (sizes, seen, rectangles, owners)
    base = energy_pointing(maps, *given)
    np.testing.assert_allclose(energy_pointing(maps * 7.3, *given), base, atol=1e-12)
    np.testing.assert_allclose(energy_pointing(maps + 2, *given), base, atol=1e-12)
    assert np.abs(energy_pointing(maps - 0.5, *given) - base).min() > 1e-3, "negative relevance is cut off"
    for value in (0.1, 1.0, 0.0, -0.7, 1e-30):
        assert (energy_pointing(torch.full((3, 7, 7), value, dtype=torch.float32), *given) == 0).all()
    with pytest.raises(InputError, match="map 0 contains NaN"):
        energy_pointing(maps / 0 * 0, *given)
