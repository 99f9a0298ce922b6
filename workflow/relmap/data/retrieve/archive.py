"""Unpacking what came from elsewhere: nothing outside the destination, nothing half, nothing without end."""

from __future__ import annotations

import bz2
import filecmp
import gzip
import lzma
import os
import shutil
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO

from relmap.data.retrieve.kinds import is_zip
from relmap.errors import InputError
from relmap.job.files import is_full, read_json, write_json
from relmap.job.lock import locked

_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    NotImplementedError,
    # What tarfile and zipfile say of numbers that are none.
    ValueError,
    OverflowError,
    IndexError,
    struct.error,
    # Headers of a tar that speak of each other without end.
    RecursionError,
)
_BLOCK = 1 << 20
MARKS = ".unpacked"
"""Folder of a data set in which each archive leaves a mark that says what it became."""
_ZIP_END = 22
"""Bytes of the end of a zip, without its comment."""
_AGAIN = ".relmap-again"
"""Name for a moment of a member that is there twice."""
_SHOWN = 100
"""Characters of a member's name in a message."""
_HEADER = 2**20
"""Most bytes of all that a tar says of one member: tarfile holds them in memory, and they may be well packed zeros."""
_PADDING = 64 * 2**20
"""Most zeros after the end of a tar; whoever wrote it fills a record, of 10 kB as a rule."""


@dataclass(frozen=True)
class Limits:
    """Bounds on what an archive may become: an archive beyond them is a bomb, not a dataset.

    Attributes:
        size: bytes in all (the largest known dataset, ImageNet's training images, has 148e9).
        ratio: bytes in all per byte of the archive (annotations in XML reach about 20).
        ratio_from: bytes below which ``ratio`` is not looked at.
        files: number of files (ImageNet has 1.3 million).
    """

    size: int = 400 * 10**9
    ratio: float = 200.0
    ratio_from: int = 64 * 2**20
    files: int = 5_000_000


def extract(archive: str | os.PathLike, destination: str | os.PathLike, limits: Limits | None = None) -> Path:
    """Unpack a tar (plain, gz, bz2, xz), a zip, or a tar of tars into a folder.

    A tar inside the archive is unpacked in turn, into a folder of its name without ``.tar`` (ImageNet's training
    images: one tar per class). All is written into a temporary folder first and moved into ``destination`` when it is
    complete; folders that exist there are merged, files replaced. Owners, permissions and times are not taken over.
    Two runs that unpack one archive take turns.

    Returns:
        ``destination``.

    Raises:
        InputError: the archive is absent, truncated, corrupt, of another format, encrypted or too large, or goes on
            after its end; a member has an absolute path or one that is too long, leaves the destination, or is a link
            or a device; or the disk is full. Nothing of the archive is then left in ``destination``.
    """
    archive, destination = Path(archive), Path(destination)
    with _turn(archive, destination):
        _extract(archive, destination, limits or Limits())
    return destination


def unpack(archive: str | os.PathLike, root: str | os.PathLike, folder: str = ".") -> Path:
    """Extract an archive below a data set's folder, and leave a mark that says what it became.

    Nothing is done where the mark is there, of this archive and folder, and all that it counted: another run did it.

    Args:
        archive: as for :func:`extract`.
        root: the data set's folder.
        folder: where in it.

    Returns:
        The mark, ``<root>/.unpacked/<archive>``.

    Raises:
        InputError: as :func:`extract`.
    """
    archive, root = Path(archive), Path(root)
    destination, mark = root / folder, root / MARKS / archive.name
    with _turn(archive, destination):
        status = archive.stat()
        identity = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "folder": folder}
        known = _read_mark(mark)
        if known.get("archive") == identity and _lacking(root, known) is None:
            return mark
        writer = _extract(archive, destination, Limits())
        folders = {os.path.relpath(place, root): count for place, count in writer.counts.items()}
        write_json(mark, {"archive": identity, "files": writer.files, "bytes": writer.size, "folders": folders})
    return mark


