"""Forward once, propagate relevance backwards as often as needed, by as many methods as wanted."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.network.affine import Convolution, Dense
from relmap.network.copied import LOW_PRECISION
from relmap.network.fidelity import Fingerprint, check_output, fingerprint
from relmap.network.graph import Graph, Operation
from relmap.network.image_axis import images_stay_first, may_move_images, with_images_first
from relmap.network.tracing import trace
from relmap.propagation.composites import Composite
from relmap.propagation.rules import Pass, Record, Rule

Transform = Callable[[Tensor], Tensor]
Observer = Callable[[Operation, Tensor, tuple[Tensor, ...]], None]


@dataclass(frozen=True)
class Activations:
    """What one forward pass kept.

    Attributes:
        logits: the model's output, (N, C); (N, C, h, w) of a fully convolutional one.
        outputs: output of every operation that was asked for or that a rule needs, by name.
        shapes: shape of every operation's output, by name.
        observers: walk -> what watches each of its steps from here.
    """

    logits: Tensor
    outputs: Mapping[str, Tensor]
    shapes: Mapping[str, torch.Size]
    observers: Mapping[Walk, Observer] = field(default_factory=dict)
    _passes: dict[Hashable, tuple[Tensor, Tensor]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def once(self, key: Hashable, targets: Tensor, propagate: Callable[[], Tensor]) -> Tensor:
        """The relevance of a backward pass that several methods read their maps off; the first that asks makes it.

        Those that share it give the same tensor of targets, not only equal ones: to compare them would wait for the
        device. It lives as long as this forward pass's outputs, and nobody writes to it.
        """
        if key not in self._passes or self._passes[key][0] is not targets:
            self._passes[key] = (targets, propagate())
        return self._passes[key][1]


@dataclass(frozen=True)
class Propagation:
    """Result of one backward pass.

    Attributes:
        relevance: at the operation where the pass stopped (the input by default), (K, N, ...).
        captured: relevance at the output of each operation that was asked for, (K, N, ...), after its transform.
    """

    relevance: Tensor
    captured: Mapping[str, Tensor]


def _without_autocast(method: Callable) -> Callable:
    """Compute in the tensors' own types also where the caller has autocast on: relevance needs its digits."""

    @wraps(method)
    def wrapped(self: Any, images: Any, *args: Any, **kwargs: Any) -> Any:
        device = self.device.type
        with nullcontext() if device == "meta" else torch.autocast(device, enabled=False):
            return method(self, images, *args, **kwargs)

    return wrapped


def _names(names: Iterable[str]) -> set[str]:
    return {names} if isinstance(names, str) else set(names)


def _cure(shape: tuple[int, ...], width: int) -> str:
    """What makes a tensor of this shape one of (N, width, H, W), in words."""
    if len(shape) == 3 and shape[0] == width:
        return "give one image as images[None]"
    if shape[-1:] == (width,) and len(shape) in (3, 4):
        return "the channels come last: give images.permute" + (
            "(0, 3, 1, 2)" if len(shape) == 4 else "(2, 0, 1)[None]"
        )
    return f"give images of {width} channels"


def _check_fit(operation: Operation, inputs: Sequence[Tensor]) -> None:
    """Refuse what torch would refuse without a name, or take for one image without a batch."""
    affine, name = operation.affine, operation.name
    if not isinstance(affine, Convolution | Dense):
        return
    (x,) = inputs
    shape = tuple(x.shape)
    width = affine.inputs
    if isinstance(affine, Convolution) and (x.dim() != affine.weight.dim() or shape[1] != width):
        positions = {1: "L", 2: "H, W", 3: "D, H, W"}[len(affine.kernel)]
        raise InputError(f"layer {name!r} takes (N, {width}, {positions}), not {shape}: {_cure(shape, width)}")
    if isinstance(affine, Dense) and shape[-1:] != (width,):
        raise InputError(
            f"layer {name!r} takes {width} features, not a tensor of shape {shape}: give images of the model's size"
        )
    if x.dtype != affine.weight.dtype:
        raise InputError(
            f"layer {name!r} has weights of {affine.weight.dtype} and gets {x.dtype}: convert the images or the model"
        )


