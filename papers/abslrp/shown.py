"""What absLRP's own examples show: methods by network, and which mosaics and images, chosen by measure, not by eye."""

from __future__ import annotations

import pandas as pd
from relmap.errors import InputError

ABSLRP = "abslrp"
VGG, VIT, RESNET = "vgg16", "vit_base_patch16", "resnet50_ram"

# Figures 7, 8 and 16.
CLASS_METHODS = {
    VGG: (
        ABSLRP,
        "lrp_epsilon_torchlrp",
        "lrp_alpha2_beta1_torchlrp",
        "grad_cam",
        "guided_grad_cam",
        "clrp_zplus",
    ),
    VIT: (ABSLRP, "hires_cam", "tibav", "attention_rollout", "grad_cam"),
    RESNET: (ABSLRP, "clrp_zplus", "guided_grad_cam", "grad_cam", "integrated_gradients"),
}
# Figure 4: a map that is contrastive, and one that is not.
TRACED_METHODS = (ABSLRP, "lrp_alpha2_beta1_torchlrp")
# Whose scores are taken by other seeds and steps, on VGG: fast ones, of several families, and controls.
VARIED_METHODS = (
    ABSLRP,
    "clrp_zplus",
    "guided_grad_cam",
    "grad_cam",
    "input_x_gradient",
    "constant",
    "random",
    "centre_gaussian",
)
# Figure 10.
PATCH_MODELS = ("vit_base_patch16_384", "vit_base_patch32")


def mosaic_scores(scores: pd.DataFrame, method: str = ABSLRP) -> pd.DataFrame:
    """A method's scores by Global Attribution Evaluation, a row a mosaic.

    Args:
        scores: rows of ``relmap.metrics.gae_rows``.

    Returns:
        image_id of the positive image, ``quadrant``, ``explained``, ``mosaic_0`` to ``mosaic_3``, and a column a score
        (``gae_total`` and so on).

    Raises:
        InputError: no mosaic of the method is scored.
    """
    drawn = ["image_id", *(f"mosaic_{place}" for place in range(4)), "quadrant", "explained"]
    own = scores[(scores["method"] == method) & scores["quadrant"].notna()]
    if own.empty:
        raise InputError(f"gae scores: no mosaic is scored for {method}; it takes four images, and `evaluation.gae`")
    return own.pivot(index=drawn, columns="metric", values="value").reset_index().rename_axis(columns=None)


def surest_mosaic(mosaics: pd.DataFrame, targets: pd.DataFrame) -> pd.Series:
    """The mosaic whose positive image the network is surest of; with four different predicted classes if there is one.

    Args:
        mosaics: of ``mosaic_scores``.
        targets: image_id, top, top_probability.
    """
    said = targets.drop_duplicates("image_id").set_index("image_id")
    tops = [mosaics[f"mosaic_{place}"].map(said["top"]) for place in range(4)]
    order = mosaics.assign(
        kinds=pd.concat(tops, axis=1).nunique(axis=1).to_numpy(), sure=mosaics["image_id"].map(said["top_probability"])
    )
    return order.sort_values(["kinds", "sure", "image_id"], ascending=[False, False, True]).iloc[0]


def best_and_worst(mosaics: pd.DataFrame, count: int) -> pd.DataFrame:
    """The mosaics of the highest and of the lowest total, best first; those of one total by signed contrastiveness.

    Args:
        mosaics: of ``mosaic_scores``.
        count: of either, less where the mosaics do not suffice for both.

    Returns:
        Their rows, with ``rank`` from 1 on.

    Raises:
        InputError: there is only one mosaic.
    """
    if len(mosaics) < 2:
        raise InputError("gae scores: one mosaic has neither a best nor a worst; raise `evaluation.max_images` to 8")
    order = mosaics.sort_values(
        ["gae_total", "gae_contrastiveness_signed", "image_id"], ascending=[False, False, True]
    ).reset_index(drop=True)
    order["rank"] = order.index + 1
    count = min(count, len(order) // 2)
    return pd.concat([order[:count], order[len(order) - count :]], ignore_index=True)


def surest_in_both(first: pd.DataFrame, second: pd.DataFrame, count: int) -> pd.DataFrame:
    """Images that two networks classify rightly and are surest of, each of another class where there are enough.

    Args:
        first, second: a network's pairs of image and target each, with present, correct and probability.
        count: how many at most.

    Returns:
        image_id and target, the one with the highest of the lesser probabilities first.
    """
    keys = ["image_id", "target"]
    both = first[first["present"]].merge(second[second["present"]], on=keys, suffixes=("_first", "_second"))
    both["least"] = both[["probability_first", "probability_second"]].min(axis=1)
    both["wrong"] = ~(both["correct_first"] & both["correct_second"])
    both = both.sort_values(["wrong", "least", "image_id"], ascending=[True, False, True])
    both["repeated"] = both.duplicated("target")
    return both.sort_values(["wrong", "repeated"], kind="stable")[keys][:count].reset_index(drop=True)
