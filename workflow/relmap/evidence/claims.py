"""What a paper's text asserts of its tables: decided by tests on ours, and checked against its own numbers.

A claim is a list of comparisons of two methods on one data set, model and metric, and a quantifier.

*Comparisons.* They are of all pairs, or of those that ``select`` names. Let d be the differences a - b, pair by pair;
all pairs of an image are flipped as one. Each comparison has a p for it and a p against it:

- ``above`` says mean(d) > 0, ``below`` mean(d) < 0: one-sided sign-flip tests.
- ``within`` says low < mean(d) < high, an equivalence test: for it by the larger p of the two one-sided tests (mean(d)
  > low, mean(d) < high), against it by twice the smaller p of the opposite ones. That two methods are alike is only
  ever said by such a test, never by the absence of significance.
- ``gains_more`` says mean(d) > mean(d'), where d' is of the same methods on another data set or metric (``than``). Of
  one data set's same images it is a sign-flip test of d - d'; of other images a permutation test of two samples.

*Claims.* Each has one p for "it holds" and one for "it fails":

- ``all``: it holds when every comparison holds: the largest p for, an intersection-union test, which needs no
  correction (Berger 1982). It fails when any is reversed: the smallest p against after Holm's correction inside the
  claim.
- ``most``: it holds when more than half of the comparisons hold, and fails when at least half are reversed: after
  Holm's correction inside the claim, the p of the last comparison that this takes.

All these p of a paper's claims that the run has scores for are corrected together by Holm's method, and compared with
the level alpha (0.05): the chance that any of the paper's claims is wrongly said to hold or to fail is at most alpha.
The claims that are ours are corrected apart, lest a control that we add weakens what is found of the paper. A claim of
which neither is significant is undecided: absence of significance is evidence for neither side.

*What is told.* Of a claim ``p_holds`` and ``p_fails``, and after the correction ``holm_holds`` and ``holm_fails``,
which decide. Of a comparison ``p_for`` and ``p_against``, and ``corrected_for`` and ``corrected_against``: corrected
inside the claim as its quantifier asks, times what Holm's method multiplied the claim's own p by, so that counting
those at most alpha gives the verdict.

*Several trainings.* Where a model stands for trainings that differ in their seed, the difference is the mean over them
of their mean differences, each between networks of one number, and an image's share of it is flipped as one: the images
are the sample, the trainings are given. Beside it stands in how many trainings the comparison holds by its sign. A sign
test over K trainings alone cannot go below p = 1 / 2^K (.03 of five) before any correction, so it decides nothing.

*Published verdict*: the same quantifiers on the printed numbers, without tests: ``supported`` or ``contradicted`` by
the paper's own table. A cell that the transcription marks as suspect decides nothing: where the verdict would depend on
comparisons with such cells, the claim ``rests on suspect cells``. ``suspect`` counts these comparisons.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd

from relmap.catalogue.papers import FLAGS, Cell
from relmap.catalogue.rows import Rows
from relmap.errors import InputError, suggestion
from relmap.evidence.layout import digits, p_text
from relmap.evidence.statistics import (
    PERMUTATIONS,
    class_weights,
    holm,
    holm_factors,
    sign_flip_test,
    two_sample_test,
)
from relmap.evidence.values import CELL, Values, by_cell, classes_of, images_of, paired_differences, trainings_of
from relmap.job.yaml_files import read_yaml

DETAILS = (
    "claim",
    "dataset",
    "model",
    "metric",
    "first",
    "second",
    "select",
    "relation",
    "than",
    "suspect",
    "published_difference",
    "difference",
    "p_for",
    "p_against",
    "corrected_for",
    "corrected_against",
    "n_images",
)
_P_VALUES = ("p_holds", "p_fails", "holm_holds", "holm_fails")
# Of claims about models that stand for several trainings: how many there are, and in how many the comparison holds.
_OF_TRAININGS = ("n_trainings", "trainings_for")
_CLAIM_KEYS = {"id", "text", "source", "table", "quantifier", "comparisons"}
_BLOCK_KEYS = {"relation", "datasets", "models", "metrics", "pairs"}
# Of each relation, the further keys of its blocks.
_RELATION_KEYS = {"above": set(), "below": set(), "within": {"low", "high"}, "gains_more": {"than"}}
_QUANTIFIERS = ("all", "most")
_OTHERS = "others"


@dataclass(frozen=True)
class Comparison:
    """``first`` against ``second`` on one data set, model and metric; see the module's text for the relations.

    ``than``: of ``gains_more``, the data set and the metric whose difference is to be exceeded.
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
    than: tuple[str, str] | None = None
    select: str = ""

    def places(self) -> list[tuple[str, str]]:
        """The data set and metric of each difference: one, and of ``gains_more`` that to be exceeded."""
        return [(self.dataset, self.metric), *([self.than] if self.than else [])]

    def sides(self) -> list[tuple[Cell, Cell]]:
        """The two cells of each difference."""
        methods = self.first, self.second
        return [
            tuple(Cell(dataset, self.model, method, metric, "", self.select) for method in methods)
            for dataset, metric in self.places()
        ]

    def cells(self) -> list[tuple[str, str, str, str]]:
        """Data set, model, method and metric of all its cells: two, or four."""
        return [(c.dataset, c.model, c.method, c.metric) for pair in self.sides() for c in pair]

    def __str__(self) -> str:
        of = f" ({self.select})" if self.select else ""
        more = f" less that of {'/'.join(self.than)}" if self.than else ""
        return f"{self.dataset}/{self.model} {self.metric} {self.first} - {self.second}{of}{more}"

    def words(self, known: Rows) -> str:
        """The same in the labels that readers know."""
        first, second, dataset, model, metric = map(
            known.label, (self.first, self.second, self.dataset, self.model, self.metric)
        )
        of = f" ({self.select})" if self.select else ""
        more = f" less that of {', '.join(map(known.label, self.than))}" if self.than else ""
        return f"{dataset}, {model}, {metric}: {first} \N{MINUS SIGN} {second}{of}{more}"


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
    """Of one comparison: difference, number of images, p-values for and against; of several trainings, how many there
    are and in how many it holds."""

    difference: float
    images: int
    p_for: float
    p_against: float
    trainings: int = 1
    trainings_for: int = 0


