"""What networks see: images, boxes, masks and part maps, all through one geometry."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch.utils.data import Dataset

from relmap.data.decoding import as_rgb, check_resized, decode
from relmap.data.manifest import Manifest
from relmap.data.runs import decode_runs
from relmap.errors import InputError

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
FITS = ("crop", "squash", "aspect")

Rows = Sequence[int] | np.ndarray | torch.Tensor


@dataclass(frozen=True)
class Preprocessing:
    """What a network sees of a picture: resized bilinearly and fitted, to [0, 1], minus ``mean`` over ``std``.

    Attributes:
        resize: side in pixels that ``fit`` works with.
        crop: side of the centre crop; with another fit it is ``resize``.
        mean, std: of each channel.
        fit: ``crop``: shorter side to ``resize``, centre crop; the same arithmetic as torchvision's Resize, CenterCrop,
            ToTensor and Normalize on PIL images. ``squash``: both sides to ``resize``. ``aspect``: shorter side to
            ``resize``, the longer in proportion, truncated; pictures then have several sizes (TorchRay).
        antialias: whether shrinking averages over all pixels, as Pillow does, or interpolates between the nearest
            four, as TorchRay does.
    """

    resize: int
    crop: int
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    fit: str = "crop"
    antialias: bool = True

    def __post_init__(self) -> None:
        if self.fit not in FITS:
            raise InputError(f"preprocessing: fit is {self.fit!r}; choose one of {', '.join(FITS)}")
        if not 0 < self.crop <= self.resize:
            raise InputError(f"preprocessing: crop {self.crop} must be positive and at most resize {self.resize}")
        if self.fit != "crop" and self.crop != self.resize:
            raise InputError(f"preprocessing: fit {self.fit} crops nothing; make crop {self.crop} equal to resize")
        if len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise InputError(f"preprocessing: mean {self.mean} and std {self.std} need three values each, std positive")

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready form; the inverse of ``from_dict``."""
        return {**asdict(self), "mean": list(self.mean), "std": list(self.std)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Preprocessing:
        """Inverse of ``to_dict``."""
        known = dict(value)
        sides = {key: int(known.pop(key)) for key in ("resize", "crop")}
        return cls(**sides, mean=tuple(known.pop("mean")), std=tuple(known.pop("std")), **known)

    def resized(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) after the resize."""
        if self.fit == "squash":
            return self.resize, self.resize
        if width <= height:
            return self.resize, int(self.resize * height / width)
        return int(self.resize * width / height), self.resize

    def seen(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) of what the network sees of an image of ``width`` x ``height``."""
        return self.resized(width, height) if self.fit == "aspect" else (self.crop, self.crop)

    def corner(self, width: int, height: int) -> tuple[int, int]:
        """(left, top) of the crop in the resized image of an image of ``width`` x ``height``."""
        if self.fit != "crop":
            return 0, 0
        new_width, new_height = self.resized(width, height)
        return round((new_width - self.crop) / 2.0), round((new_height - self.crop) / 2.0)

    def map_boxes(self, boxes: np.ndarray, width: np.ndarray, height: np.ndarray) -> np.ndarray:
        """(K, 4) boxes of stored images of ``width`` (K,) x ``height`` (K,) on the preprocessed grid, not clipped."""
        geometry = [
            (*self.resized(w, h), *self.corner(w, h)) for w, h in zip(width.tolist(), height.tolist(), strict=True)
        ]
        new_width, new_height, left, top = np.array(geometry, dtype=np.float64).reshape(-1, 4).T
        scale = np.stack([new_width / width, new_height / height] * 2, axis=1)
        return boxes * scale - np.stack([left, top] * 2, axis=1)

    def normalise(self, pixels: torch.Tensor) -> torch.Tensor:
        """uint8 (N, 3, H, W) to normalised float32 of the same shape."""
        mean, std = (torch.tensor(value, device=pixels.device).view(1, 3, 1, 1) for value in (self.mean, self.std))
        return (pixels.float() / 255.0 - mean) / std

    def denormalise(self, images: torch.Tensor) -> torch.Tensor:
        """Normalised (N, 3, H, W) to [0, 1] for display."""
        mean, std = (torch.tensor(value, device=images.device).view(1, 3, 1, 1) for value in (self.mean, self.std))
        return (images * std + mean).clamp(0, 1)


def default_workers() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def load_pixels(
    manifest: Manifest, rows: Rows, preprocessing: Preprocessing, workers: int | None = None
) -> torch.Tensor:
    """Resized and fitted images before normalisation: uint8 (N, 3, H, W), for augmentation on batches.

    Raises:
        InputError: the preprocessing leaves the images in several sizes (take them in groups, ``by_size``); or a file
            is absent, corrupt, truncated, too large, or no longer of a size that the fit leaves: the message names it.
    """

    _check_resized(manifest, rows, preprocessing)
    shape = (*common_size(manifest, rows, preprocessing), 3)

    def read(path: str) -> np.ndarray:
        image = decode(manifest.resolve(path))
        check_resized(manifest.resolve(path), *preprocessing.resized(*image.size))
        if preprocessing.seen(*image.size) != shape[1::-1]:
            raise InputError(
                f"{manifest.resolve(path)}: has {image.size[0]} x {image.size[1]} pixels, not those that its "
                "annotation says; restore both from their archives, and make the manifest again"
            )
        manifest.check(path)
        return fitted_colours(as_rgb(image, manifest.resolve(path)), preprocessing)

    pixels = _stack(_column(manifest, rows, "path"), read, shape, workers)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def load_images(
    manifest: Manifest, rows: Rows, preprocessing: Preprocessing, workers: int | None = None
) -> torch.Tensor:
    """Images ready for a network: normalised float32 (N, 3, H, W).

    Args:
        rows: positions in ``manifest.frame``.
        workers: decoding threads; all cores of the process by default. The result does not depend on it.

    Raises:
        InputError: as :func:`load_pixels`.
    """
    return preprocessing.normalise(load_pixels(manifest, rows, preprocessing, workers))


def load_boxes(
    manifest: Manifest, rows: Rows, preprocessing: Preprocessing, targets: Sequence[int] | np.ndarray | None = None
) -> torch.Tensor:
    """Union of an image's boxes on the preprocessed grid: bool (N, H, W), True where a pixel's centre is inside.

    Args:
        targets: (N,) classes, whose boxes alone count; all boxes without them.

    Raises:
        InputError: an image has no box, or none of its target.
    """
    frame, positions = manifest.frame, _positions(rows)
    nested = [frame["boxes"].iat[row] for row in positions]
    if targets is not None:
        nested = [
            [box for box, label in zip(boxes, frame["box_labels"].iat[row], strict=True) if label == target]
            for boxes, row, target in zip(nested, positions, targets, strict=True)
        ]
    counts = np.array([len(boxes) for boxes in nested], dtype=np.int64)
    if not counts.all():
        first = int(np.argmin(counts))
        path = manifest.resolve(frame["path"].iat[positions[first]])
        of_class = "" if targets is None else f" of class {manifest.info.class_names[targets[first]]!r}"
        raise InputError(f"{path}: the image has no bounding box{of_class}; add its annotation, or leave the image out")
    size = common_size(manifest, rows, preprocessing)
    if not len(positions):
        return torch.zeros(0, *size, dtype=torch.bool)
    owner = np.repeat(positions, counts)
    boxes = np.array([box for boxes in nested for box in boxes], dtype=np.float64)
    width, height = (frame[name].to_numpy()[owner] for name in ("width", "height"))
    x0, y0, x1, y1 = preprocessing.map_boxes(boxes, width, height).T[..., None]
    down, across = (np.arange(side) + 0.5 for side in size)
    columns = (across >= x0) & (across < x1)
    lines = (down >= y0) & (down < y1)
    starts = np.cumsum(counts) - counts
    return torch.from_numpy(np.logical_or.reduceat(lines[:, :, None] & columns[:, None, :], starts, axis=0))


def load_masks(
    manifest: Manifest,
    rows: Rows,
    preprocessing: Preprocessing,
    targets: Sequence[int] | np.ndarray | None = None,
    workers: int | None = None,
) -> torch.Tensor:
    """Object segmentation on the preprocessed grid: bool (N, H, W).

    The union of the masks of an image's boxes, where they have any; else where its mask file is not zero. CUB's masks
    count annotators in steps of 51: whatever one of them marked is object here.

    Args:
        targets: (N,) classes, whose boxes' masks alone count. A mask file holds the image's class, whatever the target.

    Raises:
        InputError: an image has no mask, or none of its target, or its mask is corrupt or of another size.
    """
    wanted = [None] * len(_positions(rows)) if targets is None else list(targets)
    pairs = list(zip(_positions(rows).tolist(), wanted, strict=True))
    runs = [_box_masks(manifest, row, target) for row, target in pairs]
    return _load_annotation(manifest, rows, preprocessing, "mask_path", "segmentation mask", workers, runs) > 0


def _box_masks(manifest: Manifest, row: int, target: int | None) -> tuple[str, ...]:
    """Run lengths of the masks of an image's boxes, or of those of one class; none where its boxes have no masks.

    Raises:
        InputError: boxes of other classes have masks, those of the target none.
    """
    frame = manifest.frame
    every = list(zip(frame["box_masks"].iat[row], frame["box_labels"].iat[row], strict=True))
    runs = tuple(run for run, label in every if run and target in (None, label))
    if not runs and any(run for run, _ in every):
        name = manifest.info.class_names[target]
        path = manifest.resolve(frame["path"].iat[row])
        raise InputError(f"{path}: the image has no segmentation mask of class {name!r}; leave the pair out")
    return runs


def load_part_maps(
    manifest: Manifest, rows: Rows, preprocessing: Preprocessing, workers: int | None = None
) -> torch.Tensor:
    """Part index per pixel on the preprocessed grid: uint8 (N, H, W), 0 background, k = ``part_names[k - 1]``.

    Raises:
        InputError: an image has no part map, or it is corrupt or of another size.
    """
    return _load_annotation(manifest, rows, preprocessing, "part_map_path", "part map", workers)


def batches(
    manifest: Manifest, rows: Rows, preprocessing: Preprocessing, batch_size: int, workers: int | None = None
) -> Iterator[tuple[torch.Tensor, np.ndarray]]:
    """Yield (images float32 (B, 3, H, W), their places in ``rows`` (B,)); the next batch is decoded meanwhile.

    A batch has one size. Where all images have one, batches come in the order of ``rows``.
    """
    positions = _positions(rows)
    chunks = [
        group[start : start + batch_size]
        for group in by_size(sizes_seen(manifest, positions, preprocessing))
        for start in range(0, len(group), batch_size)
    ]
    with ThreadPoolExecutor(1) as ahead:

        def read(chunk: np.ndarray) -> Future[torch.Tensor]:
            return ahead.submit(load_images, manifest, positions[chunk], preprocessing, workers)

        pending = read(chunks[0]) if chunks else None
        for index, chunk in enumerate(chunks):
            images = pending.result()
            if index + 1 < len(chunks):
                pending = read(chunks[index + 1])
            yield images, chunk


def sizes_seen(manifest: Manifest, rows: Rows, preprocessing: Preprocessing) -> np.ndarray:
    """(N, 2) height and width of what the network sees of each image.

    Raises:
        InputError: an image would have too many pixels after resizing.
    """
    _check_resized(manifest, rows, preprocessing)
    frame = manifest.frame
    stored = zip(*(frame[name].to_numpy()[_positions(rows)].tolist() for name in ("width", "height")), strict=True)
    return np.array([preprocessing.seen(*size)[::-1] for size in stored], dtype=np.int64).reshape(-1, 2)


def by_size(sizes: np.ndarray) -> list[np.ndarray]:
    """Places of each size among ``sizes`` (N, 2), ascending; the sizes in the order of their first place."""
    kinds, first, which = np.unique(sizes, axis=0, return_index=True, return_inverse=True)
    order = np.argsort(first)
    return [np.flatnonzero(which.reshape(-1) == kind) for kind in order] if len(kinds) else []


def common_size(manifest: Manifest, rows: Rows, preprocessing: Preprocessing) -> tuple[int, int]:
    """(height, width) of what the network sees of some images.

    Raises:
        InputError: they have several.
    """
    if preprocessing.fit != "aspect":
        return preprocessing.crop, preprocessing.crop
    sizes = np.unique(sizes_seen(manifest, rows, preprocessing), axis=0)
    if len(sizes) > 1:
        raise InputError(
            f"{manifest.info.dataset}: images of {len(sizes)} sizes after resizing, such as {sizes[0].tolist()} and "
            f"{sizes[1].tolist()}; take those of one size at a time, or the fit crop or squash"
        )
    return tuple(sizes[0].tolist()) if len(sizes) else (preprocessing.resize, preprocessing.resize)


class ImageDataset(Dataset):
    """(image uint8 (3, H, W), label, row) per item, for a DataLoader; normalise and augment the batch."""

    def __init__(self, manifest: Manifest, rows: Rows, preprocessing: Preprocessing) -> None:
        self.manifest = manifest
        self.positions = _positions(rows)
        self.preprocessing = preprocessing

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int, int]:
        row = int(self.positions[index])
        pixels = load_pixels(self.manifest, [row], self.preprocessing, workers=1)[0]
        return pixels, int(self.manifest.single_labels([row])[0]), row


