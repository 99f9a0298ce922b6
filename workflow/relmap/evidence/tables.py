"""The papers' tables: published beside reproduced, with intervals, as CSV, Markdown and LaTeX.

Score rows (one per image, method, metric and level) become per-pair values of the published metrics
(:func:`image_scores`); the mean of those over images fills a published cell (:func:`fill`). A cell without scores is an
error, never a gap.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from relmap.catalogue import registry
from relmap.errors import InputError
from relmap.evidence.statistics import RESAMPLES, Interval, bootstrap_mean, sign_flip_test
from relmap.job.files import atomic_path

CELL = ["dataset", "model", "method", "metric"]
# What has a value: a pair of an image and the class that is explained.
PAIR = ["image_id", "target"]
# Short heads of columns, as in the paper's tables; empty where a table has one metric.
_HEADS = {
    "pointing_energy_mean": "",
    "pointing_lower": "lower",
    "pointing_higher": "higher",
    "lerf_last_accuracy": "last",
    "lerf_mean_accuracy": "mean",
    "mean_iou": "",
}

Values = Mapping[tuple[str, str, str, str], pd.Series]


def image_scores(rows: pd.DataFrame, dataset: str, model: str) -> pd.DataFrame:
    """Turn score rows of one data set and model into per-pair values of the published metrics.

    ``pointing`` (level: energy E) becomes ``pointing_energy_mean`` and its halves ``pointing_lower`` (E <= 0.5) and
    ``pointing_higher``; ``lerf_correct`` (level: step) becomes ``lerf_last_accuracy`` and ``lerf_mean_accuracy``;
    ``iou`` becomes ``mean_iou``. Means run over the levels of one pair.

    Args:
        rows: columns image_id, target, method, metric, level, value; one or several metric families.
        dataset: id to add.
        model: id to add.

    Returns:
        Columns dataset, model, method, metric, image_id, target, value.

    Raises:
        InputError: an unknown metric, or an image that lacks levels that others have.
    """
    where = f"scores of {dataset} with {model}"
    unknown = sorted(set(rows["metric"]) - {"pointing", "lerf_correct", "iou"})
    if unknown:
        raise InputError(f"{where}: unknown metric {unknown[0]}; give rows of pointing, lerf_correct and iou")
    parts = []
    for metric, family in rows.groupby("metric", sort=True):
        levels = family.groupby(["method", *PAIR], sort=False)["level"].nunique(dropna=False)
        if len(family) != levels.sum() or levels.nunique() != 1:
            method, image, target = levels.idxmin()
            raise InputError(
                f"{where}: image {image} with target {target} of {method} has {levels.min()} distinct levels of "
                f"{metric}, another has {levels.max()}, or levels are repeated; delete the scores and run again"
            )
        level = family["level"]
        chosen = {
            "pointing": {
                "pointing_energy_mean": level > 0,
                # Halves are told apart with a margin: levels are multiples of 1/20 in floating point.
                "pointing_lower": level <= 0.5 + 1e-6,
                "pointing_higher": level > 0.5 + 1e-6,
            },
            "lerf_correct": {"lerf_last_accuracy": level == level.max(), "lerf_mean_accuracy": level > 0},
            "iou": {"mean_iou": pd.Series(True, index=family.index)},
        }[metric]
        for name, mask in chosen.items():
            values = family[mask].groupby(["method", *PAIR], sort=False)["value"].mean().reset_index()
            parts.append(values.assign(dataset=dataset, model=model, metric=name))
    return pd.concat(parts, ignore_index=True)[[*CELL, *PAIR, "value"]]


def load_scores(paths: Iterable[str | os.PathLike]) -> pd.DataFrame:
    """Read ``.../<dataset>/<model>/<family>.parquet`` files into per-pair values, as :func:`image_scores` gives."""
    parts = [
        image_scores(pd.read_parquet(path), Path(path).parts[-3], Path(path).parts[-2]) for path in map(Path, paths)
    ]
    return pd.concat(parts, ignore_index=True)


def by_cell(scores: pd.DataFrame) -> dict[tuple[str, str, str, str], pd.Series]:
    """Per-pair values of each (dataset, model, method, metric), indexed by image id and target and sorted by it.

    Sorting makes seeded resampling independent of the order in which rows were written.
    """
    values = scores.astype({"value": float}).set_index(PAIR)["value"]
    return {cell: values.iloc[rows].sort_index() for cell, rows in scores.groupby(CELL).indices.items()}


def values_of(values: Values, cell: tuple[str, str, str, str], wanted_by: str) -> pd.Series:
    """The per-pair values of one cell.

    Raises:
        InputError: there are none; the message names the cell and who wants it.
    """
    if cell not in values or not len(values[cell]) or values[cell].isna().all():
        dataset, model, method, metric = cell
        raise InputError(
            f"{wanted_by}: no scores of {method} for {metric} on {dataset} with {model}; run the rule that scores it, "
            "or take the data set, model or method into the config"
        )
    return values[cell]


def paired_differences(a: pd.Series, b: pd.Series) -> pd.Series:
    """a - b over the pairs that have both values, indexed by image id and target."""
    return (a - b).dropna()


def images_of(values: pd.Series) -> np.ndarray:
    """The image of each value: what is resampled and flipped as one."""
    return values.index.get_level_values("image_id").to_numpy()


def interval_of(values: pd.Series, confidence: float, resamples: int, seed: int) -> Interval:
    """Mean over pairs with its bootstrap interval over images."""
    return bootstrap_mean(values.to_numpy(), confidence, resamples, seed, images_of(values))


def read_published(path: str | os.PathLike) -> pd.DataFrame:
    """A published table, every cell as the text that stands in the file."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def fill(
    published: pd.DataFrame,
    scores: pd.DataFrame,
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """Put our value beside every published one.

    Args:
        published: a table as :func:`read_published` gives it.
        scores: per-pair values as :func:`image_scores` gives them.
        confidence: coverage of the bootstrap intervals.
        resamples: bootstrap samples.
        seed: of the resampling.

    Returns:
        The published rows and columns in their order, and ``reproduced``, ``ci_low``, ``ci_high``, ``n_images`` and
        ``n_pairs``.

    Raises:
        InputError: a cell has no scores.
    """
    values = by_cell(scores)
    name = f"{published['paper'].iloc[0]}_table{published['table'].iloc[0]}"
    intervals = [
        interval_of(values_of(values, cell, name), confidence, resamples, seed)
        for cell in published[CELL].itertuples(index=False, name=None)
    ]
    return published.assign(
        reproduced=[interval.mean for interval in intervals],
        ci_low=[interval.low for interval in intervals],
        ci_high=[interval.high for interval in intervals],
        n_images=[interval.n for interval in intervals],
        n_pairs=[interval.pairs for interval in intervals],
    )