def check_unpacked(root: str | os.PathLike) -> None:
    """Compare the folders of a data set with what its archives left there, by the number of entries alone.

    Raises:
        InputError: a folder has fewer; the message names the mark to delete.
    """
    root = Path(root)
    for mark in sorted((root / MARKS).glob("[!.]*")):
        lacking = _lacking(root, _read_mark(mark))
        if lacking is not None:
            folder, found, expected = lacking
            raise InputError(
                f"{root / folder}: has {found} of the {expected} entries that it had when {mark.name} was unpacked; "
                f"delete {mark} and run again, to unpack the archive anew"
            )


def _read_mark(mark: Path) -> dict[str, Any]:
    """What an archive became; nothing where there is no mark, or an empty one of an earlier version."""
    return read_json(mark) if mark.is_file() and mark.stat().st_size else {}


def _lacking(root: Path, mark: dict[str, Any]) -> tuple[str, int, int] | None:
    """The first folder that has fewer entries than it had, how many it has, and had."""
    for folder, expected in mark.get("folders", {}).items():
        found = _entries(root / folder)
        if found < expected:
            return folder, found, expected
    return None


def _entries(folder: Path) -> int:
    """Number of entries of a folder, but hidden ones: what is being unpacked meanwhile is hidden."""
    try:
        with os.scandir(folder) as entries:
            return sum(not entry.name.startswith(".") for entry in entries)
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _turn(archive: Path, destination: Path) -> AbstractContextManager[None]:
    if not archive.is_file():
        raise InputError(f"{archive}: no such archive; retrieve it again")
    return locked(destination / f".{archive.name}.lock", f"unpacking {archive}")


def _extract(archive: Path, destination: Path, limits: Limits) -> _Writer:
    destination.mkdir(parents=True, exist_ok=True)
    # A fixed name, so that what a killed run left is found and removed by the next.
    room = destination / f".{archive.name}.extracting"
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir()
    writer = _Writer(archive, room, limits)
    try:
        if is_zip(archive):
            _unzip(archive, writer)
        else:
            _untar_file(archive, writer)
        folders = [Path(place).relative_to(room) for place, inner, files in os.walk(room) if files or not inner]
        # Archives of one data set have folders in common, and count what all of them left there.
        with locked(destination / ".merging.lock", f"unpacking into {destination}", poll=0.05):
            _merge(room, destination)
            writer.counts = {destination / folder: _entries(destination / folder) for folder in folders}
    except _BROKEN as error:
        # tarfile lists every format that it tried, a line each.
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")[:200]
        raise InputError(
            f"{archive}: truncated, corrupt, or neither a tar nor a zip ({reason}); delete it and retrieve it again"
        ) from error
    except OSError as error:
        if is_full(error):
            free = shutil.disk_usage(destination).free
            message = f"{archive}: no space left in {destination} while extracting ({free} bytes free); free some"
            raise InputError(message) from error
        raise InputError(f"{archive}: cannot be extracted into {destination} ({error}); check both") from error
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return writer


