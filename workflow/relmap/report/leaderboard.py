"""The leaderboard's part of the page: figures, mean ranks, agreement, and how far each number can be trusted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from relmap.catalogue.rows import Rows
from relmap.evidence.status import read_table
from relmap.report import reading

FIGURES = ("leaderboard_ranks", "leaderboard_agreement")
_ALL = "all"
# What the page shows of each table; the files have more.
_RANKS = ("method", "control", "settings", "place", "place_low", "place_high", "rank", "block_rank")
_AGREEMENT = ("first", "second", "settings", "methods", "tau", "tau_low", "tau_high")


def gather(results: Path, rows: Rows) -> dict[str, Any]:
    """What the template shows, by name; tables and figures that are absent are None.

    Raises:
        InputError: a table lacks a column.
    """
    tables = results / "tables"
    ranks = read_table(tables / "leaderboard_ranks.csv", ["scope", *_RANKS])
    agreement = read_table(tables / "leaderboard_agreement.csv", ["dataset", *_AGREEMENT])
    trust = read_table(tables / "metric_trust.csv", ["counted"])
    standings = read_table(tables / "leaderboard.csv", ["counted"])
    chosen = {
        "ranks": None if ranks is None else ranks.loc[ranks["scope"] == _ALL, list(_RANKS)],
        "agreement": None if agreement is None else agreement.loc[agreement["dataset"] == _ALL, list(_AGREEMENT)],
        "trust": _counted(trust),
        "standings": _counted(standings),
    }
    shown = {name: None if table is None else reading.sortable(table, rows.label) for name, table in chosen.items()}
    of_pairs = sorted(path.stem for path in (results / "figures").glob("minimal_pairs_*.png"))
    figures = {name: reading.read_figure(results / "figures", name, rows.label) for name in (*FIGURES, *of_pairs)}
    return {**shown, "figures": figures}


def _counted(table: pd.DataFrame | None) -> pd.DataFrame | None:
    """The rows of numbers that count."""
    return None if table is None else table[table["counted"] == "True"].drop(columns="counted")
