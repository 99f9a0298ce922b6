"""An archive of a run back in a repository: every byte is compared before any is used.

Snakemake decides by times, and by its records of what made a file, what is to be made again. All files get one time,
later than the code's, so that none is older than what it was made of; their records come along, so that another config
is noticed. That the code is the one that made them is looked at here.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from relmap.data.retrieve.archive import extract
from relmap.errors import InputError
from relmap.evidence.packed import ABOUT, CRATE, FORMAT, RECORDS, RESTORED, SUMS, belongs, cure, read_sums
from relmap.job.config import dump, load
from relmap.job.files import read_json, sha256_file, write_json
from relmap.job.yaml_files import read_yaml

_RUN = re.compile(r"\w[\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40,64}")
_SHOWN = 3
_PROGRAMS = (".py", ".pyc", ".so", ".smk", ".sh", ".pkl", ".pickle", ".pt", ".pth")


@dataclass(frozen=True)
class Restored:
    """What became of an archive.

    Attributes:
        folder: of the run.
        files: how many it has.
        differing: files of the code that are not those that made the run.
    """

    folder: Path
    files: int
    differing: tuple[str, ...]


def restore(
    archive: str | os.PathLike, root: str | os.PathLike, *, sha256: str | None = None, other_code: bool = False
) -> Restored:
    """Put a packed run into ``<root>/results``, with what Snakemake must know of it. Whole or not at all.

    Args:
        archive: what ``pack`` wrote.
        root: the repository.
        sha256: the archive's own SHA-256, where it is known from elsewhere.
        other_code: restore also what other code made. Snakemake is then not told what made the files.

    Raises:
        InputError: the archive is not what it should be: truncated, of something else, a byte was changed, a file is
            missing, is there twice or should not be there; there is such a run already; or the code is another.
    """
    archive, root = Path(archive), Path(root).resolve()
    if sha256 is not None and archive.is_file() and sha256_file(archive) != sha256.strip().lower():
        raise InputError(f"{archive}: its SHA-256 is not {sha256}; get it again from where it came from")
    results = root / "results"
    results.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".restoring.", dir=results) as room:
        inside = extract(archive, Path(room) / "archive")
        sums = _verify(inside, archive)
        about = _about(inside, archive)
        run = about["run"]
        _refuse_strays(sums, run, archive)
        _refuse_programs(inside / "results" / run, archive)
        folder = results / run
        if folder.exists() and any(path.name != ".lock" for path in folder.iterdir()):
            raise InputError(f"{folder}: such a run is here already; move it away, or keep it")
        differing = _differing(about["code"], root)
        if differing and not other_code:
            raise InputError(_of_other_code(archive, differing, about["source"]))
        own = inside / "results" / run
        _say_where_from(own, archive)
        _move_in(inside, own, folder, root, about["code"], bool(differing))
    return Restored(folder, sum(path.startswith("results/") for path in sums), tuple(differing))


def _verify(inside: Path, archive: Path) -> dict[str, str]:
    """Compare what was unpacked with the archive's list of sums: the same files, and the same bytes."""
    if not (inside / SUMS).is_file():
        raise InputError(f"{archive}: has no {SUMS}, so it is no packed run; see `relmap pack`")
    try:
        text = (inside / SUMS).read_bytes().decode()
    except UnicodeDecodeError as error:
        raise InputError(f"{archive}: {SUMS} is no text; {cure()}") from error
    sums = read_sums(text, str(archive))
    found = {path.relative_to(inside).as_posix() for path in inside.rglob("*") if not path.is_dir()} - {SUMS}
    for names, what in ((set(sums) - found, "is missing"), (found - set(sums), "should not be there")):
        if names:
            raise InputError(f"{archive}: {min(names)!r} {what}; {cure()}")
    bare = [path for path in inside.rglob("*") if path.is_dir() and not any(path.iterdir())]
    if bare:
        raise InputError(f"{archive}: {min(bare).relative_to(inside).as_posix()!r} is an empty folder; {cure()}")
    for path, digest in sums.items():
        if sha256_file(inside / path) != digest:
            raise InputError(f"{archive}: {path!r} has other bytes than were packed; {cure()}")
    return sums


def _about(inside: Path, archive: Path) -> dict[str, Any]:
    if not (inside / ABOUT).is_file() or not (inside / CRATE).is_file():
        raise InputError(f"{archive}: lacks {ABOUT} or {CRATE}, so it is no packed run; see `relmap pack`")
    about = read_json(inside / ABOUT)
    version = about.get("format") if isinstance(about, dict) else None
    if version != FORMAT:
        raise InputError(
            f"{archive}: is of format {version!r}, and this relmap reads {FORMAT}; take the relmap that packed it"
        )
    run, code, source = (about.get(key) for key in ("run", "code", "source"))
    if not (isinstance(run, str) and _RUN.fullmatch(run) and isinstance(code, dict) and isinstance(source, dict)):
        raise InputError(f"{archive}: {ABOUT} does not say of what run and code it is; {cure()}")
    return about


