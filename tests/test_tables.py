"""Tables: published cells beside ours, in the paper's layout; a missing cell is an error that names it."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from relmap.catalogue.metrics import Column, Metric
from relmap.catalogue.papers import FLAGS, Cell, cells, published, read_paper
from relmap.catalogue.rows import Rows, load_rows
from relmap.errors import InputError
from relmap.evidence.evaluation import tidy
from relmap.evidence.layout import digits, frame_to_markdown, p_text, to_latex, to_markdown, write_frame, write_table
from relmap.evidence.statistics import bootstrap_mean, sign_flip_test
from relmap.evidence.tables import _gain_p, fill, images_note, measured
from relmap.evidence.values import by_cell, image_scores, load_scores

from papers.clam.controls import controls
from papers.clam.methods import UNTRAINED_ARM, clam_methods

PUBLISHED = Path(__file__).parents[1] / "papers" / "clam"
CLAM = read_paper(PUBLISHED)
ROWS = load_rows([PUBLISHED / "rows.py"])
METHODS = [*dict.fromkeys(published(CLAM, 1, ROWS)["method"]), *(row.id for row in clam_methods(UNTRAINED_ARM))]
IMAGES = [f"image_{i}" for i in range(9)]


def score_rows(seed: int, masks: bool = True) -> pd.DataFrame:
    """Score rows of all methods as the rules write them: 20 energies, 4 steps, IoU."""
    generator = np.random.default_rng(seed)
    levels = {"pointing": np.arange(1, 21) / 20, "lerf_correct": np.arange(1.0, 5.0)}
    if masks:
        levels["iou"] = np.array([np.nan])
    rows = [
        (image, method, metric, level)
        for metric, values in levels.items()
        for method in METHODS
        for image in IMAGES
        for level in values
    ]
    frame = pd.DataFrame(rows, columns=["image_id", "method", "metric", "level"])
    frame["target"] = 0
    frame["value"] = generator.random(len(frame))
    binary = frame["metric"] == "lerf_correct"
    frame.loc[binary, "value"] = (frame.loc[binary, "value"] < 0.7).astype(float)
    return frame


@pytest.fixture(scope="module")
def scores():
    places = [(dataset.id, model.id) for dataset in ROWS.datasets.values() for model in ROWS.models.values()]
    return pd.concat(
        [image_scores(score_rows(i, d == "cub200_2011"), d, m) for i, (d, m) in enumerate(places)], ignore_index=True
    )


def test_image_scores_by_hand():
    rows = score_rows(0)
    got = image_scores(rows, "cub200_2011", "vgg16").set_index(["method", "metric", "image_id"])["value"]
    mine = rows[(rows["method"] == "clrp_two_passes_norms") & (rows["image_id"] == "image_3")]
    pointing = mine[mine["metric"] == "pointing"]["value"].to_numpy()
    right = mine[mine["metric"] == "lerf_correct"]["value"].to_numpy()
    expected = {
        "pointing_energy_mean": pointing.mean(),
        "pointing_lower": pointing[:10].mean(),
        "pointing_higher": pointing[10:].mean(),
        "pointing_full_energy": pointing[-1],
        "lerf_last_accuracy": right[-1],
        "lerf_mean_accuracy": right.mean(),
        "mean_iou": mine[mine["metric"] == "iou"]["value"].item(),
    }
    for metric, value in expected.items():
        assert got["clrp_two_passes_norms", metric, "image_3"] == pytest.approx(value), metric
    assert len(got) == len(expected) * len(METHODS) * len(IMAGES)


def test_incomplete_rows_are_refused():
    rows = score_rows(0)
    with pytest.raises(
        InputError, match=r"image image_0 with target 0 of lrp_alpha1.* has 19 distinct levels of pointing"
    ):
        image_scores(rows.drop(index=rows.index[5]), "cub200_2011", "vgg16")
    with pytest.raises(InputError, match="levels are repeated"):
        image_scores(pd.concat([rows, rows]), "cub200_2011", "vgg16")
    with pytest.raises(InputError, match="no metric's row reads speed"):
        image_scores(rows.assign(metric="speed"), "cub200_2011", "vgg16")


def test_a_pair_that_one_method_lacks_is_refused():
    """A mean without it would be of other pictures than the other methods'."""
    rows = score_rows(0)
    lacking = (rows["method"] == "clrp_two_passes_norms") & (rows["metric"] == "iou") & (rows["image_id"] == "image_3")
    message = "iou of clrp_two_passes_norms has no row for image image_3 with target 0, which other methods have"
    with pytest.raises(InputError, match=message):
        image_scores(rows[~lacking], "cub200_2011", "vgg16")
    with pytest.raises(InputError, match=r"iou of .* has no row for image image_3 with target 7"):
        image_scores(rows.assign(target=rows["target"].mask(lacking, 7)), "cub200_2011", "vgg16")
    everywhere = (rows["metric"] == "iou") & (rows["image_id"] == "image_3")
    got = image_scores(rows[~everywhere], "cub200_2011", "vgg16")
    assert (got["metric"] == "mean_iou").sum() == (len(IMAGES) - 1) * len(METHODS)