class Propagator:
    """One traced model, through which several methods propagate relevance on one forward pass.

    The model is traced once; its parameters are read, never changed. Weights that rules derive from them are made once
    and serve all methods: a model that has learned, moved or been edited since needs a new propagator, and ``forward``
    says so. The first forward pass also runs the model itself on one image, hooks included, and compares.

    Attributes:
        model: what was traced; None of a graph.
        graph: the operations that relevance walks through.

    Args:
        model: a module in any mode, which is explained as it is in evaluation, half-precision weights in float32; or a
            graph that was traced before.
        size: (C, H, W) of the images, for models whose code takes other paths for other sizes; see ``trace``.

    Raises:
        InputError: the model cannot be traced, or has an operation of unknown kind (the message names it).

    Example:
        >>> propagator = Propagator(model)
        >>> plus = propagator.by(composites.alpha_beta(1, 0))
        >>> activations = propagator.forward(images, walks=[plus])
        >>> start = starts.one_hot(activations.logits, targets)
        >>> maps = plus.propagate(activations, start[None]).relevance[0].sum(1)
    """

    def __init__(self, model: nn.Module | Graph, size: tuple[int, ...] | None = None) -> None:
        self.model = None if isinstance(model, Graph) else model
        self._as_traced = model if isinstance(model, Graph) else trace(model, size)
        moves = self.model is not None and may_move_images(self._as_traced)
        self.graph = with_images_first(self._as_traced) if moves else self._as_traced
        self._sizes: set[torch.Size] = set()  # of images for which the graph is known to have them first
        self._traced = None if self.model is None else fingerprint(self.model)
        self._compared: Fingerprint | None = None  # the last one for which model and graph gave the same

    def by(self, composite: Composite) -> Walk:
        """The way backwards by one method.

        Raises:
            InputError: an operation of the model has no rule in the composite.
        """
        return Walk(self, composite)

    @property
    def device(self) -> torch.device:
        """Where the model's parameters are."""
        return next(operation.affine.weight.device for operation in self.graph if operation.affine is not None)

    @property
    def dtype(self) -> torch.dtype:
        """Of the model's parameters, and so of the images that it takes."""
        return next(operation.affine.weight.dtype for operation in self.graph if operation.affine is not None)

    @torch.inference_mode(False)  # rules that take a Jacobian by autograd work in a caller's inference mode, too
    @torch.no_grad()
    @_without_autocast
    def forward(
        self, images: Tensor, walks: Sequence[Walk] = (), keep: Iterable[str] = (), until: str | None = None
    ) -> Activations:
        """Run the model.

        Args:
            images: (N, C, H, W), or (N, T) token ids.
            walks: methods that will propagate from here; what their rules need is kept.
            keep: names of further operations whose outputs to keep.
            until: stop after this operation and keep only what ``keep`` names; ``logits`` is then its output.

        Raises:
            InputError: a name is not an operation of this model, the images do not fit its layers, or the model has
                changed since it was traced.
        """
        now = self._current()
        wanted = _names(keep)
        for name in wanted if until is None else {*wanted, until}:
            self.graph[name]
        if until is None:
            wanted.update(*(walk.needed for walk in walks))
        if images.dtype in LOW_PRECISION:
            images = images.float()
        if images.dim() == 4:
            images = images.contiguous(memory_format=torch.channels_last)
        kept: dict[str, Tensor] = {}
        shapes: dict[str, torch.Size] = {}
        try:
            for operation, result in self.graph.outputs(images, _check_fit):
                shapes[operation.name] = result.shape
                if operation.name in wanted:
                    kept[operation.name] = result
                if operation.name == until:
                    break
        except RuntimeError:
            self._check_guards(shapes)
            raise
        self._check_guards(shapes)
        if not self._has_images_first(images, shapes):
            return self.forward(images, walks, keep, until)
        # There is nothing to compare without an image, or where tensors have shapes alone, for counting.
        if until is None and now != self._compared and len(images) and not images.is_meta:
            check_output(self.model, self.graph, images[:1], result[:1])
            self._compared = now
        return Activations(result, kept, shapes)

    def _has_images_first(self, images: Tensor, shapes: Mapping[str, torch.Size]) -> bool:
        """Whether the graph's images come first; else it is replaced by one where they do.

        Raises:
            InputError: an operation mixes images, or they cannot be followed through it.
        """
        size = images.shape[1:]
        if self.model is None or size in self._sizes or not len(images) or images.is_meta:
            return True
        moved = self.graph is not self._as_traced
        if moved or not images_stay_first(self.graph, shapes):
            self.graph = with_images_first(self._as_traced, images[:1])
            self._sizes = {size}
            return False
        self._sizes.add(size)
        return True

    def _current(self) -> Fingerprint | None:
        """The model's fingerprint.

        Raises:
            InputError: its tensors are no longer those that were traced.
        """
        if self.model is None:
            return None
        now = fingerprint(self.model)
        if (now.tensors, now.values) != (self._traced.tensors, self._traced.values):
            raise InputError("the model's parameters have changed since it was traced: build a new Propagator")
        return now

    def _check_guards(self, shapes: Mapping[str, torch.Size]) -> None:
        size = tuple(shapes[self.graph.operations[0].name][1:])
        for guard in self.graph.guards:
            if not guard.holds(shapes):
                raise InputError(
                    f"for images of {size} the model takes another path than it was traced for, in {guard.place}: give "
                    f"Propagator(model, size={size})"
                )


