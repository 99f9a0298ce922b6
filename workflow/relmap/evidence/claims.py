"""What a paper's text asserts of its tables: decided by paired tests on ours, and checked against its own numbers.

A claim is a list of comparisons of two methods on one data set, model and metric, and a quantifier.

*Comparisons.* They are of all pairs, or of those that ``select`` names. Let d be the differences a - b, pair by pair;
all pairs of an image are flipped as one. ``above`` says mean(d) > 0, ``below`` mean(d) < 0: one two-sided sign-flip
test, whose sign tells whether it speaks for or against. ``within`` says low < mean(d) < high, an equivalence test: for
it by the larger p of the two one-sided tests (mean(d) > low, mean(d) < high), against it by twice the smaller p of the
opposite ones.

*Claims* at the level alpha (0.05):

- ``all``: holds when every comparison is significantly for it. That is an intersection-union test, which keeps its
  level without correction (Berger 1982). It fails when any comparison is significantly against it after Holm's
  correction inside the claim.
- ``most``: holds when more than half of the comparisons are significantly for it, fails when at least half are
  significantly against it, both after Holm's correction.
- Otherwise it is undecided: absence of significance is evidence for neither side.

*Several trainings.* Where a model stands for trainings that differ in their seed, the difference is the mean over them
of their mean differences, each between networks of one number, and an image's share of it is flipped as one: the images
are the sample, the trainings are given. Beside it stands in how many trainings the comparison holds by its sign. A sign
test over K trainings alone cannot go below p = 2 / 2^K (.06 of five), so it decides nothing.

*Published verdict*: the same quantifiers on the printed numbers, without tests: ``supported`` or ``contradicted`` by
the paper's own table, or ``supported but for suspect cells`` when only comparisons with cells that the transcription
marks as suspect contradict it.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from relmap.catalogue.papers import FLAGS, Cell
from relmap.catalogue.rows import Rows
from relmap.errors import InputError, suggestion
from relmap.evidence.statistics import PERMUTATIONS, class_weights, holm, sign_flip_test
from relmap.evidence.tables import (
    CELL,
    Values,
    by_cell,
    classes_of,
    digits,
    images_of,
    paired_differences,
    trainings_of,
)

DETAILS = (
    "claim",
    "dataset",
    "model",
    "metric",
    "first",
    "second",
    "select",
    "relation",
    "published_difference",
    "difference",
    "p_for",
    "p_against",
    "holm_for",
    "holm_against",
    "n_images",
)
# Of claims about models that stand for several trainings: how many there are, and in how many the comparison holds.
_OF_TRAININGS = ("n_trainings", "trainings_for")
_CLAIM_KEYS = {"id", "text", "source", "table", "quantifier", "comparisons"}
_BLOCK_KEYS = {"relation", "datasets", "models", "metrics", "pairs"}
_QUANTIFIERS = ("all", "most")
_OTHERS = "others"


@dataclass(frozen=True)
class Comparison:
    """``first`` against ``second`` on one data set, model and metric; see the module's text for the relations.

    ``select``: flags of the pairs that count, joined by ``;``; all pairs without.
    """

    dataset: str
    model: str
    metric: str
    first: str
    second: str
    relation: str
    low: float = 0.0
    high: float = 0.0
    select: str = ""

    def sides(self) -> tuple[Cell, Cell]:
        """The two cells."""
        return tuple(
            Cell(self.dataset, self.model, method, self.metric, "", self.select) for method in (self.first, self.second)
        )

    def cells(self) -> tuple[tuple[str, str, str, str], tuple[str, str, str, str]]:
        """Data set, model, method and metric of the two."""
        return tuple((self.dataset, self.model, method, self.metric) for method in (self.first, self.second))

    def __str__(self) -> str:
        of = f" ({self.select})" if self.select else ""
        return f"{self.dataset}/{self.model} {self.metric} {self.first} - {self.second}{of}"


@dataclass(frozen=True)
class Claim:
    """One assertion; ``ours`` marks those that the paper does not make."""

    id: str
    text: str
    source: str
    table: int
    quantifier: str
    ours: bool
    comparisons: tuple[Comparison, ...]


@dataclass(frozen=True)
class _Evidence:
    """Of one comparison: mean difference, number of images, p-values for and against; of several trainings, how many
    there are and in how many it holds."""

    difference: float
    images: int
    p_for: float
    p_against: float
    trainings: int = 1
    trainings_for: int = 0


@dataclass(frozen=True)
class _Tested:
    """A claim with the evidence of each of its comparisons, and their p-values after Holm's correction inside it."""

    claim: Claim
    evidence: Sequence[_Evidence]
    holm_for: np.ndarray
    holm_against: np.ndarray


