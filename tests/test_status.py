"""How far a run takes each paper: counted from the papers' cells and from what lies in the run's folder."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from relmap.catalogue.papers import COLUMNS, read_paper, read_papers
from relmap.errors import InputError
from relmap.evidence.status import HEADS, PAPERS, Status, as_text, main, papers_of, run_config, status_of
from relmap.job.config import dump, load

PAPER = """
title: Toy
short: Toy
citation: Nobody
methods:
  lrp: {label: LRP, id: lrp_epsilon}
  best: {label: Best, id: nobody_has_it}
  other: {label: Other, id: nor_this}
metrics: {pointing: pointing_energy_mean}
tables: [{number: 1, caption: Some}]
figures: [{number: 1, schematic: true}, {number: 2}, {number: 3}]
"""
CELLS = (  # data set, model, method, value
    ("imagenet", "vgg16", "lrp", "0.5"),
    ("imagenet", "vgg16", "best", "0.6"),
    ("imagenet", "resnet50", "best", "0.7"),
    ("imagenet", "resnet50", "other", "0.7"),
    ("imagenet", "resnet50", "lrp", ""),
    ("cub200_2011", "vgg16", "lrp", "0.4"),
)


@pytest.fixture
def papers(tmp_path: Path) -> Path:
    """A folder of one paper with five printed cells and a dash, two figures, two claims."""
    folder = tmp_path / "papers" / "toy"
    folder.mkdir(parents=True)
    (folder / "paper.yaml").write_text(PAPER)
    (folder / "claims.yaml").write_text("[{id: a}, {id: b}]")
    rows = [dict(zip(("dataset", "model", "method", "value"), cell, strict=True)) for cell in CELLS]
    frame = pd.DataFrame(rows).assign(paper="toy", table=1, metric="pointing", higher_is_better="true")
    frame.reindex(columns=COLUMNS, fill_value="").to_csv(folder / "table1.csv", index=False)
    return folder.parent


@pytest.fixture(scope="module")
def config() -> dict:
    """Of a run without birds."""
    return load({"datasets": {"cub200_2011": None}})


def of_toy(papers: Path, config: dict, results: Path) -> Status:
    return status_of(results, config, folder=papers)[0]


def test_before_a_run(papers: Path, config: dict, tmp_path: Path) -> None:
    status = of_toy(papers, config, tmp_path / "nowhere")
    assert (status.printed, status.fillable, status.filled) == (5, 1, 0)
    assert (status.drawn, status.figures, status.decided, status.claims) == (0, 2, 0, 2)
    assert status.lacking == (
        ("method nobody_has_it", 2),
        ("method nor_this", 1),
        ("data set cub200_2011 in the config", 1),
    )
    assert status.line == ("Toy", "5", "1", "0", "0 of 2", "0 of 2", "method nobody_has_it (2 cells), 2 others (2)")


def test_after_a_run(papers: Path, config: dict, tmp_path: Path) -> None:
    """Only printed cells count as filled, neither a dash nor a control; only what holds or fails counts as decided."""
    for name in ("tables", "figures"):
        (tmp_path / name).mkdir()
    filled = pd.DataFrame(
        [("published", "0.5", 0.4), ("published", "0.6", ""), ("published", "", 0.3), ("control", "", 0.1)],
        columns=["role", "value", "reproduced"],
    )
    filled.to_csv(tmp_path / "tables" / "toy_table1.csv", index=False)
    verdicts = ["holds", "fails", "undecided", "no data"]
    pd.DataFrame({"verdict": verdicts}).to_csv(tmp_path / "tables" / "toy_claims.csv", index=False)
    for number in (1, 3):
        (tmp_path / "figures" / f"toy_figure{number:02}.png").touch()
    status = of_toy(papers, config, tmp_path)
    assert (status.filled, status.drawn, status.figures) == (1, 1, 2)
    assert (status.decided, status.claims) == (2, 4)


def test_nothing_lacks_and_nothing_is_claimed(papers: Path, config: dict, tmp_path: Path) -> None:
    path = papers / "toy" / "table1.csv"
    pd.read_csv(path, dtype=str, keep_default_na=False).iloc[:1].to_csv(path, index=False)
    (papers / "toy" / "claims.yaml").unlink()
    assert of_toy(papers, config, tmp_path).line == ("Toy", "1", "1", "0", "0 of 2", "", "")


def test_rows_of_a_paper_count(papers: Path, config: dict, tmp_path: Path) -> None:
    (papers / "toy" / "rows.py").write_text(
        "from relmap.catalogue.methods import Method\n"
        "METHODS = [Method('nobody_has_it', 'Best', 'I', len)]\n"
        "def places(config):\n"
        "    return {'nobody_has_it': [('imagenet', 'vgg16')]}\n"
    )
    status = of_toy(papers, config, tmp_path)
    assert status.fillable == 2
    assert status.lacking[0] == ("nobody_has_it on imagenet with resnet50", 1)


def test_all_papers_are_counted_with_the_default_config() -> None:
    found = {status.id: status for status in status_of("nowhere", run_config())}
    assert {name: status.printed for name, status in found.items()} == {
        "abslrp": 560,
        "ae": 316,
        "c3lrp": 29,
        "clam": 264,
        "ucag": 266,
    }
    assert found["clam"].fillable == 264
    assert found["clam"].lacking == ()
    for paper in read_papers(PAPERS):
        status = found[paper.id]
        assert status.fillable + sum(count for _, count in status.lacking) == status.printed
        assert status.figures == sum(not figure.get("schematic") for figure in paper.figures)


def test_papers_of_a_run_from_elsewhere_come_last_and_once(papers: Path) -> None:
    config = run_config() | {"papers": ["clam", str(papers / "toy")]}
    own = papers_of(config)
    assert [paper.id for paper in own] == ["clam", "toy"]
    found = [status.id for status in status_of("nowhere", config, own)]
    assert found == [*(paper.id for paper in read_papers(PAPERS)), "toy"]


def test_text_is_aligned() -> None:
    statuses = [
        Status("a", "A", 7, 0, 0, 0, 1, 0, 0, (("data set x", 7),)),
        Status("b", "Longer", 1234, 1, 0, 0, 0, 1, 2, ()),
    ]
    head, first, second = as_text(statuses).splitlines()
    assert head.split("  ")[0] == HEADS[0]
    assert second.startswith("Longer ")
    for name, text in (("Printed cells", "7"), ("Figures drawn", "0 of 1")):
        end = head.index(name) + len(name)
        assert first[:end].endswith(f" {text}")
    assert first.index("data set x") == head.index("Lacks first")
    assert second[: head.index("Printed cells") + len("Printed cells")].endswith(" 1234")


def test_command_line_takes_the_runs_own_config(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    (tmp_path / "config.yaml").write_text(dump(load({"datasets": {"cub200_2011": None}})))
    main([str(tmp_path)])
    line = next(line for line in capsys.readouterr().out.splitlines() if line.startswith("CLAM"))
    cells = sum((PAPERS / "clam" / f"table{n}.csv").read_text().count(",imagenet,") for n in (1, 2, 3, 4))
    assert line.split()[1:4] == ["264", str(cells), "0"]
    assert line.endswith(f"data set cub200_2011 in the config ({264 - cells} cells)")


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("tables/clam_table1.csv", "", "not a table"),
        ("tables/clam_table1.csv", "role\n", "lacks the column value, reproduced"),
        ("tables/clam_claims.csv", "claim\n", "lacks the column verdict"),
        ("config.yaml", "a: [1", "cannot be read as YAML"),
        ("config.yaml", "run: x", "lacks the key 'clam'"),
    ],
)
def test_broken_files_are_named(tmp_path: Path, file: str, content: str, message: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        status_of(tmp_path, run_config(tmp_path), [read_paper(PAPERS / "clam")])
    assert Path(file).name in str(caught.value)


def test_no_such_run(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match=r"error: .*nowhere: no such folder"):
        main([str(tmp_path / "nowhere")])


def test_torch_is_not_imported() -> None:
    code = "import sys; from relmap.evidence.status import main; main([]); assert 'torch' not in sys.modules"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PAPERS.parent, check=False)
    assert run.returncode == 0, run.stderr
    assert "CLAM" in run.stdout
