r"""Where relevance leaks: what each operation receives and passes on.

.. math:: \text{leak} = \sum_j R_j - \sum_i R_i

Biases in denominators absorb relevance, uniform shifts and rules without a conservation law make or destroy it,
constants of the model (position embeddings, class tokens) keep what they are sent.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn

from relmap.catalogue.methods import Method, find
from relmap.errors import InputError
from relmap.explainers.base import SharedPass
from relmap.explainers.building import as_propagator, build
from relmap.explanation import classes, explained, model_input
from relmap.network import Operation
from relmap.propagation import Propagator


def conserves(model: nn.Module | Propagator, method: str | Method) -> bool:
    """Whether a method walks through the network, so that ``conservation`` can watch it."""
    explainer = build(model, method)
    return isinstance(explainer, SharedPass) and explainer.walks != ()


COLUMNS = ("operation", "kind", "rule", "received", "magnitude", "passed_on", "to_constants", "leak", "leak_share")


def conservation(
    model: nn.Module | Propagator,
    images: Tensor,
    targets: Tensor | None = None,
    method: str | Method = "abslrp",
    **parameters: Any,
) -> pd.DataFrame:
    """What relevance does at each operation, from the output to the input, as means over images.

    Args:
        model, images, targets, method, parameters: as in ``relmap.explain``; one target for each image.

    Returns:
        One row per operation: relevance ``received`` at its output and the absolute sum of that, ``magnitude``;
        ``passed_on`` to its inputs and, of that, ``to_constants``; ``leak = received - passed_on``; ``leak_share``, the
        mean of ``|leak|`` over the images, each relative to its magnitude.
    """
    propagator = as_propagator(model, images)
    explainer = build(propagator, method, **parameters)
    if not isinstance(explainer, SharedPass) or explainer.walks == ():
        raise InputError(f"method {find(method).id!r} propagates nothing, so nothing can leak; choose another")
    images = model_input(propagator, images).to(propagator.device)
    logits = propagator.forward(images).logits
    chosen = explained(logits, None if targets is None else classes(targets, len(images)))
    # What constants are sent is summed over the images that share them.
    step = 1 if any(each.kind == "parameter" for each in propagator.graph) else len(images)
    passes = [
        _steps(propagator, explainer, batch, wanted)
        for batch, wanted in zip(images.split(step), chosen.split(step), strict=True)
    ]
    first = passes[0]
    if len(passes) > 1:
        numbers = list(COLUMNS[3:])
        first[numbers] = sum(each[numbers] for each in passes) / len(passes)
    return first


def _steps(propagator: Propagator, explainer: SharedPass, images: Tensor, targets: Tensor) -> pd.DataFrame:
    """The rows of images that go through the network together, with targets (N, 1)."""
    rows: list[dict[str, Any]] = []
    walk = explainer.walks[-1]

    def observe(operation: Operation, relevance: Tensor, parts: tuple[Tensor, ...]) -> None:
        def per_image(tensor: Tensor) -> Tensor:
            return tensor.double().flatten(2).sum(2)

        received = per_image(relevance)
        sums = [per_image(part) for part in parts]
        passed = torch.stack(sums).sum(0)
        kinds = [propagator.graph[name].kind for name in operation.inputs]
        constant = [total for kind, total in zip(kinds, sums, strict=True) if kind == "parameter"]
        leak = received - passed
        scale = relevance.double().abs().flatten(2).sum(2)
        rows.append(
            {
                "operation": operation.name,
                "kind": operation.kind,
                "rule": type(walk.steps[operation.name].rule).__name__,
                "received": received.mean().item(),
                "magnitude": scale.mean().item(),
                "passed_on": passed.mean().item(),
                "to_constants": torch.stack(constant).sum(0).mean().item() if constant else 0.0,
                "leak": leak.mean().item(),
                "leak_share": (leak.abs() / scale.clamp(min=torch.finfo(scale.dtype).tiny)).mean().item(),
            }
        )

    activations = propagator.forward(images, explainer.walks, explainer.keep)
    explainer.read(replace(activations, observers={walk: observe}), targets.T)
    return pd.DataFrame(rows, columns=COLUMNS)
