"""Scores of a kept explanation: whether its maps point at objects, and whether the network heeds what they mark.

All is measured on what the network saw, the frame of the maps.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from relmap.data.images import Preprocessing
from relmap.data.photographs import boxes_seen, read_mask
from relmap.data.regions_csv import box_of, lines_of
from relmap.errors import InputError, suggestion
from relmap.evidence.statistics import area_under, bootstrap_mean
from relmap.explainers.controls import CentreGaussian
from relmap.inspection.explanations import Explanation
from relmap.metrics.deletion_insertion import DELETION, INSERTION, even_points, probabilities
from relmap.metrics.insertion_blur import gaussian_blur
from relmap.metrics.pointing_game import points_of, radius_of
from relmap.metrics.relevance_mass import mass_accuracy, rank_accuracy
from relmap.models.named import class_number

REGION_METRICS = ("pointing_game", "relevance_mass", "relevance_rank")
NETWORK_METRICS = ("insertion", "deletion")
LOWER_IS_BETTER = ("deletion",)
_SIDE, _ROWS, _KERNEL, _SIGMA = 224, 8, 51, 50.0
_SAME = 1e-3
"""By how much a probability may differ on another machine."""


@dataclass(frozen=True)
class Regions:
    """Where the targets' objects are.

    Attributes:
        inside: (N, K, H, W) bool; nothing where nobody says.
        unknown: names in the file that the explanation has not.
    """

    inside: np.ndarray
    unknown: tuple[str, ...]

    @property
    def known(self) -> np.ndarray:
        """(N, K) bool: whether a part of the object is seen."""
        return np.asarray(self.inside.any((2, 3)))


def read_regions(path: str | os.PathLike, explanation: Explanation) -> Regions:
    """Boxes or masks of a CSV file on what the network saw.

    Its columns are ``image``, a file's name, with or without suffix; ``x0,y0,x1,y1`` in pixels of the upright
    photograph, the right and lower edge outside, or ``mask``, an image file beside the CSV file that is not 0 on the
    object; and maybe ``class``, a number or name: such a line counts for that class alone. An image may have several.

    Raises:
        InputError: a column or value is wrong, a mask is absent or of another size, or no image is the explanation's.
    """
    if not explanation.preprocessing:
        raise InputError("the explanation was made of tensors: nobody knows where their photographs' boxes lie in them")
    path = Path(path)
    preprocessing = Preprocessing.from_dict(explanation.preprocessing)
    images, targets = len(explanation.images), explanation.targets
    inside = np.zeros((*targets.shape, *explanation.pictures.shape[1:3]), dtype=bool)
    places = _places(explanation.images)
    unknown = []
    for number, line in lines_of(path):
        place = places.get(line["image"], places.get(Path(line["image"]).stem))
        if place is None:
            unknown.append(line["image"])
            continue
        size = int(explanation.sizes[place, 0]), int(explanation.sizes[place, 1])
        if "mask" in line:
            region = read_mask(path.parent / line["mask"], preprocessing, size)
        else:
            region = boxes_seen([box_of(line, path, number)], preprocessing, size, explanation.pictures.shape[1:3])
        wanted = np.ones(targets.shape[1], dtype=bool)
        if line.get("class"):
            count = len(explanation.class_names) or int(max(targets.max(), explanation.predicted.max())) + 1
            wanted = targets[place] == _class(line["class"], explanation, count, path, number)
        inside[place, wanted] |= region
    if len(set(unknown)) and not inside.any() and images:
        raise InputError(
            f"{path}: none of its images is in the explanation, such as {unknown[0]!r}"
            f"{suggestion(unknown[0], explanation.images)}; it has {explanation.images[0]!r} and the like"
        )
    return Regions(inside, tuple(dict.fromkeys(unknown)))


def _places(names: Sequence[str]) -> dict[str, int]:
    """Image by name, and by name without suffix where that is no other's."""
    stems = [Path(name).stem for name in names]
    found = {stem: place for place, stem in enumerate(stems) if stems.count(stem) == 1}
    return found | {name: place for place, name in enumerate(names)}


def _class(text: str, explanation: Explanation, count: int, path: Path, number: int) -> int:
    try:
        return class_number(text, explanation.class_names, count)
    except InputError as error:
        raise InputError(f"{path}: line {number}: {error}") from error


def score_regions(explanation: Explanation, regions: Regions) -> pd.DataFrame:
    """The pointing game, and relevance mass and rank accuracy, of every map and of two controls.

    The pointing game's radius is 15 / 500 of the shorter side of what the network saw. A method's map that is not
    finite has no row, nor has a pair whose object nobody marked.

    Returns:
        Rows image, target, method, metric, value.
    """
    images, places = np.nonzero(regions.known)
    inside = torch.from_numpy(regions.inside[images, places])
    rows = []
    for method, maps in _with_controls(explanation).items():
        some = torch.from_numpy(maps[images, places])
        finite = some.isfinite().flatten(1).all(1)
        if not bool(finite.any()):
            continue
        kept, region = some[finite], inside[finite]
        values = {
            "pointing_game": _hits(kept, region),
            "relevance_mass": mass_accuracy(kept, region).numpy(),
            "relevance_rank": rank_accuracy(kept, region).numpy(),
        }
        for metric, found in values.items():
            rows.append(_rows(explanation, images[finite.numpy()], places[finite.numpy()], method, metric, found))
    return _joined(rows)


