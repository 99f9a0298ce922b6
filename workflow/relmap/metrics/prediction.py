"""What a network predicts of many altered pictures, each made just before it is seen."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.network.score_maps import pooled_scores


@torch.inference_mode()
def top_classes(
    model: nn.Module, count: int, altered: Callable[[Tensor], Tensor], device: torch.device, batch_size: int
) -> Tensor:
    """The class that the network is surest of, for each of ``count`` pictures.

    Args:
        model: a classifier in evaluation mode, (B, C, H, W) -> (B, K), or a score map of each class.
        count: number of pictures.
        altered: ascending positions (B,) among them, on the device -> pictures (B, C, H, W).
        device: where the pictures are made.
        batch_size: pictures of one forward pass. It bounds the memory and does not change the result.

    Returns:
        (count,) int64 on the device.

    Raises:
        InputError: a score that the model gives is not finite.
    """
    classes = torch.empty(count, dtype=torch.int64, device=device)
    finite = torch.ones((), dtype=torch.bool, device=device)
    for start in range(0, count, batch_size):
        positions = torch.arange(start, min(start + batch_size, count), device=device)
        # Channels last: convolutions of narrow networks take about half the time on CPU, and the weights are reordered
        # on the way, so that the caller's model stays as it is.
        logits = pooled_scores(model(altered(positions).contiguous(memory_format=torch.channels_last)))
        finite &= logits.isfinite().all()
        classes[start : start + batch_size] = logits.argmax(1)
    if not finite:
        raise InputError("the model gives NaN or infinity for some images: it predicts no class; check both for NaN")
    return classes
