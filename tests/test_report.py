"""The report's page: self-contained, complete, escaped, and plain about what is absent."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from relmap.catalogue.datasets import DATASETS
from relmap.catalogue.models import MODELS
from relmap.catalogue.papers import Paper, published, read_paper, read_papers
from relmap.catalogue.rows import Rows, load_rows
from relmap.data.manifest import read_manifest
from relmap.errors import InputError
from relmap.job.config import dump, load
from relmap.report import engine, reading, write_report
from relmap.report.page import duration, numbers
from synthetic_results import make_dataset, make_records, make_tables

ROOT = Path(__file__).parents[1]
CLAM = read_paper(ROOT / "papers" / "clam")
ROWS = load_rows([CLAM.folder / "rows.py"])
VOID = {"meta", "br", "img", "link", "input", "hr"}


class _Outline(HTMLParser):
    """Links, ids, text and whether every tag is closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.ids: list[str] = []
        self.words: list[str] = []
        self.images: list[dict] = []
        self._open: list[str] = []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list) -> None:
        values = dict(attrs)
        self.links += [values[name] for name in ("href", "src") if name in values]
        self.ids += [values["id"]] if "id" in values else []
        if tag == "img":
            self.images.append(values)
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] not in ("script", "style"):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    results = tmp_path_factory.mktemp("report") / "synthetic"
    make_tables(results, seed=0)
    for path in (results / "tables").glob("clam_table*.csv"):
        frame = pd.read_csv(path, dtype=str, keep_default_na=False)
        frame.assign(reproduced_std="0.1").to_csv(path, index=False)
    make_records(results)
    narrow = {"vgg16": {"width": 0.125}, "resnet50": {"width": 0.125}}
    (results / "config.yaml").write_text(dump(load({"run": "synthetic", "models": narrow})))
    for notebook in ("clam/curves", "engine/gallery", "clam/.ipynb_checkpoints/curves-checkpoint"):
        (results / "notebooks" / f"{notebook}.ipynb").parent.mkdir(parents=True, exist_ok=True)
        (results / "notebooks" / f"{notebook}.ipynb").touch()
    (results / "figures").mkdir()
    for number in (3, 17):
        name = results / "figures" / f"clam_figure{number:02}"
        Image.new("RGB", (30, 20)).save(name.with_suffix(".png"))
        words = {"caption": f"Caption {number} & more", "selection": "By gain.", "rows": [{"gain": -0.5, "image": "a"}]}
        name.with_suffix(".json").write_text(json.dumps(words))
    (results / "figures" / "clam_figure03.pdf").touch()
    make_dataset(results, "imagenet", 3, seed=0)
    (results / "models" / "imagenet").mkdir(parents=True)
    card = {"architecture": "vgg16", "sha256": "beef", "width": 0.125, "input_size": 64}
    (results / "models" / "imagenet" / "vgg16.json").write_text(json.dumps(card))
    return results


@pytest.fixture
def results(made: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(made, tmp_path / "synthetic"))


def _write(results: Path, papers: Sequence[Paper] = (CLAM,), rows: Rows | None = None) -> _Outline:
    write_report(results, results / "index.html", papers, rows)
    return _Outline((results / "index.html").read_text(encoding="utf-8"))


def test_nothing_comes_from_outside(results: Path) -> None:
    outline = _write(results)
    for link in outline.links:
        assert not re.match(r"[a-z]+:|/", link), link
        if link.startswith("#"):
            assert link[1:] in outline.ids
        else:
            assert (results / link).exists(), link
    html = (results / "index.html").read_text()
    assert "http://" not in html
    assert "https://" not in html
    assert "@import" not in html
    assert len(outline.ids) == len(set(outline.ids))


def test_links_follow_the_page(results: Path) -> None:
    out = results.parent / "elsewhere" / "page.html"
    write_report(results, out, [CLAM])
    images = _Outline(out.read_text()).images
    assert images
    assert all((out.parent / image["src"]).is_file() for image in images)


