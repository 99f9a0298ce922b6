"""A model as a flat list of primitive operations, in order of execution, each with the names of its inputs.

``tracing.trace(model)`` makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from relmap.errors import InputError, nearest, suggestion
from relmap.network.affine import Affine


@dataclass(frozen=True)
class Operation:
    """One primitive operation.

    Attributes:
        name: unique in its graph.
        kind: ``input``; ``parameter`` (a constant: class token, position embedding; no inputs) and ``mask`` (computed
            from the input by comparisons; neither carries relevance); ``embedding``; ``conv, linear, batch_norm``;
            ``layer_norm`` (any norm by statistics of the image); ``relu, gelu``, ``activation`` (any other pointwise
            function), ``softmax``, ``log_softmax`` (of the logits, last of all); ``max_pool``, ``average_pool`` (also
            a mean over dimensions); ``add, multiply``, ``matmul`` (bilinear in its two inputs, its scale included),
            ``scale`` (times what is no part of the input); ``concatenate``; ``reshape`` (any rearrangement that is
            linear in its one input: view, permute, slice, expand, padding); ``identity``.
        inputs: names of the operations whose outputs it takes.
        affine: weight and bias of a conv, linear or batch norm, else None.
        run: the forward function of its inputs, and of the shapes of ``sizes`` after them.
        settings: what a rule must know beside the tensors: windows, dimensions; mean, std, gain and shift of a batch
            norm; of a layer norm ``parts`` (input less its mean, standard deviation and gain, as a function of the
            input), eps, weight and bias.
        sizes: names of the operations whose outputs' shapes ``run`` takes as further arguments.
        constants: names of operations whose outputs ``run`` takes between inputs and shapes, and which take no
            relevance: masks and other factors that the operation is not linear in together with its inputs.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    run: Callable[..., Tensor]
    affine: Affine | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    sizes: tuple[str, ...] = ()
    constants: tuple[str, ...] = ()

    def bound(self, outputs: Mapping[str, Tensor], shapes: Mapping[str, torch.Size]) -> Operation:
        """This operation as a function of its inputs alone, given earlier operations' outputs and shapes by name."""
        if not (self.sizes or self.constants):
            return self
        rest = [*[outputs[name] for name in self.constants], *[shapes[name] for name in self.sizes]]
        return replace(self, run=lambda *tensors: self.run(*tensors, *rest), sizes=(), constants=())


@dataclass(frozen=True)
class Guard:
    """What a model asked about shapes on its way, and the answer for which the graph holds.

    Attributes:
        names: of the operations whose outputs' shapes ``evaluate`` takes, by name.
        value: the answer. place: where in the model's code it was asked for.
    """

    names: tuple[str, ...]
    evaluate: Callable[[Mapping[str, torch.Size]], Any]
    value: Any
    place: str

    def holds(self, shapes: Mapping[str, torch.Size]) -> bool:
        """Whether these shapes give the same answer; so it is taken where not all are known."""
        return any(name not in shapes for name in self.names) or bool(self.evaluate(shapes) == self.value)


# So many names are read in a message; of more, those that are like the one that was given.
_LISTED = 60
# Kinds through which relevance does not travel: what their outputs hold is no part of the input.
CONSTANT_KINDS = frozenset({"parameter", "mask"})
_SIGN_KEEPING = frozenset(
    {"max_pool", "average_pool", "add", "concatenate", "reshape", "identity", "multiply", "matmul"}
)


def _keeps_sign(operation: Operation, non_negative: set[str]) -> bool:
    if operation.constants:
        return operation.settings.get("keeps_sign", non_negative.issuperset(operation.constants))
    return operation.inputs != () and operation.settings.get("keeps_sign", operation.kind in _SIGN_KEEPING)


