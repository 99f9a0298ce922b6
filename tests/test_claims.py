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
from relmap.catalogue.rows import Rows, load_rows
from relmap.errors import InputError
from relmap.evidence.claims import decide, decide_together, read_claims
from relmap.evidence.statistics import holm, sign_flip_test, two_sample_test
from scipy import stats

from papers.clam.methods import UNTRAINED_ARM, clam_methods

PAPER = Path(__file__).parents[1] / "papers" / "clam"
ROWS = load_rows([PAPER / "rows.py"])
IMAGES = 40
METRIC = "pointing_energy_mean"
NOTHING = pd.DataFrame(columns=["dataset", "model", "method", "metric", "image_id", "target", "value"])


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
    assert len(claims) == 34 + 5
    assert sum(claim.ours for claim in claims.values()) == 5
    assert {claim.table for claim in claims.values() if not claim.ours} == {0, 1, 2, 3, 4}
    assert len(claims["clrp_clam_pointing_best_vgg"].comparisons) == 2 * 11


def test_alike_is_an_equivalence_test_within_printed_margins(claims, published):
    """Margins are what the paper itself calls an improvement, and a decrease: read off its Table 1."""
    printed = published.set_index(["dataset", "model", "method", "metric"])["value"].astype(float)
    pairs = [
        ("lrp_clam", "lrp_alpha1_beta0_norms"),
        ("clrp_clam", "clrp_two_passes_norms"),
        ("sglrp_clam", "sglrp_two_passes_norms"),
    ]

    def gains(model, pairs):
        cells = [(d, model, m) for d in ("cub200_2011", "imagenet") for m in pairs]
        return [round(printed[d, n, a, METRIC] - printed[d, n, b, METRIC], 4) for d, n, (a, b) in cells]

    least, worst = min(gains("vgg16", pairs[:2])), min(gains("resnet50", pairs))
    assert (least, worst) == (0.0076, -0.0159)
    alike = {
        c.id: comparison for c in claims.values() for comparison in c.comparisons if comparison.relation == "within"
    }
    assert {name: (one.low, one.high) for name, one in alike.items()} == {
        "resnet_pointing_similar_or_slightly_lower": (-0.016, least),
        "lrp_clrp_pointing_similar": (-least, least),
        "sglrp_clam_changes_little_vgg": (-least, least),
        "sglrp_clam_boosts_little_at_high_energy": (-1, least),
    }


def test_what_the_paper_says_of_itself(claims, published):
    """The published numbers contradict two of the text's claims; three more rest on suspect cells."""
    table, _ = decide(list(claims.values()), NOTHING, published)
    verdicts = table.set_index("claim")["published_verdict"]
    assert sorted(verdicts[verdicts == "contradicted"].index) == [
        "lerf_resnet_others_ahead",
        "lrp_clrp_pointing_similar",
    ]
    assert sorted(verdicts[verdicts == "rests on suspect cells"].index) == [
        "excitation_and_sglrp_superior_resnet",
        "iou_lrp_clrp_improve",
        "resnet_imagenet_clam_gains_with_energy",
    ]
    unprinted = table.set_index("claim").eval("ours or table == 0")
    assert (verdicts == "not in the paper").equals(unprinted)
    assert (verdicts == "supported").sum() == len(claims) - unprinted.sum() - 5
    suspect = table.set_index("claim")["suspect"]
    assert (suspect["lerf_often_improves"], suspect["resnet_imagenet_clam_gains_with_energy"]) == (3, 4)
    assert not suspect[unprinted].any(), "what is not printed rests on no printed cell"