def test_every_cell_is_there(results: Path) -> None:
    outline = _write(results)
    assert "264 of 264 table cells filled" in outline.text
    for number in (1, 2, 3, 4):
        frame = pd.read_csv(results / "tables" / f"clam_table{number}.csv")
        for value in frame["reproduced"]:
            assert f"{value:.4f}".lstrip("0") in outline.words


def test_empty_cells_are_counted(results: Path) -> None:
    path = results / "tables" / "clam_table4.csv"
    frame = pd.read_csv(path, dtype=str, keep_default_na=False)
    frame.loc[:1, "reproduced"] = ""
    frame.loc[:1, "missing"] = ["metric mean_iou", "method gradient"]
    frame.to_csv(path, index=False)
    text = _write(results).text
    assert "262 of 264 table cells filled" in text
    assert "by what they lack: metric mean_iou (1), method gradient (1)." in text


def test_run_is_described(results: Path) -> None:
    text = _write(results).text
    fingerprint = read_manifest(results / "manifests" / "imagenet.parquet").info.fingerprint
    for piece in (
        fingerprint[:16],
        "beef",
        "c0ffee",
        "2.13.0",
        "x86_64",
        "VGG-16 at 0.125 of the published width",
        "1 min 22 s",
        "512 MB",
    ):
        assert piece in text
    assert "cannot be compared with the published ones" in text
    assert "run “synthetic”" in text


def test_a_data_set_that_is_not_the_published_one_is_said_to_be_another(results: Path) -> None:
    assert "is not the published data set" not in _write(results).text
    said = ["pairs: 7630 where the published data set has 7632", "images: 4951 where the published data set has 4952"]
    (results / "manifests" / "imagenet.json").write_text(json.dumps({"differences": said}))
    assert f"ImageNet is not the published data set: {said[0]}; {said[1]}." in _write(results).text


def test_full_run_has_no_note_on_rendered_data(results: Path) -> None:
    config = {"run": "paper", "datasets": {"imagenet": {"source": "local"}, "cub200_2011": None}}
    config["models"] = {"vgg16": {"width": 1.0}, "resnet50": None}
    (results / "config.yaml").write_text(dump(load(config)))
    assert "What this run is" not in _write(results).text


def test_figures_have_words_and_sizes(results: Path) -> None:
    outline = _write(results)
    assert "2 of 16 figures drawn" in outline.text
    assert "Caption 17 & more" in outline.text
    assert "By gain." in outline.text
    assert outline.text.count("PDF for print") == 1
    assert "This run has no Figures 4 to 16 and 18 ( figures/clam_figure<number>.png is absent)." in outline.text
    assert "Figures 1 and 2 are schematic." in outline.text
    first = outline.images[0]
    assert (first["width"], first["height"], first["loading"]) == ("30", "20", "lazy")
    assert first["alt"].startswith("Figure 3. Caption 3")


def test_text_is_escaped(results: Path) -> None:
    outline = _write(results)
    assert "on VGG-16 <all data>" in outline.text
    assert "&lt;all data&gt;" in (results / "index.html").read_text()


def test_verdicts_are_counted(results: Path) -> None:
    assert "1 / 1 / 1 claims hold / fail / undecided" in _write(results).text


def test_a_claim_without_data_neither_holds_nor_fails(results: Path) -> None:
    path = results / "tables" / "clam_claims.csv"
    frame = pd.read_csv(path)
    frame.loc[0, "verdict"] = "no data"
    frame.to_csv(path, index=False)
    outline = _write(results)
    assert "0 / 1 / 1 / 1 claims hold / fail / undecided / without data" in outline.text
    assert '<span class="verdict nodata">– no data</span>' in (results / "index.html").read_text()


def test_comparisons_by_name_are_folded(results: Path) -> None:
    path = results / "tables" / "clam_claims.csv"
    frame = pd.read_csv(path)
    frame.loc[0, "evidence"] = (
        "0 of 2 comparisons hold, 2 are reversed; differences -.1 to -.2; reversed: A, B; open: C"
    )
    frame.to_csv(path, index=False)
    _write(results)
    text = (results / "index.html").read_text()
    folded = "<details><summary>Which</summary>reversed: A, B; open: C</details></td>"
    minus = "\N{MINUS SIGN}"
    assert f"<td>0 of 2 comparisons hold, 2 are reversed; differences {minus}.1 to {minus}.2{folded}" in text
    assert text.count("<summary>Which</summary>") == 1, "what has no names has nothing to fold"


