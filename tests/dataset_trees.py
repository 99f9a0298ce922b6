"""Small datasets in the true on-disk formats, written by the tests that read them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image


def picture(width: int = 40, height: int = 30, seed: int = 0) -> Image.Image:
    """Coarse noise: survives JPEG, differs by seed."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((width, height), Image.Resampling.BILINEAR)


def save(image: Image.Image, path: Path, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path, **options)
    return path


CUB_CLASSES = ("001.Black_footed_Albatross", "002.Laysan_Albatross")


def write_cub(root: Path, per_class: int = 3, truth: bool = False, segmentations_inside: bool = False) -> Path:
    """CUB-200-2011 with two classes: 40 x 30 images, the last of each class is a test image."""
    base = root / "CUB_200_2011"
    (base / "parts").mkdir(parents=True)
    masks = (base if segmentations_inside else root) / "segmentations"
    lines = {name: [] for name in ("images", "train_test_split", "image_class_labels", "bounding_boxes")}
    points = []
    number = 0
    for class_index, class_name in enumerate(CUB_CLASSES, start=1):
        for index in range(per_class):
            number += 1
            stem = f"{class_name.split('.')[1]}_{index:04d}_{number}"
            save(picture(seed=number), base / "images" / class_name / f"{stem}.jpg")
            mask = np.zeros((30, 40), np.uint8)
            mask[5:15, 10:30] = 51
            mask[8:12, 12:20] = 255
            save(Image.fromarray(mask), masks / class_name / f"{stem}.png")
            if truth:
                parts = np.zeros((30, 40), np.uint8)
                parts[5:15, 10:20], parts[5:15, 20:30] = 1, 2
                save(Image.fromarray(parts), root / "relmap_truth" / "part_maps" / class_name / f"{stem}.png")
            lines["images"].append(f"{number} {class_name}/{stem}.jpg")
            lines["train_test_split"].append(f"{number} {int(index < per_class - 1)}")
            lines["image_class_labels"].append(f"{number} {class_index}")
            lines["bounding_boxes"].append(f"{number} 10.0 5.0 20.0 10.0")
            points += [f"{number} 1 12.0 7.0 1", f"{number} 2 0.0 0.0 0"]
    for name, content in lines.items():
        (base / f"{name}.txt").write_text("\n".join(content) + "\n")
    (base / "classes.txt").write_text("".join(f"{i} {name}\n" for i, name in enumerate(CUB_CLASSES, start=1)))
    (base / "parts" / "parts.txt").write_text("1 back\n2 left eye\n")
    (base / "parts" / "part_locs.txt").write_text("\n".join(points) + "\n")
    if truth:
        folder = root / "relmap_truth"
        (folder / "parts.csv").write_text("index,name\n1,head\n2,tail\n")
        (folder / "distinguishing_parts.csv").write_text("class_id,neighbour_id,part\n1,2,tail\n2,1,tail\n")
    return root


WNIDS = ("n01440764", "n01443537", "n01484850")


def annotation_xml(name: str, boxes: list[tuple[str, int, int, int, int]], width: int = 40, height: int = 30) -> str:
    """ILSVRC's XML: (wnid, xmin, ymin, xmax, ymax) per object."""
    objects = "".join(
        f"<object><name>{wnid}</name><pose>Unspecified</pose><truncated>0</truncated><difficult>0</difficult>"
        f"<bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax></bndbox></object>"
        for wnid, x0, y0, x1, y1 in boxes
    )
    return (
        f"<annotation><folder>val</folder><filename>{name}</filename><source><database>ILSVRC_2012</database></source>"
        f"<size><width>{width}</width><height>{height}</height><depth>3</depth></size><segmented>0</segmented>{objects}"
        "</annotation>"
    )


def write_imagenet(root: Path, layout: str = "kaggle", per_class: int = 2) -> Path:
    """ILSVRC 2012 with three classes. Layouts: kaggle (flat), folders (validation in class folders), devkit (flat)."""
    kaggle = layout == "kaggle"
    data = root / "ILSVRC" / "Data" / "CLS-LOC" if kaggle else root
    notes = root / "ILSVRC" / "Annotations" / "CLS-LOC" / "val" if kaggle else root / "ILSVRC2012_bbox_val_v3" / "val"
    notes.mkdir(parents=True)
    solution = [("ImageId", "PredictionString")]
    ids = []
    for label, wnid in enumerate(WNIDS):
        for index in range(per_class):
            save(picture(seed=10 * label + index), data / "train" / wnid / f"{wnid}_{index}.JPEG")
        name = f"ILSVRC2012_val_{label + 1:08d}"
        folder = data / "val" / wnid if layout == "folders" else data / "val"
        save(picture(seed=100 + label), folder / f"{name}.JPEG")
        (notes / f"{name}.xml").write_text(annotation_xml(name, [(wnid, 4, 5, 23, 14)]))
        solution.append((name, f"{wnid} 4 5 23 14 "))
        ids.append(DEVKIT_IDS[wnid])
    if kaggle:
        with open(root / "LOC_val_solution.csv", "w", newline="") as file:
            csv.writer(file).writerows(solution)
        names = ("tench, Tinca tinca", "goldfish, Carassius auratus", "great white shark, white shark")
        pairs = zip(WNIDS, names, strict=True)
        (root / "LOC_synset_mapping.txt").write_text("".join(f"{wnid} {words}\n" for wnid, words in pairs))
    if layout == "devkit":
        write_devkit(root, ids)
    return root


# The devkit numbers its classes in an order of its own.
DEVKIT_IDS = {"n01440764": 3, "n01443537": 1, "n01484850": 2}


def write_devkit(root: Path, ids: list[int]) -> None:
    """meta.mat with three low-level synsets and one inner node, and the validation ground truth."""
    import scipy.io

    folder = root / "ILSVRC2012_devkit_t12" / "data"
    folder.mkdir(parents=True)
    fields = ("ILSVRC2012_ID", "WNID", "words", "gloss", "num_children", "children", "wordnet_height")
    table = np.empty((4, 1), dtype=[(name, "O") for name in fields])
    words = {"n01440764": "tench, Tinca tinca", "n01443537": "goldfish", "n01484850": "great white shark"}
    for row, (wnid, identifier) in enumerate(sorted(DEVKIT_IDS.items(), key=lambda pair: pair[1])):
        table[row, 0] = (identifier, wnid, words[wnid], "a fish", 0, np.zeros(0), 0)
    table[3, 0] = (1001, "n00001740", "entity", "all", 3, np.array([1, 2, 3]), 1)
    scipy.io.savemat(folder / "meta.mat", {"synsets": table})
    (folder / "ILSVRC2012_validation_ground_truth.txt").write_text("".join(f"{i}\n" for i in ids))
