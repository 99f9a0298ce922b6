"""Whether a file begins as its name says: what a server sends in place of a file is a web page, as a rule."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Callable
from pathlib import Path

from relmap.errors import InputError

_HEAD = 4096
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_HDF5 = b"\x89HDF\r\n\x1a\n"
# What torch.save wrote before it wrote zip files: a pickled number.
_OLD_TORCH = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
_SAFETENSORS_HEADER = 100_000_000
"""Most bytes of a header that safetensors reads."""


def _begins(*starts: bytes) -> Callable[[bytes, int], bool]:
    return lambda head, size: head.startswith(starts)


def _is_tar(head: bytes, size: int) -> bool:
    """A tar of any age: the sum of its first header's bytes stands in it; or an empty one."""
    block = head[: tarfile.BLOCKSIZE]
    try:
        tarfile.TarInfo.frombuf(block, tarfile.ENCODING, "surrogateescape")
    except tarfile.EOFHeaderError:
        return True
    except tarfile.HeaderError:
        return False
    return True


def _is_matlab(head: bytes, size: int) -> bool:
    """HDF5, whose signature may stand behind a block of MATLAB's own, or an older version."""
    return head.startswith(b"MATLAB 5.0 MAT-file") or any(
        head.startswith(_HDF5, start) for start in (0, 512, 1024, 2048)
    )


def _is_safetensors(head: bytes, size: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return 2 <= length <= min(_SAFETENSORS_HEADER, size - 8) and head[8:9] == b"{"


_CHECKS: dict[str, tuple[str, Callable[[bytes, int], bool]]] = {
    ".zip": ("a zip", _begins(*_ZIP)),
    ".tar": ("a tar", _is_tar),
    ".tgz": ("gzip", _begins(b"\x1f\x8b")),
    ".gz": ("gzip", _begins(b"\x1f\x8b")),
    ".bz2": ("bzip2", _begins(b"BZh")),
    ".xz": ("xz", _begins(b"\xfd7zXZ\x00")),
    ".pth": ("weights of torch", _begins(*_ZIP, _OLD_TORCH)),
    ".pt": ("weights of torch", _begins(*_ZIP, _OLD_TORCH)),
    ".pth.tar": ("weights of torch", _begins(*_ZIP, _OLD_TORCH)),
    ".safetensors": ("safetensors", _is_safetensors),
    ".mat": ("a MATLAB file", _is_matlab),
    ".h5": ("HDF5", _begins(_HDF5)),
    ".hdf5": ("HDF5", _begins(_HDF5)),
    ".parquet": ("Parquet", _begins(b"PAR1")),
    ".jpg": ("a JPEG", _begins(b"\xff\xd8\xff")),
    ".jpeg": ("a JPEG", _begins(b"\xff\xd8\xff")),
    ".png": ("a PNG", _begins(b"\x89PNG\r\n\x1a\n")),
}
_PAGES = (b"<!doctype html", b"<html", b"<head", b"<body")


def is_zip(path: str | os.PathLike) -> bool:
    """Whether a file begins as a zip: ``zipfile.is_zipfile`` takes a tar for one whose last member is a zip."""
    with open(path, "rb") as file:
        return file.read(4).startswith(_ZIP)


def check_kind(path: str | os.PathLike, name: str, where: str) -> None:
    """Refuse a file whose first bytes are not of the kind that its name says, and web pages under any name.

    Args:
        path: the file.
        name: what it is to be called.
        where: of where it came from and what to do, for the message.

    Raises:
        InputError: it is another kind of file.
    """
    with open(path, "rb") as file:
        head = file.read(_HEAD)
        size = os.fstat(file.fileno()).st_size
    suffixes = [suffix.lower() for suffix in Path(name).suffixes[-2:]]
    what, fits = _CHECKS.get("".join(suffixes)) or _CHECKS.get(suffixes[-1] if suffixes else "") or ("", None)
    if head.removeprefix(b"\xef\xbb\xbf").lstrip()[:20].lower().startswith(_PAGES):
        raise InputError(f"{path}: {name} is a web page, and not what was asked for; {where}")
    if fits is not None and not fits(head, size):
        raise InputError(f"{path}: {name} does not begin as {what} does, but with {head[:12]!r}; {where}")
