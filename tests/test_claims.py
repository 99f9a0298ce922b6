"""Claims: decided by paired tests, checked against the published numbers, and read with clear errors."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from relmap.catalogue.papers import FLAGS, read_paper
from relmap.catalogue.papers import published as published_table
from relmap.catalogue.rows import load_rows
from relmap.errors import InputError
from relmap.evidence.claims import decide, read_claims

from papers.clam.methods import UNTRAINED_ARM, clam_methods

PAPER = Path(__file__).parents[1] / "papers" / "clam"
ROWS = load_rows([PAPER / "rows.py"])
IMAGES = 40


@pytest.fixture(scope="module")
def published():
    return pd.concat([published_table(read_paper(PAPER), i, ROWS) for i in range(1, 5)])


@pytest.fixture(scope="module")
def claims(published):
    return {claim.id: claim for claim in read_claims(PAPER / "claims.yaml", methods_of(published), ROWS)}


def methods_of(published):
    return list(dict.fromkeys(published["method"]))


def scores_like(published, gains=None, noise=0.005, only=None) -> pd.DataFrame:
    """Per-image values whose means are the published ones (untrained control: as its base), plus ``gains``.

    ``gains`` maps (dataset, model, method, metric) to what is added to that cell; ``only`` names the cells to make.
    """
    cells = {
        (row.dataset, row.model, row.method, row.metric): float(row.value) for row in published.itertuples(index=False)
    }
    for method in clam_methods(UNTRAINED_ARM):
        for (dataset, model, name, metric), value in list(cells.items()):
            if name == method.wraps:
                cells[dataset, model, method.id, metric] = value
    frames = []
    for i, (cell, value) in enumerate(sorted(cells.items())):
        if only is not None and cell not in only:
            continue
        centred = np.random.default_rng(i).normal(0, noise, IMAGES)
        frame = pd.DataFrame({"image_id": [f"image_{k}" for k in range(IMAGES)]})
        frame["target"] = 0
        frame["value"] = value + (gains or {}).get(cell, 0.0) + centred - centred.mean()
        frames.append(frame.assign(**dict(zip(("dataset", "model", "method", "metric"), cell, strict=True))))
    return pd.concat(frames, ignore_index=True)


def verdict(claim, published, gains=None, noise=0.005):
    cells = {cell for comparison in claim.comparisons for cell in comparison.cells()}
    return decide([claim], scores_like(published, gains, noise, cells), published)[0].iloc[0]


def test_the_file_of_claims(claims):
    assert 20 <= len(claims) <= 35
    assert sum(claim.ours for claim in claims.values()) == 3
    assert {claim.table for claim in claims.values() if not claim.ours} == {1, 2, 3, 4}
    assert len(claims["clrp_clam_pointing_best_vgg"].comparisons) == 2 * 11


def test_what_the_paper_says_of_itself(claims, published):
    """The published numbers contradict three of the text's claims; two more rest on suspect cells."""
    table, _ = decide(list(claims.values()), scores_like(published), published, permutations=200)
    verdicts = table.set_index("claim")["published_verdict"]
    assert sorted(verdicts[verdicts == "contradicted"].index) == [
        "lerf_resnet_others_ahead",
        "resnet_imagenet_clam_gains_with_energy",
        "sglrp_gains_with_energy",
    ]
    assert sorted(verdicts[verdicts == "supported but for suspect cells"].index) == [
        "clrp_pointing_resnet_marked_improved",
        "lerf_resnet_improves",
    ]
    assert set(verdicts[table.set_index("claim")["ours"]]) == {"not in the paper"}
    assert (verdicts == "supported").sum() == len(claims) - 8


def test_numbers_like_the_published_ones_are_decided_like_them(claims, published):
    for name in ("vgg_pointing_improves", "iou_sglrp_loses", "lerf_often_improves", "higher_sglrp_superior"):
        assert verdict(claims[name], published, noise=0.0005)["verdict"] == "holds", name
    for name in ("sglrp_gains_with_energy", "lerf_resnet_others_ahead", "lerf_resnet_improves"):
        assert verdict(claims[name], published, noise=0.0005)["verdict"] == "fails", name


CELL = ("imagenet", "vgg16", "sglrp_clam", "pointing_energy_mean")


