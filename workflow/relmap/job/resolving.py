"""Whether the lock can be installed on other Pythons: pip asks its index for each pin, and installs nothing.

``python -m relmap.job.resolving requirements.lock pyproject.toml``. The Python that runs it has the lock installed
already, which says more; the others among the oldest and newest that are supported are asked for.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

SOURCES = ("connection_pool",)
"""Pins that nobody has built wheels of: plain Python, one file, built where it is installed."""
_OFFLINE = re.compile(r"NewConnectionError|Max retries exceeded|ConnectionError|Temporary failure in name resolution")


def supported(project: Mapping[str, Any]) -> tuple[str, ...]:
    """The oldest and the newest Python of a ``pyproject.toml``, by its classifiers."""
    found = [re.fullmatch(r"Programming Language :: Python :: 3\.(\d+)", each) for each in project["classifiers"]]
    minors = sorted(int(each[1]) for each in found if each)
    return f"3.{minors[0]}", f"3.{minors[-1]}"


def with_wheels(lines: Iterable[str]) -> list[str]:
    """The pins of a lock that must have wheels."""
    pins = [line.strip() for line in lines if "==" in line and not line.startswith("#")]
    return [pin for pin in pins if pin.partition("==")[0] not in SOURCES]


def command(lock: Path, python: str, nowhere: Path) -> list[str]:
    """What pip is called with."""
    call = [sys.executable, "-m", "pip", "install", "--dry-run", "--quiet", "--ignore-installed", "--no-deps"]
    return [*call, "--only-binary", ":all:", "--python-version", python, "--target", str(nowhere), "-r", str(lock)]


def resolve(lock: Path, python: str) -> str | None:
    """What is wrong with a lock on a Python; nothing where all its pins have wheels.

    Raises:
        ConnectionError: no index answers.
    """
    with tempfile.TemporaryDirectory() as room:
        wanted = Path(room, "wheels.txt")
        wanted.write_text("\n".join(with_wheels(lock.read_text().splitlines())))
        run = subprocess.run(
            command(wanted, python, Path(room, "nowhere")), capture_output=True, text=True, check=False
        )
    if run.returncode == 0:
        return None
    if _OFFLINE.search(run.stderr):
        raise ConnectionError("no index answers")
    return next((line for line in run.stderr.splitlines() if line.startswith("ERROR: ")), run.stderr[-300:])


def main(lock: str, project: str) -> int:
    """Ask for each Python; the number of those that lack a pin."""
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    wrong = 0
    for python in supported(tomllib.loads(Path(project).read_text())["project"]):
        if python == own:
            print(f"{lock}: this is Python {python}, and has it installed")
            continue
        start = time.monotonic()
        try:
            lacks = resolve(Path(lock), python)
        except ConnectionError as error:
            print(f"{lock}: not resolved for Python {python}: {error}")
            continue
        wrong += lacks is not None
        print(
            f"{lock}: Python {python}: {lacks or 'every pin has a wheel'}, {time.monotonic() - start:.0f} s", flush=True
        )
    return wrong


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
