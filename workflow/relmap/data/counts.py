"""How many pairs a data set has, and whether they are as many as the true one's."""

from __future__ import annotations

from collections.abc import Mapping

from relmap.data.difficult import pair_flags
from relmap.data.manifest import Manifest


def count_pairs(manifest: Manifest, area: str = "boxes") -> dict[str, int]:
    """Counts of the test images.

    Args:
        area: as of ``relmap.data.difficult.pair_flags``.

    Returns:
        ``images``; ``labelled_images``, those with a label; ``objects`` (boxes) and ``plain_objects``, those not marked
        difficult; ``pairs`` of image and label; ``counted_pairs``, whose class has such an object; ``difficult_pairs``,
        and ``difficult_images``, which have one.
    """
    rows = manifest.rows("test")
    frame = manifest.frame.iloc[rows]
    flags = [list(pair_flags(manifest, row, area).values()) for row in rows]
    return {
        "images": len(rows),
        "labelled_images": sum(bool(labels) for labels in frame["labels"]),
        "objects": sum(len(marks) for marks in frame["box_difficult"]),
        "plain_objects": sum(marks.count(False) for marks in frame["box_difficult"]),
        "pairs": sum(len(pairs) for pairs in flags),
        "counted_pairs": sum(counted for pairs in flags for counted, _ in pairs),
        "difficult_pairs": sum(difficult for pairs in flags for _, difficult in pairs),
        "difficult_images": sum(any(difficult for _, difficult in pairs) for pairs in flags),
    }


def differences(found: Mapping[str, int], expected: Mapping[str, int]) -> list[str]:
    """One sentence for each count that is not the true data set's; none where all agree."""
    return [
        f"{name.replace('_', ' ')}: {found[name]} where the published data set has {count}"
        for name, count in expected.items()
        if found[name] != count
    ]
