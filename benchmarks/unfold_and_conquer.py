"""What UCAG costs beside its rival: the same method on an enlarged image.

    python benchmarks/unfold_and_conquer.py [--models resnet50 vgg16] [--method grad_cam] [--size 64] [--width 0.25]
        [--images 4] [--at-once 1 16] [--repetitions 3] [--threads 2] [--device cuda]

Each network explains images by the plain method, enlarged bicubically from once to five times their side, and by UCAG
of that method, with 1 patch or more at a time. Printed, as a Markdown table, are an image's milliseconds in a batch
(median, all in turns), and of one image alone its floating-point operations and the peak of live tensors without the
model's weights, also as multiples of the plain method's. The latter two are counted, not sampled
(``relmap.inspection.cost.Meter``), and hold on any machine.

With the paper's settings 36 patches of 1.44 times the side are 75 times the pixels, and an image of five times the side
is 25 times: UCAG computes more than that, and needs less memory the fewer patches go through the network at a time.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from functools import partial

import relmap.torchvision_shim  # noqa: F401
import torch
import torch.nn.functional as F
from relmap.catalogue.methods import find, unfold_and_conquer
from relmap.explainers.base import Explainer
from relmap.explainers.building import build as build_method
from relmap.inspection.cost import Meter, in_turns
from relmap.models import build
from relmap.propagation import Propagator
from torch import Tensor

SCALES = (1, 2, 3, 4, 5)
COLUMNS = ("network", "method", "pixels", "ms", "GFLOP", "times plain", "peak MB", "times plain")


def enlarged(images: Tensor, scale: float) -> Tensor:
    """(N, C, H, W) to ``scale`` times the sides."""
    size = [round(scale * side) for side in images.shape[2:]]
    return F.interpolate(images, size, mode="bicubic", align_corners=False)


def explain(explainer: Explainer, images: Tensor, scale: float) -> Tensor:
    """Maps (N, 1, H, W) of class 0 of enlarged images."""
    images = images if scale == 1 else enlarged(images, scale)
    return explainer(images, torch.zeros(len(images), 1, dtype=torch.long, device=images.device))


def counted(run: Callable[[], Tensor]) -> tuple[int, int]:
    """Floating-point operations, and the most bytes that were live at a time; what is derived once is there before."""
    run()
    with Meter() as meter:
        run()
    return meter.operations, meter.peak


def measure(
    architecture: str, method: str, images: Tensor, width: float, at_once: Sequence[int], repetitions: int
) -> list[tuple[str | int | float, ...]]:
    """A row of ``COLUMNS`` for each scale, and one for UCAG with each number of patches at once."""
    torch.manual_seed(0)
    model = build(architecture, 1000, width, images.shape[-1]).eval().to(images.device)
    propagator = Propagator(model)
    plain = build_method(propagator, method)
    contestants = {f"{method}, {scale}x": (plain, scale) for scale in SCALES}
    for count in at_once:
        contestants[f"ucag_{method}, {count} at once"] = (
            build_method(propagator, unfold_and_conquer(find(method)), at_once=count),
            1,
        )
    runs = {name: partial(explain, explainer, images, scale) for name, (explainer, scale) in contestants.items()}
    counts = {name: counted(partial(explain, one, images[:1], scale)) for name, (one, scale) in contestants.items()}
    seconds = in_turns(runs, repetitions)
    least = counts[f"{method}, 1x"]
    rows = []
    for name, (_, scale) in contestants.items():
        operations, peak = counts[name]
        costs = (operations / 1e9, operations / least[0], peak / 1e6, peak / least[1])
        rows.append((architecture, name, scale * images.shape[-1], 1e3 * seconds[name] / len(images), *costs))
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["resnet50", "vgg16"])
    parser.add_argument("--method", default="grad_cam")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--images", type=int, default=4)
    parser.add_argument("--at-once", type=int, nargs="*", default=[1, 16])
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    given = parser.parse_args(arguments)
    torch.set_num_threads(given.threads)
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(given.images, 3, given.size, given.size, generator=generator).to(given.device)
    print(
        f"width {given.width}, {given.images} images of {given.size} pixels, {given.threads} threads, {given.device}\n"
    )
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for architecture in given.models:
        for row in measure(architecture, given.method, images, given.width, given.at_once, given.repetitions):
            cells = [f"{value:.3g}" if isinstance(value, float) else str(value) for value in row]
            print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
