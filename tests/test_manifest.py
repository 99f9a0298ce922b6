"""The manifest: round trip, fingerprint, and what it refuses."""

import dataclasses
import os

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from dataset_trees import picture, save
from relmap.data.images import Preprocessing, load_images, load_masks, load_pixels
from relmap.data.manifest import build_manifest, read_manifest, write_manifest
from relmap.errors import InputError

CLASSES = ("auk", "bunting")


def rows_in(root, count=4):
    rows = []
    for index in range(count):
        save(picture(seed=index), root / f"{index}.png")
        rows.append(
            {
                "image_id": f"image{index}",
                "path": f"{index}.png",
                "split": "train" if index < count - 1 else "test",
                "labels": [index % 2],
                "boxes": [[1.0, 2.0, 11.0, 12.0], [20.0, 20.0, 30.0, 28.0]] if index else [],
                "width": 40,
                "height": 30,
            }
        )
    return rows


def build(root, rows, **options):
    return build_manifest("toy", root, rows, CLASSES, **options)


def test_round_trip_keeps_rows_names_and_missing_values(tmp_path):
    rows = rows_in(tmp_path)
    save(picture(), tmp_path / "m.png")
    rows[0]["mask_path"] = "m.png"
    rows[1]["part_points"] = [[2.0, 5.5, 6.5]]
    manifest = build(tmp_path, rows, part_names=("head",), distinguishing={1: ["head"]}, point_names=("back",))
    write_manifest(manifest.frame, tmp_path / "toy.parquet", manifest.info)
    again = read_manifest(tmp_path / "toy.parquet")
    assert again.info == manifest.info
    pd.testing.assert_frame_equal(again.frame, manifest.frame)
    assert again.frame["mask_path"].tolist() == ["m.png", None, None, None]
    assert again.frame["boxes"][1] == [[1.0, 2.0, 11.0, 12.0], [20.0, 20.0, 30.0, 28.0]]
    assert again.frame["boxes"][0] == []
    assert again.info.distinguishing == {1: ["head"]}
    assert again.rows("train").tolist() == [0, 1, 2]
    assert again.single_labels(again.rows("test")).tolist() == [1]
    assert again.resolve(again.frame["path"][3]).is_file()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_fingerprint_follows_content_and_nothing_else(tmp_path):
    rows = rows_in(tmp_path / "a")
    first = build(tmp_path / "a", rows).info.fingerprint
    assert build(tmp_path / "b", rows_in(tmp_path / "b")).info.fingerprint == first, "the folder must not count"
    assert build(tmp_path / "a", rows[::-1]).info.fingerprint == first, "the order of rows must not count"
    changed = [dict(row) for row in rows]
    changed[1]["boxes"] = [[1.0, 2.0, 11.0, 13.0]]
    assert build(tmp_path / "a", changed).info.fingerprint != first
    assert build(tmp_path / "a", rows, part_names=("head",)).info.fingerprint != first
    path = tmp_path / "a" / "1.png"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert path.stat().st_size == size
    assert build(tmp_path / "a", rows).info.fingerprint != first, "one byte of one image counts"


def test_ids_of_classes_and_masks_of_boxes_are_as_many_as_those(tmp_path):
    rows = rows_in(tmp_path)
    manifest = build(tmp_path, rows, class_ids=("n1", "n2"))
    assert manifest.info.class_ids == ("n1", "n2")
    assert manifest.frame["box_masks"].tolist() == [[], ["", ""], ["", ""], ["", ""]]
    assert manifest.info.fingerprint != build(tmp_path, rows).info.fingerprint
    with pytest.raises(InputError, match="1 ids of classes, but 2 names; give as many of each"):
        build(tmp_path, rows, class_ids=("n1",))
    rows[1]["box_masks"] = ["", "", ""]
    with pytest.raises(InputError, match=r"image1 has 2 boxes, .* and 3 masks of boxes; give as many of each"):
        build(tmp_path, rows)


def test_above_the_limit_sizes_stand_for_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("relmap.data.manifest.HASH_BYTES_LIMIT", 10)
    rows = rows_in(tmp_path)
    first = build(tmp_path, rows).info.fingerprint
    path = tmp_path / "1.png"
    path.write_bytes(path.read_bytes() + b"\0")
    assert build(tmp_path, rows).info.fingerprint != first


def test_boxes_a_little_outside_are_cut(tmp_path):
    rows = rows_in(tmp_path)
    rows[1]["boxes"] = [[-1.0, -2.0, 41.5, 30.0]]
    assert build(tmp_path, rows).frame["boxes"][1] == [[0.0, 0.0, 40.0, 30.0]]


