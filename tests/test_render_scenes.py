"""Rendered scenes: ILSVRC's layout on disk."""

import re

import numpy as np
import pytest
from defusedxml import ElementTree
from PIL import Image
from relmap.data.render import render_imagenet
from relmap.data.render.catalogue import CLASSES
from relmap.data.render.jobs import generator
from relmap.data.render.scenes import render_scene
from relmap.errors import InputError

SIZES = {"classes": 5, "train_per_class": 3, "val_per_class": 2, "size": 40, "seed": 2}


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    root = tmp_path_factory.mktemp("scenes") / "imagenet"
    render_imagenet(root, workers=1, **SIZES)
    return root


def solution(root, name):
    lines = (root / name).read_text().splitlines()
    assert lines[0] == "ImageId,PredictionString"
    answers = {}
    for line in lines[1:]:
        image, text = line.split(",")
        fields = text.split()
        answers[image] = [(fields[i], *(int(v) for v in fields[i + 1 : i + 5])) for i in range(0, len(fields), 5)]
    return answers


def boxes_of(path):
    annotation = ElementTree.parse(path).getroot()
    size = [int(annotation.findtext(f"size/{key}")) for key in ("width", "height", "depth")]
    return size, [
        (item.findtext("name"), *(int(item.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")))
        for item in annotation.iter("object")
    ]


def test_same_bytes_for_any_number_of_processes(root, tmp_path):
    render_imagenet(tmp_path / "again", workers=2, **SIZES)

    def tree(folder):
        return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}

    assert tree(tmp_path / "again") == tree(root)


def test_layout_is_ilsvrcs(root):
    base = root / "ILSVRC"
    train = sorted(p.relative_to(base / "Data/CLS-LOC").as_posix() for p in (base / "Data/CLS-LOC/train").rglob("*.*"))
    wnids = sorted(kind.wnid for kind in CLASSES[:5])
    assert train == sorted(f"train/{wnid}/{wnid}_{i}.JPEG" for wnid in wnids for i in (1, 2, 3))
    val = sorted(p.name for p in (base / "Data/CLS-LOC/val").iterdir())
    assert val == [f"ILSVRC2012_val_{i:08d}.JPEG" for i in range(1, 11)]
    mapping = (root / "LOC_synset_mapping.txt").read_text().splitlines()
    assert [line.split()[0] for line in mapping] == wnids
    assert all(re.fullmatch(r"n\d{8} \S.*", line) for line in mapping)
    listed = (base / "ImageSets/CLS-LOC/val.txt").read_text().splitlines()
    assert listed == [f"ILSVRC2012_val_{i:08d} {i}" for i in range(1, 11)]


def test_annotations_solutions_and_pictures_agree(root):
    base = root / "ILSVRC"
    answers = solution(root, "LOC_train_solution.csv") | solution(root, "LOC_val_solution.csv")
    pictures = sorted((base / "Data").rglob("*.JPEG"))
    assert {p.stem for p in pictures} == set(answers)
    for picture in pictures:
        folder = picture.parent.relative_to(base / "Data")
        size, boxes = boxes_of(base / "Annotations" / folder / f"{picture.stem}.xml")
        with Image.open(picture) as image:
            assert size == [*image.size, 3]
            width, height = image.size
        assert boxes == answers[picture.stem]
        assert 1 <= len(boxes) <= 3
        for name, x0, y0, x1, y1 in boxes:
            assert folder.name in (name, "val")
            assert 0 <= x0 < x1 < width
            assert 0 <= y0 < y1 < height


def test_every_class_has_its_validation_pictures(root):
    names = [boxes[0][0] for boxes in solution(root, "LOC_val_solution.csv").values()]
    assert {name: names.count(name) for name in names} == {kind.wnid: 2 for kind in CLASSES[:5]}
    assert names != sorted(names)


def test_wnids_are_unique_and_every_class_draws():
    assert len({kind.wnid for kind in CLASSES}) == len(CLASSES) >= 24
    for number in range(len(CLASSES)):
        for index in range(2):
            picture = render_scene(number, generator(0, 2, 0, number, index), 48, 0)
            assert picture.boxes, CLASSES[number].name
            assert np.asarray(picture.image).std() > 5


@pytest.mark.parametrize(("key", "value"), [("classes", 1), ("classes", 999), ("size", 16), ("val_per_class", 0)])
def test_impossible_arguments_are_named_and_leave_nothing(tmp_path, key, value):
    with pytest.raises(InputError, match=rf"imagenet\.{key}: {value}"):
        render_imagenet(tmp_path / "imagenet", **{**SIZES, "workers": 1, key: value})
    assert not list(tmp_path.iterdir())
