"""The report's page: self-contained, complete, escaped, and plain about what is absent."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image
from relmap.catalogue.entries import label
from relmap.data.manifest import read_manifest
from relmap.errors import InputError
from relmap.report import reading, write_report
from relmap.report.page import duration
from synthetic_results import make_dataset, make_records, make_tables

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
    make_records(results)
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


def _write(results: Path) -> _Outline:
    write_report(results, results / "index.html")
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
    write_report(results, out)
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
    frame.to_csv(path, index=False)
    assert "262 of 264 table cells filled" in _write(results).text


def test_run_is_described(results: Path) -> None:
    text = _write(results).text
    fingerprint = read_manifest(results / "manifests" / "imagenet.parquet").info.fingerprint
    for piece in (
        fingerprint,
        "beef",
        "c0ffee",
        "2.13.0",
        "x86_64",
        "VGG-16 at 0.125 of its width",
        "1 min 22 s",
        "512 MB",
    ):
        assert piece in text
    assert "cannot be compared with the published ones" in text
    assert "run “synthetic”" in text


def test_full_run_has_no_note_on_rendered_data(results: Path) -> None:
    (results / "config.yaml").write_text(
        "run: paper\ndatasets: {imagenet: {source: local}}\nmodels: {vgg16: {width: 1.0}}\n"
    )
    assert "What this run is" not in _write(results).text


def test_figures_have_words_and_sizes(results: Path) -> None:
    outline = _write(results)
    assert "2 of 16 figures drawn" in outline.text
    assert "Caption 17 & more" in outline.text
    assert "By gain." in outline.text
    assert outline.text.count("PDF for print") == 1
    assert "This run has no Figure 5 ( figures/clam_figure05.png is absent)." in outline.text
    first = outline.images[0]
    assert (first["width"], first["height"], first["loading"]) == ("30", "20", "lazy")
    assert first["alt"].startswith("Figure 3. Caption 3")


def test_text_is_escaped(results: Path) -> None:
    outline = _write(results)
    assert "on VGG-16 <all data>" in outline.text
    assert "&lt;all data&gt;" in (results / "index.html").read_text()


def test_verdicts_are_counted(results: Path) -> None:
    assert "1 / 1 / 1 claims hold / fail / undecided" in _write(results).text


def test_what_is_absent_is_said(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    text = _write(empty).text
    assert "0 of 0 table cells filled" in text
    for file in ("provenance.json", "config.yaml", "tables/clam_table3.csv", "clam_claims.csv", "clam_ablation.csv"):
        assert f"{file} is absent" in text
    assert "figures/training_curves.png is absent" in text
    assert text.count("is absent") == 16 + 4 + 12 + 3


def test_same_bytes_for_the_same_run(results: Path) -> None:
    write_report(results, results / "index.html")
    first = (results / "index.html").read_bytes()
    write_report(results, results / "index.html")
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
        write_report(results, results / "index.html")
    assert not (results / "index.html").exists()


def test_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="nowhere"):
        write_report(tmp_path / "nowhere", tmp_path / "index.html")


def as_filled(frame: pd.DataFrame) -> pd.DataFrame:
    """A small table with the columns of a filled one, as text."""
    words = {"paper": "clam", "table": "4", "metric": "mean_iou", "head": "", "variant": "", "variant_label": ""}
    words |= {"std": "", "emphasis": "", "note": "", "role": "published", "digits": "4", "scale": "1"}
    limits = {"ci_low": "0", "ci_high": "1", "higher_is_better": "true"}
    return frame.assign(label=[label(method) for method in frame["method"]], **words, **limits)


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
    laid = reading.grid(as_filled(frame), ["method"])
    assert [head[:2] for head in laid.heads] == [("CUB-200-2011", "VGG-16"), ("ImageNet", "VGG-16")]
    assert laid.ranks == ["+1.00", "\N{MINUS SIGN}0.50"]
    assert laid.rows[1][0] == "LRP+CLAM"
    assert [cell["improved"] for cell in laid.rows[1][1]] == [False, True]


def test_rank_of_equal_values_is_undefined() -> None:
    frame = pd.DataFrame(
        {
            "method": ["lrp_alpha1_beta0_norms", "clrp_norms", "sglrp_norms"],
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
    assert reading.cell(text, column) == reading.Cell(shown, key)


@pytest.mark.parametrize(("seconds", "words"), [(0.04, "0.0 s"), (61.2, "1 min 01 s"), (7384, "2 h 03 min")])
def test_durations(seconds: float, words: str) -> None:
    assert duration(seconds) == words