def _refuse_strays(sums: Mapping[str, str], run: str, archive: Path) -> None:
    """Nothing of an archive goes anywhere but into the run's folder and among Snakemake's records of it."""
    for path in sums:
        if not belongs(path, run):
            raise InputError(f"{archive}: {path!r} is no part of the run {run!r}; {cure()}")
    if f"results/{run}/provenance.json" not in sums:
        raise InputError(f"{archive}: has no provenance of the run {run!r}; {cure()}")


def _refuse_programs(own: Path, archive: Path) -> None:
    """What Snakemake would run of an archive.

    A config is a program to Snakemake, which evaluates one that says ``__use_yte__``, and names files of Python. So it
    must be valid, written as relmap writes it, and name none of the archive's.

    Raises:
        InputError: it is none such, or the archive holds a file that is run by its name.
    """
    config = own / "config.yaml"
    values = read_yaml(config, cure())
    if not isinstance(values, dict):
        raise InputError(f"{archive}: {config.name} holds no keys; {cure()}")
    try:
        load(values)
    except InputError as error:
        raise InputError(f"{archive}: {error}") from error
    if values.get("run") != own.name or dump(values) != config.read_text(encoding="utf-8"):
        raise InputError(f"{archive}: {config.name} is not as relmap writes it; {cure()}")
    for key in ("papers", "extensions"):
        for name in values.get(key) or ():
            if "results" in Path(name).parts:
                raise InputError(f"{archive}: `{key}` of {config.name} names {name}, a file of the archive; {cure()}")
    for path in own.rglob("*"):
        if path.suffix.lower() in _PROGRAMS or path.name == "Snakefile":
            raise InputError(f"{archive}: holds {path.name!r}, a program; {cure()}")


def _differing(code: Mapping[str, str], root: Path) -> list[str]:
    """Files of the code that are not those that made the run."""
    return [path for path, digest in sorted(code.items()) if _digest(root, path) != digest]


def _own(root: Path, path: str) -> Path | None:
    """A file of the repository; of no other place."""
    file = root / path
    return file if file.is_file() and file.resolve().is_relative_to(root) else None


def _digest(root: Path, path: str) -> str:
    file = _own(root, path)
    return sha256_file(file) if file is not None else ""


def _of_other_code(archive: Path, differing: list[str], source: Mapping[str, Any]) -> str:
    commit = str(source.get("commit"))
    shown = ", ".join(differing[:_SHOWN]) + (f" and {len(differing) - _SHOWN} more" * (len(differing) > _SHOWN))
    how = (
        f"`git checkout {commit}`"
        if _COMMIT.fullmatch(commit) and not source.get("modified")
        else "take the code that made it"
    )
    return (
        f"{archive}: was made by other code than lies here ({shown}); {how}, or restore it with --other-code: its maps "
        "and scores are then of its code, and what is made from them of this one"
    )


def _say_where_from(own: Path, archive: Path) -> None:
    """Leave in the run what made it: a provenance that is written again tells of this machine and this code."""
    if (own / RESTORED).exists():
        return
    made = read_json(own / "provenance.json")
    source, machine = made.get("source") or {}, made.get("machine") or {}
    gpus = machine.get("gpus") or []
    write_json(
        own / RESTORED,
        {
            "archive": archive.name,
            "archive_sha256": sha256_file(archive),
            "commit": source.get("commit", ""),
            "modified": source.get("modified", False),
            **{key: machine.get(key, "") for key in ("system", "processor", "cores")},
            "gpus": ", ".join(gpus),
            **(made.get("versions") or {}),
        },
    )


def _move_in(inside: Path, own: Path, folder: Path, root: Path, code: Mapping[str, str], other_code: bool) -> None:
    """Set times, then move records, then the run itself, which is there when all else is."""
    newest = max((file.stat().st_mtime for path in code if (file := _own(root, path)) is not None), default=0.0)
    moment = max(time.time(), newest + 1)
    for place, folders, files in os.walk(own, topdown=False):
        for name in (*folders, *files):
            os.utime(Path(place, name), (moment, moment))
    for path in sorted((inside / RECORDS).rglob("*")):
        if path.is_file():
            target = root / RECORDS / path.relative_to(inside / RECORDS)
            target.parent.mkdir(parents=True, exist_ok=True)
            if other_code:
                record = json.loads(path.read_text())
                # Which files made an output, and by what command, is not compared with this code's.
                path.write_text(json.dumps({**record, "input": None, "code": None, "input_checksums": {}}))
            os.replace(path, target)
    folder.parent.mkdir(exist_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(own, folder)
