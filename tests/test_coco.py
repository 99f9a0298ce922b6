"""COCO 2014: labels, boxes, masks of polygons and crowds, awkward files that pass and broken ones that are named."""

import json
import logging

import numpy as np
import pytest
import torch
from dataset_trees import picture, save
from PIL import Image
from relmap.data.counts import count_pairs
from relmap.data.formats.coco import read_coco
from relmap.data.images import Preprocessing, load_images, load_masks
from relmap.data.render import render_coco2014
from relmap.data.render.coco_writer import run_lengths
from relmap.data.runs import decode_runs
from relmap.errors import InputError

CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person"}, {"id": 90, "name": "toothbrush"}]
# Labels follow the ids.
PERSON, DOG, TOOTHBRUSH = range(3)
WHOLE = Preprocessing(30, 30)


def square(x, y, side):
    return [x, y, x + side, y, x + side, y + side, x, y + side]


def annotation(number, image, category, box, segmentation, crowd=0):
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": box,
        "segmentation": segmentation,
        "area": 1.0,
        "iscrowd": crowd,
    }


def crowd_of(*corners, width=40, height=30):
    mask = np.zeros((height, width), dtype=bool)
    for x, y, side in corners:
        mask[y : y + side, x : x + side] = True
    return run_lengths(mask)


TRAIN = [
    annotation(1, 9, 18, [1, 2, 10, 10], [square(1, 2, 10)]),
    annotation(2, 9, 1, [1, 2, 10, 10], [square(1, 2, 10)]),
    annotation(3, 9, 90, [1, 2, 10, 10], [square(1, 2, 10)]),
]
VAL = [
    annotation(1, 42, 18, [10, 5, 10, 10], [square(10, 5, 10)]),
    annotation(2, 42, 1, [20, 15, 10.5, 5.25], [square(20, 15, 4), square(26, 16, 4)]),
    annotation(3, 42, 18, [5, 20, 20, 6], crowd_of((5, 20, 6), (19, 20, 6)), crowd=1),
]


