"""A network by its name, with what it sees of a picture and the names of its classes.

``resnet50``           a row of ``relmap.catalogue.models``, or any classifier of torchvision
``timm:NAME``          a network of timm
``hf:ORG/NAME``        a classifier of images of the Hugging Face Hub (``relmap.models.hub``)
``module:factory``     a function or class of an installed module, or of ``file.py``, that takes no arguments
``file.py:id``         a row in that file's ``MODELS``
"""

from __future__ import annotations

import importlib
import os
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from relmap.catalogue.imported import from_file
from relmap.catalogue.models import MODELS
from relmap.data.images import Preprocessing
from relmap.errors import InputError, suggestion
from relmap.models.card import assign_weights, input_range
from relmap.models.hub import hub_network, timm_preprocessing
from relmap.models.sources import preprocessing_of
from relmap.models.weights import load_own, read_state
from relmap.models.zoo import architecture_of
from relmap.torchvision_shim import torchvision

PUBLISHED = "IMAGENET1K_V1"
"""Of torchvision's weights, those that the papers used."""
_SECONDS = 20.0  # without an answer, after which there is no internet


@dataclass(frozen=True)
class Named:
    """A network in evaluation mode on the CPU, what it sees, where its weights came from, its classes where told."""

    model: nn.Module
    preprocessing: Preprocessing
    weights: str
    class_names: tuple[str, ...] = ()


def network_named(
    name: str,
    weights: str | os.PathLike | None = None,
    preprocessing: Preprocessing | Callable[[Preprocessing], Preprocessing] | None = None,
) -> Named:
    """A network by its name.

    Args:
        name: see above.
        weights: a file: safetensors, or a state dict as torch saves it, which is read without running anything in it;
            by default those that torchvision, timm or the Hub distribute, or what the factory returns. Of ``hf:`` a
            folder with the repository's files.
        preprocessing: in place of what the network's published weights take, or a change of that.

    Raises:
        InputError: nothing has this name, the weights cannot be had, or are another network's.
    """
    kind, _, rest = name.partition(":")
    if kind == "timm" and rest:
        found = _of_timm(rest, weights)
    elif kind == "hf":
        found = Named(*hub_network(rest, weights))
    elif rest:
        found = _of_file(name, weights)
    elif name in MODELS and MODELS[name].maker:
        found = _of_row(name, weights)
    else:
        found = _of_torchvision(name, weights)
    seen = preprocessing(found.preprocessing) if callable(preprocessing) else preprocessing or found.preprocessing
    model: Any = found.model.eval().requires_grad_(False)
    model.input_range = input_range(seen.mean, seen.std)
    return replace(found, preprocessing=seen)


def _of_row(name: str, weights: str | os.PathLike | None) -> Named:
    row = architecture_of(name)
    published = _published(name)
    resize, crop = (
        (published.transforms().resize_size[0], published.transforms().crop_size[0]) if published else (256, 224)
    )
    if row.one_size and name.endswith("_384"):
        resize = crop = 384
    preprocessing = preprocessing_of(row.seen, resize, crop)
    if weights is not None:
        return Named(load_own(weights, name, crop), preprocessing, Path(weights).name)
    if published is None:
        raise InputError(
            f"model {name}: nobody distributes its weights for ImageNet by this name; name a file, --weights FILE"
        )
    return Named(_downloaded(name, published), preprocessing, f"torchvision {published}")


def _of_torchvision(name: str, weights: str | os.PathLike | None) -> Named:
    known = torchvision.models.list_models(module=torchvision.models)
    if name not in known:
        every = sorted({*known, *(key for key, row in MODELS.items() if row.maker)})
        raise InputError(
            f"model {name!r} is unknown{suggestion(name, every)}; `relmap models` lists relmap's, and torchvision's, "
            "timm:NAME, hf:ORG/NAME and package.module:factory will do"
        )
    published = _published(name)
    transforms = published.transforms()
    preprocessing = Preprocessing(
        max(transforms.resize_size[0], transforms.crop_size[0]),
        transforms.crop_size[0],
        tuple(transforms.mean),
        tuple(transforms.std),
    )
    if weights is None:
        return Named(_downloaded(name, published), preprocessing, f"torchvision {published}")
    return Named(_filled(name, weights), preprocessing, Path(weights).name)


def _filled(name: str, weights: str | os.PathLike) -> nn.Module:
    """A network of torchvision, with as many classes as a file has outputs."""
    state = read_state(weights)
    model = _empty(name, 1000)
    last = [key for key, value in model.named_parameters() if value.dim() > 1][-1]
    if last not in state:
        raise InputError(
            f"{weights}: lacks {last}, the last layer of {name}; are these the weights of another network?"
        )
    model = _empty(name, len(state[last]))
    # Files older than the counter of batch norm lack it; it is of no account in evaluation.
    absent = [key for key in model.state_dict() if key.endswith("num_batches_tracked") and key not in state]
    kept = {key: value for key, value in state.items() if not key.startswith(("AuxLogits.", "aux1.", "aux2."))}
    assign_weights(model, {**kept, **dict.fromkeys(absent, torch.tensor(0))}, str(weights))
    return model


def _empty(name: str, classes: int) -> nn.Module:
    more = {"init_weights": False, "aux_logits": False} if name in ("inception_v3", "googlenet") else {}
    with torch.device("meta"):
        return torchvision.models.get_model(name, weights=None, num_classes=classes, **more)


