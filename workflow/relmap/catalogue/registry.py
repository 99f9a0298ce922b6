"""One table of methods, datasets, models and metrics: ids, labels, citations. Pure data; imports no torch.

The workflow plans from it, tables and figures take their labels from it. Adding a method is one row here and one
explainer of the same id.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Method:
    """An explanation method.

    Attributes:
        id: name in files and tables.
        label: name in figures.
        family: methods made by one job: ``lrp``, ``baselines``, or the arm of CLAM that refines them.
        citation: where it comes from.
        base: of a CLAM method, the method that it refines.
    """

    id: str
    label: str
    family: str
    citation: str
    base: str | None = None


@dataclass(frozen=True)
class Entry:
    """A dataset, model or metric: id, label, citation (of a metric, its definition)."""

    id: str
    label: str
    citation: str


CLAM_CITATION = "Class-wise Layer-wise Attribute Model (CLAM)"

LRP_METHODS = (
    Method("lrp", "LRP", "lrp", "Bach et al. 2015 (alpha 1, beta 0)"),
    Method("clrp", "CLRP", "lrp", "Gu et al. 2019"),
    Method("sglrp", "SGLRP", "lrp", "Iwana et al. 2019"),
)

BASELINE_METHODS = (
    Method("linear_approximation", "Linear appr.", "baselines", "input times gradient"),
    Method("deconvnet", "DeconvNet", "baselines", "Zeiler and Fergus 2014"),
    Method("gradient", "Gradient", "baselines", "Simonyan et al. 2013"),
    Method("guided_backprop", "Guided-BP", "baselines", "Springenberg et al. 2014"),
    Method("grad_cam", "Grad-CAM", "baselines", "Selvaraju et al. 2017"),
    Method("excitation_backprop", "Excitation-BP", "baselines", "Zhang et al. 2018"),
)

CLAM_ARM = "clam"
UNTRAINED_ARM = "untrained"


def clam_methods(arm: str) -> tuple[Method, ...]:
    """LRP, CLRP and SGLRP refined by the CLA-layers of one arm: ``clam``, the control ``untrained``, or a named one."""
    suffix = "" if arm == CLAM_ARM else f"_{arm}"
    note = "" if arm == CLAM_ARM else f" ({arm})"
    return tuple(
        Method(f"{base.id}_clam{suffix}", f"{base.label}+CLAM{note}", arm, CLAM_CITATION, base.id)
        for base in LRP_METHODS
    )


def family_methods(family: str) -> tuple[Method, ...]:
    """The methods that one job makes: family ``lrp``, ``baselines``, or an arm of CLAM."""
    return {"lrp": LRP_METHODS, "baselines": BASELINE_METHODS}.get(family) or clam_methods(family)


def methods(arms: Sequence[str] = (CLAM_ARM, UNTRAINED_ARM)) -> tuple[Method, ...]:
    """All methods of a run, in the tables' order: LRP family, CLAM arms, baselines."""
    return (*LRP_METHODS, *(method for arm in arms for method in clam_methods(arm)), *BASELINE_METHODS)


DATASETS = (
    Entry("cub200_2011", "CUB-200-2011", "Wah et al. 2011"),
    Entry("imagenet", "ImageNet", "Russakovsky et al. 2015"),
)

MODELS = (
    Entry("vgg16", "VGG-16", "Simonyan and Zisserman 2014"),
    Entry("resnet50", "ResNet-50", "He et al. 2016"),
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
    """The label of a method, dataset, model or metric; of an unknown id, the id itself."""
    arms = (CLAM_ARM, identifier.split("_clam_", 1)[1]) if "_clam_" in identifier else (CLAM_ARM,)
    for entry in (*methods(arms), *DATASETS, *MODELS, *METRICS):
        if entry.id == identifier:
            return entry.label
    return identifier
