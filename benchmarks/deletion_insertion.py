"""Deletion and insertion: how much of the time the network takes, and what batching gains.

    python benchmarks/deletion_insertion.py [--images 16] [--size 64] [--threads 2] [--full] [--check]

Narrow networks of random weights at 64 pixels, as the demo's, and with `--full` (always on CUDA) a whole ResNet-50 at
224 pixels. Maps are a CAM-like blob, noise, and a blob cut off at 0, whose zeros are one tie. Both protocols run as
the metrics do, from pictures in memory to areas; the share is the time inside the network's forward passes over all.
At least .85 is asked for: `--check` fails below it. The loop beside it is the usual one, of the released codes: a map
after the other, its steps after each other, each a batch of one. Areas must agree.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from relmap.evidence.statistics import area_under
from relmap.metrics.deletion_insertion import DELETION, INSERTION, even_points, points, probabilities
from relmap.metrics.insertion_blur import gaussian_blur
from relmap.metrics.ranking import TIES
from relmap.models.zoo import build
from torch import Tensor, nn

WANTED = 0.85


class Timed(nn.Module):
    """A network, and the seconds and pictures of its forward passes."""

    def __init__(self, model: nn.Module, device: str) -> None:
        super().__init__()
        self.model, self.device, self.seconds, self.pictures = model, device, 0.0, 0

    def forward(self, images: Tensor) -> Tensor:
        start = now(self.device)
        logits = self.model(images)
        self.seconds += now(self.device) - start
        self.pictures += len(images)
        return logits


def now(device: str) -> float:
    """Seconds, when all that was asked for is done."""
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def maps_of(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Maps (N, H, W), in turn smooth, noise, and smooth with zeros."""
    coarse = torch.randn(count, 1, 7, 7, generator=generator)
    maps = F.interpolate(coarse, (size, size), mode="bicubic")[:, 0]
    maps[1::3] = torch.randn(maps[1::3].shape, generator=generator)
    maps[2::3].clamp_(min=0)
    return maps


def blurred(model: nn.Module, images: Tensor, maps: Tensor, targets: Tensor, batch: int) -> Tensor:
    """Areas (N, 2) by UCAG's protocol."""
    size = images.shape[-1]
    counts, levels = even_points(size * size, size / 28, size)
    kernel = 2 * round(25 * size / 224) + 1
    behind = gaussian_blur(images, kernel, 50 * size / 224)
    grey = torch.zeros(3, device=images.device)
    found = probabilities(model, images, maps, targets, counts, behind, grey, batch_size=batch)
    return areas(found[:, 0], levels)


def black(model: nn.Module, images: Tensor, maps: Tensor, targets: Tensor, batch: int) -> Tensor:
    """Areas (N, 2) by C3-LRP's, of the strict order; both rules of ties are made."""
    counts, levels = points(images.shape[-1] ** 2, 100)
    fill = torch.full((3,), -2.0, device=images.device)
    found = probabilities(model, images, maps, targets, counts, fill, None, TIES, batch)
    return areas(found[:, 0], levels)


def areas(curves: Tensor, levels: list[float]) -> Tensor:
    return torch.stack([torch.from_numpy(area_under(curves[:, s].cpu().numpy(), levels)) for s in (0, 1)], dim=1)


@torch.inference_mode()
def one_by_one(model: nn.Module, image: Tensor, relevance: Tensor, target: int) -> Tensor:
    """Areas (2,) of one map before black, strict, a forward pass a step, the whole and the black picture twice."""
    counts, levels = points(image[0].numel(), 100)
    order = relevance.flatten().argsort(descending=True, stable=True)
    start, end = torch.full_like(image, -2.0), image.clone()
    curves = torch.empty(1, 2, len(counts))
    for step, n in enumerate(counts):
        for side, from_here, to in ((INSERTION, start, image), (DELETION, end, start)):
            picture = from_here.clone().flatten(1)
            picture[:, order[:n]] = to.flatten(1)[:, order[:n]]
            curves[0, side, step] = model(picture.view_as(image)[None]).softmax(1)[0, target]
    return areas(curves, levels)[0]


def measure(name: str, protocol: Callable[..., Tensor], timed: Timed, given: tuple[Tensor, ...], batch: int) -> float:
    """Says a protocol's share on a network, and returns it."""
    protocol(timed, *(tensor[:2] for tensor in given), batch)
    timed.seconds, timed.pictures = 0.0, 0
    start = now(timed.device)
    protocol(timed, *given, batch)
    spent = now(timed.device) - start
    share = timed.seconds / spent
    ms = f"{1e3 * spent / len(given[0]):.0f} ms a map, {timed.pictures / len(given[0]):.0f} pictures each"
    print(
        f"{name} {protocol.__name__}: {share:.1%} of the time in the network (at least {WANTED:.0%}); {ms}", flush=True
    )
    return share


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=16)
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--full", action="store_true", help="ResNet-50 at full width, 224 pixels, two images on a CPU")
    parser.add_argument("--check", action="store_true", help="fail where a share is below the bound")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args(given)
    torch.set_num_threads(arguments.threads)
    cuda = arguments.device == "cuda"
    settings = [(name, 0.125, arguments.size, arguments.images) for name in ("vgg16", "resnet50")]
    if arguments.full or cuda:
        settings.append(("resnet50", 1.0, 224, 64 if cuda else 2))
    shares = []
    for name, width, size, count in settings:
        generator = torch.Generator().manual_seed(0)
        model = build(name, 24, width, size).to(arguments.device).eval().requires_grad_(False)
        images = (torch.rand(count, 3, size, size, generator=generator) * 4 - 2).to(arguments.device)
        maps, targets = maps_of(count, size, generator), torch.randint(24, (count,), generator=generator)
        data, title = (images, maps, targets.to(arguments.device)), f"{name}, width {width:g}, {size} pixels:"
        protocols = (blurred,) if width == 1 and not cuda else (blurred, black)
        shares += [measure(title, each, Timed(model, arguments.device), data, arguments.batch) for each in protocols]
        if width < 1:
            start = now(arguments.device)
            alone = one_by_one(model, images[0], maps[0].to(arguments.device), int(targets[0]))
            loop = now(arguments.device) - start
            start = now(arguments.device)
            together = black(model, *data, arguments.batch)
            each = (now(arguments.device) - start) / count
            assert torch.allclose(alone, together[0], atol=1e-5), "the loop's areas differ"
            print(f"{title} {loop / each:.1f} times the speed of a loop over steps", flush=True)
    return int(arguments.check and min(shares) < WANTED)


if __name__ == "__main__":
    sys.exit(main())