def write(root, val=VAL, train=TRAIN, images=(42, 73), categories=CATEGORIES):
    (root / "annotations").mkdir(parents=True, exist_ok=True)
    for folder, ids, annotations in (("train2014", (9,), train), ("val2014", images, val)):
        listed = []
        for number in ids:
            name = f"COCO_{folder}_{number:012d}.jpg"
            save(picture(seed=number), root / folder / name)
            listed.append({"id": number, "file_name": name, "width": 40, "height": 30})
        table = {"images": listed, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{folder}.json").write_text(json.dumps(table))
    return root


def test_labels_boxes_and_images_without_any(tmp_path):
    manifest = read_coco(write(tmp_path))
    assert manifest.info.class_names == ("person", "dog", "toothbrush") and manifest.info.class_ids == ("1", "18", "90")
    rows = {row.image_id: row for row in manifest.frame.itertuples()}
    row = rows["COCO_val2014_000000000042"]
    assert (row.split, row.labels, row.box_labels) == ("test", [PERSON, DOG], [DOG, PERSON, DOG])
    assert row.boxes == [[10, 5, 20, 15], [20, 15, 30.5, 20.25], [5, 20, 25, 26]]
    assert rows["COCO_val2014_000000000073"].labels == []
    train = rows["COCO_train2014_000000000009"]
    assert train.split == "train" and train.box_masks == ["", "", ""], "training needs no masks"
    counts = count_pairs(manifest)
    assert (counts["images"], counts["labelled_images"], counts["pairs"]) == (2, 1, 2)


def test_masks_are_the_union_of_polygons_and_crowds(tmp_path):
    manifest = read_coco(write(tmp_path))
    (row,) = (r for r in manifest.rows("test") if manifest.frame["labels"].iat[r])
    dog, person = np.zeros((2, 30, 40), dtype=bool)
    dog[5:15, 10:20] = True
    dog[20:26, 5:11] = dog[20:26, 19:25] = True
    person[15:19, 20:24] = person[16:20, 26:30] = True
    masks = manifest.frame["box_masks"].iat[row]
    assert (decode_runs([masks[0], masks[2]], 40, 30) == dog).all()
    assert (decode_runs(masks[1], 40, 30) == person).all()
    loaded = load_masks(manifest, [row, row], WHOLE, targets=[DOG, PERSON])
    assert (loaded.numpy() == np.stack([dog, person])[:, :, 5:35]).all()
    assert (load_masks(manifest, [row], WHOLE).numpy()[0] == (dog | person)[:, 5:35]).all()
    with pytest.raises(InputError, match="no segmentation mask of class 'toothbrush'; leave the pair out"):
        load_masks(manifest, [row], WHOLE, targets=[TOOTHBRUSH])
    doubled = load_masks(manifest, [row], Preprocessing(60, 60), targets=[DOG])[0]
    assert (doubled.numpy() == np.kron(dog, np.ones((2, 2), bool))[:, 10:70]).all(), "nearest"


def test_compressed_run_lengths_are_read_too(tmp_path):
    from pycocotools import mask as coco

    mask = np.zeros((30, 40), dtype=np.uint8)
    mask[3:9, 4:20] = 1
    encoded = coco.encode(np.asfortranarray(mask))
    crowd = {"size": [30, 40], "counts": encoded["counts"].decode()}
    manifest = read_coco(write(tmp_path, [annotation(5, 42, 1, [4, 3, 16, 6], crowd, 1)], images=(42,)))
    assert (decode_runs(manifest.frame["box_masks"].iat[manifest.rows("test")[0]], 40, 30) == mask.astype(bool)).all()


@pytest.mark.parametrize("compressed", [False, True])
def test_runs_of_no_length_are_read(tmp_path, compressed):
    """A code that says in several runs what it could in one is read as that one."""
    from pycocotools import mask as coco

    runs = {"size": [30, 40], "counts": [0, 30, 7, 3, 0, 5, 15, 0, 1140]}
    mask = np.zeros(1200, dtype=bool)
    mask[:30] = mask[37:45] = True
    if compressed:
        runs["counts"] = coco.frPyObjects(runs, 30, 40)["counts"].decode()
    manifest = read_coco(write(tmp_path, [annotation(5, 42, 1, [0, 0, 2, 30], runs, 1)], images=(42,)))
    code = manifest.frame["box_masks"].iat[manifest.rows("test")[0]]
    assert (decode_runs(code, 40, 30) == mask.reshape(40, 30).T).all()


@pytest.mark.parametrize(
    ("box", "edges"),
    [
        ([0, 5, 0, 10], [0, 5, 1, 15]),
        ([7.4, 5, 0, 10], [7, 5, 8, 15]),
        ([40, 5, 0, 10], [39, 5, 40, 15]),
        ([3, 30, 10, 0], [3, 29, 13, 30]),
        ([40, 30, 0, 0], [39, 29, 40, 30]),
    ],
)
def test_a_box_without_area_takes_the_pixels_that_it_touches(tmp_path, box, edges):
    manifest = read_coco(write(tmp_path, [annotation(5, 42, 1, box, [square(0, 0, 5)])], images=(42,)))
    assert manifest.frame["boxes"].iat[manifest.rows("test")[0]] == [edges]


NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ([[4, 3, None, 3, 9, 8]], "a polygon has NaN"),
        ([[4, 3, NAN, 3, 9, 8]], "a polygon has NaN"),
        ([[4, 3, INFINITY, 3, 9, 8]], "reaches far outside the image"),
        ([[4, 3, 1e12, 3, 9, 8]], "reaches far outside the image"),  # pycocotools would draw for ever
        ([[4, 3, "x", 3, 9, 8]], "a polygon is no list of numbers"),
        ([{"x": 4}], "a polygon is no list of numbers"),
        ([None], "a polygon is no list of numbers"),
        (square(4, 3, 5), "a polygon is no list of numbers"),
        ([[[4, 3], [9, 3], [9, 8]]], "a polygon is no list of numbers"),
        ([[4, 3, 9, 3, 9, 8, 4], square(4, 3, 5)], "a polygon has 7 numbers"),
        ({"size": [30, 40], "counts": [1300, -100]}, "run lengths are not all whole numbers from 0"),
        ({"size": [30, 40], "counts": [600.5, 599.5]}, "run lengths are not all whole numbers from 0"),
        ({"size": [30, 40], "counts": "abc"}, "a run-length code ends within a number"),
        ({"size": [30, 40], "counts": "ab 0"}, "' ' is no character of a run-length code"),
        ({"size": [30, 40], "counts": "0"}, "run lengths of 0 pixels in a picture of 1200"),
        ({"size": [30, 40], "counts": ""}, "run lengths of 0 pixels in a picture of 1200"),
        ({"size": [30, 40]}, "'counts'"),
    ],
)
def test_broken_masks_are_named(tmp_path, mask, message):
    write(tmp_path, [annotation(7, 42, 1, [4, 3, 5, 5], mask)])
    with pytest.raises(InputError, match=rf"val2014\.json: annotation 7 has no readable mask \(.*{message}"):
        read_coco(tmp_path)


