"""Rendered scenes of several objects: what they show, and the layouts of VOC 2007 and COCO 2014."""

import json
import math
import re

import numpy as np
import pytest
from defusedxml import ElementTree
from PIL import Image
from pycocotools import mask as coco
from relmap.data.difficult import union_area
from relmap.data.render import render_coco2014, render_voc2007, render_voc2012
from relmap.data.render.catalogue import CLASSES
from relmap.data.render.coco_writer import category_id, run_lengths
from relmap.data.render.jobs import generator, tight_box
from relmap.data.render.multi_scenes import most_classes, render_multi_scene, scene_classes
from relmap.data.render.outlines import outlines
from relmap.errors import InputError
from scipy import ndimage

VOC = {"classes": 5, "train": 9, "test": 4, "size": 40, "seed": 2}
VOC2012 = {"classes": 5, "train": 9, "val": 4, "size": 40, "seed": 2}
COCO = {"classes": 5, "train": 9, "val": 50, "size": 40, "seed": 2}


@pytest.fixture(scope="module")
def scenes():
    return [render_multi_scene(scene_classes(16), generator(0, 3, 0, index), 64, 0) for index in range(120)]


@pytest.fixture(scope="module")
def voc(tmp_path_factory):
    root = tmp_path_factory.mktemp("voc") / "voc2007"
    render_voc2007(root, workers=1, **VOC)
    return root


@pytest.fixture(scope="module")
def coco_root(tmp_path_factory):
    root = tmp_path_factory.mktemp("coco") / "coco2014"
    render_coco2014(root, workers=1, **COCO)
    return root


