"""What a run left behind, as plain values for the page. What is absent comes back as None, so that the page says so."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow.parquet as pq
from PIL import Image

from relmap.errors import InputError
from relmap.evidence.layout import digits, lay_out
from relmap.evidence.tables import images_note, trainings_note
from relmap.job.files import read_json
from relmap.job.parquet import reading
from relmap.job.yaml_files import read_yaml

# JSON keeps no order of keys that matters; readers want to see these before the rest.
_FIRST = ("image", "data set", "network", "class", "predicted", "gain")
_IDENTIFIERS = ("dataset", "model", "method", "best_method", "metric", "first", "second")
_TRUTHS = {"True": "yes", "False": "no"}
Label = Callable[[str], str]


@dataclass(frozen=True)
class Cell:
    """A cell of a sortable table: what is read, and what it is sorted by (a number or lower-case text)."""

    text: str
    key: float | str

    @property
    def short(self) -> bool:
        """Whether it must stay on one line."""
        return len(self.text) <= 40

    @property
    def numeric(self) -> bool:
        """Whether it is sorted, and aligned, as a number."""
        return isinstance(self.key, float)


@dataclass(frozen=True)
class Grid:
    """A published table in the paper's layout.

    Attributes:
        heads: per column (data set, model, metric, variant), empty where one does not vary.
        rows: method's label and a dictionary per column: published, ours, interval, improved (over the method that
            it refines, by a test); None without a cell.
        ranks: per column, Spearman's rank correlation of published and ours over methods; None when undefined.
    """

    heads: list[tuple[str, ...]]
    rows: list[tuple[str, list[dict[str, Any] | None]]]
    ranks: list[str | None]


def read_optional_json(path: Path) -> Any:
    """A JSON file, or None when it is absent.

    Raises:
        InputError: it is there and broken.
    """
    return read_json(path) if path.is_file() else None


def number(text: str) -> float | None:
    """The number that a cell's text stands for, if it does."""
    try:
        return float(text)
    except ValueError:
        return None


def cell(text: str, column: str = "", label: Label = str) -> Cell:
    """A cell for display: identifiers by their labels, fractions with four decimals, anything else as it is."""
    if column in _IDENTIFIERS:
        return Cell(label(text), label(text).lower())
    if column == "interval":
        low = number(text.split(" ")[0])
        return Cell(minus(text), text if low is None else low)
    value = number(text)
    if value is None:
        shown = _TRUTHS.get(text, text)
        return Cell(shown, shown.lower())
    if value != value:
        return Cell("", "")
    signed = column.startswith(("difference", "minus_", "published_difference", "gain"))
    whole = "." not in text and "e" not in text.lower()
    return Cell(minus(text if whole else digits(value, signed)), value)


def minus(text: str) -> str:
    """Numbers with a minus sign in the place of a hyphen."""
    return re.sub(r"(?<![\w.])-(?=[.\d])", "\N{MINUS SIGN}", text)


def sortable(frame: pd.DataFrame, label: Label = str) -> tuple[list[str], list[list[Cell]]]:
    """Readable heads and cells of any tidy frame of text; ``label`` gives ids their names for readers."""
    words = {"dataset": "data set", "model": "network"}
    heads = [words.get(name, name.replace("_", " ")) for name in frame.columns]
    rows = [[cell(row[name], name, label) for name in frame.columns] for row in frame.to_dict("records")]
    return heads, rows


def filled_table(frame: pd.DataFrame) -> pd.DataFrame:
    """Published beside ours: the columns that readers need, with the difference at the table's own scale.

    Args:
        frame: a filled table (``relmap.evidence.tables.fill``), as text.
    """
    value, ours, scale = (pd.to_numeric(frame[name], errors="coerce") for name in ("value", "reproduced", "scale"))
    shown = frame[["dataset", "model"]].copy()
    shown["as printed"], shown["metric"], shown["variant"] = frame["label"], frame["head"], frame["variant_label"]
    shown["published"], shown["published spread"] = frame["value"], frame["std"]
    shown["reproduced"] = _at_scale(frame["reproduced"], scale)
    limits = zip(_at_scale(frame["ci_low"], scale), _at_scale(frame["ci_high"], scale), strict=True)
    shown["interval"] = [" to ".join(cell(limit).text for limit in pair if limit) for pair in limits]
    shown["published inside"] = _inside(value, frame, scale)
    if "n_trainings" in frame:
        shown["spread"], shown["trainings"] = _at_scale(frame["reproduced_std"], scale), frame["n_trainings"]
    shown["difference"] = [f"{number:.6f}" for number in ours * scale - value]
    shown["images"], shown["missing"], shown["note"] = frame["n_images"], frame["missing"], frame["note"]
    # A column that says nothing is left out.
    return shown.loc[:, (shown != "").any()]


