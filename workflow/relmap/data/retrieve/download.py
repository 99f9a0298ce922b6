"""Retrieval of data and weights from a table: resumed, retried, or from a mirror, and verified before use."""

from __future__ import annotations

import csv
import hashlib
import os
import re
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import requests
from tqdm import tqdm

from relmap.data.retrieve.archive import unpack
from relmap.data.retrieve.kinds import check_kind
from relmap.errors import InputError
from relmap.job.files import atomic_path, is_full, read_json, write_json
from relmap.job.lock import locked, make_folder

_COLUMNS = ("name", "dataset", "url", "size", "md5", "sha256", "licence", "login", "extract_to", "note")
# torchvision's and TorchRay's way to name weights: the first 8 hex digits of the sha256.
_DIGITS_IN_NAME = re.compile(r"-([0-9a-f]{8})\.")
_TIMEOUT = (15, 60)
# What is lost when a server stops in mid-block.
_BLOCK = 1 << 16
# Bytes at which a transfer is cut off whose size neither the table nor the server tells.
_UNTOLD = 8 * 2**30
# Bytes of a name in the table: hidden files beside it have longer ones.
_LONGEST_NAME = 200
_RETRIED = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Download:
    """One row of ``resources/downloads.csv``.

    Attributes:
        name: the file's name, also in a mirror; one that many a file has, such as ``config.json``, begins with what it
            belongs to and a dot.
        dataset: what it belongs to.
        url: where it is.
        size: bytes, or None where unknown.
        md5, sha256: hex digests, empty where unknown.
        licence: terms of use, for the report.
        login: the server wants an account, so that a person has to fetch it.
        extract_to: folder below the dataset's to unpack into ("." is the dataset's own); empty: not an archive.
        note: what is in it.
    """

    name: str
    dataset: str
    url: str
    size: int | None = None
    md5: str = ""
    sha256: str = ""
    licence: str = ""
    login: bool = False
    extract_to: str = ""
    note: str = ""

    @property
    def digest(self) -> tuple[str, str]:
        """(algorithm, leading hex digits) that the file must have; ("sha256", "") where nobody published any."""
        if self.sha256 or not self.md5:
            in_name = _DIGITS_IN_NAME.search(self.name)
            return "sha256", self.sha256 or (in_name.group(1) if in_name else "")
        return "md5", self.md5


class _Interrupted(Exception):
    """The transfer stopped for a reason that another attempt may not meet; ``wait``: seconds that the server asks."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


def read_table(path: str | os.PathLike) -> dict[str, Download]:
    """Read the download table: file name -> row.

    Raises:
        InputError: absent, other columns, a repeated name, or a malformed value.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such download table; restore it from the repository") from error
    if tuple(reader.fieldnames or ()) != _COLUMNS:
        raise InputError(f"{path}: the columns must be {','.join(_COLUMNS)}; restore the table from the repository")
    table: dict[str, Download] = {}
    for line, row in enumerate(rows, start=2):
        name = row["name"]
        hexadecimal = re.fullmatch(r"([0-9a-f]{32})?", row["md5"]) and re.fullmatch(r"([0-9a-f]{64})?", row["sha256"])
        plain = name and name == os.path.basename(name) and name not in table and not name.startswith(".")
        plain = plain and len(os.fsencode(name)) <= _LONGEST_NAME
        if not (hexadecimal and plain and row["login"] in ("yes", "no") and re.fullmatch(r"\d*", row["size"])):
            raise InputError(
                f"{path}: line {line} ({name!r}) has a repeated or too long name, or a malformed value; correct it"
            )
        size = int(row["size"]) if row["size"] else None
        table[name] = Download(**{**row, "size": size, "login": row["login"] == "yes"})
    return table


