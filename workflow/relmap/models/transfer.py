"""A network that starts from the weights of another: convolutions over a feature map are its linear layers slid."""

from __future__ import annotations

from itertools import zip_longest

import torch
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.models.card import ModelCard, assign_weights
from relmap.models.zoo import architecture_of, build, new_last_layer


def transferred(
    base: nn.Module,
    architecture: str,
    classes: int,
    width: float = 1.0,
    input_size: int = 224,
    *,
    keep_last: bool,
    seed: int = 0,
    source: str = "the base network",
) -> nn.Module:
    """A network of another architecture with the weights of ``base``, on the CPU in evaluation mode.

    Layers are the same by name; parts that its row calls ``fresh`` start as ``zoo.build`` leaves them. A linear layer's
    weight (outputs, C h w) is a convolution's (outputs, C, h, w), and a bias that ``base`` has not is 0 (the first of
    TorchRay's ResNet).

    Args:
        base: the network that lends its weights.
        architecture, classes, width, input_size, seed: as of ``zoo.build``.
        keep_last: take its last layer too; else that is fresh.
        source: names ``base`` in a message.

    Raises:
        InputError: ``base`` has not the layers, or not their sizes; or the last layer is kept, and before it are fresh
            parts, with which it says nothing.
    """
    row = architecture_of(architecture)
    last, fresh = row.last, tuple(f"{part}." for part in row.fresh)
    if keep_last and fresh:
        raise InputError(
            f"{architecture}: {', '.join(row.fresh)} must be trained, and {source} has none of it; take it on a data "
            "set that it is fine-tuned on"
        )
    model = build(architecture, classes, width, input_size, seed=seed)
    if not keep_last:
        new_last_layer(model, architecture, classes, seed)
    given, state = base.state_dict(), {}
    for name, own in model.state_dict().items():
        if name.startswith(fresh) or (name.startswith(f"{last}.") and not keep_last):
            state[name] = own
        elif name in given:
            state[name] = _as_shaped(given[name].detach().cpu().clone(), own)
        elif name.endswith(".bias"):
            state[name] = torch.zeros_like(own)
    assign_weights(model, state, source)
    return model.eval().requires_grad_(False)


def _as_shaped(value: Tensor, like: Tensor) -> Tensor:
    same = value.shape[:1] == like.shape[:1] and value.numel() == like.numel()
    return value.reshape(like.shape) if same else value


def check_same_classes(card: ModelCard, names: tuple[str, ...], dataset: str) -> None:
    """Refuse a network for a data set of other classes than those it was trained on.

    Raises:
        InputError: names or their order differ.
    """
    if card.class_names == names:
        return
    pairs = list(zip_longest(card.class_names, names, fillvalue="nothing"))
    first = next(place for place, (there, here) in enumerate(pairs) if there != here)
    there, here = pairs[first]
    raise InputError(
        f"{dataset}: its class {first} is {here!r}, and {there!r} of the network of {card.dataset} that classifies it; "
        f"both need the same {card.classes} classes in the same order"
    )
