"""Paths that lead out of a data set are refused, and one bad image can be left out, in every format."""

import functools
import json
import re

import pytest
import test_coco
import test_voc
from dataset_trees import picture, save, write_cub, write_imagenet
from relmap.data.formats.coco import read_coco
from relmap.data.formats.cub import read_cub
from relmap.data.formats.folder import read_folder
from relmap.data.formats.imagenet import read_imagenet
from relmap.data.formats.imagenet_segmentation import read_imagenet_segmentation
from relmap.data.formats.voc import read_voc
from relmap.data.listing import Exclusion, about, inside
from relmap.data.manifest import build_manifest, refuse_links
from relmap.data.render import render_imagenet_segmentation
from relmap.data.render.catalogue import CLASSES
from relmap.errors import InputError

ALBATROSS = "Black_footed_Albatross_0001_2"


def replace_line(path, start, line):
    """Replace the lines that begin so."""
    text, count = re.subn(rf"(?m)^{re.escape(start)}.*$", line.replace("\\", r"\\"), path.read_text())
    assert count, f"{path} has no line {start}"
    path.write_text(text)


def edit_json(path, change):
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def cub(line):
    """A line of one of CUB's tables, or a picture that is none."""

    def write(root):
        write_cub(root)
        name, _, text = line.partition(": ")
        if text:
            replace_line(root / "CUB_200_2011" / name, "2 ", text)
        else:
            next((root / "CUB_200_2011" / "images").rglob(f"{ALBATROSS}.jpg")).write_text("none")

    return write, read_cub, ALBATROSS, 6


def voc(break_it):
    def write(root):
        test_voc.write(root)
        break_it(root / "VOCdevkit" / "VOC2007")

    return write, functools.partial(read_voc, dataset="voc2007", require_training=False), "000007", 3


def coco(change):
    def write(root):
        test_coco.write(root)
        edit_json(root / "annotations" / "instances_val2014.json", change)

    return write, read_coco, "COCO_val2014_000000000042", 3


def imagenet(break_it):
    def write(root):
        write_imagenet(root)
        break_it(root)

    return write, read_imagenet, "ILSVRC2012_val_00000002", 9


def segmentation(root):
    """A picture of a class that the classifier does not know."""
    render_imagenet_segmentation(root, classes=3, per_class=1, size=40, seed=0)


def folder(root):
    for name in ("heron/a", "heron/b", "otter/a"):
        save(picture(), root / f"{name}.jpg")
    (root / "heron" / "b.xml").write_text("<annotation><object>")


KNOWN = {kind.wnid: kind.name for kind in CLASSES[:3]}
KNOWN_FEWER = dict(list(KNOWN.items())[:2])
STRAY = f"{CLASSES[2].wnid}_1"
BAD = {
    "cub picture": cub("picture"),
    "cub box": cub("bounding_boxes.txt: 2 10.0 5.0 wide 10.0"),
    "cub box outside": cub("bounding_boxes.txt: 2 10.0 5.0 2000.0 10.0"),
    "cub class": cub("image_class_labels.txt: 2 77"),
    "cub line missing": cub("train_test_split.txt: "),
    "cub parts": cub("parts/part_locs.txt: 2 1 left 7.0 1"),
    "voc xml": voc(lambda base: (base / "Annotations" / "000007.xml").write_text("<annotation>")),
    "voc missing": voc(lambda base: (base / "Annotations" / "000007.xml").unlink()),
    "voc picture": voc(lambda base: (base / "JPEGImages" / "000007.jpg").write_text("")),
    "coco box": coco(lambda content: content["annotations"][0].update(bbox="none")),
    "coco category": coco(lambda content: content["annotations"][0].pop("category_id")),
    "coco size": coco(lambda content: content["images"][0].update(width=41)),
    "coco mask": coco(lambda content: content["annotations"][0].update(segmentation=[[1, 2, 3, 4, 5, float("nan")]])),
    "imagenet picture": imagenet(lambda root: next(root.rglob("ILSVRC2012_val_00000002.JPEG")).write_text("")),
    "imagenet xml": imagenet(lambda root: next(root.rglob("ILSVRC2012_val_00000002.xml")).write_text("")),
    "imagenet no box": imagenet(lambda root: next(root.rglob("ILSVRC2012_val_00000002.xml")).unlink()),
    "imagenet label": imagenet(lambda root: replace_line(root / "LOC_val_solution.csv", "ILSVRC2012_val_00000002", "")),
    "imagenet class": imagenet(
        lambda root: replace_line(
            root / "LOC_val_solution.csv", "ILSVRC2012_val_00000002", "ILSVRC2012_val_00000002,n00000000 1 1 2 2"
        )
    ),
    "segmentation": (segmentation, functools.partial(read_imagenet_segmentation, classes=KNOWN_FEWER), STRAY, 3),
    "folder": (folder, functools.partial(read_folder, dataset="own"), "heron/b", 3),
}


