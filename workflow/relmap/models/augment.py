"""Random views of a batch of pictures, drawn for all of them at once."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Augmentation:
    """How far a random view may lie from the picture; all zeros and ``flip=False`` leave it as it is.

    A view is cropped first, then shifted, zoomed and turned within its frame, and recoloured at last.

    Attributes:
        crop_area: of the picture's area, the least share that a random crop of an aspect ratio from 3/4 to 4/3 has,
            which is then stretched to the view (``RandomResizedCrop`` of torchvision, whose least is .08, without its
            smoothing where a picture is larger than the view); 0 for the centre.
        shift: largest translation along each axis, as a share of the view's side.
        zoom: the scale is drawn from ``1 - zoom`` to ``1 + zoom``.
        rotation: largest angle, in degrees.
        flip: mirror left and right with probability one half.
        brightness, contrast, saturation: the factor is drawn from ``1 - x`` to ``1 + x``.
    """

    crop_area: float = 0.0
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
    frame = _frames(count, augmentation.crop_area, crop, images.shape[-2:], generator).to(images.device)
    geometry = _affine(signed, augmentation, frame)
    grid = F.affine_grid(geometry, [count, 3, crop, crop], align_corners=False)
    views = F.grid_sample(images, grid, mode="bilinear", padding_mode="reflection", align_corners=False)
    return _recoloured(_scaled(views, size), signed[:, 5:], augmentation)


# As torchvision draws: so many crops, of which the first that the picture holds is taken; else the centre.
_TRIALS = 10
_ASPECT = 4 / 3


def _frames(count: int, least: float, crop: int, shape: torch.Size, generator: torch.Generator) -> torch.Tensor:
    """Frames (N,4) in the picture's coordinates, [-1,1]: half width, half height, centre across, centre down."""
    height, width = shape
    centre = torch.tensor([crop / width, crop / height, 0.0, 0.0]).expand(count, 4)
    if not least:
        return centre
    drawn = torch.rand(count, _TRIALS, 4, generator=generator)
    area, aspect = least + (1 - least) * drawn[..., 0], _ASPECT ** (2 * drawn[..., 1] - 1)
    # Of the picture's sides; what is drawn first of those that fit.
    across, down = (area * aspect * height / width).sqrt(), (area / aspect * width / height).sqrt()
    fits = (across <= 1) & (down <= 1)
    first = fits.int().argmax(1, keepdim=True)
    across, down = across.gather(1, first), down.gather(1, first)
    moves = 2 * drawn[..., 2:].gather(1, first[..., None].expand(-1, -1, 2))[:, 0] - 1
    frames = torch.cat([across, down, moves * (1 - torch.cat([across, down], 1))], 1)
    return torch.where(fits.any(1, keepdim=True), frames, _whole(shape).expand(count, 4))


def _whole(shape: torch.Size) -> torch.Tensor:
    """The largest centred frame of an aspect ratio that crops may have."""
    height, width = shape
    return torch.tensor([min(1.0, _ASPECT * height / width), min(1.0, _ASPECT * width / height), 0.0, 0.0])


def _affine(signed: torch.Tensor, augmentation: Augmentation, frame: torch.Tensor) -> torch.Tensor:
    """Matrices (N,2,3) from a view's coordinates to the picture's, both in [-1,1]; ``signed`` is uniform in [-1,1]."""
    angle = signed[:, 0] * math.radians(augmentation.rotation)
    scale = 1 / (1 + signed[:, 1] * augmentation.zoom)
    mirror = torch.where(signed[:, 2] < 0, -1.0, 1.0) if augmentation.flip else torch.ones_like(scale)
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    # A shift of s of the view's side is 2 s in coordinates of [-1,1].
    across, down = 2 * augmentation.shift * signed[:, 3], 2 * augmentation.shift * signed[:, 4]
    rows = [torch.stack([cosine * mirror, -sine, across], 1), torch.stack([sine * mirror, cosine, down], 1)]
    own = torch.stack([rows[0] * frame[:, :1], rows[1] * frame[:, 1:2]], 1)
    return torch.cat([own[..., :2], own[..., 2:] + frame[:, 2:, None]], 2)


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
