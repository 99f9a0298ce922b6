"""Random views of a batch of pictures, drawn for all of them at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Augmentation:
    """How far a random view may lie from the picture; all zeros and ``flip=False`` leave it as it is.

    Attributes:
        shift: largest translation along each axis, as a share of the view's side.
        zoom: the scale is drawn from ``1 - zoom`` to ``1 + zoom``.
        rotation: largest angle, in degrees.
        flip: mirror left and right with probability one half.
        brightness, contrast, saturation: the factor is drawn from ``1 - x`` to ``1 + x``.
    """

    shift: float = 0.1
    zoom: float = 0.15
    rotation: float = 0.0
    flip: bool = True
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2


def clean_view(images: torch.Tensor, crop: int, size: int) -> torch.Tensor:
    """The centre ``crop`` pixels of pictures (N,3,H,W), scaled to ``size`` pixels where that differs."""
    top, left = (round((side - crop) / 2) for side in images.shape[-2:])
    return _scaled(images[..., top : top + crop, left : left + crop], size)


def random_view(
    images: torch.Tensor, augmentation: Augmentation, crop: int, size: int, generator: torch.Generator
) -> torch.Tensor:
    """Draw one view of each picture.

    Args:
        images: (N,3,H,W) in [0,1].
        augmentation: the limits.
        crop: side, in the pictures' pixels, of the frame that a view fills.
        size: side of the result in pixels.
        generator: on the CPU, so that a seed means the same views on every device.

    Returns:
        (N,3,size,size) in [0,1]; what lies beyond a picture's border is its mirror image.
    """
    count = len(images)
    drawn = torch.rand(count, 8, generator=generator)
    signed = (2 * drawn - 1).to(images.device)
    geometry = _affine(signed, augmentation, crop, images.shape[-2:])
    grid = F.affine_grid(geometry, [count, 3, crop, crop], align_corners=False)
    views = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return _recoloured(_scaled(views, size), signed[:, 5:], augmentation)


def _affine(signed: torch.Tensor, augmentation: Augmentation, crop: int, shape: torch.Size) -> torch.Tensor:
    """Matrices (N,2,3) from a view's coordinates to the picture's, both in [-1,1]; ``signed`` is uniform in [-1,1]."""
    angle = signed[:, 0] * math.radians(augmentation.rotation)
    scale = 1 / (1 + signed[:, 1] * augmentation.zoom)
    mirror = torch.where(signed[:, 2] < 0, -1.0, 1.0) if augmentation.flip else torch.ones_like(scale)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    # A shift of s of the view's side is 2 s in coordinates of [-1,1].
    across, down = 2 * augmentation.shift * signed[:, 3], 2 * augmentation.shift * signed[:, 4]
    rows = [torch.stack([cosine * mirror, -sine, across], 1), torch.stack([sine * mirror, cosine, down], 1)]
    height, width = shape
    return torch.stack([rows[0] * (crop / width), rows[1] * (crop / height)], 1)


def _scaled(images: torch.Tensor, size: int) -> torch.Tensor:
    if images.shape[-1] == size:
        return images
    return F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)


def _recoloured(images: torch.Tensor, signed: torch.Tensor, augmentation: Augmentation) -> torch.Tensor:
    limits = (augmentation.brightness, augmentation.contrast, augmentation.saturation)
    brightness, contrast, saturation = (
        (1 + limit * signed[:, column]).view(-1, 1, 1, 1) for column, limit in enumerate(limits)
    )
    images = images * brightness
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * contrast
    grey = images.mean(1, keepdim=True)
    return (grey + (images - grey) * saturation).clamp(0, 1)