@dataclass(frozen=True)
class Graph:
    """Operations in order of execution; the first is the input, the last one's output is the model's.

    It holds for inputs of shapes that keep its ``guards``. ``sizes``: (C, H, W) of images that it may take, the
    likeliest first; those of images that are seen come to them. ``feature_map``: name of the operation whose output the
    model calls its last feature map; empty where it does not say.
    """

    operations: tuple[Operation, ...]
    guards: tuple[Guard, ...] = ()
    sizes: list[tuple[int, ...]] = field(default_factory=list, compare=False)
    feature_map: str = ""
    _folded: dict[str, tuple[Operation, str] | None] = field(default_factory=dict, repr=False, compare=False)

    def __iter__(self) -> Iterator[Operation]:
        return iter(self.operations)

    @cached_property
    def _by_name(self) -> dict[str, Operation]:
        return {operation.name: operation for operation in self.operations}

    @cached_property
    def _consumers(self) -> dict[str, list[Operation]]:
        found: dict[str, list[Operation]] = {}
        for operation in self.operations:
            for name in dict.fromkeys(operation.inputs):
                found.setdefault(name, []).append(operation)
        return found

    def __getitem__(self, name: str) -> Operation:
        if name not in self._by_name:
            names = [operation.name for operation in self.operations if operation.kind != "input"]
            has = f"it has: {', '.join(names)}{suggestion(name, names)}"
            if len(names) > _LISTED:
                like = ", ".join(map(repr, nearest(name, names, 5, 0.0)))
                all_of_them = "[each.name for each in relmap.Propagator(model).graph]"
                has = f"the likest of its {len(names)} are {like}; all are {all_of_them}"
            raise InputError(f"layer {name!r} does not exist in this model; {has}")
        return self._by_name[name]

    @property
    def output(self) -> Operation:
        return self.operations[-1]

    def outputs(
        self, images: Tensor, before: Callable[[Operation, Sequence[Tensor]], None] | None = None
    ) -> Iterator[tuple[Operation, Tensor]]:
        """Run the graph: each operation with its output, in order; what no later one takes is let go.

        ``before`` sees an operation and its inputs before it runs.
        """
        last = {name: i for i, o in enumerate(self.operations) for name in (*o.inputs, *o.constants)}
        live: dict[str, Tensor] = {}
        shapes: dict[str, torch.Size] = {}
        for index, operation in enumerate(self.operations):
            inputs = [images] if operation.kind == "input" else [live[name] for name in operation.inputs]
            if before is not None:
                before(operation, inputs)
            result = live[operation.name] = operation.bound(live, shapes).run(*inputs)
            shapes[operation.name] = result.shape
            del inputs
            yield operation, result
            del result
            for name in {*operation.inputs, *operation.constants}:
                if last[name] == index:
                    del live[name]

    def consumers(self, name: str) -> list[Operation]:
        return list(self._consumers.get(name, ()))

    def users(self, name: str) -> list[Operation]:
        """The consumers, and those that read an output as a constant or its shape."""
        return [o for o in self.operations if name in (*o.inputs, *o.constants, *o.sizes)]

    def carriers(self) -> frozenset[str]:
        """Names of the operations that carry relevance: those that depend on the input through others that do.

        Parameters, what is made of them alone, and masks carry none.
        """
        return self._carriers

    @cached_property
    def _carriers(self) -> frozenset[str]:
        names: set[str] = set()
        for operation in self.operations:
            if operation.kind == "input" or (
                operation.kind not in CONSTANT_KINDS and any(name in names for name in operation.inputs)
            ):
                names.add(operation.name)
        return frozenset(names)

    def folded(self, name: str) -> tuple[Operation, str] | None:
        """A convolution or linear layer and the batch norm after it as one operation, and the batch norm's name.

        ``g (W x + b - m) / s + c`` is one affine layer with weight ``g W / s``. None where the layer's only consumer is
        not a batch norm. Made once, so that the weights derived from the folded ones are kept with them.
        """
        if name not in self._folded:
            self._folded[name] = self._fold(self[name])
        return self._folded[name]

    def _fold(self, operation: Operation) -> tuple[Operation, str] | None:
        users = self.consumers(operation.name)
        if operation.kind not in ("conv", "linear") or [user.kind for user in users] != ["batch_norm"]:
            return None
        affine = operation.affine.scaled(users[0].affine)
        return replace(operation, run=affine.forward, affine=affine), users[0].name

    def non_negative(self) -> frozenset[str]:
        """Names of operations whose outputs cannot be negative, whatever the input.

        Of pointwise functions and constants, ``settings["non_negative"]`` says so.
        """
        names: set[str] = set()
        for operation in self.operations:
            if (
                operation.kind in ("relu", "softmax")
                or operation.settings.get("non_negative", False)
                or (_keeps_sign(operation, names) and all(name in names for name in operation.inputs))
            ):
                names.add(operation.name)
        return frozenset(names)

    def behind(self, name: str) -> frozenset[str]:
        """Names of the operations that this one depends on, and its own."""
        found, waiting = set(), [name]
        while waiting:
            name = waiting.pop()
            if name not in found:
                found.add(name)
                waiting.extend(self[name].inputs)
        return frozenset(found)

    def adds_constant(self, operation: Operation) -> bool:
        """Whether this adds to what depends on the input something that does not: no two ways meet in it."""
        carriers = self.carriers()
        return operation.kind == "add" and sum(name in carriers for name in operation.inputs) == 1

    def preprocessing(self) -> frozenset[str]:
        """Names of the operations that treat the input before any layer: rearranging, scaling, adding numbers."""
        carriers, seen = self.carriers(), {self.operations[0].name}
        for operation in self.operations[1:]:
            ways = [name for name in operation.inputs if name in carriers]
            kinds = ("reshape", "identity", "scale", "concatenate") + (("add",) if len(ways) == 1 else ())
            if operation.kind in kinds and ways and seen.issuperset(ways):
                seen.add(operation.name)
        return frozenset(seen) - {self.operations[0].name}

    def first_affine(self) -> frozenset[str]:
        """Names of the convolutions and linear layers that see the model's input itself, perhaps preprocessed."""
        seen = self.preprocessing() | {self.operations[0].name}
        return frozenset(
            operation.name
            for operation in self.operations
            if operation.kind in ("conv", "linear") and seen.issuperset(operation.inputs)
        )

    @cached_property
    def class_layers(self) -> frozenset[str]:
        """Names of the convolutions and linear layers whose outputs are the classes; several where heads are added."""
        found, waiting = set(), [self.output.name]
        while waiting:
            operation = self[waiting.pop()]
            if operation.kind in ("conv", "linear"):
                found.add(operation.name)
            elif operation.kind not in ("input", "embedding", "layer_norm", "matmul", "multiply", "max_pool"):
                waiting.extend(name for name in operation.inputs if name in self.carriers())
        return frozenset(found)

    @property
    def class_layer(self) -> Operation:
        """The one convolution or linear layer whose outputs are the classes.

        Raises:
            InputError: the classes come from none, or from several.
        """
        if len(self.class_layers) != 1:
            raise InputError(
                f"the logits come from {', '.join(sorted(self.class_layers)) or 'no layer of weights'}, not from one "
                "convolution or linear layer of the classes, which this method needs"
            )
        return self[next(iter(self.class_layers))]

    @cached_property
    def dominators(self) -> dict[str, str]:
        """Of each operation, the nearest one that every way from the input to it crosses (its immediate dominator)."""
        first = self.operations[0].name
        carriers = self.carriers()
        depth, nearest = {first: 0}, {first: first}
        for operation in self.operations[1:]:
            if operation.name not in carriers:
                continue
            meet, *ways = [name for name in operation.inputs if name in carriers]
            for way in ways:
                while meet != way:
                    if depth[meet] >= depth[way]:
                        meet = nearest[meet]
                    else:
                        way = nearest[way]
            nearest[operation.name], depth[operation.name] = meet, depth[meet] + 1
        return nearest

    def between(self, source: str, name: str) -> frozenset[str]:
        """Operations on the ways from ``source`` to ``name``: the latter is one of them, the former not."""
        carriers, found, waiting = self.carriers(), set(), [name]
        while waiting:
            name = waiting.pop()
            if name != source and name not in found and name in carriers:
                found.add(name)
                waiting.extend(self[name].inputs)
        return frozenset(found)

    def activation_of(self, layer: str) -> str:
        """Name of the operation that gives a layer's features.

        For a convolution or linear layer this is the ReLU or other activation that follows it (through a batch norm),
        for a block (``layer1.0``) its last operation.

        Raises:
            InputError: no operation or block has this name.
        """
        inside = [operation.name for operation in self.operations if operation.name.startswith(layer + ".")]
        if inside:
            return inside[-1]
        name = self[layer].name
        while True:
            users = self.consumers(name)
            if len(users) != 1 or users[0].kind not in ("batch_norm", "relu", "gelu", "activation"):
                return name
            name = users[0].name
            if users[0].kind != "batch_norm":
                return name