def _load_annotation(
    manifest: Manifest,
    rows: Rows,
    preprocessing: Preprocessing,
    column: str,
    what: str,
    workers: int | None,
    runs: Sequence[tuple[str, ...]] | None = None,
) -> torch.Tensor:
    """Values of each row's file in ``column``, or, where ``runs`` has any, of the union of those masks."""
    _check_resized(manifest, rows, preprocessing)
    frame, positions = manifest.frame, _positions(rows)
    paths = _column(manifest, rows, column)
    given = [()] * len(positions) if runs is None else list(runs)
    for row, path, own in zip(positions, paths, given, strict=True):
        if path is None and not own:
            image = manifest.resolve(frame["path"].iat[row])
            raise InputError(f"{image}: the image has no {what}; add it to the dataset, or leave the image out")
    sizes = [(int(frame["width"].iat[row]), int(frame["height"].iat[row])) for row in positions]

    def read(source: tuple[str | None, tuple[str, ...], tuple[int, int]]) -> np.ndarray:
        path, own, size = source
        image = Image.fromarray(decode_runs(own, *size).astype(np.uint8)) if own else decode(manifest.resolve(path))
        if image.size != size:
            raise InputError(
                f"{manifest.resolve(path)}: the {what} has {image.size[0]} x {image.size[1]} pixels, its image "
                f"{size[0]} x {size[1]}; they must agree: restore the right file"
            )
        if not own:
            manifest.check(path)
        if image.mode == "F" and (np.asarray(image) % 1).any():
            raise InputError(f"{manifest.resolve(path)}: the {what} holds fractions; save whole numbers, in 8 bits")
        # A nearest neighbour keeps every value a value of the file: part indices must not be averaged.
        return _values(_fit(image, preprocessing, Image.Resampling.NEAREST))

    sources = list(zip(paths, given, sizes, strict=True))
    return torch.from_numpy(_stack(sources, read, common_size(manifest, rows, preprocessing), workers))


