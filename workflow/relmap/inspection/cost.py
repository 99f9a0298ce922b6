"""What methods cost, in plain forward passes of the same network: floating-point operations, time, memory.

Operations and bytes are counted, not sampled. A model on the ``meta`` device (``models.build(..., device="meta")``) is
enough for them, and then nothing is computed. Only the seconds need a quiet machine.
"""

from __future__ import annotations

import statistics
import time
import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry

from relmap.catalogue.methods import Method
from relmap.explainers.base import SharedPass, as_maps
from relmap.explainers.building import build
from relmap.propagation import Propagator

Parameters = Mapping[str, Mapping[str, Any]]


class Meter(TorchDispatchMode):
    """While it is on, counts what is computed and allocated.

    Attributes:
        operations: floating-point operations of convolutions and matrix products (two per multiplication).
        live: bytes of the tensors made since it was on and not freed; views and in-place results are no new tensors,
            and what one operation makes and frees inside itself (a convolution's workspace) is not seen.
        peak: the most that ``live`` has been.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = self.live = self.peak = 0
        self._made: dict[int, weakref.ref] = {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        self.operations += _operations(func, args, kwargs, result)
        given = {id(storage) for storage in _storages((args, kwargs))}
        for storage in _storages(result):
            if id(storage) not in self._made and id(storage) not in given:
                self._watch(storage)
        return result

    def restart(self) -> None:
        """Forget the operations and the peak; what is live stays."""
        self.operations, self.peak = 0, self.live

    def _watch(self, storage: torch.UntypedStorage) -> None:
        key, size = id(storage), storage.nbytes()

        def freed(_: weakref.ref) -> None:
            del self._made[key]
            self.live -= size

        self._made[key] = weakref.ref(storage, freed)
        self.live += size
        self.peak = max(self.peak, self.live)


def _storages(values: object) -> Iterator[torch.UntypedStorage]:
    for value in tree_leaves(values):
        if isinstance(value, Tensor):
            yield value.untyped_storage()


def _operations(func: torch._ops.OpOverload, args: tuple, kwargs: dict, result: object) -> int:
    if func is torch.ops.aten.convolution_backward.default:
        # Each gradient takes as many as the convolution itself; torch's own formula leaves groups out of account.
        output, _, weight, *_, transposed, _, _, wanted = args
        shape = args[1].shape if transposed else output.shape
        return sum(wanted[:2]) * conv_flop_count(shape, weight.shape, shape, transposed)
    formula = flop_registry.get(func.overloadpacket)
    return 0 if formula is None else formula(*args, **kwargs, out_val=result)


def measure(
    model: nn.Module,
    images: Tensor,
    methods: Sequence[str] | Parameters,
    *,
    targets_per_image: Sequence[int] = (1, 3),
    repetitions: int = 3,
) -> pd.DataFrame:
    """What each method costs on one model and batch, from images to maps, its own forward pass included.

    Args:
        model: a classifier in evaluation mode, on any device.
        images: (N, C, H, W), normalised as the model takes them, on the model's device.
        methods: ids of ``relmap.methods()``, or such ids with parameters.
        targets_per_image: how many targets K share a forward pass; time and memory are those of the first.
        repetitions: of every method and of the plain forward pass, in turns; the medians count.

    Returns:
        One row per method:

        - ``method``: its id.
        - ``forward_equivalents``: floating-point operations over those of a plain forward pass, for the first K;
          ``forward_equivalents_3`` for K = 3, and so on.
        - ``seconds_per_image``, and ``forwards``: seconds over those of a plain forward pass; NaN on ``meta``.
        - ``peak_memory``: most bytes of live tensors over those of a forward pass that keeps what backpropagation
          needs; neither holds the model's weights.
        - ``derived_weights_mb``: weights that the method derives from the model's, once, in MB.

    Raises:
        InputError: an unknown method, or a model that a method cannot treat.
    """
    parameters = methods if isinstance(methods, Mapping) else {method: {} for method in methods}
    plain, kept = _plain_operations(model, images), _kept_for_backpropagation(model, images)
    rows = []
    for method, given in parameters.items():
        row: dict[str, object] = {"method": method}
        with Meter() as meter:
            explain = explanation(model, images, method, given)
            explain(targets_per_image[0])  # derives the weights
            derived = meter.live
            for index, count in enumerate(targets_per_image):
                meter.restart()
                explain(count)
                row[f"forward_equivalents_{count}" if index else "forward_equivalents"] = meter.operations / plain
                if index == 0:
                    peak = (meter.peak - derived) / kept
        rows.append(row | {"peak_memory": peak, "derived_weights_mb": derived / 1e6})
    table = pd.DataFrame(rows)
    seconds = pd.Series(_seconds(model, images, parameters, targets_per_image[0], repetitions))
    own = seconds.drop(PLAIN)[table["method"]].to_numpy()
    table.insert(table.columns.get_loc("peak_memory"), "seconds_per_image", own / len(images))
    table.insert(table.columns.get_loc("peak_memory"), "forwards", own / seconds[PLAIN])
    return table


def explanation(
    model: nn.Module, images: Tensor, method: str | Method, parameters: Mapping[str, Any] | None = None
) -> Callable[[int], Tensor]:
    """A function of K that makes the maps (K, N, H, W) of K targets of each image.

    Tracing, and comparing the graph with the model, is done before.
    """
    propagator = Propagator(model, tuple(images.shape[1:]))
    explainer = build(propagator, method, **(parameters or {}))
    if isinstance(explainer, SharedPass):
        propagator.forward(images[:1])

    def run(count: int) -> Tensor:
        if not isinstance(explainer, SharedPass):
            return explainer(images, torch.zeros(len(images), count, dtype=torch.long, device=images.device))
        activations = propagator.forward(images, explainer.walks, explainer.keep)
        classes = torch.arange(count, device=images.device) % activations.logits.shape[1]
        return as_maps(explainer.read(activations, classes[:, None].expand(count, len(images))), images.shape)

    return run


@torch.no_grad()
def _plain_operations(model: nn.Module, images: Tensor) -> int:
    with Meter() as meter:
        model(images)
    return meter.operations


def _kept_for_backpropagation(model: nn.Module, images: Tensor) -> int:
    """Peak bytes of a training step's forward pass."""
    trainable = {name: value.detach().requires_grad_() for name, value in model.named_parameters()}
    with torch.enable_grad(), Meter() as meter:
        torch.func.functional_call(model, trainable, (images,))
    return meter.peak


PLAIN = "plain forward"


def _seconds(model: nn.Module, images: Tensor, methods: Parameters, count: int, repetitions: int) -> dict[str, float]:
    if images.is_meta:
        return dict.fromkeys((PLAIN, *methods), float("nan"))

    @torch.no_grad()
    def plain() -> Tensor:
        return model(images)

    runs: dict[str, Callable[[], Tensor]] = {PLAIN: plain}
    for method, given in methods.items():
        runs[method] = partial(explanation(model, images, method, given), count)
    return in_turns(runs, repetitions)


def in_turns(runs: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Median seconds of each run: all take turns, after a warm-up, so that what else the machine does hits all."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repetition in range(repetitions + 1):
        for name, run in runs.items():
            seconds = seconds_of(run)
            if repetition:
                times[name].append(seconds)
    return {name: statistics.median(values) for name, values in times.items()}


def seconds_of(run: Callable[[], object]) -> float:
    """Seconds of one call, what it has sent to CUDA devices included."""
    _synchronise()
    begin = time.perf_counter()
    run()
    _synchronise()
    return time.perf_counter() - begin


def _synchronise() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