@pytest.mark.parametrize("table", [1, 2, 3, 4])
def test_fill(scores, table):
    """The printed text stays, every cell is filled, and the value is the mean over images."""
    printed = published(CLAM, table, ROWS)
    filled = fill(printed, scores)
    pd.testing.assert_frame_equal(filled[printed.columns], printed)
    assert list(filled.columns[len(printed.columns) :]) == [
        "role",
        "reproduced",
        "ci_low",
        "ci_high",
        "reproduced_std",
        "n_images",
        "n_pairs",
        "missing",
        "gain_p",
    ]
    assert (filled["n_images"] == len(IMAGES)).all() and (filled["n_pairs"] == len(IMAGES)).all()
    assert ((filled["ci_low"] <= filled["reproduced"]) & (filled["reproduced"] <= filled["ci_high"])).all()
    row = filled.iloc[-1]
    mine = scores[
        (scores[["dataset", "model", "method", "metric"]] == row[["dataset", "model", "method", "metric"]]).all(axis=1)
    ]
    interval = bootstrap_mean(mine.sort_values("image_id")["value"].to_numpy())
    assert (row["reproduced"], row["ci_low"], row["ci_high"]) == (interval.mean, interval.low, interval.high)


def test_the_four_tables_have_264_cells(scores):
    sizes = [len(fill(published(CLAM, i, ROWS), scores, resamples=10)) for i in range(1, 5)]
    assert sum(sizes) == 264


def test_fill_does_not_depend_on_row_order(scores):
    printed = published(CLAM, 4, ROWS)
    shuffled = scores.sample(frac=1, random_state=0)
    pd.testing.assert_frame_equal(fill(printed, scores), fill(printed, shuffled))


def test_what_a_cell_lacks_is_named(scores):
    printed = published(CLAM, 2, ROWS)
    some = scores[scores["dataset"] != "cub200_2011"]
    here = printed["dataset"] == "imagenet"
    filled = fill(printed, some, resamples=10)
    assert (filled.loc[here, "missing"] == "").all() and filled.loc[here, "reproduced"].notna().all()
    assert filled.loc[~here, "reproduced"].isna().all()
    cell = next(cells(printed))
    assert filled["missing"].iloc[0] == f"scores of {cell}"
    told = fill(printed, some, resamples=10, missing={str(cell): "data set cub200_2011 in the config"})
    assert told["missing"].iloc[0] == "data set cub200_2011 in the config"


def test_a_caption_says_over_how_many_images(scores):
    printed = published(CLAM, 4, ROWS)
    filled = fill(printed, scores, resamples=10)
    assert images_note(filled) == f"Ours over {len(IMAGES)} images"
    some = filled.assign(n_images=[3, *filled["n_images"][1:]])
    assert images_note(some) == f"Ours over 3 to {len(IMAGES)} images, see n_images"
    assert images_note(filled.assign(reproduced=np.nan)) == ""


def test_images_without_a_value_are_not_counted(scores):
    printed = published(CLAM, 4, ROWS).iloc[:1]
    chosen = (scores["method"] == "lrp_alpha1_beta0_norms") & (scores["image_id"].isin(IMAGES[:2]))
    filled = fill(printed, scores.assign(value=scores["value"].mask(chosen)))
    assert filled["n_images"].tolist() == [len(IMAGES) - 2]