def _with_controls(explanation: Explanation) -> dict[str, np.ndarray]:
    """The maps by method, and below them what maps have that know nothing of the network."""
    count, shape = explanation.targets.shape, explanation.pictures.shape[1:3]
    centre = CentreGaussian(nn.Identity())(torch.zeros(1, 3, *shape), torch.zeros(1, 1, dtype=torch.int64))[
        0, 0
    ].numpy()
    controls = {"constant": np.ones(shape, dtype=np.float32), "centre_gaussian": centre}
    return explanation.maps | {name: np.broadcast_to(one, (*count, *shape)).copy() for name, one in controls.items()}


def _hits(maps: Tensor, inside: Tensor) -> np.ndarray:
    """(N,) 1 where the first maximum lies within the radius of a pixel of the region, strictly."""
    height, width = maps.shape[1:]
    columns, rows = points_of(maps, height, width).T[..., None, None]
    radius = radius_of(np.array([[height, width]]), "scaled")[0]
    squared = (torch.arange(height)[:, None] - rows) ** 2 + (torch.arange(width) - columns) ** 2
    return (inside & (squared < radius**2)).flatten(1).any(1).double().numpy()


def score_network(
    explanation: Explanation,
    model: nn.Module,
    batch_size: int = 32,
    progress: Callable[[str], None] = lambda method: None,
) -> pd.DataFrame:
    """Areas under the curves of insertion and deletion (:mod:`relmap.metrics.deletion_insertion`) of every map.

    As UCAG has it: a step is 8 of 224 rows of pixels; they come into the picture blurred by a Gaussian of 51 x 51 of
    224 x 224 pixels with a deviation of 50, and go to the data's mean.

    Args:
        progress: is called with a method before its maps are scored, each by about 110 forward passes.

    Raises:
        InputError: the network predicts something else than the explanation says; or it was made of tensors.
    """
    if not explanation.preprocessing:
        raise InputError("the explanation was made of tensors: nobody knows how their pictures were normalised")
    preprocessing = Preprocessing.from_dict(explanation.preprocessing)
    pixels = torch.from_numpy(explanation.pictures).permute(0, 3, 1, 2).contiguous()
    device = next(model.parameters()).device
    images = preprocessing.normalise(pixels).to(device)
    _check_same(explanation, model, images, batch_size)
    height, width = images.shape[2:]
    counts, levels = even_points(height * width, _ROWS * height / _SIDE, width)
    scale = min(height, width) / _SIDE
    blurred = gaussian_blur(images, 2 * round(_KERNEL // 2 * scale) + 1, _SIGMA * scale)
    mean = torch.zeros(images.shape[1], device=device)
    rows = []
    maps = _with_controls(explanation)
    random = np.random.default_rng(0).random((*explanation.targets.shape, height, width), dtype=np.float32)
    maps = {name: each for name, each in maps.items() if name != "constant"} | {"random": random}
    for method, each in maps.items():
        progress(method)
        for place in range(explanation.targets.shape[1]):
            some = torch.from_numpy(each[:, place])
            finite = some.isfinite().flatten(1).all(1)
            if not bool(finite.any()):
                continue
            which = finite.nonzero()[:, 0]
            on = which.to(device)
            targets = torch.from_numpy(explanation.targets[:, place])[which].to(device)
            curves = probabilities(
                model, images[on], some[which].to(device), targets, counts, blurred[on], mean, batch_size=batch_size
            )[:, 0]
            places = np.full(len(which), place)
            for metric, side in (("insertion", INSERTION), ("deletion", DELETION)):
                found = area_under(curves[:, side].cpu().numpy(), np.array(levels))
                rows.append(_rows(explanation, which.numpy(), places, method, metric, found))
    return _joined(rows)


def _check_same(explanation: Explanation, model: nn.Module, images: Tensor, batch_size: int) -> None:
    with torch.inference_mode():
        logits = torch.cat([model(batch) for batch in images.split(batch_size)]).double().cpu()
    count = int(max(explanation.predicted.max(), explanation.targets.max()))
    if logits.shape[1] > count:
        told = torch.from_numpy(explanation.probabilities)
        now = logits.softmax(1).gather(1, torch.from_numpy(explanation.predicted))
        if bool(((now - told).abs() <= _SAME).all()):
            return
    raise InputError(
        f"this network predicts other classes than the one that was explained ({explanation.model}, weights "
        f"{explanation.weights}); give the same --model and --weights"
    )


def _rows(
    explanation: Explanation, images: np.ndarray, places: np.ndarray, method: str, metric: str, values: np.ndarray
) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "image": [explanation.images[image] for image in images],
            "target": explanation.targets[images, places],
            "method": method,
            "metric": metric,
            "value": values,
        }
    )


def _joined(rows: Sequence[pd.DataFrame]) -> pd.DataFrame:
    columns = ["image", "target", "method", "metric", "value"]
    return pd.concat(rows, ignore_index=True) if rows else pd.DataFrame(columns=columns)


def summary(scores: pd.DataFrame) -> pd.DataFrame:
    """The mean of each method by each metric, with its 95 % interval over images.

    Returns:
        Rows method, metric, mean, low, high, images.
    """
    found = []
    for (method, metric), rows in scores.groupby(["method", "metric"], sort=False):
        interval = bootstrap_mean(rows["value"].to_numpy(), images=rows["image"].to_numpy())
        found.append((method, metric, interval.mean, interval.low, interval.high, rows["image"].nunique()))
    return pd.DataFrame(found, columns=["method", "metric", "mean", "low", "high", "images"])