@pytest.mark.parametrize(
    "box", [[30.0, 2.0, 60.0, 12.0], [5.0, 5.0, 5.0, 12.0], [9.0, 2.0, 3.0, 12.0], [float("nan"), 2.0, 3.0, 12.0]]
)
def test_boxes_far_outside_or_empty_are_refused(tmp_path, box):
    rows = rows_in(tmp_path)
    rows[2]["boxes"] = [[1.0, 1.0, 2.0, 2.0], box]
    with pytest.raises(InputError, match=r"toy: box .* of 2\.png .*40 x 30.*correct the annotation"):
        build(tmp_path, rows)


def test_a_class_without_training_images_is_named(tmp_path):
    rows = rows_in(tmp_path)
    rows[1]["split"] = "test"
    with pytest.raises(InputError, match=r"class 'bunting' \(label 1\) has no training images; add some, or remove"):
        build(tmp_path, rows)
    assert len(build(tmp_path, rows, require_training=False)) == 4


def test_a_missing_mask_is_named_where_masks_are_required(tmp_path):
    rows = rows_in(tmp_path)
    save(picture(), tmp_path / "m.png")
    for row in rows[:3]:
        row["mask_path"] = "m.png"
    assert len(build(tmp_path, rows)) == 4
    with pytest.raises(InputError, match=r"image 3\.png has no segmentation mask \(1 such images\); add the mask"):
        build(tmp_path, rows, require_masks=True)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": "image0"}, r"image id 'image0' appears more than once; remove"),
        ({"split": "val"}, r"image2 has the unknown split 'val'; use train or test"),
        ({"labels": [2]}, r"image2 has label 2, but there are 2 classes"),
        ({"labels": []}, r"image2 has no label; add it, or remove the image"),
        ({"labels": [0, 0]}, r"image2 has the labels \[0, 0\]; give each class in it once"),
        ({"width": 0}, r"2\.png has size 0 x 30"),
        ({"path": "gone.png"}, r"gone\.png: cannot be read .*restore it, or remove its row"),
        ({"mask_path": "gone_mask.png"}, r"gone_mask\.png: cannot be read"),
    ],
)
def test_bad_rows_are_named(tmp_path, change, message):
    rows = rows_in(tmp_path)
    rows[2] |= {"boxes": []} | change
    with pytest.raises(InputError, match=message):
        build(tmp_path, rows)


def test_images_of_no_class_where_the_reader_allows_them(tmp_path):
    rows = rows_in(tmp_path)
    rows[3] |= {"labels": [], "boxes": []}
    manifest = build(tmp_path, rows, require_labels=False)
    assert manifest.frame["labels"].tolist() == [[0], [1], [0], []]
    with pytest.raises(InputError, match="image3 has 0 labels"):
        manifest.single_labels()


def test_no_images(tmp_path):
    with pytest.raises(InputError, match="no images found; check that the folder holds the extracted dataset"):
        build(tmp_path, [])


def test_an_unknown_split_is_named(tmp_path):
    with pytest.raises(InputError, match="split 'val' is unknown; choose one of train, test"):
        build(tmp_path, rows_in(tmp_path)).rows("val")


def test_other_files_are_not_manifests(tmp_path):
    with pytest.raises(InputError, match="no such file; run the rule that makes it"):
        read_manifest(tmp_path / "absent.parquet")
    (tmp_path / "text.parquet").write_text("not parquet")
    with pytest.raises(InputError, match=r"text\.parquet: truncated, or .*; delete it and run again"):
        read_manifest(tmp_path / "text.parquet")
    pd.DataFrame({"image_id": ["a"]}).to_parquet(tmp_path / "other.parquet")
    with pytest.raises(InputError, match=r"other\.parquet: not a relmap manifest, it lacks the columns path, "):
        read_manifest(tmp_path / "other.parquet")


def test_a_truncated_manifest_is_named(tmp_path):
    manifest = build(tmp_path, rows_in(tmp_path))
    path = tmp_path / "toy.parquet"
    write_manifest(manifest.frame, path, manifest.info)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(InputError, match=r"toy\.parquet: truncated, or not a readable Parquet file"):
        read_manifest(path)


def test_columns_have_the_declared_types(tmp_path):
    manifest = build(tmp_path, rows_in(tmp_path))
    write_manifest(manifest.frame, tmp_path / "toy.parquet", dataclasses.replace(manifest.info, root="elsewhere"))
    schema = pq.read_schema(tmp_path / "toy.parquet")
    assert str(schema.field("boxes").type) == "list<element: list<element: double>>"
    frame = read_manifest(tmp_path / "toy.parquet").frame
    assert frame["width"].dtype == np.int64 and frame["labels"].dtype == frame["box_labels"].dtype == object
    assert str(schema.field("labels").type) == "list<element: int64>"
    assert str(schema.field("box_difficult").type) == "list<element: bool>"
    assert frame.attrs["root"] == "elsewhere"


