"""Reading the vectors of tests/reference/nam: maps, captured relevance and the sums of each layer."""

from collections.abc import Callable

import numpy as np
import torch
from reference_nets import inputs, network
from relmap.explainers.base import Explainer
from relmap.propagation import Propagator
from torch import Tensor

TARGETS = ("label", "other")
# torchvision uses one ReLU of a block three times; their networks have three.
RELUS = {"relu1": "relu", "relu2": "relu_1", "relu3": "relu_2"}


def error(ours: Tensor, theirs: np.ndarray | Tensor) -> float:
    """Largest relative L2 error of an image: (N, ...) twice."""
    ours, theirs = ours.double(), torch.as_tensor(theirs).double()
    return ((ours - theirs).flatten(1).norm(dim=1) / theirs.flatten(1).norm(dim=1)).max().item()


def explained(
    architecture: str, make: Callable[[Propagator], Explainer], dtype: torch.dtype = torch.float64, count: int = 8
) -> Tensor:
    """Maps (2, N, 3, 64, 64) of the label and the class after it for the first ``count`` images."""
    images, targets = inputs(dtype)
    explainer = make(Propagator(network(architecture, dtype)))
    activations = explainer.walks[0].propagator.forward(images[:count], explainer.walks, explainer.keep)
    return explainer.read(activations, targets[:, :count])


def map_errors(maps: Tensor, vectors: dict[str, np.ndarray]) -> list[float]:
    count = maps.shape[1]
    return [error(maps[i].sum(1), vectors[f"map_{name}_sum"][:count]) for i, name in enumerate(TARGETS)]


def observed(propagate: Callable, transformed: dict[str, str]) -> dict[str, Tensor]:
    """Relevance at the input of each operation by the name it has in the vectors.

    ``propagate`` takes ``capture`` and ``observe``. ``transformed``: name of a block -> operation before it.
    """
    found: dict[str, Tensor] = {}
    result = propagate(
        capture=set(transformed.values()),
        observe=lambda operation, relevance, parts: found.__setitem__(operation.name, parts[0]),
    )
    return found | {name: result.captured[before] for name, before in transformed.items() if before in result.captured}


def blocks(graph, names: np.ndarray) -> dict[str, str]:
    """Name of each residual block among ``names`` -> the operation at its input."""
    known = {operation.name for operation in graph}
    heads = {
        n.removesuffix(".clone")
        for n in names
        if n.startswith("layer") and f"{n.removesuffix('.clone')}.conv1" in known
    }
    return {head: graph[f"{head}.conv1"].inputs[0] for head in heads}


def sum_errors(
    found: dict[str, Tensor], vectors: dict[str, np.ndarray], skip: tuple[str, ...] = ()
) -> dict[str, float]:
    """Largest error of sum, positive and negative sum per layer, relative to the largest of the three."""
    errors: dict[str, float] = {}
    for index, name in enumerate(str(n) for n in vectors["sum_names"]):
        head, _, last = name.rpartition(".")
        ours = name.removesuffix(".clone") if last not in RELUS else f"{head}.{RELUS[last]}"
        if ours not in found or any(part in name for part in skip):
            continue
        r = found[ours].flatten(2)
        sums = torch.stack([r.sum(2), r.clamp(min=0).sum(2), r.clamp(max=0).sum(2)], 2)
        theirs = torch.stack([torch.as_tensor(vectors[f"sums_{t}"][:, index]) for t in TARGETS])
        scale = theirs.abs().amax(2, keepdim=True)
        errors[name] = ((sums.double() - theirs).abs() / scale).max().item()
    return errors


def captured_errors(found: dict[str, Tensor], vectors: dict[str, np.ndarray]) -> dict[str, float]:
    """Errors of ``rel_at_input_of_*`` of image 0, label; of large ones the channel sum is stored."""
    errors: dict[str, float] = {}
    for key in vectors:
        if not key.startswith("rel_at_input_of_"):
            continue
        name = key.removeprefix("rel_at_input_of_").removesuffix("_sum").removesuffix("_0")
        name = name.replace("features_", "features.")
        name = f"{name}.0" if name.startswith("layer") else name
        ours = found[name][0, :1]
        errors[name] = error(ours.sum(1) if key.endswith("_sum") else ours, vectors[key])
    return errors
