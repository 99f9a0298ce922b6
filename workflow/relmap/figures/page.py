"""A page laid out in inches: pictures, boxes and words at given places, all in one pair of axes.

Pictures are scaled and placed on one raster at the resolution of print, because a sheet of eighty axes takes seconds
to draw; words and boxes remain vectors.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.backend_bases import RendererBase
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Colormap, Normalize
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

from relmap.figures.colours import SIGNED
from relmap.figures.style import PNG_DPI, relmap_style

TEXT = 5.2  # points


class _Raster(Artist):
    """RGBA pixels that cover the whole figure, handed to the renderer as they are (``imshow`` resamples, slowly)."""

    def __init__(self, pixels: np.ndarray) -> None:
        super().__init__()
        self._pixels = pixels
        self.set_zorder(-1)

    def draw(self, renderer: RendererBase) -> None:
        context = renderer.new_gc()
        renderer.draw_image(context, 0, 0, self._pixels[::-1])  # renderers start at the lowest row
        context.restore()


class Page:
    """An empty page of ``width`` x ``height`` inches; places are inches from the left and from the top."""

    def __init__(self, width: float, height: float) -> None:
        self._size = width, height
        self._canvas = Image.new("RGB", (round(width * PNG_DPI), round(height * PNG_DPI)), "white")
        with relmap_style():
            self._figure = Figure(figsize=(width, height), dpi=PNG_DPI)
            self._axes = self._figure.add_axes((0, 0, 1, 1))
        self._axes.set_axis_off()
        self._axes.set(xlim=(0, width), ylim=(height, 0))

    def figure(self) -> Figure:
        """The finished page."""
        self._figure.add_artist(_Raster(np.asarray(self._canvas.convert("RGBA"))))
        return self._figure

    def picture(self, image: np.ndarray, left: float, top: float, side: float, smooth: bool = True) -> None:
        """Draw a square image.

        Args:
            image: uint8 RGB.
            left: inches.
            top: inches.
            side: inches.
            smooth: interpolate where pixels are enlarged; otherwise they remain squares, as befits measured values.
        """
        pixels = round(side * PNG_DPI)
        how = Image.Resampling.BICUBIC if smooth or pixels < image.shape[0] else Image.Resampling.NEAREST
        scaled = Image.fromarray(image).resize((pixels, pixels), how)
        self._canvas.paste(scaled, (round(left * PNG_DPI), round(top * PNG_DPI)))

    def box(
        self,
        box: Sequence[float],
        pixels: int,
        left: float,
        top: float,
        side: float,
        colour: str = "#FFD400",
        label: str = "",
        bold: bool = True,
    ) -> None:
        """Outline a box on a picture, legible on any ground.

        Args:
            box: [x0, y0, x1, y1] in the picture's pixels.
            pixels: side of the picture in its own pixels.
            left: of the picture, as are ``top`` and ``side``.
            top: inches.
            side: inches.
            colour: of the line.
            label: a few letters printed in the box's corner.
            bold: a wide line with a dark edge; otherwise a hairline.
        """
        scale = side / pixels
        x0, y0, x1, y1 = (float(edge) * scale for edge in box)
        if x1 <= x0 or y1 <= y0:
            return
        self._axes.add_patch(
            Rectangle(
                (left + x0, top + y0),
                x1 - x0,
                y1 - y0,
                fill=False,
                ec=colour,
                lw=0.9 if bold else 0.45,
                path_effects=[withStroke(linewidth=1.7, foreground="black")] if bold else None,
                zorder=2,
            )
        )
        if label:
            plate = {"boxstyle": "square,pad=0.12", "fc": colour, "ec": "black", "lw": 0.3}
            self.text(label, left + x0, top + y0, ha="left", va="top", fontsize=4.6, bbox=plate, zorder=3)

    def outline(self, left: float, top: float, side: float) -> None:
        """A hairline round a picture that may be white at its edge."""
        self._axes.add_patch(Rectangle((left, top), side, side, fill=False, ec="#BBBBBB", lw=0.4))

    def frame(self, left: float, top: float, side: float, text: str) -> None:
        """A grey square with words in it, where a picture is missing."""
        self._axes.add_patch(Rectangle((left, top), side, side, fc="#F4F4F4", ec="#CCCCCC", lw=0.5))
        self.text(text, left + side / 2, top + side / 2, color="#777777")

    def text(self, text: str, left: float, top: float, **style: Any) -> None:
        """Print words, centred at the place unless ``style`` (of ``Axes.text``) says otherwise."""
        self._axes.text(
            left, top, text, **{"fontsize": TEXT, "ha": "center", "va": "center", "linespacing": 1.25, **style}
        )

    def colour_bar(
        self,
        left: float,
        top: float,
        width: float,
        labels: Sequence[str],
        colours: Colormap = SIGNED,
        lowest: float = -1,
    ) -> None:
        """A colour bar from ``lowest`` to 1 with labels at even distances."""
        page_width, page_height = self._size
        with relmap_style():
            axes = self._figure.add_axes(
                (left / page_width, 1 - (top + 0.07) / page_height, width / page_width, 0.07 / page_height)
            )
            bar = self._figure.colorbar(
                ScalarMappable(Normalize(lowest, 1), colours),
                cax=axes,
                orientation="horizontal",
                ticks=np.linspace(lowest, 1, len(labels)),
            )
        bar.ax.set_xticklabels(labels, fontsize=TEXT)
        bar.ax.tick_params(length=1.5, pad=1)
        bar.outline.set_linewidth(0.4)
