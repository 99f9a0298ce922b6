"""Every animal of the zoo is refused with a reason, reads nothing outside the data set, and runs nothing."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from relmap.evidence.layout import write_frame
from relmap.job.spreadsheet import as_text

from tests.hostile.zoo import SECRET, ZOO

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def met(tmp_path_factory):
    """What became of all of them, in a process whose memory, time and files are bounded."""
    command = [sys.executable, "-m", "tests.hostile.guard", str(tmp_path_factory.mktemp("zoo"))]
    paths = os.pathsep.join([str(ROOT / "workflow"), str(ROOT)])
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize(("kind", "name"), ZOO)
def test_it_is_refused_and_does_nothing(met, kind, name):
    found, words = met[f"{kind}/{name}"], ZOO[kind, name][1]
    assert found["end"] == "refused", found
    assert re.search(words, found["says"]), found["says"]
    assert len(found["says"]) < 1500 and found["says"].isprintable(), "one line, without control characters"
    assert SECRET not in found["says"] and not found["seen"], "no program, no socket, and not the secret"
    assert not found["unpacked"], "nothing of an archive remains"
    assert not found["outside"] and not found["executed"] and not found["evil"]
    assert found["seconds"] < 5, "bounded"


def test_names_in_tables_are_no_formulas(tmp_path):
    """Classes and files may be called so; numbers and words stay as they are."""
    names = ["=HYPERLINK(0)", "+1+1", "-2+3", "@SUM(A1)"]
    plain = ["-0.5", "+1e-3", "-", "a=b", "heron", "-inf", "", "a\rb\nc"]
    write_frame(pd.DataFrame({"class": names + plain, "=value": range(12)}), tmp_path / "a.csv", "")
    found = pd.read_csv(tmp_path / "a.csv", keep_default_na=False, dtype=str)
    assert list(found.columns) == ["class", "'=value"]
    assert list(found["class"]) == [*(f"'{name}" for name in names), *plain[:-1], "a\\rb c"] and as_text(-2.5) == -2.5


def test_every_table_is_written_so():
    """Data sets in their own format, histories of numbers and what says how aside."""
    writers = re.compile(r"\.to_csv\(|csv\.(?:writer|DictWriter)\(")
    sources = [path for room in ("workflow", "papers") for path in (ROOT / room).rglob("*.py")]
    found = {path for path in sources if writers.search(path.read_text())}
    guarded = {path for path in found if "without_formulas(" in path.read_text()}
    assert guarded
    own = {"workflow/relmap/models/training.py", "workflow/relmap/data/render/cub_writer.py", "papers/ae/grids.py"}
    own.add("workflow/relmap/job/measuring.py")
    assert {path.relative_to(ROOT).as_posix() for path in found - guarded} == own


def test_an_executed_notebook_is_nobodys_input():
    """What an archive brings as a notebook is looked at, never run: rules run those of the repository."""
    for path in [*(ROOT / "workflow" / "rules").glob("*.smk"), *ROOT.glob("papers/*/*.smk")]:
        for block in re.findall(r"\n\s+input:\n(.*?)\n\s+output:", path.read_text(), re.DOTALL):
            assert "<results>/notebooks" not in block, path
