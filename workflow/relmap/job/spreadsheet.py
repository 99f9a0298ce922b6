"""Text in tables that spreadsheets open: what a stranger named must not become a formula."""

from __future__ import annotations

import pandas as pd

from relmap.errors import printable

_STARTS = ("=", "+", "-", "@")


def as_text(cell: object) -> object:
    """A cell that a spreadsheet would compute, with the apostrophe before it that says it is text; others as they are.

    Numbers, also those that are written with a sign, are no formulas, and a sign alone is none. A cell is one line.
    """
    if not isinstance(cell, str):
        return cell
    text = printable(cell)
    return f"'{text}" if len(text) > 1 and text.startswith(_STARTS) and not _is_number(text) else text


def without_formulas(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame with :func:`as_text` of each cell and heading."""
    columns = {name: column.map(as_text) for name, column in frame.items() if column.dtype.kind not in "biufM"}
    return frame.assign(**columns).rename(columns=as_text) if columns else frame.rename(columns=as_text)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
