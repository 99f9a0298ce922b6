"""The library builds as a wheel, which carries what it reads and needs no copy of the repository."""

import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from relmap.data.retrieve.archive import extract

ROOT = Path(__file__).parents[1]
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Built beside a copy of the sources, for a build leaves files among them."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    shutil.copytree(
        ROOT / "workflow" / "relmap", source / "workflow" / "relmap", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source / name)
    command = [sys.executable, "-m", "pip", "wheel", str(source), "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*command, "--quiet", "--wheel-dir", str(folder)], check=True, capture_output=True, timeout=120)
    return folder / f"relmap-{VERSION}-py3-none-any.whl"


def test_it_has_every_file_of_the_library(wheel):
    """Also those that are no Python: templates, skeletons, the mark that it is typed."""
    inside = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("relmap/")}
    relmap = ROOT / "workflow" / "relmap"
    files = {path.relative_to(relmap.parent).as_posix() for path in relmap.rglob("*") if path.is_file()}
    assert inside == {name for name in files if "__pycache__" not in name}


def test_it_works_without_the_repository(wheel, tmp_path):
    extract(wheel, tmp_path / "site")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}

    def run(*arguments):
        call = [sys.executable, *arguments]
        return subprocess.run(
            call, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=True
        )

    code = "import relmap; print(relmap.__file__, *(row.id for row in relmap.methods()))"
    place, *methods = run("-c", code).stdout.split()
    assert Path(place).is_relative_to(tmp_path / "site") and "abslrp" in methods
    run("-m", "relmap", "new", "method", "mine", "--into", str(tmp_path / "mine"))
    assert (tmp_path / "mine" / "rows.py").exists()
