"""What a script imports, read from its import statements."""

import json
import re
import sys
from pathlib import Path

import pytest
from relmap.errors import InputError
from relmap.job.imports import closure, imported

ROOT = Path(__file__).parents[1]
ROOTS = {"relmap": ROOT / "workflow" / "relmap", "papers": ROOT / "papers"}


@pytest.fixture
def tree(tmp_path):
    files = {
        "lib/__init__.py": "from lib import a",
        "lib/a.py": "import os\n\ndef f():\n    from .deep import b  # inside a function counts\n",
        "lib/deep/__init__.py": "",
        "lib/deep/b.py": "from .. import c\nfrom lib.deep.b import g",
        "lib/c.py": "import lib.deep.nothing_there\nif TYPE_CHECKING:\n    import lib.unused",
        "lib/unused.py": "import lib.c",
        "run.py": "from lib.a import f\nimport numpy",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def names(tree, *scripts):
    return [
        path.relative_to(tree.resolve()).as_posix()
        for path in closure([tree / s for s in scripts], {"lib": tree / "lib"})
    ]


def test_closure_is_transitive_and_no_more(tree):
    used = ["lib/__init__.py", "lib/a.py", "lib/c.py", "lib/deep/__init__.py", "lib/deep/b.py"]
    assert names(tree, "run.py") == used
    (tree / "unrelated.py").write_text("import json")
    assert names(tree, "unrelated.py") == []


def test_notebooks_are_read_too(tree):
    cells = [
        {"cell_type": "code", "source": ["from lib import c\n", "c"]},
        {"cell_type": "markdown", "source": "import lib.a"},
    ]
    (tree / "n.ipynb").write_text(json.dumps({"cells": cells}))
    assert "lib/c.py" in names(tree, "n.ipynb")
    (tree / "bad.py").write_text("def")
    with pytest.raises(InputError, match=r"bad\.py"):
        names(tree, "bad.py")


def test_closure_is_what_python_imports():
    """Modules of relmap in a fresh interpreter after the import are all in the closure."""
    import subprocess

    code = "import relmap.evidence.tables, sys; print(*[m.__file__ for n, m in sys.modules.items() if 'relmap' in n])"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    module = ROOT / "workflow" / "relmap" / "evidence" / "tables.py"
    assert {Path(path) for path in shown} <= {module, *closure([module], ROOTS)}


def importers(path):
    """Scripts of the workflow and of papers that a file of relmap is an input of."""
    scripts = [*(ROOT / "workflow" / "scripts").glob("*.py"), *ROOT.glob("papers/*/scripts/*.py")]
    return {script.stem for script in scripts if ROOT / "workflow" / "relmap" / path in closure([script], ROOTS)}


def test_an_edit_remakes_what_it_changes():
    """Makers that rows name (explainers, metrics, readers, renderers) are inputs of the rules that the rows are for."""
    assert importers("explainers/agf.py") == importers("metrics/lerf.py") == importers("data/formats/cub.py") == set()
    assert importers("figures/gallery.py") == set(), "notebooks are inputs of their own rules"
    assert importers("report/page.py") == {"write_report"}
    assert importers("evidence/claims.py") == {"decide"}
    of_tables = {"tabulate", "decide", "rank_methods", "lay_out", "write_report", "compare_ties", "count_masks"}
    of_tables |= {f"tabulate_{name}" for name in ("accuracies", "attributes", "classes", "controls")}
    assert importers("evidence/layout.py") == of_tables, "a table's layout remakes tables and the report"
    assert importers("evidence/significance.py") == {"tabulate"}
    assert {"attribute", "score", "predict"} <= importers("evidence/evaluation.py")
    assert importers("evidence/evaluation.py").isdisjoint({"pretrain_classifier", "render_dataset", "tabulate"})
    trained = importers("models/training.py")
    assert {"pretrain_classifier", "finetune_classifier"} <= trained and "attribute" not in trained
    assert "pretrain_classifier" not in importers("propagation/engine.py")


RELMAP = ROOT / "workflow" / "relmap"


@pytest.mark.parametrize(
    ("room", "forbidden"),
    [
        ("network", ("propagation", "explainers", "catalogue", "evidence", "metrics", "report", "figures", "papers")),
        ("propagation", ("explainers", "catalogue", "evidence", "metrics", "report", "figures", "papers")),
        ("explainers", ("metrics", "report", "figures", "papers")),
        ("metrics", ("explainers", "propagation", "report", "figures", "papers")),
        ("catalogue", ("evidence", "metrics", "report", "figures", "papers")),
        ("data", ("explainers", "propagation", "catalogue", "evidence", "metrics", "papers")),
        ("models", ("explainers", "evidence", "metrics", "report", "papers")),
        ("evidence", ("explainers", "propagation", "report", "figures", "papers")),
        ("report", ("explainers", "propagation", "papers")),
    ],
)
def test_rooms_know_only_those_below(room, forbidden):
    """No import statement of a room names one above it; what a row names is imported when it is built."""
    for path in sorted((RELMAP / room).rglob("*.py")):
        files = imported(path, tuple(ROOTS.items()))
        names = {file.relative_to(ROOTS["relmap"]).parts[0] for file in files if file.is_relative_to(ROOTS["relmap"])}
        names |= {"papers" for file in files if file.is_relative_to(ROOTS["papers"])}
        crossed = names & set(forbidden)
        assert not crossed, f"{path.relative_to(ROOT)} imports {crossed}"


def test_the_library_has_few_rooms():
    kept = ("__init__.py", "__main__.py", "py.typed", "__pycache__")
    entries = [path for path in RELMAP.iterdir() if path.name not in kept]
    assert len(entries) <= 17, sorted(path.name for path in entries)
    for path in (RELMAP / "job" / "config.py", RELMAP / "job" / "config_text.py"):
        assert "papers" not in re.findall(r"^(?:from|import) (\w+)", path.read_text(), re.MULTILINE)


def test_the_command_line_is_nobodys_library():
    """What a command does can be had from Python: only the command's entry point imports it."""
    for path in sorted(RELMAP.rglob("*.py")):
        files = imported(path, tuple(ROOTS.items()))
        of_cli = [file for file in files if file.is_relative_to(RELMAP / "cli")]
        assert not of_cli or path.is_relative_to(RELMAP / "cli") or path.name == "__main__.py", path


def test_papers_know_nothing_of_each_other():
    """An edit of one paper's file remakes nothing of another's."""
    for path in sorted(ROOT.glob("papers/*/**/*.py")):
        own = path.relative_to(ROOT / "papers").parts[0]
        owners = {
            file.relative_to(ROOTS["papers"]).parts[0]
            for file in closure([path], ROOTS)
            if file.is_relative_to(ROOTS["papers"])
        }
        assert owners <= {own}, f"{path.relative_to(ROOT)} uses files of {owners - {own}}"
