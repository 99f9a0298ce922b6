"""What a pass through each network costs: operations, counted, and how fast a core does them, measured at three widths.

    python benchmarks/networks.py [--into resources/networks.csv]

``relmap plan`` scales what jobs took by it. Operations and weights are those of the network at its full width and at
the pictures' size of ``config/paper.yaml``. The rates, in operations a second on one thread, are of a forward and a
backward pass over eight pictures; narrow networks are slower at each operation, for they do few at a time. Run it on a
quiet machine; it takes two minutes.
"""

from __future__ import annotations

import argparse
import csv
import io
import time
from pathlib import Path

import torch
import yaml
from relmap.catalogue.models import MODELS
from relmap.errors import InputError
from relmap.inspection.cost import Meter
from relmap.job.files import atomic_path
from relmap.models import build
from torch import Tensor, nn

ROOT = Path(__file__).parents[1]
WIDTHS = (0.125, 0.25, 1.0)
SIDE, PICTURES, REPETITIONS = 96, 8, 3


def counted(name: str, side: int) -> tuple[int, float]:
    """Operations of a forward pass over one picture at full width, and its weights in MB; nothing is computed."""
    model = build(name, 1000, 1.0, side, device="meta").eval()
    with Meter() as meter, torch.no_grad():
        model(torch.empty(1, 3, side, side, device="meta"))
    return meter.operations, sum(value.nbytes for value in model.state_dict().values()) / 1e6


def rate(name: str, width: float, side: int) -> float:
    """Operations a second, of a forward and a backward pass; the fastest of some."""
    model = build(name, 24, width, side).eval()
    images = torch.randn(PICTURES, 3, side, side).requires_grad_()
    with Meter() as meter:
        _pass(model, images)
    return meter.operations / min(_pass(model, images) for _ in range(REPETITIONS))


def _pass(model: nn.Module, images: Tensor) -> float:
    begun = time.process_time()
    scores = model(images)
    (scores[0] if isinstance(scores, tuple) else scores).sum().backward()
    return time.process_time() - begun


def smallest(name: str, width: float) -> int:
    """The side that rates are measured at: small, where the network takes it."""
    side = SIDE
    while True:
        try:
            build(name, 24, width, side, device="meta")
        except InputError:
            side += 32
            continue
        return side


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--into", type=Path, default=ROOT / "resources" / "networks.csv")
    options = parser.parse_args()
    torch.set_num_threads(1)
    full = yaml.safe_load((ROOT / "config" / "paper.yaml").read_text(encoding="utf-8"))["models"]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["network", "side", "operations", "weights_mb", *(f"rate_{width:g}" for width in WIDTHS)])
    seen: set[object] = set()
    for name, row in MODELS.items():
        if not row.maker or row.maker in seen:
            continue
        seen.add(row.maker)
        side = full.get(name, {}).get("input_size", 224)
        operations, weights = counted(name, side)
        rates = [rate(name, width, smallest(name, width)) for width in WIDTHS]
        writer.writerow([name, side, operations, round(weights, 1), *(f"{value:.3g}" for value in rates)])
        print(f"{name:24} {operations / 1e9:6.1f} GFLOP {' '.join(f'{value / 1e9:5.1f}' for value in rates)} GFLOP/s")
    with atomic_path(options.into) as temporary:
        temporary.write_text(text.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    main()