def small_table() -> pd.DataFrame:
    printed = published(CLAM, 2, ROWS)
    printed = printed[
        printed["method"].isin(["lrp_alpha1_beta0_norms", "lrp_clam", "grad_cam"]) & (printed["model"] == "vgg16")
    ]
    values = {"lrp_alpha1_beta0_norms": 0.5, "lrp_clam": 0.61234, "grad_cam": 1.0}
    table = printed.assign(
        reproduced=printed["method"].map(values), ci_low=0.4321, ci_high=1.0, n_images=3, role="published"
    )
    return table.assign(gain_p=np.where(table["method"] == "lrp_clam", 0.049, np.nan))


def test_markdown():
    lines = to_markdown(small_table(), "Table 2").splitlines()
    assert lines[0] == "Table 2"
    assert lines[2].startswith("| Method | CUB-200-2011, VGG-16, last: published | ours | CUB-200-2011, VGG-16, mean")
    assert lines[4].startswith("| LRP | .7856 | .5000 [.432, 1.000] | .8530 | .5000 [.432, 1.000] |")
    assert lines[5].startswith("| LRP+CLAM | <u>.8004</u> | <u>.6123</u> [.432, 1.000] |")
    assert lines[6].startswith("| Grad-CAM | .7421 | **1.0000** [.432, 1.000] |")
    assert lines[6].endswith("| **.8367** | **1.0000** [.432, 1.000] |")


def test_a_gain_that_no_test_supports_is_not_underlined(scores):
    assert "<u>.6123" not in to_markdown(small_table().assign(gain_p=0.05))
    printed = published(CLAM, 4, ROWS)
    filled = fill(printed, scores, resamples=10)
    refined = filled["method"].str.endswith("_clam")
    assert filled["gain_p"].notna().equals(refined) and filled["gain_p"].dropna().between(0, 1).all()
    better = scores.assign(value=scores["value"] + scores["method"].str.endswith("_clam"))
    assert (fill(printed, better, resamples=10).loc[refined, "gain_p"] < 0.05).all()
    worse = scores.assign(value=scores["value"] - scores["method"].str.endswith("_clam"))
    assert (fill(printed, worse, resamples=10).loc[refined, "gain_p"] == 1).all()
    # A tie on every image is no gain, however many images there are.
    alike = scores.assign(value=scores.groupby("image_id")["value"].transform("first"))
    assert (fill(printed, alike, resamples=10).loc[refined, "gain_p"] == 1).all()


def test_a_gain_in_a_number_that_should_be_small_is_a_fall(scores):
    column = ROWS.columns()["mean_iou"][1]
    index = pd.MultiIndex.from_product([[f"i{k}" for k in range(40)], [0]], names=["image_id", "target"])
    base, own = pd.Series(1.0, index), pd.Series(np.linspace(0.1, 0.9, 40), index)
    assert _gain_p([(own, base)], replace(column, higher_is_better=False), 0) < 1e-4
    assert _gain_p([(own, base)], column, 0) > 0.99
    # Two trainings that cancel are no gain, though one alone would be.
    assert _gain_p([(base, own), (own, base)], column, 0) == 1


def test_intervals_have_the_scale_of_their_values():
    """Percents with a decimal have limits without one, signs stay, and a value without an interval has none."""
    table = small_table().assign(ci_low=-0.04321, reproduced=0.5)
    assert "| **.5000** [-.043, 1.000] |" in to_markdown(table)
    assert "| **50.0** [-4, 100] |" in to_markdown(table.assign(scale=100, digits=1))
    assert "[" not in to_markdown(table.assign(ci_low=np.nan))


def test_latex():
    text = to_latex(small_table(), "Table 2 & more")
    assert r"\caption{Table 2 \& more}" in text
    assert r" & \multicolumn{4}{c}{CUB-200-2011} & \multicolumn{4}{c}{ImageNet} \\" in text
    assert r"\cmidrule(lr){2-5}\cmidrule(lr){6-9}" in text
    assert r"LRP+CLAM & \underline{.8004} & \underline{.6123} {\scriptsize [.432, 1.000]} & " in text
    assert r"Grad-CAM & .7421 & \textbf{1.0000} {\scriptsize [.432, 1.000]} & " in text
    widths = {line.count("&") for line in text.splitlines() if line.startswith(("LRP", "Grad")) or "published" in line}
    assert widths == {8}


