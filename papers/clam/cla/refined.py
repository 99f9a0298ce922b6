"""Relevance refined by CLA-layers on its way (CLAM, Sec. 3.4): an explainer round another."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from relmap.errors import InputError
from relmap.explainers.base import Relevance, SharedPass
from relmap.propagation import Activations, Propagator, Walk, starts
from torch import Tensor

from papers.clam.cla.refinement import Regions, refinements
from papers.clam.cla.settings import ClamOptions
from papers.clam.cla.trained import TrainedLayer, load_layer
from papers.clam.cla.training import stacked_starts


class Refined(SharedPass):
    """A method of the LRP family whose relevance CLA-layers refine.

    Args:
        propagator: of the model.
        inner: the method that is refined.
        explainer: its name in the layers' files.
        artifacts: files of the CLA-layers, from the output to the input, or the folder that holds them all.
        settings: CLAM's settings, as the config's ``clam`` section has them; what refinement reads of them counts.

    Raises:
        InputError: there are no CLA-layers, or none of this explainer.
    """

    def __init__(
        self,
        propagator: Propagator,
        *,
        inner: Relevance,
        explainer: str,
        artifacts: Sequence[str | os.PathLike],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.inner, self.explainer = inner, explainer
        self.options = ClamOptions.from_config(settings or {})
        artifacts = [file for path in artifacts for file in _files(Path(path))]
        self.layers = [load_layer(path, propagator.device) for path in artifacts]
        if not self.layers:
            raise InputError("CLAM needs at least one CLA-layer; give the files that train_cla_layer wrote")
        for path, layer in zip(artifacts, self.layers, strict=True):
            if explainer not in layer.explainers:
                raise InputError(f"{path}: no CLA-layer of {explainer}, it has {', '.join(layer.explainers)}")
        self.walks = inner.walks
        self.keep = tuple({layer.features_at: None for layer in self.layers})

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        transforms, _ = refinements(
            self.layers,
            activations,
            targets,
            [self.explainer] * len(targets),
            mask_width=self.options.mask_width,
            restore_total=self.options.restore_total,
        )
        walk = self.inner.walk
        start = starts.stacked(self.inner.start, activations.logits, targets)
        return walk.propagate(activations, start, transforms=transforms).relevance.to(activations.logits.dtype)


def _files(path: Path) -> list[Path]:
    return sorted(path.glob("*.safetensors")) if path.is_dir() else [path]


@dataclass(frozen=True)
class Explanation:
    """Maps (K, N, H, W) of K explainers; with CLA-layers also their regions and refined relevance.

    ``regions``: one for each layer. ``relevance``: layer -> (K, N, h, w), channel-summed after refinement.
    """

    maps: Tensor
    regions: list[Regions] = field(default_factory=list)
    relevance: Mapping[str, Tensor] = field(default_factory=dict)


def explain_together(
    walk: Walk,
    images: Tensor,
    targets: Tensor,
    explainers: Sequence[str],
    layers: Sequence[TrainedLayer] = (),
    options: ClamOptions | None = None,
    *,
    capture: bool = False,
) -> Explanation:
    """Maps of ``images`` (N, 3, H, W) for ``targets`` (N,) by K explainers in one pass; refined where there are layers.

    For what looks at the layers themselves, with ``capture`` at the relevance there; maps alone come from ``Refined``.
    """
    options = options or ClamOptions()
    activations = walk.forward(images, keep={layer.features_at for layer in layers})
    transforms, regions = refinements(
        layers,
        activations,
        targets.expand(len(explainers), -1),
        explainers,
        mask_width=options.mask_width,
        restore_total=options.restore_total,
    )
    result = walk.propagate(
        activations,
        stacked_starts(explainers, activations.logits, targets),
        transforms=transforms,
        capture=[layer.relevance_at for layer in layers] if capture else (),
    )
    relevance = {
        layer.settings.layer: result.captured[layer.relevance_at].sum(2).to(images.dtype) for layer in layers if capture
    }
    return Explanation(result.relevance.sum(2).to(images.dtype), regions, relevance)
