"""The metrics of what CLAM's text says and its tables do not, as rows. No torch."""

from __future__ import annotations

from relmap.catalogue.metrics import MASKS, Column, Metric

OF_TEXT = [
    Metric(
        "edges",
        "Likeness to edges",
        "edges.py:score",
        (
            Column(
                "edge_correlation",
                "Rank correlation of the map's magnitude with the picture's edges",
                "CLAM, Section 4.2.1, reading",
                "edge_correlation",
                # It describes.
                higher_is_better=False,
                counted=False,
            ),
        ),
    ),
    Metric(
        "plain_backgrounds",
        "IoU by background",
        "plain_backgrounds.py:score",
        tuple(
            Column(
                f"mean_iou_{kind}",
                f"IoU of the map above mean plus standard deviation, pictures with {kind} backgrounds",
                "CLAM, A.3 and A.5, reading",
                f"iou_{kind}",
                counted=False,
            )
            for kind in ("plain", "cluttered")
        ),
        (MASKS,),
    ),
    Metric(
        "body",
        "Share on the object",
        "body.py:score",
        (
            Column(
                "share_on_object",
                "Share of attribute regions on the object's segmentation",
                "CLAM, Section 4.2.2, reading",
                "share_on_object",
                counted=False,
            ),
        ),
        (MASKS,),
    ),
]
