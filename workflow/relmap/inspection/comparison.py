"""All methods on the same images: which of them a network admits, which images, and where relevance leaks in all."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from relmap.catalogue.methods import ATTENTION, BLOCKS, BOUNDS, CATALOGUE, FEATURE_MAP, PIXELS, SIZES, find
from relmap.network import Graph
from relmap.network.layouts import feature_maps
from relmap.propagation.rules.blocks import residual_blocks

CELL = ["dataset", "model", "method"]
SUMMARY = ["operations", "leak", "leak_of_start", "gross_of_start", "leak_share", "to_constants"]


def offers(graph: Graph) -> frozenset[str]:
    """What a network has of ``catalogue.NEEDS``; the bounds of its input follow from its preprocessing."""
    kinds = {operation.kind for operation in graph}
    found = {BOUNDS} if "embedding" in kinds else {BOUNDS, PIXELS}
    if "matmul" in kinds:
        return frozenset({*found, ATTENTION})
    if {"conv", "reshape"} <= kinds:
        found.add(FEATURE_MAP)
    if residual_blocks(graph):
        found.add(BLOCKS)
    if PIXELS in found and _takes_larger_images(graph):
        found.add(SIZES)
    return frozenset(found)


def _takes_larger_images(graph: Graph) -> bool:
    """Whether a network runs on an image half as large again as its own."""
    own = feature_maps(graph).shapes[graph.operations[0].name]
    weight = next(operation.affine.weight for operation in graph if operation.affine is not None)
    image = weight.new_zeros(*own[:2], *(side * 3 // 2 for side in own[2:]))
    try:
        shapes = {operation.name: output.shape for operation, output in graph.outputs(image)}
    except (RuntimeError, ValueError):
        return False
    return all(guard.holds(shapes) for guard in graph.guards)


def admitted(graph: Graph, methods: Sequence[str] | None = None) -> list[str]:
    """The methods that can treat a network by itself, in the order given.

    Args:
        graph: the traced network.
        methods: ids to choose from; the whole catalogue by default.

    Raises:
        InputError: an id is unknown.
    """
    found = offers(graph)
    rows = [find(method) for method in (CATALOGUE if methods is None else methods)]
    return [row.id for row in rows if found.issuperset(row.needs)]


def surest(targets: pd.DataFrame, count: int) -> pd.DataFrame:
    """Images that a network is surest of, the surest first: rightly classified ones, each of another class.

    Wrongly classified images, and second images of a class, are taken only when there are too few others.

    Args:
        targets: columns image_id, target, correct, top_probability.
        count: how many rows at most.
    """
    order = targets.sort_values(["correct", "top_probability", "image_id"], ascending=[False, False, True])
    rank = pd.DataFrame({"wrong": ~order["correct"].astype(bool), "repeated": order.duplicated("target")})
    return order.loc[rank.sort_values(["wrong", "repeated"], kind="stable").index[:count]]


def spread_over_classes(pairs: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """At most ``count`` pairs of image and target, in turn of each class, drawn once for all: fewer begin the same."""
    shuffled = pairs.iloc[np.random.default_rng(seed).permutation(len(pairs))]
    rank = shuffled.groupby("target").cumcount()
    return shuffled.loc[rank.sort_values(kind="stable").index[:count]].reset_index(drop=True)


def rightly_classified(targets: pd.DataFrame) -> pd.DataFrame:
    """The pairs of image and target that are both true and predicted."""
    return targets[targets["present"] & targets["predicted"]]


def summarise(steps: pd.DataFrame) -> pd.DataFrame:
    """Leaks of every method by kind of operation and rule.

    Args:
        steps: ``relmap.conservation`` of several methods, with columns dataset, model and method.

    Returns:
        Rows by dataset, model, method, kind, rule, with: ``operations``, how many; ``leak``, the sum of theirs;
        ``leak_of_start``, that over the absolute sum of the start (a contrastive one itself sums to zero);
        ``gross_of_start``, the same of ``|leak|``, where leaks do not cancel; ``leak_share``, the mean of theirs;
        ``to_constants``, the sum.
    """
    groups = steps.assign(gross=steps["leak"].abs()).groupby([*CELL, "kind", "rule"], sort=False)
    table = groups.agg(
        operations=("operation", "size"),
        leak=("leak", "sum"),
        gross=("gross", "sum"),
        leak_share=("leak_share", "mean"),
        to_constants=("to_constants", "sum"),
    ).reset_index()
    start = steps.groupby(CELL, sort=False)["magnitude"].first().reindex(pd.MultiIndex.from_frame(table[CELL]))
    for name in ("leak", "gross"):
        table[f"{name}_of_start"] = table[name] / start.to_numpy()
    return table[[*CELL, "kind", "rule", *SUMMARY]]
