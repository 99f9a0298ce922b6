"""What relevance costs, in plain forward passes of the same network, beside every peer on the same machine in one run.

    python benchmarks/relevance_speed.py [--quick] [--check] [--out speed.csv] [--methods lrp_epsilon ...]
        [--device cuda --cuda-graph]

In each round every contestant is timed between plain forward passes, and what it costs is its time over theirs; a
method and its literal form stand next to each other. Printed is the median of these ratios over rounds: what else the
machine does hits both sides of a ratio, so that it holds on a busy machine, too. A contestant's time holds everything
from images to maps: forward pass, propagation, channel sum. Set-up (tracing, derived weights, hooks) happens before,
once per model. Operations and memory are counted (``relmap.inspection.cost.Meter``), without the model's weights and
those that relmap derives once. Prints a Markdown table and which bounds hold; with ``--check`` it fails where one does
not. ``--quick`` takes less than two minutes on an idle machine: the methods that have bounds of time, smaller images,
nothing counted.

Peers: autograd's input gradient, zennit, captum, and absLRP and Attribution Equilibrium as their papers write them
down (``tests/oracles``).
"""

from __future__ import annotations

import argparse
import copy
import csv
import math
import os
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

# Threads that wait for each other by computing keep the rest of a busy machine from letting the others finish.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import relmap.torchvision_shim  # noqa: F401  zennit imports torchvision
import torch
import zennit.attribution
import zennit.composites
import zennit.layer
import zennit.rules
import zennit.torchvision
import zennit.types
from captum.attr import LRP
from relmap.catalogue.methods import CATALOGUE
from relmap.explainers.building import build as build_method
from relmap.inspection.cost import PLAIN, Meter, seconds_of
from relmap.job.files import atomic_path
from relmap.models import build
from relmap.propagation import Propagator, composites, starts
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from oracles.abslrp import LiteralAbsLRP
from oracles.equilibrium import attribution_equilibrium

Run = Callable[[], Tensor]

CLASSES = 1000
METHODS = (
    "lrp_epsilon",
    "lrp_alpha1_beta0",
    "lrp_alpha2_beta1",
    "lrp_gamma",
    "abslrp",
    "c3_lrp",
    "attribution_equilibrium",
    "rap",
)
ZENNIT = {
    "zennit Epsilon": lambda: zennit.rules.Epsilon(1e-6),
    "zennit ZPlus": lambda: zennit.rules.ZPlus(zero_params="bias"),
    "zennit AlphaBeta(1, 0)": lambda: zennit.rules.AlphaBeta(1, 0, zero_params="bias"),
    "zennit AlphaBeta(2, 1)": lambda: zennit.rules.AlphaBeta(2, 1, zero_params="bias"),
    "zennit Gamma": lambda: zennit.rules.Gamma(0.25),
}
LITERAL = {"abslrp": "literal absLRP", "attribution_equilibrium": "literal AE"}

FORWARDS = {
    ("vgg16", "lrp_alpha1_beta0"): 3.0,
    ("resnet50", "lrp_alpha1_beta0"): 3.5,
    ("vgg16", "lrp_epsilon"): 2.2,
    ("resnet50", "lrp_epsilon"): 2.5,
}
"""On a CPU, at most so many plain forward passes."""

FASTER = {"abslrp": 3.0, "attribution_equilibrium": 2.0}
"""At least so many times as fast as the literal form.

Three times is out of Attribution Equilibrium's reach: on VGG-16 the literal form's operations are worth 8.9 plain
forward passes, and its own 6.0. What it gains beyond is memory traffic.
"""

FASTER_QUICK = {"abslrp": 2.5, "attribution_equilibrium": 1.5}
"""The same in the quick form, whose small tensors the allocator uses again: a literal form has less to lose."""

MEMORY = 2.5
"""At most so many times the memory of a forward pass that keeps what backpropagation needs."""


QUICK = {
    "methods": ["lrp_alpha1_beta0", "lrp_epsilon", "abslrp", "attribution_equilibrium"],
    "peers": "literal",
    "size": 112,
    "batch": 8,
    "repetitions": 3,
    "minutes": 0.9,
    "count": False,
}
"""Options of the quick form."""


@dataclass(frozen=True)
class Row:
    """One contestant on one network; NaN is what was not counted, or not asked of it.

    Attributes:
        seconds, forwards: of a turn, and over those of the plain forward passes beside it; medians over ``rounds``.
        faster: times as fast as its literal form, the median over rounds.
        equivalents: floating-point operations over those of a plain forward pass.
        peak_mb, memory: most memory, in MB and over what backpropagation keeps.
    """

    model: str
    contestant: str
    rounds: int
    seconds: float
    forwards: float
    faster: float
    equivalents: float
    peak_mb: float
    memory: float
    images_per_second: float


