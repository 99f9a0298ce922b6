"""Several methods on the same images, one after the other, each with its time and what there is to say of it."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from relmap.catalogue.methods import CATALOGUE, Method, find
from relmap.data.images import Preprocessing
from relmap.data.photographs import find_photographs, read_photograph, short_names
from relmap.errors import InputError, RelevanceWarning
from relmap.explainers.base import Explainer, SharedPass, as_maps
from relmap.explainers.building import as_propagator, build
from relmap.explainers.soundness import check_classes, warn_of_growth, warn_of_noise
from relmap.explanation import checked, classes, explained, model_input
from relmap.inspection.comparison import admitted
from relmap.inspection.explanations import Explanation, MethodMaps
from relmap.inspection.leakage import conservation
from relmap.job.device import choose_device
from relmap.job.memory import as_memory_bears
from relmap.models.named import class_number, imagenet_names, network_named, read_names
from relmap.network import Operation
from relmap.network.score_maps import pooled_scores
from relmap.propagation import Propagator

# One of each family. By docs/networks.md those of the first eight that propagate relevance keep its total on plain
# convolutional networks, and none explodes on any; the others stand in where a network, such as a vision transformer,
# has no last feature map.
PREFERRED = (
    *("saliency", "integrated_gradients", "grad_cam", "excitation_backprop"),
    *("lrp_alpha1_beta0", "sglrp", "attribution_equilibrium", "abslrp"),
    *("attention_rollout", "tibav", "input_x_gradient", "smoothgrad"),
)
COUNT = 8
LEAKING = 0.5
"""Part of its start that a map must have lost, or gained, before a line is said of it."""
SURE = 5
"""How many of the classes that the network is surest of are kept."""

Progress = Callable[[str], None]


def default_methods(propagator: Propagator) -> tuple[str, ...]:
    """Eight methods that a network admits, in the catalogue's order."""
    chosen = admitted(propagator.graph, PREFERRED)[:COUNT]
    return tuple(name for name in CATALOGUE if name in chosen)


def explanation_of(
    model: nn.Module | Propagator | str,
    images: Tensor | str | os.PathLike | Sequence[str | os.PathLike],
    targets: Tensor | Sequence[int | str] | int | str | None = None,
    methods: Sequence[str | Method] | str | None = None,
    *,
    weights: str | os.PathLike | None = None,
    class_names: Sequence[str] | str | os.PathLike | None = None,
    preprocessing: Preprocessing | Callable[[Preprocessing], Preprocessing] | None = None,
    device: str = "auto",
    batch_size: int = 4,
    progress: Progress = lambda step: None,
    strict: bool = False,
) -> Explanation:
    """See ``Explanation.of``.

    Args:
        preprocessing: also a change of what the published weights take.
        progress: is called with the method's label after each batch.
        strict: let the errors of a method end everything.
    """
    if not isinstance(images, Tensor):  # before any weights are fetched
        images = find_photographs([images] if isinstance(images, str | os.PathLike) else images)
    name, origin = (model, "") if isinstance(model, str) else (_class_of(model), "given")
    if isinstance(model, str):
        named = network_named(model, weights, preprocessing)
        preprocessing, origin = named.preprocessing, named.weights
        class_names = class_names or named.class_names or None
        model = named.model.to(choose_device(device))
    if preprocessing is None or callable(preprocessing):
        preprocessing = (preprocessing or _same)(Preprocessing(256, 224))
    shown = _seen(images, preprocessing)
    propagator = as_propagator(model, shown.images)
    shown = replace(shown, images=model_input(propagator, shown.images))
    logits = _logits(propagator, shown.images, batch_size)
    names = _names(class_names, logits.shape[1])
    chosen = explained(logits, _targets(targets, len(shown.images), names, logits.shape[1]))
    rows = [find(each) for each in _listed(methods, propagator)]
    probabilities = logits.double().softmax(1)
    sure, predicted = probabilities.topk(min(SURE, logits.shape[1]), dim=1)
    return Explanation(
        model=name,
        images=shown.names,
        targets=chosen.numpy(),
        methods={row.id: _made(propagator, row, shown.images, chosen, batch_size, progress, strict) for row in rows},
        pictures=shown.pictures,
        predicted=predicted.numpy(),
        probabilities=sure.numpy(),
        target_probabilities=probabilities.gather(1, chosen).numpy(),
        sizes=shown.sizes,
        class_names=names,
        preprocessing=shown.preprocessing,
        weights=origin,
        device=str(propagator.device),
    )


