"""A relevance map laid over the grey picture, as RGB."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from PIL import Image

CLIP_PERCENTILE = 99.5


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


def overlay(picture: np.ndarray, values: np.ndarray, colours: str = "seismic") -> np.ndarray:
    """Colours over the grey picture, more opaque where the map is larger in magnitude.

    Args:
        picture: uint8 (H, W, 3).
        values: (H, W), or a smaller map that covers the same field (it is enlarged bilinearly).
        colours: ``seismic`` (signed, symmetric around zero) or ``jet`` (positive part only).

    Returns:
        uint8 (H, W, 3).
    """
    ground = grey(picture)
    size = (ground.shape[1], ground.shape[0])
    level = Image.fromarray(scaled(values).astype(np.float32), mode="F").resize(size, Image.Resampling.BILINEAR)
    level = np.asarray(level, dtype=float)
    if colours == "seismic":
        tint = colormaps["seismic"](0.5 + 0.5 * level)[..., :3]
        # Full seismic is white at zero; opacity that follows the magnitude lets the picture show there instead.
        opacity = np.abs(level)[..., None] ** 0.6
    else:
        level = np.clip(level, 0, 1)
        tint = colormaps["jet"](level)[..., :3]
        opacity = np.full((*level.shape, 1), 0.55)
    return np.round(255 * ((1 - opacity) * ground + opacity * tint)).astype(np.uint8)