@dataclass(frozen=True)
class Step:
    """One operation as a rule meets it: a convolution that its batch norm is folded into has the norm's output."""

    rule: Rule
    operation: Operation
    output: str


class Walk:
    """One method's way backwards through one model.

    Attributes:
        propagator: whose model it is.
        steps: how each operation that relevance passes is treated, by name.
        needed: names of the operations whose outputs the rules need.
    """

    def __init__(self, propagator: Propagator, composite: Composite) -> None:
        self.propagator, self.composite = propagator, composite
        self._built = (propagator.graph, self._steps(composite))

    @property
    def graph(self) -> Graph:
        return self.propagator.graph

    @property
    def steps(self) -> dict[str, Step]:
        graph, steps = self._built
        if graph is not self.graph:  # its images were found elsewhere
            graph, steps = self._built = (self.graph, self._steps(self.composite))
        return steps

    @property
    def needed(self) -> frozenset[str]:
        return frozenset(
            name
            for step in self.steps.values()
            for name in (
                *(step.operation.inputs if step.rule.needs_inputs else ()),
                *step.operation.constants,
                *((step.output,) if step.rule.needs_output else ()),
            )
        )

    def _steps(self, composite: Composite) -> dict[str, Step]:
        rules = composite.rules(self.graph)
        steps = {name: Step(rule, self.graph[name], name) for name, rule in rules.items()}
        if composite.fold_batch_norm:
            for name in rules:
                fold = self.graph.folded(name)
                if fold is not None:
                    operation, norm = fold
                    steps[name] = Step(rules[name].at(self.graph, operation), operation, norm)
                    steps[norm] = Step(Pass(), self.graph[norm], norm)
        return steps

    @property
    def device(self) -> torch.device:
        return self.propagator.device

    def forward(self, images: Tensor, keep: Iterable[str] = (), until: str | None = None) -> Activations:
        """``Propagator.forward`` for this method alone."""
        return self.propagator.forward(images, [self], keep, until)

    @torch.inference_mode(False)
    @torch.no_grad()
    @_without_autocast
    def propagate(
        self,
        activations: Activations,
        start: Tensor,
        *,
        at: str | None = None,
        stop: str = "input",
        capture: Iterable[str] = (),
        transforms: Mapping[str, Transform] | None = None,
        context: Mapping[str, Any] | None = None,
        observe: Observer | None = None,
    ) -> Propagation:
        """Propagate K starts backwards.

        Args:
            activations: of a forward pass of N images that kept what this walk needs.
            start: relevance of the output of ``at``, (K, N, ...). In float64 of a float32 network its total is kept
                to that precision where the rules promise to keep it; what comes back may then be float64 too.
            at: name of the operation at whose output to start; the model's output by default.
            stop: name of the operation at whose output to stop.
            capture: names of operations whose relevance to keep on the way.
            transforms: operation name -> function of the relevance (K, N, ...) at its output, applied when all of it
                has arrived and before it travels on.
            context: what rules may read beside their record.
            observe: called after every step with the operation, the relevance of its output and of each of its inputs;
                by default the activations' observer of this walk.

        Raises:
            InputError: a name is not an operation of this model, no relevance reaches one to capture, or shapes do not
                agree.
        """
        transforms, context = transforms or {}, context or {}
        observe = observe or activations.observers.get(self)
        at = self.graph.output.name if at is None else at
        capture = _names(capture)
        for name in {at, stop, *capture, *transforms}:
            self.graph[name]
        if at not in activations.shapes:
            raise InputError(f"the forward pass has no {at!r}: it was another model's, or ended before it (until=)")
        if start.dim() < 1 or start.shape[1:] != activations.shapes[at]:
            expected = ("K", *activations.shapes[at])
            raise InputError(f"the start has shape {tuple(start.shape)}, expected {expected}: the shape of {at!r}")
        pending: dict[str, Tensor] = {at: start}
        captured: dict[str, Tensor] = {}
        for operation in reversed(self.graph.operations):
            relevance = pending.pop(operation.name, None)
            if relevance is None:
                continue
            if operation.name in transforms:
                relevance = self._transformed(operation.name, transforms[operation.name], relevance)
            if operation.name in capture:
                captured[operation.name] = relevance
            if operation.name == stop:
                if missed := sorted(capture - captured.keys()):
                    raise InputError(f"no relevance reaches {missed[0]!r} on the way from {at!r} to {stop!r}")
                return Propagation(relevance, captured)
            if operation.kind == "input":
                break
            step = self.steps[operation.name]
            if not step.rule.keeps_digits:
                relevance = relevance.to(activations.logits.dtype)
            parts = step.rule(self._record(step, activations, context), relevance)
            if observe is not None:
                observe(operation, relevance, parts)
            for name, part in zip(operation.inputs, parts, strict=True):
                if name in self.steps or name == self.graph.operations[0].name:  # parameters keep what they are sent
                    pending[name] = pending[name] + part if name in pending else part
        raise InputError(f"no relevance reaches {stop!r} from {at!r}")

    @staticmethod
    def _transformed(name: str, transform: Transform, relevance: Tensor) -> Tensor:
        result = transform(relevance)
        if not isinstance(result, Tensor) or result.shape != relevance.shape:
            given = tuple(result.shape) if isinstance(result, Tensor) else result
            raise InputError(f"the transform at {name!r} must keep the shape {tuple(relevance.shape)}, it gave {given}")
        return result

    def _record(self, step: Step, activations: Activations, context: Mapping[str, Any]) -> Record:
        names = step.operation.inputs
        try:
            inputs = tuple(activations.outputs[name] if step.rule.needs_inputs else None for name in names)
            output = activations.outputs[step.output] if step.rule.needs_output else None
        except KeyError as error:
            raise InputError(
                f"the forward pass did not keep {error.args[0]!r}, which this method needs: "
                "give its walk to forward(images, walks=[...])"
            ) from None
        operation = step.operation
        if step.output != operation.name and operation.kind == "linear" and len(activations.shapes[step.output]) != 2:
            raise InputError(
                f"batch norm {step.output!r} is folded into the linear layer {operation.name!r}, but it normalises "
                "another dimension than that layer's features; choose a method that does not fold batch norms"
            )
        operation = operation.bound(activations.outputs, activations.shapes)
        shapes = tuple(activations.shapes[name] for name in names)
        image_shape = activations.shapes[self.graph.operations[0].name]
        return Record(operation, inputs, output, shapes, context, image_shape)
