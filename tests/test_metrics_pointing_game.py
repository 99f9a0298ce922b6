"""The pointing game against TorchRay's numbers, and against a slow statement of it."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from metric_cases import case_of, manifest_of, values_of
from pycocotools import mask as coco
from relmap.data.images import Preprocessing
from relmap.data.regions import boxes_of, column_runs, pixels_of, region_of
from relmap.errors import InputError
from relmap.evidence.values import image_scores
from relmap.metrics import pointing_game
from relmap.metrics.pointing_game import (
    from_rectangles,
    points_in_pictures,
    points_of,
    radius_of,
    score,
    squared_distances,
)

REFERENCE = Path(__file__).parent / "reference" / "metrics"
TORCHRAY, SCALED = ({"pointing_game": {"radius": kind}} for kind in ("torchray", "scaled"))


def coded(region):
    """A mask as COCO packs it, in text."""
    return coco.encode(np.asfortranarray(region.astype(np.uint8)))["counts"].decode("ascii")


@pytest.fixture(scope="module")
def voc():
    """The synthetic VOC set of the vectors: 16 pictures, 37 objects, 32 pairs, of which some are only difficult."""
    arrays = dict(np.load(REFERENCE / "pointing_game.npz"))
    pictures = []
    for image, (height, width) in enumerate(arrays["sizes_hw"]):
        own = arrays["objects"][arrays["objects"][:, 0] == image]
        pictures.append(
            {
                "height": int(height),
                "width": int(width),
                "labels": sorted(set(own[:, 1].tolist())),
                "boxes": [[x0 - 1, y0 - 1, x1, y1] for x0, y0, x1, y1 in own[:, 2:6].astype(float).tolist()],
                "box_labels": own[:, 1].tolist(),
                "box_difficult": own[:, 6].astype(bool).tolist(),
            }
        )
    pairs = []
    for image, target in arrays["pairs"].tolist():
        flags = zip(pictures[image]["box_labels"], pictures[image]["box_difficult"], strict=True)
        counted = any(label == target and not difficult for label, difficult in flags)
        pairs.append((image, target, {"counted": counted}))
    return arrays, pictures, pairs


@pytest.fixture(scope="module")
def rows(voc):
    arrays, pictures, pairs = voc
    case, maps = case_of(pictures, pairs, arrays["saliency"], TORCHRAY)
    case.manifest = manifest_of(pictures, 20)
    return case, score(case, "grad_cam", maps)


def test_points_and_hits_of_the_vectors(voc, rows):
    """Every point, and every hit, miss and skipped pair, within 15 pixels and on the very pixel."""
    arrays, _, _ = voc
    sizes = arrays["sizes_hw"][arrays["pairs"][:, 0]]
    points = points_in_pictures(torch.from_numpy(arrays["saliency"]), sizes, Preprocessing(14, 14, fit="squash"))
    np.testing.assert_array_equal(points, arrays["points_xy"])
    for name, theirs in (("pointing_game", "pair_t15_all"), ("pointing_game_radius0", "pair_t1_all")):
        got = np.array(values_of(rows[1], name))
        expected = np.select([arrays[theirs] > 0, arrays[theirs] < 0], [1.0, 0.0], np.nan)
        np.testing.assert_array_equal(got, expected)
    assert (arrays["pair_t15_all"] == 0).any(), "some pair has difficult boxes only"


@pytest.mark.parametrize("radius, name", [("t15", "pointing_game"), ("t1", "pointing_game_radius0")])
@pytest.mark.parametrize("subset", ["all", "dif"])
def test_class_means_of_the_vectors(voc, rows, radius, name, subset):
    """Hits over hits and misses of each class, then the mean: over the classes that have a pair, and over all 20."""
    arrays, _, _ = voc
    own = rows[1][rows[1]["metric"] == name].reset_index(drop=True)
    if subset == "dif":
        image, target = arrays["pairs"].T
        own = own[arrays["difficult_flags"][image, target] | ~arrays["image_in_difficult_list"][image]]
    means = own.groupby("target")["value"].mean().dropna()
    classes = np.zeros(20)
    classes[means.index] = means
    np.testing.assert_allclose(classes, arrays[f"class_acc_{radius}_{subset}"], atol=1e-6)
    np.testing.assert_allclose(means.mean(), arrays[f"acc_present_{radius}_{subset}"], atol=1e-6)
    np.testing.assert_allclose(classes.mean(), arrays[f"acc_official_{radius}_{subset}"], atol=1e-6)


def test_rows_are_what_tables_read(rows):
    scores = image_scores(rows[1], "voc2007", "vgg16")
    assert set(scores["metric"]) == {"pointing_game", "pointing_game_radius0", "pointing_game_with_absent"}
    assert len(scores) == 3 * 32


def test_masks_of_the_vectors():
    """Six points in each of eight images' masks."""
    arrays, stored = np.load(REFERENCE / "pointing_game.npz"), np.load(REFERENCE / "maps.npz")
    points, masks = arrays["mask_points_xy"].reshape(48, 2), np.repeat(stored["masks"], 6, axis=0)
    runs = [column_runs(mask) for mask in masks]
    owners = np.repeat(np.arange(48), [len(one) for one in runs])
    distance = squared_distances(points, np.concatenate(runs), owners).reshape(8, 6)
    for radius in (15, 1):
        theirs = arrays[f"mask_hit_tol{radius}"]
        np.testing.assert_array_equal(np.where(distance < radius**2, 1, -1), theirs)


