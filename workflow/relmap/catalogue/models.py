"""Classifiers as rows. No torch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from relmap.catalogue.imported import imported


@dataclass(frozen=True)
class Model:
    """A classifier.

    Attributes:
        id, label, citation: its name everywhere, its name for readers, where it comes from.
        maker: ``module:function`` below ``relmap.models``, ``file.py:function``, or the function itself:
            (classes, width, input_size) -> module, called on the meta device. None until somebody writes it.
        head: name of the fully connected part, the one that fine-tuning trains.
        last: name of the last linear layer, whose outputs are the classes.
    """

    id: str
    label: str
    citation: str
    maker: str | Callable[..., Any] | None = None
    head: str = ""
    last: str = ""

    def construct(self, classes: int, width: float, input_size: int) -> Any:
        """The network, without weights."""
        return imported(self.maker, "relmap.models")(classes, width, input_size)


MODELS: dict[str, Model] = {
    model.id: model
    for model in (
        Model("vgg16", "VGG-16", "Simonyan and Zisserman 2014", "zoo:vgg16", "classifier", "classifier.6"),
        Model("vgg19", "VGG-19", "Simonyan and Zisserman 2014"),
        Model("resnet50", "ResNet-50", "He et al. 2016", "zoo:resnet50", "fc", "fc"),
        Model("densenet121", "DenseNet-121", "Huang et al. 2017"),
        Model("inception_v3", "Inception-V3", "Szegedy et al. 2016"),
        Model("vit_base_patch16", "ViT-B/16", "Dosovitskiy et al. 2021"),
    )
}
