"""What relevance costs, in plain forward passes of the same network, beside every peer on the same machine in one run.

    python benchmarks/relevance_speed.py [--out speed.csv] [--methods lrp_epsilon ...] [--device cuda --cuda-graph]

Contestants take turns, so that what else the machine does hits all of them; medians are compared. A contestant's time
holds everything from images to maps: forward pass, propagation, channel sum. Set-up (tracing, derived weights, hooks)
happens before, once per model. Operations and memory are counted (``relmap.inspection.cost.Meter``), without the
model's weights and those that relmap derives once. Prints a Markdown table and which bounds hold; a quiet machine is up
to you.

Peers: autograd's input gradient, zennit, captum, and absLRP and Attribution Equilibrium as their papers write them
down (``tests/oracles``).
"""

from __future__ import annotations

import argparse
import copy
import csv
import statistics
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

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
    ("vgg16", "lrp_alpha1_beta0"): 3.5,
    ("resnet50", "lrp_alpha1_beta0"): 4.5,
    ("vgg16", "lrp_epsilon"): 2.8,
    ("resnet50", "lrp_epsilon"): 3.8,
}
"""On a CPU, at most so many plain forward passes."""

SPEED_UP = 3.0
"""So many times faster than the literal form."""

MEMORY = 2.5
"""At most so many times the memory of a forward pass that keeps what backpropagation needs."""


@dataclass(frozen=True)
class Row:
    model: str
    contestant: str
    seconds: float
    forwards: float
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
        self.names = [*self.standing, *(ZENNIT if options.peers else ())]
        if options.peers:
            self.names += ["captum LRP"]

    def _standing(self, options: argparse.Namespace) -> dict[str, Run]:
        model, images, targets = self.model, self.images, self.targets
        propagator = Propagator(model)
        relevance = {method: ours(propagator, method, images, targets) for method in options.methods}
        if options.cuda_graph:
            relevance |= {f"{method}, CUDA graph": captured(run) for method, run in relevance.items()}
        runs = {PLAIN: plain(model, images), "input gradient": input_gradient(model, images, targets), **relevance}
        if not hasattr(model, "layer4"):
            name, run = captured_layers(propagator, images, targets)
            runs[name] = run
        if options.peers:
            for method in options.methods:
                if method in LITERAL:
                    runs[LITERAL[method]] = literally(method, model, images, targets)
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


def first_round(contest: Contest, methods: list[str]) -> dict[str, Count]:
    """Every contestant that runs."""
    counts = {}
    for name in contest.names:
        try:
            if name in methods:
                contest.turn(name, seconds_of)  # derives the weights
            counts[name] = contest.turn(name, counted)
        except (RuntimeError, TypeError, AssertionError) as error:  # a peer that cannot treat this network
            if name in methods:
                raise
            print(f"{name} does not run: {str(error).splitlines()[0][:100]}")
    return counts


def compete(architecture: str, options: argparse.Namespace) -> list[Row]:
    """One row per contestant: medians over rounds, as many as the time allows.

    The first round is the one that is counted; its times are used where there is no time for another.
    """
    begin = time.perf_counter()
    contest = Contest(architecture, options)
    counts = first_round(contest, options.methods)
    times = {name: [] for name in counts}
    per_round = sum(count.seconds for count in counts.values())
    for _ in range(options.repetitions):
        if time.perf_counter() - begin + per_round > 60 * options.minutes:
            break
        for name, values in times.items():
            values.append(contest.turn(name, seconds_of))
    medians = {name: statistics.median(values or [counts[name].seconds]) for name, values in times.items()}
    kept = contest.kept_for_backpropagation()
    return [
        Row(
            architecture,
            name,
            median,
            median / medians[PLAIN],
            counts[name].operations / counts[PLAIN].operations,
            counts[name].peak / 1e6,
            counts[name].peak / kept,
            options.batch / median,
        )
        for name, median in medians.items()
    ]


def markdown(rows: list[Row]) -> str:
    lines = [
        "| model | contestant | seconds | plain forward passes | the same in operations | peak, MB | peak, times what "
        "backpropagation keeps | images per second |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {row.model} | {row.contestant} | {row.seconds:.3f} | {row.forwards:.2f} | {row.equivalents:.2f} "
        f"| {row.peak_mb:.0f} | {row.memory:.2f} | {row.images_per_second:.1f} |"
        for row in rows
    ]
    return "\n".join(lines)


def bounds(rows: list[Row], device: str) -> list[str]:
    """What was promised, and whether it holds."""
    found = {row.contestant: row for row in rows}
    claims = []
    for row in rows:
        limit = FORWARDS.get((row.model, row.contestant))
        if limit is not None and device == "cpu":
            claims.append((row, f"{row.forwards:.2f} plain forward passes, at most {limit}", row.forwards <= limit))
        peer = found.get(LITERAL.get(row.contestant))
        if peer is not None:
            ratio = peer.seconds / row.seconds
            claims.append(
                (row, f"{ratio:.1f} times as fast as the {peer.contestant}, at least {SPEED_UP}", ratio >= SPEED_UP)
            )
        if row.contestant in CATALOGUE:
            claims.append((row, f"{row.memory:.2f} times the memory, at most {MEMORY}", row.memory <= MEMORY))
    return [f"{'holds' if holds else 'FAILS'}: {row.model} {row.contestant}: {text}" for row, text, holds in claims]


def write(rows: list[Row], path: Path) -> None:
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, list(Row.__dataclass_fields__))
        writer.writeheader()
        writer.writerows(vars(row) for row in rows)


def set_precision(name: str) -> None:
    """``float32`` or ``tf32`` for products and convolutions on CUDA."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = name == "tf32"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="CSV to write")
    parser.add_argument("--models", nargs="+", default=["vgg16", "resnet50"], help="architectures")
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=list(CATALOGUE), help="of relmap")
    parser.add_argument("--no-peers", dest="peers", action="store_false", help="relmap alone")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=8, help="images at once")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each contestant at most")
    parser.add_argument(
        "--minutes", type=float, default=4.5, help="per network, after which no further turns are taken"
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["float32", "tf32"], default="float32", help="of products on CUDA")
    parser.add_argument("--channels-last", action="store_true", help="layout of the model and the images")
    parser.add_argument("--cuda-graph", action="store_true", help="also each method as one CUDA graph")
    options = parser.parse_args()
    if options.cuda_graph and options.device != "cuda":
        parser.error("--cuda-graph needs --device cuda")
    torch.set_num_threads(options.threads)
    set_precision(options.precision)
    where = f"CPU, {options.threads} threads" if options.device == "cpu" else torch.cuda.get_device_name()
    print(
        f"{options.batch} images of {options.size} x {options.size}, {options.precision}, {where}, "
        f"median of at most {options.repetitions}; torch {torch.__version__}, zennit {version('zennit')}, "
        f"captum {version('captum')}\n"
    )
    rows = []
    for architecture in options.models:
        found = compete(architecture, options)
        print("\n".join([markdown(found), "", *bounds(found, options.device), ""]), flush=True)
        rows += found
        if options.out:
            write(rows, options.out)


if __name__ == "__main__":
    main()
