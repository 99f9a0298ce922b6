"""PASCAL VOC: layout, pixel convention, awkward files that pass and broken ones that are named."""

import logging

import numpy as np
import pytest
import torch
from dataset_trees import picture, save
from PIL import Image
from relmap.data.difficult import pair_flags
from relmap.data.formats.voc import CLASSES, read_voc
from relmap.data.images import Preprocessing, load_boxes, load_images
from relmap.data.render import render_voc2007, render_voc2012
from relmap.errors import InputError

DOG, PERSON = CLASSES.index("dog"), CLASSES.index("person")


def xml(objects, width=40, height=30):
    """Objects are (class, xmin, ymin, xmax, ymax, difficult), 1-based and inclusive."""
    inner = "".join(
        f"<object><name>{name}</name><pose>Left</pose><truncated>0</truncated><difficult>{int(difficult)}</difficult>"
        f"<bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox>"
        "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
        "</object>"
        for name, x0, y0, x1, y1, difficult in objects
    )
    return (
        f"<annotation><folder>VOC2007</folder><size><width>{width}</width><height>{height}</height><depth>3</depth>"
        f"</size>{inner}</annotation>"
    )


ANNOTATIONS = {
    "000005": [("dog", 1, 1, 40, 30, False), ("person", 5, 6, 10, 12, False)],
    "000007": [("person", 2, 3, 4, 5, False)],
    "000001": [("person", 1, 1, 10, 10, False), ("dog", 11, 11, 20, 20, True), ("dog", 31, 21, 40, 30, False)],
}


def write(root, annotations=ANNOTATIONS, test=("000001",), year=2007, lists=()):
    base = root / "VOCdevkit" / f"VOC{year}"
    main = base / "ImageSets" / "Main"
    for folder in (base / "Annotations", main):
        folder.mkdir(parents=True, exist_ok=True)
    for seed, (stem, objects) in enumerate(annotations.items()):
        save(picture(seed=seed), base / "JPEGImages" / f"{stem}.jpg")
        (base / "Annotations" / f"{stem}.xml").write_text(xml(objects))
    trainval = [stem for stem in annotations if stem not in test]
    for name, stems in (
        (("trainval", trainval), ("test", test)) if year == 2007 else (("train", trainval), ("val", test))
    ):
        (main / f"{name}.txt").write_text("".join(f"{stem}\n" for stem in stems))
    for name in lists:
        (main / f"{name}_trainval.txt").write_text("".join(f"{stem} -1\n" for stem in trainval))
    return base


def read(root, **options):
    return read_voc(root, **{"dataset": "voc2007", "require_training": False, **options})


def test_labels_boxes_and_splits(tmp_path):
    write(tmp_path)
    manifest = read(tmp_path)
    assert manifest.info.class_names == manifest.info.class_ids == CLASSES, "VOC's own names give its own order"
    rows = {row.image_id: row for row in manifest.frame.itertuples()}
    assert {name: row.split for name, row in rows.items()} == {"000005": "train", "000007": "train", "000001": "test"}
    assert rows["000005"].labels == [DOG, PERSON]
    assert rows["000005"].boxes == [[0, 0, 40, 30], [4, 5, 10, 12]], "1-based and inclusive; parts are no objects"
    assert rows["000001"].box_labels == [PERSON, DOG, DOG]
    assert rows["000001"].box_difficult == [False, True, False]
    assert rows["000001"].path == "VOCdevkit/VOC2007/JPEGImages/000001.jpg"
    mask = load_boxes(manifest, manifest.rows("test"), Preprocessing(30, 30), [PERSON])[0]
    assert mask.sum() == 5 * 10, "the crop starts at column 5"
    for inner in ("VOCdevkit", "VOCdevkit/VOC2007"):
        assert read(tmp_path / inner).label_sets() == manifest.label_sets()


def test_a_later_year_has_val_for_test(tmp_path):
    write(tmp_path, year=2012)
    manifest = read(tmp_path, dataset="voc2012")
    assert manifest.frame.set_index("image_id")["split"].to_dict() == {
        "000005": "train",
        "000007": "train",
        "000001": "test",
    }
    for year in (2007, 2012):
        write(tmp_path / "both", year=year)
    assert "VOC2012" in read(tmp_path / "both", dataset="voc2012").frame["path"][0]


def test_2007_without_its_test_archive_is_refused(tmp_path):
    base = write(tmp_path)
    (base / "ImageSets/Main/train.txt").write_text("000005\n")
    (base / "ImageSets/Main/val.txt").write_text("000007\n")
    (base / "ImageSets/Main/test.txt").unlink()
    with pytest.raises(InputError, match=r"test\.txt: missing; extract VOCtest_06-Nov-2007\.tar"):
        read(tmp_path)


