"""Global Attribution Evaluation as rows of a run: which images are dealt into mosaics, and where their values stand.

Rows ``gae_lc``, ``gae_c``, ``gae_total``, ``gae_robustness``, ``gae_faithfulness``, ``gae_contrastiveness_signed``.
Images are dealt into mosaics, each is in one; a mosaic's values stand at its positive image, at the pair of the class
that is explained or, where that is no pair of the run, at the image's first. Other pairs have NaN. Columns say what was
drawn: ``mosaic_0`` to ``mosaic_3``, the images by quadrant, ``quadrant`` of the positive one, ``explained``, the class.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from relmap.data.images import load_images
from relmap.errors import InputError
from relmap.explanation import as_propagator
from relmap.metrics.gae import Trials, evaluate, prepare
from relmap.metrics.mosaics import QUADRANTS, deal, draw_positives

if TYPE_CHECKING:
    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case
    from relmap.propagation import Propagator

PARTS = ("lc", "c", "total", "robustness", "faithfulness", "contrastiveness_signed")


def score(case: Case, method: str, maps: Maps) -> pd.DataFrame:
    """Rows of all parts. The maps are made anew, with their channels.

    Raises:
        InputError: the case has no row of the method, or a map or an output is not finite.
    """
    if method not in case.methods:
        raise InputError(f"gae: no row of method {method} is known to the case, so that none can explain anew")
    drawn = case.once(_drawn)
    values = np.full((len(PARTS), len(case.pairs)), np.nan)
    if drawn.trials is not None:
        found = evaluate(
            case.once(_propagator),
            drawn.trials,
            case.methods[method],
            case.settings["gae"]["relative"],
            case.batch_size,
        )
        values[:, drawn.rows] = [getattr(found, part).numpy() for part in PARTS]
    rows = [case.tidy(method, f"gae_{part}", own) for part, own in zip(PARTS, values, strict=True)]
    return pd.concat(
        [pd.concat(rows, ignore_index=True), pd.concat([drawn.columns] * len(PARTS), ignore_index=True)], axis=1
    )


@dataclass(frozen=True)
class _Drawn:
    """The trials of a case, None where it has not four images; at which pairs they stand; columns of all pairs."""

    trials: Trials | None
    rows: np.ndarray
    columns: pd.DataFrame


def _propagator(case: Case) -> Propagator:
    return as_propagator(case.model, case.once(_drawn).trials.images)


def _drawn(case: Case) -> _Drawn:
    settings, pairs = case.settings["gae"], case.pairs.reset_index(drop=True)
    firsts = pairs.sort_values(["image_id", "target"]).drop_duplicates("image_id").index.to_numpy()
    image_ids = pairs["image_id"].to_numpy()[firsts]
    dealt, lots = deal(image_ids, case.seed, settings["mosaics"])
    columns = pd.DataFrame(
        {f"mosaic_{place}": pd.array([pd.NA] * len(pairs), "string") for place in range(QUADRANTS)}
        | {name: pd.array([pd.NA] * len(pairs), "Int64") for name in ("quadrant", "explained")}
    )
    if not len(dealt):
        return _Drawn(None, np.zeros(0, np.int64), columns)
    places = case.rows[firsts][dealt.ravel()]
    images = load_images(case.manifest, places, case.preprocessing, case.workers).to(case.device)
    trials = prepare(
        case.model,
        images.unflatten(0, dealt.shape),
        lots if settings["positive"] == "softmax" else draw_positives(lots),
        labels=_labels(case, places).view(dealt.shape) if settings["score_classes"] == "labels" else None,
        steps=settings["steps"],
        masking=settings["masking"],
        score_classes=settings["score_classes"],
        batch_size=case.batch_size,
    )
    quadrants, explained = trials.positive.cpu().numpy(), trials.targets.cpu().numpy()
    shown = image_ids[dealt[np.arange(len(dealt)), quadrants]]
    known = pd.MultiIndex.from_frame(pairs[["image_id", "target"]])
    rows = known.get_indexer(pd.MultiIndex.from_arrays([shown, explained]))
    rows = np.where(rows < 0, firsts[pd.Index(image_ids).get_indexer(shown)], rows)
    for place in range(QUADRANTS):
        columns.loc[rows, f"mosaic_{place}"] = image_ids[dealt[:, place]]
    columns.loc[rows, "quadrant"], columns.loc[rows, "explained"] = quadrants, explained
    return _Drawn(trials, rows, columns)


def _labels(case: Case, rows: np.ndarray) -> Tensor:
    """The first label of each image, (N,).

    Raises:
        InputError: one has none.
    """
    labels = case.manifest.label_sets(rows)
    for row, own in zip(rows, labels, strict=True):
        if not own:
            image = case.manifest.frame["image_id"].iat[row]
            raise InputError(
                f"gae: image {image} has no label; set `evaluation.gae.score_classes` to predicted, or leave it out"
            )
    return torch.tensor([own[0] for own in labels])