def test_digits():
    assert [digits(v) for v in (0.555, 1.0, -0.0079, -0.00001, 12.5)] == [
        ".5550",
        "1.0000",
        "-.0079",
        ".0000",
        "12.5000",
    ]
    assert digits(0.0101, signed=True) == "+.0101"


def test_written_files(tmp_path, scores):
    printed = published(CLAM, 1, ROWS)
    filled = fill(printed, scores, resamples=50)
    write_table(filled, tmp_path / "clam_table1.csv", "Table 1")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["clam_table1.csv", "clam_table1.md", "clam_table1.tex"]
    read = pd.read_csv(tmp_path / "clam_table1.csv", dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(read[printed.columns], printed.astype(str))
    np.testing.assert_allclose(read["reproduced"].astype(float), filled["reproduced"], atol=1e-6)
    write_frame(pd.DataFrame({"claim": ["a|b"], "p": [np.nan], "n": [3]}), tmp_path / "frame.csv")
    assert (tmp_path / "frame.md").read_text().splitlines()[-1] == r"| a\|b |  | 3 |"


def test_frame_to_markdown():
    assert frame_to_markdown(pd.DataFrame({"x": [0.5]}), "A").splitlines() == ["A", "", "| x |", "| --- |", "| .5000 |"]
    tiny = frame_to_markdown(pd.DataFrame({"p": [1e-6, 0.0, 0.00006]})).splitlines()[2:]
    assert tiny == ["| < .0001 |", "| .0000 |", "| .0001 |"], "no positive number reads as zero"
    assert [p_text(p) for p in (1e-6, 0.0321)] == ["< .0001", "= .0321"]


def test_load_scores(tmp_path):
    path = tmp_path / "imagenet" / "vgg16" / "pointing.parquet"
    path.parent.mkdir(parents=True)
    rows = score_rows(0)
    rows[rows["metric"] == "pointing"].to_parquet(path)
    loaded = load_scores([path])
    assert set(loaded["dataset"]) == {"imagenet"}
    assert set(loaded["model"]) == {"vgg16"}
    named = {f"pointing_{part}" for part in ("energy_mean", "lower", "higher", "full_energy")}
    assert set(loaded["metric"]) == named


def test_controls(scores):
    some = scores[scores["metric"] == "mean_iou"]
    table = controls(some)
    assert table["method"].tolist()[:3] == ["lrp_alpha1_beta0_norms", "lrp_clam", "lrp_clam_untrained"]
    places = len(some.groupby(["dataset", "model"]))
    assert len(table) == places * 9
    row = table.set_index(["model", "method"]).loc[("vgg16", "lrp_clam")]
    wide = some[some["model"] == "vgg16"].pivot(index="image_id", columns="method", values="value")
    difference = (wide["lrp_clam"] - wide["lrp_clam_untrained"]).to_numpy()
    assert row["minus_untrained"] == pytest.approx(difference.mean())
    assert row["p_untrained"] == sign_flip_test(difference)
    assert table[table["method"] == "lrp_alpha1_beta0_norms"]["minus_base"].isna().all()
    assert table[table["method"] == "lrp_clam_untrained"]["p_untrained"].isna().all()
    fewer = controls(some[some["method"] != "sglrp_clam_untrained"])
    assert len(fewer) == places * 6 and "sglrp_clam" not in set(fewer["method"])  # no control, no comparison


def flagged_scores() -> pd.DataFrame:
    """Pointing-game rows of four pairs in three images: two of class 0, two of class 1, one of which is difficult."""
    pairs = pd.DataFrame(
        {
            "image_id": ["a", "b", "b", "c"],
            "target": [0, 0, 1, 1],
            "present": [True, True, True, False],
            "predicted": [True, False, True, True],
            "counted": [True, True, True, False],
            "difficult": [False, True, True, False],
        }
    )
    rows = tidy(pairs["image_id"], pairs["target"], "lrp", "pointing_game", np.array([1.0, 0.0, 1.0, np.nan]))
    return image_scores(rows, "voc2007", "vgg16", pairs=pairs)


def test_selected_pairs_alone_count():
    scores = flagged_scores()
    cell = ("voc2007", "vgg16", "lrp", "pointing_game")
    assert by_cell(scores)[cell].dropna().tolist() == [1, 0, 1]
    assert by_cell(scores, "counted;predicted")[cell].tolist() == [1, 1]
    assert by_cell(scores, "difficult")[cell].index.tolist() == [("b", 0), ("b", 1)]
    with pytest.raises(InputError, match="do not tell which pairs are difficult"):
        by_cell(scores.drop(columns="difficult"), "difficult")
    stray = pd.DataFrame(columns=["image_id", "target", *FLAGS])
    with pytest.raises(InputError, match="image a with target 0 is none of the targets"):
        image_scores(tidy(["a"], [0], "lrp", "pointing_game", np.ones(1)), "voc2007", "vgg16", pairs=stray)


def test_what_figures_show_is_measured_by_class_and_selection():
    """Class 0 has .5 and class 1 has 1: .75, though two of three pairs hit; a cell without scores says so."""
    cells = [
        Cell("voc2007", "vgg16", "lrp", "pointing_game", "", "counted"),
        Cell("voc2007", "vgg16", "lrp", "pointing_game", "", "difficult"),
        Cell("voc2007", "vgg16", "clrp", "pointing_game", "", "counted"),
    ]
    frame = measured(cells, flagged_scores(), resamples=50)
    assert frame["select"].tolist() == ["counted", "counted", "difficult"]
    assert frame["method"].tolist() == ["lrp", "clrp", "lrp"]
    assert frame["value"].dropna().tolist() == [0.75, 0.5]
    assert frame["n_images"].tolist() == [2, 0, 1] and frame["n_pairs"].tolist() == [3, 0, 2]
    assert frame["missing"].tolist() == ["", "scores of voc2007/vgg16 pointing_game clrp", ""]


def test_a_column_may_be_a_change_against_another_method():
    """Means .5 and 1 of the same pairs: half of it is lost; without the other there is no value."""
    metric = Metric("m", "M", "m:score", (Column("v", "V", "x", "v"), Column("loss", "L", "x", "v", against="lrp")))
    known = Rows(metrics={"m": metric})
    rows = [
        tidy(["a", "b"], [0, 0], name, "v", np.array(values))
        for name, values in (("lrp", [0.5, 1.5]), ("clrp", [0.25, 0.75]))
    ]
    scores = image_scores(pd.concat(rows), "imagenet", "vgg16", known)
    cells = [Cell("imagenet", "vgg16", "clrp", name) for name in ("v", "loss")]
    assert measured(cells, scores, resamples=20, known=known)["value"].tolist() == [0.5, -0.5]
    alone = measured(cells, scores[scores["method"] == "clrp"], resamples=20, known=known)
    assert alone["missing"].tolist() == ["", "scores of imagenet/vgg16 loss lrp"]
    nothing = scores.assign(value=scores["value"].where(scores["method"] != "lrp", 0.0))
    assert measured(cells, nothing, resamples=20, known=known)["missing"][1] == "a change: the mean of lrp is 0"


def test_an_area_is_that_under_each_pair_s_own_curve():
    """Levels in any order, and other levels of images of another size."""
    column = Column("curve", "Curve", "", "curve", over="area")
    known = Rows(metrics={"curve": Metric("curve", "Curve", "x:y", (column,))})
    generator, levels = np.random.default_rng(0), {"a": [0, 0.2, 1.0], "b": [0, 0.5, 1.0]}
    parts, expected = [], {}
    for method in ("grad_cam", "saliency"):
        for image, own in levels.items():
            values = generator.random((1, 3))
            parts.append(tidy([image], [1], method, "curve", values, own))
            expected[method, image] = np.trapezoid(values[0], own)
    rows = pd.concat(parts).sample(frac=1, random_state=1)
    found = image_scores(rows, "d", "m", known).set_index(["method", "image_id"])["value"]
    assert found.to_dict() == pytest.approx(expected) and len(found) == 4