def plain(model: nn.Module, images: Tensor) -> Run:
    """The model as a user runs it."""

    @torch.no_grad()
    def run() -> Tensor:
        return model(images)

    return run


def input_gradient(model: nn.Module, images: Tensor, targets: Tensor) -> Run:
    """Autograd's, of the targets' logits."""

    def run() -> Tensor:
        with torch.enable_grad():
            leaf = images.clone().requires_grad_()
            score = model(leaf).gather(1, targets[:, None]).sum()
            return torch.autograd.grad(score, leaf)[0].sum(1)

    return run


def ours(propagator: Propagator, method: str, images: Tensor, targets: Tensor) -> Run:
    explainer = build_method(propagator, method)

    @torch.no_grad()
    def run() -> Tensor:
        activations = propagator.forward(images, explainer.walks, explainer.keep)
        relevance = explainer.read(activations, targets[None])
        return relevance.sum(2) if relevance.dim() == 5 else relevance

    return run


def captured_layers(propagator: Propagator, images: Tensor, targets: Tensor) -> tuple[str, Run]:
    """Alpha 1, beta 0 relevance at the activations of all convolutions, captured on one way."""
    walk = propagator.by(composites.alpha_beta())
    convolutions = [operation.name for operation in propagator.graph if operation.kind == "conv"]
    layers = [propagator.graph.activation_of(name) for name in convolutions]

    def run() -> Tensor:
        activations = walk.forward(images)
        start = starts.one_hot(activations.logits, targets)[None]
        return walk.propagate(activations, start, stop=layers[0], capture=layers).relevance

    return f"relevance at {len(layers)} layers, one pass", run


def by_zennit(model: nn.Module, rule: Callable[[], object], images: Tensor, targets: Tensor, stack: ExitStack) -> Run:
    """zennit's own pace: its hooks stay registered until ``stack`` closes."""
    types = zennit.types
    layers = [(types.Activation, zennit.rules.Pass()), ((types.AvgPool, zennit.layer.Sum), zennit.rules.Norm())]
    canonizers = [zennit.torchvision.ResNetCanonizer()] if hasattr(model, "layer4") else []
    composite = zennit.composites.LayerMapComposite([*layers, (types.Linear, rule())], canonizers=canonizers)
    attribute = zennit.attribution.Gradient(model, composite)
    start = nn.functional.one_hot(targets, CLASSES).to(images.dtype)
    stack.enter_context(attribute)

    def run() -> Tensor:
        return attribute(images.clone().requires_grad_(), start)[1].sum(1)

    return run


def by_captum(model: nn.Module, images: Tensor, targets: Tensor) -> Run:
    attribution = LRP(model)

    def run() -> Tensor:
        return attribution.attribute(images.clone().requires_grad_(), target=targets).sum(1)

    return run


def literally(method: str, model: nn.Module, images: Tensor, targets: Tensor) -> Run:
    """A method as its paper writes it down."""
    if method == "attribution_equilibrium":
        return lambda: attribution_equilibrium(model, images, targets).sum(1)
    literal = LiteralAbsLRP(model)
    return lambda: literal(images, lambda logits: starts.contrast(logits, targets).to(logits.dtype)).sum(1)


class Contest:
    """All contestants on one network: each is set up, timed, and left in turn.

    Attributes:
        model: the network; ``theirs`` is a copy for peers that change it while they work.
        standing: contestants that stay set up; the others are there for their turns only.
    """

    def __init__(self, architecture: str, options: argparse.Namespace) -> None:
        generator = torch.Generator().manual_seed(0)
        layout = torch.channels_last if options.channels_last else torch.contiguous_format
        size, batch = options.size, options.batch
        self.model = build(architecture, CLASSES, input_size=size).eval().requires_grad_(False)
        self.model = self.model.to(options.device, memory_format=layout)
        self.theirs = copy.deepcopy(self.model)
        self.images = torch.randn(batch, 3, size, size, generator=generator).to(options.device, memory_format=layout)
        self.targets = torch.randint(0, CLASSES, (batch,), generator=generator).to(options.device)
        self.standing = self._standing(options)
        self.names = [*self.standing, *([*ZENNIT, "captum LRP"] if options.peers == "all" else ())]

    def _standing(self, options: argparse.Namespace) -> dict[str, Run]:
        model, images, targets = self.model, self.images, self.targets
        propagator = Propagator(model)
        runs = {PLAIN: plain(model, images)}
        if options.peers == "all":
            runs["input gradient"] = input_gradient(model, images, targets)
        for method in options.methods:
            runs[method] = ours(propagator, method, images, targets)
            if method in LITERAL and options.peers != "none":
                runs[LITERAL[method]] = literally(method, model, images, targets)
            if options.cuda_graph:
                runs[f"{method}, CUDA graph"] = captured(runs[method])
        if not hasattr(model, "layer4") and options.peers == "all":
            name, run = captured_layers(propagator, images, targets)
            runs[name] = run
        return runs

    def turn(self, name: str, judge: Callable[[Run], object]) -> object:
        """What ``judge`` says of a contestant."""
        with ExitStack() as stack:
            if name in ZENNIT:
                run = by_zennit(self.theirs, ZENNIT[name], self.images, self.targets, stack)
            elif name == "captum LRP":
                run = by_captum(self.theirs, self.images, self.targets)
            else:
                run = self.standing[name]
            return judge(run)

    def kept_for_backpropagation(self) -> int:
        """Bytes that a recorded forward pass keeps."""
        with torch.enable_grad(), Meter() as meter:
            self.model(self.images.clone().requires_grad_())
        return meter.peak


