"""Metrics as rows: what a metric needs, and how published numbers are read from the rows that it gives. No torch.

Adding a metric is one file with its ``score`` function and one row here, or in a Python file that the config names.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relmap.catalogue.imported import imported
from relmap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from relmap.evidence.maps import Maps
    from relmap.metrics.case import Case

    Score = Callable[[Case, str, Maps], pd.DataFrame]

# What a metric may need beside maps. A data set says in its row which annotations it has.
BOXES, MASKS, MODEL = "boxes", "masks", "model"
# Maps of other images, made while it scores: those that take a paper's artifacts cannot be.
ANEW = "maps of other images"
# The files that methods take: a metric that needs them can make the maps of all methods.
ARTIFACTS = "artifacts"
# Pictures again with one thing changed, which only a renderer has.
MINIMAL_PAIRS = "minimal pairs"


@dataclass(frozen=True)
class Column:
    """A published number: the mean over pairs of score rows of one name, at some levels or over all.

    Attributes:
        id, label, citation: its name in papers and tables, its name for readers, its definition.
        rows: name of the score rows (their column ``metric``) that it is read from.
        levels: which of their levels count: all, or those where this is true of the levels of a pair.
        head: its name at the head of a column; empty where the table has no other.
        unit: of the printed number, "" or "%".
        scale: printed number over ours.
        digits: decimals.
        higher_is_better: its direction.
        over: what of the levels: ``mean``, or ``area``, that under the curve by the trapezoid rule, over their range.
        mean: over what: ``pairs``, or ``classes``, the mean of the classes' means, as the pointing game has it.
        against: method whose mean this one's is compared with: the number is then mean / its mean - 1.
        spread: what is printed after a plus-minus sign: ``pairs``, the standard deviation over pairs, or nothing.
        counted: whether it counts in methods' mean ranks over settings. Parts and readings of a number that counts, and
            numbers that only describe, do not.
        chance: the mean that it has of maps that know nothing; None where nobody knows it.
    """

    id: str
    label: str
    citation: str
    rows: str
    levels: Callable[[pd.Series], pd.Series] | None = None
    head: str = ""
    unit: str = ""
    scale: float = 1
    digits: int = 4
    higher_is_better: bool = True
    over: str = "mean"
    mean: str = "pairs"
    against: str = ""
    spread: str = ""
    counted: bool = True
    chance: float | None = None


@dataclass(frozen=True)
class Metric:
    """What one job scores.

    Attributes:
        id: its name in rules and files.
        label: its name for readers.
        score: ``module:function`` below ``relmap.metrics``, ``file.py:function``, or the function itself:
            (case, method, maps) -> score rows, as ``case.tidy`` makes them.
        columns: the published numbers that are read from its rows.
        needs: of ``BOXES``, ``MASKS``, ``MODEL``, ``ANEW``, ``ARTIFACTS``, ``MINIMAL_PAIRS``.
        settings: keys below the config's ``evaluation`` (or its ``own``) that it reads.
        drawn: what of its scores is drawn at random, in words; nothing where nothing is.
        always: whether a run scores all its maps by it where a data set has what it needs, printed by a paper or not.
        together: whether the score of a pair depends on which other pairs there are, so that none may be left to
            another part of the job.
    """

    id: str
    label: str
    score: str | Score
    columns: tuple[Column, ...]
    needs: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    drawn: str = ""
    always: bool = False
    together: bool = False


def score_of(score: str | Score) -> Score:
    """The function that scores, imported."""
    return imported(score, "relmap.metrics")


def _lower_half(levels: pd.Series) -> pd.Series:
    # Told apart with a margin: levels are multiples of 1/20 in floating point.
    return levels <= 0.5 + 1e-6


def _upper_half(levels: pd.Series) -> pd.Series:
    return levels > 0.5 + 1e-6


def _last(levels: pd.Series) -> pd.Series:
    return levels == levels.max()


def _above_zero(levels: pd.Series) -> pd.Series:
    return levels > 0


METRICS: dict[str, Metric] = {
    metric.id: metric
    for metric in (
        Metric(
            "pointing",
            "Extended pointing game",
            "pointing:score",
            (
                Column("pointing_energy_mean", "Pointing accuracy, mean over energies", "CLAM, Eq. 6", "pointing"),
                Column(
                    "pointing_lower",
                    "Pointing accuracy, energies up to 0.5",
                    "CLAM, Eq. 6",
                    "pointing",
                    _lower_half,
                    "lower",
                    counted=False,
                ),
                Column(
                    "pointing_higher",
                    "Pointing accuracy, energies above 0.5",
                    "CLAM, Eq. 6",
                    "pointing",
                    _upper_half,
                    "higher",
                    counted=False,
                ),
                Column(
                    "pointing_full_energy",
                    "Pointing accuracy, all positive relevance",
                    "CLAM, Eq. 6",
                    "pointing",
                    _last,
                    "all",
                    counted=False,
                ),
            ),
            (BOXES,),
            ("energies",),
        ),
        Metric(
            "lerf",
            "Least relevant pixels first",
            "lerf:score",
            (
                Column(
                    "lerf_last_accuracy",
                    "Accuracy after the last perturbation, least relevant first",
                    "CLAM, Table 2",
                    "lerf_correct",
                    _last,
                    "last",
                ),
                Column(
                    "lerf_mean_accuracy",
                    "Accuracy over all perturbations, least relevant first",
                    "CLAM, Table 2",
                    "lerf_correct",
                    head="mean",
                    counted=False,
                ),
            ),
            (MODEL,),
            ("lerf", "ties"),
        ),
        Metric(
            "segmentation",
            "IoU with the segmentation",
            "segmentation:score",
            (Column("mean_iou", "IoU of the map above mean plus standard deviation", "CLAM, A.5", "iou"),),
            (MASKS,),
        ),
        Metric(
            "pointing_game",
            "Pointing game",
            "pointing_game:score",
            (
                Column(
                    "pointing_game",
                    "Pointing game, near the region",
                    "Zhang et al. 2018, as in TorchRay",
                    "pointing_game",
                    mean="classes",
                ),
                Column(
                    "pointing_game_radius0",
                    "Pointing game, in the region",
                    "Zhang et al. 2018",
                    "pointing_game_radius0",
                    head="radius 0",
                    mean="classes",
                    counted=False,
                ),
                Column(
                    "pointing_game_with_absent",
                    "Pointing game, absent classes that are predicted as misses",
                    "Zhang et al. 2018, reading",
                    "pointing_game_with_absent",
                    head="with absent",
                    mean="classes",
                    counted=False,
                ),
            ),
            (BOXES,),
            ("pointing_game",),
        ),
        Metric(
            "positive_ratio",
            "Positive ratio",
            "positive_ratio:score",
            (
                Column(
                    "positive_ratio",
                    "Share of positive pixels",
                    "Attribution Equilibrium, Table 1",
                    "positive_ratio",
                    # It describes; tables mark a best value only where their paper gives a direction.
                    higher_is_better=False,
                    counted=False,
                ),
            ),
        ),
        Metric(
            "outside_inside",
            "Outside-inside ratio",
            "outside_inside:score",
            (
                Column(
                    "outside_inside_ratio",
                    "Mean relevance outside the segmentation over that inside",
                    "Attribution Equilibrium, Eq. 14",
                    "outside_inside_ratio",
                    higher_is_better=False,
                ),
            ),
            (MASKS,),
        ),
        Metric(
            "average_precision",
            "Segmentation",
            "average_precision:score",
            (
                Column(
                    "soft_average_precision",
                    "Average precision of the map brought to [0, 1]",
                    "Chefer et al. 2021",
                    "soft_average_precision",
                ),
                Column(
                    "agf_average_precision",
                    "Average precision of the positive pixels",
                    "Gur et al. 2021",
                    "agf_average_precision",
                    head="binarised",
                    counted=False,
                ),
                Column(
                    "pixel_accuracy_above_mean",
                    "Pixel accuracy of the map above its mean",
                    "Chefer et al. 2021",
                    "pixel_accuracy_above_mean",
                    counted=False,
                ),
                Column(
                    "iou_above_mean",
                    "IoU of object and background, map above its mean, mean over images",
                    "Chefer et al. 2021, by image",
                    "iou_above_mean",
                    counted=False,
                ),
                Column(
                    "pixel_accuracy",
                    "Pixel accuracy of the positive pixels",
                    "Gur et al. 2021",
                    "pixel_accuracy_above_zero",
                    counted=False,
                ),
                Column(
                    "iou_above_zero",
                    "IoU of object and background, positive pixels, mean over images",
                    "Gur et al. 2021, by image",
                    "iou_above_zero",
                    counted=False,
                ),
            ),
            (MASKS,),
        ),
        Metric(
            "grid_pointing",
            "Grid pointing game",
            "grid_pointing:score",
            (
                Column(
                    "grid_pointing",
                    "Positive relevance in the target's cell",
                    "Rao et al. 2022",
                    "grid_pointing",
                ),
            ),
            (BOXES,),
        ),
        Metric(
            "insertion",
            "Insertion before a blurred background",
            "insertion_blur:score",
            (
                Column(
                    "insertion_accuracy",
                    "Accuracy over all insertions, most relevant first",
                    "Attribution Equilibrium, Section 5.4",
                    "insertion_correct",
                    _above_zero,
                ),
                Column(
                    "insertion_clean_accuracy",
                    "Accuracy on the whole pictures",
                    "Attribution Equilibrium, Section 5.4",
                    "insertion_clean",
                    head="whole",
                    counted=False,
                ),
            ),
            (MODEL,),
            ("insertion", "ties"),
        ),
        Metric(
            "cascade",
            "Cascading randomisation",
            "cascade:score",
            tuple(
                Column(
                    f"cascade_{short}_{sign}",
                    f"{long} with maps of randomised networks, {sign} relevance",
                    "Adebayo et al. 2018",
                    f"cascade_{short}_{sign}",
                    higher_is_better=False,
                    counted=False,
                )
                for short, long in (("rank", "Rank correlation"), ("ssim", "SSIM"))
                for sign in ("signed", "absolute")
            ),
            (MODEL, ANEW),
            ("cascade",),
            drawn="the random weights",
        ),
        Metric(
            "gae",
            "Global Attribution Evaluation",
            "gae_rows:score",
            (
                *(
                    Column(
                        f"gae_{part}",
                        label,
                        f"Vukadin et al. 2024, {where}",
                        f"gae_{part}",
                        head=head,
                        digits=3,
                        counted=part == "total",
                    )
                    for part, head, label, where in (
                        ("lc", "LC", "Local consistency", "Eq. 16"),
                        ("c", "C", "Contrastiveness", "Eq. 17"),
                        ("total", "Total", "Local consistency times contrastiveness", "Eq. 18"),
                        ("robustness", "robustness", "Robustness part of local consistency", "Eq. 14"),
                        ("faithfulness", "faithfulness", "Faithfulness part of local consistency", "Eq. 15"),
                        ("contrastiveness_signed", "C, signed", "Contrastiveness before it is cut at 0", "Eq. 17"),
                    )
                ),
                Column(
                    "gae_total_change",
                    "Change of the total against absLRP's",
                    "Vukadin et al. 2024, Table 10",
                    "gae_total",
                    head="Change %",
                    unit="%",
                    scale=100,
                    digits=1,
                    against="abslrp",
                    counted=False,
                ),
            ),
            (MODEL, ANEW),
            ("gae",),
            drawn="the mosaics and their positive images",
            together=True,
        ),
        Metric(
            "road",
            "ROAD",
            "road:score",
            (
                Column(
                    "road_morf",
                    "Accuracy with the most relevant pixels imputed, mean over levels",
                    "Rong et al. 2022",
                    "road_morf",
                    head="MoRF",
                    digits=3,
                    higher_is_better=False,
                ),
                Column(
                    "road_lerf",
                    "Accuracy with all but the most relevant pixels imputed, mean over levels",
                    "Rong et al. 2022",
                    "road_lerf",
                    head="LeRF",
                    digits=3,
                ),
            ),
            (MODEL,),
            ("road", "ties"),
            drawn="the imputation's noise",
        ),
        Metric(
            "local_lipschitz",
            "Local Lipschitz estimate",
            "local_lipschitz:score",
            (
                Column(
                    "local_lipschitz",
                    "Greatest change of the map over that of the picture",
                    "Alvarez-Melis and Jaakkola 2018",
                    "local_lipschitz",
                    _last,
                    digits=3,
                    higher_is_better=False,
                ),
            ),
            (MODEL, ANEW),
            ("local_lipschitz",),
            drawn="the noise on the pictures",
        ),
        Metric(
            "focus",
            "Focus",
            "focus:score",
            (
                Column(
                    "focus",
                    "Positive relevance in the target's tiles of a mosaic",
                    "Arias-Duart et al. 2022",
                    "focus",
                    digits=3,
                    chance=0.5,
                ),
            ),
            (MODEL, ANEW),
            ("focus",),
            drawn="the mosaics",
            together=True,
        ),
        *(
            Metric(
                f"relevance_mass{suffix}",
                f"Relevance mass and rank, {region}",
                f"relevance_mass:score_{region}",
                (
                    Column(
                        f"relevance_mass_accuracy{suffix}",
                        f"Positive relevance inside the {region}",
                        "Arras et al. 2022",
                        f"relevance_mass{suffix}",
                        head="mass",
                    ),
                    Column(
                        f"relevance_rank_accuracy{suffix}",
                        f"Most relevant pixels inside the {region}",
                        "Arras et al. 2022",
                        f"relevance_rank{suffix}",
                        head="rank",
                        counted=False,
                    ),
                ),
                (needed,),
                ("ties",),
            )
            for suffix, region, needed in (("", "boxes", BOXES), ("_masks", "masks", MASKS))
        ),
        Metric(
            "operations",
            "Cost of a map",
            "operations:score",
            (
                Column(
                    "map_operations",
                    "Multiply-accumulates of a map, in billions",
                    "counted: convolutions and matrix products, forwards and backwards",
                    "map_operations",
                    head="GMAC",
                    higher_is_better=False,
                    counted=False,
                ),
                Column(
                    "map_memory",
                    "Live memory of a map, MiB",
                    "counted: tensors beside the model",
                    "map_memory",
                    head="MiB",
                    higher_is_better=False,
                    counted=False,
                ),
            ),
            (MODEL, ANEW),
        ),
        Metric(
            "deletion_insertion",
            "Deletion and insertion",
            "deletion_insertion:score",
            (
                Column(
                    "deletion_auc",
                    "Area under the target's probability, most relevant pixels deleted",
                    "Petsiuk et al. 2018, as UCAG",
                    "deletion_probability",
                    head="deletion",
                    higher_is_better=False,
                    over="area",
                ),
                Column(
                    "insertion_auc",
                    "Area under the target's probability, most relevant pixels inserted before a blurred picture",
                    "Petsiuk et al. 2018, as UCAG",
                    "insertion_probability",
                    head="insertion",
                    over="area",
                ),
            ),
            (MODEL,),
            ("deletion_insertion", "ties"),
        ),
        Metric(
            "deletion_insertion_black",
            "Deletion and insertion before black",
            "deletion_insertion:score_black",
            tuple(
                column
                for suffix, rule in (("", ""), ("_at_once", ", ties at once"))
                for column in (
                    Column(
                        f"insertion_auc_black{suffix}",
                        f"Area under the target's probability, most relevant pixels inserted before black{rule}",
                        "C3-LRP, Eq. 5 and 6" if not rule else "C3-LRP, released code's rule of ties",
                        f"insertion_black_probability{suffix}",
                        head=f"insertion{rule}",
                        digits=3,
                        over="area",
                        counted=False,
                    ),
                    Column(
                        f"deletion_auc_black{suffix}",
                        f"Area under the target's probability, most relevant pixels blackened{rule}",
                        "C3-LRP, Eq. 5 and 6" if not rule else "C3-LRP, released code's rule of ties",
                        f"deletion_black_probability{suffix}",
                        head=f"deletion{rule}",
                        digits=3,
                        higher_is_better=False,
                        over="area",
                        counted=False,
                    ),
                    Column(
                        f"id_score{suffix}",
                        f"Insertion less deletion, black{rule}",
                        "C3-LRP, Section 4.3" if not rule else "C3-LRP, released code's rule of ties",
                        f"id_score{suffix}",
                        head=f"ID score{rule}",
                        digits=3,
                        counted=not rule,
                    ),
                )
            ),
            (MODEL,),
            ("deletion_insertion_black",),
        ),
        Metric(
            "energy_pointing",
            "Energy-based pointing game",
            "energy_pointing:score",
            (
                Column(
                    "energy_pointing",
                    "Positive relevance in the region, of the map brought to [0, 1]",
                    "Wang et al. 2020, as UCAG",
                    "energy_pointing",
                    mean="classes",
                ),
            ),
            (BOXES,),
        ),
        Metric(
            "density",
            "Map density",
            "density:score",
            (
                Column(
                    "positive_density",
                    "Target's probability of the picture times the map, over the map's mean",
                    "Jalwana et al. 2021",
                    "positive_density",
                    head="D+",
                    digits=2,
                ),
                Column(
                    "negative_density",
                    "Target's probability of the picture times the rest of the map, over the rest's mean",
                    "Jalwana et al. 2021",
                    "negative_density",
                    head="D-",
                    digits=2,
                    higher_is_better=False,
                ),
            ),
            (MODEL,),
        ),
        Metric(
            "minimal_pairs",
            "Minimal pairs",
            "minimal_pairs:score",
            (
                Column(
                    "target_sensitivity",
                    "The part that tells two classes apart has more relevance for the class than for its sibling",
                    "after Hesse et al. 2023",
                    "target_sensitivity",
                    head="target",
                    digits=3,
                    chance=0.5,
                ),
                Column(
                    "target_shift",
                    "Share of the map's change from class to sibling at that part, above chance",
                    "relmap",
                    "target_shift",
                    head="shift",
                    digits=3,
                    counted=False,
                    chance=0.0,
                ),
                Column(
                    "part_importance",
                    "Rank correlation over parts, at equal area, of relevance and what a change takes from the logit",
                    "after Hesse et al. 2023",
                    "part_importance",
                    head="parts",
                    digits=3,
                    chance=0.0,
                ),
                Column(
                    "part_importance_plain",
                    "Rank correlation over parts of relevance and what a change takes from the logit",
                    "after Hesse et al. 2023",
                    "part_importance_plain",
                    head="parts, plain",
                    digits=3,
                    counted=False,
                    chance=0.0,
                ),
                Column(
                    "background_independence",
                    "What is behind the bird and hardly matters has less relevance a pixel than a part that tells",
                    "after Hesse et al. 2023; Yang and Kim 2019",
                    "background_independence",
                    head="background",
                    digits=3,
                    chance=0.5,
                ),
                Column(
                    "distractor_independence",
                    "Parts that hardly matter have less relevance a pixel than a part that tells",
                    "after Hesse et al. 2023",
                    "distractor_independence",
                    head="distractors",
                    digits=3,
                    counted=False,
                    chance=0.5,
                ),
            ),
            (MODEL, ARTIFACTS, MINIMAL_PAIRS),
            ("minimal_pairs",),
            drawn="the looks of parts that do not vary",
            always=True,
        ),
        Metric(
            "average_drop",
            "Average drop and increase",
            "average_drop:score",
            (
                Column(
                    "average_drop",
                    "Average drop of the probability when the map masks the picture",
                    "Chattopadhay et al. 2018",
                    "average_drop",
                    head="drop",
                    unit="%",
                    scale=100,
                    digits=2,
                    higher_is_better=False,
                ),
                Column(
                    "average_increase",
                    "Pictures whose probability rises when the map masks them",
                    "Chattopadhay et al. 2018",
                    "average_increase",
                    head="increase",
                    unit="%",
                    scale=100,
                    digits=2,
                    counted=False,
                ),
            ),
            (MODEL,),
        ),
        Metric(
            "adcc",
            "Average drop, coherency, complexity",
            "adcc:score",
            (
                Column("adcc", "Harmonic mean of drop, coherency and complexity", "Poppi et al. 2021", "adcc"),
                *(
                    Column(
                        f"adcc_{part}",
                        label,
                        "Poppi et al. 2021",
                        f"adcc_{part}",
                        head=part,
                        higher_is_better=part == "coherency",
                        counted=False,
                    )
                    for part, label in (
                        ("coherency", "Correlation of the map with that of the picture that it masks"),
                        ("complexity", "Mean of the map brought to a maximum of 1"),
                    )
                ),
            ),
            (MODEL, ANEW),
            ("adcc",),
        ),
        Metric(
            "sensitivity_n",
            "Sensitivity-n",
            "sensitivity_n:score",
            (
                Column(
                    "sensitivity_n",
                    "Correlation of relevance and change of the logit over sets of pixels, mean over sizes",
                    "Ancona et al. 2018",
                    "sensitivity_n",
                    chance=0.0,
                ),
            ),
            (MODEL,),
            ("sensitivity_n",),
            drawn="the sets of pixels",
        ),
        Metric(
            "efficient_mprt",
            "Efficient parameter randomisation",
            "efficient_mprt:score",
            (
                Column(
                    "efficient_mprt",
                    "Relative rise of a map's entropy without what was learnt",
                    "Hedström et al. 2024",
                    "efficient_mprt",
                    counted=False,
                ),
            ),
            (MODEL, ANEW),
            ("efficient_mprt",),
            drawn="the random weights",
        ),
        Metric(
            "accuracy",
            "Accuracy of the network",
            "accuracy:score",
            (
                Column(
                    "accuracy",
                    "Accuracy of the network on the pictures that are explained",
                    "of the network, whatever the method",
                    "accuracy",
                    digits=3,
                    counted=False,
                ),
            ),
        ),
    )
}


def columns(metrics: Mapping[str, Metric] = METRICS) -> dict[str, tuple[Metric, Column]]:
    """Id of a published number -> the metric that scores it, and how it is read.

    Raises:
        InputError: two metrics give one id, or one name to different rows.
    """
    found: dict[str, tuple[Metric, Column]] = {}
    names: dict[str, str] = {}
    for metric in metrics.values():
        for column in metric.columns:
            if column.id in found:
                raise InputError(f"metrics {found[column.id][0].id} and {metric.id} both give {column.id}; rename one")
            if names.setdefault(column.rows, metric.id) != metric.id:
                raise InputError(f"metrics {names[column.rows]} and {metric.id} both name rows {column.rows}")
            found[column.id] = (metric, column)
    return found


def metric_settings(metric: Metric, evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that a metric reads, from the config's ``evaluation``, or ``evaluation.own`` for a user's metric.

    Raises:
        InputError: one is absent.
    """
    given = {**evaluation.get("own", {}), **evaluation}
    for key in metric.settings:
        if key not in given:
            raise InputError(f"config: `evaluation.own.{key}` is what metric {metric.id} reads; give it a value")
    return {key: given[key] for key in metric.settings}
