"""Birds beside their siblings: the pictures on which a part decides most, to look at how maps follow it."""

from __future__ import annotations

import numpy as np
import torch

from relmap.data.images import load_pixels
from relmap.data.render.minimal_pairs import minimal_pairs
from relmap.evidence.siblings import Siblings
from relmap.job.subject import Subject
from relmap.metrics.minimal_pairs import THINGS, answers, seen_changes


def clearest(subject: Subject, rows: np.ndarray, count: int) -> Siblings:
    """Of some pictures the ones whose part decides most, by the logit that it moves; each of another bird and part.

    Args:
        subject: network and rendered birds.
        rows: places of pictures in the manifest.
        count: how many at most. Parts come twice only when there are too few others.
    """
    stored = load_pixels(subject.manifest, rows, subject.preprocessing, subject.workers)
    changes = seen_changes(subject.preprocessing, minimal_pairs(subject.manifest, rows), stored)
    labels = torch.from_numpy(subject.manifest.single_labels(rows))
    drop, tells = answers(subject.model, subject.preprocessing, stored, changes, labels, subject.batch_size)
    order = [place for place in np.argsort(-drop, kind="stable") if tells[place]]
    chosen: list[int] = []
    for fresh in (True, False):
        for place in order:
            taken = changes.picture[chosen], changes.thing[chosen]
            known = changes.picture[place] in taken[0] or (fresh and changes.thing[place] in taken[1])
            if len(chosen) < count and not known:
                chosen.append(int(place))
    return Siblings(
        subject.manifest.frame["image_id"].iloc[rows[changes.picture[chosen]]].tolist(),
        [THINGS[thing] for thing in changes.thing[chosen]],
        np.stack([labels.numpy()[changes.picture[chosen]], changes.sibling[chosen]], 1),
        stored[changes.picture[chosen]].permute(0, 2, 3, 1).numpy(),
        changes.pixels[chosen].permute(0, 2, 3, 1).numpy(),
        changes.differs[chosen].numpy(),
        drop[chosen],
    )