def captured(run: Run) -> Run:
    """The same as one CUDA graph at fixed shapes: replayed, it writes into the same result.

    Raises:
        ArithmeticError: its result is not that of the run.
    """
    expected = run()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = run()

    def replay() -> Tensor:
        graph.replay()
        return result

    difference = (torch.linalg.vector_norm(replay() - expected) / torch.linalg.vector_norm(expected)).item()
    if not difference < 1e-4:
        raise ArithmeticError(f"the replayed graph differs from the run by {difference:.2g}")
    return replay


@dataclass(frozen=True)
class Count:
    """Operations, peak bytes and seconds of one run."""

    operations: int
    peak: int
    seconds: float


def counted(run: Run) -> Count:
    with Meter() as meter:
        seconds = seconds_of(run)
    return Count(meter.operations, meter.peak, seconds)


UNCOUNTED = Count(math.nan, math.nan, math.nan)


def warmed_up(contest: Contest, options: argparse.Namespace) -> dict[str, Count]:
    """Every contestant that runs, and what is counted of it."""
    counts = {}
    for name in contest.names:
        try:
            if name in options.methods or name == PLAIN:
                contest.turn(name, seconds_of)  # derives the weights
            counts[name] = contest.turn(name, counted) if options.count else UNCOUNTED
        except (RuntimeError, TypeError, AssertionError) as error:  # a peer that cannot treat this network
            if name in options.methods:
                raise
            print(f"{name} does not run: {str(error).splitlines()[0][:100]}")
    return counts


@dataclass(frozen=True)
class Turn:
    """Mean seconds of a contestant in a round, and over the mean of the plain forward passes beside it."""

    seconds: float
    forwards: float


def one_round(turn: Callable[[str], float], names: Mapping[str, int]) -> dict[str, Turn]:
    """Every contestant between plain forward passes, as often as ``names`` says; ``turn`` gives the seconds of one."""
    turns, plains = {}, [turn(PLAIN)]
    for name, times in names.items():
        seconds, plains = [], plains[-1:]
        for _ in range(times):
            seconds.append(turn(name))
            plains.append(turn(PLAIN))
        turns[name] = Turn(statistics.mean(seconds), statistics.mean(seconds) / statistics.mean(plains))
    return turns


def faster(rounds: Sequence[Mapping[str, Turn]], method: str) -> float:
    """How many times as fast as its literal form a method is: the median of the ratio over rounds."""
    literal = LITERAL.get(method)
    ratios = [turns[literal].seconds / turns[method].seconds for turns in rounds if literal in turns]
    return statistics.median(ratios) if ratios else math.nan


def compete(architecture: str, options: argparse.Namespace) -> list[Row]:
    """One row per contestant: medians over rounds, as many as the time allows, at least one."""
    begin = time.perf_counter()
    contest = Contest(architecture, options)
    counts = warmed_up(contest, options)
    # What is held against forward passes is timed most often; it is also what takes least.
    times = {name: 3 if (architecture, name) in FORWARDS else 1 for name in counts}
    rounds: list[dict[str, Turn]] = []
    longest = 0.0
    while len(rounds) < options.repetitions:
        started = time.perf_counter()
        if rounds and started - begin + longest > 60 * options.minutes:
            break
        rounds.append(one_round(lambda name: contest.turn(name, seconds_of), times))
        longest = max(longest, time.perf_counter() - started)
    kept = contest.kept_for_backpropagation() if options.count else math.nan
    seconds = {name: statistics.median(turns[name].seconds for turns in rounds) for name in counts}
    return [
        Row(
            architecture,
            name,
            len(rounds),
            seconds[name],
            statistics.median(turns[name].forwards for turns in rounds),
            faster(rounds, name),
            count.operations / counts[PLAIN].operations,
            count.peak / 1e6,
            count.peak / kept,
            options.batch / seconds[name],
        )
        for name, count in counts.items()
    ]


