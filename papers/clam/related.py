"""Training images behind a refined region (CLAM, Sec. 3.4 and 4.2.2), from an index.

The index holds, for every training image under its own class's pattern, each attribute's best region and the distance
map there. A test image's region is answered by the training images of the target's class whose distance map is nearest.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import zarr
from relmap.errors import InputError
from relmap.job.files import atomic_path
from relmap.propagation import Propagator
from torch import Tensor

from papers.clam.cla.refinement import find_regions
from papers.clam.cla.trained import TrainedLayer


@dataclass(frozen=True)
class Index:
    """Best regions of M training images.

    Attributes:
        image_ids: (M,). labels: (M,). layers, explainers: names.
        boxes: layer -> (K, M, N, 4) in input pixels. distances: layer -> (K, M, N, w, w).
    """

    image_ids: list[str]
    labels: Tensor
    layers: list[str]
    explainers: list[str]
    boxes: dict[str, Tensor]
    distances: dict[str, Tensor]


def build_index(
    propagator: Propagator,
    layers: Sequence[TrainedLayer],
    batches: Iterable[tuple[Tensor, Tensor]],
    image_ids: Sequence[str],
    explainers: Sequence[str],
) -> Index:
    """One forward pass over the training images; no relevance is needed, for regions depend on features alone."""
    keep = {layer.features_at for layer in layers}
    names = [layer.settings.layer for layer in layers]
    boxes: dict[str, list[Tensor]] = {name: [] for name in names}
    distances: dict[str, list[Tensor]] = {name: [] for name in names}
    labels = []
    for images, targets in batches:
        activations = propagator.forward(images, keep=keep, until=_last(propagator, keep))
        for name, layer in zip(names, layers, strict=True):
            found = find_regions(
                layer, activations.outputs[layer.features_at], targets.expand(len(explainers), -1), explainers
            )
            boxes[name].append(found.boxes(tuple(images.shape[-2:])).cpu())
            distances[name].append(found.distances.cpu())
        labels.append(targets.cpu())
    return Index(
        list(image_ids),
        torch.cat(labels),
        names,
        list(explainers),
        {name: torch.cat(parts, 1) for name, parts in boxes.items()},
        {name: torch.cat(parts, 1) for name, parts in distances.items()},
    )


def _last(propagator: Propagator, names: set[str]) -> str:
    return next(operation.name for operation in reversed(propagator.graph.operations) if operation.name in names)


def write_index(path: str | os.PathLike, index: Index) -> None:
    """Write an index as a Zarr group, atomically: arrays ``<layer>/boxes`` and ``<layer>/distances``."""
    with atomic_path(path) as temporary:
        group = zarr.open_group(str(temporary), mode="w", zarr_format=3)
        group.attrs.update(
            {
                "image_ids": index.image_ids,
                "labels": index.labels.tolist(),
                "layers": index.layers,
                "explainers": index.explainers,
            }
        )
        for layer in index.layers:
            for kind, values in (("boxes", index.boxes[layer]), ("distances", index.distances[layer])):
                array = values.numpy().astype(np.float32)
                group.create_array(f"{layer}/{kind}", data=array, chunks=array.shape)


def read_index(path: str | os.PathLike) -> Index:
    """Read what ``write_index`` wrote.

    Raises:
        InputError: there is no index at ``path``.
    """
    try:
        group = zarr.open_group(str(path), mode="r")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such index; run the rule index_training_images") from error
    attrs = dict(group.attrs)

    def read(kind: str) -> dict[str, Tensor]:
        return {layer: torch.from_numpy(group[f"{layer}/{kind}"][:]) for layer in attrs["layers"]}

    return Index(
        list(attrs["image_ids"]),
        torch.tensor(attrs["labels"]),
        list(attrs["layers"]),
        list(attrs["explainers"]),
        read("boxes"),
        read("distances"),
    )


@dataclass(frozen=True)
class Related:
    """For n regions sets of one layer: training rows, boxes and distances of the K most similar, nearest first.

    ``rows`` (n, N, K), -1 where the class has fewer images; ``boxes`` (n, N, K, 4); ``distances`` (n, N, K).
    """

    rows: Tensor
    boxes: Tensor
    distances: Tensor


def find_related(
    index: Index, layer: str, explainer: str, queries: Tensor, targets: Tensor, count: int, measure: str = "l2"
) -> Related:
    """Training images of the target's class nearest to the queries.

    Args:
        queries: (n, N, w, w) distance maps of the test images' regions.
        targets: (n,) classes.
        count: K.
        measure: ``l2`` or ``cosine`` between distance maps.
    """
    kind = index.explainers.index(explainer)
    maps, boxes = index.distances[layer][kind].flatten(2), index.boxes[layer][kind]
    query = queries.flatten(2)
    if measure == "cosine":
        unit = [torch.nn.functional.normalize(value, dim=2) for value in (query, maps)]
        apart = 1 - torch.einsum("nad,mad->nam", *unit)
    else:
        apart = torch.cdist(query.transpose(0, 1), maps.transpose(0, 1), compute_mode="donot_use_mm_for_euclid_dist")
        apart = apart.transpose(0, 1)
    same = targets[:, None] == index.labels[None]
    apart = apart.masked_fill(~same[:, None], torch.inf)
    distance, rows = apart.sort(dim=2, stable=True)
    distance, rows = distance[..., :count], rows[..., :count]
    attributes = torch.arange(rows.shape[1])[None, :, None]
    found = boxes[rows, attributes]
    absent = distance.isinf()
    return Related(rows.masked_fill(absent, -1), found, distance)


def distinct(boxes: Tensor, iou: float) -> Tensor:
    """Which regions are not duplicates: (..., N, 4) boxes -> (..., N) bool.

    In order, a region is dropped when its box overlaps a kept one by more than ``iou`` (intersection over union).
    """
    overlaps = _pairwise_iou(boxes) > iou
    kept = torch.zeros(boxes.shape[:-1], dtype=torch.bool, device=boxes.device)
    for i in range(boxes.shape[-2]):
        kept[..., i] = ~(overlaps[..., i, :] & kept).any(-1)
    return kept


def _pairwise_iou(boxes: Tensor) -> Tensor:
    low = torch.maximum(boxes[..., :, None, :2], boxes[..., None, :, :2])
    high = torch.minimum(boxes[..., :, None, 2:], boxes[..., None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    area = (boxes[..., 2:] - boxes[..., :2]).prod(-1)
    return shared / (area[..., :, None] + area[..., None, :] - shared)
