"""Classifiers as rows. No torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from relmap.catalogue.imported import imported

# Of each colour channel, in units of [0, 1]: what torchvision's networks, Inception, and Caffe's were trained with.
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALVES = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
CAFFE = {"mean": (123.68 / 255, 116.779 / 255, 103.939 / 255), "std": (1 / 255, 1 / 255, 1 / 255)}


@dataclass(frozen=True)
class Model:
    """A classifier.

    Attributes:
        id, label, citation: its name everywhere, its name for readers, where it comes from.
        maker: ``module:function`` below ``relmap.models``, ``file.py:function``, or the function itself:
            (classes, width, input_size) -> module, called on the meta device. None until somebody writes it.
        head: name of the fully connected part, the one that fine-tuning trains.
        last: name of the last layer, linear or a 1 x 1 convolution, whose outputs are the classes.
        smallest: least side of its input in pixels.
        one_size: whether its weights are for inputs of one size.
        initial: id of the model whose weights on the base data set it starts from; empty for its own.
        form_of: id of the model that it is another form of, with its weights on every data set; empty for none.
        fresh: its parts that ``initial`` has not: with random weights, so that it is nothing before it is trained.
        stage: the module, of those that it calls one after the other, from which on fine-tuning can train its last
            stage; empty where it cannot.
        published: data set, or publisher, empty for the base -> the published file's name up to its checksum, where it
            is not ``id``.
        seen: what its published weights, or its training here, take of a picture: arguments of ``Preprocessing``
            besides its sides.
        trainings: how many networks a run may train by it that differ in their seed alone, each a row of its own
            (:func:`with_trainings`); 0 where the row itself is the one network.
        training_of, number: of such a network, the row that it is a training of, and which one, from 0.
    """

    id: str
    label: str
    citation: str
    maker: str | Callable[..., Any] | None = None
    head: str = ""
    last: str = ""
    smallest: int = 32
    one_size: bool = False
    initial: str = ""
    form_of: str = ""
    fresh: tuple[str, ...] = ()
    stage: str = ""
    published: Mapping[str, str] = field(default_factory=dict)
    seen: Mapping[str, Any] = field(default_factory=lambda: IMAGENET)
    trainings: int = 0
    training_of: str = ""
    number: int = 0

    def construct(self, classes: int, width: float, input_size: int) -> Any:
        """The network, without weights."""
        return imported(self.maker, "relmap.models")(classes, width, input_size)


def squashed(model: Model) -> Model:
    """The same network on whole pictures, squashed to a square, as the insertion and deletion games were first run."""
    own = {"id": f"{model.id}_squash", "label": f"{model.label}, squashed", "citation": "Petsiuk et al. 2018"}
    return replace(model, **own, form_of=model.id, seen={**model.seen, "fit": "squash"}, published={}, stage="")


def with_trainings(models: Iterable[Model]) -> Iterator[Model]:
    """The rows, and after each the networks that are its trainings: ``<id>_<number>``."""
    for model in models:
        yield model
        for number in range(model.trainings):
            own = {"id": f"{model.id}_{number}", "label": f"{model.label}, training {number}"}
            yield replace(model, **own, trainings=0, training_of=model.id, number=number)


_TORCHRAY = {"seen": {**CAFFE, "fit": "aspect", "antialias": False}}

_ROWS: dict[str, Model] = {
    model.id: model
    for model in (
        Model("vgg16", "VGG-16", "Simonyan and Zisserman 2014", "vgg:vgg16", "classifier", "classifier.6"),
        Model("vgg19", "VGG-19", "Simonyan and Zisserman 2014", "vgg:vgg19", "classifier", "classifier.6"),
        Model("resnet50", "ResNet-50", "He et al. 2016", "resnet:resnet50", "fc", "fc", stage="layer4"),
        Model(
            "resnet50_ram",
            "ResNet-50, timm's ram_in1k",
            "He et al. 2016, trained with RandAugment by R. Wightman",
            "resnet:resnet50",
            "fc",
            "fc",
            initial="resnet50",
            stage="layer4",
            published={"timm": "resnet50_ram"},
        ),
        Model(
            "densenet121",
            "DenseNet-121",
            "Huang et al. 2017",
            "concatenating:densenet121",
            "classifier",
            "classifier",
        ),
        Model(
            "inception_v3",
            "Inception-V3",
            "Szegedy et al. 2016",
            "concatenating:inception_v3",
            "fc",
            "fc",
            smallest=75,
            published={"": "inception_v3_google"},
            seen=HALVES,
        ),
        Model(
            "vit_base_patch16",
            "ViT-B/16",
            "Dosovitskiy et al. 2021",
            "vit:base_patch16",
            "heads",
            "heads.head",
            one_size=True,
            published={"timm": "vit_base_patch16_224.augreg_in21k_ft_in1k"},
            seen=HALVES,
        ),
        Model(
            "vit_base_patch32",
            "ViT-B/32",
            "Dosovitskiy et al. 2021",
            "vit:base_patch32",
            "heads",
            "heads.head",
            one_size=True,
            published={"timm": "vit_base_patch32_224.augreg_in21k_ft_in1k"},
            seen=HALVES,
        ),
        Model(
            "vit_base_patch16_384",
            "ViT-B/16 at 384 px",
            "Dosovitskiy et al. 2021",
            "vit:base_patch16_384",
            "heads",
            "heads.head",
            one_size=True,
            published={"timm": "vit_base_patch16_384.augreg_in21k_ft_in1k"},
            seen=HALVES,
        ),
        Model(
            "alexnet",
            "AlexNet",
            "Krizhevsky 2014",
            "vgg:alexnet",
            "classifier",
            "classifier.6",
            smallest=63,
            published={"": "alexnet-owt"},
        ),
        Model("vgg11", "VGG-11", "Simonyan and Zisserman 2014", "vgg:vgg11", "classifier", "classifier.6"),
        Model("resnet18", "ResNet-18", "He et al. 2016", "resnet:resnet18", "fc", "fc", stage="layer4"),
        Model("resnet101", "ResNet-101", "He et al. 2016", "resnet:resnet101", "fc", "fc", stage="layer4"),
        Model(
            "torchray_vgg16",
            "VGG-16, fully convolutional",
            "Zhang et al. 2018",
            "torchray:vgg16",
            "classifier",
            "classifier.6",
            initial="vgg16",
            published={"voc2007": "vgg16_voc", "coco2014": "vgg16_coco"},
            **_TORCHRAY,
        ),
        Model(
            "torchray_resnet50",
            "ResNet-50, fully convolutional",
            "Zhang et al. 2018",
            "torchray:resnet50",
            "fc",
            "fc",
            initial="resnet50",
            published={"voc2007": "resnet50_voc", "coco2014": "resnet50_coco"},
            **_TORCHRAY,
        ),
        Model(
            "torchray_vgg16_pooled",
            "VGG-16, adaptive pool",
            "Hong et al. 2023: the weights of Zhang et al. 2018, not fully convolutional",
            "torchray:pooled_vgg16",
            "classifier",
            "classifier.6",
            form_of="torchray_vgg16",
            **_TORCHRAY,
        ),
        Model(
            "vgg16_sliding",
            "VGG-16, sliding",
            "Rao et al. 2022",
            "torchray:sliding_vgg16",
            "classifier",
            "classifier.6",
            initial="vgg16",
        ),
        # The network of C3-LRP's tables; trained several times, each time with another seed.
        Model(
            "c3_resnet50",
            "ResNet-50",
            "He et al. 2016, fine-tuned as in C3-LRP 4.2",
            "resnet:resnet50",
            "fc",
            "fc",
            initial="resnet50",
            stage="layer4",
            trainings=5,
        ),
        # Both forms by their reference code: the group's of C3-LRP, and the authors'.
        Model(
            "abn_resnet50",
            "Attention Branch Network, ResNet-50",
            "Fukui et al. 2019, as the group of C3-LRP has it",
            "abn:resnet50",
            "fc",
            "fc",
            initial="resnet50",
            fresh=("attention_branch",),
            stage="attention_branch",
            trainings=5,
        ),
        Model(
            "abn_resnet50_official",
            "Attention Branch Network, official, ResNet-50",
            "Fukui et al. 2019",
            "abn:official_resnet50",
            "fc",
            "fc",
            initial="resnet50",
            fresh=("attention_branch",),
            stage="attention_branch",
        ),
    )
}
_SQUASHED = tuple(squashed(_ROWS[name]) for name in ("resnet50", "densenet121", "inception_v3"))
MODELS: dict[str, Model] = {model.id: model for model in with_trainings((*_ROWS.values(), *_SQUASHED))}
