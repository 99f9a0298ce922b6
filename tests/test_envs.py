"""The pinned environments say the same, and pin everything that relmap asks for."""

import re
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