def test_every_paper_has_a_line_and_those_of_the_run_a_section(results: Path) -> None:
    outline = _write(results)
    heads = [name for name in outline.ids if name in ("papers", "run", "paper-clam", "engine")]
    assert heads == ["papers", "paper-clam", "engine", "run"], "what was found comes before what was run"
    assert "CLAM 264 264 264 2 of 16 2 of 3" in outline.text
    for paper in read_papers(ROOT / "papers"):
        assert paper.short in outline.words
        assert (f"paper-{paper.id}" in outline.ids) == (paper.id == "clam")


def test_a_run_of_all_papers_or_of_none(results: Path) -> None:
    outline = _write(results, read_papers(ROOT / "papers"))
    assert {"paper-ae", "paper-abslrp", "paper-ucag", "paper-c3lrp", "clam-table-1"} <= set(outline.ids)
    assert len(outline.ids) == len(set(outline.ids))
    assert "This run has no Table 3 ( tables/ae_table3.csv is absent)." in outline.text
    assert "asked for no paper" in _write(results, ()).text


def test_extra_tables_come_with_the_papers_words(results: Path) -> None:
    text = _write(results).text
    for entry in CLAM.extra:
        assert entry["caption"] in text
        assert " ".join(entry["text"].split()) in text
    assert "−.0120" in text, "what the control's table says"
    assert "This run has no such table ( tables/clam_ablation.csv is absent)." in text


def test_an_extra_table_needs_a_caption(results: Path) -> None:
    with pytest.raises(InputError, match=r"clam.paper\.yaml: an entry of `extra` lacks `caption`"):
        _write(results, [replace(CLAM, extra=({"name": "controls"},))])


def test_notebooks_stand_with_their_paper(results: Path) -> None:
    outline = _write(results)
    assert "Notebooks as executed: clam/curves.ipynb ." in outline.text
    assert "Notebooks as executed: engine/gallery.ipynb ." in outline.text
    assert outline.text.index("clam/curves.ipynb") < outline.text.index("Every method") < outline.text.index("engine/g")


def test_data_sets_are_counted_by_their_manifest(results: Path) -> None:
    (results / "data" / "imagenet.json").write_text('{"dataset": "imagenet", "source": "render", "seconds": 1.5}')
    assert "ImageNet render 6 3 1.5" in _write(results).text


def test_names_of_ones_own_rows(results: Path, tmp_path: Path) -> None:
    """A user's extension is shown by its labels, in the tables of a paper's own rules and of the engine too."""
    own = tmp_path / "own.py"
    own.write_text(
        "from relmap.catalogue.datasets import DataSet\n"
        "from relmap.catalogue.methods import Method\n"
        "from relmap.catalogue.models import Model\n"
        "METHODS = [Method('mine', 'My method', 'I', len)]\n"
        "DATASETS = [DataSet('pets', 'Pets at home', 'I')]\n"
        "MODELS = [Model('tiny', 'TinyNet', 'I')]\n"
    )
    for name in ("clam_controls", "accuracies"):
        frame = pd.read_csv(results / "tables" / f"{name}.csv", dtype=str, keep_default_na=False)
        frame = frame.assign(dataset="pets", model="tiny", **({"method": "mine"} if "method" in frame else {}))
        frame.to_csv(results / "tables" / f"{name}.csv", index=False)
    leak = {"dataset": "pets", "model": "tiny", "method": "mine", "kind": "conv"}
    pd.DataFrame([{**leak, "leak_of_start": 0.5, "gross_of_start": 0.5}]).to_csv(
        results / "tables" / "conservation_summary.csv", index=False
    )
    Image.new("RGB", (3, 2)).save(results / "figures" / "gallery_pets_tiny.png")
    Image.new("RGB", (3, 2)).save(results / "figures" / "gallery_imagenet_vgg16.png")
    rows = load_rows([own])
    outline = _write(results, rows=rows)
    assert {"My method", "Pets at home", "TinyNet"} <= set(outline.words)
    assert not {"mine", "pets", "tiny"} & set(outline.words)
    galleries = [figure["name"] for figure in engine.galleries(results / "figures", rows)]
    assert galleries == ["gallery_imagenet_vgg16", "gallery_pets_tiny"]


