"""Papers as folders: every printed cell has a key of its own, a plan, and a place in every format."""

import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from relmap.catalogue.grid import first_lacking, make_plan
from relmap.catalogue.metrics import METRICS, Column, Metric, columns
from relmap.catalogue.papers import COLUMNS, FLAGS, Cell, cells, published, read_paper, read_papers
from relmap.catalogue.rows import Rows, as_configured, configured_models, load_rows
from relmap.errors import InputError
from relmap.evidence.claims import read_claims
from relmap.evidence.layout import lay_out, to_latex, to_markdown
from relmap.evidence.tables import fill
from relmap.evidence.values import image_scores
from relmap.job.config import load
from relmap.report import reading

PAPERS = read_papers(Path(__file__).parents[1] / "papers")
CLAM = next(paper for paper in PAPERS if paper.id == "clam")
CLAM_ROWS = load_rows([CLAM.folder / "rows.py"])
TABLES = [(paper, number) for paper in PAPERS for number in paper.tables]
NAMES = [f"{paper.id}-{number}" for paper, number in TABLES]
NO_SCORES = pd.DataFrame(columns=["dataset", "model", "method", "metric", "image_id", "target", "value"])


def test_the_default_run_can_fill_every_printed_cell():
    """None waits for a data set, model, method, metric or for pairs that no variant selects."""
    config = load({})
    rows = as_configured(
        load_rows([file for paper in PAPERS if (file := paper.folder / "rows.py").is_file()], config), config
    )
    datasets = [name for name, row in rows.datasets.items() if row.derived or config["datasets"].get(name)]
    assert config["papers"] == ["clam", "ae", "abslrp", "ucag", "c3lrp"]
    plan = make_plan(PAPERS, rows, datasets, list(configured_models(rows, config)))
    assert plan.missing == {}


@pytest.mark.parametrize("paper", PAPERS, ids=[paper.id for paper in PAPERS])
def test_the_default_run_can_decide_every_claim(paper):
    """Each cell that a claim compares has a data set, network, method, place, metric and annotation."""
    config = load({})
    files = [file for one in PAPERS if (file := one.folder / "rows.py").is_file()]
    rows = replace(as_configured(load_rows(files, config), config), networks=paper.networks)
    datasets = [name for name, row in rows.datasets.items() if row.derived or config["datasets"].get(name)]
    methods = list(dict.fromkeys(row for number in paper.tables for row in published(paper, number, rows)["method"]))
    compared = [c for claim in read_claims(paper.folder / "claims.yaml", methods, rows) for c in claim.comparisons]
    asked = {Cell(*cell) for comparison in compared for cell in comparison.cells()}
    models = list(configured_models(rows, config))
    lacking = {str(cell): what for cell in asked if (what := first_lacking(cell, rows, datasets, models))}
    assert not lacking and len(asked) > 20


def test_five_papers_print_1455_rows():
    assert [paper.id for paper in PAPERS] == ["abslrp", "ae", "c3lrp", "clam", "ucag"]
    rows = [published(paper, number) for paper, number in TABLES]
    assert sum(map(len, rows)) == 1455
    assert sum(table["value"].ne("").sum() for table in rows) == 1435
    assert all(not table.duplicated(["dataset", "model", "method", "metric", "variant"]).any() for table in rows)


@pytest.mark.parametrize(("paper", "number"), TABLES, ids=NAMES)
def test_every_row_survives_every_format(paper, number):
    """Each printed text is found as often in Markdown, LaTeX and HTML as the CSV has it."""
    printed = published(paper, number)
    filled = fill(printed, NO_SCORES.assign(**dict.fromkeys(FLAGS, True)), control_methods=paper.controls)
    rows = paper.tables[number]["rows"]
    layout = lay_out(filled, rows)
    shown = Counter(cell.text for _, line in layout.rows for cell in line[::2] if cell.text not in ("", "–"))
    wanted = Counter(
        re.sub(r"^0(?=\.)", "", value + (f" ± {std}" if std else ""))
        if digits == 4
        else value + (f" ± {std}" if std else "")
        for value, std, digits in zip(printed["value"], printed["std"], printed["digits"], strict=True)
        if value
    )
    assert shown == wanted
    assert len(layout.rows) - layout.controls <= len(printed)
    plain = re.sub(r"\*\*|</?u>", "", to_markdown(filled, "A table", rows))
    found = Counter(cell.strip() for line in plain.splitlines()[4:] for cell in re.split(r"(?<!\\)\|", line)[2:-1])
    assert all(found[text.replace("|", r"\|")] >= count for text, count in wanted.items())
    latex = re.sub(r"\\(?:textbf|underline)\{([^{}]*)\}", r"\1", to_latex(filled, "A table", rows))
    latex = re.sub(r"\\(?:textbf|underline)\{([^{}]*)\}", r"\1", latex)
    body = latex.split(r"\midrule")[1]
    found = Counter(
        cell.strip().removesuffix(r"\\").strip() for line in body.splitlines() for cell in line.split("&")[1:]
    )
    assert all(found[text] >= count for text, count in wanted.items())
    grid = repr(reading.grid(filled, rows)).replace("\N{MINUS SIGN}", "-")
    assert all(grid.count(repr(text)) >= count or text in grid for text, count in wanted.items())


