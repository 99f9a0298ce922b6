"""What relevance costs, in plain forward passes of the same model, beside zennit on the same machine in the same run.

    python benchmarks/relevance_speed.py [--out speed.csv]

Contestants take turns, so that what else the machine does hits all of them; medians are compared. A contestant's time
holds everything from images to maps: forward pass, propagation, channel sum. Set-up (tracing, derived weights, zennit's
hooks) happens before, once per model. Prints a Markdown table; a quiet machine is up to you.
"""

from __future__ import annotations

import argparse
import csv
import ctypes
import re
import statistics
import time
from collections.abc import Callable
from contextlib import ExitStack
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
from relmap.files import atomic_path
from relmap.models import build
from relmap.propagation import Propagator, composites, starts
from torch import Tensor, nn

CLASSES = 1000
COLUMNS = ("model", "contestant", "seconds", "forward_passes", "peak_mb")
OURS = {"LRP alpha 1, beta 0": composites.alpha_beta(), "LRP epsilon": composites.epsilon()}
THEIRS = {
    "zennit ZPlus": lambda: zennit.rules.ZPlus(zero_params="bias"),
    "zennit AlphaBeta(1, 0)": lambda: zennit.rules.AlphaBeta(1, 0, zero_params="bias"),
    "zennit Epsilon": lambda: zennit.rules.Epsilon(1e-6),
}


def plain(model: nn.Module, images: Tensor) -> Callable[[], object]:
    """The model as a user runs it."""

    @torch.inference_mode()
    def run():
        return model(images)

    return run


def ours(model: nn.Module, composite: composites.Composite, images: Tensor, targets: Tensor) -> Callable[[], object]:
    propagator = Propagator(model).by(composite)

    def run():
        activations = propagator.forward(images)
        return propagator.propagate(activations, starts.one_hot(activations.logits, targets)[None]).relevance.sum(2)

    return run


def theirs(
    model: nn.Module, rule: Callable[[], object], images: Tensor, targets: Tensor, stack: ExitStack
) -> Callable[[], object]:
    """zennit's own pace: its hooks stay registered until ``stack`` closes."""
    types = zennit.types
    layers = [(types.Activation, zennit.rules.Pass()), ((types.AvgPool, zennit.layer.Sum), zennit.rules.Norm())]
    canonizers = [zennit.torchvision.ResNetCanonizer()] if hasattr(model, "layer4") else []
    composite = zennit.composites.LayerMapComposite([*layers, (types.Linear, rule())], canonizers=canonizers)
    attribute = zennit.attribution.Gradient(model, composite)
    start = nn.functional.one_hot(targets, CLASSES).float()
    stack.enter_context(attribute)

    def run():
        return attribute(images.clone().requires_grad_(), start)[1].sum(1)

    return run


def layers_together_and_apart(model: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Callable[[], object]]:
    """Relevance at the activations of all convolutions: captured on one way, or by one early-stopped pass each."""
    propagator = Propagator(model).by(OURS["LRP alpha 1, beta 0"])
    convolutions = [operation.name for operation in propagator.graph if operation.kind == "conv"]
    layers = [propagator.graph.activation_of(name) for name in convolutions]

    def begin():
        activations = propagator.forward(images)
        return activations, starts.one_hot(activations.logits, targets)[None]

    def together():
        activations, start = begin()
        return propagator.propagate(activations, start, stop=layers[0], capture=layers).captured

    def apart():
        activations, start = begin()
        return [propagator.propagate(activations, start, stop=layer).relevance for layer in layers]

    count = len(layers)
    return {f"relevance at {count} layers, one pass": together, f"relevance at {count} layers, {count} passes": apart}


def resident(field: str) -> float:
    """Resident memory of this process in MB: ``VmRSS`` now, ``VmHWM`` the highest since it was reset; NaN off Linux."""
    status = Path("/proc/self/status")
    found = re.search(rf"{field}:\s+(\d+)", status.read_text()) if status.exists() else None
    return int(found[1]) / 1024 if found else float("nan")


def peak_memory(run: Callable[[], object]) -> float:
    """MB that a first call takes at most, derived weights included; NaN where the system cannot tell (not Linux)."""
    try:
        ctypes.CDLL(None).malloc_trim(0)  # else what earlier contestants freed would serve this one
        Path("/proc/self/clear_refs").write_text("5")
    except (OSError, AttributeError):
        return float("nan")
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def seconds_of(run: Callable[[], object]) -> float:
    begin = time.perf_counter()
    run()
    return time.perf_counter() - begin


def compete(architecture: str, size: int, batch: int, repetitions: int) -> list[dict[str, object]]:
    """One row per contestant, medians over interleaved repetitions."""
    generator = torch.Generator().manual_seed(0)
    model = build(architecture, CLASSES, input_size=size).eval().requires_grad_(False)
    images = torch.randn(batch, 3, size, size, generator=generator)
    targets = torch.randint(0, CLASSES, (batch,), generator=generator)
    runs = {"plain forward": plain(model, images)}
    runs |= {name: ours(model, composite, images, targets) for name, composite in OURS.items()}
    if architecture == "vgg16":
        runs |= layers_together_and_apart(model, images, targets)
    peaks, times = {}, {name: [] for name in (*runs, *THEIRS)}
    for repetition in range(repetitions + 1):
        for name in times:
            with ExitStack() as stack:
                # zennit changes the model while its hooks are on, so they are on for its own turns only.
                run = runs.get(name) or theirs(model, THEIRS[name], images, targets, stack)
                if repetition == 0:  # warm-up
                    peaks[name] = peak_memory(run)
                else:
                    times[name].append(seconds_of(run))
    medians = {name: statistics.median(values) for name, values in times.items()}
    return [
        dict(zip(COLUMNS, (architecture, name, median, median / medians["plain forward"], peaks[name]), strict=True))
        for name, median in medians.items()
    ]


def markdown(rows: list[dict[str, object]]) -> str:
    lines = ["| model | contestant | seconds | plain forward passes | peak memory, MB |", "|---|---|---:|---:|---:|"]
    lines += [
        "| {model} | {contestant} | {seconds:.3f} | {forward_passes:.2f} | {peak_mb:.0f} |".format(**row)
        for row in rows
    ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="CSV to write")
    parser.add_argument("--models", nargs="+", default=["vgg16", "resnet50"], help="architectures")
    parser.add_argument("--size", type=int, default=224, help="side of the images in pixels")
    parser.add_argument("--batch", type=int, default=8, help="images at once")
    parser.add_argument("--threads", type=int, default=2, help="CPU threads")
    parser.add_argument("--repetitions", type=int, default=3, help="turns of each contestant")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        f"{options.batch} images of {options.size} x {options.size}, float32, CPU, {options.threads} threads, "
        f"median of {options.repetitions}; torch {torch.__version__}, zennit {version('zennit')}\n"
    )
    rows = []
    for architecture in options.models:
        found = compete(architecture, options.size, options.batch, options.repetitions)
        print(markdown(found) + "\n", flush=True)
        rows += found
    if options.out:
        with atomic_path(options.out) as temporary, open(temporary, "w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)


if __name__ == "__main__":
    main()
