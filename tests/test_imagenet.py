"""ILSVRC 2012 in Kaggle's tree and in the official archives'."""

import pytest
from dataset_trees import WNIDS, annotation_xml, picture, save, write_imagenet
from relmap.data.formats import imagenet
from relmap.data.formats.imagenet import read_imagenet
from relmap.data.formats.pascal import read_annotation
from relmap.data.images import Preprocessing, load_boxes
from relmap.errors import InputError


def notes(root, layout, number):
    folder = "ILSVRC/Annotations/CLS-LOC/val" if layout == "kaggle" else "ILSVRC2012_bbox_val_v3/val"
    return root / folder / f"ILSVRC2012_val_{number:08d}.xml"


@pytest.mark.parametrize("layout", ["kaggle", "folders", "devkit"])
def test_every_layout_gives_the_same_rows(tmp_path, layout):
    manifest = read_imagenet(write_imagenet(tmp_path, layout))
    frame = manifest.frame
    assert manifest.single_labels(manifest.rows("test")).tolist() == [0, 1, 2], "labels rank the sorted wnids"
    assert manifest.single_labels(manifest.rows("train")).tolist() == [0, 0, 1, 1, 2, 2]
    assert frame["image_id"].tolist()[:2] == ["n01440764_0", "n01440764_1"]
    test = frame[frame["split"] == "test"]
    assert test["boxes"].tolist() == [[[4.0, 5.0, 24.0, 15.0]]] * 3, "the last pixel of the XML is inside"
    assert all(manifest.resolve(path).is_file() for path in frame["path"])
    assert (frame["width"] == 40).all() and (frame["height"] == 30).all()
    expected = ("n01440764", "n01443537", "n01484850") if layout == "folders" else ("tench", "goldfish")
    assert manifest.info.class_names[: len(expected)] == expected


def test_flat_images_take_their_class_from_the_boxes_where_nothing_else_tells(tmp_path):
    root = write_imagenet(tmp_path, "kaggle")
    (root / "LOC_val_solution.csv").unlink()
    assert read_imagenet(root).frame["labels"].tolist()[-3:] == [[0], [1], [2]]


def test_flat_images_without_any_labels_are_refused(tmp_path):
    root = write_imagenet(tmp_path, "kaggle")
    (root / "LOC_val_solution.csv").unlink()
    for number in (1, 2, 3):
        notes(root, "kaggle", number).unlink()
    with pytest.raises(InputError, match=r"nothing tells their classes; add LOC_val_solution\.csv, or extract"):
        read_imagenet(root)


def test_an_image_that_the_solution_lacks_is_named(tmp_path):
    root = write_imagenet(tmp_path, "kaggle")
    save(picture(), root / "ILSVRC/Data/CLS-LOC/val/ILSVRC2012_val_00000009.JPEG")
    with pytest.raises(InputError, match=r"val_00000009\.JPEG: .*LOC_val_solution\.csv gives no label"):
        read_imagenet(root)


def test_several_objects_and_a_box_at_the_border(tmp_path):
    root = write_imagenet(tmp_path, "kaggle")
    objects = [(WNIDS[0], 0, 0, 9, 9), (WNIDS[1], 15, 10, 20, 20), (WNIDS[0], 30, 20, 39, 29)]
    notes(root, "kaggle", 1).write_text(annotation_xml("ILSVRC2012_val_00000001", objects))
    manifest = read_imagenet(root)
    row = manifest.rows("test")[0]
    assert manifest.frame["boxes"][row] == [[0.0, 0.0, 10.0, 10.0], [30.0, 20.0, 40.0, 30.0]], "only the image's class"
    inside = load_boxes(manifest, [row], Preprocessing(30, 30))[0]
    # 5 columns are cut on either side.
    assert inside[:10, :5].all() and inside[20:, 25:].all() and inside.sum() == 100


def test_boxes_follow_the_stored_size_where_the_declared_one_differs(tmp_path):
    root = write_imagenet(tmp_path, "kaggle")
    xml = annotation_xml("ILSVRC2012_val_00000001", [(WNIDS[0], 8, 10, 47, 29)], width=80, height=60)
    notes(root, "kaggle", 1).write_text(xml)
    manifest = read_imagenet(root)
    row = manifest.frame.iloc[manifest.rows("test")[0]]
    assert (row["width"], row["height"]) == (40, 30)
    assert row["boxes"] == [[4.0, 5.0, 24.0, 15.0]]


def test_a_declared_size_of_another_shape_is_refused(tmp_path):
    root = write_imagenet(tmp_path, "kaggle")
    xml = annotation_xml("ILSVRC2012_val_00000001", [(WNIDS[0], 8, 10, 27, 29)], width=30, height=40)
    notes(root, "kaggle", 1).write_text(xml)
    with pytest.raises(InputError, match=r"00000001\.xml: declares 30 x 40 pixels, but .*00000001\.JPEG has 40 x 30"):
        read_imagenet(root)