def controls(
    scores: pd.DataFrame,
    bases: Sequence[str] = tuple(method.id for method in registry.LRP_METHODS),
    confidence: float = 0.95,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> pd.DataFrame:
    """CLAM beside the method that it refines and beside the control with untrained CLA-layers.

    Args:
        scores: per-pair values as :func:`image_scores` gives them.
        bases: methods refined.
        confidence: coverage of the intervals.
        resamples: bootstrap samples.
        seed: of resampling and tests.

    Returns:
        One row per dataset, model, metric and method (base, base_clam, base_clam_untrained): ``reproduced``,
        ``ci_low``, ``ci_high``, ``n_images``; paired mean differences ``minus_base`` and ``minus_untrained`` (this
        method minus that one), with the p-values of the sign-flip test, NaN for a method against itself.

    Raises:
        InputError: a cell has no scores.
    """
    values = by_cell(scores)
    rows = []
    for dataset, model, metric in sorted({(cell[0], cell[1], cell[3]) for cell in values}, key=_column_order):
        for base in bases:
            trained = f"{base}_{registry.CLAM_ARM}"
            arms = (base, trained, f"{trained}_{registry.UNTRAINED_ARM}")
            found = {arm: values_of(values, (dataset, model, arm, metric), "clam_controls") for arm in arms}
            for arm in arms:
                interval = interval_of(found[arm], confidence, resamples, seed)
                row = {"dataset": dataset, "model": model, "method": arm, "metric": metric}
                row |= {"reproduced": interval.mean, "ci_low": interval.low, "ci_high": interval.high}
                row |= {"n_images": interval.n}
                for name, other in (("base", base), ("untrained", arms[2])):
                    differences = paired_differences(found[arm], found[other])
                    same = arm == other
                    row[f"minus_{name}"] = np.nan if same else float(differences.mean())
                    row[f"p_{name}"] = (
                        np.nan
                        if same
                        else sign_flip_test(differences.to_numpy(), seed=seed, images=images_of(differences))
                    )
                rows.append(row)
    return pd.DataFrame(rows)


def digits(value: float, signed: bool = False) -> str:
    """Four decimals without the leading zero, as the papers print: .5550, 1.0000, -.0079."""
    text = f"{abs(value):.4f}"
    sign = "-" if value < 0 and float(text) else "+" if signed else ""
    return sign + (text[1:] if text.startswith("0") else text)


def to_markdown(table: pd.DataFrame, caption: str = "") -> str:
    """A filled table in the paper's layout: rows methods, columns dataset x model x metric, published | ours.

    Marks are ``**best of the column**`` and ``<u>improved by CLAM</u>``: as printed for the published values, by the
    numbers for ours.
    """
    methods, columns, cells = _layout(table)
    head = ["Method"]
    for dataset, model, metric in columns:
        name = ", ".join(filter(None, (registry.label(dataset), registry.label(model), _HEADS.get(metric, metric))))
        head += [f"{name}: published", "ours"]
    lines = [[registry.label(method), *(_mark_markdown(*cell) for cell in cells[method])] for method in methods]
    return _pipe(head, lines, caption)


def to_latex(table: pd.DataFrame, caption: str = "") -> str:
    """The same as :func:`to_markdown`, for LaTeX with booktabs."""
    methods, columns, cells = _layout(table)

    def spans(keys: Sequence[str]) -> tuple[str, str]:
        """Heads over runs of equal keys, and the rules under them; the first column holds the methods."""
        heads, rules, start = [], [], 0
        for stop in range(1, len(keys) + 1):
            if stop == len(keys) or keys[stop] != keys[start]:
                heads.append(rf"\multicolumn{{{2 * (stop - start)}}}{{c}}{{{_escape(keys[start].split('|')[-1])}}}")
                rules.append(rf"\cmidrule(lr){{{2 + 2 * start}-{1 + 2 * stop}}}")
                start = stop
        return " & " + " & ".join(heads) + r" \\", "".join(rules)

    datasets = [registry.label(dataset) for dataset, _, _ in columns]
    models = [f"{dataset}|{registry.label(model)}" for dataset, model, _ in columns]
    metrics = [f"{i}|{_HEADS.get(metric, metric)}" for i, (_, _, metric) in enumerate(columns)]
    named = any(key.split("|")[1] for key in metrics)
    lines = [r"\begin{table}", r"\centering", rf"\caption{{{_escape(caption)}}}"] if caption else []
    lines += [rf"\begin{{tabular}}{{l{'rr' * len(columns)}}}", r"\toprule"]
    for keys in (datasets, models, *([metrics] if named else [])):
        lines += spans(keys)
    lines += [" & " + " & ".join(["published & ours"] * len(columns)) + r" \\", r"\midrule"]
    for method in methods:
        marked = (_mark_latex(*cell) for cell in cells[method])
        lines.append(" & ".join([_escape(registry.label(method)), *marked]) + r" \\")
    lines += [r"\bottomrule", r"\end{tabular}", *([r"\end{table}"] if caption else [])]
    return "\n".join(lines) + "\n"


def frame_to_markdown(frame: pd.DataFrame, caption: str = "") -> str:
    """Any tidy frame as Markdown: numbers as the papers print them, NaN as nothing."""

    def text(value: object) -> str:
        if isinstance(value, float):
            return "" if np.isnan(value) else digits(value)
        return str(value)

    lines = [[text(value) for value in row] for row in frame.itertuples(index=False, name=None)]
    return _pipe([str(column) for column in frame.columns], lines, caption)


def write_table(table: pd.DataFrame, path: str | os.PathLike, caption: str = "") -> None:
    """Write a filled table to ``path`` (.csv), and as Markdown and LaTeX beside it."""
    _write_text(Path(path).with_suffix(".md"), to_markdown(table, caption))
    _write_text(Path(path).with_suffix(".tex"), to_latex(table, caption))
    _write_text(Path(path), _csv(table))


def write_frame(frame: pd.DataFrame, path: str | os.PathLike, caption: str = "") -> None:
    """Write a tidy frame (controls, claims, ...) to ``path`` (.csv), and as Markdown beside it."""
    _write_text(Path(path).with_suffix(".md"), frame_to_markdown(frame, caption))
    _write_text(Path(path), _csv(frame))


def _layout(
    table: pd.DataFrame,
) -> tuple[list[str], list[tuple[str, str, str]], dict[str, list[tuple[str, bool, bool]]]]:
    """Methods, columns, and per method its cells (text, bold, underlined): published and ours by turns."""
    methods = list(dict.fromkeys(table["method"]))
    keys = list(zip(table["dataset"], table["model"], table["metric"], strict=True))
    columns = sorted(dict.fromkeys(keys), key=_column_order)
    rows = {(*key, row["method"]): row for key, (_, row) in zip(keys, table.iterrows(), strict=True)}
    best = {}
    for column in columns:
        in_column = [rows[(*column, method)] for method in methods if (*column, method) in rows]
        choose = min if in_column[0]["higher_is_better"] == "false" else max
        best[column] = digits(choose(row["reproduced"] for row in in_column))
    bases = {method.id: method.base for method in registry.methods() if method.base}
    cells: dict[str, list[tuple[str, bool, bool]]] = {}
    for method in methods:
        cells[method] = []
        for column in columns:
            row, base = rows.get((*column, method)), rows.get((*column, bases.get(method)))
            if row is None:
                cells[method] += [("", False, False)] * 2
                continue
            printed = digits(float(row["value"])) if row["value"] else ""
            emphasis = row["emphasis"].split("+")
            cells[method].append((printed, "bold" in emphasis, "underline" in emphasis))
            ours = digits(row["reproduced"])
            gain = 0.0 if base is None else row["reproduced"] - base["reproduced"]
            improved = gain < 0 if row["higher_is_better"] == "false" else gain > 0
            cells[method].append((ours, ours == best[column], improved))
    return methods, columns, cells


def _column_order(column: tuple[str, str, str]) -> tuple:
    """Data sets, models and metrics in the registry's order, unknown ones after it by name."""
    entries = (registry.DATASETS, registry.MODELS, registry.METRICS)
    known = [[entry.id for entry in kind] for kind in entries]
    return tuple((ids.index(key) if key in ids else len(ids), key) for ids, key in zip(known, column, strict=True))


def _mark_markdown(text: str, bold: bool, underlined: bool) -> str:
    text = f"<u>{text}</u>" if underlined and text else text
    return f"**{text}**" if bold and text else text


def _mark_latex(text: str, bold: bool, underlined: bool) -> str:
    text = rf"\underline{{{text}}}" if underlined and text else text
    return rf"\textbf{{{text}}}" if bold and text else text


def _escape(text: str) -> str:
    return "".join("\\" + c if c in "&%$#_{}" else c for c in text)


def _pipe(head: Sequence[str], lines: Iterable[Sequence[str]], caption: str) -> str:
    rows = [head, ["---"] * len(head), *lines]
    body = "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in rows)
    return (f"{caption}\n\n" if caption else "") + body + "\n"


def _csv(frame: pd.DataFrame) -> str:
    return frame.to_csv(index=False, float_format="%.6f", lineterminator="\n")


def _write_text(path: Path, text: str) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
