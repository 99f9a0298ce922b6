"""ROAD's imputation beside pytorch-grad-cam's, and beside a direct sparse solution of each picture by itself.

    python benchmarks/road.py [--size 64] [--images 8] [--threads 2]

Maps are noise and blobs; levels are 10 to 90 percent, both orders. pytorch-grad-cam (`pip install grad-cam`) solves
one picture at a time by scipy's spsolve; it is not among relmap's packages, and where it is absent a line says so. The
plain solution sets up the same system by index arrays, without its slow list of lists: the harder peer. Results must
agree to 1e-5.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from relmap.metrics.imputation import linear_imputation
from relmap.metrics.ranking import entry_ranks
from relmap.metrics.road import pixels_at, removed
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve
from torch import Tensor

PERCENTS = range(10, 100, 10)
OFFSETS = [(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1) if (down, right) != (0, 0)]


def plain(image: Tensor, missing: Tensor) -> Tensor:
    """One picture (C, H, W), float64, by scipy's spsolve."""
    holes, width = missing.numpy(), missing.shape[1]
    places = np.flatnonzero(holes)
    number = np.full(holes.size, -1)
    number[places] = np.arange(len(places))
    flat, total = image.flatten(1).numpy(), np.zeros(len(places))
    right, entries = np.zeros((len(places), len(flat))), []
    for down, across in OFFSETS:
        y, x = places // width + down, places % width + across
        inside = (y >= 0) & (y < len(holes)) & (x >= 0) & (x < width)
        weight = 1 / 6 if 0 in (down, across) else 1 / 12
        rows, there = np.flatnonzero(inside), (y * width + x)[inside]
        total[rows] += weight
        free = number[there] >= 0
        right[rows[~free]] += weight * flat[:, there[~free]].T
        entries.append((np.full(free.sum(), -weight), rows[free], number[there[free]]))
    entries.append((total, np.arange(len(places)), np.arange(len(places))))
    values, rows, columns = (np.concatenate(part) for part in zip(*entries, strict=True))
    filled = flat.copy()
    filled[:, places] = spsolve(coo_matrix((values, (rows, columns))).tocsc(), right).T
    return torch.from_numpy(filled).view_as(image)


def peers() -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """Who imputes one picture at a time."""
    found: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"plain spsolve": plain}
    try:
        import relmap.torchvision_shim  # noqa: F401  the package imports torchvision
        from pytorch_grad_cam.metrics.road import NoisyLinearImputer
    except ImportError:
        print("pytorch-grad-cam is absent: `pip install grad-cam` into this environment to compare with it")
        return found
    imputer = NoisyLinearImputer(noise=0.0)
    # It takes pictures in float32 alone.
    return {**found, "pytorch-grad-cam": lambda image, missing: imputer(image.float(), (~missing).float()).double()}


def cases(count: int, size: int) -> tuple[Tensor, Tensor]:
    """Pictures (N, 3, H, W) in [0, 1], and what of them is missing (N, H, W)."""
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(count, 3, size, size, generator=generator)
    maps = torch.rand(count, size, size, generator=generator)
    blobs = torch.randn(count, 1, 7, 7, generator=generator)
    maps[1::2] = F.interpolate(blobs, (size, size), mode="bicubic")[1::2, 0]
    ranks, missing = entry_ranks(maps), []
    for percent in PERCENTS:
        wanted = torch.full((count,), pixels_at(percent, size * size))
        missing += [removed(ranks, wanted, torch.full((count,), lerf)) for lerf in (False, True)]
    return images.repeat(len(missing), 1, 1, 1), torch.cat(missing)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    images, missing = cases(arguments.images, arguments.size)
    there = images.to(arguments.device), missing.to(arguments.device)
    linear_imputation(there[0][:8], there[1][:8])
    start, used = time.perf_counter(), time.process_time()
    together = linear_imputation(*there).cpu()
    seconds, used = (now - then for now, then in ((time.perf_counter(), start), (time.process_time(), used)))
    per_image = f"ms an image of {len(PERCENTS)} levels and two orders"
    print(f"relmap on {arguments.device}: {1e3 * seconds / arguments.images:.1f} {per_image}")
    for name, impute in peers().items():
        start, own = time.perf_counter(), time.process_time()
        alone = torch.stack([impute(*one) for one in zip(images.double(), missing, strict=True)])
        now, own = time.perf_counter() - start, time.process_time() - own
        assert (alone - together).abs().max() < 1e-5, f"{name}: the two differ"
        print(f"{name}: {1e3 * now / arguments.images:.1f} {per_image}: {now / seconds:.1f} times", end="")
        print(f" ({own / used:.1f} of processor time)" if arguments.device == "cpu" else "")


if __name__ == "__main__":
    main()