def test_the_plan_makes_what_cells_ask_for_and_nothing_else():
    """With every ingredient at hand five papers ask for a fraction of the product of all that they name."""
    tables = pd.concat([published(paper, number) for paper, number in TABLES])
    shown = [cell for paper in PAPERS for cell in paper.measured]
    known = Rows()
    methods = {*known.methods, *tables["method"], *(cell.method for cell in shown)}
    datasets = {*known.datasets, *(cell.dataset for cell in shown)}
    directions = dict(zip(tables["metric"], tables["higher_is_better"] == "true", strict=True))
    directions = {cell.metric: True for cell in shown} | directions
    some = replace(known.datasets["imagenet"], reader="a:b", has=("boxes", "masks"))
    everything = {
        "datasets": {name: replace(some, id=name) for name in datasets},
        "models": {name: replace(row, maker="a:b") for name, row in known.models.items()},
        "methods": {name: replace(known.methods["constant"], id=name) for name in methods},
        "metrics": {
            name: Metric(name, name, "a:b", (Column(name, name, "", name, higher_is_better=higher),))
            for name, higher in directions.items()
        },
    }
    rows = Rows(**everything)
    plan = make_plan([replace(paper, controls=()) for paper in PAPERS], rows, list(rows.datasets), list(rows.models))
    told = set()
    for paper in PAPERS:
        # What is trained several times is asked for as often; a method may have networks of its own.
        own = replace(rows, networks=paper.networks)
        printed = [cell for number in paper.tables for cell in cells(published(paper, number))]
        asked = [c for c in (*printed, *paper.measured) if c.select or not c.variant]
        told |= {(c.dataset, name, c.method) for c in asked for name in own.trainings(c.model, c.method)}
    assert {(*pair, method) for pair, found in plan.methods.items() for method in found} == told
    product = tables["dataset"].nunique() * tables["model"].nunique() * tables["method"].nunique()
    assert len(told) < product / 4
    assert {cell.variant for cell in plan.missing} == set(tables.query("select == ''")["variant"]) - {""}


def test_the_plan_follows_the_run():
    places = (("imagenet", "resnet50"),)
    arms = {name: replace(row, places=places) for name, row in CLAM_ROWS.methods.items() if row.arm}
    rows = Rows(methods=CLAM_ROWS.methods | arms, wanted=((*places[0], "lrp_clam_untrained"),))
    plan = make_plan([CLAM], rows, ["imagenet"], ["resnet50"])
    assert plan.pairs == [("imagenet", "resnet50")]
    assert set(plan.scores) == {("imagenet", "resnet50", "pointing"), ("imagenet", "resnet50", "lerf")}
    assert "lrp_clam_untrained" in plan.scores["imagenet", "resnet50", "lerf"]
    assert set(CLAM.controls) < set(plan.methods["imagenet", "resnet50"])
    assert len(plan.missing) == plan.cells - 12 * (1 + 2 + 2)
    without = make_plan([CLAM], CLAM_ROWS, ["imagenet"], ["resnet50"])
    assert len(without.missing) == plan.cells - 9 * (1 + 2 + 2), "no trained layers, no cells of CLAM's"


def test_what_takes_artifacts_is_not_explained_anew():
    """Mosaics are other images than those that CLAM's layers were trained for; what is read off stored maps stays."""
    place = ("imagenet", "vgg16")
    arms = {name: replace(row, places=(place,)) for name, row in CLAM_ROWS.methods.items() if row.arm}
    rows = Rows(methods=CLAM_ROWS.methods | arms, wanted=((*place, "lrp_clam_untrained"),))
    plan = make_plan(
        [next(paper for paper in PAPERS if paper.id == "abslrp")], rows, ["imagenet"], ["vgg16"], guests=["lrp_clam"]
    )
    for metric in ("gae", "focus", "local_lipschitz"):
        assert not {"lrp_clam", "lrp_clam_untrained"} & set(plan.scores[*place, metric])
    assert {"lrp_clam", "lrp_clam_untrained"} < set(plan.scores[*place, "road"])
    lacking = first_lacking(Cell(*place, "lrp_clam", "gae_total"), rows, ["imagenet"], ["vgg16"])
    assert lacking == "maps of other images of lrp_clam"