def markdown(rows: list[Row]) -> str:
    heads = ["model", "contestant", "seconds", "plain forward passes", "the same in operations", "peak, MB"]
    heads += ["peak, times what backpropagation keeps", "images per second"]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|---:|---:|---:|---:|---:|---:|"]
    for row in rows:
        numbers = (
            (row.seconds, ".3f"),
            (row.forwards, ".2f"),
            (row.equivalents, ".2f"),
            (row.peak_mb, ".0f"),
            (row.memory, ".2f"),
            (row.images_per_second, ".1f"),
        )
        texts = ["" if math.isnan(number) else format(number, form) for number, form in numbers]
        lines.append("| " + " | ".join([row.model, row.contestant, *texts]) + " |")
    return "\n".join(lines)


@dataclass(frozen=True)
class Bound:
    """What was promised of a contestant, in words, and whether it holds."""

    row: Row
    text: str
    holds: bool

    def __str__(self) -> str:
        return f"{'holds' if self.holds else 'FAILS'}: {self.row.model} {self.row.contestant}: {self.text}"


def bounds(rows: list[Row], options: argparse.Namespace) -> list[Bound]:
    """What was promised of what was measured."""
    found, faster_by = [], FASTER_QUICK if options.quick else FASTER
    for row in rows:
        limit = FORWARDS.get((row.model, row.contestant))
        if limit is not None and options.device == "cpu":
            text = f"{row.forwards:.2f} plain forward passes, at most {limit}"
            found.append(Bound(row, text, row.forwards <= limit))
        if row.contestant in faster_by and not math.isnan(row.faster):
            least = faster_by[row.contestant]
            text = f"{row.faster:.1f} times as fast as the {LITERAL[row.contestant]}, at least {least}"
            found.append(Bound(row, text, row.faster >= least))
        if row.contestant in CATALOGUE and not math.isnan(row.memory):
            found.append(Bound(row, f"{row.memory:.2f} times the memory, at most {MEMORY}", row.memory <= MEMORY))
    return found


def write(rows: list[Row], path: Path) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, list(Row.__dataclass_fields__))
        writer.writeheader()
        writer.writerows(vars(row) for row in rows)


def set_precision(name: str) -> None:
    """``float32`` or ``tf32`` for products and convolutions on CUDA."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="what has bounds of time, in less than two minutes")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a bound does not hold")
    parser.add_argument("--out", type=Path, help="CSV to write")
    parser.add_argument("--models", nargs="+", default=["vgg16", "resnet50"], help="architectures")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(CATALOGUE), help="of relmap")
    peers = "zennit, captum and literal forms; literal forms alone; relmap alone"
    parser.add_argument("--peers", choices=["all", "literal", "none"], default="all", help=peers)
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=8, help="images at once")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--repetitions", type=int, default=3, help="rounds at most")
    parser.add_argument(
        "--minutes", type=float, default=4.5, help="per network, after which no further round begins but the first"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["float32", "tf32"], default="float32", help="of products on CUDA")
    parser.add_argument("--channels-last", action="store_true", help="layout of the model and the images")
    parser.add_argument("--cuda-graph", action="store_true", help="also each method as one CUDA graph")
    parser.set_defaults(count=True)
    if parser.parse_args(arguments).quick:
        parser.set_defaults(**QUICK)
    options = parser.parse_args(arguments)
    if options.cuda_graph and options.device != "cuda":
        parser.error("--cuda-graph needs --device cuda")
    return options


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code: 1 where a bound is checked and does not hold."""
    options = parsed(arguments)
    torch.set_num_threads(options.threads)
    set_precision(options.precision)
    where = f"CPU, {options.threads} threads" if options.device == "cpu" else torch.cuda.get_device_name()
    versions = ", ".join([f"torch {torch.__version__}", *(f"{name} {version(name)}" for name in ("zennit", "captum"))])
    print(
        f"{options.batch} images of {options.size} x {options.size}, {options.precision}, {where}, "
        f"median of at most {options.repetitions} rounds; {versions}\n"
    )
    rows, promised = [], []
    for architecture in options.models:
        found = compete(architecture, options)
        of_this = bounds(found, options)
        print("\n".join([markdown(found), "", *map(str, of_this), ""]), flush=True)
        rows, promised = rows + found, promised + of_this
        if options.out:
            write(rows, options.out)
    return int(options.check and not all(bound.holds for bound in promised))


if __name__ == "__main__":
    sys.exit(main())
