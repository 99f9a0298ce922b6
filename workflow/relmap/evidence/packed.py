"""What packing and restoring a run agree on: the names in an archive, its list of sums, and Snakemake's records.

An archive holds ``results/<run>/...``, the records of Snakemake that tell what made each of these files,
``relmap.json`` (of which run and code), ``ro-crate-metadata.json`` (the same for others' programs, see
:mod:`relmap.evidence.crate`), and ``manifest-sha256.txt``, which has the SHA-256 of every other file, as
``sha256sum --check`` reads it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from relmap.errors import InputError

FORMAT = 1
"""Version of the archives that are written here, and the only one that is read."""
SUMS = "manifest-sha256.txt"
CRATE = "ro-crate-metadata.json"
ABOUT = "relmap.json"
RECORDS = PurePosixPath(".snakemake/metadata")
RESTORED = "restored.json"
"""File of a restored run: of what archive it is, and what made its maps and scores."""
_LINE = re.compile(r"([0-9a-f]{64})  ([^\r\n]+)")
_LONGEST = 254
"""Characters of a part of a record's path."""


def record_of(output: str) -> PurePosixPath:
    """Where Snakemake keeps what made an output: its name in base 64, in parts that a file system takes."""
    name = base64.urlsafe_b64encode(output.encode()).decode()
    parts = [name[start : start + _LONGEST] for start in range(0, len(name), _LONGEST)]
    return RECORDS.joinpath(*(f"@{part}" for part in parts[:-1]), parts[-1])


def output_of(record: PurePosixPath) -> str | None:
    """Of what output a record is, by its path; None where it is no record's."""
    inside = record.relative_to(RECORDS).parts if record.is_relative_to(RECORDS) else ()
    try:
        output = base64.urlsafe_b64decode("".join(part.removeprefix("@") for part in inside)).decode()
    except ValueError:
        return None
    return output if output and record_of(output) == record else None


def code_files(root: Path) -> list[str]:
    """Files of the workflow that no record names as inputs, though they decide what is made: rules and scripts."""
    patterns = ("Snakefile", "workflow/rules/*.smk", "workflow/scripts/*.py", "papers/*/*.smk", "papers/*/scripts/*.py")
    return sorted(path.relative_to(root).as_posix() for pattern in patterns for path in root.glob(pattern))


def sums_text(sums: Mapping[str, str]) -> str:
    """The list of sums."""
    return "".join(f"{digest}  {path}\n" for path, digest in sorted(sums.items()))


def read_sums(text: str, where: str) -> dict[str, str]:
    """SHA-256 by path.

    Raises:
        InputError: a line is none of such a list, or a path stands there twice or leads elsewhere.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.fullmatch(line)
        path = PurePosixPath(match[2]) if match else None
        if path is None or str(path) != match[2] or path.is_absolute() or ".." in path.parts or match[2] in found:
            raise InputError(f"{where}: line {number} of {SUMS} is none; {cure()}")
        found[match[2]] = match[1]
    return found


def belongs(path: str, run: str) -> bool:
    """Whether a file of an archive is one that there may be: of the run, a record of such, or about the archive."""
    return path in (CRATE, ABOUT) or (output_of(PurePosixPath(path)) or path).startswith(f"results/{run}/")


def cure() -> str:
    """What to do with an archive that is not what it should be."""
    return "it was changed since it was packed: get it again from where it came from"