def test_all_needs_every_comparison(claims, published):
    """One of six comparisons open: undecided. One reversed: fails, and the evidence names it."""
    claim = claims["vgg_pointing_improves"]
    opened = verdict(claim, published, {CELL: -0.0018}, noise=0.005)
    assert opened["verdict"] == "undecided"
    assert "5 of 6 comparisons hold, 0 are reversed" in opened["evidence"]
    assert "open: imagenet/vgg16 pointing_energy_mean sglrp_clam - sglrp_norms = +.0000" in opened["evidence"]
    turned = verdict(claim, published, {CELL: -0.05})
    assert turned["verdict"] == "fails"
    assert (
        "reversed: imagenet/vgg16 pointing_energy_mean sglrp_clam - sglrp_norms = -.0482 (p = .0001)"
        in turned["evidence"]
    )
    assert turned["n_images"] == IMAGES


def test_most_counts_halves(claims, published):
    """Of the four data sets and models, CLRP above LRP in three holds, in two is open, in two against fails."""
    claim = claims["clrp_pointing_above_lrp"]
    gains = {(c.dataset, c.model, "clrp_norms", c.metric): 0.1 for c in claim.comparisons}
    keys = list(gains)
    assert verdict(claim, published, gains)["verdict"] == "holds"
    assert verdict(claim, published, gains | {keys[0]: -0.2})["verdict"] == "holds"
    # A gain that cancels the published difference leaves the comparison open.
    differences = published.set_index(["dataset", "model", "method", "metric"])["value"].astype(float)
    level = {k: differences[(*k[:2], "lrp_alpha1_beta0_norms", k[3])] - differences[k] for k in keys[:2]}
    assert verdict(claim, published, gains | level)["verdict"] == "undecided"
    assert verdict(claim, published, gains | dict.fromkeys(keys[:2], -0.2))["verdict"] == "fails"


def test_within_is_an_equivalence_test(claims, published):
    """Inside the margins: holds; outside: fails; inside, but too noisy to say: undecided."""
    claim = claims["sglrp_clam_changes_little_vgg"]
    cell = ("cub200_2011", "vgg16", "sglrp_clam", "pointing_energy_mean")
    assert verdict(claim, published)["verdict"] == "holds"
    assert verdict(claim, published, {cell: 0.05})["verdict"] == "fails"
    assert verdict(claim, published, {cell: -0.05})["verdict"] == "fails"
    assert verdict(claim, published, noise=0.5)["verdict"] == "undecided"


AE = Path(__file__).parents[1] / "papers" / "ae"
AE_ROWS = load_rows([AE / "rows.py"])


def of_ae():
    """AE's printed rows and its claims, by id."""
    paper = read_paper(AE)
    rows = pd.concat([published_table(paper, number, AE_ROWS) for number in paper.tables], ignore_index=True)
    claims = read_claims(AE / "claims.yaml", methods_of(rows), AE_ROWS)
    return rows, {claim.id: claim for claim in claims}


def ae_verdict(name, values):
    """A claim of AE's on 30 images with a pair of class 0 and of class 1 each; the other method has .5 everywhere."""
    rows, claims = of_ae()
    claim = claims[name]
    frames = []
    for cell in {cell for comparison in claim.comparisons for cell in comparison.cells()}:
        frame = pd.DataFrame({"image_id": np.repeat([f"i{k}" for k in range(30)], 2), "target": [0, 1] * 30})
        frame["value"] = np.where(cell[2] == claim.comparisons[0].first, values(frame["target"]), 0.5)
        frames.append(frame.assign(**dict(zip(("dataset", "model", "method", "metric"), cell, strict=True))))
    scores = pd.concat(frames, ignore_index=True).assign(**dict.fromkeys(FLAGS, True))
    return decide([claim], scores, rows, known=AE_ROWS)[0].iloc[0]


def test_below_is_above_turned_round():
    assert ae_verdict("outside_inside_best", lambda targets: targets * 0 + 0.3)["verdict"] == "holds"
    assert ae_verdict("outside_inside_best", lambda targets: targets * 0 + 0.7)["verdict"] == "fails"


def test_a_claim_of_a_metric_by_class_weighs_classes():
    """Class 0 gains .1 and class 1 loses .3: against the claim, also where class 1 has a tenth of the pairs."""

    def change(targets):
        return np.where(targets == 0, 0.6, 0.2)

    assert ae_verdict("released_residual_is_class_blind", change)["verdict"] == "fails"
    rows, claims = of_ae()
    claim = claims["above_a_centre_blob"]
    comparison = claim.comparisons[0]
    frames = [
        pd.DataFrame(
            {
                "image_id": np.repeat([f"i{k}" for k in range(30)], 2),
                "target": [0, 1] * 30,
                "value": change(np.array([0, 1] * 30)) if cell[2] == comparison.first else 0.5,
            }
        ).assign(**dict(zip(("dataset", "model", "method", "metric"), cell, strict=True)))
        for cell in comparison.cells()
    ]
    scores = pd.concat(frames, ignore_index=True).assign(**dict.fromkeys(FLAGS, True))
    scores["counted"] = ([True, True] * 3 + [True, False] * 27) * 2
    one = replace(claim, comparisons=(comparison,))
    details = decide([one], scores, rows, known=AE_ROWS)[1]
    assert details["difference"].tolist() == [pytest.approx((0.1 - 0.3) / 2)]


