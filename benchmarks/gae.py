"""What batching gains in Global Attribution Evaluation, against a loop over images, steps and mosaics.

    python benchmarks/gae.py [--mosaics 32] [--looped 2] [--methods grad_cam,input_x_gradient,...]

A narrow VGG-16 of random weights, 64 pixels, T = 10 steps. Each mosaic is made of four images of noise, one of them is
positive: 32 mosaics are 32 positive images, 640 masked inputs and 32 mosaics to explain. The loop masks one image after
the other and explains one input after the other, as the metric's authors do, by the same explainers on the same traced
network. Both have as many threads, and their scores must agree. Masks, outputs and impacts take float64 in both and are
made once for all methods of a job, so a method's own part, its maps, is timed apart from the whole.
"""

from __future__ import annotations

import argparse
import copy
import time
import warnings

import relmap
import torch
from relmap.metrics.gae import Scores, attribution, evaluate, output_changes, prepare, robustness, similarity
from relmap.metrics.gae import weighted_share as share
from relmap.metrics.gae_states import LERF, MORF, shares
from relmap.metrics.mosaics import assembled, score_maps
from relmap.models.zoo import build
from relmap.propagation import Propagator
from torch import Tensor, nn

METHODS = ("grad_cam", "input_x_gradient", "abslrp")
SIDE, CLASSES, STEPS = 64, 24, 10


def one_by_one(
    model: nn.Module, propagator: Propagator, four: Tensor, quadrant: int, method: str, spent: list[float]
) -> Scores:
    """Scores of one mosaic of images (4, C, H, W); ``spent`` takes the seconds of each map."""

    def attributed(image: Tensor) -> Tensor:
        start = time.perf_counter()
        found = attribution(relmap.explain(propagator, image[None], target, method, by_channel=True))
        spent.append(time.perf_counter() - start)
        return found

    def impact(image: Tensor) -> tuple[Tensor, Tensor]:
        leaf = image.clone().requires_grad_(True)
        output = model(leaf[None])[0, target]
        output.abs().backward()
        return output.detach(), (leaf.detach() * leaf.grad).abs()

    exact = four.double()
    logits = torch.cat([model(image[None]).detach() for image in exact])
    predicted = logits.argmax(1)
    target = int(predicted[quadrant])
    first = attributed(four[quadrant])
    outputs, similarities, sums = torch.empty(2, 1, STEPS + 1).double(), torch.empty(2, 1, STEPS).double(), [0, 0]
    for order in (MORF, LERF):
        masked = exact[quadrant].clone()
        for step, part in enumerate(shares(STEPS)):
            outputs[order, 0, step], elements = impact(masked)
            sums[order] = sums[order] + elements
            places = elements.flatten().sort(descending=order == MORF, stable=True).indices
            masked.view(-1)[places[: int(part * masked.numel() + 1e-6)]] = 0
            similarities[order, 0, step] = similarity(first, attributed(masked.float()))[0]
        outputs[order, 0, STEPS] = impact(masked)[0]
    signs = torch.where(sums[LERF] / sums[LERF].sum() >= sums[MORF] / sums[MORF].sum(), 1, -1)
    scores = score_maps(logits[quadrant][None], predicted[None], torch.tensor([quadrant]), four.shape[2:])
    changes = output_changes(outputs)
    return Scores(
        robustness(changes, similarities),
        share(first, signs[None]),
        share(attributed(assembled(four[None])[0]), scores[:, None]),
        similarities,
        outputs,
        changes,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mosaics", type=int, default=32)
    parser.add_argument("--looped", type=int, default=2, help="mosaics of the loop, whose time is scaled up")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--methods", default=",".join(METHODS))
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    warnings.simplefilter("ignore")
    generator = torch.Generator().manual_seed(0)
    model = build("vgg16", CLASSES, 0.125, SIDE).eval().requires_grad_(False)
    model.input_range = ((-2.5,) * 3, (2.5,) * 3)
    images = torch.rand(arguments.mosaics, 4, 3, SIDE, SIDE, generator=generator) * 4 - 2
    quadrants = torch.randint(4, (arguments.mosaics,), generator=generator)
    propagator, exact, looped = Propagator(model), copy.deepcopy(model).double(), min(arguments.looped, len(images))
    start = time.perf_counter()
    trials = prepare(model, images, quadrants, batch_size=arguments.batch_size)
    shared = time.perf_counter() - start
    print(f"{'masks, outputs, impacts':24} together {shared:6.1f} s, once for all methods")
    for method in arguments.methods.split(","):
        start = time.perf_counter()
        batched = evaluate(propagator, trials, method, batch_size=arguments.batch_size)
        first, spent = time.perf_counter() - start, []
        start = time.perf_counter()
        alone = [one_by_one(exact, propagator, images[i], int(quadrants[i]), method, spent) for i in range(looped)]
        second, maps = ((time.perf_counter() - start) * len(images) / looped, sum(spent) * len(images) / looped)
        for part in ("lc", "c", "total"):
            one = torch.cat([getattr(found, part) for found in alone])
            assert torch.allclose(getattr(batched, part)[:looped], one, atol=1e-4), f"{method}: {part} differs"
        print(f"{method:24} maps     {first:6.1f} s, loop {maps:6.1f} s, {maps / first:5.1f} times", end="; ")
        print(f"in all {first + shared:6.1f} s, {second:6.1f} s, {second / (first + shared):5.1f} times", flush=True)


if __name__ == "__main__":
    main()
