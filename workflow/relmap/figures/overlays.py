"""A relevance map laid over the grey picture, as RGB."""

from __future__ import annotations

import numpy as np
from PIL import Image

from relmap.figures.colours import as_pixels, tint

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


def overlay(picture: np.ndarray, values: np.ndarray, signed: bool = True) -> np.ndarray:
    """Colours over the grey picture, more opaque where the map is larger in magnitude.

    Args:
        picture: uint8 (H, W, 3).
        values: (H, W), or a smaller map that covers the same field (it is enlarged bilinearly).
        signed: whether both signs are shown; of maps that tell sizes only, or where asked, the positive part alone.

    Returns:
        uint8 (H, W, 3).
    """
    ground = grey(picture)
    size = (ground.shape[1], ground.shape[0])
    level = Image.fromarray(scaled(values).astype(np.float32), mode="F").resize(size, Image.Resampling.BILINEAR)
    level = np.asarray(level, dtype=float)
    level = level if signed else np.clip(level, 0, 1)
    # The scales are white at zero; opacity that follows the magnitude lets the picture show there instead.
    opacity = np.abs(level)[..., None] ** 0.6
    return as_pixels((1 - opacity) * ground + opacity * tint(level, signed))
