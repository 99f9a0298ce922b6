"""The pinned environments say the same, and pin everything that relmap asks for."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import yaml
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