def retrieve(
    name: str,
    destination_dir: str | os.PathLike,
    table: Mapping[str, Download],
    mirror: str | os.PathLike | None = None,
    *,
    attempts: int = 6,
    pause: float = 1.0,
) -> Path:
    """Make sure that a verified file lies in ``destination_dir``, and say where.

    A file that is there already is verified (once: size, time and digest are kept in a hidden file beside it). Else it
    comes from ``mirror`` (looked for as ``<mirror>/<name>`` and ``<mirror>/<dataset>/<name>``; hard-linked where the
    file system allows, else copied), else from its URL. An interrupted transfer leaves a hidden ``.part`` file that the
    next call resumes. Nothing appears under ``name`` before its size and checksum are right; where nobody published a
    checksum, it must begin as files of its name do. Two runs that want one file take turns.

    Args:
        table: as ``read_table`` gives it.
        mirror: local folder with files of the table's names (the config's ``data_mirror``).
        attempts: tries without progress before giving up.
        pause: seconds before the second try; doubles with each, at most 60.

    Raises:
        InputError: an unknown name, a login, a wrong size, checksum or kind of file, no space, or a server that fails
            for good, or sends more than it should.
    """
    if name not in table:
        raise InputError(f"{name}: not in the download table; it knows {', '.join(sorted(table))}")
    entry = table[name]
    folder = Path(destination_dir)
    target = folder / name
    if _is_known(target, entry):
        return target
    make_folder(folder)
    source = None if target.exists() else _in_mirror(entry, mirror)
    if entry.login and source is None and not target.exists():
        raise InputError(_login_message(entry, target, mirror))
    with locked(folder / f".{name}.lock", f"retrieving {target}"):
        if target.exists():
            _verify_kept(target, entry)
            return target
        digest = _take(source, target, entry) if source else _download(entry, target, mirror, attempts, pause)
        _remember(target, entry, digest)
    return target


def retrieve_dataset(
    dataset: str,
    root: str | os.PathLike,
    table: Mapping[str, Download],
    mirror: str | os.PathLike | None = None,
) -> Path:
    """Retrieve every file of a dataset into ``root/archives``, then unpack the archives below ``root``.

    Returns:
        ``root``.

    Raises:
        InputError: as ``retrieve`` and ``unpack``, or no row for the dataset. Files that need a login are looked for
            first, so that nobody waits for a download in vain.
    """
    root = Path(root)
    entries = sorted((e for e in table.values() if e.dataset == dataset), key=lambda e: not e.login)
    if not entries:
        known = ", ".join(sorted({entry.dataset for entry in table.values()}))
        raise InputError(f"dataset {dataset!r} is not in the download table; it knows {known}")
    absent = [entry for entry in entries if entry.login and not _at_hand(entry, root / "archives", mirror)]
    if absent:
        raise InputError("\n".join(_login_message(entry, root / "archives" / entry.name, mirror) for entry in absent))
    files = [(entry, retrieve(entry.name, root / "archives", table, mirror)) for entry in entries]
    for entry, file in files:
        if entry.extract_to:
            unpack(file, root, entry.extract_to)
    return root


def _at_hand(entry: Download, folder: Path, mirror: str | os.PathLike | None) -> bool:
    return (folder / entry.name).exists() or _in_mirror(entry, mirror) is not None


def _login_message(entry: Download, target: Path, mirror: str | os.PathLike | None) -> str:
    check = ", ".join(
        part for part in (f"{entry.size} bytes" if entry.size else "", f"md5 {entry.md5}" if entry.md5 else "") if part
    )
    return (
        f"{entry.name} ({entry.note}; {check}) needs an account: register with the provider, download it from "
        f"{entry.url} and put it at {target}" + (f", or into the data_mirror {mirror}" if mirror else "")
    )


def _in_mirror(entry: Download, mirror: str | os.PathLike | None) -> Path | None:
    if mirror is None:
        return None
    if not Path(mirror).is_dir():
        raise InputError(f"data_mirror: {mirror} is not a folder; correct the path, or remove the key")
    candidates = (Path(mirror) / entry.name, Path(mirror) / entry.dataset / entry.name)
    return next((path for path in candidates if path.is_file()), None)


def _take(source: Path, target: Path, entry: Download) -> str:
    """Verify a mirror's file, then link or copy it; its digest."""
    digest = _verify(source, entry, "replace the mirror's file with the official one")
    with atomic_path(target) as temporary:
        try:
            os.link(source, temporary)
        except OSError:
            _check_space(entry, source.stat().st_size, target.parent)
            shutil.copyfile(source, temporary)
            _verify(temporary, entry, "the copy went wrong: check the disk and run again")
    return digest