def _same(preprocessing: Preprocessing) -> Preprocessing:
    return preprocessing


@dataclass(frozen=True)
class _Seen:
    """Images (N, C, H, W) as the network takes them, and what ``Explanation`` keeps of them."""

    images: Tensor
    names: tuple[str, ...]
    pictures: np.ndarray
    sizes: np.ndarray
    preprocessing: dict


def _seen(images: Tensor | Sequence[Path], preprocessing: Preprocessing) -> _Seen:
    if isinstance(images, Tensor):
        if images.dim() != 4 or not len(images):
            raise InputError(f"images have shape {tuple(images.shape)}; give (N, C, H, W), at least one")
        names = tuple(f"image {number}" for number in range(len(images)))
        return _Seen(images, names, _pictures(images), np.tile(images.shape[2:], (len(images), 1)), {})
    if preprocessing.fit == "aspect":
        raise InputError("preprocessing: the fit aspect leaves photographs in several sizes; choose crop or squash")
    found = [read_photograph(path, preprocessing) for path in images]
    pictures = np.stack([picture for picture, _ in found])
    pixels = torch.from_numpy(pictures).permute(0, 3, 1, 2)
    sizes = np.array([size for _, size in found], dtype=np.int64)
    return _Seen(preprocessing.normalise(pixels), short_names(images), pictures, sizes, preprocessing.to_dict())


def _pictures(images: Tensor) -> np.ndarray:
    """Normalised images as pictures, each from its least to its largest value; grey without three colours."""
    colours = images if images.shape[1] == 3 else images.mean(1, keepdim=True).expand(-1, 3, -1, -1)
    low, high = colours.amin((1, 2, 3), keepdim=True), colours.amax((1, 2, 3), keepdim=True)
    level = (colours - low) / (high - low).clamp(min=1e-12)
    return (255 * level.double()).round().byte().permute(0, 2, 3, 1).contiguous().cpu().numpy()


def _class_of(model: nn.Module | Propagator) -> str:
    """The name of a network's class; of a propagator that was made of a graph, nobody knows it."""
    plain = model.model if isinstance(model, Propagator) else model
    return "graph" if plain is None else type(plain).__name__


@torch.no_grad()
def _logits(propagator: Propagator, images: Tensor, batch_size: int) -> Tensor:
    """(N, C) scores on the CPU.

    Raises:
        InputError: the model's output is none of scores, or not finite.
    """
    found = []
    for batch in images.split(batch_size):
        logits = propagator.forward(batch.to(propagator.device)).logits
        if logits.dim() < 2:
            raise InputError(f"the model's output has shape {tuple(logits.shape)}, not (N, C): a score for each class")
        found.append(pooled_scores(logits).cpu())
    logits = torch.cat(found)
    if not bool(logits.isfinite().all()):
        raise InputError(
            "the model gives NaN or infinity for some images: it predicts no class; are its weights whole?"
        )
    return logits


def _names(given: Sequence[str] | str | os.PathLike | None, count: int) -> tuple[str, ...]:
    if given is None:
        return imagenet_names() if count == 1000 else ()
    names = read_names(given) if isinstance(given, str | os.PathLike) else tuple(given)
    if len(names) != count:
        raise InputError(
            f"{len(names)} names of classes are given, and the network has {count} outputs; give one for each"
        )
    return names