def read_claims(path: str | os.PathLike, methods: Sequence[str], known: Rows | None = None) -> list[Claim]:
    """Read a file of claims; the module's text explains relations and quantifiers.

    Args:
        path: YAML.
        methods: what ``others`` stands for: the methods of the paper's tables.
        known: the rows that ids are looked up in; the catalogue's by default.

    Raises:
        InputError: the file is absent or not YAML, or a claim lacks a key, has one too many, or a wrong value.
    """
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot read the claims ({error})") from error
    claims = [_claim(entry, path, methods, known or Rows()) for entry in found]
    ids = [claim.id for claim in claims]
    if len(set(ids)) != len(ids):
        raise InputError(f"{path}: claim {max(ids, key=ids.count)} occurs more than once; rename one")
    return claims


def decide(
    claims: Sequence[Claim],
    scores: pd.DataFrame,
    published: pd.DataFrame,
    significance: float = 0.05,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
    known: Rows | None = None,
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Decide claims by per-pair values, and check them against the published numbers.

    Args:
        claims: as :func:`read_claims` gives them.
        scores: per-pair values, as :func:`relmap.evidence.tables.image_scores` gives them.
        published: rows of the published tables together, as text.
        significance: level of the tests.
        permutations: sign patterns drawn per test.
        seed: of the drawing.
        known: the rows of the run; the catalogue's by default.

    Returns:
        The claims (claim, text, source, table, quantifier, ours, published_verdict, verdict, evidence, n_images: the
        fewest images behind a comparison), and all their comparisons (claim, dataset, model, metric, first, second,
        relation, published_difference, difference, p_for, p_against, holm_for, holm_against, n_images; where a model
        stands for several trainings, n_trainings and trainings_for).

    A claim with a comparison that this run has no scores for has the verdict ``no data``, and its evidence names them.
    """
    selects = {comparison.select for claim in claims for comparison in claim.comparisons}
    values = {select: by_cell(scores, select) for select in selects}
    known = known or Rows()
    columns = known.columns()
    by_class = frozenset(name for name, (_, column) in columns.items() if column.mean == "classes")
    printed = {tuple(row[key] for key in (*CELL, "select")): row for _, row in published.iterrows() if row["value"]}
    known_evidence: dict[Comparison, _Evidence] = {}
    summaries, details = [], []
    for claim in claims:
        differences = [_printed_difference(comparison, printed) for comparison in claim.comparisons]
        summary = _summary(claim, _published_verdict(claim, differences, printed))
        lacking = _first_lacking(claim, values, known)
        if lacking:
            summaries.append(summary | {"verdict": "no data", "evidence": _no_scores(lacking), "n_images": 0})
            continue
        for comparison in claim.comparisons:
            if comparison not in known_evidence:  # claims share comparisons
                drawing = permutations, seed, comparison.metric in by_class
                sides = trainings_of(comparison.sides(), values[comparison.select], known)
                known_evidence[comparison] = _compare(comparison, sides, claim.id, *drawing)
        tested = _tested(claim, [known_evidence[comparison] for comparison in claim.comparisons])
        decision = {"verdict": _verdict(tested, significance), "evidence": _in_words(tested, significance)}
        summaries.append(summary | decision | {"n_images": min(e.images for e in tested.evidence)})
        details += _details(tested, differences)
    several = any(evidence.trainings > 1 for evidence in known_evidence.values())
    return pd.DataFrame(summaries), pd.DataFrame(details, columns=[*DETAILS, *(_OF_TRAININGS if several else ())])


def _summary(claim: Claim, published_verdict: str) -> dict[str, Any]:
    """What is said of a claim before its tests."""
    return {
        "claim": claim.id,
        "text": claim.text,
        "source": claim.source,
        "table": claim.table,
        "quantifier": claim.quantifier,
        "ours": claim.ours,
        "published_verdict": published_verdict,
    }


def _first_lacking(claim: Claim, values: Mapping[str, Values], known: Rows) -> Cell | None:
    """The first cell of a claim without scores, or whose networks are none of the other's."""
    compared = ((c, sides) for c in claim.comparisons for sides in (*([one] for one in c.sides()), c.sides()))
    return next((sides[0] for c, sides in compared if not trainings_of(sides, values[c.select], known)), None)


def _tested(claim: Claim, evidence: Sequence[_Evidence]) -> _Tested:
    return _Tested(claim, evidence, holm([e.p_for for e in evidence]), holm([e.p_against for e in evidence]))


def _details(tested: _Tested, differences: Sequence[float]) -> list[dict[str, Any]]:
    """A row for each comparison, with its published difference."""
    return [
        {
            "claim": tested.claim.id,
            "dataset": comparison.dataset,
            "model": comparison.model,
            "metric": comparison.metric,
            "first": comparison.first,
            "second": comparison.second,
            "select": comparison.select,
            "relation": comparison.relation,
            "published_difference": difference,
            "difference": e.difference,
            "p_for": e.p_for,
            "p_against": e.p_against,
            "holm_for": adjusted_for,
            "holm_against": adjusted_against,
            "n_images": e.images,
            "n_trainings": e.trainings,
            "trainings_for": e.trainings_for,
        }
        for comparison, e, difference, adjusted_for, adjusted_against in zip(
            tested.claim.comparisons, tested.evidence, differences, tested.holm_for, tested.holm_against, strict=True
        )
    ]


def _claim(entry: dict, path: str | os.PathLike, methods: Sequence[str], known: Rows) -> Claim:
    where = f"{path}: claim {entry.get('id', '(without id)')}" if isinstance(entry, dict) else f"{path}: {entry!r}"
    if not isinstance(entry, dict) or set(entry) - {"ours"} != _CLAIM_KEYS:
        wrong = sorted((set(entry) - {"ours"}) ^ _CLAIM_KEYS) if isinstance(entry, dict) else []
        raise InputError(f"{where}: missing or unknown keys {wrong}; a claim has {sorted(_CLAIM_KEYS)} and maybe ours")
    if entry["quantifier"] not in _QUANTIFIERS:
        raise InputError(f"{where}: unknown quantifier {entry['quantifier']!r}; choose one of {_QUANTIFIERS}")
    comparisons = [comparison for block in entry["comparisons"] for comparison in _expand(block, where, methods, known)]
    if not comparisons or len(set(comparisons)) != len(comparisons):
        raise InputError(f"{where}: no comparison, or one that occurs twice")
    return Claim(
        id=entry["id"],
        text=entry["text"],
        source=entry["source"],
        table=entry["table"],
        quantifier=entry["quantifier"],
        ours=entry.get("ours", False),
        comparisons=tuple(comparisons),
    )


def _expand(block: dict, where: str, methods: Sequence[str], rows: Rows) -> list[Comparison]:
    """The comparisons of one block."""
    margins = {"above": set(), "below": set(), "within": {"low", "high"}}.get(block.get("relation"))
    if margins is None or set(block) - {"select"} != _BLOCK_KEYS | margins:
        raise InputError(
            f"{where}: a block of comparisons has {sorted(_BLOCK_KEYS)}, relation above, below or within, "
            f"low and high for within, and maybe select; not {block}"
        )
    select = ";".join(sorted(filter(None, block.get("select", "").split(";"))))
    stray = set(filter(None, select.split(";"))) - set(FLAGS)
    if stray:
        raise InputError(f"{where}: selects by {min(stray)!r}; choose from {', '.join(FLAGS)}")
    known = {
        "datasets": set(rows.datasets),
        "models": set(rows.models),
        "metrics": set(rows.columns()),
    }
    for key, ids in known.items():
        unknown = set(block[key]) - ids
        if unknown:
            like = suggestion(min(unknown), ids)
            raise InputError(f"{where}: unknown {key} {sorted(unknown)}{like}; choose from {sorted(ids)}")
    pairs = []
    named = {method for pair in block["pairs"] for method in pair} - {_OTHERS, *methods, *rows.methods}
    if named:
        like = suggestion(min(named), (*methods, *rows.methods))
        raise InputError(
            f"{where}: unknown methods {sorted(named)}{like}; give ids of the catalogue or of the paper's tables"
        )
    for first, second in block["pairs"]:
        pairs += [(first, m) for m in methods if m != first] if second == _OTHERS else [(first, second)]
    limits = {key: float(block[key]) for key in margins}
    return [
        Comparison(dataset, model, metric, first, second, block["relation"], **limits, select=select)
        for dataset, model, metric, (first, second) in product(
            block["datasets"], block["models"], block["metrics"], pairs
        )
    ]


def _no_scores(cell: Cell) -> str:
    return f"no scores of {cell.method} for {cell.metric} on {cell.dataset} with {cell.model} in this run"


def _compare(
    comparison: Comparison,
    trainings: Sequence[Sequence[pd.Series]],
    claim: str,
    permutations: int,
    seed: int,
    by_class: bool,
) -> _Evidence:
    """``trainings``: of each the values of the two sides."""
    parts = [paired_differences(*sides) for sides in trainings]
    if not all(map(len, parts)):
        raise InputError(f"claim {claim}: {comparison} have no image in common; score the same images with all methods")

    images = np.concatenate([images_of(part) for part in parts])
    # The mean of classes' means is a weighted mean of pairs; that over trainings one of all their pairs.
    weighted = [part.to_numpy() * (class_weights(classes_of(part)) if by_class else 1) for part in parts]
    signs = sum(_is_true(comparison, float(part.mean())) for part in weighted)
    d = np.concatenate([part * (len(images) / (len(parts) * len(part))) for part in weighted])

    def p(differences: np.ndarray, alternative: str = "greater") -> float:
        return sign_flip_test(differences, alternative, permutations, seed, images)

    if comparison.relation in ("above", "below"):
        two_sided = p(d, "two-sided")
        p_for, p_against = (two_sided, 1.0) if _is_true(comparison, float(d.mean())) else (1.0, two_sided)
    else:
        p_for = max(p(d - comparison.low), p(comparison.high - d))
        p_against = min(1.0, 2 * min(p(comparison.low - d), p(d - comparison.high)))
    return _Evidence(float(d.mean()), len(set(images)), p_for, p_against, len(parts), signs)


def _verdict(tested: _Tested, level: float) -> str:
    half = len(tested.evidence) / 2
    if tested.claim.quantifier == "all":
        holds = all(e.p_for <= level for e in tested.evidence)
        fails = bool((tested.holm_against <= level).any())
    else:
        holds = int((tested.holm_for <= level).sum()) > half
        fails = int((tested.holm_against <= level).sum()) >= half
    return "holds" if holds else "fails" if fails else "undecided"


def _printed_difference(comparison: Comparison, printed: dict) -> float:
    """First minus second as published; NaN where the paper prints no such cell."""
    first, second = (printed.get((*cell, comparison.select)) for cell in comparison.cells())
    if first is None or second is None:
        return np.nan
    # Tables print fractions or percents; printed numbers have four decimals, their difference has no more.
    values = [float(row["value"]) / float(row["scale"]) for row in (first, second)]
    return round(values[0] - values[1], 6)


def _published_verdict(claim: Claim, differences: Sequence[float], printed: dict) -> str:
    if np.isnan(differences).any():
        return "not in the paper"
    truths = [_is_true(*pair) for pair in zip(claim.comparisons, differences, strict=True)]
    if _is_supported(claim.quantifier, truths):
        return "supported"
    trusted = [t for c, t in zip(claim.comparisons, truths, strict=True) if not _is_suspect(c, printed)]
    doubtful = trusted and _is_supported(claim.quantifier, trusted)
    return "supported but for suspect cells" if doubtful else "contradicted"


def _is_true(comparison: Comparison, difference: float) -> bool:
    """Whether a comparison holds by a difference alone."""
    match comparison.relation:
        case "above":
            return difference > 0
        case "below":
            return difference < 0
    return comparison.low < difference < comparison.high


def _is_supported(quantifier: str, truths: Sequence[bool]) -> bool:
    return all(truths) if quantifier == "all" else sum(truths) > len(truths) / 2


def _is_suspect(comparison: Comparison, printed: dict) -> bool:
    """Whether the transcription doubts one of the two printed numbers."""
    return any("suspect" in printed[(*cell, comparison.select)]["note"] for cell in comparison.cells())


def _in_words(tested: _Tested, level: float) -> str:
    """Counts, the range of differences, and the comparisons that speak against or are open (at most four by name)."""
    needed = tested.holm_for if tested.claim.quantifier == "most" else [e.p_for for e in tested.evidence]
    held = [bool(p <= level) for p in needed]
    reversed_ = [bool(p <= level) for p in tested.holm_against]
    open_ = [not (h or r) for h, r in zip(held, reversed_, strict=True)]
    differences = [e.difference for e in tested.evidence]
    text = f"{sum(held)} of {len(held)} comparisons hold, {sum(reversed_)} are reversed; differences "
    text += f"{digits(min(differences), True)} to {digits(max(differences), True)}"
    if max(e.trainings for e in tested.evidence) > 1:
        fewest = min(tested.evidence, key=lambda e: e.trainings_for / e.trainings)
        text += f"; each in at least {fewest.trainings_for} of {fewest.trainings} trainings"
    return text + _listed("reversed", tested, reversed_) + _listed("open", tested, open_)


def _listed(name: str, tested: _Tested, chosen: Sequence[bool]) -> str:
    """Some comparisons with their differences and p-values, at most four; nothing where there is none."""
    items = [
        f"{c} = {digits(e.difference, True)} (p = {digits(min(e.p_for, e.p_against))})"
        for c, e, is_one in zip(tested.claim.comparisons, tested.evidence, chosen, strict=True)
        if is_one
    ]
    more = f", and {len(items) - 4} more" if len(items) > 4 else ""
    return f"; {name}: {', '.join(items[:4])}{more}" if items else ""
