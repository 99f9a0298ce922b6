"""The two files that pin the environment: ``requirements.lock`` for pip, ``envs/relmap.yaml`` for conda.

Run as a script (``make lock`` does) it reads ``pip freeze`` from standard input and writes both. It imports nothing
but the standard library, because it runs before there is an environment.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable
from pathlib import Path

LOCK_HEADER = """\
# Exact versions of everything in .venv, made by `make lock` from requirements.in.
# CUDA's own packages follow from torch; a CPU build of the same torch satisfies the pin too.
"""

CONDA_HEADER = """\
# The same pins as requirements.lock (a test compares), for `snakemake --sdm conda`. Made by `make lock`.
# Compared, not built: no test of relmap's makes this environment. See envs/README.md.
channels:
  - conda-forge
  - nodefaults
dependencies:
  - python =3.11
  - pip
  - pip:
"""

_DEVICE_PACKAGES = re.compile(r"(nvidia|triton|cuda|pip|setuptools|wheel)\b", re.IGNORECASE)
_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^+\s]+)")


def pins(lines: Iterable[str]) -> list[str]:
    """The pins ``name==version`` of ``pip freeze`` lines, sorted, without what depends on the machine.

    Left out are editable and unpinned entries, packages of one accelerator, and local versions such as ``+cpu``.
    """
    found = (_PIN.match(line) for line in lines if not _DEVICE_PACKAGES.match(line))
    return sorted((match.group(0) for match in found if match and match["name"] != "relmap"), key=str.lower)


def lock_text(entries: Iterable[str]) -> str:
    """``requirements.lock`` for the given pins."""
    return LOCK_HEADER + "".join(f"{entry}\n" for entry in entries)


def conda_text(entries: Iterable[str]) -> str:
    """``envs/relmap.yaml`` for the given pins."""
    return CONDA_HEADER + "".join(f"      - {entry}\n" for entry in entries)


if __name__ == "__main__":
    entries = pins(sys.stdin)
    lock, conda = map(Path, sys.argv[1:])
    lock.write_text(lock_text(entries))
    conda.write_text(conda_text(entries))
