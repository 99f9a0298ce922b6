"""Published weights, read from the files that torchvision and timm distribute, and someone's own."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from relmap.data.images import Preprocessing
from relmap.errors import InputError
from relmap.job.files import atomic_path, sha256_file
from relmap.models.card import assign_weights
from relmap.models.timm import as_torchvision, from_flax
from relmap.models.zoo import architecture_of, build

_COUNTER = "num_batches_tracked"
# DenseNet's file is older than the names of its layers, ``norm.1`` for ``norm1``.
_DOTTED = re.compile(r"(denselayer\d+\.(?:norm|conv))\.([12]\.)")
# Inception's file has the classifier that served its training.
_AUXILIARY = "AuxLogits."


def load_published(path: str | os.PathLike, architecture: str, classes: int = 1000) -> nn.Module:
    """A full-width network with the weights of a file such as ``resnet50-0676ba61.pth``, in evaluation mode on the CPU.

    Args:
        path: the file as downloaded, under its own name, which ends in the first digits of its SHA-256.
        architecture: id of a row of ``relmap.catalogue.models``.
        classes: number of outputs.

    Raises:
        InputError: the file is absent, renamed, damaged, or of another network.
    """
    path = Path(path)
    _check_name(path)
    return _of_state(read_state(path), path, architecture, classes)


def load_own(path: str | os.PathLike, architecture: str, input_size: int = 224) -> nn.Module:
    """A full-width network with the weights of a file, in evaluation mode on the CPU; it has as many classes as they.

    Args:
        path: safetensors, or a checkpoint as torchvision saves them: a state dict, maybe under ``state_dict`` or
            ``model``. Those of vision transformers may have timm's names; or ``.npz`` with Flax's.
        architecture: id of a row of ``relmap.catalogue.models``.
        input_size: side of the input in pixels, of networks that take one size alone.

    Raises:
        InputError: the file is absent, unreadable, or of another network.
    """
    path = Path(path)
    last = f"{architecture_of(architecture).last}.weight"
    # A network of one's own may have the names of the file as they stand there, such as timm's.
    for as_written in (False, True):
        state = read_state(path, as_written)
        if last in state:
            return _of_state(state, path, architecture, len(state[last]), input_size)
    raise InputError(f"{path}: lacks {last}, the last layer of {architecture}; are these the weights of another?")


def save_seen(path: str | os.PathLike, state: Mapping[str, torch.Tensor], seen: Preprocessing, origin: str) -> None:
    """Keep weights as safetensors, with what their network sees of a picture and where they are from."""
    said = {"preprocessing": json.dumps(seen.to_dict()), "origin": origin}
    with atomic_path(path) as temporary:
        save_file({name: value.contiguous() for name, value in state.items()}, temporary, said)


def seen_by(path: str | os.PathLike) -> tuple[Preprocessing, str] | None:
    """What :func:`save_seen` said beside some weights; of other files None."""
    if Path(path).suffix != ".safetensors":
        return None
    with safe_open(path, "pt") as file:
        said = file.metadata() or {}
    if "preprocessing" not in said:
        return None
    return Preprocessing.from_dict(json.loads(said["preprocessing"])), said["origin"]


def refuse_another_look(model: str, origin: str, ours: Preprocessing, theirs: Preprocessing) -> None:
    """See to it that a network gets the pictures that it was made for.

    Raises:
        InputError: sides, colours or fit differ.
    """
    sides = {"input_size": (ours.crop, theirs.crop), "resize": (ours.resize, theirs.resize)}
    for key, (own, other) in sides.items():
        if own != other:
            raise InputError(f"config: `models.{model}.{key}` is {own}, but {origin} takes {other}; set it so")
    for key in ("mean", "std", "fit"):
        own, other = getattr(ours, key), getattr(theirs, key)
        if own != other and (key == "fit" or not np.allclose(own, other, atol=1e-3)):
            raise InputError(
                f"config: `models.{model}`: its row sees a picture with {key} {own}, but {origin} was trained with "
                f"{other}; take another row, or add one with that `seen` (docs/own_data.md)"
            )


def read_state(path: str | os.PathLike, as_written: bool = False) -> dict[str, torch.Tensor]:
    """The tensors of a file, by name; nothing in it is executed.

    Args:
        path: as of ``load_own``.
        as_written: keep the names as they stand in the file; else they become those that torchvision has today.

    Raises:
        InputError: the file is absent or cannot be read.
    """
    path = Path(path)
    state = _tensors(path)
    if as_written:
        return {name.removeprefix("module."): value for name, value in state.items()}
    return as_torchvision({_named(name): value for name, value in state.items() if not name.startswith(_AUXILIARY)})


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as arrays:
                return from_flax(dict(arrays))
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file of weights; correct `weights`") from error
    except Exception as error:  # of bytes that are no weights, readers raise whatever they stumble on
        raise InputError(f"{path}: not a file of weights that can be read ({error}); download it again") from error
    for key in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(key), dict):
            state = state[key]
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise InputError(f"{path}: holds no state dict; take a file as torchvision distributes them")
    return state


def _named(name: str) -> str:
    """A parameter's name as torchvision has it today."""
    return _DOTTED.sub(r"\1\2", name.removeprefix("module."))


def _of_state(
    state: dict[str, torch.Tensor], path: Path, architecture: str, classes: int, input_size: int = 224
) -> nn.Module:
    sizes = {"input_size": input_size} if architecture_of(architecture).one_size else {}
    model = build(architecture, classes, device="meta", **sizes)
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
