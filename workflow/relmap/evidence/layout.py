"""Tables as they are shown: published beside ours, and tidy frames, as CSV, Markdown and LaTeX."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from relmap.catalogue.papers import PRINTED
from relmap.errors import InputError
from relmap.job.files import atomic_paths
from relmap.job.spreadsheet import without_formulas


@dataclass(frozen=True)
class Shown:
    """A cell as it is shown; ``interval`` is that of our value, ``[.39, .43]``."""

    text: str = ""
    bold: bool = False
    underlined: bool = False
    interval: str = ""


_BLANK = Shown()
GAIN_LEVEL = 0.05
"""A gain with a corrected p below it is underlined."""


def digits(value: float, signed: bool = False) -> str:
    """Four decimals without the leading zero, as the papers print: .5550, 1.0000, -.0079."""
    text = f"{abs(value):.4f}"
    sign = "-" if value < 0 and float(text) else "+" if signed else ""
    return sign + (text[1:] if text.startswith("0") else text)


def p_text(p: float) -> str:
    """A p-value, with its sign: = .0123, < .0001."""
    return "< .0001" if _is_tiny(p) else f"= {digits(p)}"


def _is_tiny(value: float) -> bool:
    """Whether four decimals would say that a positive number is zero."""
    return 0 < value < 0.00005


def to_markdown(table: pd.DataFrame, caption: str = "", rows: Sequence[str] = ("method",)) -> str:
    """A filled table: ``rows`` are what its rows are, all else that varies is columns, published | ours.

    Marks are ``**best of the column**`` and ``<u>better than the method that it refines</u>``: as printed for the
    published values; by the numbers, and by a corrected test, for ours. Beside ours stands its interval, with a
    decimal less.
    """
    layout = lay_out(table, rows)
    head = ["Method"]
    for column in layout.columns:
        head += [f"{', '.join(filter(None, column))}: published", "ours"]
    lines = [[name, *map(_mark_markdown, line)] for name, line in layout.rows]
    return _pipe(head, lines, caption)


def to_latex(table: pd.DataFrame, caption: str = "", rows: Sequence[str] = ("method",)) -> str:
    """The same as :func:`to_markdown`, for LaTeX with booktabs."""
    layout = lay_out(table, rows)
    count = len(layout.columns)
    lines = [rf"\begin{{tabular}}{{l{'rr' * count}}}", r"\toprule", *_latex_heads(layout.columns)]
    lines += [" & " + " & ".join(["published & ours"] * count) + r" \\", r"\midrule"]
    for name, line in layout.rows:
        lines.append(" & ".join([_escape(name), *map(_mark_latex, line)]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}"]
    if caption:
        lines = [r"\begin{table}", r"\centering", rf"\caption{{{_escape(caption)}}}", *lines, r"\end{table}"]
    return "\n".join(lines) + "\n"


def _latex_heads(columns: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The lines of the heads, but for levels that say nothing."""
    for level in range(len(columns[0])):
        heads = [column[: level + 1] for column in columns]
        if any(head[-1] for head in heads):
            yield from _spans(heads)


def _spans(keys: Sequence[tuple[str, ...]]) -> tuple[str, str]:
    """Heads over runs of equal keys, and the rules under them; the first column holds the methods."""
    heads, rules, start = [], [], 0
    for stop in range(1, len(keys) + 1):
        if stop == len(keys) or keys[stop] != keys[start]:
            heads.append(rf"\multicolumn{{{2 * (stop - start)}}}{{c}}{{{_escape(keys[start][-1])}}}")
            rules.append(rf"\cmidrule(lr){{{2 + 2 * start}-{1 + 2 * stop}}}")
            start = stop
    return " & " + " & ".join(heads) + r" \\", "".join(rules)