@pytest.fixture
def kept(tmp_path):
    """A manifest as jobs read it, with a picture and a mask, and where it lies."""
    rows = rows_in(tmp_path / "data")
    save(picture(), tmp_path / "data" / "m.png")
    rows[0]["mask_path"] = "m.png"
    manifest = build(tmp_path / "data", rows)
    write_manifest(manifest.frame, tmp_path / "toy.parquet", manifest.info, manifest.states)
    return tmp_path / "toy.parquet"


VIEW = Preprocessing(16, 16, fit="squash")


def test_a_picture_that_was_changed_is_an_error_wherever_it_is_read(kept):
    load_images(read_manifest(kept), [0, 1], VIEW)
    path = kept.parent / "data" / "1.png"
    save(picture(seed=9), path)
    for read in (load_images, load_pixels):
        with pytest.raises(InputError, match=r"1\.png: was changed after the manifest was made"):
            read(read_manifest(kept), [0, 1], VIEW)
    load_images(read_manifest(kept), [0, 2], VIEW)
    save(picture(seed=9), kept.parent / "data" / "m.png")
    with pytest.raises(InputError, match=r"m\.png: was changed"):
        load_masks(read_manifest(kept), [0], VIEW)
    path.unlink()
    with pytest.raises(InputError, match=r"1\.png: no such image"):
        load_images(read_manifest(kept), [1], VIEW)


def test_one_changed_byte_of_a_picture_of_the_same_size_is_seen_and_another_time_alone_is_nothing(kept):
    path = kept.parent / "data" / "1.png"
    before = load_images(read_manifest(kept), [1], VIEW)
    os.utime(path)
    assert load_images(read_manifest(kept), [1], VIEW).equal(before)
    content = bytearray(path.read_bytes())
    content[-20] ^= 1
    path.write_bytes(content)
    os.utime(path, ns=(1, 1))
    with pytest.raises(InputError, match=r"1\.png: was changed"):
        read_manifest(kept).check("1.png")


def test_of_a_data_set_too_large_to_be_read_another_time_is_another_file(tmp_path, monkeypatch):
    monkeypatch.setattr("relmap.data.manifest.HASH_BYTES_LIMIT", 10)
    manifest = build(tmp_path, rows_in(tmp_path))
    assert {state.sha256 for state in manifest.states.known.values()} == {""}
    load_images(manifest, [1], VIEW)
    os.utime(tmp_path / "1.png", ns=(1, 1))
    with pytest.raises(InputError, match="delete the data set's manifest to take it"):
        load_images(manifest, [1], VIEW)


def test_times_are_no_part_of_the_manifest(kept):
    first = kept.read_bytes()
    for path in (kept.parent / "data").iterdir():
        os.utime(path, ns=(5, 5))
    manifest = build(kept.parent / "data", read_manifest(kept).frame.to_dict("records"))
    write_manifest(manifest.frame, kept, manifest.info, manifest.states)
    assert kept.read_bytes() == first


def test_a_table_of_files_that_is_damaged_is_named(kept):
    beside = kept.with_suffix(".files.parquet")
    beside.write_bytes(beside.read_bytes()[:40])
    with pytest.raises(InputError, match=r"toy\.files\.parquet: truncated, or not a readable"):
        read_manifest(kept)


def test_a_manifest_does_not_do_without_the_table_of_its_files(kept):
    beside = kept.with_suffix(".files.parquet")
    own = beside.read_bytes()
    other = build(kept.parent / "data", rows_in(kept.parent / "data", count=3))
    write_manifest(other.frame, kept.parent / "other.parquet", other.info, other.states)
    beside.write_bytes((kept.parent / "other.files.parquet").read_bytes())
    with pytest.raises(InputError, match=r"toy\.files\.parquet: is not this manifest's"):
        read_manifest(kept)
    beside.unlink()
    with pytest.raises(InputError, match=r"toy\.files\.parquet: no such file"):
        read_manifest(kept)
    beside.write_bytes(own)
    assert len(read_manifest(kept)) == 4


@pytest.mark.parametrize("suffix", [".parquet", ".files.parquet"])
def test_a_changed_byte_of_a_table_is_noticed(kept, suffix):
    """Wherever it is: in a page, whose checksum tells, or in the file's own words."""
    path = kept.with_suffix(suffix)
    whole = path.read_bytes()
    before = read_manifest(kept)
    for place in range(4, len(whole) - 8, max(1, len(whole) // 60)):
        content = bytearray(whole)
        content[place] ^= 0xFF
        path.write_bytes(content)
        try:
            found = read_manifest(kept)
        except InputError:
            continue
        # Statistics and the like, which nobody reads.
        pd.testing.assert_frame_equal(found.frame, before.frame)
        assert found.info == before.info and found.states == before.states