@pytest.mark.parametrize(
    ("cell", "lacking"),
    [
        (Cell("voc2007", "vgg16", "lrp_epsilon", "mean_iou"), "data set voc2007 in the config"),
        (Cell("cub200_2011", "resnet50", "lrp_epsilon", "mean_iou"), "model resnet50 in the config"),
        (Cell("imagenet", "vgg16", "some_cam", "mean_iou"), "method some_cam"),
        (Cell("imagenet", "vgg16", "lrp_clam", "mean_iou"), "artifacts of lrp_clam"),
        (Cell("imagenet", "vgg16", "lrp_epsilon", "average_fall"), "metric average_fall"),
        (Cell("imagenet", "vgg16", "lrp_epsilon", "mean_iou"), "masks of imagenet"),
        (Cell("imagenet", "vgg16", "lrp_epsilon", "pointing_lower", "hard"), "variant hard"),
        (Cell("imagenet", "vgg16", "lrp_epsilon", "lerf_last_accuracy"), ""),
    ],
    ids=lambda value: str(value).replace("/", "-"),
)
def test_what_a_cell_lacks_is_named(cell, lacking):
    assert first_lacking(cell, CLAM_ROWS, ["cub200_2011", "imagenet"], ["vgg16"]) == lacking


@pytest.fixture
def small(tmp_path):
    """A paper of one table, to be broken."""
    rows = [
        ("small", "1", "imagenet", "vgg16", method, "iou", "", value, "", "true", "", "")
        for method, value in (("LRP", "0.5"), ("Grad", "0.6"))
    ]
    pd.DataFrame(rows, columns=COLUMNS).to_csv(tmp_path / "table1.csv", index=False)
    content = {
        "title": "A small paper",
        "short": "Small",
        "citation": "nobody",
        "methods": {"LRP": {"label": "LRP", "id": "lrp_epsilon"}, "Grad": {"label": "Grad", "id": "saliency"}},
        "metrics": {"iou": "mean_iou"},
        "tables": [{"number": 1, "caption": "IoU"}],
        "figures": [],
    }

    def write(**changes):
        given = {key: value for key, value in {**content, **changes}.items() if value is not None}
        (tmp_path / "paper.yaml").write_text(yaml.safe_dump(given))
        return tmp_path

    return write


def test_a_small_paper_reads(small):
    table = published(read_paper(small()), 1)
    assert table["method"].tolist() == ["lrp_epsilon", "saliency"]
    assert table["digits"].tolist() == [4, 4], "as the metric's row says"
    named = published(read_paper(small(metrics={"iou": {"id": "mean_iou", "digits": 2, "scale": 100}})), 1)
    assert named[["digits", "scale"]].drop_duplicates().to_numpy().tolist() == [[2, 100]], "as the paper prints"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"titel": "x"}, ["paper.yaml", "unknown key `titel`", "title"]),
        ({"metrics": None}, ["paper.yaml", "lacks the key `metrics`"]),
        ({"tables": [{"number": 2, "caption": "?"}]}, ["table 2", "table2.csv"]),
        ({"tables": [{"number": 1, "caption": "?", "colour": 1}]}, ["table 1", "`colour`"]),
        ({"methods": {"LRP": {"label": "LRP", "id": "lrp_epsilon"}}}, ["table1.csv, line 3", "'Grad'", "`methods`"]),
        ({"methods": {"LRP": "lrp_epsilon"}}, ["paper.yaml", "`methods.LRP`", "object"]),
        ({"tables": []}, ["paper.yaml", "`tables`"]),
        ({"tables": [{"number": 1, "caption": "?", "rows": ["colour"]}]}, ["`tables.0.rows.0`", "'colour'"]),
        ({"figures": [{"number": "1"}]}, ["`figures.0.number`", "'1'"]),
        ({"figures": [{"number": 1, "notebook": "none"}]}, ["figure 1", "'none'"]),
        ({"controls": "constant"}, ["`controls`"]),
        (
            {"methods": {name: {"label": name, "id": "saliency"} for name in ("LRP", "Grad")}},
            ["table1.csv", "saliency", "the cell of two rows"],
        ),
    ],
)
def test_broken_papers_name_the_fault(small, changes, words):
    folder = small(**changes)
    with pytest.raises(InputError) as caught:
        published(read_paper(folder), 1)
    assert all(word in str(caught.value) for word in words), str(caught.value)