def frame_to_markdown(frame: pd.DataFrame, caption: str = "") -> str:
    """Any tidy frame as Markdown: numbers as the papers print them, NaN as nothing, and no positive number as zero."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else "< .0001" if _is_tiny(value) else digits(value)
        return str(value)

    lines = [[text(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    return _pipe([str(column) for column in frame.columns], lines, caption)


def write_table(
    table: pd.DataFrame, path: str | os.PathLike, caption: str = "", rows: Sequence[str] = ("method",)
) -> None:
    """Write a filled table to ``path`` (.csv), and as Markdown and LaTeX beside it."""
    texts = {".md": to_markdown(table, caption, rows), ".tex": to_latex(table, caption, rows), ".csv": _csv(table)}
    _write_texts(Path(path), texts)


def write_frame(frame: pd.DataFrame, path: str | os.PathLike, caption: str = "") -> None:
    """Write a tidy frame (controls, claims, ...) to ``path`` (.csv), and as Markdown beside it."""
    _write_texts(Path(path), {".md": frame_to_markdown(frame, caption), ".csv": _csv(frame)})


# Where a table's rows and columns get their names from.
_NAMES = {
    "dataset": "dataset_label",
    "model": "model_label",
    "method": "label",
    "metric": "head",
    "variant": "variant_label",
}


@dataclass(frozen=True)
class Layout:
    """A table as it is shown, whatever the format.

    Attributes:
        columns: heads of each column: data set, model, metric, variant; empty where they are rows.
        rows: label, and by turns the published and our cell of each column.
        controls: how many of the last rows are controls.
    """

    columns: list[tuple[str, ...]]
    rows: list[tuple[str, list[Shown]]]
    controls: int


def lay_out(table: pd.DataFrame, rows: Sequence[str] = ("method",)) -> Layout:
    """Lay a filled table out; cells are found by all five of their keys, so that none is lost.

    Args:
        table: as :func:`fill` gives it.
        rows: which of dataset, model, method, metric and variant a row is; all others are columns.

    Raises:
        InputError: two cells have one place.
    """
    across = [key for key in PRINTED if key not in rows]
    records = table.to_dict("records")
    places = _places(records, rows, across)
    lines = list(dict.fromkeys(row for row, _ in places))
    columns = list(dict.fromkeys(column for _, column in places))
    best = {column: _best([r for (_, at), r in places.items() if at == column]) for column in columns}
    first = {row: r for (row, _), r in reversed(places.items())}
    shown = []
    for row in lines:
        pairs = [_pair(places.get((row, column)), best[column]) for column in columns]
        shown.append((_row_name(first[row], rows), [cell for pair in pairs for cell in pair]))
    heads = {column: _heads(r, across) for (_, column), r in places.items()}
    return Layout([heads[column] for column in columns], shown, sum(first[row]["role"] == "control" for row in lines))


def _places(
    records: Sequence[Mapping[str, Any]], rows: Sequence[str], across: Sequence[str]
) -> dict[tuple[tuple[str, ...], tuple[str, ...]], Mapping[str, Any]]:
    """Row and column, by their keys, -> the cell there; refuses two cells in one place."""
    places = {(tuple(r[key] for key in rows), tuple(r[key] for key in across)): r for r in records}
    if len(places) < len(records):
        raise InputError(f"table {records[0]['paper']} {records[0]['table']}: two cells have one place in the layout")
    return places


def _pair(record: Mapping[str, Any] | None, best: str) -> tuple[Shown, Shown]:
    """The published and our cell of one place."""
    return (_BLANK, _BLANK) if record is None else (_printed_cell(record), _our_cell(record, best))


def _printed_cell(record: Mapping[str, Any]) -> Shown:
    emphasis = record["emphasis"].split("+")
    dash = "–" if not record["value"] and "printed as a dash" in record["note"] else ""
    text = (record["value"] or dash) + (f" ± {record['std']}" if record["std"] else "")
    text = text.removeprefix("0") if text.startswith("0.") and record["digits"] == 4 else text
    return Shown(text, "bold" in emphasis, "underline" in emphasis)


def _our_cell(record: Mapping[str, Any], best: str) -> Shown:
    """Ours: bold as the best of its column, underlined where a test supports that it gains on what it refines."""
    if np.isnan(record["reproduced"]):
        return _BLANK
    ours = _ours(record)
    gains = record.get("gain_p", np.nan) < GAIN_LEVEL
    return Shown(ours, record["role"] == "published" and ours == best, bool(gains), _interval(record))


def _row_name(record: Mapping[str, Any], rows: Sequence[str]) -> str:
    return ", ".join(filter(None, (record[_NAMES[key]] for key in rows)))


def _heads(record: Mapping[str, Any], across: Sequence[str]) -> tuple[str, ...]:
    return tuple(record[_NAMES[key]] for key in across)


def _ours(record: Mapping[str, Any]) -> str:
    """Our value at the table's own scale and digits, with its spread where the table prints one."""
    value, places = record["reproduced"] * record["scale"], record["digits"]
    text = digits(value) if places == 4 else f"{value:.{places}f}"
    several = record.get("n_trainings", 0) > 1
    spread = several or (record["spread"] == "pairs" and record["std"])
    return f"{text} ± {record['reproduced_std'] * record['scale']:.{places}f}" if spread else text


def _interval(record: Mapping[str, Any]) -> str:
    """The interval of our value at the table's own scale, with a decimal less than the value: it is no surer."""
    limits = [record[name] * record["scale"] for name in ("ci_low", "ci_high")]
    if np.isnan(limits).any():
        return ""
    places = max(record["digits"] - 1, 0)
    texts = [f"{limit:.{places}f}" for limit in limits]
    if record["digits"] == 4:
        texts = [text.replace("0.", ".", 1) if text.startswith(("0.", "-0.")) else text for text in texts]
    return f"[{', '.join(texts)}]"


def _best(column: Sequence[Mapping[str, Any]]) -> str:
    known = [r for r in column if r["role"] == "published" and not np.isnan(r["reproduced"]) and r["higher_is_better"]]
    if not known:
        return ""
    choose = min if known[0]["higher_is_better"] == "false" else max
    return _ours(choose(known, key=lambda r: r["reproduced"]))


def _mark_markdown(cell: Shown) -> str:
    text = f"<u>{cell.text}</u>" if cell.underlined and cell.text else cell.text
    text = f"**{text}**" if cell.bold and text else text
    return f"{text} {cell.interval}" if cell.interval else text


def _mark_latex(cell: Shown) -> str:
    text = rf"\underline{{{cell.text}}}" if cell.underlined and cell.text else cell.text
    text = rf"\textbf{{{text}}}" if cell.bold and text else text
    return rf"{text} {{\scriptsize {cell.interval}}}" if cell.interval else text


def _escape(text: str) -> str:
    return "".join("\\" + c if c in "&%$#_{}" else c for c in text)


def _pipe(head: Sequence[str], lines: Iterable[Sequence[str]], caption: str) -> str:
    rows = [head, ["---"] * len(head), *lines]
    body = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)
    return (f"{caption}\n\n" if caption else "") + body + "\n"


def _csv(frame: pd.DataFrame) -> str:
    return without_formulas(frame).to_csv(index=False, float_format="%.6f", lineterminator="\n")


def _write_texts(path: Path, texts: Mapping[str, str]) -> None:
    """Files of one table, by suffix: all of them, or none."""
    with atomic_paths(*(path.with_suffix(suffix) for suffix in texts)) as temporaries:
        for temporary, text in zip(temporaries, texts.values(), strict=True):
            temporary.write_text(text, encoding="utf-8")