@pytest.mark.parametrize(
    ("quantifier", "truths", "suspects", "found"),
    [
        ("all", "TT", "..", "supported"),
        ("all", "TF", "..", "contradicted"),
        ("all", "TF", ".s", "rests on suspect cells"),
        ("all", "TT", ".s", "rests on suspect cells"),
        ("all", "FT", ".s", "contradicted"),
        ("most", "TTF", "..s", "supported"),
        ("most", "TTF", ".s.", "rests on suspect cells"),
        ("most", "TFF", "s..", "contradicted"),
    ],
)
def test_a_suspect_cell_decides_nothing(claims, published, quantifier, truths, suspects, found):
    """Whatever a suspect number says, the verdict is as if it were unknown."""
    claim = claims["halves_clam_beneficial"]
    some = [c for c in claim.comparisons if c.model == "vgg16"][: len(truths)]
    rows = published.copy()
    for comparison, truth, suspect in zip(some, truths, suspects, strict=True):
        for cell, value in zip(comparison.cells(), ("0.6" if truth == "T" else "0.4", "0.5"), strict=True):
            chosen = (rows[["dataset", "model", "method", "metric"]] == list(cell)).all(axis=1)
            rows.loc[chosen, ["value", "note"]] = value, "suspect: x" if suspect == "s" else ""
    asked = replace(claim, quantifier=quantifier, comparisons=tuple(some))
    row = decide([asked], NOTHING, rows)[0].iloc[0]
    assert (row["published_verdict"], row["suspect"]) == (found, suspects.count("s"))


def test_numbers_like_the_published_ones_are_decided_like_them(claims, published):
    for name in ("vgg_pointing_improves", "iou_sglrp_loses", "lerf_often_improves", "higher_sglrp_superior"):
        assert verdict(claims[name], published, noise=0.0005)["verdict"] == "holds", name
    for name in ("lrp_clrp_pointing_similar", "lerf_resnet_others_ahead"):
        assert verdict(claims[name], published, noise=0.0005)["verdict"] == "fails", name


CELL = ("imagenet", "vgg16", "sglrp_clam", "pointing_energy_mean")


def test_all_needs_every_comparison(claims, published):
    """One of six comparisons open: undecided. One reversed: fails, and the evidence names it."""
    claim = claims["vgg_pointing_improves"]
    opened = verdict(claim, published, {CELL: -0.0018}, noise=0.005)
    assert opened["verdict"] == "undecided"
    assert "5 of 6 comparisons hold, 0 are reversed" in opened["evidence"]
    difference = next(c for c in claim.comparisons if CELL in c.cells()).words(Rows())
    assert difference.startswith("ImageNet, VGG-16, ") and ": sglrp_clam \N{MINUS SIGN} SGLRP" in difference
    assert f"open: {difference} = +.0000" in opened["evidence"]
    turned = verdict(claim, published, {CELL: -0.05})
    assert turned["verdict"] == "fails"
    assert f"reversed: {difference} = -.0482 (p < .0001, corrected < .0001)" in turned["evidence"]
    assert turned["n_images"] == IMAGES


def test_most_counts_halves(claims, published):
    """Of the four data sets and models, CLRP above LRP in three holds, in two is open, in two against fails."""
    claim = claims["clrp_pointing_above_lrp"]
    gains = {(c.dataset, c.model, "clrp_two_passes_norms", c.metric): 0.1 for c in claim.comparisons}
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
    assert row["corrected_for"] >= row["p_for"]
    assert details["published_difference"].isna().sum() == 12
    pd.testing.assert_frame_equal(details, decide(chosen, scores.sample(frac=1, random_state=1), published)[1])