@dataclass(frozen=True)
class Decision:
    """Of one claim: its p-values, those after Holm's correction over claims, and what follows.

    ``corrected_for``, ``corrected_against``: of each comparison, see the module's text.
    """

    p_holds: float
    p_fails: float
    holm_holds: float
    holm_fails: float
    verdict: str
    corrected_for: np.ndarray
    corrected_against: np.ndarray


@dataclass(frozen=True)
class _Draw:
    """How tests are drawn: permutations and seed."""

    permutations: int
    seed: int

    def flip(self, differences: np.ndarray, images: np.ndarray | None = None) -> float:
        return sign_flip_test(differences, "greater", self.permutations, self.seed, images)

    def split(self, first: np.ndarray, second: np.ndarray) -> float:
        return two_sample_test(first, second, "greater", self.permutations, self.seed)


def read_claims(path: str | os.PathLike, methods: Sequence[str], known: Rows | None = None) -> list[Claim]:
    """Read a file of claims; the module's text explains relations and quantifiers.

    Args:
        path: YAML.
        methods: what ``others`` stands for: the methods of the paper's tables.
        known: the rows that ids are looked up in; the catalogue's by default.

    Raises:
        InputError: the file is absent or not YAML, or a claim lacks a key, has one too many, or a wrong value.
    """
    found = read_yaml(path, "mend the claims")
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
        The claims (claim, text, source, table, quantifier, ours, published_verdict, suspect, verdict, p_holds, p_fails,
        holm_holds, holm_fails, evidence, n_images: the fewest images behind a comparison), and all their comparisons
        (the columns of ``DETAILS``; where a model stands for several trainings, n_trainings and trainings_for).

    A claim with a comparison that this run has no scores for has the verdict ``no data``, and its evidence names them.
    """
    known = known or Rows()
    values = {c.select: by_cell(scores, c.select) for claim in claims for c in claim.comparisons}
    printed = {tuple(row[key] for key in (*CELL, "select")): row for _, row in published.iterrows() if row["value"]}
    lacking = {claim.id: _first_lacking(claim, values, known) for claim in claims}
    tested = [claim for claim in claims if not lacking[claim.id]]
    found = _gathered(tested, values, known, _Draw(permutations, seed))
    decisions = {
        claim.id: decision
        for ours in (False, True)
        for claim, decision in _family([claim for claim in tested if claim.ours is ours], found, significance)
    }
    summaries, details = [], []
    for claim in claims:
        differences = [_printed_difference(comparison, printed) for comparison in claim.comparisons]
        suspect = [_is_suspect(comparison, printed) for comparison in claim.comparisons]
        summary = _summary(claim, _published_verdict(claim, differences, suspect), sum(suspect))
        decision = decisions.get(claim.id)
        p_values = {name: getattr(decision, name, np.nan) for name in _P_VALUES}
        if decision is None:
            no_scores = {"evidence": _no_scores(lacking[claim.id]), "n_images": 0}
            summaries.append(summary | {"verdict": "no data"} | p_values | no_scores)
            continue
        evidence = [found[comparison] for comparison in claim.comparisons]
        words = _in_words(claim, evidence, decision, significance, known)
        told = {"evidence": words, "n_images": min(e.images for e in evidence)}
        summaries.append(summary | {"verdict": decision.verdict} | p_values | told)
        details += _details(claim, evidence, decision, differences, suspect)
    several = any(evidence.trainings > 1 for evidence in found.values())
    return pd.DataFrame(summaries), pd.DataFrame(details, columns=[*DETAILS, *(_OF_TRAININGS if several else ())])


def _gathered(
    claims: Sequence[Claim], values: Mapping[str, Values], known: Rows, draw: _Draw
) -> dict[Comparison, _Evidence]:
    """The evidence of all comparisons, each once: claims share them."""
    by_class = frozenset(name for name, (_, column) in known.columns().items() if column.mean == "classes")
    found: dict[Comparison, _Evidence] = {}
    for claim in claims:
        for comparison in claim.comparisons:
            if comparison not in found:
                sides = [trainings_of(pair, values[comparison.select], known) for pair in comparison.sides()]
                found[comparison] = _compare(comparison, sides, claim.id, draw, by_class)
    return found


def _family(
    claims: Sequence[Claim], found: Mapping[Comparison, _Evidence], significance: float
) -> Iterator[tuple[Claim, Decision]]:
    """Claims that are corrected together, and their decisions."""
    p_values = [[(found[c].p_for, found[c].p_against) for c in claim.comparisons] for claim in claims]
    return zip(claims, decide_together([claim.quantifier for claim in claims], p_values, significance), strict=True)


def decide_together(
    quantifiers: Sequence[str], p_values: Sequence[Sequence[tuple[float, float]]], significance: float = 0.05
) -> list[Decision]:
    """Decide the claims of one family by the p-values of their comparisons.

    Args:
        quantifiers: of each claim.
        p_values: of each claim, of each comparison the p for and the p against it; valid whatever their dependence.
        significance: the level, of all verdicts together.
    """
    inside = [
        _inside(quantifier, *np.transpose(pairs)) for quantifier, pairs in zip(quantifiers, p_values, strict=True)
    ]
    both = np.array([(one.p_holds, one.p_fails) for one in inside]).reshape(-1, 2)
    # Holds and fails of all claims are one family: no verdict of either kind is wrong but with the level's probability.
    factors = holm_factors(both.ravel()).reshape(both.shape)
    return [_decision(one, *pair, significance) for one, pair in zip(inside, factors.tolist(), strict=True)]


@dataclass(frozen=True)
class _Inside:
    """A claim's p for holding and for failing, and of its comparisons the p's that these are the last needed of."""

    p_holds: float
    p_fails: float
    needed_for: np.ndarray
    needed_against: np.ndarray


def _decision(inside: _Inside, factor_holds: float, factor_fails: float, significance: float) -> Decision:
    """A claim's verdict, by what Holm's correction over claims multiplies its p-values by."""
    holm_holds, holm_fails = min(1.0, inside.p_holds * factor_holds), min(1.0, inside.p_fails * factor_fails)
    return Decision(
        inside.p_holds,
        inside.p_fails,
        holm_holds,
        holm_fails,
        "holds" if holm_holds <= significance else "fails" if holm_fails <= significance else "undecided",
        np.minimum(1, inside.needed_for * factor_holds),
        np.minimum(1, inside.needed_against * factor_fails),
    )


def _inside(quantifier: str, p_for: np.ndarray, p_against: np.ndarray) -> _Inside:
    """What a claim's quantifier makes of its comparisons' p-values."""
    holm_for, holm_against, count = holm(p_for), holm(p_against), len(p_for)
    if quantifier == "all":
        return _Inside(float(p_for.max()), float(holm_against.min()), p_for, holm_against)
    # Holm's p of the k-th smallest is one of "at least k are true": here more than half for, at least half against.
    p_holds, p_fails = np.sort(holm_for)[count // 2], np.sort(holm_against)[(count - 1) // 2]
    return _Inside(float(p_holds), float(p_fails), holm_for, holm_against)


def _summary(claim: Claim, published_verdict: str, suspect: int) -> dict[str, Any]:
    """What is said of a claim before its tests."""
    return {
        "claim": claim.id,
        "text": claim.text,
        "source": claim.source,
        "table": claim.table,
        "quantifier": claim.quantifier,
        "ours": claim.ours,
        "published_verdict": published_verdict,
        "suspect": suspect,
    }


def _first_lacking(claim: Claim, values: Mapping[str, Values], known: Rows) -> Cell | None:
    """The first cell of a claim without scores, or whose networks are none of the other's."""
    pairs = [(c, pair) for c in claim.comparisons for pair in c.sides()]
    compared = ((c, sides) for c, pair in pairs for sides in (*([one] for one in pair), pair))
    return next((sides[0] for c, sides in compared if not trainings_of(sides, values[c.select], known)), None)