def test_the_report_knows_no_paper_data_set_or_model() -> None:
    names = [name for paper in read_papers(ROOT / "papers") for name in (paper.id, paper.short)]
    names += [name for row in (*DATASETS.values(), *MODELS.values()) for name in (row.id, row.label)]
    pattern = re.compile(rf"(?<![a-z])(?:{'|'.join(map(re.escape, names))})(?![a-z])", re.IGNORECASE)
    for path in (ROOT / "workflow" / "relmap" / "report").glob("*.*"):
        assert not pattern.findall(path.read_text()), path


def test_what_is_absent_is_said(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    text = _write(empty).text
    assert "0 of 0 table cells filled" in text
    for file in ("provenance.json", "config.yaml", "tables/clam_table3.csv", "clam_claims.csv", "clam_ablation.csv"):
        assert f"{file} is absent" in text
    assert "figures/training_curves.png is absent" in text
    for file in ("figures/leaderboard_ranks.png", "tables/leaderboard_ranks.csv", "tables/metric_trust.csv"):
        assert f"{file} is absent" in text
    tables, claims, extra, figures, leaderboard = 4, 1, len(CLAM.extra), 1, 4
    assert text.count("is absent") == tables + claims + extra + figures + leaderboard + 11


def test_same_bytes_for_the_same_run(results: Path) -> None:
    _write(results)
    first = (results / "index.html").read_bytes()
    _write(results)
    assert (results / "index.html").read_bytes() == first


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("provenance.json", "{"),
        ("config.yaml", "a: [1"),
        ("tables/clam_table1.csv", "paper,table\nclam,1\n"),
        ("tables/clam_claims.csv", ""),
        ("manifests/imagenet.parquet", "PAR1"),
    ],
)
def test_broken_file_is_named_and_no_page_is_written(results: Path, file: str, content: str) -> None:
    (results / file).write_text(content)
    with pytest.raises(InputError, match=re.escape(file)):
        _write(results)
    assert not (results / "index.html").exists()


def test_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        write_report(tmp_path / "nowhere", tmp_path / "index.html")


def as_filled(frame: pd.DataFrame) -> pd.DataFrame:
    """A small table with the columns of a filled one, as text."""
    words = {"paper": "clam", "table": "4", "metric": "mean_iou", "head": "", "variant": "", "variant_label": ""}
    words |= {"std": "", "emphasis": "", "note": "", "role": "published", "digits": "4", "scale": "1"}
    limits = {"ci_low": "0", "ci_high": "1", "higher_is_better": "true", "spread": "", "reproduced_std": "0.1"}
    names = {"label": frame["method"].map(ROWS.label)}
    names["wraps"] = [ROWS.methods[method].wraps or "" for method in frame["method"]]
    names |= {f"{kind}_label": frame[kind].map(ROWS.label) for kind in ("dataset", "model")}
    return frame.assign(**(words | limits | names))


def test_grid_is_in_the_papers_order_with_ranks() -> None:
    rows = [
        ("imagenet", "vgg16", "lrp_alpha1_beta0_norms", "0.1", "0.5"),
        ("imagenet", "vgg16", "lrp_clam", "0.2", "0.6"),
        ("imagenet", "vgg16", "grad_cam", "0.3", "0.4"),
        ("cub200_2011", "vgg16", "lrp_alpha1_beta0_norms", "0.3", "0.4"),
        ("cub200_2011", "vgg16", "lrp_clam", "0.2", "0.3"),
        ("cub200_2011", "vgg16", "grad_cam", "0.1", "0.2"),
    ]
    frame = pd.DataFrame(rows, columns=["dataset", "model", "method", "value", "reproduced"])
    gains = as_filled(frame).assign(gain_p=["", "0.01", "", "", "0.3", ""])
    laid = reading.grid(gains, ["method"])
    assert [head[:2] for head in laid.heads] == [("ImageNet", "VGG-16"), ("CUB-200-2011", "VGG-16")]
    assert laid.ranks == ["\N{MINUS SIGN}0.50", "+1.00"]
    assert laid.rows[1][0] == "LRP+CLAM"
    assert [cell["improved"] for cell in laid.rows[1][1]] == [True, False]


