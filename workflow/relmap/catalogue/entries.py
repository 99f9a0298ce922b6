"""Data sets, models and printed metrics as rows, in the order of tables; and the label of any id. Imports no torch."""

from __future__ import annotations

from dataclasses import dataclass

from relmap.catalogue.methods import CATALOGUE, clam_methods


@dataclass(frozen=True)
class Entry:
    """A data set, model or metric: id, label, citation (of a metric, its definition)."""

    id: str
    label: str
    citation: str


DATASETS = (
    Entry("cub200_2011", "CUB-200-2011", "Wah et al. 2011"),
    Entry("imagenet", "ImageNet", "Russakovsky et al. 2015"),
    Entry("imagenet_segmentation", "ImageNet-Segmentation", "Guillaumin et al. 2014"),
    Entry("voc2007", "VOC 2007", "Everingham et al. 2010"),
    Entry("voc2012", "VOC 2012", "Everingham et al. 2010"),
    Entry("coco2014", "COCO 2014", "Lin et al. 2014"),
)

MODELS = (
    Entry("vgg16", "VGG-16", "Simonyan and Zisserman 2014"),
    Entry("vgg19", "VGG-19", "Simonyan and Zisserman 2014"),
    Entry("resnet50", "ResNet-50", "He et al. 2016"),
    Entry("densenet121", "DenseNet-121", "Huang et al. 2017"),
    Entry("inception_v3", "Inception-V3", "Szegedy et al. 2016"),
    Entry("vit_base_patch16", "ViT-B/16", "Dosovitskiy et al. 2021"),
)

METRICS = (
    Entry("pointing_energy_mean", "Pointing accuracy, mean over energies", "CLAM, Eq. 6"),
    Entry("pointing_lower", "Pointing accuracy, energies up to 0.5", "CLAM, Eq. 6"),
    Entry("pointing_higher", "Pointing accuracy, energies above 0.5", "CLAM, Eq. 6"),
    Entry("lerf_last_accuracy", "Accuracy after the last perturbation, least relevant first", "CLAM, Table 2"),
    Entry("lerf_mean_accuracy", "Accuracy over all perturbations, least relevant first", "CLAM, Table 2"),
    Entry("mean_iou", "IoU of the map above mean plus standard deviation", "CLAM, A.5"),
)


def label(identifier: str) -> str:
    """The label of a method, data set, model or metric; of an unknown id, the id itself."""
    arm = identifier.partition("_clam_")[2]
    methods = {**CATALOGUE, **({method.id: method for method in clam_methods(arm)} if arm else {})}
    if identifier in methods:
        return methods[identifier].label
    return next((entry.label for entry in (*DATASETS, *MODELS, *METRICS) if entry.id == identifier), identifier)
