"""Unpacking what came from elsewhere: nothing outside the destination, nothing half, nothing without end."""

from __future__ import annotations

import errno
import gzip
import lzma
import os
import shutil
import stat
import tarfile
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from relmap.errors import InputError

_BROKEN = (
    tarfile.TarError,
    zipfile.BadZipFile,
    EOFError,
    zlib.error,
    lzma.LZMAError,
    gzip.BadGzipFile,
    NotImplementedError,
)
_BLOCK = 1 << 20


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

    Returns:
        ``destination``.

    Raises:
        InputError: the archive is absent, truncated, corrupt, of another format, encrypted or too large; a member
            has an absolute path, leaves the destination, or is a link or a device; or the disk is full. Nothing of
            the archive is then left in ``destination``.
    """
    archive, destination = Path(archive), Path(destination)
    if not archive.is_file():
        raise InputError(f"{archive}: no such archive; retrieve it again")
    destination.mkdir(parents=True, exist_ok=True)
    # A fixed name, so that what a killed run left is found and removed by the next.
    room = destination / f".{archive.name}.extracting"
    shutil.rmtree(room, ignore_errors=True)
    room.mkdir()
    writer = _Writer(archive, room, limits or Limits())
    try:
        if zipfile.is_zipfile(archive):
            _unzip(archive, writer)
        else:
            _untar_file(archive, writer)
        _merge(room, destination)
    except _BROKEN as error:
        # tarfile lists every format that it tried, a line each.
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(":")
        raise InputError(
            f"{archive}: truncated, corrupt, or neither a tar nor a zip ({reason}); delete it and retrieve it again"
        ) from error
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            free = shutil.disk_usage(destination).free
            message = f"{archive}: no space left in {destination} while extracting ({free} bytes free); free some"
            raise InputError(message) from error
        raise InputError(f"{archive}: cannot be extracted into {destination} ({error}); check both") from error
    finally:
        shutil.rmtree(room, ignore_errors=True)
    return destination


class _Writer:
    """Writes members below a folder and keeps count."""

    def __init__(self, archive: Path, room: Path, limits: Limits) -> None:
        self.archive, self.room, self.limits = archive, room, limits
        self.packed = max(archive.stat().st_size, 1)
        self.size = self.files = 0

    def target(self, name: str, inside: PurePosixPath) -> Path:
        """Where a member goes; refuses names that lead elsewhere."""
        path = PurePosixPath(name)
        # A backslash or a drive would be a path of its own on other systems.
        if path.is_absolute() or "\\" in name or "\0" in name or (path.parts and ":" in path.parts[0]):
            raise self.refuse(name, "its path is absolute or malformed")
        if ".." in path.parts:
            raise self.refuse(name, "its path leaves the destination")
        return self.room / inside / path

    def refuse(self, name: str, reason: str) -> InputError:
        return InputError(
            f"{self.archive}: member {name!r} is refused, {reason}; the archive is not what it should be: "
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
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "wb") as file:
            left = size
            while left:
                block = source.read(min(_BLOCK, left))
                if not block:
                    raise EOFError(f"{target.name} ends {left} bytes early")
                file.write(block)
                left -= len(block)


def _untar_file(archive: Path, writer: _Writer) -> None:
    with open(archive, "rb") as file, tarfile.open(fileobj=file, mode="r:*") as tar:
        if tar.fileobj is file:
            _check_space(archive, writer.packed, writer.room)
        _untar(tar, writer, PurePosixPath(), nested=False)


def _untar(tar: tarfile.TarFile, writer: _Writer, inside: PurePosixPath, nested: bool) -> None:
    for member in tar:
        target = writer.target(member.name, inside)
        if member.issym() or member.islnk():
            raise writer.refuse(member.name, f"it is a link (to {member.linkname!r})")
        if not member.isfile() and not member.isdir():
            raise writer.refuse(member.name, "it is a device or a pipe")
        if member.isdir():
            target.mkdir(parents=True, exist_ok=True)
            continue
        source = tar.extractfile(member)
        if target.suffix == ".tar" and not nested:
            folder = target.with_suffix("").relative_to(writer.room)
            try:
                with tarfile.open(fileobj=source, mode="r:") as inner:
                    _untar(inner, writer, PurePosixPath(folder.as_posix()), nested=True)
            except _BROKEN as error:
                raise tarfile.ReadError(f"{member.name} inside it: {error}") from error
            continue
        writer.announce(member.size)
        writer.write(source, target, member.size)
    # tarfile takes a file that ends between two members for a whole one; a whole one ends with blocks of zeros.
    tar.fileobj.seek(tar.offset)
    if tar.fileobj.read(tarfile.BLOCKSIZE) != bytes(tarfile.BLOCKSIZE):
        raise tarfile.ReadError("the end of the archive is missing")


def _unzip(archive: Path, writer: _Writer) -> None:
    with zipfile.ZipFile(archive) as zipped:
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
