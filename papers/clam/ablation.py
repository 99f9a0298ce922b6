"""One variant of CLAM, trained and measured in one go: what the ablation of the paper's open choices compares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
from relmap.data.images import load_boxes, load_part_maps
from relmap.errors import InputError
from relmap.evidence.statistics import bootstrap_mean, sign_flip_test
from relmap.explainers.base import Relevance
from relmap.explainers.contrastive import TwoPasses
from relmap.explainers.plain_lrp import LRPAlphaBeta
from relmap.job.subject import Subject
from relmap.metrics.pointing import extended_pointing
from relmap.propagation import Propagator
from torch import Tensor, nn

from papers.clam.attribute_scores import distinguishing_table, score_layers
from papers.clam.cla.plan import plan_layers
from papers.clam.cla.refined import explain_together
from papers.clam.cla.settings import ClamOptions, LayerSettings
from papers.clam.cla.trained import TrainedLayer
from papers.clam.cla.training import Source, initial_layers, train_layer

Batches = Sequence[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Held:
    """Images that a variant is measured on, in batches, and what is known of them (on the CPU).

    Attributes:
        batches: (images, targets).
        inside: (N, H, W) bool, the boxes. part_maps: (N, H, W).
        distinguishing: (C, parts + 1) bool.
    """

    batches: Batches
    inside: Tensor
    part_maps: Tensor
    distinguishing: Tensor


@dataclass(frozen=True)
class Chain:
    """The chain of CLA-layers that all variants train, from the output to the input, on the same images."""

    methods: Mapping[str, Relevance]
    source: Source
    layers: Sequence[str]
    input_size: int
    seed: int

    def plan(self, options: ClamOptions) -> list[LayerSettings]:
        return plan_layers(next(iter(self.methods.values())).walk, self.layers, self.input_size, options)

    def train(self, options: ClamOptions) -> list[TrainedLayer]:
        """All CLA-layers, each below those trained before it."""
        trained: list[TrainedLayer] = []
        for settings in self.plan(options):
            trained += train_layer(self.methods, self.source, settings, [trained], options, [self.seed])
        return trained

    def untrained(self, options: ClamOptions) -> list[TrainedLayer]:
        """The control: the same chain with initial weights."""
        walk = next(iter(self.methods.values())).walk
        return initial_layers(walk, self.source, self.plan(options), list(self.methods), options, self.seed)


def check_variants(chain: Chain, variants: Mapping[str, ClamOptions]) -> None:
    """Refuse variants that are one and the same on these layers.

    Raises:
        InputError: two differ in nothing that counts here.
    """
    known: dict[Any, str] = {}
    for name, options in variants.items():
        # What the layers' own settings follow from counts by these.
        sizes = {"attributes": None, "patch_size": None, "attribute_size": None, "largest_patch": 0, "layers": {}}
        ranges = dict.fromkeys(("alpha", "beta", "strength"), (0.0, 0.0))
        key = (str(replace(options, **sizes, **ranges)), str(chain.plan(options)))
        if key in known:
            raise InputError(
                f"clam.ablation: `{name}` is the same as `{known[key]}` on the layers {', '.join(chain.layers)}; "
                "change what it sets, or leave it out"
            )
        known[key] = name


def pointing_of(
    methods: Mapping[str, Relevance],
    held: Held,
    layers: Sequence[TrainedLayer] = (),
    options: ClamOptions | None = None,
) -> np.ndarray:
    """(K, N) mean pointing accuracy over the energies."""
    found = []
    for (images, targets), inside in zip(held.batches, held.inside.split(len(held.batches[0][0])), strict=True):
        maps = explain_together(methods, images, targets, layers, options).maps.cpu()
        found.append(torch.stack([extended_pointing(of_one, inside).mean(1) for of_one in maps]))
    return torch.cat(found, 1).numpy()


def lrp_variant(model: nn.Module, first: str, bounds: str, batch_norm: str) -> dict[str, Relevance]:
    """The methods that CLAM refines with other choices than its reading has.

    Args:
        first, batch_norm: as of ``LRPAlphaBeta``.
        bounds: of z-box: ``valid_range``, that of a valid input, or ``image_range``, each image's own. Other rules of
            the first layer have none.
    """
    low, high = model.input_range if first == "z_box" and bounds == "valid_range" else (None, None)
    propagator, choices = Propagator(model), {"first": first, "low": low, "high": high, "batch_norm": batch_norm}
    return {
        "lrp": LRPAlphaBeta(propagator, start="one_hot", **choices),
        **{name: TwoPasses(propagator, reading=name, **choices) for name in ("clrp", "sglrp")},
    }


def hold(subject: Subject, rows: np.ndarray) -> Held:
    """Load the images of ``rows`` and their annotations."""
    annotations = (subject.manifest, rows, subject.preprocessing)
    return Held(
        list(subject.batches(rows, what="held out")),
        load_boxes(*annotations),
        load_part_maps(*annotations),
        distinguishing_table(subject.manifest.info),
    )


def lift_of(
    propagator: Propagator, held: Held, explainers: Sequence[str], layers: Sequence[TrainedLayer]
) -> dict[str, float]:
    """Explainer -> mean coverage of distinguishing parts by its regions, minus chance."""
    frames = [
        score_layers(propagator, {"x": layers}, images, targets, parts, held.distinguishing, explainers)
        for (images, targets), parts in zip(held.batches, held.part_maps.split(len(held.batches[0][0])), strict=True)
    ]
    frame = pd.concat(frames)
    lift = frame["coverage"] - frame["coverage_chance"]
    return lift.groupby(frame["method"]).mean().rename(lambda name: name.removesuffix("_x")).to_dict()


def variant_rows(
    name: str,
    changes: Mapping[str, Any],
    base: np.ndarray,
    refined: np.ndarray,
    lifts: Mapping[str, float],
    explainers: Sequence[str],
    seed: int,
) -> list[dict[str, Any]]:
    """A row per explainer: pointing without and with CLAM, their mean difference with interval and paired test."""
    rows = []
    for place, explainer in enumerate(explainers):
        difference = refined[place] - base[place]
        interval = bootstrap_mean(difference, seed=seed)
        rows.append(
            {
                "variant": name,
                "changes": "; ".join(f"{key} = {value}" for key, value in changes.items()),
                "explainer": explainer,
                "pointing_without": float(base[place].mean()),
                "pointing_with": float(refined[place].mean()),
                "difference": interval.mean,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "p_value": float(sign_flip_test(difference, seed=seed)),
                "coverage_lift": lifts[explainer],
                "n_images": len(difference),
            }
        )
    return rows