def _inside(value: pd.Series, frame: pd.DataFrame, scale: pd.Series) -> list[str]:
    """Whether published values lie in our intervals; nothing where one of the two is absent."""
    low, high = (pd.to_numeric(frame[name], errors="coerce") * scale for name in ("ci_low", "ci_high"))
    known, inside = value.notna() & low.notna() & high.notna(), value.between(low, high)
    return ["" if not sure else "yes" if lies else "no" for sure, lies in zip(known, inside, strict=True)]


def _at_scale(column: pd.Series, scale: pd.Series) -> list[str]:
    """Numbers at the table's own scale; nothing where there is none."""
    scaled = pd.to_numeric(column, errors="coerce") * scale
    return ["" if number != number else f"{number:.6f}" for number in scaled]


def _typed(frame: pd.DataFrame) -> pd.DataFrame:
    """A filled table, as text, with numbers where they are computed with."""
    names = ("reproduced", "reproduced_std", "ci_low", "ci_high", "scale", "digits", "n_trainings", "gain_p")
    typed = frame.assign(**{name: pd.to_numeric(frame[name], errors="coerce") for name in names if name in frame})
    return typed.astype({name: int for name in ("digits", "n_trainings") if name in frame})


def note(frame: pd.DataFrame) -> str:
    """What a filled table, as text, says of the images and the trainings behind its cells."""
    typed = _typed(frame)
    over = images_note(typed)
    return " ".join(filter(None, [f"{over}." if over else "", trainings_note(typed)]))


def grid(frame: pd.DataFrame, rows: Sequence[str]) -> Grid:
    """A filled table as the paper lays it out, from the layout that Markdown and LaTeX have."""
    layout = lay_out(_typed(frame), rows)
    shown = []
    for name, line in layout.rows:
        pairs = zip(line[::2], line[1::2], strict=True)
        cells = [
            {
                "published": minus(printed.text),
                "ours": minus(ours.text),
                "interval": minus(ours.interval),
                "improved": ours.underlined,
            }
            if printed.text or ours.text
            else None
            for printed, ours in pairs
        ]
        shown.append((name, cells))
    own = shown[: len(shown) - layout.controls]
    ranks = [_rank([line[place] for _, line in own]) for place in range(len(layout.columns))]
    return Grid(layout.columns, shown, ranks)


def _rank(column: Sequence[dict[str, Any] | None]) -> str | None:
    """Spearman's correlation of published and ours; two or equal values have no order to speak of."""
    pairs = [
        [number(c[key].split(" ")[0].replace("\N{MINUS SIGN}", "-")) for key in ("published", "ours")]
        for c in column
        if c is not None
    ]
    known = pd.DataFrame([pair for pair in pairs if None not in pair], columns=["published", "ours"], dtype=float)
    if len(known) < 3 or (known.nunique() < 2).any():
        return None
    agreement = known["published"].corr(known["ours"], method="spearman")
    return f"{agreement:+.2f}".replace("-", "\N{MINUS SIGN}")


def read_config(path: Path) -> tuple[str | None, dict[str, Any]]:
    """A run's configuration as text and as values; (None, {}) when it is absent.

    Raises:
        InputError: it is there and not YAML.
    """
    if not path.is_file():
        return None, {}
    values = read_yaml(path, "delete it and run again") or {}
    return path.read_text(encoding="utf-8"), values


def read_manifest_facts(path: Path) -> dict[str, Any]:
    """A manifest's fingerprint and how many images and classes it has, without reading its rows; {} when it is absent.

    Raises:
        InputError: it is there and not a manifest.
    """
    if not path.is_file():
        return {}
    with reading(path):
        found = pq.read_metadata(path)
    try:
        info = json.loads(found.metadata[b"relmap"])
        return {
            "fingerprint": info["fingerprint"],
            "images": found.num_rows,
            "classes": len(info["class_names"]),
        }
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a relmap manifest ({error!r}); delete it and run again") from error


def read_figure(folder: Path, name: str, label: Label = str) -> dict[str, Any] | None:
    """One figure's file names, size, words and rows; None when its PNG is absent."""
    png = folder / f"{name}.png"
    if not png.is_file():
        return None
    with Image.open(png, formats=("PNG",)) as image:
        width, height = image.size
    words = read_optional_json(folder / f"{name}.json") or {}
    frame = _figure_rows(words.get("rows", []))
    return {
        "png": f"{name}.png",
        "pdf": f"{name}.pdf" if (folder / f"{name}.pdf").is_file() else None,
        "width": width,
        "height": height,
        "caption": words.get("caption"),
        "selection": words.get("selection"),
        "rows": sortable(frame, label) if len(frame) else None,
    }


def _figure_rows(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A figure's rows as text, with the columns that readers want to see first at the front."""
    frame = pd.DataFrame([{key: _text(value) for key, value in row.items()} for row in rows])
    first = [name for name in _FIRST if name in frame]
    return frame[first + [name for name in frame if name not in first]]


def _text(value: Any) -> str:
    return "" if value is None else str(value) if isinstance(value, str) else json.dumps(value)