def test_grid_shows_our_spread_where_the_table_prints_one() -> None:
    rows = [("clrp", "0.1", "0.5"), ("sglrp", "0.2", "0.6"), ("grad_cam", "0.3", "0.7")]
    frame = pd.DataFrame(rows, columns=["method", "value", "reproduced"]).assign(dataset="imagenet", model="vgg16")
    laid = reading.grid(as_filled(frame).assign(spread="pairs", std="0.01", digits="3"), ["method"])
    assert laid.rows[0][1] == [
        {"published": "0.1 ± 0.01", "ours": "0.500 ± 0.100", "interval": "[0.00, 1.00]", "improved": False}
    ]
    assert laid.ranks == ["+1.00"]


def test_rank_of_equal_values_is_undefined() -> None:
    frame = pd.DataFrame(
        {
            "method": ["lrp_alpha1_beta0_norms", "clrp_two_passes_norms", "sglrp_two_passes_norms"],
            "value": ["0.1", "0.2", "0.3"],
            "reproduced": "0.5",
        }
    )
    assert reading.grid(as_filled(frame.assign(dataset="imagenet", model="vgg16")), ["method"]).ranks == [None]


@pytest.mark.parametrize(
    ("text", "column", "shown", "key"),
    [
        ("0.5", "reproduced", ".5000", 0.5),
        ("-0.25", "minus_base", "\N{MINUS SIGN}.2500", -0.25),
        ("0.25", "difference", "+.2500", 0.25),
        ("300", "n_images", "300", 300.0),
        ("nan", "p_base", "", ""),
        ("lrp_clam", "method", "LRP+CLAM", "lrp+clam"),
        ("", "note", "", ""),
        (".5 to .6", "interval", ".5 to .6", 0.5),
    ],
)
def test_cells_read_well_and_sort_by_value(text: str, column: str, shown: str, key: float | str) -> None:
    assert reading.cell(text, column, ROWS.label) == reading.Cell(shown, key)


@pytest.mark.parametrize(("seconds", "words"), [(0.04, "0.0 s"), (61.2, "1 min 01 s"), (7384, "2 h 03 min")])
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words


@pytest.mark.parametrize(
    ("found", "words"),
    [([1], "Figure 1"), ([2, 1], "Figures 1 and 2"), ([1, 3, 4, 5, 6, 9], "Figures 1, 3 to 6 and 9")],
)
def test_numbers_in_words(found: list[int], words: str) -> None:
    assert numbers(found, "Figure") == words


def test_trainings_are_said_and_their_spread_is_shown() -> None:
    """As text, as a run's files have it; a table of single networks says nothing of them."""
    frame = published(read_paper(Path(__file__).parents[1] / "papers" / "c3lrp"), 2).astype(str)
    ours = {"reproduced": "0.250000", "reproduced_std": "0.017000", "ci_low": "0.2", "ci_high": "0.3", "n_images": "9"}
    frame = frame.assign(role="published", missing="", **ours)
    assert reading.note(frame) == "Ours over 9 images." and "trainings" not in reading.filled_table(frame)
    several = frame.assign(n_trainings="5")
    assert reading.note(several).startswith(
        "Ours over 9 images. Ours: mean ± standard deviation (n - 1) over 5 trainings"
    )
    long = reading.filled_table(several)
    assert long["trainings"].tolist() == ["5"] * 9 and long["spread"].tolist() == ["0.017000"] * 9
    shown = reading.grid(several, ["method", "variant"])
    assert shown.rows[0][1][0]["ours"] == "0.250 ± 0.017" and shown.rows[0][1][0]["published"] == "0.250 ± 0.017"