def _details(
    claim: Claim,
    evidence: Sequence[_Evidence],
    decision: Decision,
    differences: Sequence[float],
    suspect: Sequence[bool],
) -> list[dict[str, Any]]:
    """A row for each comparison, with its published difference."""
    return [
        {
            "claim": claim.id,
            "dataset": comparison.dataset,
            "model": comparison.model,
            "metric": comparison.metric,
            "first": comparison.first,
            "second": comparison.second,
            "select": comparison.select,
            "relation": comparison.relation,
            "than": " ".join(comparison.than or ()),
            "suspect": doubted,
            "published_difference": difference,
            "difference": e.difference,
            "p_for": e.p_for,
            "p_against": e.p_against,
            "corrected_for": corrected_for,
            "corrected_against": corrected_against,
            "n_images": e.images,
            "n_trainings": e.trainings,
            "trainings_for": e.trainings_for,
        }
        for comparison, e, difference, doubted, corrected_for, corrected_against in zip(
            claim.comparisons,
            evidence,
            differences,
            suspect,
            decision.corrected_for,
            decision.corrected_against,
            strict=True,
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
    further = _RELATION_KEYS.get(block.get("relation"))
    if further is None or set(block) - {"select"} != _BLOCK_KEYS | further:
        raise InputError(
            f"{where}: a block of comparisons has {sorted(_BLOCK_KEYS)}, relation above, below, within or gains_more, "
            f"low and high for within, than for gains_more, and maybe select; not {block}"
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
    than = block.get("than", {})
    if "than" in block and (not isinstance(than, dict) or len(than) != 1 or set(than) - {"dataset", "metric"}):
        raise InputError(f"{where}: than is {than!r}; give the other data set, {{dataset: id}}, or {{metric: id}}")
    for key, ids in known.items():
        unknown = ({*block[key], *([than[key[:-1]]] if key[:-1] in than else [])}) - ids
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
    limits = {key: float(block[key]) for key in further & {"low", "high"}}
    return [
        Comparison(
            dataset,
            model,
            metric,
            first,
            second,
            block["relation"],
            **limits,
            than=(than.get("dataset", dataset), than.get("metric", metric)) if than else None,
            select=select,
        )
        for dataset, model, metric, (first, second) in product(
            block["datasets"], block["models"], block["metrics"], pairs
        )
    ]


def _no_scores(cell: Cell) -> str:
    return f"no scores of {cell.method} for {cell.metric} on {cell.dataset} with {cell.model} in this run"


def _compare(
    comparison: Comparison,
    sides: Sequence[Sequence[Sequence[pd.Series]]],
    claim: str,
    draw: _Draw,
    by_class: Collection[str],
) -> _Evidence:
    """``sides``: of each difference, of each training, the values of the two sides."""
    gains = [_gains(own, metric in by_class) for own, (_, metric) in zip(sides, comparison.places(), strict=True)]
    if any(gain is None for gain in gains):
        raise InputError(f"claim {claim}: {comparison} have no image in common; score the same images with all methods")
    tested = _more(comparison, *gains, claim, draw) if comparison.than else _alone(comparison, gains[0], draw)
    by_training = [float(np.subtract(*means)) if comparison.than else means[0] for means in _numbered(gains)]
    return _Evidence(
        _difference(gains),
        min(len(set(gain.images)) for gain in gains),
        *tested,
        len(by_training),
        sum(_is_true(comparison, difference) for difference in by_training),
    )


@dataclass(frozen=True)
class _Gains:
    """Differences of two methods: their mean is the number, ``images`` the image of each; and each training's mean."""

    differences: np.ndarray
    images: np.ndarray
    by_training: tuple[float, ...]

    @property
    def mean(self) -> float:
        return float(self.differences.mean())

    def by_image(self) -> pd.Series:
        """One value an image, whose mean is the number."""
        images, own = np.unique(self.images, return_inverse=True)
        return pd.Series(np.bincount(own, self.differences) * (len(images) / len(own)), index=images)


def _gains(trainings: Sequence[Sequence[pd.Series]], by_class: bool) -> _Gains | None:
    """Differences between the two sides over all trainings; None where a training's have no pair in common."""
    parts = [paired_differences(*sides) for sides in trainings]
    if not all(map(len, parts)):
        return None
    images = np.concatenate([images_of(part) for part in parts])
    # The mean of classes' means is a weighted mean of pairs; that over trainings one of all their pairs.
    weighted = [part.to_numpy() * (class_weights(classes_of(part)) if by_class else 1) for part in parts]
    d = np.concatenate([part * (len(images) / (len(parts) * len(part))) for part in weighted])
    return _Gains(d, images, tuple(float(part.mean()) for part in weighted))


def _numbered(gains: Sequence[_Gains]) -> list[tuple[float, ...]]:
    """Of each training its mean differences, as many as all have; a single one belongs to each."""
    most = min((len(g.by_training) for g in gains if len(g.by_training) > 1), default=1)
    return list(
        zip(*(g.by_training * most if len(g.by_training) == 1 else g.by_training[:most] for g in gains), strict=True)
    )


def _difference(gains: Sequence[_Gains]) -> float:
    return gains[0].mean - (gains[1].mean if len(gains) > 1 else 0)


def _alone(comparison: Comparison, gains: _Gains, draw: _Draw) -> tuple[float, float]:
    """p for and against a relation of one difference."""
    d, images = gains.differences, gains.images
    if comparison.relation == "within":
        p_for = max(draw.flip(d - comparison.low, images), draw.flip(comparison.high - d, images))
        opposite = min(draw.flip(comparison.low - d, images), draw.flip(d - comparison.high, images))
        return p_for, min(1.0, 2 * opposite)
    return _two_sides(
        gains.mean if comparison.relation == "above" else -gains.mean, draw.flip(d * np.sign(gains.mean), images)
    )


def _more(comparison: Comparison, here: _Gains, there: _Gains, claim: str, draw: _Draw) -> tuple[float, float]:
    """p for and against one difference being above another, of the same images or of others.

    Raises:
        InputError: the images are partly the same: no test fits.
    """
    difference, (first, second) = here.mean - there.mean, (here.by_image(), there.by_image())
    shared = first.index.intersection(second.index) if comparison.than[0] == comparison.dataset else []
    if len(shared) == len(first) == len(second):
        d = (first - second[first.index]).to_numpy()
        return _two_sides(difference, draw.flip(d * np.sign(difference)))
    if len(shared):
        raise InputError(
            f"claim {claim}: {comparison}: {len(shared)} of {len(first)} and {len(second)} images have both; compare "
            "metrics of the same images, or of none that are the same"
        )
    sides = (first, second) if difference > 0 else (second, first)
    return _two_sides(difference, draw.split(*(side.to_numpy() for side in sides)))


def _two_sides(difference: float, p: float) -> tuple[float, float]:
    """p for and against a difference above 0, of the one-sided p towards its sign; the other is above 1/2: 1 here."""
    return (p, 1.0) if difference > 0 else (1.0, p)


def _printed_difference(comparison: Comparison, printed: dict) -> float:
    """First minus second as published, less that to be exceeded; NaN where the paper prints no such cell."""
    rows = [printed.get((*cell, comparison.select)) for cell in comparison.cells()]
    if any(row is None for row in rows):
        return np.nan
    # Tables print fractions or percents; printed numbers have four decimals, their difference has no more.
    values = np.array([float(row["value"]) / float(row["scale"]) for row in rows]).reshape(-1, 2)
    first, *exceeded = values[:, 0] - values[:, 1]
    return round(float(first - sum(exceeded)), 6)


def _published_verdict(claim: Claim, differences: Sequence[float], suspect: Sequence[bool]) -> str:
    if np.isnan(differences).any():
        return "not in the paper"
    compared = zip(claim.comparisons, differences, suspect, strict=True)
    trusted = [_is_true(comparison, difference) for comparison, difference, doubted in compared if not doubted]
    least, most = sum(trusted), sum(trusted) + sum(suspect)
    if _is_supported(claim.quantifier, least, len(suspect)):
        return "supported"
    return "rests on suspect cells" if _is_supported(claim.quantifier, most, len(suspect)) else "contradicted"


def _is_true(comparison: Comparison, difference: float) -> bool:
    """Whether a comparison holds by a difference alone."""
    match comparison.relation:
        case "above" | "gains_more":
            return difference > 0
        case "below":
            return difference < 0
    return comparison.low < difference < comparison.high


def _is_supported(quantifier: str, true: int, count: int) -> bool:
    return true == count if quantifier == "all" else true > count / 2


def _is_suspect(comparison: Comparison, printed: dict) -> bool:
    """Whether all its numbers are printed, and the transcription doubts one."""
    rows = [printed.get((*cell, comparison.select)) for cell in comparison.cells()]
    return all(row is not None for row in rows) and any("suspect" in row["note"] for row in rows)


def _in_words(claim: Claim, evidence: Sequence[_Evidence], decision: Decision, level: float, known: Rows) -> str:
    """Counts, the range of differences, and the comparisons that speak against or are open (at most four by name)."""
    held, reversed_ = decision.corrected_for <= level, decision.corrected_against <= level
    differences = [e.difference for e in evidence]
    text = f"{held.sum()} of {len(held)} comparisons hold, {reversed_.sum()} are reversed; differences "
    text += f"{digits(min(differences), True)} to {digits(max(differences), True)}"
    if max(e.trainings for e in evidence) > 1:
        fewest = min(evidence, key=lambda e: e.trainings_for / e.trainings)
        text += f"; each in at least {fewest.trainings_for} of {fewest.trainings} trainings"
    text += _listed("reversed", claim, evidence, decision, reversed_, known)
    return text + _listed("open", claim, evidence, decision, ~held & ~reversed_, known)


def _listed(
    name: str, claim: Claim, evidence: Sequence[_Evidence], decision: Decision, chosen: np.ndarray, known: Rows
) -> str:
    """Some comparisons with their differences and p-values, at most four; nothing where there is none."""
    items = []
    for place in np.flatnonzero(chosen):
        e = evidence[place]
        for_it = e.p_for <= e.p_against
        p, corrected = (e.p_for, decision.corrected_for) if for_it else (e.p_against, decision.corrected_against)
        words = f"p {p_text(p)}, corrected {p_text(corrected[place])}"
        items.append(f"{claim.comparisons[place].words(known)} = {digits(e.difference, True)} ({words})")
    more = f", and {len(items) - 4} more" if len(items) > 4 else ""
    return f"; {name}: {', '.join(items[:4])}{more}" if items else ""