def test_a_row_printed_twice_or_turned_round_is_refused(small):
    folder = small()
    table = pd.read_csv(folder / "table1.csv", dtype=str, keep_default_na=False)
    table.assign(method="LRP").to_csv(folder / "table1.csv", index=False)
    with pytest.raises(InputError, match="LRP, iou,  is printed twice"):
        published(read_paper(folder), 1)
    table.assign(higher_is_better="false").to_csv(folder / "table1.csv", index=False)
    with pytest.raises(InputError, match="line 2: higher_is_better is false, unlike in the row of mean_iou"):
        published(read_paper(folder), 1)


@pytest.mark.parametrize(
    ("column", "value", "words"),
    [
        ("value", "abc", "line 2: value is 'abc', not a number"),
        ("std", "wide", "line 2: std is 'wide', not a number"),
        ("emphasis", "bold+bolld", "line 2: emphasis 'bold.bolld' is none of ours"),
    ],
)
def test_a_cell_that_is_no_number_is_refused(small, column, value, words):
    folder = small()
    table = pd.read_csv(folder / "table1.csv", dtype=str, keep_default_na=False)
    table.loc[0, column] = value
    table.to_csv(folder / "table1.csv", index=False)
    with pytest.raises(InputError, match=words):
        published(read_paper(folder), 1)
    (folder / "table1.csv").write_text("")
    with pytest.raises(InputError, match=r"table1\.csv: not a table"):
        published(read_paper(folder), 1)


def test_guests_and_controls_are_known_and_go_where_they_can():
    places = (["imagenet"], ["vgg16"])
    plan = make_plan([CLAM], CLAM_ROWS, *places, guests=["clrp", "lrp_clam"])
    assert "clrp" in plan.methods["imagenet", "vgg16"]
    assert "lrp_clam" not in plan.methods["imagenet", "vgg16"], "it has no trained layers there"
    with pytest.raises(InputError, match="method rndom is no row's"):
        make_plan([replace(CLAM, controls=("rndom",))], CLAM_ROWS, *places)
    labels = fill(published(CLAM, 1, CLAM_ROWS), NO_SCORES, guests=["clrp", "rap"])
    assert {"CLRP", "CLRP (clrp)", "RAP"} <= set(labels["label"]), "two rows never have one name"


def test_rows_are_as_the_config_has_them():
    config = {"datasets": {"imagenet": {"format": "folder"}, "cub200_2011": None}}
    found = as_configured(Rows(), config)
    assert found.datasets["imagenet"].has == () and found.datasets["cub200_2011"] == Rows().datasets["cub200_2011"]
    for form in ("foo", "imagenet21k"):
        with pytest.raises(InputError, match=rf"`datasets\.imagenet\.format` is `{form}`; choose one of"):
            as_configured(Rows(), {"datasets": {"imagenet": {"format": form}}})


def test_metrics_that_collide_are_refused():
    again = replace(METRICS["segmentation"], id="again")
    with pytest.raises(InputError, match="segmentation and again both give mean_iou"):
        columns(METRICS | {"again": again})
    other = replace(again, columns=(replace(again.columns[0], id="other_iou"),))
    with pytest.raises(InputError, match="segmentation and again both name rows iou"):
        columns(METRICS | {"again": other})


def test_a_spread_is_shown_where_the_table_prints_one(small):
    folder = small(metrics={"iou": {"id": "mean_iou", "digits": 3, "spread": "pairs"}})
    table = pd.read_csv(folder / "table1.csv", dtype=str, keep_default_na=False)
    table.assign(std=["0.1", ""]).to_csv(folder / "table1.csv", index=False)
    rows = pd.DataFrame(
        {
            "image_id": list("abcd"),
            "target": 0,
            "method": "lrp_epsilon",
            "metric": "iou",
            "level": np.nan,
            "value": [0, 0, 1, 1],
        }
    )
    filled = fill(published(read_paper(folder), 1), image_scores(rows, "imagenet", "vgg16"))
    assert [cell.text for cell in lay_out(filled).rows[0][1]] == ["0.5 ± 0.1", "0.500 ± 0.500"]
    assert lay_out(filled).rows[1][1][1].text == "", "nothing scored, nothing shown"
