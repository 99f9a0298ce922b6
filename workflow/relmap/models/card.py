"""A trained network on disk: weights as safetensors, and a JSON card beside them that says how to rebuild it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from relmap.errors import InputError
from relmap.job.files import as_json, atomic_paths, read_json, sha256_file
from relmap.models.zoo import build


@dataclass(frozen=True)
class ModelCard:
    """What one must know to rebuild a network and feed it.

    Attributes:
        architecture: id of a row of ``relmap.catalogue.models``.
        classes: number of outputs.
        width: factor on the channel counts.
        input_size: side of the square input in pixels.
        preprocessing: ``Preprocessing.to_dict()`` of the images that the network takes.
        dataset: id of the dataset that it classifies.
        class_names: names of the outputs, in order.
        accuracies: split -> share of images classified correctly; of one with ``multi_label``,
            ``mean_average_precision_<split>`` -> that.
        origin: one sentence on how the weights came about.
        sha256: of the weights file; filled in by ``save_model``.
        multi_label: whether an image may have several classes: probabilities are sigmoids, not a softmax.
    """

    architecture: str
    classes: int
    width: float = 1.0
    input_size: int = 224
    preprocessing: dict[str, Any] = field(default_factory=dict)
    dataset: str = ""
    class_names: tuple[str, ...] = ()
    accuracies: dict[str, float] = field(default_factory=dict)
    origin: str = ""
    sha256: str = ""
    multi_label: bool = False


def card_path(path: str | os.PathLike) -> Path:
    """The card of a weights file: the same name with the suffix ``.json``."""
    return Path(path).with_suffix(".json")


def read_card(path: str | os.PathLike) -> ModelCard:
    """Read the card beside the weights file ``path``, without reading the weights.

    Raises:
        InputError: the card is absent, or not a model card.
    """
    sidecar = card_path(path)
    content = read_json(sidecar)
    known = {item.name for item in fields(ModelCard)}
    if not isinstance(content, dict) or not {"architecture", "classes", "sha256"} <= content.keys() <= known:
        raise InputError(f"{sidecar}: not a model card of this version; delete it and its weights, and run again")
    if not isinstance(content.get("multi_label", False), bool):
        raise InputError(f"{sidecar}: `multi_label` is {content['multi_label']!r}; it must be true or false")
    return ModelCard(**{**content, "class_names": tuple(content.get("class_names", ()))})


def save_model(model: nn.Module, path: str | os.PathLike, card: ModelCard) -> ModelCard:
    """Write the weights to ``path`` and the card beside them: both, or a failure leaves both as they were.

    Returns:
        The card as written, with the checksum of the weights.
    """
    state = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with atomic_paths(path, card_path(path)) as (temporary, beside):
        save_file(state, temporary)
        card = replace(card, sha256=sha256_file(temporary))
        beside.write_text(as_json(asdict(card), f"{card_path(path)}: card"))
    return card


def load_model(path: str | os.PathLike, device: str | torch.device = "cpu") -> tuple[nn.Module, ModelCard]:
    """Rebuild a network from its weights file and card.

    Returns:
        The network in evaluation mode on ``device``, gradients of parameters off, and its card. Its attribute
        ``input_range`` is what z-box rules need: the lowest and highest value of each channel of a valid input.

    Raises:
        InputError: a file is absent, altered since it was written, or does not fit the architecture it claims.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such weights file; run the rule that trains this model")
    card = read_card(path)
    found = sha256_file(path)
    if found != card.sha256:
        raise InputError(
            f"{path}: checksum {found[:12]} is not the {card.sha256[:12]} of its card; the file was altered or the two "
            "are of different runs; delete both and train again"
        )
    model = build(card.architecture, card.classes, card.width, card.input_size, device="meta")
    load_weights(model, path)
    if card.preprocessing:
        model.input_range = input_range(card.preprocessing["mean"], card.preprocessing["std"])
    return model.to(device).eval().requires_grad_(False), card


def input_range(mean: Sequence[float], std: Sequence[float]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Lowest and highest value of each channel of a picture in [0, 1], minus ``mean`` over ``std``."""
    pairs = list(zip(mean, std, strict=True))
    return tuple(-m / s for m, s in pairs), tuple((1 - m) / s for m, s in pairs)


def load_weights(model: nn.Module, path: str | os.PathLike) -> None:
    """Assign the tensors of a safetensors file to ``model`` (which may lie on ``meta``); every name and shape must fit.

    Raises:
        InputError: the file is not safetensors, or its names or shapes are not the model's.
    """
    try:
        state = load_file(path)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such weights file") from error
    except SafetensorError as error:
        raise InputError(f"{path}: not a safetensors file ({error}); delete it and make it again") from error
    assign_weights(model, state, str(path))


def assign_weights(model: nn.Module, state: dict[str, torch.Tensor], source: str) -> None:
    """Assign a state dict strictly; ``source`` names it in the message.

    Raises:
        InputError: names or shapes are not the model's.
    """
    wanted = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in state.items()}
    if wanted != given:
        wrong = [
            f"{name}: {given.get(name, 'absent')} where the network has {wanted.get(name, 'nothing')}"
            for name in sorted(wanted.keys() | given.keys())
            if wanted.get(name) != given.get(name)
        ]
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        raise InputError(
            f"{source}: the weights do not fit the network ({'; '.join(wrong[:3])}{more}); architecture, width, "
            "input_size and classes must be those it was trained with"
        )
    model.load_state_dict(state, assign=True)
