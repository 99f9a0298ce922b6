"""The pinned environments say the same, and pin everything that relmap asks for."""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import yaml
from relmap.job import resolving
from relmap.job.environment import conda_text, lock_text, pins

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
PINS = pins(LOCK.splitlines())


def test_lock_is_pins_only():
    assert lock_text(PINS) == LOCK
    assert not re.search(r"\+cpu|^(nvidia|triton|cuda)", LOCK, re.MULTILINE)


def test_conda_environment_equals_the_lock():
    text = (ROOT / "envs" / "relmap.yaml").read_text()
    assert text == conda_text(PINS)
    assert yaml.safe_load(text)["dependencies"][-1]["pip"] == PINS


def test_every_direct_requirement_is_pinned_and_explained():
    pinned = {pin.split("==")[0].lower().replace("_", "-") for pin in PINS}
    section = False
    for line in (ROOT / "requirements.in").read_text().splitlines():
        section = line.startswith("#") or (section and bool(line))
        match = re.match(r"([A-Za-z0-9_.-]+)\s*[=<>]", line)
        if match:
            assert match[1].lower().replace("_", "-") in pinned, f"{match[1]} is not in the lock"
            assert "#" in line or section, f"nobody says why {match[1]} is there"


def test_pins_leave_out_what_depends_on_the_machine():
    frozen = ["torch==2.13.0+cpu", "-e /somewhere/relmap", "nvidia-cublas==1", "triton==3", "Pillow==1.0", "x @ file:y"]
    assert pins(frozen) == ["Pillow==1.0", "torch==2.13.0"]


def test_a_wheel_asks_for_what_the_library_imports_and_for_what_is_locked():
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    names = {re.match(r"[\w.-]+", line)[0].lower() for line in asked}
    imported = set()
    for path in (ROOT / "workflow" / "relmap").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                imported |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                imported.add(node.module.split(".")[0])
    known = {"PIL": "pillow", "yaml": "pyyaml", "papers": None, "relmap": None, "snakemake": None}
    needed = {known.get(name, name).lower() for name in imported - sys.stdlib_module_names if known.get(name, name)}
    # The one that makers of methods import when they are asked for.
    assert needed - {"captum"} == names - {"captum"}
    locked = dict(pin.lower().split("==") for pin in PINS)
    for line in asked:
        name, least = line.lower().split(">=")
        ours, theirs = ([int(part) for part in re.findall(r"\d+", text)] for text in (least, locked[name]))
        assert theirs >= ours, f"the lock has {name} {locked[name]}"


def test_hooks_before_a_commit_have_the_versions_of_the_lock():
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    versions = {entry["repo"].rsplit("/", 1)[1].removesuffix("-pre-commit"): entry["rev"] for entry in hooks}
    locked = dict(pin.split("==") for pin in PINS)
    assert versions == {name: f"v{locked[name]}" for name in ("ruff", "snakefmt")}


def test_what_others_read_about_the_project_is_there_and_says_its_version():
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"] == version
    steps = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]["steps"]
    assert steps[-1]["run"] == ".ci/run"
    assert yaml.safe_load((ROOT / ".snakemake-workflow-catalog.yml").read_text())["usage"]["report"] is True


def test_the_container_installs_the_lock_on_condas_python():
    """Read, for it is not built here: each line does what make results asks for, on a base of one version."""
    text = (ROOT / "envs" / "Dockerfile").read_text()
    lines = [line for line in text.replace("\\\n", "").splitlines() if line and not line.startswith("#")]
    steps = [tuple(line.split(maxsplit=1)) for line in lines]
    assert [name for name, _ in steps] == ["FROM", "RUN", "ARG", "ENV", "WORKDIR", "COPY", "RUN", "CMD"]
    base = re.fullmatch(r"python:(3\.\d+)\.\d+-slim-bookworm", steps[0][1])
    conda = yaml.safe_load((ROOT / "envs" / "relmap.yaml").read_text())["dependencies"]
    assert base and conda[0] == f"python ={base[1]}"
    installed, made, command = steps[1][1], steps[6][1], steps[7][1]
    assert {"git", "make"} <= set(installed.split()) and ast.literal_eval(command) == ["make", "results"]
    makefile = (ROOT / "Makefile").read_text()
    assert made == "make .venv/.ready" and "$(READY): requirements.lock" in makefile
    assert "pip install --quiet --requirement requirements.lock" in makefile
    left_out = (ROOT / "envs" / "Dockerfile.dockerignore").read_text().split()
    assert {".venv", "results/*", "data", ".snakemake"} <= set(left_out)
    for file in ("Dockerfile", "relmap.yaml", "README.md"):
        assert "not built" in (ROOT / "envs" / file).read_text(), "who reads it knows"


def test_the_lock_is_asked_for_on_the_oldest_and_the_newest_python(monkeypatch, capsys):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    oldest, newest = resolving.supported(project)
    assert project["requires-python"] == f">={oldest}"
    tested = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]["test"]["strategy"]["matrix"]
    assert tested["python"] == [oldest, newest], "both ends are installed by CI"
    assert set(PINS) - set(resolving.with_wheels(LOCK.splitlines())) == {"connection_pool==0.0.3"}
    asked, said = [], {}

    def pip(call, **more):
        asked.append(call[call.index("--python-version") + 1])
        assert Path(call[-1]).read_text().split() == resolving.with_wheels(LOCK.splitlines())
        assert {"--dry-run", "--no-deps", "--only-binary"} <= set(call)
        return subprocess.CompletedProcess(call, *said[asked[-1]])

    monkeypatch.setattr(resolving.subprocess, "run", pip)
    monkeypatch.setattr(resolving.sys, "version_info", (3, 12, 1))
    paths = str(ROOT / "requirements.lock"), str(ROOT / "pyproject.toml")
    said |= {oldest: (0, "", ""), newest: (1, "", "WARNING: a\nERROR: No matching distribution found for torch==1\n")}
    assert resolving.main(*paths) == 1 and asked == [oldest, newest]
    assert "No matching distribution found for torch==1" in capsys.readouterr().out
    said |= {newest: (1, "", "WARNING: Retrying after NewConnectionError\nERROR: No matching distribution\n")}
    assert resolving.main(*paths) == 0 and "not resolved for Python" in capsys.readouterr().out, "offline is no fault"