def test_classes_are_those_that_have_lists_else_those_of_the_objects(tmp_path):
    own = {"000001": [("zebra", 1, 1, 9, 9, False)], "000002": [("ant", 1, 1, 9, 9, False)]}
    write(tmp_path / "a", own)
    assert read(tmp_path / "a").info.class_names == ("ant", "zebra")
    write(tmp_path / "b", own, lists=("zebra", "ant", "emu"))
    assert read(tmp_path / "b").info.class_names == ("ant", "emu", "zebra")


def test_awkward_files_pass(tmp_path, caplog):
    """No object, difficult ones only, reversed corners, grey, CMYK, a rotation in EXIF, a PNG named .jpg, no size."""
    base = write(
        tmp_path,
        ANNOTATIONS
        | {
            "000011": [],
            "000012": [("dog", 1, 1, 9, 9, True)],
            "000013": [("dog", 30, 20, 11, 5, False)],
            "000014": [("dog", 1, 1, 40, 30, False)],
            "000015": [("dog", 1.5, 1, 9, 9, False)],
            "000016": [("dog", 3, 4, 9, 9, False)],
            "000017": [("dog", 3, 4, 9, 9, False)],
        },
        test=("000001", *(f"0000{n}" for n in range(11, 18))),
    )
    save(picture().convert("L"), base / "JPEGImages/000014.jpg")
    save(picture().convert("CMYK"), base / "JPEGImages/000015.jpg")
    turned = picture(seed=3)
    exif = Image.Exif()
    exif[274] = 6
    save(turned, base / "JPEGImages/000016.jpg", exif=exif, quality=95)
    save(picture(), base / "JPEGImages/000017.jpg", format="PNG")
    path = base / "Annotations/000017.xml"
    path.write_text(path.read_text().replace("<size>", "<was>").replace("</size>", "</was>"))
    with caplog.at_level(logging.WARNING):
        manifest = read(tmp_path)
    rows = {row.image_id: row for row in manifest.frame.itertuples()}
    assert rows["000011"].labels == [] and rows["000011"].boxes == []
    assert rows["000012"].labels == [DOG]
    assert pair_flags(manifest, rows["000012"].Index) == {DOG: (False, False)}
    assert pair_flags(manifest, rows["000011"].Index) == {}
    assert rows["000013"].boxes == [[10, 4, 30, 20]]
    assert "1 boxes with reversed corners" in caplog.text
    assert rows["000015"].boxes == [[0.5, 0, 9, 9]]
    assert (rows["000016"].width, rows["000016"].height) == (40, 30)
    images = load_images(manifest, manifest.rows("test"), Preprocessing(30, 30))
    assert torch.isfinite(images).all()
    shown = Preprocessing(30, 30).denormalise(
        images[[r.image_id for r in rows.values() if r.split == "test"].index("000016")][None]
    )
    assert np.abs(shown[0].permute(1, 2, 0).numpy() - np.asarray(turned)[:, 5:35] / 255).mean() < 0.03, "not rotated"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda base: (base / "Annotations/000007.xml").unlink(), r"000007\.xml: missing, though ImageSets/Main lists"),
        (lambda base: (base / "Annotations/000007.xml").write_text("<annotation>"), r"000007\.xml: not a readable box"),
        (lambda base: (base / "Annotations/000007.xml").write_text(xml([("dog", 50, 40, 60, 50, False)])), "no area"),
        (lambda base: (base / "Annotations/000007.xml").write_text(xml([], 30, 40)), r"declares 30 x 40 .*has 40 x 30"),
        (
            lambda base: (base / "Annotations/000007.xml").write_text(xml([("dogg", 1, 1, 2, 2, False)])),
            "'dogg', which",
        ),
        (lambda base: (base / "JPEGImages/000007.jpg").unlink(), r"000007\.jpg: no such image"),
        (lambda base: (base / "JPEGImages/000007.jpg").write_bytes(b"\xff\xd8\xff"), r"000007\.jpg: corrupt"),
        (lambda base: (base / "ImageSets/Main/trainval.txt").unlink(), r"trainval\.txt: not a readable list"),
        (lambda base: (base / "ImageSets/Main/trainval.txt").write_text("\n"), r"trainval\.txt: lists no image"),
        (lambda base: (base / "ImageSets/Main/trainval.txt").write_text("000001\n"), "'000001' appears more than once"),
    ],
)
def test_broken_files_are_named(tmp_path, damage, message):
    damage(write(tmp_path, lists=("dog", "person")))
    with pytest.raises(InputError, match=message) as caught:
        read(tmp_path)
    assert "\n" not in str(caught.value)