def _values(image: Image.Image) -> np.ndarray:
    """Pixel values as uint8 (H, W): grey levels or palette indices; of colour the largest channel, alpha ignored."""
    values = np.asarray(image)
    if values.ndim == 3:
        colours = 1 if values.shape[2] == 2 else 3
        values = values[..., :colours].max(2)
    return values.astype(np.int64).clip(0, 255).astype(np.uint8)


def _fit(image: Image.Image, preprocessing: Preprocessing, resampling: Image.Resampling) -> Image.Image:
    size = preprocessing.resized(*image.size)
    left, top = preprocessing.corner(*image.size)
    width, height = preprocessing.seen(*image.size)
    if image.size != size:
        image = image.resize(size, resampling)
    return image.crop((left, top, left + width, top + height))


def fitted_colours(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray:
    """What a network sees of an RGB image, before normalisation: (H, W, 3) uint8."""
    size = preprocessing.resized(*image.size)
    if not preprocessing.antialias and image.size != size:
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float()
        resized = F.interpolate(pixels, size[::-1], mode="bilinear", align_corners=False)
        (left, top), (width, height) = preprocessing.corner(*image.size), preprocessing.seen(*image.size)
        cut = resized[0, :, top : top + height, left : left + width]
        return cut.round().to(torch.uint8).permute(1, 2, 0).numpy()
    return np.asarray(_fit(image, preprocessing, Image.Resampling.BILINEAR))


def _stack(
    paths: Sequence[Any], read: Callable[[Any], np.ndarray], shape: tuple[int, ...], workers: int | None
) -> np.ndarray:
    """Decode in threads (Pillow releases the interpreter lock) into one array, in order."""
    result = np.empty((len(paths), *shape), dtype=np.uint8)
    workers = min(workers or default_workers(), max(len(paths), 1))
    with ThreadPoolExecutor(workers) as pool:
        for index, value in enumerate(pool.map(read, paths)):
            result[index] = value
    return result


def _check_resized(manifest: Manifest, rows: Rows, preprocessing: Preprocessing) -> None:
    """Refuse what would take all memory, before any of it is allocated."""
    frame = manifest.frame
    for row in _positions(rows):
        size = preprocessing.resized(int(frame["width"].iat[row]), int(frame["height"].iat[row]))
        check_resized(manifest.resolve(frame["path"].iat[row]), *size)


def _positions(rows: Rows) -> np.ndarray:
    return np.asarray(rows, dtype=np.int64).reshape(-1)


def _column(manifest: Manifest, rows: Rows, column: str) -> list[str | None]:
    values = manifest.frame[column]
    return [values.iat[row] for row in _positions(rows)]
