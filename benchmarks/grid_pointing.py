"""What batching gains in GridPG: maps and scores of all grids together, against a loop over grids and cells.

    python benchmarks/grid_pointing.py [--grids 500] [--methods attribution_equilibrium,grad_cam,...]

A narrow VGG-16 of random weights, its head slid over grids of noise, 2 x 2 cells of 64 pixels; every cell is a target
in turn. The loop explains one grid for one cell after the other, as the metric's authors do. Both have one thread, and
their scores must agree.
"""

from __future__ import annotations

import argparse
import time
import warnings

import relmap
import torch
from relmap.metrics.grid_pointing import grid_pointing
from relmap.models.zoo import build
from relmap.propagation import Propagator
from torch import Tensor

METHODS = ("attribution_equilibrium", "grad_cam", "guided_backprop", "integrated_gradients")
CELL, SCALE, CLASSES = 64, 2, 24


def cells() -> Tensor:
    """(K, H, W) bool: the cells of a grid."""
    inside = torch.zeros(SCALE, SCALE, SCALE * CELL, SCALE * CELL, dtype=torch.bool)
    for row in range(SCALE):
        for column in range(SCALE):
            inside[row, column, row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = True
    return inside.flatten(0, 1)


def together(propagator: Propagator, grids: Tensor, targets: Tensor, method: str) -> Tensor:
    """Scores (N, K): all cells of a batch of grids share a forward pass."""
    maps = relmap.explain(propagator, grids, targets, method, batch_size=16)
    inside = cells().expand(len(grids), *cells().shape)
    return grid_pointing(maps.flatten(0, 1), inside.flatten(0, 1)).view(targets.shape)


def one_by_one(propagator: Propagator, grids: Tensor, targets: Tensor, method: str) -> Tensor:
    """Scores (N, K): a forward pass, a map and a score for each cell of each grid."""
    scores = torch.empty(targets.shape, dtype=torch.float64)
    for place, grid in enumerate(grids):
        for cell, inside in enumerate(cells()):
            maps = relmap.explain(propagator, grid[None], targets[place, cell].view(1), method)
            scores[place, cell] = grid_pointing(maps, inside[None])
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--grids", type=int, default=500)
    parser.add_argument("--looped", type=int, default=50, help="grids of the loop, whose time is scaled up")
    parser.add_argument("--methods", default=",".join(METHODS))
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    generator = torch.Generator().manual_seed(0)
    model = build("vgg16_sliding", CLASSES, 0.125, CELL).eval().requires_grad_(False)
    model.input_range = ((-2.5,) * 3, (2.5,) * 3)
    grids = torch.rand(arguments.grids, 3, SCALE * CELL, SCALE * CELL, generator=generator) * 4 - 2
    targets = torch.randint(CLASSES, (arguments.grids, SCALE**2), generator=generator)
    propagator, looped = Propagator(model), min(arguments.looped, arguments.grids)
    total = {"together": 0.0, "loop": 0.0}
    for method in arguments.methods.split(","):
        together(propagator, grids[:2], targets[:2], method)
        start = time.perf_counter()
        batched = together(propagator, grids, targets, method)
        first = time.perf_counter() - start
        start = time.perf_counter()
        alone = one_by_one(propagator, grids[:looped], targets[:looped], method)
        second = (time.perf_counter() - start) * len(grids) / looped
        assert torch.allclose(batched[:looped], alone, atol=1e-3), f"{method}: the two differ"
        total["together"] += first
        total["loop"] += second
        print(f"{method:28} together {first:7.1f} s, loop {second:7.1f} s, {second / first:5.2f} times", flush=True)
    print(f"{'all':28} together {total['together']:7.1f} s, loop {total['loop']:7.1f} s", end=", ")
    print(f"{total['loop'] / total['together']:5.2f} times")


if __name__ == "__main__":
    main()
