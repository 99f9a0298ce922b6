"""Where the workflow is: commands that plan and count runs need it, a wheel does not have it."""

from __future__ import annotations

from pathlib import Path

from relmap.errors import InputError


def repository() -> Path:
    """The folder with the Snakefile: this one or one above it, else that of an editable installation.

    Raises:
        InputError: neither is one.
    """
    here = Path.cwd()
    for folder in (here, *here.parents, Path(__file__).resolve().parents[3]):
        if (folder / "Snakefile").is_file() and (folder / "workflow" / "relmap").is_dir():
            return folder
    raise InputError(
        f"{here}: not in a copy of relmap's repository, which this command needs; clone it, and run this there"
    )
