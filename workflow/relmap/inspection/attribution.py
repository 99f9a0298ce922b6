"""Maps of all pairs by methods that share forward passes, range after range, so that memory does not grow with them."""

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


def explain_pairs(
    subject: Subject,
    image_ids: Sequence[str],
    rows: np.ndarray,
    targets: np.ndarray,
    sizes: np.ndarray,
    given: Mapping[Method, Mapping[str, Any]],
    keep: Mapping[str, Callable[[np.ndarray], None]],
    at_once: int = BYTES,
) -> None:
    """Explain N pairs, in order.

    Args:
        subject: the network, and the data set.
        image_ids, rows: the image of each pair, and its place in the manifest (N,); those of an image come together.
        targets: (N,) the classes.
        sizes: (N, 2) height and width of what the network sees.
        given: method -> parameters beside its row's.
        keep: method id -> what takes its next maps, (K, H, W) float32, 0 outside a map's own size.
        at_once: bytes of maps that are in memory; no map depends on it but by how batches round.
    """
    propagator = Propagator(subject.model)
    frame = tuple(sizes.max(0, initial=0).tolist())
    pairs = max(subject.batch_size, at_once // max(1, 4 * len(given) * frame[0] * frame[1]))
    with tqdm(total=len(rows), desc="maps", unit="pair", mininterval=5) as bar:
        for part in ranges_of_images(image_ids, pairs):
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
