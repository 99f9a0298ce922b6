"""Maps of all pairs by methods that share forward passes, block after block, so that memory does not grow with them.

Blocks depend on the run alone, and jobs may divide them (``relmap.job.share``): a map is the same to the bit whichever
job makes it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from tqdm import tqdm

from relmap.catalogue.methods import Method
from relmap.evidence.evaluation import pairs_of_images, ranges_of_images
from relmap.explanation import compare
from relmap.job.subject import Subject
from relmap.propagation import Propagator

BYTES = 1 << 29
"""Maps of all methods that are in memory before they go where they stay."""
BATCHES = 2
"""Full batches in a block, at most: few enough that jobs have something to divide."""


def blocks_of(
    image_ids: Sequence[str], methods: int, frame: tuple[int, int], batch_size: int, at_once: int = BYTES
) -> list[slice]:
    """Cut N pairs into blocks of a few batches; a block begins with a batch, so that none is shared by two.

    Args:
        image_ids: the image of each pair; those of an image come together.
        methods: how many methods explain them.
        frame: height and width that all maps fit in.
        batch_size: images of one forward pass.
        at_once: bytes of a block's maps, where they are more than one batch's.
    """
    fitting = at_once // max(1, 4 * methods * frame[0] * frame[1]) // batch_size
    return ranges_of_images(image_ids, batch_size * max(1, min(BATCHES, fitting)))


def explain_pairs(
    subject: Subject,
    image_ids: Sequence[str],
    rows: np.ndarray,
    targets: np.ndarray,
    frame: tuple[int, int],
    blocks: Sequence[slice],
    given: Mapping[Method, Mapping[str, Any]],
    keep: Mapping[str, Callable[[np.ndarray], None]],
) -> None:
    """Explain the pairs of some blocks of N, in order.

    Args:
        subject: the network, and the data set.
        image_ids, rows: the image of each pair, and its place in the manifest (N,); those of an image come together.
        targets: (N,) the classes.
        frame: height and width that all maps fit in.
        blocks: of ``blocks_of``.
        given: method -> parameters beside its row's.
        keep: method id -> what takes its next maps, (K, H, W) float32, 0 outside a map's own size.
    """
    propagator = Propagator(subject.model)
    total = sum(part.stop - part.start for part in blocks)
    with tqdm(total=total, desc="maps", unit="pair", mininterval=5) as bar:
        for part in blocks:
            found = {method.id: np.zeros((part.stop - part.start, *frame), np.float32) for method in given}
            part_rows, part_targets = rows[part], targets[part]
            # The targets of an image share its forward pass.
            for of_images in pairs_of_images(image_ids[part]):
                batch_size = max(1, subject.batch_size // of_images.shape[1])
                firsts = part_rows[of_images[:, 0]]
                for (images, classes), places in subject.placed(firsts, part_targets[of_images], None):
                    height, width = images.shape[2:]
                    at = of_images[places].ravel()
                    for method, maps in compare(propagator, images, classes, given, batch_size=batch_size).items():
                        found[method][at, :height, :width] = maps.flatten(0, 1).float().cpu().numpy()
                    bar.update(len(at))
            for method, maps in found.items():
                keep[method](maps)
