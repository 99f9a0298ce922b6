"""A relevance map laid over the grey picture, as RGB."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from PIL import Image

CLIP_PERCENTILE = 99.5
_DISPLAY = 224  # smaller pictures are enlarged to at least this side, so that viewers do not choose how


def scaled(values: np.ndarray, percentile: float = CLIP_PERCENTILE) -> np.ndarray:
    """Divide a map by the given percentile of its magnitude and clip: [-1, 1], zero stays zero.

    Args:
        values: (H, W), signed.
        percentile: of |values|; larger magnitudes saturate, so that one bright pixel cannot darken the rest.

    Returns:
        float64 (H, W). A map that is zero nearly everywhere is divided by its largest magnitude; an all-zero map stays.
    """
    values = np.asarray(values, dtype=float)
    limit = np.percentile(np.abs(values), percentile)
    if limit <= 0:
        limit = np.abs(values).max()
    return np.clip(values / limit, -1, 1) if limit > 0 else np.zeros_like(values)


def grey(picture: np.ndarray, lightness: float = 0.45) -> np.ndarray:
    """A light grey version of an RGB picture, as a ground for colours.

    Args:
        picture: uint8 (H, W, 3).
        lightness: 0 keeps the luminance, 1 is white.

    Returns:
        float64 (H, W, 3) in [0, 1].
    """
    luminance = picture.astype(float) @ np.array([0.299, 0.587, 0.114]) / 255.0
    return np.repeat((lightness + (1 - lightness) * luminance)[..., None], 3, axis=-1)


def enlarge(image: np.ndarray, smooth: bool = True) -> np.ndarray:
    """Enlarge a small picture by a whole factor to at least the side that figures show.

    Args:
        image: (H, W) float or (H, W, 3) uint8.
        smooth: bicubic between pixels; otherwise every pixel becomes a square.
    """
    factor = -(-_DISPLAY // min(image.shape[:2]))
    if factor <= 1:
        return image
    if not smooth:
        return image.repeat(factor, axis=0).repeat(factor, axis=1)
    size = (image.shape[1] * factor, image.shape[0] * factor)
    if image.ndim == 3:
        return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))
    return np.asarray(Image.fromarray(image.astype(np.float32), mode="F").resize(size, Image.Resampling.BILINEAR))


def overlay(picture: np.ndarray, values: np.ndarray, colours: str = "seismic") -> np.ndarray:
    """Colours over the grey picture, more opaque where the map is larger in magnitude.

    Args:
        picture: uint8 (H, W, 3).
        values: (H, W), or a smaller map that covers the same field (it is enlarged bilinearly).
        colours: ``seismic`` (signed, symmetric around zero) or ``jet`` (positive part only).

    Returns:
        uint8 RGB, at least 224 pixels a side.
    """
    ground = grey(enlarge(picture))
    side = (ground.shape[1], ground.shape[0])
    level = Image.fromarray(scaled(values).astype(np.float32), mode="F").resize(side, Image.Resampling.BILINEAR)
    level = np.clip(np.asarray(level, dtype=float), -1, 1)
    if colours == "seismic":
        tint = colormaps["seismic"](0.5 + 0.5 * level)[..., :3]
        # Full seismic is white at zero; opacity that follows the magnitude lets the picture show there instead.
        opacity = np.abs(level)[..., None] ** 0.6
    else:
        level = np.clip(level, 0, 1)
        tint = colormaps["jet"](level)[..., :3]
        opacity = np.full((*level.shape, 1), 0.55)
    return np.round(255 * ((1 - opacity) * ground + opacity * tint)).astype(np.uint8)


def show(axes: Axes, image: np.ndarray, side: int | None = None) -> None:
    """Draw an image without ticks or frame; coordinates stay those of a picture of ``side`` pixels."""
    side = side or image.shape[0]
    # "none" hands PDF the pixels as they are; raster formats resample them.
    axes.imshow(image, extent=(0, side, side, 0), interpolation="antialiased", aspect="equal")
    axes.set(xticks=[], yticks=[])
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)


def draw_box(
    axes: Axes, box: np.ndarray, colour: str = "#FFD400", label: str = "", width: float = 0.9, style: str = "-"
) -> None:
    """Outline a box [x0, y0, x1, y1] (pixels of the picture), legible on any ground, with a small label inside."""
    x0, y0, x1, y1 = (float(value) for value in box)
    if x1 <= x0 or y1 <= y0:
        return
    outline = [withStroke(linewidth=width + 0.8, foreground="black")]
    axes.add_patch(
        Rectangle((x0, y0), x1 - x0, y1 - y0, fill=False, ec=colour, lw=width, ls=style, path_effects=outline)
    )
    if label:
        axes.text(
            x0,
            y0,
            label,
            fontsize=4.6,
            color="black",
            va="top",
            ha="left",
            bbox={"boxstyle": "square,pad=0.12", "fc": colour, "ec": "black", "lw": 0.3},
        )
