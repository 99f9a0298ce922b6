"""Forward once, propagate relevance backwards as often as needed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.propagation.composites import Composite
from relmap.propagation.graph import Graph, fold_batch_norm, trace
from relmap.propagation.rules.base import Record, Rule

Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Activations:
    """What one forward pass kept.

    Attributes:
        logits: the model's output, (N, C).
        outputs: output of every operation that was asked for or that a rule needs, by name.
        shapes: shape of every operation's output, by name.
    """

    logits: Tensor
    outputs: Mapping[str, Tensor]
    shapes: Mapping[str, torch.Size]


@dataclass(frozen=True)
class Propagation:
    """Result of one backward pass.

    Attributes:
        relevance: at the operation where the pass stopped (the input by default), (K, N, ...).
        captured: relevance at the output of each operation that was asked for, (K, N, ...), after its transform.
    """

    relevance: Tensor
    captured: Mapping[str, Tensor]


class Propagator:
    """Propagates relevance through one model by one method.

    The model is traced once; its parameters are read, never changed. Several starts share one forward pass.

    Attributes:
        graph: the operations that relevance walks through.
        rules: the rule of each operation by name.
        needed: names of the operations whose outputs the rules need. A forward pass that keeps those of several methods
            serves all of them, where they share a graph.

    Example:
        >>> propagator = Propagator(model, composites.alpha_beta(1, 0))
        >>> activations = propagator.forward(images)
        >>> start = starts.one_hot(activations.logits, targets)
        >>> maps = propagator.propagate(activations, start[None]).relevance[0].sum(1)
    """

    def __init__(self, model: nn.Module, composite: Composite, graph: Graph | None = None) -> None:
        graph = trace(model) if graph is None else graph
        self.graph = fold_batch_norm(graph) if composite.fold_batch_norm else graph
        self.rules: dict[str, Rule] = composite.rules(self.graph)
        self.needed = self._needed_outputs()

    def _needed_outputs(self) -> frozenset[str]:
        names: set[str] = set()
        for operation in self.graph:
            rule = self.rules.get(operation.name)
            if rule is not None and rule.needs_inputs:
                names.update(operation.inputs)
            if rule is not None and rule.needs_output:
                names.add(operation.name)
        return frozenset(names)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(operation.affine.weight.device for operation in self.graph if operation.affine is not None)

    @torch.no_grad()
    def forward(self, images: Tensor, keep: Iterable[str] = (), until: str | None = None) -> Activations:
        """Run the model.

        Args:
            images: (N, C, H, W).
            keep: names of operations whose outputs to keep beside those that rules need.
            until: stop after this operation and keep only what ``keep`` names; ``logits`` is then its output.
        """
        keep = set(keep)
        for name in keep if until is None else {*keep, until}:
            self.graph[name]
        wanted = keep if until is not None else keep | self.needed
        last_use = {name: index for index, operation in enumerate(self.graph) for name in operation.inputs}
        if images.dim() == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        live: dict[str, Tensor] = {}
        shapes: dict[str, torch.Size] = {}
        for index, operation in enumerate(self.graph):
            live[operation.name] = operation.run(
                *([images] if operation.kind == "input" else [live[name] for name in operation.inputs])
            )
            shapes[operation.name] = live[operation.name].shape
            result = live[operation.name]
            if operation.name == until:
                break
            for name in operation.inputs:
                if last_use[name] == index and name not in wanted:
                    live.pop(name, None)
        outputs = {name: value for name, value in live.items() if name in wanted}
        return Activations(result, outputs, shapes)

    @torch.no_grad()
    def propagate(
        self,
        activations: Activations,
        start: Tensor,
        *,
        stop: str = "input",
        capture: Iterable[str] = (),
        transforms: Mapping[str, Transform] | None = None,
    ) -> Propagation:
        """Propagate K starts backwards.

        Args:
            activations: of a forward pass of N images by this propagator.
            start: relevance of the logits, (K, N, C).
            stop: name of the operation at whose output to stop.
            capture: names of operations whose relevance to keep on the way.
            transforms: operation name -> function of the relevance (K, N, ...) at its output, applied when all of it
                has arrived and before it travels on.

        Raises:
            InputError: a name is not an operation of this model, or shapes do not agree.
        """
        transforms = transforms or {}
        capture = set(capture)
        for name in {stop, *capture, *transforms}:
            self.graph[name]
        if start.dim() != activations.logits.dim() + 1 or start.shape[1:] != activations.logits.shape:
            expected = ("K", *activations.logits.shape)
            raise InputError(f"the start has shape {tuple(start.shape)}, expected {expected}: one relevance per logit")
        pending: dict[str, Tensor] = {self.graph.output.name: start}
        captured: dict[str, Tensor] = {}
        for operation in reversed(self.graph.operations):
            relevance = pending.pop(operation.name, None)
            if relevance is None:
                continue
            if operation.name in transforms:
                relevance = transforms[operation.name](relevance)
            if operation.name in capture:
                captured[operation.name] = relevance
            if operation.name == stop:
                return Propagation(relevance, captured)
            parts = self.rules[operation.name](self._record(operation, activations), relevance)
            for name, part in zip(operation.inputs, parts, strict=True):
                pending[name] = pending[name] + part if name in pending else part
        raise InputError(f"no relevance reaches {stop!r}")

    def _record(self, operation, activations: Activations) -> Record:
        rule = self.rules[operation.name]
        inputs = tuple(activations.outputs[name] if rule.needs_inputs else None for name in operation.inputs)
        output = activations.outputs[operation.name] if rule.needs_output else None
        return Record(operation, inputs, output, tuple(activations.shapes[name] for name in operation.inputs))
