"""Torchvision's published weights, read from the files that it distributes."""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path

import torch
from torch import nn

from relmap.errors import InputError
from relmap.job.files import sha256_file
from relmap.models.card import assign_weights
from relmap.models.zoo import build

_COUNTER = "num_batches_tracked"


def load_published(path: str | os.PathLike, architecture: str, classes: int = 1000) -> nn.Module:
    """A full-width network with the weights of a file such as ``resnet50-0676ba61.pth``, in evaluation mode on the CPU.

    Args:
        path: the file as downloaded, under its own name, which ends in the first digits of its SHA-256.
        architecture: key of ``zoo.ARCHITECTURES``.
        classes: number of outputs.

    Raises:
        InputError: the file is absent, renamed, damaged, or of another network.
    """
    path = Path(path)
    _check_name(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError) as error:
        raise InputError(f"{path}: not a file of weights that torch can read ({error}); download it again") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path}: holds no state dict; take the file that torchvision distributes")
    model = build(architecture, classes, device="meta")
    # Files older than the counter of batch norm lack it; it is of no account in evaluation.
    absent = [name for name in model.state_dict() if name.endswith(_COUNTER) and name not in state]
    assign_weights(model, {**state, **dict.fromkeys(absent, torch.tensor(0))}, str(path))
    return model.eval().requires_grad_(False)


def _check_name(path: Path) -> None:
    if not path.is_file():
        raise InputError(f"{path}: no such file; download it, or put it into the mirror directory")
    prefix = re.search(r"-([0-9a-f]{8,64})$", path.stem)
    if prefix is None:
        raise InputError(f"{path}: its name does not end in a checksum as torchvision's do, such as vgg16-397923af.pth")
    found = sha256_file(path)
    if not found.startswith(prefix[1]):
        raise InputError(f"{path}: its checksum begins with {found[:8]}, not {prefix[1]}; delete it and download again")
