"""Relevance refined by CLA-layers on its way (CLAM, Sec. 3.4): an explainer round another."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from relmap.explainers.base import Relevance, SharedPass
from relmap.propagation import Activations, Propagator
from torch import Tensor

from papers.clam.cla.refinement import Regions, refinements
from papers.clam.cla.settings import ClamOptions
from papers.clam.cla.together import Together
from papers.clam.cla.trained import TrainedLayer, load_artifacts


class Refined(SharedPass):
    """A method of the LRP family whose relevance CLA-layers refine.

    Args:
        propagator: of the model.
        inner: the method that is refined.
        explainer: its name in the layers' files.
        artifacts: files of the CLA-layers, from the output to the input, or the folder that holds the trainings.
        training: which of the folder's trainings.
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
        training: int = 0,
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.inner, self.explainer = inner, explainer
        self.options = ClamOptions.from_config(settings or {})
        self.layers = load_artifacts(artifacts, explainer, training, propagator.device)
        self.walks = inner.walks
        self.keep = tuple({layer.features_at: None for layer in self.layers})

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        masks, _ = refinements(
            self.layers,
            activations.outputs,
            targets,
            [self.explainer] * len(targets),
            self.options,
        )
        relevance, _ = Together([self.inner] * len(targets)).propagate(activations, targets, masks)
        return relevance.to(activations.logits.dtype)


@dataclass(frozen=True)
class Explanation:
    """Maps (K, N, H, W) of K explainers; with CLA-layers also their regions and refined relevance.

    ``regions``: one for each layer. ``relevance``: layer -> (K, N, h, w), channel-summed after refinement.
    """

    maps: Tensor
    regions: list[Regions] = field(default_factory=list)
    relevance: Mapping[str, Tensor] = field(default_factory=dict)


def explain_together(
    methods: Mapping[str, Relevance],
    images: Tensor,
    targets: Tensor,
    layers: Sequence[TrainedLayer] = (),
    options: ClamOptions | None = None,
    *,
    capture: bool = False,
) -> Explanation:
    """Maps of ``images`` (N, 3, H, W) for ``targets`` (N,) by K explainers in one pass; refined where there are layers.

    For what looks at the layers themselves, with ``capture`` at the relevance there; maps alone come from ``Refined``.

    Args:
        methods: name of an explainer in the layers -> the method.
    """
    options = options or ClamOptions()
    together = Together(list(methods.values()))
    activations = together.walk.forward(images, keep={layer.features_at for layer in layers})
    targets = targets.expand(len(methods), -1)
    masks, regions = refinements(
        layers,
        activations.outputs,
        targets,
        list(methods),
        options,
    )
    relevance, captured = together.propagate(
        activations, targets, masks, capture=[layer.relevance_at for layer in layers] if capture else ()
    )
    of_layers = {
        layer.settings.layer: captured[layer.relevance_at].sum(2).to(images.dtype) for layer in layers if capture
    }
    return Explanation(relevance.sum(2).to(images.dtype), regions, of_layers)