def tree(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_classes_are_of_the_imagenet_role_and_no_siblings():
    for count in range(2, 49):
        numbers = scene_classes(count)
        assert len(numbers) == len(set(numbers)) == count and numbers == sorted(numbers)
        assert max(numbers) < 1.5 * count
        families = [CLASSES[n].bird // 4 for n in numbers if CLASSES[n].bird is not None]
        assert len(families) == len(set(families)) == math.ceil(count / 4)
    assert most_classes() >= 48


def test_every_scene_has_two_to_five_objects_of_several_classes(scenes):
    counts = [len(scene.objects) for scene in scenes]
    assert set(counts) == {2, 3, 4, 5}
    several = [len({one.number for one in scene.objects}) > 1 for scene in scenes]
    assert np.mean(several) > 0.95
    assert {one.number for scene in scenes for one in scene.objects} == set(scene_classes(16))


def test_masks_boxes_and_marks_agree(scenes):
    overlapping = 0
    for scene in scenes:
        width, height = scene.image.size
        assert min(width, height) == 64 and max(width, height) <= 86
        assert np.asarray(scene.image).std() > 5
        masks = np.stack([one.mask for one in scene.objects])
        assert masks.shape[1:] == (height, width) and masks.sum(0).max() == 1, "a pixel shows one object"
        for one in scene.objects:
            assert one.box == tight_box(one.mask)
            x0, y0, x1, y1 = one.box
            assert one.truncated == (x0 == 0 or y0 == 0 or x1 == width or y1 == height)
            assert one.difficult or max(x1 - x0, y1 - y0) >= 0.2 * 64
        boxes = [one.box for one in scene.objects]
        overlapping += union_area(boxes) < sum((x1 - x0) * (y1 - y0) for x0, y0, x1, y1 in boxes)
    assert overlapping > 0.5 * len(scenes)


def test_shares_of_difficult_objects_and_pairs(scenes):
    objects = [one for scene in scenes for one in scene.objects]
    assert 0.06 < np.mean([one.difficult for one in objects]) < 0.25
    pairs = difficult = 0
    for scene in scenes:
        plain = {one.number for one in scene.objects if not one.difficult}
        quarter = scene.image.width * scene.image.height / 4
        for number in {one.number for one in scene.objects}:
            area = union_area([one.box for one in scene.objects if one.number == number])
            pairs += 1
            difficult += number in plain and len(plain) > 1 and area < quarter
    assert 0.3 < difficult / pairs < 0.5


def test_an_empty_scene_is_clutter_alone():
    scene = render_multi_scene(scene_classes(4), generator(0, 4, 0, 40), 48, 0, empty=True)
    assert scene.objects == () and np.asarray(scene.image).std() > 2


@pytest.mark.parametrize(("render", "sizes"), [(render_voc2007, VOC), (render_coco2014, COCO | {"val": 4})])
def test_same_bytes_for_any_number_of_processes(tmp_path, render, sizes):
    render(tmp_path / "one", workers=1, **sizes)
    render(tmp_path / "two", workers=2, **sizes)
    assert tree(tmp_path / "one") == tree(tmp_path / "two")
    render(tmp_path / "other", workers=1, **sizes | {"seed": 5})
    assert tree(tmp_path / "one") != tree(tmp_path / "other")


def test_layout_is_vocs(voc):
    base = voc / "VOCdevkit" / "VOC2007"
    main = base / "ImageSets" / "Main"
    splits = {name: (main / f"{name}.txt").read_text().split() for name in ("train", "val", "trainval", "test")}
    assert splits["train"] + splits["val"] == splits["trainval"] and len(splits["train"]) == 5
    assert sorted(splits["trainval"] + splits["test"]) == [f"{i:06d}" for i in range(1, 14)]
    assert splits["test"] != [f"{i:06d}" for i in range(10, 14)], "numbers are mixed, as VOC's"
    assert {p.stem for p in (base / "JPEGImages").iterdir()} == {p.stem for p in (base / "Annotations").iterdir()}
    marks = {}
    for stem in splits["trainval"] + splits["test"]:
        annotation = ElementTree.parse(base / "Annotations" / f"{stem}.xml").getroot()
        with Image.open(base / "JPEGImages" / f"{stem}.jpg") as image:
            assert [int(annotation.findtext(f"size/{key}")) for key in ("width", "height")] == list(image.size)
            width, height = image.size
        for item in annotation.iter("object"):
            x0, y0, x1, y1 = (int(item.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax"))
            assert 1 <= x0 <= x1 <= width and 1 <= y0 <= y1 <= height
            marks.setdefault((stem, item.findtext("name")), []).append(int(item.findtext("difficult")))
    names = {name for _, name in marks}
    assert len(names) == 5 and all(re.fullmatch("[a-z]+", name) for name in names)
    for name in names:
        for split, stems in splits.items():
            lines = [line.split() for line in (main / f"{name}_{split}.txt").read_text().splitlines()]
            expected = [-1 if (s, name) not in marks else int(not all(marks[s, name])) for s in stems]
            assert lines == [[stem, str(mark)] for stem, mark in zip(stems, expected, strict=True)]


def test_layout_is_cocos(coco_root):
    assert category_id(79) == 89 and [category_id(n) for n in (0, 7, 8)] == [1, 8, 10]
    found = {}
    for folder, count in (("train2014", 9), ("val2014", 50)):
        table = json.loads((coco_root / "annotations" / f"instances_{folder}.json").read_text())
        assert {"info", "images", "licenses", "annotations", "categories"} == table.keys()
        assert {"supercategory", "id", "name"} == table["categories"][0].keys() and len(table["categories"]) == 5
        images = {one["id"]: one for one in table["images"]}
        assert len(images) == count
        for one in images.values():
            assert one["file_name"] == f"COCO_{folder}_{one['id']:012d}.jpg"
            with Image.open(coco_root / folder / one["file_name"]) as image:
                assert image.size == (one["width"], one["height"])
        assert len({one["id"] for one in table["annotations"]}) == len(table["annotations"])
        found[folder] = images, table["annotations"]
    assert not found["train2014"][0].keys() & found["val2014"][0].keys()
    images, annotations = found["val2014"]
    assert len(images) - len({one["image_id"] for one in annotations}) == 1, "one picture shows nothing"
    assert {one["iscrowd"] for one in annotations} == {0, 1}
    for one in annotations:
        height, width = (images[one["image_id"]][key] for key in ("height", "width"))
        runs = coco.frPyObjects(one["segmentation"], height, width)
        mask = coco.decode(runs if one["iscrowd"] else coco.merge(runs))
        assert abs(mask.sum() - one["area"]) <= 0.15 * one["area"] + 8, "polygons fill holes"
        x, y, w, h = one["bbox"]
        ys, xs = np.nonzero(mask)
        assert xs.min() >= x and ys.min() >= y and xs.max() < x + w and ys.max() < y + h


def test_outlines_hold_one_part_each():
    rng, corners = np.random.default_rng(0), np.ones((3, 3))
    for _ in range(60):
        mask = rng.random(rng.integers(2, 16, 2)) < 0.6
        parts, count = ndimage.label(mask)
        found = outlines(mask)
        assert len(found) == count
        filled = sum(ndimage.binary_fill_holes(parts == part, corners).sum() for part in range(1, count + 1))
        assert sum(shoelace(one) for one in found) == filled
    disc = np.hypot(*(np.mgrid[:60, :70] - np.array([30, 30])[:, None, None])) < 25
    (outline,) = outlines(disc)
    assert (coco.decode(coco.frPyObjects([outline], 60, 70))[..., 0].astype(bool) == disc).all()
    assert outlines(np.zeros((3, 4), bool)) == []
    ring = np.ones((5, 5), bool)
    ring[2, 2] = False
    assert [sorted(zip(one[::2], one[1::2], strict=True)) for one in outlines(ring)] == [
        [(0, 0), (0, 5), (5, 0), (5, 5)]
    ]


def shoelace(polygon):
    x, y = np.array(polygon).reshape(-1, 2).T
    return abs(x @ np.roll(y, -1) - y @ np.roll(x, -1)) / 2


def test_run_lengths_are_cocos():
    for seed, share in enumerate((0.0, 0.3, 0.9, 1.0)):
        mask = np.random.default_rng(seed).random((6, 9)) < share
        runs = run_lengths(mask)
        assert sum(runs["counts"]) == 54 and runs["size"] == [6, 9]
        assert (coco.decode(coco.frPyObjects(runs, 6, 9)).astype(bool) == mask).all()


@pytest.mark.parametrize(
    ("render", "sizes", "name"),
    [(render_voc2007, VOC, "voc2007"), (render_voc2012, VOC2012, "voc2012"), (render_coco2014, COCO, "coco2014")],
)
@pytest.mark.parametrize(("key", "value"), [("classes", 1), ("classes", 999), ("size", 16), ("train", 0)])
def test_impossible_arguments_are_named_and_leave_nothing(tmp_path, render, sizes, name, key, value):
    with pytest.raises(InputError, match=rf"{name}\.{key}: {value}"):
        render(tmp_path / "x", **{**sizes, "workers": 1, key: value})
    assert not list(tmp_path.iterdir())
