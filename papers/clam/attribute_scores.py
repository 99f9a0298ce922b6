"""An evaluation of attributes themselves, which the paper asks for (A.6): do their regions tell classes apart?

Possible where the parts that distinguish a class from its neighbours are known, as on rendered birds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from relmap.data.manifest import ManifestInfo
from relmap.errors import InputError
from relmap.metrics.attribute_parts import score_regions
from relmap.propagation import Propagator
from torch import Tensor

from papers.clam.cla.refinement import find_regions
from papers.clam.cla.trained import TrainedLayer


def distinguishing_table(info: ManifestInfo) -> Tensor:
    """(C, parts + 1) bool: does a part, by its index in part maps, tell a class from its neighbours?

    Raises:
        InputError: the dataset does not say.
    """
    if not info.part_names or not info.distinguishing:
        raise InputError(f"{info.dataset}: no distinguishing parts are known; attributes cannot be scored on it")
    table = torch.zeros(len(info.class_names), len(info.part_names) + 1, dtype=torch.bool)
    for label, names in info.distinguishing.items():
        for name in names:
            table[int(label), info.part_names.index(name) + 1] = True
    return table


def score_layers(
    propagator: Propagator,
    arms: Mapping[str, Sequence[TrainedLayer]],
    images: Tensor,
    targets: Tensor,
    part_maps: Tensor,
    distinguishing: Tensor,
    explainers: Sequence[str],
) -> pd.DataFrame:
    """One row per image, method and layer: the means over a layer's attributes of ``score_regions``.

    Args:
        arms: suffix of the method's name -> its CLA-layers.
        images: (N, 3, H, W). targets: (N,). part_maps: (N, H, W).
        distinguishing: as ``distinguishing_table`` gives it.

    Returns:
        columns ``image`` (position in the batch), ``method``, ``layer``, and the scores.
    """
    keep = {layer.features_at for layers in arms.values() for layer in layers}
    outputs = propagator.forward(images, keep=keep).outputs
    telling = distinguishing[targets.cpu()]
    frames = []
    for arm, layers in arms.items():
        for layer in layers:
            regions = find_regions(layer, outputs[layer.features_at], targets.expand(len(explainers), -1), explainers)
            boxes = regions.boxes(tuple(images.shape[-2:])).cpu()
            scores = score_regions(part_maps, telling, boxes.transpose(0, 1).flatten(1, 2))
            for place, explainer in enumerate(explainers):
                means = {
                    name: values.unflatten(1, (len(explainers), -1))[:, place].mean(1).numpy()
                    for name, values in scores.items()
                }
                frames.append(
                    pd.DataFrame(
                        {
                            "image": range(len(images)),
                            "method": f"{explainer}_{arm}",
                            "layer": layer.settings.layer,
                            **means,
                        }
                    )
                )
    return pd.concat(frames, ignore_index=True)