class _Writer:
    """Writes members below a folder and keeps count; ``counts`` has the entries of each folder, when all is done."""

    def __init__(self, archive: Path, room: Path, limits: Limits) -> None:
        self.archive, self.room, self.limits = archive, room, limits
        self.packed = max(archive.stat().st_size, 1)
        self.size = self.files = 0
        self.counts: dict[Path, int] = {}
        self._longest_name, self._longest_path = (os.pathconf(room, f"PC_{what}_MAX") for what in ("NAME", "PATH"))

    def target(self, name: str, inside: PurePosixPath) -> Path:
        """Where a member goes; refuses names that lead elsewhere."""
        path = PurePosixPath(name)
        # A backslash or a drive would be a path of its own on other systems.
        if path.is_absolute() or "\\" in name or "\0" in name or (path.parts and ":" in path.parts[0]):
            raise self.refuse(name, "its path is absolute or malformed")
        if ".." in path.parts:
            raise self.refuse(name, "its path leaves the destination")
        target = self.room / inside / path
        longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
        if longest > self._longest_name:
            raise self.refuse(name, f"a name of {longest} bytes is longer than the {self._longest_name} of the disk")
        if len(os.fsencode(target)) >= self._longest_path:
            raise self.refuse(name, f"its path is longer than the {self._longest_path} bytes that there may be")
        return target

    def refuse(self, name: str, reason: str) -> InputError:
        short = name if len(name) <= _SHOWN else f"{name[:_SHOWN]}..."
        return InputError(
            f"{self.archive}: member {short!r} is refused, {reason}; the archive is not what it should be: "
            "delete it and retrieve it from its official source"
        )

    def announce(self, size: int) -> None:
        """Count a member before a byte of it is written."""
        self.size += size
        self.files += 1
        bomb = self.size > self.limits.ratio_from and self.size > self.limits.ratio * self.packed
        if self.size > self.limits.size or self.files > self.limits.files or bomb:
            raise InputError(
                f"{self.archive}: refused, it unpacks to at least {self.size} bytes in {self.files} files from "
                f"{self.packed} bytes (limits: {self.limits.size} bytes, {self.limits.files} files, "
                f"{self.limits.ratio:g} times its size); delete it and retrieve it from its official source"
            )

    def write(self, source: BinaryIO, target: Path, size: int) -> None:
        """Write a member; one that is there already must be the same, or readers would differ about what it is.

        Raises:
            InputError: it is another.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        again = target.with_name(_AGAIN) if os.path.lexists(target) else None
        with open(again or target, "wb") as file:
            left = size
            while left:
                block = source.read(min(_BLOCK, left))
                if not block:
                    raise EOFError(f"{target.name} ends {left} bytes early")
                file.write(block)
                left -= len(block)
        if again is not None:
            same = target.is_file() and filecmp.cmp(again, target, shallow=False)
            again.unlink()
            if not same:
                raise self.refuse(target.relative_to(self.room).as_posix(), "it is there twice, and differs")


_READERS: tuple[tuple[bytes, Callable[..., BinaryIO], Callable[[], Any] | None], ...] = (
    (b"\x1f\x8b", gzip.GzipFile, None),
    (b"BZh", bz2.BZ2File, bz2.BZ2Decompressor),
    (b"\xfd7zXZ\x00", lzma.LZMAFile, lzma.LZMADecompressor),
)
"""First bytes of a compressed tar, what reads it, and what reads its streams again where that overlooks their end."""


def _untar_file(archive: Path, writer: _Writer) -> None:
    with open(archive, "rb") as file:
        start = file.read(6)
        file.seek(0)
        found = next((reader for reader in _READERS if start.startswith(reader[0])), None)
        if found is None:
            _check_space(archive, writer.packed, writer.room)
            _untar(file, writer, PurePosixPath(), nested=False)
            return
        _, reader, decompressor = found
        with reader(file) if reader is not gzip.GzipFile else reader(fileobj=file) as plain:
            _untar(plain, writer, PurePosixPath(), nested=False)
        if decompressor is not None:
            _check_streams(file, decompressor)


class _Metered:
    """A tar's bytes for tarfile, which gets as many at a time as ``left`` says; all where it is None."""

    def __init__(self, file: Any) -> None:
        self._file, self.left = file, None
        self.seek, self.tell, self.seekable = file.seek, file.tell, file.seekable

    def read(self, size: int = -1) -> bytes:
        if self.left is not None:
            if not 0 <= size <= self.left:
                raise tarfile.ReadError(f"what it says of one member takes more than {_HEADER} bytes")
            self.left -= size
        return self._file.read(size)


def _check_streams(file: BinaryIO, decompressor: Callable[[], Any]) -> None:
    """Python's readers of bz2 and xz pass over what follows a stream and is none; that of gzip does not.

    Raises:
        tarfile.ReadError: something but zeros and further streams follows.
    """
    file.seek(0)
    stream, data = decompressor(), b""
    while True:
        if stream.eof:
            data = stream.unused_data.lstrip(b"\0")
            while not data:
                block = file.read(_BLOCK)
                if not block:
                    return
                data = block.lstrip(b"\0")
            stream = decompressor()
        elif stream.needs_input:
            data = file.read(_BLOCK)
            if not data:
                raise EOFError("the end of the archive is missing")
        try:
            stream.decompress(data, _BLOCK)
        except (OSError, lzma.LZMAError) as error:
            raise tarfile.ReadError(f"something follows its end ({error})") from error
        data = b""


