"""The device that a config names."""

from __future__ import annotations

import torch

from relmap.errors import InputError


def choose_device(name: str) -> torch.device:
    """The torch device of the config's ``compute.device``.

    Args:
        name: ``cpu``, ``cuda``, or ``auto`` for CUDA where there is one.

    Raises:
        InputError: CUDA is asked for and there is none.
    """
    available = torch.cuda.is_available()
    if name == "cuda" and not available:
        raise InputError(
            "compute.device is cuda, but torch finds no CUDA device; install the driver and a CUDA build of torch, or "
            "set it to auto or cpu"
        )
    return torch.device("cuda" if name == "cuda" or (name == "auto" and available) else "cpu")