def _targets(
    given: Tensor | Sequence[int | str] | int | str | None, images: int, names: Sequence[str], count: int
) -> Tensor | None:
    """(N, K), or None for the predicted classes. Names and plain numbers hold for every image."""
    if given is None:
        return None
    if isinstance(given, Tensor):
        return classes(given, images)
    every = [given] if isinstance(given, str | int) else list(given)
    numbers = [class_number(each, names, count) for each in every]
    return torch.tensor(list(dict.fromkeys(numbers))).expand(images, -1)


def _listed(methods: Sequence[str | Method] | str | None, propagator: Propagator) -> Sequence[str | Method]:
    if methods is None:
        return default_methods(propagator)
    return [methods] if isinstance(methods, str | Method) else list(dict.fromkeys(methods))


def _made(
    propagator: Propagator,
    row: Method,
    images: Tensor,
    targets: Tensor,
    batch_size: int,
    progress: Progress,
    strict: bool,
) -> MethodMaps:
    """The maps of one method. What it raises becomes a line, so that the others can go on."""
    maps: list[Tensor] = []
    leaks: list[Tensor] = []
    begin = time.perf_counter()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore")
        warnings.simplefilter("always", RelevanceWarning)
        try:
            warn_of_noise(row, propagator.graph)
            explainer = build(propagator, row)

            def make(batch: slice) -> tuple[Tensor, Tensor | None]:
                return _of_batch(propagator, explainer, row, images[batch].to(propagator.device), targets[batch])

            for found, leak in as_memory_bears(len(images), batch_size, make):
                maps.append(found)
                leaks += [] if leak is None else [leak]
                progress(row.label)
        except Exception as error:
            if strict:
                raise
            reason = (_line(row, _reason(error)),)
            return MethodMaps(row.id, row.label, row.citation, row.signed, time.perf_counter() - begin, reason)
    seconds = time.perf_counter() - begin
    whole = torch.cat(maps)
    leak = torch.cat(leaks) if leaks else None
    said = list(dict.fromkeys(_line(row, str(warning.message)) for warning in caught))
    said += _unsound(whole)
    whole = whole.masked_fill(~whole.isfinite().flatten(2).all(2)[..., None, None], torch.nan)
    if leak is not None and not said:
        said += _leaking(propagator, row, images, targets, leak)
    kept = None if leak is None else leak.numpy()
    return MethodMaps(row.id, row.label, row.citation, row.signed, seconds, tuple(said), whole.numpy(), kept)