def test_missing_scores_are_named(claims, published):
    scores = scores_like(published)
    some = scores[scores["method"] != "clrp_two_passes_norms"]
    decided, comparisons = decide([claims["vgg_pointing_improves"]], some, published)
    assert decided.loc[0, ["verdict", "n_images"]].tolist() == ["no data", 0]
    assert re.fullmatch(r"no scores of clrp_two_passes_norms .* with vgg16 in this run", decided.loc[0, "evidence"])
    assert decided.loc[0, "published_verdict"] == "supported"
    assert comparisons.empty and "p_for" in comparisons


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"quantifier": "some"}, "claim a: unknown quantifier 'some'"),
        ({"colour": "red"}, r"claim a: missing or unknown keys \['colour'\]"),
        ({"comparisons": []}, "claim a: no comparison"),
        ({"relation": "near"}, "claim a: a block of comparisons has"),
        ({"than": {"dataset": "imagenet"}}, "claim a: a block of comparisons has"),
        ({"relation": "gains_more"}, "claim a: a block of comparisons has"),
        ({"relation": "gains_more", "than": "imagenet"}, r"claim a: than is 'imagenet'; give .* \{dataset: id\}"),
        ({"relation": "gains_more", "than": {"metric": "iou"}}, r"claim a: unknown metrics \['iou'\]"),
        ({"low": 0.0}, "claim a: a block of comparisons has"),
        ({"models": ["vgg17"]}, r"claim a: unknown models \['vgg17'\]"),
        ({"pairs": [["lrp_alpha1_beta0_norms", "clrp_two_passes_norms"]] * 2}, "one that occurs twice"),
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
    (read,) = read_claims(path, ["lrp_alpha1_beta0_norms", "clrp_two_passes_norms"])
    assert [str(c) for c in read.comparisons] == [
        "imagenet/vgg16 mean_iou lrp_alpha1_beta0_norms - clrp_two_passes_norms"
    ]
    inside = set(change) & {"relation", "low", "models", "pairs", "than"}
    (block if inside else claim).update(change)
    path.write_text(yaml.safe_dump([claim]))
    with pytest.raises(InputError, match=message):
        read_claims(path, ["lrp_alpha1_beta0_norms", "clrp_two_passes_norms"])


def test_repeated_and_absent(tmp_path):
    entries = yaml.safe_load((PAPER / "claims.yaml").read_text())
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump([entries[0], entries[0]]))
    with pytest.raises(InputError, match="claim vgg_pointing_improves occurs more than once"):
        read_claims(path, ["lrp_alpha1_beta0_norms"], ROWS)
    with pytest.raises(InputError, match=r"cannot be read as YAML .*mend the claims"):
        read_claims(tmp_path / "absent.yaml", ["lrp_alpha1_beta0_norms"])


def by_hand(first, second, dataset="imagenet", metric=METRIC, start=0):
    """Scores of two methods on images numbered from ``start``."""
    frames = []
    for method, values in (("clrp_clam", first), ("clrp_two_passes_norms", second)):
        frame = pd.DataFrame(
            {"image_id": [f"i{start + k:03}" for k in range(len(values))], "target": 0, "value": values}
        )
        frames.append(frame.assign(dataset=dataset, model="vgg16", method=method, metric=metric))
    return pd.concat(frames, ignore_index=True)


def gains_more(tmp_path, than, **block):
    entry = {"id": "g", "text": "t", "source": "s", "table": 0, "quantifier": "all"}
    own = {"relation": "gains_more", "than": than, "datasets": ["imagenet"], "models": ["vgg16"], "metrics": [METRIC]}
    entry["comparisons"] = [own | {"pairs": [["clrp_clam", "clrp_two_passes_norms"]]} | block]
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump([entry]))
    return read_claims(path, ["clrp_clam", "clrp_two_passes_norms"], ROWS)


