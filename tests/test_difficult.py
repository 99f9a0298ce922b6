"""The difficult subset of the pointing game, on scenes made by hand for every clause of its rule."""

import numpy as np
import pytest
from dataset_trees import picture, save
from relmap.data.counts import count_pairs, differences
from relmap.data.difficult import pair_flags, union_area
from relmap.data.manifest import build_manifest
from relmap.data.runs import area_of, decode_runs, encode_mask

WIDTH, HEIGHT = 40, 20  # a quarter is 200 pixels
SMALL = [0, 0, 10, 10]  # 100 pixels
OTHER = [30, 10, 40, 20]
COUNTED, DIFFICULT = (True, False), (True, True)
NEITHER = (False, False)


def scene(root, *objects, masks=None):
    """A manifest of one test picture of (class, box, difficult)."""
    save(picture(WIDTH, HEIGHT), root / "a.png")
    row = {
        "image_id": "a",
        "path": "a.png",
        "split": "test",
        "labels": sorted({label for label, *_ in objects}),
        "boxes": [list(map(float, box)) for _, box, _ in objects],
        "box_labels": [label for label, *_ in objects],
        "box_difficult": [difficult for *_, difficult in objects],
        "width": WIDTH,
        "height": HEIGHT,
    }
    if masks is not None:
        row["box_masks"] = masks
    return build_manifest("toy", root, [row], ["a", "b", "c"], require_labels=False, require_training=False)


@pytest.mark.parametrize(
    ("objects", "expected"),
    [
        # All three clauses hold for both classes.
        ([(0, SMALL, False), (1, OTHER, False)], {0: DIFFICULT, 1: DIFFICULT}),
        # 1: the class has difficult objects only. Then it is no other class for class 1 either, which is clause 2.
        ([(0, SMALL, True), (1, OTHER, False)], {0: NEITHER, 1: COUNTED}),
        ([(0, SMALL, True), (1, OTHER, True)], {0: NEITHER, 1: NEITHER}),
        # 2: no other class at all, or two objects of one class.
        ([(0, SMALL, False)], {0: COUNTED}),
        ([(0, SMALL, False), (0, OTHER, False)], {0: COUNTED}),
        # 2: a third class that is plain is enough, beside one that is difficult.
        ([(0, SMALL, False), (1, OTHER, True), (2, OTHER, False)], {0: DIFFICULT, 1: NEITHER, 2: DIFFICULT}),
        # 3: a quarter is not less than a quarter; one column less is.
        ([(0, [0, 0, 20, 10], False), (1, OTHER, False)], {0: COUNTED, 1: DIFFICULT}),
        ([(0, [0, 0, 19, 10], False), (1, OTHER, False)], {0: DIFFICULT, 1: DIFFICULT}),
        # 3: the union, not the sum: twice 120 pixels that share 100 are 140.
        ([(0, [0, 0, 12, 10], False), (0, [2, 0, 14, 10], False), (1, OTHER, False)], {0: DIFFICULT, 1: DIFFICULT}),
        # 3: boxes apart add up.
        ([(0, [0, 0, 12, 10], False), (0, [12, 0, 24, 10], False), (1, OTHER, False)], {0: COUNTED, 1: DIFFICULT}),
        # 3: difficult boxes of the class count in the area: without them it would be difficult.
        ([(0, SMALL, False), (0, [10, 0, 22, 10], True), (1, OTHER, False)], {0: COUNTED, 1: DIFFICULT}),
        ([], {}),
    ],
)
def test_every_clause(tmp_path, objects, expected):
    assert pair_flags(scene(tmp_path, *objects), 0) == expected


def test_corners_of_voc_are_inclusive(tmp_path):
    """xmin 1, xmax 20, ymin 1, ymax 10 of 40 x 20 are 200 pixels, a quarter; without the last ones they were 171."""
    xmin, ymin, xmax, ymax = 1, 1, 20, 10
    box = [xmin - 1, ymin - 1, xmax, ymax]
    assert pair_flags(scene(tmp_path, (0, box, False), (1, OTHER, False)), 0)[0] == COUNTED


def test_union_area_is_that_of_a_raster():
    rng = np.random.default_rng(0)
    for count in (1, 2, 5, 9):
        corners = rng.integers(0, 30, (count, 2, 2))
        boxes = np.concatenate([corners.min(1), corners.max(1) + 1], axis=1)
        raster = np.zeros((31, 31), dtype=bool)
        for x0, y0, x1, y1 in boxes:
            raster[y0:y1, x0:x1] = True
        assert union_area(boxes) == raster.sum()
    assert union_area([[0.5, 0.25, 1.0, 1.0], [0.75, 0.5, 2.0, 0.75]]) == pytest.approx(0.375 + 0.25)


def test_by_masks_the_pixels_of_the_mask_count(tmp_path):
    """A box of half the image whose mask, with a crowd's, covers 180 pixels; by boxes it is not difficult."""
    one, two = np.zeros((2, HEIGHT, WIDTH), dtype=bool)
    one[:8, :15], two[4:12, :15] = True, True
    assert (one | two).sum() == 180 and one.sum() + two.sum() == 240
    objects = [(0, [0, 0, 20, 20], False), (0, [0, 4, 15, 12], False), (1, OTHER, False)]
    other = np.zeros((HEIGHT, WIDTH), dtype=bool)
    other[10:, 30:] = True
    manifest = scene(tmp_path, *objects, masks=[encode_mask(one), encode_mask(two), encode_mask(other)])
    assert pair_flags(manifest, 0) == {0: COUNTED, 1: DIFFICULT}
    assert pair_flags(manifest, 0, "masks") == {0: DIFFICULT, 1: DIFFICULT}
    without = scene(tmp_path, *objects, masks=[encode_mask(one), "", encode_mask(other)])
    assert pair_flags(without, 0, "masks") == {0: COUNTED, 1: DIFFICULT}, "a box without mask: the boxes count"
    assert pair_flags(scene(tmp_path), 0, "masks") == {}


def test_run_lengths_come_back():
    masks = np.random.default_rng(1).random((3, 7, 5)) < 0.4
    runs = [encode_mask(mask) for mask in masks]
    assert (decode_runs(runs[0], 5, 7) == masks[0]).all()
    assert (decode_runs(runs, 5, 7) == masks.any(0)).all()
    assert area_of(runs, 5, 7) == masks.any(0).sum() and area_of([], 5, 7) == 0


def test_counts_of_a_data_set_and_what_differs(tmp_path):
    counts = count_pairs(scene(tmp_path, (0, SMALL, False), (1, OTHER, False), (1, OTHER, True), (2, SMALL, True)))
    assert counts == {
        "images": 1,
        "labelled_images": 1,
        "objects": 4,
        "plain_objects": 2,
        "pairs": 3,
        "counted_pairs": 2,
        "difficult_pairs": 2,
        "difficult_images": 1,
    }
    assert differences(counts, {"pairs": 3, "counted_pairs": 2}) == []
    assert differences(counts, {"pairs": 3, "difficult_pairs": 5}) == [
        "difficult pairs: 2 where the published data set has 5"
    ]