def test_training_images_with_an_annotation_are_not_opened(tmp_path, monkeypatch):
    root = write_imagenet(tmp_path, "kaggle")
    folder = root / "ILSVRC/Annotations/CLS-LOC/train" / WNIDS[0]
    folder.mkdir(parents=True)
    # A box that ends before it begins occurs in the real data: nothing is measured there, it is dropped.
    objects = [(WNIDS[0], 2, 3, 500, 8), (WNIDS[0], 9, 9, 2, 12)]
    (folder / f"{WNIDS[0]}_1.xml").write_text(annotation_xml(f"{WNIDS[0]}_1", objects))
    opened = []
    original = imagenet.read_size
    monkeypatch.setattr(imagenet, "read_size", lambda path: opened.append(path.name) or original(path))
    frame = read_imagenet(root).frame
    assert f"{WNIDS[0]}_0.JPEG" in opened and f"{WNIDS[0]}_1.JPEG" not in opened
    assert frame["boxes"][1] == [[2.0, 3.0, 40.0, 9.0]]
    assert frame["boxes"][0] == []


def test_a_validation_image_without_its_box_is_named(tmp_path):
    root = write_imagenet(tmp_path, "devkit")
    notes(root, "devkit", 2).unlink()
    with pytest.raises(InputError, match=r"val_00000002\.JPEG: no box of class n01443537; put ILSVRC2012_val_00000002"):
        read_imagenet(root)
    assert read_imagenet(root, require_boxes=False).frame["boxes"].tolist()[-2] == []


def test_a_class_without_training_images_is_named(tmp_path):
    root = write_imagenet(tmp_path, "folders")
    for path in (root / "train" / WNIDS[1]).iterdir():
        path.unlink()
    with pytest.raises(InputError, match=r"class 'n01443537' .* has no training images"):
        read_imagenet(root)


def test_a_validation_class_without_a_folder_is_named(tmp_path):
    root = write_imagenet(tmp_path, "folders")
    (root / "val" / WNIDS[2]).rename(root / "val" / "n09999999")
    with pytest.raises(InputError, match=r"00000003\.JPEG: its class n09999999 has no folder in .*train"):
        read_imagenet(root)


def test_validation_alone_is_enough_without_training(tmp_path):
    root = write_imagenet(tmp_path, "devkit")
    (root / "train").rename(root / "elsewhere")
    with pytest.raises(InputError, match=r"no folder of training images; expected one of .*ILSVRC2012_img_train\.tar"):
        read_imagenet(root)
    manifest = read_imagenet(root, require_training=False)
    assert manifest.single_labels().tolist() == [0, 1, 2]


def test_no_validation_images(tmp_path):
    root = write_imagenet(tmp_path, "folders")
    (root / "val").rename(root / "elsewhere")
    with pytest.raises(InputError, match="no folder of validation images; expected one of"):
        read_imagenet(root)


def test_a_png_named_jpeg_and_cmyk_are_read(tmp_path):
    root = write_imagenet(tmp_path, "folders")
    save(picture(), root / "train" / WNIDS[0] / f"{WNIDS[0]}_0.JPEG", format="PNG")
    save(picture().convert("CMYK"), root / "train" / WNIDS[0] / f"{WNIDS[0]}_1.JPEG", format="JPEG")
    assert read_imagenet(root).frame["width"].tolist()[:2] == [40, 40]


def test_devkit_errors_are_named(tmp_path):
    root = write_imagenet(tmp_path, "devkit")
    truth = root / "ILSVRC2012_devkit_t12" / "data" / "ILSVRC2012_validation_ground_truth.txt"
    whole = truth.read_text()
    truth.write_text("3\n1\n")
    with pytest.raises(InputError, match=r"val_00000003\.JPEG: .*has 2 lines and none for this name"):
        read_imagenet(root)
    truth.write_text("3\n1\n77\n")
    with pytest.raises(InputError, match=r"line 3 has the class '77', unknown to .*meta\.mat"):
        read_imagenet(root)
    truth.write_text(whole)
    truth.with_name("meta.mat").write_bytes(b"no matrix")
    with pytest.raises(InputError, match=r"meta\.mat: not the devkit's table"):
        read_imagenet(root)


@pytest.mark.parametrize("layout", ["kaggle", "folders", "devkit"])
def test_classes_keep_their_wnids(tmp_path, layout):
    assert read_imagenet(write_imagenet(tmp_path, layout)).info.class_ids == WNIDS


def test_repeated_names_are_told_apart(tmp_path):
    root = write_imagenet(tmp_path, "kaggle")
    (root / "LOC_synset_mapping.txt").write_text("n01440764 crane\nn01443537 goldfish\nn01484850 crane, bird\n")
    assert read_imagenet(root).info.class_names == ("crane (n01440764)", "goldfish", "crane (n01484850)")


@pytest.mark.parametrize(
    "content",
    [
        "<annotation><object></annotation>",
        "",
        "<annotation><object><name>n1</name></object></annotation>",
        "<annotation><object><name>n1</name><bndbox><xmin>a</xmin></bndbox></object></annotation>",
        '<!DOCTYPE a [<!ENTITY b "c">]><annotation><folder>&b;</folder></annotation>',
    ],
)
def test_bad_xml_is_named(tmp_path, content):
    path = tmp_path / "ILSVRC2012_val_00000001.xml"
    path.write_text(content)
    with pytest.raises(InputError, match=r"00000001\.xml: not a readable box annotation .*restore it"):
        read_annotation(path)


def test_difficult_objects_have_difficult_boxes(tmp_path):
    root = write_imagenet(tmp_path, "kaggle")
    path = notes(root, "kaggle", 1)
    path.write_text(path.read_text().replace("<difficult>0", "<difficult>1"))
    assert read_imagenet(root).frame["box_difficult"].tolist()[-3:] == [[True], [False], [False]]
