"""Data sets as rows: who reads their files, who renders them, what they are annotated with. No torch.

Adding a data set is one reader, one writer where it is rendered, and one row here, or in a Python file of one's own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from relmap.catalogue.imported import imported
from relmap.catalogue.metrics import BOXES, MASKS


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
    """

    id: str
    label: str
    citation: str
    reader: str | Callable[..., Any] | None = None
    renderer: str | Callable[..., Any] | None = None
    has: tuple[str, ...] = ()


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
        ),
        DataSet(
            "imagenet",
            "ImageNet",
            "Russakovsky et al. 2015",
            "imagenet:read_imagenet",
            "imagenet_writer:render_imagenet",
            (BOXES,),
        ),
        DataSet("imagenet_segmentation", "ImageNet-Segmentation", "Guillaumin et al. 2014"),
        DataSet("voc2007", "VOC 2007", "Everingham et al. 2010"),
        DataSet("voc2012", "VOC 2012", "Everingham et al. 2010"),
        DataSet("coco2014", "COCO 2014", "Lin et al. 2014"),
    )
}

# Formats that are no data set of a paper: `datasets.<id>.format` names one of these, or the id of a data set.
FORMATS: dict[str, DataSet] = {"folder": DataSet("folder", "Folders", "a folder a class", "folder:read_folder")}


def reader_of(dataset: DataSet) -> Callable[..., Any]:
    """The function that reads a data set."""
    return imported(dataset.reader, "relmap.data.formats")


def renderer_of(dataset: DataSet) -> Callable[..., Any]:
    """The function that renders a data set."""
    return imported(dataset.renderer, "relmap.data.render")
