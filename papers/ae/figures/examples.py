"""AE's figures of examples of its own: inner channels (3), a mark and edges (6), scattered pixels (11)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from relmap.figures.results import readable
from relmap.figures.sheet import NOTE, NOTHING, Sheet, SheetRow, enlarged, mask, method_map, page_of, shown_map

from papers.ae.figures.names import AE, method_name

Arrays = Mapping[str, np.ndarray]
_PSI = "\N{MINUS SIGN}\N{GREEK CAPITAL LETTER PSI}"
_TERMS = {"with": f"C+A+U{_PSI}", "without": f"C{_PSI}"}
_SHOWN = 96  # pixels that a small map is enlarged to


def figure03(arrays: Arrays, image: int = 0, channels: int = 2) -> Figure:
    """Channels of inner layers, from the output on: features, then relevance with A and U, and without.

    Args:
        arrays: of ``papers.ae.channels.channel_attributions``, and ``picture``.
        image: which of the pictures.
        channels: how many channels are shown beside the sum.
    """
    layers = [str(name) for name in arrays["layers"]]
    picture = arrays["picture"][image]

    def row(label: str, values: Sequence[np.ndarray], draw) -> SheetRow:
        shown = [draw(one) for one in values]
        return SheetRow(label, [picture, *(one if isinstance(one, str) else enlarged(one, _SHOWN) for one in shown)])

    rows = [row("features,\nsum of channels", [arrays[f"{layer}/features"][image] for layer in layers], mask)]
    for variant, terms in _TERMS.items():
        values = [arrays[f"{layer}/{variant}/sum"][image] for layer in layers]
        rows.append(row(f"{terms},\nsum of channels", values, shown_map))
    for channel in range(min(channels, arrays[f"{layers[0]}/{next(iter(_TERMS))}/channels"].shape[1])):
        for variant, terms in _TERMS.items():
            values = [arrays[f"{layer}/{variant}/channels"][image, channel] for layer in layers]
            rows.append(row(f"{terms},\nchannel {channel + 1}", values, shown_map))
    note = (
        "Layers from the output on. Channels: those with the largest absolute relevance by all terms, each layer's own."
        f"\n{NOTE}"
    )
    return page_of(Sheet(rows, ["Input", *layers], note))[0]


def mark_shares(table: pd.DataFrame, network: str, explained: str) -> dict[str, str]:
    """Method -> its share of positive relevance on the mark, in words."""
    part = table[(table["network"] == network) & (table["explained"] == explained)]
    return {row.method: f"{row.share:.2f}" for row in part.itertuples()}


def figure06(
    mark: Arrays,
    mark_table: pd.DataFrame,
    edges: Arrays,
    edges_table: pd.DataFrame,
    mark_methods: Sequence[str],
    edge_methods: Sequence[str],
) -> Figure:
    """A mark that goes with one class, above; objects before edges, below.

    Args:
        mark, mark_table: arrays and table of ``explain_watermark``.
        edges, edges_table: of ``explain_edges``.
        mark_methods, edge_methods: columns.
    """
    return page_of(_mark_sheet(mark, mark_table, mark_methods), _edges_sheet(edges, edges_table, edge_methods))[0]


def _mark_sheet(arrays: Arrays, table: pd.DataFrame, methods: Sequence[str]) -> Sheet:
    columns = [(network, which) for network in ("marked", "original") for which in (0, 1)]
    name = readable(str(arrays["mark"]))
    area = table["area"].iloc[0]
    rows = []
    for method in methods:
        shares = [
            mark_shares(table, network, ("mark's class", "true class")[which])[method] for network, which in columns
        ]
        maps = [arrays[f"maps/{network}/{method}"] for network, _ in columns]
        for number, picture in enumerate(arrays["picture"][: 2 if method == AE else 1]):
            said = [readable(str(arrays[f"says/{network}"][number])) for network in ("marked", "original")]
            cells = [method_map(method, found[number, which]) for found, (_, which) in zip(maps, columns, strict=True)]
            under = f"{readable(str(arrays['true'][number]))}; said:\n{said[0]}; without training: {said[1]}"
            words = [under, *(f"on the mark: {share}" for share in shares)] if number == 0 else [under]
            rows.append(SheetRow(method_name(method), [picture, *cells], words))
    titles = ["Input", f"trained on marks:\nfor {name}", "trained on marks:\nfor the true class"]
    titles += [f"not trained on them:\nfor {name}", "not trained on them:\nfor the true class"]
    turned = table[table["network"] == "marked"].iloc[0]
    note = (
        f"The mark turns {turned['turned']:.0%} of {turned['n_images']} pictures to {name}, "
        f"{turned['turned_without_mark']:.0%} without it. Under maps: share of positive relevance on it, mean over "
        f"all; its share of the area is {area:.2f}.\n{NOTE}"
    )
    return Sheet(rows, titles, note, largest=0.85)


def _edges_sheet(arrays: Arrays, table: pd.DataFrame, methods: Sequence[str]) -> Sheet:
    regions = ("edges", "outside the object")
    shares = table.pivot(index="method", columns="region", values="share")
    area = table.groupby("region")["area"].first()
    rows = []
    for number, picture in enumerate(arrays["picture"]):
        words = [
            "",
            *(f"{shares.loc[method, regions[0]]:.2f}, {shares.loc[method, regions[1]]:.2f}" for method in methods),
        ]
        cells = [picture, *(method_map(method, arrays[f"maps/{method}"][number]) for method in methods)]
        rows.append(SheetRow(readable(str(arrays["true"][number])), cells, words if number == 0 else ()))
    titles = ["Input", *(method_name(method).replace(" ", "\n") for method in methods)]
    count = int(table["n_images"].iloc[0])
    note = (
        "Under maps: share of positive relevance on the background's edges, and outside the object's box, mean over "
        f"{count} pictures; of the area these are {area[regions[0]]:.2f} and {area[regions[1]]:.2f}.\n{NOTE}"
    )
    return Sheet(rows, titles, note, largest=0.85)


def figure11(arrays: Arrays, table: pd.DataFrame, methods: Sequence[str], image: int = 0) -> Figure:
    """Maps, their top pixels, the picture without these, and these alone before the blurred picture.

    Args:
        arrays, table: of ``remove_scattered``.
        methods: columns.
        image: which of the pictures.
    """
    by_method = table.set_index("method")
    rows = [
        SheetRow("map", [method_map(method, arrays[f"maps/{method}"][image]) for method in methods]),
        SheetRow("top pixels", [mask(arrays[f"chosen/{method}"][image]) for method in methods]),
    ]
    for name, label in (("removed", "without them"), ("inserted", "they alone,\nbefore the\nblurred picture")):
        said = {method: readable(str(arrays[f"says_{name}/{method}"][image])) for method in methods}
        words = [f"{said[method]}\n{by_method.loc[method, f'{name}_accuracy']:.0%} stay right" for method in methods]
        rows.append(SheetRow(label, [arrays[f"{name}/{method}"][image] for method in methods], words))
    inputs = [arrays["picture"][image], *[NOTHING] * (len(rows) - 1)]
    rows = [
        SheetRow(row.label, [picture, *row.cells], ["", *row.words]) for row, picture in zip(rows, inputs, strict=True)
    ]
    first = by_method.iloc[0]
    note = (
        f"Input: {readable(str(arrays['true'][image]))}, rightly classified. Top pixels: {first['share']:.1%} of all. "
        f"Under pictures: what the network says, and how many of {int(first['n_images'])} pictures stay right.\n{NOTE}"
    )
    return page_of(Sheet(rows, ["Input", *map(method_name, methods)], note))[0]
