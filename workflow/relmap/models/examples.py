"""What a training takes its examples from: memory, or pictures decoded as they are needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from relmap.errors import InputError


@dataclass(frozen=True)
class Normalisation:
    """Mean and deviation of each colour channel, in units of [0,1], that the network's input is brought to."""

    mean: Sequence[float]
    std: Sequence[float]

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Normalise pictures (N,3,H,W) in [0,1]."""
        mean, std = (torch.tensor(values, device=images.device).view(1, -1, 1, 1) for values in (self.mean, self.std))
        return (images - mean) / std


class Source(Protocol):
    """Examples by index: ``labels`` as of ``objective``, and batches as tensors whose first axis is the example."""

    labels: torch.Tensor

    def batches(self, groups: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield the examples of each group of indices."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Examples in one tensor: pictures (N,3,H,W), uint8 or float in [0,1], features (N,views,F), or token ids (N,T)."""

    examples: torch.Tensor
    labels: torch.Tensor

    def batches(self, groups: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield the examples of each group of indices, pictures as float."""
        yield from (_in_unit_range(self.examples[group]) for group in groups)


@dataclass(frozen=True)
class Streamed:
    """Pictures read when needed, in ``workers`` processes; ``load(indices)`` gives (n,3,H,W), uint8 or in [0,1]."""

    load: Callable[[list[int]], torch.Tensor]
    labels: torch.Tensor
    workers: int = 0

    def batches(self, groups: Sequence[torch.Tensor]) -> Iterator[torch.Tensor]:
        """Yield the pictures of each group of indices, in order."""
        yield from DataLoader(
            _Groups(self.load, [group.tolist() for group in groups]), batch_size=None, num_workers=self.workers
        )


@dataclass(frozen=True)
class _Groups(Dataset):
    load: Callable[[list[int]], torch.Tensor]
    groups: list[list[int]]

    def __len__(self) -> int:
        return len(self.groups)

    def __getitem__(self, index: int) -> torch.Tensor:
        return _in_unit_range(self.load(self.groups[index]))


def _in_unit_range(batch: torch.Tensor) -> torch.Tensor:
    return batch.float() / 255 if batch.dtype == torch.uint8 else batch


def held_out(labels: torch.Tensor, share: float, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Split indices: ``(training, held out)``, each sorted; a class keeps at least one training picture.

    Of labels (N,) the share is that of each class, of labels (N, C) that of all pictures. A share of 1 or more is a
    number of pictures: of labels (N,) spread evenly over the classes, those that have one more drawn at random.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(labels), generator=generator)
    if labels.dim() == 2:
        # The last picture of each class in this order stays.
        last = len(order) - 1 - labels[order].bool().flip(0).int().argmax(0)
        free = torch.ones(len(order), dtype=torch.bool)
        free[last[labels.any(0)]] = False
        wanted = round(len(order) * share) if share < 1 else int(share)
        apart = free & (free.cumsum(0) <= wanted)
        return order[~apart].sort().values, order[apart].sort().values
    by_class = order[torch.argsort(labels[order], stable=True)]
    counts = torch.bincount(labels)
    starts = torch.cumsum(counts, 0) - counts
    rank = torch.arange(len(labels)) - starts.repeat_interleave(counts)
    most = (counts - 1).clamp(min=0)
    kept_apart = (
        torch.minimum((counts * share).round().long(), most) if share < 1 else _spread(int(share), most, generator)
    )
    apart = rank < kept_apart.repeat_interleave(counts)
    return by_class[~apart].sort().values, by_class[apart].sort().values


def _spread(number: int, most: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """``number`` dealt over classes one each at a time, in a random order, of which none takes more than ``most``."""
    if number > int(most.sum()):
        raise InputError(
            f"training: holdout is {number} pictures, and {int(most.sum())} can be spared: each class keeps one"
        )
    turn = torch.randperm(len(most), generator=generator)
    rounds = torch.arange(int(most.max()))
    dealt = (rounds[:, None] < most[turn]).flatten()
    taken = dealt & (dealt.cumsum(0) <= number)
    return torch.zeros_like(most).scatter(0, turn, taken.view(len(rounds), len(most)).sum(0))


def grouped(indices: torch.Tensor, batch_size: int) -> list[torch.Tensor]:
    """Near-equal groups of at most ``batch_size``: no last batch of one picture, which batch norm cannot take."""
    return list(torch.tensor_split(indices, max(1, math.ceil(len(indices) / batch_size))))
