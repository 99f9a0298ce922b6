"""All pairs of a data set and network scored by some metrics, part after part: memory does not grow with them.

Parts depend on the run alone, and jobs may divide them (``relmap.job.share``), but for metrics whose pairs must stay
together: a score is the same to the bit whichever job makes it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from tqdm import tqdm

from relmap.errors import InputError
from relmap.evidence.evaluation import SCORE_COLUMNS
from relmap.evidence.maps import Maps, MapStore
from relmap.job.share import Share
from relmap.metrics.case import Case

if TYPE_CHECKING:
    from relmap.catalogue.metrics import Score

PIXELS = 1 << 24
"""Pixels of pictures in a part: with colours, maps and annotations some 400 MB."""
BATCHES = 4
"""Full batches in a part, at most: few enough that jobs have something to divide."""


@dataclass(frozen=True)
class Asked:
    """A metric of a job: its function, the methods that it scores, whether pairs must stay together."""

    score: Score
    methods: Sequence[str]
    together: bool = False


def score_all(
    case: Case,
    maps: Mapping[str, Maps | MapStore],
    metrics: Sequence[Asked],
    pixels: int = PIXELS,
    share: Share = Share(),  # noqa: B008  # frozen
) -> list[pd.DataFrame]:
    """Rows of each metric: method by method, pairs by the size of their maps, in their order.

    Args:
        case: all pairs.
        maps: method id -> its maps of all pairs, in memory or in a store.
        metrics: what is asked for.
        pixels: of the pictures in a part. No score depends on it but by how batches round.
        share: of the parts; ``joined`` puts the rows of all shares together.

    Raises:
        ValueError: a share of several, of a metric whose pairs must stay together.
    """
    if share.count > 1 and any(metric.together for metric in metrics):
        raise ValueError("a metric whose pairs must stay together has no shares")
    found = [{method: [] for method in metric.methods if method in maps} for metric in metrics]
    for together in (False, True):
        chosen = [(metric, own) for metric, own in zip(metrics, found, strict=True) if metric.together is together]
        parts = [part for group in case.groups() for part in ([group] if together else _parts(group, pixels))]
        parts = list(share.of(parts))
        with tqdm(total=len(parts) * len(maps), unit="method", mininterval=5, disable=not chosen) as bar:
            while chosen and parts:
                part = parts.pop(0)  # its pictures go with it
                for method, own_maps in maps.items():
                    for metric, own in chosen:
                        if method in own:
                            own[method].append(metric.score(part, method, own_maps))
                    bar.update()
    return [_together([frame for frames in own.values() for frame in frames]) for own in found]


def _together(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """One table; a part that a metric asks nothing of has no rows, and no types of columns worth keeping."""
    if not frames:
        return pd.DataFrame(columns=list(SCORE_COLUMNS))
    return pd.concat([frame for frame in frames if len(frame)] or frames[:1], ignore_index=True)


def _parts(group: Case, pixels: int) -> list[Case]:
    height, width = group.sizes[0] if len(group.sizes) else (1, 1)
    return group.parts(max(1, min(BATCHES * group.batch_size, pixels // int(height * width))))


def joined(frames: Sequence[pd.DataFrame], methods: Sequence[str]) -> pd.DataFrame:
    """One metric's rows of all shares, in order, as if one job had made them.

    Raises:
        InputError: a method that no one asked for.
    """
    strange = {name for frame in frames for name in frame["method"].unique()} - set(methods)
    if strange:
        raise InputError(f"scores of {', '.join(sorted(strange))}, which none asked for; delete them and run again")
    return _together([frame[frame["method"] == method] for method in methods for frame in frames])