def _verify(path: Path, entry: Download, cure: str) -> str:
    """Raise unless size and digest are the table's, or else the kind is the name's; the whole digest."""
    size = path.stat().st_size
    if entry.size is not None and size != entry.size:
        raise InputError(f"{path}: {entry.name} has {size} bytes, expected {entry.size} (from {entry.url}); {cure}")
    algorithm, expected = entry.digest
    got = _digest(path, algorithm)
    if not got.startswith(expected):
        raise InputError(
            f"{path}: wrong checksum of {entry.name} (from {entry.url}), expected {algorithm} {expected}, got {got}; "
            f"{cure}"
        )
    if not expected:
        check_kind(path, entry.name, f"it came from {entry.url}, and nobody publishes its checksum: {cure}")
    return got


def _digest(path: Path, algorithm: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, algorithm).hexdigest()


def _stamp(target: Path) -> Path:
    return target.with_name(f".{target.name}.verified.json")


def _remember(target: Path, entry: Download, digest: str) -> None:
    status = target.stat()
    value = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, entry.digest[0]: digest}
    write_json(_stamp(target), value)


def _recorded(target: Path, entry: Download) -> tuple[str, bool]:
    """The digest that a file had when it was verified, and whether size and time are as they were then."""
    stamp = _stamp(target)
    known = read_json(stamp) if stamp.is_file() else {}
    status = target.stat()
    unchanged = known.get("size") == status.st_size and known.get("mtime_ns") == status.st_mtime_ns
    return known.get(entry.digest[0], ""), unchanged


def _is_known(target: Path, entry: Download) -> bool:
    """Whether a file under its final name is the one verified before, without reading it."""
    if not target.exists():
        return False
    recorded, unchanged = _recorded(target, entry)
    if not (recorded and unchanged and recorded.startswith(entry.digest[1])):
        return False
    if not entry.digest[1]:
        check_kind(target, entry.name, f"it came from {entry.url}: delete it and run again")
    return True


def _verify_kept(target: Path, entry: Download) -> None:
    """Verify a file under its final name; skip the reading when it is the one verified before."""
    if _is_known(target, entry):
        return
    recorded, _ = _recorded(target, entry)
    expected, stamp = entry.digest[1], _stamp(target)
    cure = "delete it and run again" if not entry.login else "replace it with the official file"
    digest = _verify(target, entry, cure)
    # Without a published checksum, the first file seen is the reference.
    if recorded and not expected and digest != recorded:
        raise InputError(
            f"{target}: {entry.name} has changed since it was retrieved: expected {entry.digest[0]} {recorded}, "
            f"got {digest}; {cure}, or delete {stamp} to accept the new content"
        )
    _remember(target, entry, digest)


def _download(entry: Download, target: Path, mirror: str | os.PathLike | None, attempts: int, pause: float) -> str:
    """Bring the file from its URL to ``target``; its digest."""
    part = target.with_name(f".{entry.name}.part")
    notes = target.with_name(f".{entry.name}.part.json")
    cure = (
        "the file was removed; run again, and if it happens again the provider has changed the file: "
        "check its page, and the row in resources/downloads.csv"
    )
    try:
        resumed = part.exists()
        _fetch(entry, part, notes, mirror, attempts, pause)
        try:
            digest = _verify(part, entry, cure)
        except InputError:
            if not resumed:
                raise
            # What an earlier run had left may have been another file: once more from the start.
            _discard(part, notes)
            _fetch(entry, part, notes, mirror, attempts, pause)
            digest = _verify(part, entry, cure)
    except InputError as error:
        # Only what another run can continue is kept.
        if not isinstance(error.__cause__, _Interrupted):
            _discard(part, notes)
        raise
    os.replace(part, target)
    _discard(notes)
    return digest


def _discard(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)


def _fetch(
    entry: Download, part: Path, notes: Path, mirror: str | os.PathLike | None, attempts: int, pause: float
) -> None:
    """Bring ``part`` to its full length, in as many attempts as make progress."""
    failures = 0
    while True:
        before = part.stat().st_size if part.exists() else 0
        try:
            _attempt(entry, part, notes)
            return
        except (requests.RequestException, _Interrupted) as error:
            after = part.stat().st_size if part.exists() else 0
            failures = 1 if after > before else failures + 1
            if failures >= attempts:
                elsewhere = f"into the data_mirror {mirror}" if mirror else "into a folder and set data_mirror to it"
                raise InputError(
                    f"{entry.name}: {entry.url} failed {failures} times ({error}); {after} bytes are kept and the next "
                    f"run goes on from there. Without internet put the file {elsewhere}"
                ) from _Interrupted(str(error))
            asked = error.wait if isinstance(error, _Interrupted) else None
            time.sleep(min(60.0, pause * 2 ** (failures - 1) if asked is None else asked))
        except OSError as error:
            if is_full(error):
                message = f"{entry.name}: no space left in {part.parent}; free some, or set data_root to a larger disk"
                raise InputError(message) from error
            raise