@pytest.mark.parametrize("radius", [0, 1, 2, 15])
def test_the_radius_is_not_reached_itself(radius):
    """One pixel of region at (20, 20): which of 41 x 41 points hit, of a mask and of a box of one pixel."""
    expected = np.load(REFERENCE / "pointing_game.npz")[f"geom_hit_tol{radius}"] > 0
    region = np.zeros((41, 41), dtype=bool)
    region[20, 20] = True
    points = np.stack(np.meshgrid(np.arange(41), np.arange(41)), axis=-1).reshape(-1, 2)
    runs = np.broadcast_to(column_runs(region), (1681, 4))
    by_mask = squared_distances(points, runs, np.arange(1681)) < radius**2
    by_box = from_rectangles(points, np.full((1681, 4), 20)) < radius**2
    np.testing.assert_array_equal(by_mask.reshape(41, 41), expected)
    np.testing.assert_array_equal(by_box.reshape(41, 41), expected)
    assert bool(expected[20, 35]) is False, "15 pixels away is a miss"


def resized_slowly(relevance, height, width):
    """Bilinear resize in float64, by its definition: centres on centres, edges repeated."""

    def axis(size, new):
        places = np.clip((np.arange(new) + 0.5) * size / new - 0.5, 0, size - 1)
        low = np.minimum(np.floor(places).astype(int), size - 1)
        return low, np.minimum(low + 1, size - 1), places - low

    top, bottom, down = axis(relevance.shape[0], height)
    left, right, across = axis(relevance.shape[1], width)
    upper = relevance[top][:, left] * (1 - across) + relevance[top][:, right] * across
    lower = relevance[bottom][:, left] * (1 - across) + relevance[bottom][:, right] * across
    return upper * (1 - down)[:, None] + lower * down[:, None]


