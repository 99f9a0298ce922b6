"""LRP, CLRP and SGLRP refined by CLA-layers, as rows. No torch."""

from __future__ import annotations

from relmap.catalogue.methods import ARTIFACTS, Method

CLAM_ARM, UNTRAINED_ARM = "clam", "untrained"


def clam_methods(arm: str) -> tuple[Method, ...]:
    """The three, refined by CLA-layers of an arm: ``clam``, the control ``untrained``, or one of a config.

    What is refined has batch norms as layers of their own ("features from BatchNorm layers"), and starts from 1.
    """
    suffix, note = ("", "") if arm == CLAM_ARM else (f"_{arm}", f" ({arm})")
    return tuple(
        Method(
            f"{name}_clam{suffix}",
            f"{label}+CLAM{note}",
            "Class-wise Layer-wise Attribute Model (CLAM)",
            "cla/refined.py:Refined",
            {"explainer": name},
            (ARTIFACTS,),
            contrastive=name != "lrp",
            wraps=base,
            arm=arm,
        )
        for name, label, base in (
            ("lrp", "LRP", "lrp_alpha1_beta0_norms"),
            ("clrp", "CLRP", "clrp_norms"),
            ("sglrp", "SGLRP", "sglrp_norms"),
        )
    )
