"""A finished run as one archive: what is published of it, and what it takes to make its tables and figures again.

Left out are the data, but for the pictures that figures show, networks and what papers train, and logs, which name the
machine. The same folder gives the same bytes.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from relmap.errors import InputError
from relmap.evidence.crate import describe
from relmap.evidence.packed import ABOUT, CRATE, FORMAT, RECORDS, SUMS, code_files, output_of, record_of, sums_text
from relmap.job.files import as_json, atomic_path, read_json, sha256_file

SUFFIX = ".tar.gz"
_FINISHED = ("config.yaml", "provenance.json", "index.html")
_WEIGHTS = (".safetensors", ".pt", ".pth")
_TIMESTAMP = ".snakemake_timestamp"
# Of this machine and this moment: no part of what a record says about an output.
_PASSING = ("external_jobid", "incomplete")


def pack(results: str | os.PathLike, archive: str | os.PathLike, root: str | os.PathLike) -> str:
    """Write a run's archive, whole or not at all.

    Args:
        results: the run's folder, ``<root>/results/<run>``.
        archive: a path that ends with ``.tar.gz``.
        root: the repository.

    Returns:
        The archive's SHA-256.

    Raises:
        InputError: the run is not finished, a workflow is at work on it, it was made by other files than lie in the
            repository now, or it has something that no archive holds.
    """
    results, archive, root = Path(results).resolve(), Path(archive), Path(root).resolve()
    if not archive.name.endswith(SUFFIX):
        raise InputError(f"{archive}: an archive of a run ends with {SUFFIX}; rename it")
    if results.parent != root / "results":
        raise InputError(f"{results}: a run is a folder of {root / 'results'}; name one of those")
    for name in _FINISHED:
        if not (results / name).is_file():
            raise InputError(f"{results / name}: no such file; finish the run before it is packed")
    with _resting(results), atomic_path(archive) as temporary:
        _write(temporary, results, root)
    return sha256_file(archive)


def _write(archive: Path, results: Path, root: Path) -> None:
    provenance = read_json(results / "provenance.json")
    kept = [path.relative_to(root).as_posix() for path in _kept(results, root)]
    records = _records(results.name, root)
    about = {
        "format": FORMAT,
        "run": results.name,
        "source": provenance.get("source") or {},
        "code": _code(records, root),
    }
    texts = {str(record_of(output)): json.dumps(record, sort_keys=True) for output, record in records.items()}
    texts[ABOUT] = as_json(about, ABOUT)
    given = {path: (root / path).stat().st_size for path in kept}
    sums = {path: sha256_file(root / path) for path in kept}
    ended = max(record["endtime"] for record in records.values())
    crate = describe(results.name, {path: (given[path], sums[path]) for path in kept}, provenance, ended)
    texts[CRATE] = as_json(crate, CRATE)
    sums |= {path: hashlib.sha256(text.encode()).hexdigest() for path, text in texts.items()}
    texts[SUMS] = sums_text(sums)
    with (
        open(archive, "wb") as file,
        # Neither the name nor the time of the moment stands in the file.
        gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in (SUMS, CRATE, ABOUT, *sorted({*kept, *texts} - {SUMS, CRATE, ABOUT})):
            if path in texts:
                content = texts[path].encode()
                _add(tar, path, len(content), io.BytesIO(content))
            else:
                with open(root / path, "rb") as source:
                    _add(tar, path, given[path], source)


def _add(tar: tarfile.TarFile, path: str, size: int, source: BinaryIO) -> None:
    member = tarfile.TarInfo(path)  # owned by 0, of the year 1970
    member.size, member.mode = size, 0o644
    tar.addfile(member, source)


@contextmanager
def _resting(results: Path) -> Iterator[None]:
    """Keep workflows off the run meanwhile, by their own lock.

    Raises:
        InputError: one is at work.
    """
    with open(results / ".lock", "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InputError(f"{results}: a workflow is at work here; pack it when that has ended") from error
        yield


def _kept(results: Path, root: Path) -> list[Path]:
    """Files of a run that are packed. Of an output that is a folder all are, or none: half of one looks like one."""
    found = []
    for place, folders, files in os.walk(results):
        inside = PurePosixPath(Path(place).relative_to(results).as_posix())
        store = any(part.endswith(".zarr") for part in inside.parts)
        left = [name for name in folders if not _wanted(Path(place, name), inside / name, store, root)]
        folders[:] = sorted(set(folders) - set(left))
        for name in (*folders, *files):
            _check(Path(place, name))
        found += [Path(place, name) for name in files if _is_kept(inside / name, store)]
    return sorted(found)


def _wanted(folder: Path, inside: PurePosixPath, store: bool, root: Path) -> bool:
    if store:
        return True
    if (
        inside.name.startswith(".")
        or inside.parts[0] == "logs"
        or (len(inside.parts) == 2 and inside.parts[0] == "data")
    ):
        return False
    is_output = (root / record_of(folder.relative_to(root).as_posix())).is_file()
    return not is_output or not any(path.suffix in _WEIGHTS for path in folder.rglob("*"))


def _is_kept(inside: PurePosixPath, store: bool) -> bool:
    return inside.name != _TIMESTAMP and (store or not inside.name.startswith(".")) and inside.suffix not in _WEIGHTS


def _check(path: Path) -> None:
    if path.is_symlink() or not (path.is_file() or path.is_dir()):
        raise InputError(
            f"{path}: is a link, a device or a pipe, which no archive holds; replace it by what it leads to"
        )
    if re.search(r"[\r\n\\]", path.name):
        raise InputError(f"{path.parent}: the name {path.name!r} has a line break or a backslash; rename it")


def _records(run: str, root: Path) -> dict[str, dict[str, Any]]:
    """Snakemake's records of a run's outputs, by output, with paths from the repository.

    Those of what is left out are among them: by its records alone a job is known to be of another config.

    Raises:
        InputError: there are none, so that nobody knows what made the files.
    """
    found = {}
    for path in sorted((root / RECORDS).rglob("*")):
        output = output_of(PurePosixPath(path.relative_to(root).as_posix())) if path.is_file() else None
        if output is not None and output.startswith(f"results/{run}/"):
            record = {key: value for key, value in read_json(path).items() if key not in _PASSING}
            record["input"] = sorted(_local(name, root) for name in record.get("input") or [])
            sums = record.get("input_checksums") or {}
            record["input_checksums"] = {_local(name, root): digest for name, digest in sums.items()}
            found[output] = record
    if not found:
        raise InputError(f"{root / '.snakemake'}: no records of the run; pack it in the repository where it was made")
    return found


def _local(path: str, root: Path) -> str:
    """A path from the repository, where it lies in it."""
    return path.removeprefix(f"{root}/")


def _code(records: Mapping[str, Mapping[str, Any]], root: Path) -> dict[str, str]:
    """SHA-256 of the repository's files that the run was made by.

    Raises:
        InputError: one is not now what it was when an output was made that is there.
    """
    code = {path: sha256_file(root / path) for path in code_files(root)}
    for output, record in records.items():
        if not (root / output).exists():
            continue
        for path in record["input"]:
            if path.startswith("results/") or os.path.isabs(path) or not (root / path).is_file():
                continue
            if path not in code:
                code[path] = sha256_file(root / path)
            known = str(record["input_checksums"].get(path, code[path])).removeprefix("sha256:")
            if known != code[path]:
                raise InputError(
                    f"{root / output}: was made by another {path} than lies here; run the workflow again, or delete it "
                    "where it is no part of the run any more"
                )
    return code