def _untar(file: Any, writer: _Writer, inside: PurePosixPath, nested: bool) -> None:
    metered = _Metered(file)
    metered.left = _HEADER
    with tarfile.open(fileobj=metered, mode="r:") as tar:
        while (member := tar.next()) is not None:
            metered.left = None
            _untar_member(tar, member, writer, inside, nested)
            metered.left = _HEADER
        metered.left = None
        _check_end(tar)


def _untar_member(
    tar: tarfile.TarFile, member: tarfile.TarInfo, writer: _Writer, inside: PurePosixPath, nested: bool
) -> None:
    target = writer.target(member.name, inside)
    if member.issym() or member.islnk():
        raise writer.refuse(member.name, f"it is a link (to {member.linkname[:_SHOWN]!r})")
    if not member.isfile() and not member.isdir():
        raise writer.refuse(member.name, "it is a device or a pipe")
    if member.isdir():
        target.mkdir(parents=True, exist_ok=True)
        return
    source = tar.extractfile(member)
    if target.suffix == ".tar" and not nested:
        folder = target.with_suffix("").relative_to(writer.room)
        try:
            _untar(source, writer, PurePosixPath(folder.as_posix()), nested=True)
        except _BROKEN as error:
            raise tarfile.ReadError(f"{member.name[:_SHOWN]} inside it: {error}") from error
        return
    writer.announce(member.size)
    writer.write(source, target, member.size)


def _check_end(tar: tarfile.TarFile) -> None:
    """tarfile takes a file that ends between two members for a whole one; a whole one ends with blocks of zeros.

    Read to its end, a compressed one says whether its checksum is right.

    Raises:
        tarfile.ReadError: the end is missing, or something follows it.
    """
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("the end of the archive is missing")
    length = 0
    while block := tar.fileobj.read(_BLOCK):
        length += len(block)
        if block.strip(b"\0") or length > _PADDING:
            raise tarfile.ReadError("something follows its end")


def _unzip(archive: Path, writer: _Writer) -> None:
    with zipfile.ZipFile(archive) as zipped:
        _check_end_of_zip(archive, len(zipped.comment))
        members = zipped.infolist()
        for member in members:
            mode = member.external_attr >> 16
            writer.target(member.filename, PurePosixPath())
            if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFDIR):
                raise writer.refuse(member.filename, "it is a link, a device or a pipe")
            if member.flag_bits & 1:
                raise writer.refuse(member.filename, "it is encrypted")
            writer.announce(member.file_size)
        _check_space(archive, writer.size, writer.room)
        for member in members:
            target = writer.target(member.filename, PurePosixPath())
            if member.is_dir():
                target.mkdir(parents=True, exist_ok=True)
                continue
            with zipped.open(member) as source:
                writer.write(source, target, member.file_size)


def _check_end_of_zip(archive: Path, comment: int) -> None:
    """zipfile looks for the end of a zip, and takes no notice of what follows it.

    Raises:
        zipfile.BadZipFile: something does.
    """
    with open(archive, "rb") as file:
        file.seek(-_ZIP_END - comment, os.SEEK_END)
        if file.read(4) != b"PK\5\6":
            raise zipfile.BadZipFile("something follows its end")


def _check_space(archive: Path, needed: int, folder: Path) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{archive}: extracting needs {needed} bytes, but {folder.parent} has {free} free; "
            "free some space, or set data_root to a larger disk"
        )


def _merge(source: Path, destination: Path) -> None:
    """Move everything in ``source`` into ``destination``, folder by folder where both have one."""
    for entry in sorted(source.iterdir()):
        target = destination / entry.name
        if entry.is_dir() and target.is_dir() and not target.is_symlink():
            _merge(entry, target)
        else:
            if target.is_dir() and not target.is_symlink():
                shutil.rmtree(target)
            os.replace(entry, target)