@pytest.mark.parametrize("name", BAD)
def test_one_bad_image_can_be_left_out(tmp_path, name):
    write, read, image, count = BAD[name]
    write(tmp_path)
    with pytest.raises(InputError) as caught:
        read(tmp_path)
    way_out = re.search(r"; or leave it out: `datasets\.\w+\.exclude: (.*)`$", str(caught.value))
    assert way_out, caught.value
    assert json.loads(way_out[1]) == [image], "in quotes: YAML takes 000007 for a number"
    manifest = read(tmp_path, exclude=[image])
    assert len(manifest) == count - 1 and image not in set(manifest.frame["image_id"])
    with pytest.raises(InputError, match=r"exclude`: the data set has no image 'nowhere' \(1 such ids\); correct it"):
        read(tmp_path, exclude=[image, "nowhere"])


OUTSIDE = ("/etc/passwd", "../../secret.jpg", "images/../../../secret.jpg")


@pytest.mark.parametrize("path", OUTSIDE)
def test_what_lists_and_annotations_name_stays_inside(tmp_path, path):
    write_cub(tmp_path / "cub")
    replace_line(tmp_path / "cub" / "CUB_200_2011" / "images.txt", "2 ", f"2 {path}")
    with pytest.raises(InputError, match=rf"images\.txt: names the file '{path}', which is not inside the data set"):
        read_cub(tmp_path / "cub")
    test_voc.write(tmp_path / "voc")
    held = tmp_path / "voc" / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "test.txt"
    held.write_text(f"{path}\n")
    with pytest.raises(InputError, match=rf"test\.txt: names the file '{path}', which is not inside"):
        read_voc(tmp_path / "voc", dataset="voc2007")
    test_coco.write(tmp_path / "coco")
    file = tmp_path / "coco" / "annotations" / "instances_val2014.json"
    edit_json(file, lambda content: content["images"][0].update(file_name=path))
    with pytest.raises(InputError, match=rf"instances_val2014\.json: names the file '{path}', which is not inside"):
        read_coco(tmp_path / "coco")
    write_imagenet(tmp_path / "imagenet")
    image = "ILSVRC2012_val_00000002"
    replace_line(tmp_path / "imagenet" / "LOC_val_solution.csv", image, f"{image},{path} 1 1 2 2")
    with pytest.raises(InputError, match=rf"the class of .*{image}\.JPEG: names the file '{path}', which is not"):
        read_imagenet(tmp_path / "imagenet")
    for column in ("path", "mask_path", "part_map_path"):
        save(picture(), tmp_path / "own" / "a.png")
        row = {"image_id": "a", "path": "a.png", "split": "train", "labels": [0], "width": 40, "height": 30}
        with pytest.raises(InputError, match=rf"own: a: names the file '{path}', which is not inside"):
            build_manifest("own", tmp_path / "own", [row | {column: path}], ["a"])


def test_names_that_no_file_has_are_refused_where_they_are_listed(tmp_path):
    """Each call that asks for such a file would end in an error of its own."""
    test_voc.write(tmp_path / "voc")
    held = tmp_path / "voc" / "VOCdevkit" / "VOC2007" / "ImageSets" / "Main" / "test.txt"
    test_coco.write(tmp_path / "coco")
    file = tmp_path / "coco" / "annotations" / "instances_train2014.json"
    for path, reason in (("ü" * 128, "longer than"), ("a/" * 1600 + "a", "longer than")):
        held.write_text(f"{path}\n")
        with pytest.raises(InputError, match=rf"test\.txt: names the file .*, which is {reason}") as caught:
            read_voc(tmp_path / "voc", dataset="voc2007")
        assert len(str(caught.value)) < 600
    edit_json(file, lambda content: content["images"][0].update(file_name="\ud800.jpg"))
    with pytest.raises(InputError, match=r"train2014\.json: names the file '\\ud800\.jpg', which is no text"):
        read_coco(tmp_path / "coco")


def test_plain_paths_pass_and_odd_ones_do_not():
    for path in ("images/a..b/c.jpg", "a" * 255):
        assert inside(path, "list") == path
    for path in ("", ".", "a\0b", ".."):
        with pytest.raises(InputError, match="which is not inside the data set"):
            inside(path, "list")


@pytest.mark.parametrize("what", ["file", "folder"])
def test_links_of_retrieved_data_lead_nowhere_else(tmp_path, what):
    write_cub(tmp_path / "data")
    images = tmp_path / "data" / "CUB_200_2011" / "images"
    manifest = read_cub(tmp_path / "data")
    refuse_links(manifest)
    linked = next(images.rglob("*.jpg")) if what == "file" else next(images.iterdir())
    linked.rename(tmp_path / "elsewhere")
    linked.symlink_to(tmp_path / "elsewhere")
    assert len(read_cub(tmp_path / "data")) == 6, "someone's own data may lie anywhere"
    with pytest.raises(InputError, match=r"is a link out of .*data; delete it and unpack the archive again"):
        refuse_links(manifest)


def test_the_way_out_is_said_once():
    said = pytest.raises(InputError, match=r"^bad; or leave it out: `datasets\.toy\.exclude: \[\"ä\"\]`$")
    with said, about("toy", "ä"), about("toy", "ä"):
        raise InputError("bad")
    left_out = Exclusion("toy")
    assert left_out.keeps("a")
    left_out.check()