def test_a_gain_against_that_of_other_images_is_a_test_of_two_samples(tmp_path, published):
    """Images of two data sets may have one name: the data set decides."""
    claims = gains_more(tmp_path, {"dataset": "cub200_2011"})
    generator = np.random.default_rng(0)
    here, there = generator.normal(0.05, 0.1, 30), generator.normal(0.01, 0.1, 50)
    scores = pd.concat([by_hand(here + 1, np.ones(30)), by_hand(there + 1, np.ones(50), "cub200_2011")])
    summary, details = decide(claims, scores, published, known=ROWS)
    row = details.iloc[0]
    assert row["difference"] == pytest.approx(here.mean() - there.mean())
    assert (row["p_for"], row["p_against"]) == (two_sample_test(here, there, "greater"), 1.0)
    assert (row["than"], row["n_images"]) == (f"cub200_2011 {METRIC}", 30)
    assert row["published_difference"] == pytest.approx((0.5920 - 0.5814) - (0.5721 - 0.5590), abs=1e-9)
    assert summary.loc[0, "published_verdict"] == "contradicted"
    turned = decide(claims, scores.assign(value=-scores["value"]), published, known=ROWS)[1].iloc[0]
    assert (turned["p_for"], turned["p_against"]) == (1.0, two_sample_test(-there, -here, "greater"))


def test_a_gain_against_that_by_another_metric_is_paired_where_images_are_the_same(tmp_path, published):
    claims = gains_more(tmp_path, {"metric": "pointing_lower"})
    generator = np.random.default_rng(1)
    here, there = generator.normal(0.1, 0.1, 30), generator.normal(0.05, 0.1, 30)
    same = [by_hand(here, np.zeros(30)), by_hand(there, np.zeros(30), metric="pointing_lower")]
    row = decide(claims, pd.concat(same), published, known=ROWS)[1].iloc[0]
    assert row["p_for"] == sign_flip_test(here - there, "greater")
    others = by_hand(there, np.zeros(30), metric="pointing_lower", start=30)
    row = decide(claims, pd.concat([same[0], others]), published, known=ROWS)[1].iloc[0]
    assert row["p_for"] == two_sample_test(here, there, "greater")
    some = by_hand(there, np.zeros(30), metric="pointing_lower", start=20)
    with pytest.raises(InputError, match=r"claim g: .* less that of imagenet/pointing_lower: 10 of 30 and 30"):
        decide(claims, pd.concat([same[0], some]), published, known=ROWS)
    evidence = decide(claims, same[0], published, known=ROWS)[0].loc[0, "evidence"]
    assert evidence.startswith("no scores of clrp_clam for pointing_lower")


