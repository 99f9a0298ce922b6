"""CUB-200-2011 in its true format."""

import shutil

import pytest
from dataset_trees import CUB_CLASSES, picture, save, write_cub
from PIL import Image
from relmap.data.formats.cub import read_cub
from relmap.data.images import Preprocessing, load_boxes, load_images, load_masks, load_part_maps
from relmap.errors import InputError


def test_rows_follow_the_official_files(tmp_path):
    manifest = read_cub(write_cub(tmp_path))
    row = manifest.frame.iloc[3]
    assert row["image_id"] == "Laysan_Albatross_0000_4"
    assert row["path"] == f"CUB_200_2011/images/{CUB_CLASSES[1]}/Laysan_Albatross_0000_4.jpg"
    assert row["mask_path"] == f"segmentations/{CUB_CLASSES[1]}/Laysan_Albatross_0000_4.png"
    assert (row["labels"], row["box_labels"], row["width"], row["height"]) == ([1], [1], 40, 30)
    assert row["boxes"] == [[10.0, 5.0, 30.0, 15.0]], "x y w h become edges"
    assert row["part_points"] == [[1.0, 12.0, 7.0]], "only visible parts"
    assert row["part_map_path"] is None
    assert manifest.frame["split"].tolist() == ["train", "train", "test"] * 2
    assert manifest.info.dataset == "cub200_2011"
    assert manifest.info.class_names == ("Black footed Albatross", "Laysan Albatross")
    assert manifest.info.point_names == ("back", "left eye")
    assert manifest.info.part_names == ()
    assert all(manifest.resolve(path).is_file() for path in (*manifest.frame["path"], *manifest.frame["mask_path"]))


@pytest.mark.parametrize("inside", [True, False])
def test_the_inner_folder_can_be_given(tmp_path, inside):
    write_cub(tmp_path, segmentations_inside=inside)
    manifest = read_cub(tmp_path / "CUB_200_2011")
    assert len(manifest) == 6
    assert all(manifest.resolve(path).is_file() for path in (*manifest.frame["path"], *manifest.frame["mask_path"]))


def test_truth_of_rendered_birds(tmp_path):
    manifest = read_cub(write_cub(tmp_path, truth=True))
    assert manifest.info.part_names == ("head", "tail")
    assert manifest.info.distinguishing == {0: ["tail"], 1: ["tail"]}
    parts = load_part_maps(manifest, [0], Preprocessing(30, 30))
    assert parts.unique().tolist() == [0, 1, 2]


def test_boxes_masks_and_parts_agree_with_the_image(tmp_path):
    manifest = read_cub(write_cub(tmp_path, truth=True))
    preprocessing = Preprocessing(60, 60)
    rows = manifest.rows("test")
    boxes, masks = load_boxes(manifest, rows, preprocessing), load_masks(manifest, rows, preprocessing)
    parts = load_part_maps(manifest, rows, preprocessing)
    assert load_images(manifest, rows, preprocessing).shape == (2, 3, 60, 60)
    # Twice the size, the centre 60 of 80 columns: the box [10, 5, 30, 15] becomes [10, 10, 50, 30].
    assert boxes[0].nonzero().amin(0).tolist() == [10, 10]
    assert boxes[0].nonzero().amax(0).tolist() == [29, 49]
    assert boxes[0].sum() == 20 * 40
    assert (masks == boxes).all()
    assert ((parts > 0) == boxes).all()
    assert (parts[0, 10:30, 10:30] == 1).all() and (parts[0, 10:30, 30:50] == 2).all()


def test_grey_images_and_odd_masks_are_read(tmp_path):
    root = write_cub(tmp_path)
    frame = read_cub(root).frame
    save(picture(seed=3).convert("L"), root / frame["path"][0])
    mask_path = root / frame["mask_path"][0]
    mask = Image.open(mask_path)
    save(Image.merge("LA", (mask, Image.new("L", mask.size, 255))), mask_path)
    manifest = read_cub(root)
    preprocessing = Preprocessing(30, 30)
    images = load_images(manifest, [0], preprocessing)
    restored = preprocessing.denormalise(images)
    assert (restored[0, 0] - restored[0, 1]).abs().max() < 1e-6
    # The alpha plane is full everywhere and must not count as object.
    assert load_masks(manifest, [0], preprocessing).sum() == load_masks(manifest, [1], preprocessing).sum()


