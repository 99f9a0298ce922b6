"""Data sets as rows: who reads their files, who renders them, what they are annotated with. No torch.

Adding a data set is one reader, one writer where it is rendered, and one row here, or in a Python file of one's own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from relmap.catalogue.imported import imported
from relmap.catalogue.metrics import BOXES, MASKS, MINIMAL_PAIRS


@dataclass(frozen=True)
class DataSet:
    """A data set.

    Attributes:
        id, label, citation: its name everywhere, its name for readers, where it comes from.
        reader: ``module:function`` below ``relmap.data.formats``, ``file.py:function``, or the function itself:
            (root, *, dataset, workers, classes, require_training) -> manifest. None until somebody writes it.
        renderer: the same below ``relmap.data.render``: (root, *, seed, workers, and the config's sizes) writes the
            true format. None for one that cannot be rendered.
        has: ``BOXES``, ``MASKS``.
        rendered_has: what it has beside where it is rendered: ``MINIMAL_PAIRS``.
        derived: whether a paper's rules make it of other data sets; it is then in every run of that paper.
        classified_by: the data set whose classes, in the order of its manifest, are this one's, and whose networks
            classify it; empty for its own.
        multi_label: whether an image may have several classes, which networks then tell independently.
        fit: how a network of another data set sees its pictures, as of ``Preprocessing``; empty for as its own.
        counts: of the published data set's test images, named as ``relmap.data.counts.count_pairs`` names them.
        size: images of the published data set, to train on and to test on; what jobs ask for grows with them.
    """

    id: str
    label: str
    citation: str
    reader: str | Callable[..., Any] | None = None
    renderer: str | Callable[..., Any] | None = None
    has: tuple[str, ...] = ()
    rendered_has: tuple[str, ...] = ()
    classified_by: str = ""
    derived: bool = False
    multi_label: bool = False
    fit: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    size: tuple[int, int] = (5_000, 5_000)


DATASETS: dict[str, DataSet] = {
    dataset.id: dataset
    for dataset in (
        DataSet(
            "cub200_2011",
            "CUB-200-2011",
            "Wah et al. 2011",
            "cub:read_cub",
            "cub_writer:render_cub",
            (BOXES, MASKS),
            (MINIMAL_PAIRS,),
            size=(5_994, 5_794),
        ),
        DataSet(
            "imagenet",
            "ImageNet",
            "Russakovsky et al. 2015",
            "imagenet:read_imagenet",
            "imagenet_writer:render_imagenet",
            (BOXES,),
            size=(1_281_167, 50_000),
        ),
        DataSet(
            "imagenet_segmentation",
            "ImageNet-Segmentation",
            "Guillaumin et al. 2014",
            "imagenet_segmentation:read_imagenet_segmentation",
            "imagenet_segmentation_writer:render_imagenet_segmentation",
            (MASKS,),
            classified_by="imagenet",
            fit="squash",
            counts={"images": 4276, "labelled_images": 4276, "pairs": 4276},
            size=(0, 4_276),
        ),
        DataSet(
            "voc2007",
            "VOC 2007",
            "Everingham et al. 2010",
            "voc:read_voc",
            "voc_writer:render_voc2007",
            (BOXES,),
            multi_label=True,
            counts={
                "images": 4952,
                "objects": 14976,
                "plain_objects": 12031,
                "pairs": 7632,
                "counted_pairs": 7012,
                "difficult_pairs": 2230,
                "difficult_images": 1467,
            },
            size=(5_011, 4_952),
        ),
        DataSet(
            "voc2012",
            "VOC 2012",
            "Everingham et al. 2010",
            "voc:read_voc",
            "voc_writer:render_voc2012",
            (BOXES,),
            multi_label=True,
            counts={"images": 5823},
            size=(5_717, 5_823),
        ),
        DataSet(
            "coco2014",
            "COCO 2014",
            "Lin et al. 2014",
            "coco:read_coco",
            "coco_writer:render_coco2014",
            (BOXES, MASKS),
            multi_label=True,
            # Nobody says that the difficult list of COCO follows from VOC's rule: these counts tell.
            counts={
                "images": 40504,
                "labelled_images": 40137,
                "difficult_pairs": 93951,
                "difficult_images": 31257,
            },
            size=(82_783, 40_504),
        ),
    )
}

# Formats that are no data set of a paper: `datasets.<id>.format` names one of these, or the id of a data set.
FORMATS: dict[str, DataSet] = {
    form.id: form
    for form in (
        DataSet("folder", "Folders", "a folder a class", "folder:read_folder"),
        DataSet(
            "folder_with_boxes",
            "Folders with boxes",
            "a folder a class, and boxes.csv or COCO's annotations.json",
            "annotated_folder:read_with_boxes",
            has=(BOXES,),
        ),
        DataSet(
            "folder_with_masks",
            "Folders with masks",
            "a folder a class, and masks.csv",
            "annotated_folder:read_with_masks",
            has=(BOXES, MASKS),
        ),
    )
}


def reader_of(dataset: DataSet) -> Callable[..., Any]:
    """The function that reads a data set."""
    return imported(dataset.reader, "relmap.data.formats")


def renderer_of(dataset: DataSet) -> Callable[..., Any]:
    """The function that renders a data set."""
    return imported(dataset.renderer, "relmap.data.render")