def alter(root, old, new, objects=(("dog", 3, 4, 9, 9, False),)):
    """A tree whose test annotation has one thing replaced."""
    base = write(root, lists=("dog", "person"))
    text = xml(objects)
    assert old in text
    (base / "Annotations/000001.xml").write_text(text.replace(old, new))
    return base


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("<annotation>", '<annotation xmlns="http://host/voc">'),
        ("<width>40<", "<width>40.0<"),
        ("<difficult>0</difficult>", "<difficult/>"),
        ("<difficult>0</difficult>", ""),
        ("<name>dog<", "<name> dog\n<"),
        ("<xmin>3<", "<xmin>3.0<"),
    ],
)
def test_the_same_in_other_words(tmp_path, old, new):
    alter(tmp_path, old, new)
    manifest = read(tmp_path)
    (row,) = manifest.rows("test")
    boxes, labels, marks = (manifest.frame[name].iat[row] for name in ("boxes", "box_labels", "box_difficult"))
    assert (boxes, labels, marks) == ([[2, 3, 9, 9]], [0], [False])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("annotation>", "html>", "it holds <html>, no <annotation>"),
        ("<difficult>0<", "<difficult>true<", "difficult is 'true', not 0 or 1"),
        ("<difficult>0<", "<difficult>2<", "difficult is '2', not 0 or 1"),
        ("<xmin>3<", "<xmin>nan<", "xmin is 'nan', no number"),
        ("<xmax>9<", "<xmax>inf<", "xmax is 'inf', no number"),
        ("<ymax>9</ymax>", "", "ymax is 'nothing', no number"),
        ("<name>dog</name>", "", "an object has no name"),
        ("<width>40<", "<width>-40<", "a side of -40 pixels"),
        ("<width>40<", "<width>40.5<", r"a side of 40\.5 pixels"),
        ("<height>30<", "<height>inf<", "cannot convert float infinity"),
        ("bndbox>", "box>", "the object 'dog' has no bndbox"),
    ],
)
def test_what_an_annotation_lacks_is_said(tmp_path, old, new, message):
    """None of it is read as nothing: no objects, not difficult, no size."""
    alter(tmp_path, old, new)
    with pytest.raises(InputError, match=rf"000001\.xml: not a readable box annotation \({message}"):
        read(tmp_path)


@pytest.mark.parametrize(("size", "box"), [((80, 60), [4, 6, 18, 18]), ((20, 15), [1, 1.5, 4.5, 4.5])])
def test_a_resized_picture_takes_its_boxes_along(tmp_path, size, box):
    base = write(tmp_path, {"000001": [], "000002": [("dog", 3, 4, 9, 9, False)]}, test=("000002",))
    save(picture(*size), base / "JPEGImages/000002.jpg")
    manifest = read(tmp_path)
    assert manifest.frame["boxes"].iat[manifest.rows("test")[0]] == [box]


@pytest.mark.parametrize("size", [(40, 28), (37, 30)])
def test_a_cut_picture_is_refused(tmp_path, size):
    """Its boxes would be scaled, and lie where the objects are not."""
    base = write(tmp_path)
    save(picture(*size), base / "JPEGImages/000001.jpg")
    with pytest.raises(InputError, match=r"000001\.xml: declares 40 x 30 pixels, but .*000001\.jpg has"):
        read(tmp_path)


def test_what_is_not_voc_is_said(tmp_path):
    with pytest.raises(InputError, match=r"no VOC here \(VOCdevkit/VOC2007/ImageSets/Main is missing\)"):
        read(tmp_path)
    with pytest.raises(InputError, match=r"remove `datasets\.voc2007\.classes`"):
        read(tmp_path, classes={"dog": "dog"})
    write(tmp_path, lists=("dog", "person", "emu"))
    with pytest.raises(InputError, match=r"class 'emu' .*has no training images"):
        read(tmp_path, require_training=True)


def test_the_rendered_one_is_read_by_the_same_reader(tmp_path):
    render_voc2007(tmp_path / "voc", classes=4, train=10, test=6, size=48, seed=3)
    manifest = read(tmp_path / "voc", require_training=True)
    assert len(manifest.rows("train")) == 10 and len(manifest.rows("test")) == 6
    assert len(manifest.info.class_names) == 4
    assert all(len(labels) > 1 for labels in manifest.label_sets())


def test_2012_is_tested_on_val_and_shows_other_pictures(tmp_path):
    render_voc2012(tmp_path / "later", classes=4, train=10, val=6, size=48, seed=3)
    render_voc2007(tmp_path / "voc", classes=4, train=10, test=6, size=48, seed=3)
    manifest, earlier = read(tmp_path / "later", dataset="voc2012", require_training=True), read(tmp_path / "voc")
    lists = tmp_path / "later" / "VOCdevkit" / "VOC2012" / "ImageSets" / "Main"
    for split, listed in (("train", "train"), ("test", "val")):
        ids = manifest.frame["image_id"].iloc[manifest.rows(split)].tolist()
        assert sorted(ids) == (lists / f"{listed}.txt").read_text().split()
    assert len((lists / "trainval.txt").read_text().split()) == 16
    assert manifest.info.class_names == earlier.info.class_names
    pictures = [{file.read_bytes() for file in (tmp_path / folder).rglob("*.jpg")} for folder in ("later", "voc")]
    assert len(pictures[0]) == len(pictures[1]) == 16 and not pictures[0] & pictures[1]
