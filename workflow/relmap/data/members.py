"""Pictures inside one MATLAB file: ``gtsegs_ijcv.mat#17`` is its picture 17, ``gtsegs_ijcv.mat#17/gt`` that one's mask.

ImageNet-Segmentation (Guillaumin et al., IJCV 2014) is one file of MATLAB v7.3, which is HDF5: ``/value/img`` and
``/value/gt`` hold an object reference a picture. MATLAB's arrays are column-major, so HDF5 shows their axes reversed.
"""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import h5py
import numpy as np

from relmap.errors import InputError

_NAME = re.compile(r"(?P<file>.+\.mat)#(?P<index>\d+)(?P<mask>/gt)?", re.DOTALL)
_MOST, _LONGEST = 1_000_000, 1000
"""Pictures of a file (the published one has 4276) and letters of a name; a file may speak of more than it holds."""
_CURE = "restore gtsegs_ijcv.mat, from a mirror if need be (`data_mirror` in the config names its folder)"


@dataclass(frozen=True)
class Member:
    """One array of a file: picture ``index``, or its mask."""

    file: str
    index: int
    mask: bool = False

    def __str__(self) -> str:
        return f"{self.file}#{self.index}" + ("/gt" if self.mask else "")


def member_of(path: str | os.PathLike) -> Member | None:
    """What a path names inside a MATLAB file; None for the path of a file."""
    found = _NAME.fullmatch(os.fspath(path))
    return Member(found["file"], int(found["index"]), found["mask"] is not None) if found else None


def file_of(path: str | os.PathLike) -> str:
    """The file on disk that holds what a path names."""
    member = member_of(path)
    return os.fspath(path) if member is None else member.file


def read_member(member: Member) -> np.ndarray:
    """Its pixels as stored: uint8 (H, W, 3), or (H, W) for a mask or a grey picture.

    Raises:
        InputError: the file is absent, no HDF5, has no such array, or its bytes are damaged.
    """
    with open_mat(member.file) as file:
        try:
            values = _array(file, member)[()]
        except (OSError, RuntimeError) as error:
            raise InputError(f"{member}: damaged ({error}); {_CURE}") from error
    return np.ascontiguousarray(values.transpose())


def member_size(member: Member) -> tuple[int, int]:
    """(width, height) of an array, without reading it.

    Raises:
        InputError: as ``read_member``.
    """
    with open_mat(member.file) as file:
        width, height = _array(file, member).shape[-2:]
    return width, height


def _array(file: h5py.File, member: Member) -> h5py.Dataset:
    """What the reference of a picture leads to; a mask's is wrapped once more, as a cell of one.

    Raises:
        InputError: it leads to nothing, out of the file, or to no picture: axes are colours, if any, width and height.
    """
    try:
        found = file[file["value/gt" if member.mask else "value/img"][member.index, 0]]
        found = file[found[0, 0]] if member.mask else found
    except (KeyError, IndexError, ValueError, TypeError, AttributeError, OSError, RuntimeError) as error:
        raise InputError(f"{member}: no such array in the file ({error}); {_CURE}") from error
    if not isinstance(found, h5py.Dataset):
        raise InputError(f"{member}: a folder in the place of an array; {_CURE}")
    _refuse_elsewhere(file, found, str(member))
    grey, coloured = len(found.shape) == 2, found.shape[:-2] == (3,) and not member.mask
    if found.dtype != np.uint8 or not (grey or coloured):
        raise InputError(f"{member}: holds {found.dtype} of shape {found.shape}, no pixels in 8 bits; {_CURE}")
    return found


def _refuse_elsewhere(file: h5py.File, found: h5py.Dataset, what: str) -> None:
    """HDF5 may take an array from another file, which is any file that we may read.

    Raises:
        InputError: it does.
    """
    if found.file.filename != file.filename or found.external or found.is_virtual:
        raise InputError(f"{what}: lies in another file, which no published one does; {_CURE}")


def _text(file: h5py.File, found: h5py.Dataset) -> str:
    """A name, as MATLAB keeps it: a number a letter."""
    _refuse_elsewhere(file, found, "a name in /value/id")
    if found.size > _LONGEST:
        raise ValueError(f"one of {found.size} letters")
    return "".join(map(chr, np.ravel(found[()])))


class _Handles:
    """Files that are open for reading, once a process; one thread at a time uses them, as HDF5 would have it anyway.

    A forked worker opens its own, and a file that was replaced is opened anew.
    """

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self._open: dict[tuple[str, int], tuple[tuple[int, int, int], h5py.File]] = {}

    def get(self, path: str) -> h5py.File:
        """The open file; call it with the lock held."""
        key = (path, os.getpid())
        try:
            status = os.stat(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); {_CURE}") from error
        state = (status.st_ino, status.st_size, status.st_mtime_ns)
        known = self._open.get(key)
        if known is not None and known[0] == state:
            return known[1]
        if known is not None:
            self._open.pop(key)[1].close()
        try:
            file = h5py.File(path, "r")
        except OSError as error:
            what = "truncated, or not of MATLAB v7.3, which is HDF5"
            raise InputError(f"{path}: {what} ({error}); {_CURE}") from error
        self._open[key] = (state, file)
        return file

    def renew_lock(self) -> None:
        """A child must not wait for a thread that only its parent has."""
        self.lock = threading.RLock()


_HANDLES = _Handles()
os.register_at_fork(after_in_child=_HANDLES.renew_lock)


@contextmanager
def open_mat(path: str | os.PathLike) -> Iterator[h5py.File]:
    """A file, open for reading and for this thread alone.

    Raises:
        InputError: the file is absent or no HDF5.
    """
    with _HANDLES.lock:
        yield _HANDLES.get(os.fspath(path))


def names_in(path: str | os.PathLike) -> list[str]:
    """Names of the pictures of a file, ImageNet's ids such as ``n02084071_1``, in the file's order.

    Raises:
        InputError: the file is no HDF5, lacks one of the lists or a name, or has a list in another file.
    """
    with open_mat(path) as file:
        lists = {}
        for name in ("img", "gt", "id"):
            try:
                found = file.get(f"value/{name}")
            except (OSError, RuntimeError) as error:
                raise InputError(f"{path}: lacks the list /value/{name} ({error}); {_CURE}") from error
            if not isinstance(found, h5py.Dataset) or found.ndim != 2 or found.shape[1] != 1:
                raise InputError(f"{path}: lacks the list /value/{name}, so it is not ImageNet-Segmentation; {_CURE}")
            _refuse_elsewhere(file, found, f"{path}: /value/{name}")
            if len(found) > _MOST:
                raise InputError(f"{path}: /value/{name} has {len(found)} entries, more than {_MOST}; {_CURE}")
            lists[name] = found[:, 0]
        counts = {name: len(found) for name, found in lists.items()}
        if len(set(counts.values())) > 1:
            raise InputError(f"{path}: /value has {counts}, not as many of each; {_CURE}")
        try:
            return [_text(file, file[reference]) for reference in lists["id"]]
        except (KeyError, ValueError, TypeError, AttributeError, OSError, RuntimeError) as error:
            raise InputError(f"{path}: /value/id names no text ({error}); {_CURE}") from error