def _attempt(entry: Download, part: Path, notes: Path) -> None:
    """One request: the whole file, or what is missing of it.

    Raises:
        _Interrupted: the server is busy, stopped early, or answered a range that was not asked for.
        InputError: the server refuses, or offers a file of another size.
    """
    known = read_json(notes) if notes.is_file() and part.exists() else {}
    start = part.stat().st_size if known else 0
    # Without a validator nobody can tell whether the rest belongs to the same file.
    if known.get("url") != entry.url or not known.get("validator"):
        start = 0
    if start and start == entry.size:
        return
    headers = {"Accept-Encoding": "identity"}
    if start:
        headers |= {"Range": f"bytes={start}-", "If-Range": known["validator"]}
    with requests.get(entry.url, headers=headers, stream=True, timeout=_TIMEOUT) as reply:
        if reply.status_code in _RETRIED:
            wait = reply.headers.get("Retry-After", "")
            raise _Interrupted(f"status {reply.status_code} {reply.reason}", float(wait) if wait.isdigit() else None)
        if reply.status_code == 416:
            # Nothing after our last byte: the file is complete, or it is another one.
            if entry.size is None and _total(reply) == start:
                return
            _discard(part, notes)
            raise _Interrupted("the server has a shorter file than before")
        if reply.status_code not in (200, 206):
            raise InputError(
                f"{entry.name}: {entry.url} answers {reply.status_code} {reply.reason}; check the provider's page, "
                "correct the row in resources/downloads.csv, or put the file into data_mirror"
            )
        if reply.status_code == 206:
            matches = re.match(rf"bytes {start}-", reply.headers.get("Content-Range", ""))
            if not matches or _validator(reply) not in ("", known.get("validator")):
                _discard(part, notes)
                raise _Interrupted("the server's file has changed")
            total = _total(reply)
        else:
            start, total = 0, _length(reply)
        _check_offer(entry, total)
        total = entry.size if total is None else total
        _check_space(entry, (total or 0) - start, part.parent)
        write_json(notes, {"url": entry.url, "validator": _validator(reply)})
        _receive(reply, part, start, total, entry)


def _check_offer(entry: Download, total: int | None) -> None:
    """A web page in place of a file, or a new version, is seen before it is downloaded."""
    if entry.size is not None and total is not None and total != entry.size:
        raise InputError(
            f"{entry.name}: {entry.url} offers {total} bytes, expected {entry.size}; the provider has changed the file "
            "or wants a login: check its page, then correct resources/downloads.csv or use data_mirror"
        )


def _check_space(entry: Download, needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{entry.name}: needs {needed} bytes in {folder}, which has {free} free; "
            "free some space, or set data_root to a larger disk"
        )


def _validator(reply: requests.Response) -> str:
    """What identifies the server's version of the file: a strong ETag, else its date."""
    tag = reply.headers.get("ETag", "")
    return tag if tag and not tag.startswith("W/") else reply.headers.get("Last-Modified", "")


def _length(reply: requests.Response) -> int | None:
    length = reply.headers.get("Content-Length", "")
    return int(length) if length.isdigit() else None


def _total(reply: requests.Response) -> int | None:
    total = reply.headers.get("Content-Range", "").rpartition("/")[2]
    return int(total) if total.isdigit() else None


def _receive(reply: requests.Response, part: Path, start: int, total: int | None, entry: Download) -> None:
    """Append what comes, and hang up on a server that does not end."""
    got, most = start, _UNTOLD if total is None else total
    with (
        open(part, "ab" if start else "wb") as file,
        tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=entry.name, disable=None) as bar,
    ):
        for block in reply.iter_content(_BLOCK):
            got += len(block)
            if got > most:
                told = "and nobody told its size" if total is None else "which is its size"
                raise InputError(
                    f"{entry.name}: {entry.url} sends more than {most} bytes, {told}; what came was removed: check the "
                    "provider's page, then correct the size in resources/downloads.csv or use data_mirror"
                )
            file.write(block)
            bar.update(len(block))
    if total is not None and got != total:
        raise _Interrupted(f"{got} of {total} bytes arrived")