@pytest.mark.parametrize("box", [[NAN, 3, 0, 5], [INFINITY, 3, 0, 5], [4, 3, 5, NAN], None, [4, 3, "x", 5]])
def test_broken_boxes_are_named(tmp_path, box):
    write(tmp_path, [annotation(7, 42, 1, box, [square(4, 3, 5)])])
    with pytest.raises(InputError, match=r"val2014\.json: annotation 7 has no box x, y, w, h"):
        read_coco(tmp_path)


@pytest.mark.parametrize(("key", "what"), [("images", "image 42"), ("categories", "category"), ("annotations", "ann")])
def test_ids_are_unique_and_whole(tmp_path, key, what):
    """Two with one id would hide each other; half of one would be another."""
    val = tables(write(tmp_path))[1]
    entries = json.loads(val.read_text())[key]
    change(val, **{key: [*entries, entries[0]]})
    with pytest.raises(InputError, match=rf"val2014\.json: lists {what}.* twice"):
        read_coco(tmp_path)
    change(val, **{key: [{**entries[0], "id": entries[0]["id"] + 0.5}, *entries[1:]]})
    with pytest.raises(InputError, match=r"val2014\.json: not COCO's table .*is no whole number"):
        read_coco(tmp_path)


def test_awkward_annotations_pass_and_are_counted(tmp_path, caplog):
    """Polygons under six numbers, a box without height, a reversed one, a border; grey, CMYK, a PNG named .jpg."""
    val = [
        annotation(1, 42, 18, [10, 5, 10, 10], [[1, 2, 3, 4], square(10, 5, 10)]),
        annotation(2, 42, 1, [20, 15, 4, 0], [[20, 15, 24, 15]]),
        annotation(3, 43, 18, [30, 20, -10, -5], [square(20, 15, 5)]),
        annotation(4, 43, 1, [0, 0, 40.4, 30], [square(0, 0, 30)]),
        annotation(5, 44, 1, [0, 0, 5, 5], [square(0, 0, 5)]),
    ]
    root = write(tmp_path, val, images=(42, 43, 44))
    save(picture().convert("L"), root / "val2014/COCO_val2014_000000000042.jpg")
    save(picture().convert("CMYK"), root / "val2014/COCO_val2014_000000000043.jpg")
    exif = Image.Exif()
    exif[274] = 6
    save(picture(), root / "val2014/COCO_val2014_000000000044.jpg", format="PNG", exif=exif)
    with caplog.at_level(logging.WARNING):
        manifest = read_coco(root)
    rows = {row.image_id[-2:]: row for row in manifest.frame.itertuples() if row.split == "test"}
    assert rows["42"].boxes == [[10, 5, 20, 15], [20, 15, 24, 16]]
    assert decode_runs(rows["42"].box_masks[0], 40, 30).sum() == 100 and rows["42"].box_masks[1] == ""
    assert rows["43"].boxes == [[20, 15, 30, 20], [0, 0, 40, 30]]
    for words in ("2 polygons under six", "1 boxes without width", "1 boxes with reversed", "1 annotations whose mask"):
        assert words in caplog.text
    assert torch.isfinite(load_masks(manifest, [rows["42"].Index], WHOLE, [DOG]).float()).all()
    with pytest.raises(InputError, match="no segmentation mask of class 'person'"):
        load_masks(manifest, [rows["42"].Index], WHOLE, [PERSON])


def tables(root):
    return [root / "annotations" / f"instances_{split}2014.json" for split in ("train", "val")]


