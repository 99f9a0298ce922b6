"""What an explanation method is: a function of images and targets, built once for a model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from relmap.errors import InputError
from relmap.propagation import Activations, Composite, Propagator, Walk, starts


class Explainer(ABC):
    """One method for one model.

    This is the general form, for methods that run the network themselves, on changed inputs as often as they like, and
    for wrappers of other explainers. Those that read their maps off one forward pass are ``SharedPass``.
    """

    @abstractmethod
    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Maps of K targets of each of N images.

        Args:
            images: (N, C, H, W), normalised as the model takes them, on its device; (N, T) token ids.
            targets: classes, (N, K) int64.

        Returns:
            (N, K, H, W), or (N, K, T) for tokens: signed, not normalised; each image by itself, whatever the batch.
        """

    def by_channel(self, images: Tensor, targets: Tensor) -> Tensor:
        """What the map is of, for each channel of the images: (N, K, C, H, W); C is 1 where the method has no more."""
        return self(images, targets)[:, :, None]

    def signed_activation_map(self) -> Explainer | None:
        """Of a method like class activation maps, which shows a positive part or scales it, the one before that step.

        Wrappers combine its maps and take the positive part of the sum. None of a method of another kind, whose maps
        they take as they are.
        """
        return None


class JointRun(Explainer):
    """A method that runs the network on inputs of its own making, which methods of its kind can share.

    Attributes:
        inputs: which inputs those are; methods whose ``inputs`` are equal share them.
    """

    inputs: Hashable

    @abstractmethod
    def together(
        self, methods: Sequence[Self], images: Tensor, targets: Tensor, by_channel: bool = False
    ) -> list[Tensor]:
        """Maps of each of some methods with the same ``inputs`` as this one.

        Args:
            methods: of this class.
            images, targets: as of ``__call__``.
            by_channel: whether channels are kept, as by ``Explainer.by_channel``.
        """

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        return self.together([self], images, targets)[0]

    def by_channel(self, images: Tensor, targets: Tensor) -> Tensor:
        return self.together([self], images, targets, by_channel=True)[0]


class SharedPass(Explainer):
    """A method that reads its maps off a forward pass, which several methods can share.

    Attributes:
        walks: the ways backwards that it takes; the forward pass keeps what they need.
        keep: names of further operations whose outputs are read.
        conserving: whether it is made to keep the total of what its last walk starts from. Attribution Equilibrium is
            not: it has a total of its own.
        propagator: of the model; that of the walks.
    """

    walks: tuple[Walk, ...] = ()
    keep: tuple[str, ...] = ()
    conserving: bool = False

    @cached_property
    def propagator(self) -> Propagator:
        return self.walks[0].propagator

    @abstractmethod
    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        """Relevance of K targets of each of N images.

        Args:
            activations: of a forward pass that kept what ``walks`` and ``keep`` ask for.
            targets: classes, (K, N) int64.

        Returns:
            (K, N, C, H, W) at the input, (K, N, T) for tokens, or a map (K, N, h, w) of an inner layer. Signed, not
            normalised; each image by itself, whatever the batch.
        """

    def read_by_channel(self, activations: Activations, targets: Tensor) -> Tensor:
        """``read`` before channels are merged, for a method that merges them itself."""
        return self.read(activations, targets)

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        activations = self.propagator.forward(images, self.walks, self.keep)
        return as_maps(self.read(activations, targets.T), images.shape).transpose(0, 1)

    def by_channel(self, images: Tensor, targets: Tensor) -> Tensor:
        activations = self.propagator.forward(images, self.walks, self.keep)
        return as_channel_maps(self.read_by_channel(activations, targets.T), images.shape).transpose(0, 1)


class Relevance(SharedPass):
    """Relevance from starts at the logits to the input by one composite: most of the LRP family.

    Attributes:
        walk: the way backwards.
        starts: one for each pass; most methods have one.

    Args:
        propagator: of the model.
        composite: the rules.
        start: a function of logits (N, C) and targets (N,), or a key of ``starts.STARTS``; by default the one that
            makes positive relevance speak for the class (``starts.towards_class``).

    Raises:
        InputError: no start has this name.
    """

    conserving = True

    def __init__(self, propagator: Propagator, composite: Composite, start: starts.Start | str | None = None) -> None:
        self.walk = propagator.by(composite)
        self.starts = (towards_class(self.walk) if start is None else start_named(start),)
        self.walks = (self.walk,)

    def combined(self, passes: Sequence[Tensor]) -> Tensor:
        """Relevance (K, N, ...) at any operation, of that of every pass there."""
        (relevance,) = passes
        return relevance

    def read(self, activations: Activations, targets: Tensor) -> Tensor:
        start = torch.cat([starts.stacked(each, activations.logits, targets) for each in self.starts])
        relevance = self.walk.propagate(activations, start).relevance
        return self.combined(relevance.split(len(targets))).to(activations.logits.dtype)


def start_named(start: starts.Start | str) -> starts.Start:
    """A start by its name in ``starts.STARTS``; a function is itself."""
    if not isinstance(start, str):
        return start
    if start not in starts.STARTS:
        raise InputError(f"start {start!r} is unknown; choose one of {', '.join(starts.STARTS)}")
    return starts.STARTS[start]


def towards_class(walk: Walk) -> starts.Start:
    """The start that makes positive relevance speak for the class, by the rule of the walk's class layer."""
    layers = [step for step in walk.steps.values() if step.operation.kind in ("conv", "linear")]
    layers = [step for step in layers if step.operation.name in walk.graph.class_layers] or layers
    if not layers:
        return starts.magnitude
    rule, operation = layers[-1].rule, layers[-1].operation  # of several heads each has the same rule
    # Behind a class layer that is not the output, its bias is not the logits'.
    counted = getattr(rule, "bias", True) or operation.name != walk.graph.output.name
    return starts.towards_class(rule.signed_shares, None if counted else operation.affine.bias)


def as_maps(relevance: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Relevance (K, N, C, H, W) summed over channels, or inner maps (K, N, h, w) resized: (K, N, H, W). Tokens stay.

    So are signals (K, N, C, L) and volumes, for inputs of this ``shape`` (N, C, ...).
    """
    if len(shape) < 3:
        return relevance
    size = tuple(shape[2:])
    if relevance.dim() == len(shape) + 1:
        return relevance.sum(2)
    if relevance.dim() == len(shape) and relevance.shape[2:] != size:
        mode = {1: "linear", 2: "bilinear", 3: "trilinear"}[len(size)]
        return F.interpolate(relevance, size, mode=mode, align_corners=False)
    return relevance


def as_channel_maps(relevance: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The same, channels kept: (K, N, C, H, W), and (K, N, 1, H, W) of what has none."""
    if relevance.dim() == len(shape) + 1:
        return relevance
    return as_maps(relevance, shape)[:, :, None]
