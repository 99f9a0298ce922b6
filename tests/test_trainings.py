"""Models that stand for several trainings: their cells, intervals and claims, against numbers worked out by hand."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import yaml
from relmap.catalogue.grid import make_plan
from relmap.catalogue.methods import CATALOGUE
from relmap.catalogue.metrics import Column, Metric
from relmap.catalogue.models import MODELS, Model, with_trainings
from relmap.catalogue.papers import COLUMNS, Cell, published, read_paper
from relmap.catalogue.rows import Rows, configured_models
from relmap.errors import InputError
from relmap.evidence.claims import decide, read_claims
from relmap.evidence.evaluation import tidy
from relmap.evidence.layout import to_markdown, write_table
from relmap.evidence.significance import significance
from relmap.evidence.statistics import (
    bootstrap_change,
    bootstrap_mean,
    bootstrap_trainings,
    drawn_counts,
    sign_flip_test,
)
from relmap.evidence.status import status_of
from relmap.evidence.tables import fill, measured, trainings_note
from relmap.evidence.values import image_scores, trainings_of

METRIC = Metric("m", "M", "m:score", (Column("number", "N", "x", "v", digits=3, head="N"),))
NETS = {
    row.id: row
    for row in with_trainings(
        (
            replace(MODELS["resnet50"], id="net", label="Net", trainings=3),
            replace(MODELS["resnet50"], id="branch", label="Branch", trainings=3),
            replace(MODELS["resnet50"], id="single", label="Single"),
        )
    )
}
ROWS = Rows(metrics={"m": METRIC}, models=NETS)
IMAGES = ["a", "b", "c", "d"]
# Of each training and image, by method; the trainings' means are .4, .5, .9 of one method and .2, .3, .4.
VALUES = {
    "grad_cam": [[0.1, 0.3, 0.5, 0.7], [0.2, 0.4, 0.6, 0.8], [0.8, 0.9, 0.9, 1.0]],
    "clrp": [[0.1, 0.2, 0.2, 0.3], [0.1, 0.2, 0.4, 0.5], [0.3, 0.4, 0.4, 0.5]],
}


def scores_of(trainings, values=VALUES, names=("net", "net")):
    """Per-pair values of some trainings of two methods."""
    parts = [
        image_scores(tidy(IMAGES, [0] * 4, method, "v", np.array(values[method][k])), "imagenet", f"{name}_{k}", ROWS)
        for method, name in zip(values, names, strict=True)
        for k in trainings
    ]
    return pd.concat(parts, ignore_index=True)


CELL = Cell("imagenet", "net", "grad_cam", "number")


def test_rows_of_trainings_are_made():
    assert [row for row in NETS if row.startswith("net")] == ["net", "net_0", "net_1", "net_2"]
    made = NETS["net_2"]
    assert (made.training_of, made.number, made.trainings, made.maker) == ("net", 2, 0, MODELS["resnet50"].maker)
    assert ROWS.trainings("net") == ("net_0", "net_1", "net_2") and ROWS.trainings("single") == ("single",)
    other = replace(ROWS, networks={"clrp": {"net": "branch"}})
    assert other.trainings("net", "clrp") == ("branch_0", "branch_1", "branch_2")
    assert other.trainings("net", "grad_cam") == ROWS.trainings("net")
    assert not [row for row in MODELS.values() if row.training_of and row.training_of not in MODELS]


def test_methods_have_trainings_too():
    """A cell stands for networks and methods of one number; what has a single one belongs to each."""
    first = CATALOGUE["grad_cam"]
    further = [replace(first, id=f"grad_cam_{number}", training_of="grad_cam") for number in (1, 2)]
    rows = ROWS.with_methods(row.to_dict() for row in further)
    assert rows.methods["grad_cam_2"] == further[1]
    ids = ("grad_cam", "grad_cam_1", "grad_cam_2")
    assert rows.stands_for("single", "grad_cam") == tuple(("single", method) for method in ids)
    assert rows.stands_for("net", "grad_cam") == tuple(zip(("net_0", "net_1", "net_2"), ids, strict=True))
    assert rows.stands_for("net", "clrp") == tuple((f"net_{number}", "clrp") for number in range(3))
    assert rows.stands_for("single", "grad_cam_1") == (("single", "grad_cam_1"),)
    values = {("imagenet", "single", method, "number"): pd.Series([float(place)]) for place, method in enumerate(ids)}
    values["imagenet", "single", "clrp", "number"] = pd.Series([5.0])
    sides = [Cell("imagenet", "single", method, "number") for method in ("grad_cam", "clrp")]
    found = [[side.item() for side in training] for training in trainings_of(sides, values, rows)]
    assert found == [[0.0, 5.0], [1.0, 5.0], [2.0, 5.0]]


def test_a_config_says_how_many():
    entry = {"width": 1.0}
    models = {"net": {**entry, "trainings": 2}, "single": entry, "branch": None, "gone": None}
    assert list(configured_models(ROWS, {"models": models})) == ["net_0", "net_1", "single"]
    all_of_them = {"net": entry, "net_1": None, "net_2": {"width": 2.0}}
    found = configured_models(ROWS, {"models": all_of_them})
    assert found == {"net_0": entry, "net_2": {"width": 2.0}}


def test_a_cell_is_the_mean_of_the_trainings_means():
    """.4, .5 and .9: mean .6, deviations -.2, -.1, .3 and .14 / 2 = .07, its root; of two trainings .45 and .0707."""
    (row,) = measured([CELL], scores_of(range(3)), known=ROWS).to_dict("records")
    assert row["value"] == pytest.approx(0.6, abs=1e-15) and row["std"] == pytest.approx(0.07**0.5, abs=1e-15)
    assert (row["n_trainings"], row["n_images"], row["n_pairs"], row["missing"]) == (3, 4, 12, "")
    assert 0.2 < row["ci_low"] < 0.45 < row["ci_high"] < 1
    (row,) = measured([CELL], scores_of([0, 1]), known=ROWS).to_dict("records")
    assert row["value"] == pytest.approx(0.45, abs=1e-15) and row["std"] == pytest.approx(0.005**0.5, abs=1e-15)
    assert row["n_trainings"] == 2
    (row,) = measured([CELL], scores_of([2]), known=ROWS).to_dict("records")
    assert row["value"] == pytest.approx(0.9) and np.isnan(row["std"]) and row["n_trainings"] == 1
    (row,) = measured([CELL], scores_of([0])[:0], known=ROWS).to_dict("records")
    assert row["missing"] == "scores of imagenet/net number grad_cam"


def test_the_interval_draws_trainings_and_the_same_images_for_all():
    """Against the definition, resample by resample: trainings by one stream, images by that of single networks."""
    values, seed, count = np.array(VALUES["grad_cam"]), 3, 500
    interval, spread = bootstrap_trainings(list(values), 0.9, count, seed, [IMAGES] * 3)
    images = np.concatenate(list(drawn_counts(4, count, seed)))
    trainings = np.random.default_rng([seed, 1]).integers(3, size=(count, 3))
    means = [np.mean([(images[b] * values[k]).sum() / images[b].sum() for k in trainings[b]]) for b in range(count)]
    np.testing.assert_allclose((interval.low, interval.high), np.quantile(means, [0.05, 0.95]), rtol=0, atol=1e-15)
    assert spread == np.std(values.mean(1), ddof=1)


def test_one_training_is_a_single_network():
    values = [VALUES["grad_cam"][0]]
    assert bootstrap_trainings(values, 0.9, 300, 5, [IMAGES])[0] == bootstrap_mean(values[0], 0.9, 300, 5)
    classes = np.array([0, 0, 0, 1])
    alike = bootstrap_trainings(values, 0.9, 300, 5, [IMAGES], [classes])[0]
    assert alike == bootstrap_mean(values[0], 0.9, 300, 5, classes=classes)
    base = np.array([1.0, 2.0, 1.0, 2.0])
    changed = bootstrap_trainings(values, 0.9, 300, 5, [IMAGES], bases=[base])[0]
    assert changed == bootstrap_change(values[0], base, 0.9, 300, 5)


def test_alike_trainings_have_the_interval_of_one():
    """What trainings add is their spread: of equals nothing, however many; images drawn apart would narrow it."""
    one = np.array(VALUES["grad_cam"][0])
    interval, spread = bootstrap_trainings([one] * 5, 0.95, 400, 1, [IMAGES] * 5)
    single = bootstrap_mean(one, 0.95, 400, 1)
    np.testing.assert_allclose(
        (interval.mean, interval.low, interval.high), (single.mean, single.low, single.high), rtol=0, atol=1e-15
    )
    assert spread == pytest.approx(0, abs=1e-15)


def test_trainings_may_have_other_pairs_and_gaps():
    """Two pairs of an image in one training, none in another: .5 and .75, means of what each has."""
    values = [np.array([0.0, 1.0, 0.5]), np.array([0.75, np.nan])]
    images = [np.array(["a", "a", "b"]), np.array(["b", "a"])]
    interval, spread = bootstrap_trainings(values, 0.95, 200, 0, images)
    assert (interval.mean, interval.n, interval.pairs) == (0.625, 2, 4) and spread == pytest.approx(0.125 * 2**0.5)
    assert 0.5 <= interval.low <= interval.high <= 0.75
    assert bootstrap_trainings([np.array([np.nan])], images=[np.array(["a"])])[0].n == 0


@pytest.fixture
def paper(tmp_path):
    """A paper of one table: a model that is trained several times, and a method with networks of its own."""
    folder = tmp_path / "toy"
    folder.mkdir()
    content = {
        "title": "T",
        "short": "Toy",
        "citation": "C",
        "models": {"resnet": "net"},
        "methods": {
            "ours": {"label": "Ours", "id": "grad_cam"},
            "theirs": {"label": "Theirs", "id": "clrp", "models": {"resnet": "branch"}},
        },
        "metrics": {"n": "number"},
        "controls": ["constant"],
        "tables": [{"number": 1, "caption": "One"}],
        "figures": [],
    }
    (folder / "paper.yaml").write_text(yaml.safe_dump(content))
    row = dict.fromkeys(COLUMNS, "")
    row |= {
        "paper": "toy",
        "table": 1,
        "dataset": "imagenet",
        "model": "resnet",
        "metric": "n",
        "std": "0.020",
        "higher_is_better": "true",
    }
    rows = [{**row, "method": "ours", "value": "0.700"}, {**row, "method": "theirs", "value": "0.500"}]
    pd.DataFrame(rows).to_csv(folder / "table1.csv", index=False)
    return folder


def test_a_method_with_networks_of_its_own_stands_in_the_same_column(paper, tmp_path):
    toy = read_paper(paper)
    assert toy.networks == {"clrp": {"net": "branch"}}
    known = replace(ROWS, networks=toy.networks)
    printed = published(toy, 1, known)
    filled = fill(printed, scores_of(range(3), names=("net", "branch")), known=known, resamples=100)
    assert filled["reproduced"].tolist() == [pytest.approx(0.6), pytest.approx(0.3)]
    assert filled["reproduced_std"].tolist() == [pytest.approx(0.07**0.5), pytest.approx(0.1)]
    text = to_markdown(filled).splitlines()
    assert text[2] == "| Ours | 0.700 ± 0.020 | **0.600 ± 0.265** [0.31, 0.88] |"
    assert "| 0.300 ± 0.100 [" in text[3]
    assert trainings_note(filled) == (
        "Ours: mean ± standard deviation (n - 1) over 3 trainings; seeds differ, all else is the same."
    )
    fewer = scores_of(range(3), names=("net", "branch"))
    fewer = fill(printed, fewer[~fewer["model"].isin(["branch_1", "branch_2"])], known=known, resamples=100)
    assert "over 3 trainings (Theirs: 1)" in trainings_note(fewer)
    assert to_markdown(fewer).splitlines()[3].endswith("| 0.200 [0.12, 0.28] |"), "one training has no spread"
    write_table(filled, tmp_path / "t.csv")
    assert pd.read_csv(tmp_path / "t.csv")["n_trainings"].tolist() == [3, 3]


def test_what_a_run_makes_for_trainings(paper):
    toy = read_paper(paper)
    here = ["net_0", "net_2", "branch_1"]
    plan = make_plan([toy], ROWS, ["imagenet"], here)
    assert plan.methods == {
        ("imagenet", "net_0"): ("grad_cam", "constant"),
        ("imagenet", "net_2"): ("grad_cam", "constant"),
        ("imagenet", "branch_1"): ("clrp",),
    }, "controls are of the table's own networks"
    assert not plan.missing and plan.cells == 2
    lacking = make_plan([toy], ROWS, ["imagenet"], ["net_1"]).missing
    assert list(lacking.values()) == ["model branch in the config"]


def test_status_counts_what_trainings_can_fill(paper, tmp_path):
    entry = {"width": 1.0, "weights": "train"}
    (paper / "rows.py").write_text(
        "from relmap.catalogue.metrics import Column, Metric\n"
        "from relmap.catalogue.models import Model\n"
        'METRICS = [Metric("m", "M", "prediction:top_classes", (Column("number", "N", "x", "v"),))]\n'
        'MODELS = [Model(i, i, "", "resnet:resnet50", "fc", "fc", trainings=2) for i in ("net", "branch")]\n'
    )
    config = {"datasets": {"imagenet": {"format": None}}, "models": {"net": entry}, "extensions": []}
    toy = read_paper(paper)
    (status,) = status_of(tmp_path, config, [toy], tmp_path / "none")
    assert (status.printed, status.fillable, status.lacking) == (2, 1, (("model branch in the config", 1),))


def test_two_tables_agree_on_a_methods_networks(paper):
    content = yaml.safe_load((paper / "paper.yaml").read_text())
    content["tables"].append({"number": 2, "caption": "Two", "methods": {"theirs": content["methods"]["theirs"] | {}}})
    content["tables"][1]["methods"]["theirs"] = {"label": "T", "id": "clrp", "models": {"resnet": "single"}}
    (paper / "table2.csv").write_text((paper / "table1.csv").read_text())
    (paper / "paper.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(InputError, match="table 2: `methods`: clrp has another network in the place of net"):
        read_paper(paper)


def claim(tmp_path, relation="above", **margins):
    block = {"relation": relation, "datasets": ["imagenet"], "models": ["net"], "metrics": ["number"], **margins}
    block["pairs"] = [["grad_cam", "clrp"]]
    entry = {"id": "c", "text": "t", "source": "s", "table": 1, "quantifier": "all", "comparisons": [block]}
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump([entry]))
    return read_claims(path, ["grad_cam", "clrp"], ROWS)


def test_claims_average_trainings_and_flip_images(tmp_path, paper):
    """Differences of the trainings are .2, .2 and .5, of the images .2, .8 / 3, 1 / 3 and .4: p is one of 2^4 flips."""
    known = replace(ROWS, networks=read_paper(paper).networks)
    printed = published(read_paper(paper), 1, known)
    scores = scores_of(range(3), names=("net", "branch"))
    summary, details = decide(claim(tmp_path), scores, printed, known=known)
    (row,) = details.to_dict("records")
    assert row["difference"] == pytest.approx(0.3, abs=1e-15)
    by_image = np.mean([np.subtract(*pair) for pair in zip(VALUES["grad_cam"], VALUES["clrp"], strict=True)], axis=0)
    assert row["p_for"] == sign_flip_test(by_image, "greater") == 1 / 2**4
    assert (row["n_trainings"], row["trainings_for"], row["n_images"]) == (3, 3, 4)
    assert row["published_difference"] == 0.2
    assert "each in at least 3 of 3 trainings" in summary["evidence"][0]


def test_a_training_that_turns_is_counted(tmp_path):
    turned = {**VALUES, "clrp": [[0.5] * 4, [0.1] * 4, [0.2] * 4]}
    printed = pd.DataFrame(columns=["dataset", "model", "method", "metric", "select", "value"])
    for relation, margins, agreeing in (("above", {}, 2), ("below", {}, 1), ("within", {"low": 0.0, "high": 0.5}, 1)):
        (read,) = claim(tmp_path, relation, **margins)
        details = decide([read], scores_of(range(3), turned), printed, known=ROWS)[1]
        assert (details["trainings_for"][0], details["difference"][0]) == (agreeing, pytest.approx(1 / 3)), relation
    lacking = scores_of(range(3), turned)
    lacking = lacking[(lacking["method"] == "grad_cam") == (lacking["model"] == "net_0")]
    summary = decide([read], lacking, printed, known=ROWS)[0]
    assert summary["verdict"][0] == "no data", "networks of one number are compared, and there is none"


def test_stars_are_of_single_networks(paper):
    printed = {1: published(read_paper(paper), 1, ROWS)}
    with pytest.raises(InputError, match="table 1: net stands for 3 trainings; `significance` tests values of one"):
        significance(printed, ["number"], 0.05, scores_of(range(3)), ROWS)


def test_networks_of_other_papers_are_unchanged(tmp_path):
    """A table of single networks has no column of trainings, and its claims neither."""
    scores = image_scores(
        tidy(IMAGES, [0] * 4, "grad_cam", "v", np.array(VALUES["grad_cam"][0])), "imagenet", "single", ROWS
    )
    frame = measured([replace(CELL, model="single")], scores, known=ROWS)
    assert "n_trainings" not in frame and "std" not in frame and frame["value"].tolist() == [pytest.approx(0.4)]


def test_model_rows_with_trainings_may_come_from_a_file(tmp_path):
    from relmap.catalogue.rows import load_rows

    (tmp_path / "own.py").write_text(
        "from relmap.catalogue.models import Model\n"
        'MODELS = [Model("mine", "Mine", "", "resnet:resnet18", "fc", "fc", trainings=2)]\n'
    )
    rows = load_rows([tmp_path / "own.py"])
    assert rows.trainings("mine") == ("mine_0", "mine_1") and isinstance(rows.models["mine_1"], Model)
