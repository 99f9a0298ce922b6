"""One style for every plot, the names that readers see, and how a figure is saved."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from relmap.catalogue.rows import label
from relmap.job.files import as_json, atomic_paths

PAGE_WIDTH = 7.0  # inches: the text width of a page of A4 or letter paper
PAGE_HEIGHT = 9.4  # inches: what remains of the page above a caption
PNG_DPI = 240  # of PNG files and of pictures within PDF files, whose words and lines are vectors

# Box colours of a layer's attributes, in their order (Okabe and Ito); a number is printed in each box as well.
ATTRIBUTE_COLOURS = ("#D55E00", "#0072B2", "#009E73", "#F0E442", "#56B4E9", "#CC79A7", "#E69F00", "#FFFFFF")

_RC = {
    "font.family": "DejaVu Sans",  # comes with matplotlib, so every machine draws the same glyphs
    "font.size": 7,
    "axes.titlesize": 7.5,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.linewidth": 0.4,
    "grid.color": "#DDDDDD",
    "lines.linewidth": 1.2,
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "pdf.compression": 4,
    "image.interpolation": "nearest",
    "figure.dpi": PNG_DPI,
    "savefig.dpi": "figure",
}


@contextmanager
def relmap_style() -> Iterator[None]:
    """Draw in relmap's style inside this block; the caller's settings return after it."""
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC)
        yield


def signed(value: float, digits: int = 3) -> str:
    """A number with its sign, a true minus included; what rounds to zero is +0."""
    return f"{round(value, digits) + 0.0:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def setting_name(dataset: str, model: str) -> str:
    """A data set and a model as readers know them."""
    return f"{label(dataset)}, {label(model)}"


def save_figure(
    figure: Figure,
    folder: str | os.PathLike,
    name: str,
    caption: str,
    selection: str,
    rows: Sequence[dict[str, Any]] = (),
) -> Path:
    """Write ``<folder>/<name>.png``, ``.pdf`` and ``.json`` (the words that go with it), all or none.

    The bytes depend on the figure alone: no time and no software version is written into either file.

    Args:
        figure: what to save.
        folder: where to.
        name: ``<paper>_figure<NN>``.
        caption: what the figure shows.
        selection: how its rows were chosen.
        rows: what was chosen: per row plain values (image id, gain, ...).

    Returns:
        The PNG file.
    """
    folder = Path(folder)
    with relmap_style():
        page = as_picture(figure)
        words = {"caption": caption, "selection": selection, "rows": [_plain(row) for row in rows]}
        with atomic_paths(*(folder / f"{name}.{suffix}" for suffix in ("png", "pdf", "json"))) as (png, pdf, json):
            page.save(png, dpi=(PNG_DPI, PNG_DPI), compress_level=4)
            figure.savefig(pdf, metadata={"CreationDate": None, "ModDate": None, "Creator": None, "Producer": None})
            json.write_text(as_json(words, f"{folder / name}.json"))
    return folder / f"{name}.png"


def as_picture(figure: Figure) -> Image.Image:
    """A figure's pixels, RGB."""
    with relmap_style():
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        return Image.fromarray(np.ascontiguousarray(np.asarray(canvas.buffer_rgba())[..., :3]))


def _plain(row: dict[str, Any]) -> dict[str, Any]:
    """JSON has no NaN, which is a number that a picture has no answer for: null stands for it."""
    return {key: None if isinstance(value, float) and value != value else value for key, value in row.items()}
