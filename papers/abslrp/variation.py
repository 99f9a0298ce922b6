r"""What Global Attribution Evaluation and ROAD would say by other draws, and by other numbers of steps.

A number of method m by draw s of S, other mosaics and positive images for GAE, other noise for ROAD, is a mean
:math:`\bar v_{ms}` over the same images. What chance does to it, beside what other images would,

.. math:: d_m = \sqrt{\frac{1}{S - 1} \sum_s (\bar v_{ms} - \bar v_m)^2}, \qquad w_m = \frac{q_{.975} - q_{.025}}{2}

with quantiles q of the mean's bootstrap over images of one draw. GAE's draw also says which quarter of the images is
masked, so that its d contains part of w. Of GAE's steps T, which the paper leaves open, d is over T. Kendall's tau
tells how much of the methods' order by the run's own draw and T another keeps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from relmap.catalogue.methods import find
from relmap.evidence.leaderboard import FEWEST
from relmap.evidence.maps import Maps
from relmap.evidence.rankings import kendall
from relmap.evidence.statistics import bootstrap_mean
from relmap.evidence.values import image_scores
from relmap.explanation import compare
from relmap.metrics import gae_rows, road
from relmap.metrics.case import Case

GAE, ROAD = ("gae_total", "gae_lc", "gae_c"), ("road_morf", "road_lerf")
SEED, STEPS = "seed", "steps"


class Setting(NamedTuple):
    """A metric's settings that are tried: ``level`` is the value of what is ``varied``; ``steps`` None for ROAD."""

    varied: str
    level: int
    seed: int
    steps: int | None


def gae_settings(seed: int, seeds: int, steps: Sequence[int], own_steps: int) -> list[Setting]:
    """GAE by ``seeds`` seeds from the run's on, then by the run's seed and each T, the run's own among them."""
    by_steps = [Setting(STEPS, count, seed, count) for count in sorted({*steps, own_steps})]
    return [Setting(SEED, seed + turn, seed + turn, own_steps) for turn in range(seeds)] + by_steps


def road_settings(seed: int, seeds: int) -> list[Setting]:
    """ROAD by ``seeds`` seeds from the run's on."""
    return [Setting(SEED, seed + turn, seed + turn, None) for turn in range(seeds)]


def scored(case: Case, methods: Sequence[str], settings: Sequence[Setting]) -> pd.DataFrame:
    """Values of all methods by all settings; what two of them share is computed once.

    Args:
        case: with a network whose pictures have one size, and settings ``gae``, ``road`` and ``ties``.
        methods: ids.
        settings: of GAE, and those of ROAD, which have no steps.

    Returns:
        metric (``GAE``, ``ROAD``), method, varied, level, image_id, value: a row a mosaic, or an image.
    """
    maps, found = _maps(case, methods), {}
    for seed, steps in dict.fromkeys((setting.seed, setting.steps) for setting in settings):
        given = {**case.settings, "gae": {**case.settings["gae"], "steps": steps}}
        drawn = replace(case, seed=seed, settings=given, methods={method: find(method) for method in methods})
        score, names = (road.score, ROAD) if steps is None else (gae_rows.score, GAE)
        rows = pd.concat([score(drawn, method, maps[method]) for method in methods], ignore_index=True)
        values = image_scores(rows, case.manifest.info.dataset, "")
        found[seed, steps] = values[values["metric"].isin(names)].dropna(subset="value")
    parts = [found[s.seed, s.steps].assign(varied=s.varied, level=s.level) for s in settings]
    return pd.concat(parts, ignore_index=True)[["metric", "method", "varied", "level", "image_id", "value"]]


def _maps(case: Case, methods: Sequence[str]) -> dict[str, Maps]:
    """The methods' maps of a case's pairs."""
    found = compare(case.model, case.images, case.targets, list(methods), batch_size=case.batch_size)
    ids, targets = case.pairs["image_id"].tolist(), case.targets.cpu().numpy()
    return {name: Maps(own.cpu().numpy(), ids, targets, case.sizes, {"method": name}) for name, own in found.items()}


def variation(values: pd.DataFrame, own: Mapping[str, int], **bootstrap: Any) -> pd.DataFrame:
    """Means by every setting, with their intervals over images, their spread, and the order that they give.

    Args:
        values: as :func:`scored` gives them.
        own: the run's own level of what is varied: ``seed``, ``steps``.
        bootstrap: confidence, resamples and seed of ``statistics.bootstrap_mean``.

    Returns:
        metric, method, varied, level; ``n``, mosaics or images behind ``mean``; ``half_width``, w; ``deviation``, d
        over all levels, NaN of a single one; ``tau``, of the order of all methods but controls by this level with that
        by the run's own, NaN of fewer than three methods, or where one order is a single tie.
    """
    keys, rows = ["metric", "method", "varied", "level"], []
    for key, part in values.groupby(keys, sort=False):
        interval = bootstrap_mean(part["value"].to_numpy(), images=part["image_id"].to_numpy(), **bootstrap)
        row = dict(zip(keys, key, strict=True)) | {"n": len(part), "mean": interval.mean}
        rows.append({**row, "half_width": (interval.high - interval.low) / 2})
    table = pd.DataFrame(rows)
    table["deviation"] = table.groupby(["metric", "method", "varied"])["mean"].transform("std")
    table["tau"] = np.nan
    for (_, varied), part in _proper(table).groupby(["metric", "varied"]):
        means = part.pivot(index="level", columns="method", values="mean")
        if means.shape[1] < FEWEST:
            continue
        taus = pd.Series(kendall(means.to_numpy(), means.loc[[own[varied]]].to_numpy()), means.index)
        places = (table["metric"] == part["metric"].iloc[0]) & (table["varied"] == varied)
        table.loc[places, "tau"] = table.loc[places, "level"].map(taus)
    return table


def summary(table: pd.DataFrame, own: Mapping[str, int]) -> pd.DataFrame:
    """A row a number and what is varied, of the methods that are no controls.

    Args:
        table: as :func:`variation` gives it.
        own: the run's own level of what is varied.

    Returns:
        metric, varied; ``levels``, how many; ``n`` of the run's own; means over methods of ``deviation`` and of the
        run's own ``half_width``; ``tau_mean`` and ``tau_least`` over the other levels, NaN without any.
    """
    rows = []
    for (metric, varied), part in _proper(table).groupby(["metric", "varied"], sort=False):
        is_own = part["level"] == own[varied]
        mine, taus = part[is_own], part[~is_own].groupby("level")["tau"].first()
        row = {"metric": metric, "varied": varied, "levels": part["level"].nunique(), "n": mine["n"].iloc[0]}
        row |= {"deviation": mine["deviation"].mean(), "half_width": mine["half_width"].mean()}
        rows.append({**row, "tau_mean": taus.mean(), "tau_least": taus.min()})
    return pd.DataFrame(rows)


def _proper(table: pd.DataFrame) -> pd.DataFrame:
    """Rows of methods that are no controls."""
    return table[[not find(method).control for method in table["method"]]]