def test_claims_are_corrected_together_and_ours_apart(claims, published):
    """By hand, from the comparisons' own p: the verdict follows from the corrected p, and both are told."""
    names = ("clrp_pointing_resnet_marked_improved", "iou_sglrp_loses", "halves_clam_beneficial")
    chosen = [*(claims[name] for name in names), claims["training_matters_pointing"]]
    summary, details = decide(chosen, scores_like(published, noise=0.02), published)
    p = []
    for claim in chosen:
        own = details[details["claim"] == claim.id]
        p_for, p_against = own["p_for"].to_numpy(), own["p_against"].to_numpy()
        if claim.quantifier == "all":
            p += [p_for.max(), len(own) * p_against.min()]
        else:
            p += [np.sort(holm(p_for))[len(own) // 2], np.sort(holm(p_against))[(len(own) - 1) // 2]]
    p = np.minimum(p, 1)
    told = summary[["p_holds", "p_fails", "holm_holds", "holm_fails"]].to_numpy()
    np.testing.assert_allclose(told[:, :2].ravel(), p)
    np.testing.assert_allclose(told[:, 2:].ravel(), np.r_[holm(p[:6]), holm(p[6:])])
    for _, row in summary.iterrows():
        held, failed = row["holm_holds"] <= 0.05, row["holm_fails"] <= 0.05
        assert row["verdict"] == ("holds" if held else "fails" if failed else "undecided")
        own = details[details["claim"] == row["claim"]]
        for_it, against = ((own[f"corrected_{side}"] <= 0.05).sum() for side in ("for", "against"))
        assert f"{for_it} of {len(own)} comparisons hold, {against} are reversed" in row["evidence"]
        if row["quantifier"] == "all":
            assert (held, failed) == (for_it == len(own), against > 0)
        else:
            assert (held, failed) == (for_it > len(own) / 2, against >= len(own) / 2)


def test_the_corrected_p_decides(claims, published):
    """One claim at p = .03 holds alone, and not among ten that say nothing: the evidence names both p."""
    one = [("all", [(0.03, 1.0)])]
    nothing = [("all", [(0.6, 1.0)])] * 9
    alone, together = (decide_together(*zip(*family, strict=True)) for family in (one, one + nothing))
    assert (alone[0].verdict, alone[0].holm_holds) == ("undecided", 0.06), "holding and failing are two"
    assert decide_together(["all"], [[(0.02, 1.0)]])[0].verdict == "holds"
    assert together[0].p_holds == 0.03 and together[0].holm_holds == pytest.approx(0.6)
    assert together[0].corrected_for.tolist() == pytest.approx([0.6])
    assert decide_together([], []) == []


def test_one_comparison_alone_has_the_two_sided_level():
    """Decided just where a one-sided p is at most .025: of a p that is uniform under the null, on either side, .05."""
    for place, verdict in ((0, "holds"), (1, "fails")):
        for p, expected in ((0.025, verdict), (0.025 + 1e-12, "undecided")):
            own = (p, 1.0) if place == 0 else (1.0, p)
            assert decide_together(["all"], [[own]])[0].verdict == expected


def drawn_family(generator, effect=0.0):
    """Six claims of each quantifier: one-sided p of normal statistics, which an image set makes dependent."""
    quantifiers = ["all", "most"] * 6
    p_values = []
    for place in range(len(quantifiers)):
        z = np.sqrt(0.5) * (generator.normal(size=1 + place % 5) + generator.normal()) + effect
        p_values.append([(stats.norm.sf(one), 1.0) if one > 0 else (1.0, stats.norm.cdf(one)) for one in z])
    return quantifiers, p_values


def test_the_level_is_that_of_all_verdicts_together():
    """No comparison differs from zero: in at most 5 % of families is any claim said to hold or to fail."""
    generator = np.random.default_rng(0)
    wrong = [any(d.verdict != "undecided" for d in decide_together(*drawn_family(generator))) for _ in range(800)]
    assert 0.01 < np.mean(wrong) < 0.06


def test_the_level_with_real_tests(claims, published):
    """The whole procedure on values without any difference."""
    chosen = [claims[name] for name in ("iou_sglrp_loses", "iou_lrp_clrp_improve", "clrp_pointing_above_lrp")]
    cells = sorted({cell for claim in chosen for c in claim.comparisons for cell in c.cells()})
    wrong = 0
    for seed in range(40):
        generator = np.random.default_rng(seed)
        frames = [
            pd.DataFrame(
                {"image_id": [f"i{k}" for k in range(12)], "target": 0, "value": generator.normal(size=12)}
            ).assign(**dict(zip(("dataset", "model", "method", "metric"), cell, strict=True)))
            for cell in cells
        ]
        found = decide(chosen, pd.concat(frames), published, permutations=100)[0]["verdict"]
        wrong += (found != "undecided").any()
    assert wrong <= 5


def test_a_smaller_p_never_turns_a_claim_to_the_worse():
    """Lowering a comparison's p never raises the claim's own p for that side, nor Holm's."""
    generator = np.random.default_rng(1)
    for _ in range(200):
        quantifiers, p_values = drawn_family(generator, 1.0)
        claim = generator.integers(len(p_values))
        place = generator.integers(len(p_values[claim]))
        before = decide_together(quantifiers, p_values)[claim]
        lower = [list(pairs) for pairs in p_values]
        p_for, p_against = lower[claim][place]
        lower[claim][place] = (p_for * generator.random(), p_against)
        after = decide_together(quantifiers, lower)[claim]
        assert after.p_holds <= before.p_holds and after.holm_holds <= before.holm_holds + 1e-12
        assert after.p_fails == before.p_fails
        assert not (before.verdict == "holds" and after.verdict != "holds")
