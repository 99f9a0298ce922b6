r"""Do a class's attributes fall on the parts that tell the class apart?

CLAM's authors ask for an evaluation of the attributes themselves (Appendix A.6: "there is not a direct way to assess
the accuracy level of the attributes"). Where the parts that distinguish a class are known, as in the rendered birds,
there is one. Let b be a region that an attribute chose in an image of class y, D_y the image's pixels on parts that
distinguish y (visible ones: occluded parts are not in the part map), and O the pixels on any part. Three numbers:

.. math::

    coverage(b)    &= |b \cap D_y| / |b| \\
    specificity(b) &= |b \cap D_y| / |b \cap O| \\
    hit(b)         &= [coverage(b) > \overline{coverage}]

Coverage asks whether the region lies on distinguishing parts; a region that merely finds the bird does well there.
Specificity asks the sharper question: of what the region covers of the bird, which share tells the class apart (0 for a
region off the bird: a miss is not left out of a mean). Hit says in how many images the attribute did better than a
random place, so that images with large parts do not dominate.

Chance is exact, not sampled: the mean of the same number over all positions of a region of the same height and width in
the same image, found from summed-area tables. The lift is chosen / chance. Images in which no distinguishing pixel is
visible have no right answer: all their numbers are NaN.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.errors import InputError
from relmap.metrics.checks import as_labels, as_mask

# A mean of equal coverages may miss them by rounding; true differences are at least 1 / (H W)^2.
_ROUNDING = 1e-12


def score_regions(part_maps: Tensor, distinguishing: Tensor, boxes: Tensor) -> dict[str, Tensor]:
    """Score the regions that attributes chose, and a random region of the same size.

    Images are independent of each other; at some 80 bytes a pixel, pass large sets in batches.

    Args:
        part_maps: (N, H, W) integer, the index of the part at each pixel; 0 is the background.
        distinguishing: (N, P) bool, or 0 and 1: row n says which part indices distinguish the class of image n; column
            0 is the background and must be False.
        boxes: (N, A, 4) [x0, y0, x1, y1] in pixels of the part maps, upper ends exclusive; rounded to whole pixels and
            clipped to the image.

    Returns:
        (N, A) float64 tensors ``coverage``, ``specificity``, ``hit``, and each with ``_chance`` appended. NaN where
        undefined, as described at the top of this module.

    Raises:
        ValueError: shapes do not fit, a part index has no column, the background is called distinguishing, or a box is
            empty inside the image.
        InputError: part maps that are no labels, a table of other values than yes and no, a box that is not finite.
    """
    images, height, width = part_maps.shape
    if boxes.ndim != 3 or boxes.shape[::2] != (images, 4) or len(distinguishing) != images:
        raise ValueError(
            f"part maps {tuple(part_maps.shape)}, distinguishing {tuple(distinguishing.shape)} and boxes "
            f"{tuple(boxes.shape)} do not fit; they must be (N, H, W), (N, P) and (N, A, 4)"
        )
    parts, distinguishing = as_labels(part_maps, "part_maps"), as_mask(distinguishing, "distinguishing")
    if not boxes.isfinite().all():
        raise InputError("boxes: NaN or infinity; give [x0, y0, x1, y1] in pixels")
    if parts.numel() and int(parts.max()) >= distinguishing.shape[1]:
        raise ValueError(f"part index {int(parts.max())} has no column in distinguishing {tuple(distinguishing.shape)}")
    if distinguishing[:, 0].any():
        raise ValueError("column 0 of distinguishing is the background, which distinguishes no class")

    telling = distinguishing.gather(1, parts.flatten(1)).view_as(parts)
    table = _summed_area(torch.stack([telling, parts > 0], dim=1))
    x0, x1 = (boxes[..., i].round().long().clamp(0, width) for i in (0, 2))
    y0, y1 = (boxes[..., i].round().long().clamp(0, height) for i in (1, 3))
    heights, widths = y1 - y0, x1 - x0
    if ((heights <= 0) | (widths <= 0)).any():
        image, attribute = ((heights <= 0) | (widths <= 0)).nonzero()[0].tolist()
        raise ValueError(f"box {boxes[image, attribute].tolist()} of image {image} is empty inside {height} x {width}")

    def within(channel: int) -> Tensor:
        """Pixels of a channel inside each chosen box, (N, A)."""
        flat = table[:, channel].flatten(1)
        at = [flat.gather(1, y * (width + 1) + x) for y, x in ((y1, x1), (y0, x1), (y1, x0), (y0, x0))]
        return (at[0] - at[1] - at[2] + at[3]).double()

    area = (heights * widths).double()
    telling_inside, object_inside = within(0), within(1)
    scores = {"coverage": telling_inside / area, "specificity": telling_inside / object_inside.clamp(min=1)}
    chance = {name: torch.full_like(area, torch.nan) for name in ("coverage", "specificity", "hit")}
    # Attribute regions have one size per layer but where the border clips them: few distinct sizes, one pass each.
    for size in torch.stack([heights, widths], dim=-1).view(-1, 2).unique(dim=0).tolist():
        chosen = (heights == size[0]) & (widths == size[1])
        rows = chosen.any(1).nonzero().squeeze(1)
        for name, values in _chance(table[rows], *size).items():
            everywhere = torch.full((images,), torch.nan, dtype=torch.float64, device=values.device)
            everywhere[rows] = values
            chance[name] = torch.where(chosen, everywhere.unsqueeze(1), chance[name])
    scores["hit"] = (scores["coverage"] > chance["coverage"] + _ROUNDING).double()
    scores |= {f"{name}_chance": values for name, values in chance.items()}
    hopeless = ~telling.flatten(1).any(1, keepdim=True)
    return {name: values.masked_fill(hopeless, torch.nan) for name, values in scores.items()}


def _summed_area(pixels: Tensor) -> Tensor:
    """(N, C, H, W) bool -> (N, C, H + 1, W + 1) int64: entry (y, x) sums the pixels above and left of it."""
    return F.pad(pixels.long().cumsum(2).cumsum(3), (1, 0, 1, 0))


def _chance(table: Tensor, height: int, width: int) -> dict[str, Tensor]:
    """Means over all positions of a ``height`` x ``width`` region: (N,) each, from summed-area tables."""
    corner = table[:, :, height:, width:] - table[:, :, :-height, width:]
    sums = corner - table[:, :, height:, :-width] + table[:, :, :-height, :-width]
    telling, on_object = sums.flatten(2).double().unbind(1)
    coverage = telling / (height * width)
    mean = coverage.mean(1)
    return {
        "coverage": mean,
        "specificity": (telling / on_object.clamp(min=1)).mean(1),
        "hit": (coverage > mean.unsqueeze(1) + _ROUNDING).double().mean(1),
    }
