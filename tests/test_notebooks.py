"""Notebooks: stored clean, free of torch, and drawing every figure from a results folder."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from synthetic_results import make_results

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks"
FIGURES = {
    "clam_comparison": [3, 7, 8, 9, 10, 11, 12, 13],
    "clam_curves": [5, 6],
    "clam_layers": [4, 14, 15, 16, 17, 18],
}
# Of every paper and of the engine; a folder of the notebooks, and a name in it.
names = pytest.mark.parametrize(
    "name", sorted("_".join(path.relative_to(NOTEBOOKS).with_suffix("").parts) for path in NOTEBOOKS.glob("*/*.ipynb"))
)


def _read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name.replace('_', '/', 1)}.ipynb", as_version=4)


def _code(name: str) -> list[nbformat.NotebookNode]:
    return [cell for cell in _read(name).cells if cell.cell_type == "code"]


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_results(tmp_path_factory.mktemp("notebooks") / "synthetic", images=6)


@names
def test_stored_without_outputs_and_with_what_papermill_needs(name: str) -> None:
    notebook = _read(name)
    nbformat.validate(notebook)
    assert all(not cell.outputs and cell.execution_count is None for cell in _code(name))
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.language_info.name == "python"


@names
def test_parameters_have_defaults_and_words(name: str) -> None:
    tagged = [cell for cell in _code(name) if "parameters" in cell.metadata.get("tags", [])]
    assert len(tagged) == 1
    assert 'results = "results/demo"' in tagged[0].source
    assert all(isinstance(node, ast.Assign) for node in ast.parse(tagged[0].source).body)


@names
def test_no_torch_and_no_absolute_path(name: str) -> None:
    for cell in _code(name):
        imported = {
            module.split(".")[0]
            for node in ast.walk(ast.parse(cell.source))
            for module in (
                [alias.name for alias in node.names]
                if isinstance(node, ast.Import)
                else [node.module]
                if isinstance(node, ast.ImportFrom)
                else []
            )
        }
        assert not imported & {"torch", "torchvision"}
        assert not re.search(r"""["'](/|~)""", cell.source)


def test_every_figure_but_the_schematic_ones_is_drawn_once() -> None:
    assert sorted(number for drawn in FIGURES.values() for number in drawn) == list(range(3, 19))


def _check(results: Path, name: str) -> None:
    for number in FIGURES[name]:
        stem = results / "figures" / f"clam_figure{number:02}"
        assert stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert stem.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        words = json.loads(stem.with_suffix(".json").read_text())
        assert words["caption"]
        assert words["selection"]


@pytest.mark.parametrize(
    ("name", "settings"), [("clam_comparison", {"count": 1}), ("clam_layers", {"related": 2, "layers_shown": 2})]
)
def test_cells_draw_their_figures(
    name: str, settings: dict, results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    # Coarse pictures are as good here, and sooner drawn.
    monkeypatch.setattr("relmap.figures.page.PNG_DPI", 60)
    monkeypatch.setattr("relmap.figures.style.PNG_DPI", 60)
    # In this process: starting a kernel takes longer than drawing. The next test starts one.
    space: dict = {}
    for cell in _code(name):
        exec(compile(cell.source, name, "exec"), space)
        if "parameters" in cell.metadata.get("tags", []):
            space |= {"results": str(results), **settings}
    _check(results, name)
    rows = {
        number: json.loads((results / "figures" / f"clam_figure{number:02}.json").read_text())["rows"]
        for number in FIGURES[name]
    }
    if name == "clam_comparison":
        assert len(rows[3]) == 8
        assert [len(rows[number]) for number in range(7, 14)] == [1] * 7
        assert rows[7][0]["gain"] > rows[8][0]["gain"]
    else:
        assert len({row[0]["image"] for row in rows.values()}) == 6


def test_papermill_runs_a_notebook(results: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "papermill", NOTEBOOKS / "clam/curves.ipynb", tmp_path / "out.ipynb"]
    options = ["-k", "python3", "-p", "results", results, "-p", "draws", "50", "--no-progress-bar"]
    run = subprocess.run([*map(str, command), *map(str, options)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr
    _check(results, "clam_curves")
    executed = nbformat.read(tmp_path / "out.ipynb", as_version=4)
    assert any(output.output_type == "display_data" for cell in executed.cells for output in cell.get("outputs", []))
