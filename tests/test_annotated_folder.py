"""A folder a class with boxes or masks in one file: CSV, or COCO's table."""

import json

import numpy as np
import pytest
from dataset_trees import picture, save
from PIL import Image
from relmap.catalogue.rows import as_configured, load_rows
from relmap.data.formats.annotated_folder import read_with_boxes, read_with_masks
from relmap.errors import InputError
from relmap.job.config import load

NAMES = ("auk/a.png", "auk/b.png", "tern/a.png")


@pytest.fixture
def root(tmp_path):
    for number, name in enumerate(NAMES):
        save(picture(40, 30, seed=number), tmp_path / name)
    return tmp_path


def boxes_csv(root, *lines):
    (root / "boxes.csv").write_text("\n".join(["image,x0,y0,x1,y1", *lines]) + "\n")


def test_boxes_of_a_table_and_of_coco_are_the_same(root):
    boxes_csv(root, "auk/a.png, 1, 2, 11, 12", "auk/a.png,20,20,30,28", "b.png,0,0,5,5", "tern/a.png,3,3,9,9.5")
    first = read_with_boxes(root, dataset="own")
    assert first.frame["boxes"].tolist() == [
        [[1, 2, 11, 12], [20, 20, 30, 28]],
        [[0, 0, 5, 5]],
        [[3, 3, 9, 9.5]],
    ]
    assert first.frame["box_labels"].tolist() == [[0, 0], [0], [1]] and set(first.frame["split"]) == {"test"}
    (root / "boxes.csv").unlink()
    images = [{"id": number, "file_name": name} for number, name in enumerate(NAMES)]
    boxes = [(0, [1, 2, 10, 10]), (0, [20, 20, 10, 8]), (1, [0, 0, 5, 5]), (2, [3, 3, 6, 6.5])]
    annotations = [{"id": number, "image_id": image, "bbox": box} for number, (image, box) in enumerate(boxes)]
    (root / "annotations.json").write_text(json.dumps({"images": images, "annotations": annotations}))
    assert read_with_boxes(root, dataset="own").frame["boxes"].tolist() == first.frame["boxes"].tolist()


def test_the_box_of_a_mask_is_around_its_pixels(root):
    lines = ["image,mask"]
    for number, name in enumerate(NAMES):
        mask = np.zeros((30, 40), np.uint8)
        mask[2 + number : 9, 5:11] = 200
        (root / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(root / "masks" / f"{number}.png")
        lines.append(f"{name},masks/{number}.png")
    (root / "masks.csv").write_text("\n".join(lines) + "\n")
    frame = read_with_masks(root, dataset="own", classes={"auk": "auk", "tern": "tern"}).frame
    assert frame["boxes"].tolist() == [[[5, 2 + number, 11, 9]] for number in range(3)]
    assert frame["mask_path"].tolist() == [f"masks/{number}.png" for number in range(3)]


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        (["auk/a.png,1,2,11,12"], r"auk/b\.png: the picture has no box"),
        (["a.png,1,2,11,12"], r"line 2: no picture 'a\.png' in the folder, or several"),
        (["auk/c.png,1,2,11,12"], r"line 2: no picture 'auk/c\.png'"),
        (["b.png,11,2,1,12"], r"line 2: the box .* is empty"),
        (["b.png,1,2,x,12"], r"line 2: a side of the box is no number"),
        (["b.png,1,2"], r"line 2 has not as many values"),
    ],
)
def test_what_is_wrong_is_named_with_its_line(root, lines, words):
    boxes_csv(root, *lines)
    with pytest.raises(InputError, match=words):
        read_with_boxes(root, dataset="own")


def test_a_folder_without_a_file_of_boxes_or_with_two_is_refused(root):
    with pytest.raises(InputError, match=r"needs boxes\.csv or annotations\.json"):
        read_with_boxes(root, dataset="own")
    boxes_csv(root, *(f"{name},1,2,3,4" for name in NAMES))
    (root / "annotations.json").write_text("[]")
    with pytest.raises(InputError, match="one of them"):
        read_with_boxes(root, dataset="own")
    (root / "boxes.csv").unlink()
    with pytest.raises(InputError, match="not COCO's table"):
        read_with_boxes(root, dataset="own")


def test_a_run_knows_what_the_format_has():
    config = load({"datasets": {"imagenet": {"source": "local", "path": "x", "format": "folder_with_masks"}}})
    rows = as_configured(load_rows((), config), config)
    assert set(rows.datasets["imagenet"].has) == {"boxes", "masks"}
