"""Layer by layer: where a CLA-layer's attributes look, its relevance map, and the related training images."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from relmap.errors import InputError
from relmap.figures.overlays import overlay
from relmap.figures.page import Page
from relmap.figures.pictures import box_area
from relmap.figures.style import ATTRIBUTE_COLOURS, PAGE_WIDTH

_SHAPES = {
    "regions": ("n", "L", "A", 4),
    "kept": ("n", "L", "A"),
    "related_id": ("n", "L", "A", "K"),
    "related_box": ("n", "L", "A", "K", 4),
    "related_distance": ("n", "L", "A", "K"),
}


@dataclass(frozen=True)
class Examples:
    """Attribute regions of n test images at L layers, and the K training images related to each of A regions.

    Attributes:
        image_id: (n,) test images.
        layers: (L,) module names, from the output towards the input or the reverse.
        regions: (n, L, A, 4) boxes [x0, y0, x1, y1] in pixels of the preprocessed picture.
        kept: (n, L, A) False where a region repeats another of its layer (the paper's duplicates).
        relevance: L arrays (n, h, w): the layer's refined relevance, summed over channels.
        related_id: (n, L, A, K) training images, most similar first.
        related_box: (n, L, A, K, 4) their regions, in pixels of their preprocessed pictures.
        related_distance: (n, L, A, K) distance of their attribute responses; smaller is more similar.
    """

    image_id: np.ndarray
    layers: tuple[str, ...]
    regions: np.ndarray
    kept: np.ndarray
    relevance: tuple[np.ndarray, ...]
    related_id: np.ndarray
    related_box: np.ndarray
    related_distance: np.ndarray


def read_examples(path: str | os.PathLike) -> Examples:
    """Read ``examples.npz``: the arrays of ``Examples``; relevance under ``relevance_<layer>``.

    Raises:
        InputError: the file is missing, or an array of it is missing or has another shape than the rest imply.
    """
    if not Path(path).is_file():
        raise InputError(f"{path}: no such file; run the rule that makes it")
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    missing = [name for name in ("image_id", "layers", *_SHAPES) if name not in arrays]
    if missing:
        raise InputError(f"{path}: lacks {', '.join(missing)}; delete it and run again")
    layers = tuple(str(layer) for layer in arrays["layers"])
    sizes = {"n": len(arrays["image_id"]), "L": len(layers)}
    for name, shape in _SHAPES.items():
        found = arrays[name].shape
        for axis, size in zip(shape, found, strict=False):
            if isinstance(axis, str):
                sizes.setdefault(axis, size)
        wanted = tuple(sizes.get(axis, 0) if isinstance(axis, str) else axis for axis in shape)
        if found != wanted:
            raise InputError(f"{path}: '{name}' has shape {found}, expected {wanted}; delete it and run again")
    relevance = []
    for layer in layers:
        values = arrays.get(f"relevance_{layer}")
        if values is None or values.ndim != 3 or len(values) != sizes["n"]:
            raise InputError(f"{path}: no maps (n, h, w) under 'relevance_{layer}'; delete it and run again")
        relevance.append(values)
    return Examples(
        image_id=arrays["image_id"].astype(str),
        layers=layers,
        relevance=tuple(relevance),
        **{name: arrays[name] for name in _SHAPES},
    )


def layer_name(layer: str) -> str:
    """A layer as the paper's figures call it: torchvision's ``features.28`` is ``Conv-28``."""
    stem, _, number = layer.partition(".")
    return f"Conv-{number}" if stem == "features" and number.isdigit() else layer


def depth_order(layers: Sequence[str]) -> list[int]:
    """Indices of the layers from the output to the input, by the numbers in their names."""

    def key(index: int) -> tuple[int, ...]:
        return tuple(int(part) for part in "".join(c if c.isdigit() else " " for c in layers[index]).split())

    return sorted(range(len(layers)), key=key, reverse=True)


def spread(indices: Sequence[int], count: int) -> list[int]:
    """At most ``count`` of the indices, evenly spaced, with the first and the last."""
    if len(indices) <= count:
        return list(indices)
    return [indices[round(step)] for step in np.linspace(0, len(indices) - 1, count)]


def part_histogram(part_map: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Share of each part among the part pixels in a box; all zero when the box holds background only.

    Args:
        part_map: (H, W) part index per pixel, 0 for background.
        box: [x0, y0, x1, y1] in pixels; a pixel is inside when its centre is.

    Returns:
        (256,) shares.
    """
    x0, y0, x1, y1 = (int(np.ceil(edge - 0.5)) for edge in box)
    inside = part_map[max(y0, 0) : max(y1, 0), max(x0, 0) : max(x1, 0)]
    counts = np.bincount(inside[inside > 0].astype(int), minlength=256).astype(float)
    return counts / counts.sum() if counts.sum() else counts


def _pairs(examples: Examples, index: int) -> list[tuple[int, int]]:
    """Layer and attribute of an image's kept regions that have a related image."""
    known = examples.related_id[index, :, :, 0] != ""
    return [(int(layer), int(attribute)) for layer, attribute in np.argwhere(examples.kept[index] & known)]


def measures(
    examples: Examples,
    object_box: Callable[[str], np.ndarray],
    part_map: Callable[[str], np.ndarray | None],
) -> pd.DataFrame:
    """What can go wrong between a test image and its related training images, per test image.

    Args:
        examples: of one explainer.
        object_box: image id -> (k, 4) object boxes in its preprocessed picture; the largest counts.
        part_map: image id -> (H, W) part indices, or None where parts are not known.

    Returns:
        Index image_id; ``size_ratio``: geometric mean, over kept regions, of the training object's box area over the
        test object's; ``part_agreement``: mean overlap of the part shares in the two regions, in [0, 1], NaN without
        part maps; ``distance``: mean distance to the nearest related image, standardised per layer over the
        candidates (larger is less similar).
    """
    areas: dict[str, float] = {}

    def area(image: str) -> float:
        if image not in areas:
            areas[image] = max((box_area(box) for box in object_box(image)), default=0.0)
        return areas[image]

    parts: dict[str, np.ndarray | None] = {}

    def parts_of(image: str) -> np.ndarray | None:
        if image not in parts:
            parts[image] = part_map(image)
        return parts[image]

    nearest = examples.related_distance[..., 0]
    known = examples.kept & np.isfinite(nearest)  # infinite where a region has no related image
    counts = np.maximum(known.sum(axis=(0, 2), keepdims=True), 1)
    centred = np.where(known, nearest, 0.0)
    centred = np.where(known, nearest - centred.sum(axis=(0, 2), keepdims=True) / counts, 0.0)
    deviation = np.sqrt((centred**2).sum(axis=(0, 2), keepdims=True) / counts)
    standard = centred / np.where(deviation > 0, deviation, 1.0)
    records = []
    for index, image in enumerate(examples.image_id):
        ratios, overlaps, distances = [], [], []
        for layer, attribute in _pairs(examples, index):
            other = str(examples.related_id[index, layer, attribute, 0])
            distances.append(standard[index, layer, attribute])
            if area(image) > 0 and area(other) > 0:
                ratios.append(np.log(area(other) / area(image)))
            here, there = parts_of(image), parts_of(other)
            if here is not None and there is not None:
                a = part_histogram(here, examples.regions[index, layer, attribute])
                b = part_histogram(there, examples.related_box[index, layer, attribute, 0])
                if a.any() or b.any():  # two regions of mere background say nothing about parts
                    overlaps.append(float(np.minimum(a, b).sum()))
        records.append(
            {
                "image_id": str(image),
                "size_ratio": float(np.exp(np.mean(ratios))) if ratios else np.nan,
                "part_agreement": float(np.mean(overlaps)) if overlaps else np.nan,
                "distance": float(np.mean(distances)) if distances else np.nan,
            }
        )
    return pd.DataFrame(records).set_index("image_id")


def assign_figures(frame: pd.DataFrame) -> dict[int, str]:
    """Choose the images of Figures 4 and 14 to 18 by measure.

    17: the largest size ratio. 18: the lowest part agreement, or the largest distance where no parts are known. 4 and
    14: the largest gains; 15 and 16: nearest to the median gain. All but 17 and 18 are rightly classified where
    possible; no image, and where possible no class, comes twice.

    Args:
        frame: index image_id; columns gain, target, correct, size_ratio, part_agreement, distance.

    Returns:
        Figure number -> image id. When there are too few candidates the later figures repeat images.

    Raises:
        InputError: there are no candidates.
    """
    if frame.empty:
        raise InputError("layer sheets: no candidate images in examples.npz; raise their number in the configuration")
    chosen: dict[int, str] = {}

    def take(figure: int, order: pd.Series, right_only: bool) -> None:
        known = order.fillna(np.inf)
        used = list(chosen.values())
        keys = pd.DataFrame(
            {
                "used": frame.index.isin(used),
                "wrong": ~frame["correct"].astype(bool) if right_only else False,
                "class_used": frame["target"].isin(frame.loc[used, "target"]),
                "order": known.round(12),
                "image": frame.index,
            },
            index=frame.index,
        )
        chosen[figure] = str(keys.sort_values(list(keys.columns)).index[0])

    by_parts = frame["part_agreement"].notna().any()
    take(17, -frame["size_ratio"], right_only=False)
    take(18, frame["part_agreement"] if by_parts else -frame["distance"], right_only=False)
    middle = (frame["gain"] - frame["gain"].median()).abs()
    for figure, order in ((4, -frame["gain"]), (14, -frame["gain"]), (15, middle), (16, middle)):
        take(figure, order, right_only=True)
    return dict(sorted(chosen.items()))


@dataclass(frozen=True)
class Cell:
    """One picture of a sheet.

    Attributes:
        image: uint8 RGB.
        boxes: (box, place among the colours) pairs.
        note: a line below.
        note_colour: of that line.
    """

    image: np.ndarray
    boxes: tuple[tuple[np.ndarray, int], ...] = ()
    note: str = ""
    note_colour: str = "#444444"


def layer_cells(
    examples: Examples,
    image: str,
    layer: int,
    picture: Callable[[str], np.ndarray],
    class_name: Callable[[str], str],
    related: int = 4,
) -> list[Cell]:
    """The pictures of one layer: input with regions, relevance, related training images.

    Regions come in the order of their related image's similarity. When a layer keeps fewer regions than there is room
    for, their second and further related images follow.

    Args:
        examples: of one explainer.
        image: a test image of it.
        layer: index into ``examples.layers``.
        picture: image id -> uint8 (H, W, 3), preprocessed.
        class_name: image id -> its class in words.
        related: room for related images.

    Raises:
        InputError: the image is not in ``examples``.
    """
    places = np.flatnonzero(examples.image_id == image)
    if not len(places):
        raise InputError(f"examples.npz: no test image '{image}'; delete it and run again")
    index = int(places[0])
    attributes = [attribute for at, attribute in _pairs(examples, index) if at == layer]
    attributes.sort(key=lambda attribute: (examples.related_distance[index, layer, attribute, 0], attribute))
    attributes = attributes[: min(related, len(ATTRIBUTE_COLOURS))]
    seen = picture(image)
    regions = tuple((examples.regions[index, layer, attribute], place) for place, attribute in enumerate(attributes))
    cells = [
        Cell(seen, regions),
        Cell(overlay(seen, examples.relevance[layer][index])),
    ]
    truth = class_name(image)
    for rank in range(examples.related_id.shape[-1]):
        for place, attribute in enumerate(attributes):
            other = str(examples.related_id[index, layer, attribute, rank])
            if len(cells) == related + 2 or not other:
                continue
            name = class_name(other)
            box = (examples.related_box[index, layer, attribute, rank], place)
            shade = "#444444" if name == truth else "#B03A00"
            cells.append(Cell(picture(other), (box,), name, shade))
    return cells


NOTE_SIZE = 4.3
"""Of the class names below pictures, in points; a letter is some .6 as wide."""


def shorten(name: str, width: float) -> str:
    """A class name cut to a picture's width in inches, with an ellipsis."""
    length = int(72 * width / (0.6 * NOTE_SIZE))
    return name if len(name) <= length else name[: length - 1].rstrip() + "…"


def layer_sheet(cells: Mapping[str, Sequence[Cell]], title: str, by_rows: bool, related: int = 4) -> Figure:
    """A sheet of layers: as rows (Figures 14 to 18) or as columns (Figure 4).

    Args:
        cells: layer label -> its cells (``layer_cells``), from the output to the input.
        title: printed above; may have several lines.
        by_rows: a row a layer; otherwise a column a layer.
        related: room for related images.

    Returns:
        A figure of a page's width.
    """
    margin, header, footer = 0.42, 0.3 + 0.13 * (title.count("\n") + 1), 0.25
    kinds = [("Input, regions", 1), ("Relevance", 1), ("Related training images", related)]
    across, down = (related + 2, len(cells)) if by_rows else (len(cells), related + 2)
    cell = min((PAGE_WIDTH - margin) / across, 1.12)
    left_edge = max(margin, (PAGE_WIDTH - across * cell) / 2)
    pitch = cell + 0.09
    side = cell - 0.04
    page = Page(PAGE_WIDTH, header + down * pitch + footer)

    def column_head(text: str, first: float, span: int) -> None:
        page.text(text, left_edge + (first + span / 2) * cell - 0.02, header - 0.06, fontsize=6.2, va="baseline")

    def row_head(text: str, first: float, span: int) -> None:
        page.text(text, left_edge - 0.14, header + (first + span / 2) * pitch - 0.06, rotation=90, fontsize=6.2)

    layer_head, kind_head = (row_head, column_head) if by_rows else (column_head, row_head)
    page.text(title, PAGE_WIDTH / 2, 0.06, fontsize=7, va="top")
    first = 0
    for name, span in kinds:
        kind_head(name, first, span)
        first += span
    for number, (name, pictures) in enumerate(cells.items()):
        layer_head(name, number, 1)
        for kind, content in enumerate(pictures):
            row, column = (number, kind) if by_rows else (kind, number)
            left, top = left_edge + column * cell, header + row * pitch
            page.picture(content.image, left, top, side)
            for box, place in content.boxes:
                page.box(box, content.image.shape[0], left, top, side, ATTRIBUTE_COLOURS[place], str(place + 1))
            if content.note:
                note = shorten(content.note, side)
                at = left + side / 2, top + side + 0.01
                page.text(note, *at, va="top", fontsize=NOTE_SIZE, color=content.note_colour)
    page.text(
        "A region and its related training images share colour and number, most similar first. Class below a training "
        "image: dark where it is the test image's, red where not.",
        0.05,
        header + down * pitch + 0.12,
        ha="left",
    )
    return page.figure()