def test_what_ae_says_of_itself():
    """Its own Table 1 contradicts "best on all": Grad-CAM is ahead in three columns; Table 3 has it third in mAP."""
    rows, claims = of_ae()
    scores = pd.DataFrame(columns=["dataset", "model", "method", "metric", "image_id", "target", "value", *FLAGS])
    found = (
        decide(list(claims.values()), scores, rows, known=AE_ROWS)[0].set_index("claim")["published_verdict"].to_dict()
    )
    assert found["pointing_best"] == "contradicted"
    assert found["pointing_best_mostly"] == found["fewest_positive"] == found["outside_inside_best"] == "supported"
    assert found["segmentation_slightly_lower"] == "supported"
    assert found["grids_best"] == "not in the paper"
    assert found["smaller_gamma_localises"] == "supported", "Table 1 prints .878, Table 2 87.2 percent"


def test_details_and_determinism(claims, published):
    scores = scores_like(published)
    chosen = [claims["vgg_pointing_improves"], claims["training_matters_pointing"]]
    _, details = decide(chosen, scores, published)
    assert len(details) == 6 + 12
    row = details.iloc[0]
    assert (row["published_difference"], row["n_images"]) == (0.0101, IMAGES)
    assert row["difference"] == pytest.approx(0.0101)
    assert row["holm_for"] >= row["p_for"]
    assert details["published_difference"].isna().sum() == 12
    pd.testing.assert_frame_equal(details, decide(chosen, scores.sample(frac=1, random_state=1), published)[1])


def test_missing_scores_are_named(claims, published):
    scores = scores_like(published)
    some = scores[scores["method"] != "clrp_norms"]
    decided, comparisons = decide([claims["vgg_pointing_improves"]], some, published)
    assert decided.loc[0, ["verdict", "n_images"]].tolist() == ["no data", 0]
    assert re.fullmatch(r"no scores of clrp_norms .* with vgg16 in this run", decided.loc[0, "evidence"])
    assert decided.loc[0, "published_verdict"] == "supported"
    assert comparisons.empty and "p_for" in comparisons


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantifier": "some"}, "claim a: unknown quantifier 'some'"),
        ({"colour": "red"}, r"claim a: missing or unknown keys \['colour'\]"),
        ({"comparisons": []}, "claim a: no comparison"),
        ({"relation": "near"}, "claim a: a block of comparisons has"),
        ({"low": 0.0}, "claim a: a block of comparisons has"),
        ({"models": ["vgg17"]}, r"claim a: unknown models \['vgg17'\]"),
        ({"pairs": [["lrp_alpha1_beta0_norms", "clrp_norms"]] * 2}, "one that occurs twice"),
    ],
)
def test_bad_claims(tmp_path, change, message):
    block = {
        "relation": "above",
        "datasets": ["imagenet"],
        "models": ["vgg16"],
        "metrics": ["mean_iou"],
        "pairs": [["lrp_alpha1_beta0_norms", "others"]],
    }
    claim = {"id": "a", "text": "t", "source": "s", "table": 1, "quantifier": "all", "comparisons": [block]}
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump([claim]))
    (read,) = read_claims(path, ["lrp_alpha1_beta0_norms", "clrp_norms"])
    assert [str(c) for c in read.comparisons] == ["imagenet/vgg16 mean_iou lrp_alpha1_beta0_norms - clrp_norms"]
    inside = set(change) & {"relation", "low", "models", "pairs"}
    (block if inside else claim).update(change)
    path.write_text(yaml.safe_dump([claim]))
    with pytest.raises(InputError, match=message):
        read_claims(path, ["lrp_alpha1_beta0_norms", "clrp_norms"])


def test_repeated_and_absent(tmp_path):
    entries = yaml.safe_load((PAPER / "claims.yaml").read_text())
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump([entries[0], entries[0]]))
    with pytest.raises(InputError, match="claim vgg_pointing_improves occurs more than once"):
        read_claims(path, ["lrp_alpha1_beta0_norms"], ROWS)
    with pytest.raises(InputError, match="cannot read the claims"):
        read_claims(tmp_path / "absent.yaml", ["lrp_alpha1_beta0_norms"])
