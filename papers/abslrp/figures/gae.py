"""Global Attribution Evaluation of one mosaic: curves (Figure 2), impact maps (3), contrastiveness (4)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from relmap.figures.results import readable
from relmap.figures.sheet import Sheet, SheetRow, page_of
from relmap.figures.style import PAGE_WIDTH, relmap_style
from relmap.figures.style import signed as with_sign

from papers.abslrp.figures.colours import NOTE, framed, positive, signed, tinted
from papers.abslrp.figures.names import method_name
from papers.abslrp.shown import ABSLRP

Arrays = Mapping[str, np.ndarray]
"""Of ``papers.abslrp.trace``, with what ``trace_gae`` adds."""
_ORDERS = {
    "MoRF (most impact masked first)": (0, "#D55E00", "o"),
    "LeRF (least impact masked first)": (1, "#0072B2", "s"),
}
_OUTPUT, _MAP = "#009E73", "#CC79A7"


def figure02(arrays: Arrays, method: str = ABSLRP) -> Figure:
    """Output and similarity of maps against the step, in both orders, and their differences."""
    steps = np.arange(len(arrays["masked"]) + 1)
    outputs = arrays["outputs"] / arrays["outputs"][:, :1]
    similar = np.concatenate([np.ones((2, 1)), arrays[f"similarities/{method}"]], axis=1)
    with relmap_style():
        figure = Figure(figsize=(PAGE_WIDTH, 2.5), layout="constrained")
        of_output, of_maps, differences = figure.subplots(1, 3)
        for axes, values, title, name in (
            (of_output, outputs, "(a) Model output", "logit over that of step 0"),
            (of_maps, similar, f"(b) {method_name(method)} map", "similarity to that of step 0"),
        ):
            for label, (place, colour, marker) in _ORDERS.items():
                axes.plot(steps, values[place], color=colour, marker=marker, ms=3, label=label)
            axes.set(title=title, ylabel=name)
        apart = similar[1, 1:] - similar[0, 1:]
        _differences(differences, steps[1:], arrays["changes"], apart, float(arrays[f"robustness/{method}"]))
        for axes in (of_output, of_maps, differences):
            axes.set(xlabel="masking step", xticks=steps[:: max(1, len(steps) // 6)])
            axes.axhline(0, color="#888888", lw=0.6)
        handles = [line for axes in (of_output, differences) for line in axes.get_legend_handles_labels()[0]]
        figure.legend(handles=handles, loc="outside lower center", ncols=2)
    return figure


def _differences(axes: Axes, steps: np.ndarray, changes: np.ndarray, apart: np.ndarray, robustness: float) -> None:
    axes.plot(steps, changes, color=_OUTPUT, marker="^", ms=3, label="model output, LeRF \N{MINUS SIGN} MoRF")
    axes.plot(steps, apart, color=_MAP, marker="D", ms=3, label="map, LeRF \N{MINUS SIGN} MoRF")
    axes.fill_between(steps, changes, apart, color="#888888", alpha=0.2, lw=0)
    axes.set(title=f"(c) Differences: robustness {with_sign(robustness, 2)}", ylabel="LeRF \N{MINUS SIGN} MoRF")


def figure03(arrays: Arrays, method: str = ABSLRP) -> Figure:
    """The image, sums of impacts in both orders, their difference and its sign."""
    morf, lerf = arrays["impacts"]
    cells = [
        arrays["pictures"][int(arrays["quadrant"])],
        positive(lerf),
        positive(morf),
        signed(arrays["combined"]),
        tinted(arrays["signs"] / 2),
    ]
    titles = [
        "(a) Input",
        "(b) Impact,\nleast masked first",
        "(c) Impact,\nmost masked first",
        "(d) Difference\n(b) \N{MINUS SIGN} (c), each over its sum",
        "(e) Sign of (d)",
    ]
    words = [
        readable(str(arrays["explained"])),
        "",
        "",
        "",
        f"faithfulness {float(arrays[f'faithfulness/{method}']):.3f}",
    ]
    note = (
        "Impact: absolute product of input and gradient, summed over masking steps and channels. (e): mean of the "
        f"channels' signs, and the share of {method_name(method)}'s\npositive relevance that falls on plus, less "
        "that on minus. Red: positive, blue: negative, white: 0."
    )
    return page_of(Sheet([SheetRow("", cells, words)], titles, note, label_width=0.1, largest=1.38))[0]


def figure04(arrays: Arrays, methods: Sequence[str]) -> Figure:
    """A mosaic with its positive image framed, and maps of its class with their contrastiveness."""
    quadrant = int(arrays["quadrant"])
    cells = [framed(arrays["mosaic"], quadrant), *(positive(arrays[f"on_mosaic/{method}"]) for method in methods)]
    scores = [f"contrastiveness {with_sign(float(arrays[f'contrastiveness/{method}']), 3)}" for method in methods]
    titles = [
        "(a) Mosaic",
        *(f"({letter}) {method_name(method)}" for letter, method in zip("bcdef", methods, strict=False)),
    ]
    words = [f"explained: {readable(str(arrays['explained']))} (framed)", *scores]
    note = f"Maps: positive parts, as they are scored.\n{NOTE}"
    return page_of(Sheet([SheetRow("", cells, words)], titles, note, label_width=0.1, largest=2.2))[0]
