"""What a script imports, read from its import statements."""

import json
import sys
from pathlib import Path

import pytest
from relmap.errors import InputError
from relmap.job.imports import closure

ROOT = Path(__file__).parents[1]
ROOTS = {"relmap": ROOT / "workflow" / "relmap", "papers": ROOT / "papers"}


@pytest.fixture
def tree(tmp_path):
    files = {
        "lib/__init__.py": "from lib import a",
        "lib/a.py": "import os\n\ndef f():\n    from .deep import b  # inside a function counts\n",
        "lib/deep/__init__.py": "",
        "lib/deep/b.py": "from .. import c\nfrom lib.deep.b import g",
        "lib/c.py": "import lib.deep.nothing_there",
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
