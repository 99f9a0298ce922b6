"""AE's notebooks: stored clean, free of torch, and drawing every figure from a results folder."""

import json
from pathlib import Path

import nbformat
import pytest
from ae_results import make_ae_results

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks" / "ae"
FIGURES = {"maps": [1, 4, 5], "examples": [3, 6, 11], "curves": [7, 8, 10], "grids": [9]}
names = pytest.mark.parametrize("name", FIGURES)


def _code(name: str) -> list[nbformat.NotebookNode]:
    notebook = nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)
    nbformat.validate(notebook)
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_ae_results(tmp_path_factory.mktemp("ae"))


def test_every_figure_but_the_schematic_one_is_drawn_once() -> None:
    drawn = sorted(number for numbers in FIGURES.values() for number in numbers)
    assert drawn == [1, *range(3, 12)]


@names
def test_cells_draw_their_figures(name: str, results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Coarse pictures are as good here, and sooner drawn.
    monkeypatch.setattr("relmap.figures.page.PNG_DPI", 50)
    monkeypatch.setattr("relmap.figures.style.PNG_DPI", 50)
    space: dict = {}
    for cell in _code(name):
        exec(compile(cell.source, name, "exec"), space)
        if "parameters" in cell.metadata.get("tags", []):
            space |= {"results": str(results), **({"draws": 50} if name == "curves" else {})}
    for number in FIGURES[name]:
        stem = results / "figures" / f"ae_figure{number:02}"
        assert stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert stem.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        words = json.loads(stem.with_suffix(".json").read_text())
        assert words["caption"] and words["selection"]
