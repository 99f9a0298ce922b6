"""absLRP's notebooks of maps: stored clean, free of torch, and drawing every figure from a results folder."""

import json
from pathlib import Path

import nbformat
import pytest
from abslrp_results import make_abslrp_results
from relmap.catalogue.papers import read_paper

ROOT = Path(__file__).resolve().parents[1]
FIGURES = {"maps": [5, 6, 10, 12, 13, 15], "gae": [2, 3, 4, 11, 14], "classes": [7, 8, 16]}
names = pytest.mark.parametrize("name", FIGURES)


def _code(name: str) -> list[nbformat.NotebookNode]:
    notebook = nbformat.read(ROOT / "notebooks" / "abslrp" / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def _run(name: str, results: Path) -> None:
    space: dict = {}
    for cell in _code(name):
        exec(compile(cell.source, name, "exec"), space)
        if "parameters" in cell.metadata.get("tags", []):
            space |= {"results": str(results), **({"count": 4} if name == "maps" else {})}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_abslrp_results(tmp_path_factory.mktemp("abslrp"))


@names
def test_the_paper_says_what_each_draws(name: str) -> None:
    paper = read_paper(ROOT / "papers" / "abslrp")
    assert [figure["number"] for figure in paper.figures if figure.get("notebook") == name] == sorted(FIGURES[name])
    assert all(figure["pairs"] for figure in paper.figures if figure.get("notebook") == name)


@names
def test_cells_draw_their_figures(name: str, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Coarse pictures are as good here, and sooner drawn.
    monkeypatch.setattr("relmap.figures.page.PNG_DPI", 50)
    monkeypatch.setattr("relmap.figures.style.PNG_DPI", 50)
    _run(name, results)
    for number in FIGURES[name]:
        stem = results / "figures" / f"abslrp_figure{number:02}"
        assert stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert stem.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        words = json.loads(stem.with_suffix(".json").read_text())
        assert words["caption"] and words["selection"] and words["rows"]


@names
def test_a_run_without_the_networks_draws_none(name: str, tmp_path: Path) -> None:
    (tmp_path / "tables").mkdir()
    (tmp_path / "tables/abslrp_classes.csv").write_text("model,method,share,ci_low,ci_high,n_images,known\n")
    _run(name, tmp_path)
    assert not list(tmp_path.glob("figures/*"))
