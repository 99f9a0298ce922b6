"""LRP, CLRP and SGLRP refined by CLA-layers, as rows. No torch."""

from __future__ import annotations

from relmap.catalogue.methods import ARTIFACTS, Method

CLAM_ARM, UNTRAINED_ARM = "clam", "untrained"

REFINED = {"lrp": "lrp_alpha1_beta0_norms", "clrp": "clrp_two_passes_norms", "sglrp": "sglrp_two_passes_norms"}
"""Explainer that CLAM refines -> the id of the method. Batch norms are layers ("features from BatchNorm layers")."""

ONE_PASS = {"clrp": "clrp_norms", "sglrp": "sglrp_norms"}
"""The contrastive ones in one pass, whose total of 0 masks tear up: an ablation, by the same CLA-layers."""

_LABELS = {"lrp": "LRP", "clrp": "CLRP", "sglrp": "SGLRP"}


def clam_methods(arm: str, trainings: int = 1) -> tuple[Method, ...]:
    """The three, refined by CLA-layers of an arm: ``clam``, the control ``untrained``, or one of a config.

    Args:
        trainings: how many of the arm's differ in their seed; each further one has rows of its own, after all of the
            first. Its ids end in its number.
    """
    suffix, note = ("", "") if arm == CLAM_ARM else (f"_{arm}", f" ({arm})")
    rows = []
    for number in range(trainings):
        for name, base in REFINED.items():
            first = f"{name}_clam{suffix}"
            rows.append(
                _row(
                    f"{first}_{number}" if number else first,
                    f"{_LABELS[name]}+CLAM{note}" + (f", training {number}" if number else ""),
                    name,
                    base,
                    arm,
                    {"training": number} if number else {},
                    first if number else None,
                )
            )
    return tuple(rows)


def one_pass_methods() -> tuple[Method, ...]:
    """The contrastive ones in one pass, refined by the CLA-layers of ``clam``."""
    return tuple(
        _row(f"{name}_clam_one_pass", f"{_LABELS[name]}+CLAM, one pass", name, base, CLAM_ARM, {}, None)
        for name, base in ONE_PASS.items()
    )


def _row(
    identifier: str, label: str, name: str, base: str, arm: str, parameters: dict[str, int], training_of: str | None
) -> Method:
    return Method(
        identifier,
        label,
        "Class-wise Layer-wise Attribute Model (CLAM)",
        "cla/refined.py:Refined",
        {"explainer": name, **parameters},
        (ARTIFACTS,),
        contrastive=name != "lrp",
        wraps=base,
        arm=arm,
        training_of=training_of,
    )
