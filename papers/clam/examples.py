"""What the layer sheets show (Figures 4 and 14 to 18): regions, relevance and related training images per layer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from relmap.explainers.base import Relevance
from torch import Tensor

from papers.clam.cla.refined import explain_together
from papers.clam.cla.settings import ClamOptions
from papers.clam.cla.trained import TrainedLayer
from papers.clam.related import Index, distinct, find_related

EXPLAINER = "clrp"
"""The sheets show CLRP with CLAM (Figure 4)."""


def layer_examples(
    method: Mapping[str, Relevance],
    layers: Sequence[TrainedLayer],
    index: Index,
    images: Tensor,
    targets: Tensor,
    options: ClamOptions,
    *,
    related: int,
    measure: str,
    duplicate_iou: float,
) -> dict[str, np.ndarray]:
    """Arrays of ``examples.npz`` for n images and L layers, but for ``image_id``.

    ``method`` is the one explainer that is shown, by its name in the layers.

    Layers with fewer attributes than the largest, A, are filled up with regions that are not kept.

    Returns:
        ``layers (L,)``, ``regions (n, L, A, 4)``, ``kept (n, L, A)``, ``related_id (n, L, A, K)``,
        ``related_box (n, L, A, K, 4)``, ``related_distance (n, L, A, K)`` and per layer
        ``relevance_<layer> (n, h, w)``.
    """
    (explainer,) = method
    found = explain_together(method, images, targets, layers, options, capture=True)
    names = [layer.settings.layer for layer in layers]
    count, widest = len(images), max(layer.settings.attributes for layer in layers)
    shape = (count, len(layers), widest)
    arrays = {
        "layers": np.array(names),
        "regions": np.zeros((*shape, 4), np.float32),
        "kept": np.zeros(shape, bool),
        "related_id": np.full((*shape, related), "", dtype=object),
        "related_box": np.zeros((*shape, related, 4), np.float32),
        "related_distance": np.full((*shape, related), np.inf, np.float32),
    }
    ids = np.array([*index.image_ids, ""], dtype=object)  # row -1 means none
    targets = targets.cpu()
    for place, (name, regions) in enumerate(zip(names, found.regions, strict=True)):
        boxes, distances = regions.boxes(tuple(images.shape[-2:]))[0].cpu(), regions.distances[0].cpu()
        # Best fitting attributes first: of two regions that coincide the better one stays.
        order = distances.mean((2, 3)).argsort(dim=1, stable=True)
        boxes = boxes.gather(1, order[..., None].expand_as(boxes))
        similar = find_related(index, name, explainer, distances, targets, related, measure)
        used, k = slice(0, boxes.shape[1]), similar.rows.shape[2]
        arrays["regions"][:, place, used] = boxes
        arrays["kept"][:, place, used] = distinct(boxes, duplicate_iou)
        by_order = torch.arange(count)[:, None], order
        arrays["related_id"][:, place, used, :k] = ids[similar.rows[by_order].numpy()]
        arrays["related_box"][:, place, used, :k] = similar.boxes[by_order]
        arrays["related_distance"][:, place, used, :k] = similar.distances[by_order]
        arrays[f"relevance_{name}"] = found.relevance[name][0].cpu().numpy()
    arrays["related_id"] = arrays["related_id"].astype(str)
    return arrays