def change(file, **values):
    table = json.loads(file.read_text())
    for key, value in values.items():
        if value is None:
            del table[key]
        else:
            table[key] = value
    file.write_text(json.dumps(table))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda train, val: val.unlink(), r"val2014\.json: missing; extract annotations_trainval2014\.zip"),
        (lambda train, val: val.write_text(val.read_text()[:-40]), r"val2014\.json: truncated or not JSON .*again"),
        (lambda train, val: val.write_text("[]"), r"val2014\.json: holds no table"),
        (lambda train, val: change(val, categories=None), r"val2014\.json: not COCO's table .*categories"),
        (lambda train, val: change(val, images=[], annotations=[]), r"val2014\.json: lists no image"),
        (lambda train, val: change(val, categories=CATEGORIES[:2]), r"val2014\.json: other categories than the train"),
        (
            lambda train, val: change(val, annotations=[annotation(7, 42, 5, [0, 0, 5, 5], [square(0, 0, 5)])]),
            "annotation 7 has category 5, which is not listed",
        ),
        (
            lambda train, val: change(val, annotations=[annotation(7, 44, 1, [0, 0, 5, 5], [square(0, 0, 5)])]),
            "annotation 7 is of image 44, which is not listed",
        ),
        (
            lambda train, val: change(val, annotations=[annotation(7, 42, 1, [50, 40, 5, 5], [square(0, 0, 5)])]),
            r"box \[50.0, 40.0, 55.0, 45.0\] .*no area inside the image",
        ),
        (
            lambda train, val: change(val, annotations=[annotation(7, 42, 1, [0, 0, 5], [square(0, 0, 5)])]),
            "annotation 7 has no box x, y, w, h",
        ),
        (
            lambda train, val: change(val, annotations=[annotation(7, 42, 1, [0, 0, 5, 5], crowd_of(width=41))]),
            r"annotation 7 has a mask of \[30, 41\]",
        ),
        (
            lambda train, val: change(
                val, annotations=[annotation(7, 42, 1, [0, 0, 5, 5], {"size": [30, 40], "counts": [7, 5]})]
            ),
            "annotation 7 has no readable mask .*12 pixels in a picture of 1200",
        ),
        (
            lambda train, val: change(val, annotations=[annotation(7, 42, 1, [0, 0, 5, 5], None)]),
            "annotation 7 has no readable mask",
        ),
        (
            lambda train, val: change(val, images=[{"id": 42, "file_name": "a.jpg", "width": 40}], annotations=[]),
            "image 42 lacks 'height'",
        ),
        (
            lambda train, val: save(picture(30, 40), val.parents[1] / "val2014/COCO_val2014_000000000042.jpg"),
            r"0042\.jpg: has 30 x 40 pixels, but .*lists 40 x 30",
        ),
        (
            lambda train, val: (val.parents[1] / "val2014/COCO_val2014_000000000042.jpg").unlink(),
            r"0042\.jpg: no such image",
        ),
        (
            lambda train, val: (val.parents[1] / "train2014/COCO_train2014_000000000009.jpg").unlink(),
            r"0009\.jpg: cannot be read",
        ),
        (lambda train, val: change(train, annotations=TRAIN[:1]), "class 'person' .*has no training images"),
    ],
)
def test_broken_files_are_named(tmp_path, damage, message):
    damage(*tables(write(tmp_path)))
    with pytest.raises(InputError, match=message) as caught:
        read_coco(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_training_picture_of_another_shape_is_named(tmp_path):
    """Training pictures are not opened for the manifest; where the fit keeps their shape, it must be the listed one."""
    manifest = read_coco(write(tmp_path))
    save(picture(50, 30), tmp_path / "train2014/COCO_train2014_000000000009.jpg")
    rows = manifest.rows("train")
    with pytest.raises(InputError, match=r"0009\.jpg: has 50 x 30 pixels, not those that its annotation says"):
        load_images(manifest, rows, Preprocessing(20, 20, fit="aspect"))
    with pytest.raises(InputError, match=r"0009\.jpg: was changed after the manifest was made"):
        load_images(manifest, rows, Preprocessing(20, 20))


def test_training_may_be_absent_where_nothing_is_trained(tmp_path):
    write(tmp_path)
    tables(tmp_path)[0].unlink()
    assert len(read_coco(tmp_path, require_training=False)) == 2
    with pytest.raises(InputError, match=r"train2014\.json: missing"):
        read_coco(tmp_path)
    with pytest.raises(InputError, match=r"remove `datasets\.coco2014\.classes`"):
        read_coco(tmp_path, classes={"dog": "dog"})


def test_the_rendered_one_is_read_by_the_same_reader(tmp_path):
    render_coco2014(tmp_path / "coco", classes=4, train=24, val=8, size=48, seed=3)
    manifest = read_coco(tmp_path / "coco")
    assert len(manifest.rows("train")) == 24 and len(manifest.rows("test")) == 8
    rows = manifest.frame.iloc[manifest.rows("test")]
    assert all(all(masks) for masks in rows["box_masks"])