def test_restated_slowly():
    """Random boxes and masks of several classes, pictures of several sizes: resize, first maximum, nearest pixel."""
    draw = np.random.default_rng(0)
    pictures, pairs = [], []
    for image in range(24):
        width, height = (int(side) for side in draw.integers(30, 60, 2))
        corners = draw.uniform(0, [width, height] * 2, (3, 4))
        boxes = np.concatenate(
            [np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1
        )
        masks = [coded(draw.random((height, width)) < 0.004) if image % 2 else "" for _ in boxes]
        picture = {"width": width, "height": height, "labels": [0, 1], "box_labels": [0, 1, 1]}
        pictures.append({**picture, "boxes": boxes.tolist(), "box_difficult": [False] * 3, "box_masks": masks})
        pairs += [(image, 0, {}), (image, 1, {})]
    maps = draw.normal(size=(48, 12, 12))
    case, stored = case_of(pictures, pairs, maps, SCALED)
    got = np.array(values_of(score(case, "grad_cam", stored), "pointing_game"))
    for place, (image, target, _) in enumerate(pairs):
        region = region_of(case.manifest, image, target)
        height, width = region.shape
        row, column = divmod(int(resized_slowly(stored.maps[place].astype(float), height, width).argmax()), width)
        lines, columns = np.nonzero(region)
        near = (lines - row) ** 2 + (columns - column) ** 2 < max(1, 0.03 * min(height, width)) ** 2
        assert got[place] == near.any()
    assert 0.1 < got.mean() < 0.9


def test_a_region_is_masks_or_else_boxes():
    """A class with a mask has its masks alone; one without has its boxes, difficult ones included."""
    first, second = np.zeros((2, 6, 8), dtype=bool)
    first[1, 2:4], second[4:, 5] = True, True
    picture = {
        "width": 8,
        "height": 6,
        "boxes": [[2, 1, 4, 2], [5, 4, 6, 6], [0, 0, 8, 6], [0.4, 0.4, 2.6, 1.5], [6, 3, 8, 6]],
        "box_labels": [0, 0, 0, 1, 1],
        "box_difficult": [False, False, False, False, True],
        "box_masks": [coded(first), coded(second), "", "", ""],
    }
    manifest = manifest_of([picture])
    np.testing.assert_array_equal(region_of(manifest, 0, 0), first | second)
    expected = np.zeros((6, 8), dtype=bool)
    expected[0:1, 0:3], expected[3:6, 6:8] = True, True
    np.testing.assert_array_equal(region_of(manifest, 0, 1), expected)
    assert pixels_of(boxes_of(manifest, 0, 1)).tolist() == [[0, 0, 2, 0], [6, 3, 7, 5]]
    with pytest.raises(InputError, match="no box and no mask of class 'class 2'"):
        region_of(manifest, 0, 2)
    without = manifest_of([{**picture, "box_masks": [""] * 5}])
    assert region_of(without, 0, 0).all(), "boxes alone, where a manifest knows no masks"


def test_a_box_between_pixel_centres_holds_none():
    empty = pixels_of(np.array([[1.6, 0.0, 2.4, 3.0]]))
    assert from_rectangles(np.array([[2, 1]]), empty).tolist() == [np.inf]
    assert not region_of(
        manifest_of([{"width": 4, "height": 4, "boxes": [[1.6, 0, 2.4, 3]], "box_labels": [0]}]), 0, 0
    ).any()


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 1.0])
def test_masks_are_unpacked_as_coco_packs_them(share):
    draw = np.random.default_rng(3)
    for height, width in ((1, 1), (7, 5), (300, 200)):
        mask = draw.random((height, width)) < share
        mask[: height // 2] = draw.random() < 0.5
        picture = {"width": width, "height": height, "boxes": [[0, 0, 1, 1]], "box_labels": [0]}
        np.testing.assert_array_equal(region_of(manifest_of([picture | {"box_masks": [coded(mask)]}]), 0, 0), mask)


@pytest.mark.parametrize("code", ["é", "P", "0", coded(np.eye(8)), coded(np.eye(10))])
def test_a_mask_of_another_picture_is_refused(code):
    picture = {"width": 9, "height": 9, "boxes": [[0, 0, 1, 1]], "box_labels": [0], "box_masks": [code]}
    with pytest.raises(InputError, match=r"p0\.png: a mask is no run-length code of 9 x 9"):
        region_of(manifest_of([picture]), 0, 0)


def test_a_centre_crop_lies_where_it_was():
    """200 x 100, shorter side to 50, centre 50: the crop shows columns 50 to 150; the map's corner is column 50."""
    maps = torch.zeros(2, 50, 50)
    maps[0, 0, 0] = maps[1, 49, 49] = 1
    points = points_in_pictures(maps, np.array([[100, 200]] * 2), Preprocessing(50, 50))
    assert points.tolist() == [[50, 0], [149, 99]]


def test_absent_classes_and_difficult_ones_are_no_pairs():
    """Present and counted: hit or miss. Only difficult: no answer. Predicted but absent: a miss where those count."""
    picture = {"width": 20, "height": 20, "boxes": [[0, 0, 5, 5], [10, 10, 12, 12]], "box_labels": [0, 1]}
    picture |= {"box_difficult": [False, True]}
    hot = np.zeros((3, 20, 20))
    hot[:, 2, 2] = 1
    pairs = [(0, 0, {}), (0, 1, {"counted": False}), (0, 2, {"present": False, "counted": False})]
    case, maps = case_of([picture], pairs, hot, TORCHRAY)
    rows = score(case, "grad_cam", maps)
    np.testing.assert_array_equal(values_of(rows, "pointing_game"), [1, np.nan, np.nan])
    np.testing.assert_array_equal(values_of(rows, "pointing_game_radius0"), [1, np.nan, np.nan])
    np.testing.assert_array_equal(values_of(rows, "pointing_game_with_absent"), [1, np.nan, 0])


@pytest.mark.parametrize("constant", [0.0, 0.1, -7.3, 1e-7, 12345.678])
def test_controls(constant):
    """What knows nothing: a constant map points at the corner, a blob at the centre; all-negative maps still point."""
    centre = torch.arange(12.0).sub(5.5).square()
    blob = -(centre[:, None] + centre)
    negative = torch.full((12, 12), -2.0)
    negative[3, 9] = -1
    ties = torch.zeros(12, 12)
    ties[4, 8] = ties[8, 4] = 1
    maps = torch.stack([torch.full((12, 12), constant), blob, negative, ties])
    assert points_of(maps, 12, 12).tolist() == [[0, 0], [5, 5], [9, 3], [8, 4]]
    assert points_of(maps[:1], 47, 31).tolist() == [[0, 0]]
    column, row = points_of(maps[1:2], 36, 48)[0].tolist()
    assert abs(column - 23.5) <= 2.5 and abs(row - 17.5) <= 2.5


def exact_point(relevance, height, width):
    """The first maximum of the resized map, in fractions: column and row."""

    def axis(size, new):
        places = [min(max(Fraction(2 * i + 1, 2) * size / new - Fraction(1, 2), 0), size - 1) for i in range(new)]
        return [(int(place), min(int(place) + 1, size - 1), place - int(place)) for place in places]

    values = [[Fraction(value) for value in line] for line in relevance.tolist()]
    lines = [
        [upper * (1 - down) + lower * down for upper, lower in zip(values[top], values[bottom], strict=True)]
        for top, bottom, down in axis(relevance.shape[0], height)
    ]
    across = axis(relevance.shape[1], width)
    found = [line[left] * (1 - part) + line[right] * part for line in lines for left, right, part in across]
    row, column = divmod(found.index(max(found)), width)
    return [column, row]


@pytest.mark.parametrize("top", ["clipped", "rounded"])
def test_a_flat_top_points_at_its_first_pixel(top):
    """Clipped and rounded maps have many equal maxima; interpolation in float32 took any of them."""
    draw = np.random.default_rng(2)
    for _ in range(12):
        (low, wide), (height, width) = draw.integers(3, 8, 2).tolist(), draw.integers(9, 24, 2).tolist()
        relevance = draw.normal(size=(low, wide))
        relevance = np.minimum(relevance, 0.3) if top == "clipped" else relevance.round() * 0.1
        relevance = relevance.astype(np.float32)
        got = points_of(torch.from_numpy(relevance)[None], height, width)[0].tolist()
        assert got == exact_point(relevance, height, width)


@pytest.mark.parametrize("ulps", [1, 3])
def test_a_map_enlarged_in_single_precision_points_where_it_does_without_rounding(ulps):
    """The maximum of a coarse map at the edge becomes a flat strip, which another batch rounds otherwise."""
    draw = np.random.default_rng(5)
    parted = 0
    for _ in range(20):
        coarse = torch.from_numpy(draw.random((4, 4)).astype(np.float32))
        coarse[draw.integers(4), 3] = 1.5
        enlarged = F.interpolate(coarse[None, None], (64, 64), mode="bilinear", align_corners=False)[0, 0]
        noise = torch.from_numpy(draw.integers(-ulps, ulps + 1, (64, 64)).astype(np.float32)) * 2.0**-23
        noisy = enlarged * (1 + noise)
        wanted = exact_point(coarse.double().numpy(), 64, 64)
        assert points_of(noisy[None], 64, 64)[0].tolist() == points_of(enlarged[None], 64, 64)[0].tolist() == wanted
        parted += int(noisy.argmax()) != wanted[1] * 64 + wanted[0]
    assert parted > 10, "the maximum alone would have gone elsewhere"


def test_a_maximum_that_is_a_little_higher_is_found():
    maps = torch.full((1, 9, 9), 0.5)
    maps[0, 1, 1], maps[0, 7, 6] = 1.0, 1.00001
    assert points_of(maps, 9, 9).tolist() == [[6, 7]]


def test_a_low_pixel_elsewhere_does_not_hide_the_maximum():
    maps = torch.full((1, 5, 5), 1e-3)
    maps[0, 0, 0], maps[0, 3, 2] = -1e20, 2e-3
    assert points_of(maps, 5, 5).tolist() == [[2, 3]]


def test_radius():
    sizes = np.array([[375, 500], [500, 500], [20, 90]])
    assert radius_of(sizes, "torchray").tolist() == [15, 15, 15]
    np.testing.assert_allclose(radius_of(sizes, "scaled"), [11.25, 15, 1])
    with pytest.raises(InputError, match=r"evaluation\.pointing_game\.radius"):
        radius_of(sizes, "none")


def test_independent_of_chunks(voc, monkeypatch):
    arrays, _, _ = voc
    maps, sizes = torch.from_numpy(arrays["saliency"]), arrays["sizes_hw"][arrays["pairs"][:, 0]]
    together = points_in_pictures(maps, sizes, Preprocessing(14, 14, fit="squash"))
    monkeypatch.setattr(pointing_game, "_PIXELS_AT_ONCE", 1)
    np.testing.assert_array_equal(points_in_pictures(maps, sizes, Preprocessing(14, 14, fit="squash")), together)


def test_a_map_that_is_not_finite_is_refused():
    with pytest.raises(InputError, match="map 1 contains NaN"):
        points_of(torch.tensor([0.0, torch.nan]).view(2, 1, 1).expand(2, 4, 4), 8, 8)


def test_runs_down_columns_cover_a_mask_and_nothing_else():
    draw = np.random.default_rng(3)
    for share in (0.0, 0.1, 0.5, 1.0):
        region = draw.random((7, 9)) < share
        covered = np.zeros_like(region)
        for left, top, right, bottom in column_runs(region):
            assert left == right and not covered[top : bottom + 1, left].any(), "each pixel once"
            covered[top : bottom + 1, left] = True
        np.testing.assert_array_equal(covered, region)


def test_distances_are_exact_however_far():
    region = np.zeros((40, 40), dtype=bool)
    region[10, 10] = True
    picture = {"width": 40, "height": 40, "boxes": [[10, 10, 11, 11]], "box_labels": [0], "box_masks": [coded(region)]}
    case, _ = case_of([picture] * 2, [(0, 0, {}), (1, 0, {})], np.zeros((2, 4, 4)))
    points = np.array([[10, 14], [10, 30]])
    assert squared_distances(points, *case.regions).tolist() == [16, 400]