def test_a_missing_mask_is_named(tmp_path):
    root = write_cub(tmp_path)
    (root / read_cub(root).frame["mask_path"][4]).unlink()
    with pytest.raises(InputError, match=r"Laysan_Albatross_0001_5\.jpg has no segmentation mask .*add the mask"):
        read_cub(root)
    shutil.rmtree(root / "segmentations")
    with pytest.raises(InputError, match="has no segmentation mask"):
        read_cub(root)
    assert read_cub(root, require_masks=False).frame["mask_path"].isna().all()


def test_a_class_without_training_images_is_named(tmp_path):
    root = write_cub(tmp_path, per_class=1)
    with pytest.raises(InputError, match=r"class 'Black footed Albatross' .* no training images"):
        read_cub(root)


def test_a_missing_part_map_is_named(tmp_path):
    root = write_cub(tmp_path, truth=True)
    next((root / "relmap_truth" / "part_maps").rglob("*.png")).unlink()
    with pytest.raises(InputError, match=r"part_maps/.*\.png: cannot be read"):
        read_cub(root)


def test_another_folder_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"no CUB-200-2011 here .*extract CUB_200_2011\.tgz and segmentations\.tgz"):
        read_cub(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("bounding_boxes.txt", "1 10 5 20\n", r"bounding_boxes\.txt: line 1 \('1 10 5 20'\) is not as CUB"),
        ("bounding_boxes.txt", "1 10 5 20 10\n", r"bounding_boxes\.txt: no line for image 2 "),
        ("train_test_split.txt", "1 1\n1 0\n", r"train_test_split\.txt: line 2 repeats id 1"),
        ("classes.txt", "1 001.Black_footed_Albatross\n", r"image 4 has class 2, which classes\.txt does not list"),
        ("classes.txt", "", r"classes\.txt: no classes"),
        ("parts/parts.txt", "2 back\n", r"parts\.txt: part ids must be 1, 2"),
        ("parts/part_locs.txt", "1 1 2.0\n", r"part_locs\.txt: line 1"),
        ("images.txt", None, "no CUB-200-2011 here"),
        ("classes.txt", None, r"classes\.txt: missing; extract CUB_200_2011\.tgz again"),
    ],
)
def test_malformed_tables_are_named(tmp_path, name, content, message):
    root = write_cub(tmp_path)
    path = root / "CUB_200_2011" / name
    if content is None:
        path.unlink()
    else:
        path.write_text(content)
    with pytest.raises(InputError, match=message):
        read_cub(root)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("parts.csv", "number,name\n1,head\n", r"parts\.csv: lacks the column index"),
        ("parts.csv", "index,name\n2,head\n", r"parts\.csv: part indices must be 1, 2"),
        ("parts.csv", "index,name\none,head\n", r"parts\.csv: index 'one' is not a number"),
        ("distinguishing_parts.csv", "class_id,part\n1,fin\n", r"class '1' with part 'fin' is not in"),
        ("distinguishing_parts.csv", "class_id,part\n9,tail\n", r"class '9' with part 'tail' is not in"),
    ],
)
def test_malformed_truth_is_named(tmp_path, name, content, message):
    root = write_cub(tmp_path, truth=True)
    (root / "relmap_truth" / name).write_text(content)
    with pytest.raises(InputError, match=message):
        read_cub(root)


def test_a_corrupt_image_is_named(tmp_path):
    root = write_cub(tmp_path)
    path = root / read_cub(root).frame["path"][2]
    path.write_bytes(b"\xff\xd8\xff")
    with pytest.raises(InputError, match=r"Black_footed_Albatross_0002_3\.jpg: corrupt or truncated"):
        read_cub(root)