def _published(name: str) -> Any:
    """Torchvision's weights of a network, or None."""
    try:
        every = torchvision.models.get_model_weights(name)
    except ValueError:
        return None
    return every[PUBLISHED] if PUBLISHED in every.__members__ else every.DEFAULT


def _downloaded(name: str, published: Any) -> nn.Module:
    """Torchvision's network with its weights, from its folder of downloads or the internet."""
    folder = Path(torch.hub.get_dir(), "checkpoints")
    try:
        with _patience():
            state = published.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"model {name}: its weights cannot be fetched ({error}); give a file with --weights FILE, or put "
            f"{Path(published.url).name} from {published.url} into {folder}"
        ) from error
    more = {"init_weights": False} if name in ("inception_v3", "googlenet") else {}
    model = torchvision.models.get_model(name, weights=None, num_classes=len(published.meta["categories"]), **more)
    model.load_state_dict(state)
    return model


@contextmanager
def _patience() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _of_timm(name: str, weights: str | os.PathLike | None) -> Named:
    import timm

    if name.split(".")[0] not in timm.list_models():
        raise InputError(f"model timm:{name}: timm has no such network{suggestion(name, timm.list_models())}")
    try:
        with _patience():
            model = timm.create_model(name, pretrained=weights is None)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"model timm:{name}: its weights cannot be fetched ({str(error).splitlines()[0]}); give a file with "
            "--weights FILE"
        ) from error
    if weights is not None:
        _assign(model, weights)
    seen = timm.data.resolve_model_data_config(model)
    return Named(model, timm_preprocessing(f"timm:{name}", seen), "timm" if weights is None else Path(weights).name)


def _of_file(name: str, weights: str | os.PathLike | None) -> Named:
    """What a function of a module or file makes, or a row of a file makes."""
    where, _, attribute = name.rpartition(":")
    try:
        module = from_file(where) if where.endswith(".py") else importlib.import_module(where)
    except ImportError as error:
        raise InputError(f"model {name}: the module {where} cannot be imported ({error}); correct --model") from error
    if any(row.id == attribute for row in getattr(module, "MODELS", ())):
        row = architecture_of(name)
        if weights is None:
            raise InputError(f"model {name}: has no weights; name a file, --weights FILE")
        return Named(load_own(weights, name), preprocessing_of(row.seen, 256, 224), Path(weights).name)
    factory = getattr(module, attribute, None)
    if not callable(factory):
        raise InputError(
            f"model {name}: {where} has no function {attribute}{suggestion(attribute, vars(module))}; correct --model"
        )
    try:
        model = factory()
    except TypeError as error:
        raise InputError(f"model {name}: must be callable without arguments ({error})") from error
    if not isinstance(model, nn.Module):
        raise InputError(f"model {name}: returned {type(model).__name__}; it must return a torch.nn.Module")
    if weights is not None:
        _assign(model, weights)
    return Named(model, Preprocessing(256, 224), name if weights is None else Path(weights).name)


def _assign(model: nn.Module, weights: str | os.PathLike) -> None:
    """A file's weights for a network that is there already; names and shapes must be its own."""
    state = read_state(weights, as_written=True)
    wanted = model.state_dict()
    absent = [key for key in wanted if key.endswith("num_batches_tracked") and key not in state]
    assign_weights(model, {**state, **dict.fromkeys(absent, torch.tensor(0))}, str(weights))


def imagenet_names() -> tuple[str, ...]:
    """Names of ImageNet's classes in the order of torchvision's outputs."""
    return tuple(torchvision.models.ResNet50_Weights.DEFAULT.meta["categories"])


def read_names(path: str | os.PathLike) -> tuple[str, ...]:
    """Names of classes from a file: a line a class, in the order of the outputs.

    ILSVRC's ``n01440764 tench, Tinca tinca`` is read as ``tench``; any other line is a name as it stands.

    Raises:
        InputError: the file is absent or empty.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            f"{path}: cannot read the names of classes ({error}); give a text file, a line a class"
        ) from error
    if not lines:
        raise InputError(f"{path}: names no class; write one a line, in the order of the network's outputs")
    return tuple(_words(line) for line in lines)


def _words(line: str) -> str:
    first, _, rest = line.partition(" ")
    wordnet = len(first) == 9 and first[0] == "n" and first[1:].isdigit()
    return rest.split(",")[0].strip() if wordnet and rest else line


def class_number(given: int | str, names: Sequence[str], classes: int) -> int:
    """A class by its number, from 0, or by its name or a part of it that no other name has.

    Raises:
        InputError: there is none, or several.
    """
    text = str(given).strip()
    if text.lstrip("-").isdigit():
        if not 0 <= int(text) < classes:
            raise InputError(f"class {text}: this network has {classes} classes, counted from 0")
        return int(text)
    if not names:
        raise InputError(
            f"class {text!r}: nobody knows the names of this network's classes; give a number, or --classes FILE"
        )
    plain = [name.lower() for name in names]
    exact = [number for number, name in enumerate(plain) if name == text.lower()]
    found = exact or [number for number, name in enumerate(plain) if text.lower() in name]
    if len(found) == 1:
        return found[0]
    if found:
        some = ", ".join(f"{number} {names[number]}" for number in found[:6])
        more = f" and {len(found) - 6} more" if len(found) > 6 else ""
        raise InputError(
            f"class {text!r} is {'the name' if exact else 'in the names'} of several: {some}{more}; give the number"
        )
    raise InputError(f"class {text!r} is none of this network's{suggestion(text, names)}; give a name or a number")