def _reason(error: Exception) -> str:
    """Why a method made no maps, in words."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
        return "memory is not enough: explain fewer images at a time (--batch-size, batch_size=), or smaller ones"
    return f"{type(error).__name__}: {error}"


def _of_batch(
    propagator: Propagator, explainer: Explainer, row: Method, images: Tensor, targets: Tensor
) -> tuple[Tensor, Tensor | None]:
    """Maps (N, K, H, W), and leaks (N, K) or None, on the CPU; as ``relmap.explain`` makes them."""
    targets = targets.to(images.device)
    if not isinstance(explainer, SharedPass):
        return checked(explainer(images, targets), targets, images, row.id).cpu(), None
    begun: list[tuple[str, Tensor]] = []

    def observe(operation: Operation, relevance: Tensor, parts: tuple[Tensor, ...]) -> None:
        if not begun or operation.name == begun[0][0]:  # a pass begins
            begun.append((operation.name, relevance))

    activations = propagator.forward(images, explainer.walks, explainer.keep)
    check_classes(row, activations.logits)
    by_target = targets.T
    watched = activations
    if explainer.conserving:
        watched = replace(activations, observers={explainer.walks[-1]: observe})
    relevance = explainer.read(watched, by_target)
    maps = as_maps(relevance, images.shape).transpose(0, 1)
    warn_of_growth(row, explainer, activations, by_target, maps)
    maps = checked(maps, targets, images, row.id).cpu()
    if len(begun) != 1:  # what several passes promise together, their starts do not tell
        return maps, None
    start = begun[0][1].double().flatten(2)
    gone = relevance.double().flatten(2).sum(2) - start.sum(2)
    return maps, (gone.abs() / start.abs().sum(2).clamp(min=1e-300)).T.cpu()


def _unsound(maps: Tensor) -> list[str]:
    """Lines about maps (N, K, H, W) that are not finite, or 0 everywhere."""
    flat = maps.flatten(2)
    broken, empty = ~flat.isfinite().all(2), ~flat.any(2)
    lines = []
    if bool(broken.any()):
        lines.append(
            f"{int(broken.sum())} of {broken.numel()} maps hold NaN or infinity: sums outgrow the type, or a share is "
            "divided by 0; choose another method for this network"
        )
    if bool(empty.any()):
        lines.append(
            f"{int(empty.sum())} of {empty.numel()} maps are 0 everywhere: nothing speaks for the class by this "
            "method, or no relevance arrives"
        )
    return lines


def _leaking(propagator: Propagator, row: Method, images: Tensor, targets: Tensor, leak: Tensor) -> list[str]:
    """A line about maps that have lost or gained much of what they start from, with the operation where most goes."""
    largest = float(leak.nan_to_num(nan=0).max())
    if largest <= LEAKING:
        return []
    image = int(leak.nan_to_num(nan=0).amax(1).argmax())
    steps = conservation(propagator, images[image : image + 1], targets[image, :1], row)
    most = steps.loc[steps["leak"].abs().idxmax()]
    return [
        f"the total at the image differs from the start's by {largest:.2g} times its absolute sum; most at "
        f"{most['operation']!r} ({most['kind']}). Biases and norms take relevance up, and rules without a law of "
        "totals make it: what the map says is where, not how much"
    ]


def _line(row: Method, text: str) -> str:
    """What is said, on one line, without the method's name, which stands before it."""
    return " ".join(text.split()).removeprefix(f"method {row.id!r}").lstrip(": ")


def told_of_maps(maps: Mapping[str, Tensor], images: Tensor) -> Explanation:
    """An explanation of maps whose network and classes nobody tells: pictures, and maps by method.

    Args:
        maps: method -> (N, H, W) or (N, K, H, W), as ``relmap.compare`` gives them.
        images: (N, C, H, W).

    Raises:
        InputError: shapes do not agree, or there is no map.
    """
    shown = _seen(images, Preprocessing(256, 224))
    every = {name: each[:, None] if each.dim() == 3 else each for name, each in maps.items()}
    for name, each in every.items():
        if each.dim() != 4 or len(each) != len(images) or each.shape[2:] != images.shape[2:]:
            raise InputError(
                f"maps of {name!r} have shape {tuple(maps[name].shape)}, which does not fit images "
                f"{tuple(images.shape)}; give (N, H, W) or (N, K, H, W)"
            )
    if not every or len({each.shape[1] for each in every.values()}) > 1:
        raise InputError("maps: give some, of the same number of classes each")
    count = next(iter(every.values())).shape[1]
    kept = {}
    for name, each in every.items():
        row = CATALOGUE.get(name, Method(name, name, "", ""))
        signed = row.signed and bool((each < 0).any())
        values = each.detach().cpu().numpy()
        kept[name] = MethodMaps(
            row.id, row.label, row.citation, signed, float("nan"), tuple(_unsound(each.cpu())), values
        )
    return Explanation(
        model="",
        images=shown.names,
        targets=np.tile(np.arange(count), (len(images), 1)),
        methods=kept,
        pictures=shown.pictures,
        predicted=np.zeros((len(images), 0), dtype=np.int64),
        probabilities=np.zeros((len(images), 0)),
        target_probabilities=np.full((len(images), count), np.nan),
        sizes=shown.sizes,
    )
