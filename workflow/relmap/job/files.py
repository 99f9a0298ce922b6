"""Whole-or-absent files: everything that relmap writes appears under its name only when it is complete."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from relmap.errors import InputError

_FULL = (errno.ENOSPC, errno.EDQUOT)


@contextmanager
def atomic_path(path: str | os.PathLike) -> Iterator[Path]:
    """Yield a temporary sibling of ``path``; move it there when the block ends well, remove it otherwise.

    The block may create a file or a folder under the yielded name, whose suffixes equal those of ``path`` (libraries
    choose formats by them). An existing file or folder at ``path`` is replaced. Whoever may read what the umask allows
    may read the new one, also where a library writes for its owner alone.

    Raises:
        InputError: the disk is full.
    """
    with atomic_paths(path) as (temporary,):
        yield temporary


@contextmanager
def atomic_paths(*paths: str | os.PathLike) -> Iterator[tuple[Path, ...]]:
    """The same for files and folders that belong together: either all are new, or all are as they were.

    Should the machine stop between the moves, the first of them are absent, never beside others that do not fit them.
    """
    targets = tuple(Path(path) for path in paths)
    rooms: list[Path] = []
    try:
        for path in targets:
            path.parent.mkdir(parents=True, exist_ok=True)
            rooms.append(Path(tempfile.mkdtemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)))
        temporaries = tuple(room / path.name for room, path in zip(rooms, targets, strict=True))
        yield temporaries
        for room, temporary in zip(rooms, temporaries, strict=True):
            _open_to_others(temporary, room)
        _move_in(temporaries, targets)
    except InputError:
        raise
    except Exception as error:
        if is_full(error):
            message = f"{targets[0]}: no space left on the disk; free some, or move `results` to a larger one"
            raise InputError(message) from error
        raise
    finally:
        for room in rooms:
            shutil.rmtree(room, ignore_errors=True)


def sweep(folder: str | os.PathLike) -> list[Path]:
    """Remove what killed processes left half written below a folder that nobody else writes to; say what it was."""
    left = []
    for place, folders, _ in os.walk(folder):
        left += [Path(place, name) for name in folders if name.startswith(".") and name.endswith(".part")]
        # A store of maps has many folders, and is moved to its place whole.
        folders[:] = [name for name in folders if not name.endswith((".part", ".zarr"))]
    for room in left:
        shutil.rmtree(room, ignore_errors=True)
    return left


def is_full(error: BaseException) -> bool:
    """Whether a disk, or somebody's share of it, was full: as a number, in words, or in what the error came from."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.errno in _FULL:
            return True
        if any(os.strerror(number) in str(seen) for number in _FULL):
            return True
        seen = seen.__cause__ or seen.__context__
    return False


def _open_to_others(temporary: Path, room: Path) -> None:
    """Give what was written the mode of new files and folders."""
    if not os.path.lexists(temporary):
        return
    # Only a new file tells the umask without setting it for all threads.
    with open(room / ".mode", "w") as probe:
        mode = os.fstat(probe.fileno()).st_mode & 0o666
    for place, folders, files in os.walk(temporary):
        for folder in folders:
            _widen(os.path.join(place, folder), mode | (mode & 0o444) >> 2)
        for file in files:
            _widen(os.path.join(place, file), mode)
    _widen(temporary, mode | (mode & 0o444) >> 2 if temporary.is_dir() else mode)


def _widen(path: str | os.PathLike, mode: int) -> None:
    status = os.lstat(path)
    # A file with a second name is somebody's own, linked from a mirror.
    shared = stat.S_ISREG(status.st_mode) and status.st_nlink > 1
    if not stat.S_ISLNK(status.st_mode) and not shared and mode & ~status.st_mode:
        os.chmod(path, stat.S_IMODE(status.st_mode) | mode)


def _move_in(temporaries: Sequence[Path], targets: Sequence[Path]) -> None:
    """Move everything to its place, or nothing."""
    pairs = list(zip(temporaries, targets, strict=True))
    (temporary, path), *others = pairs
    if not others and not temporary.is_dir() and (path.is_symlink() or not path.is_dir()):
        os.replace(temporary, path)  # one file takes another's place in one step
        return
    old = [(path, new.with_name(f"{path.name}.old")) for new, path in reversed(pairs) if os.path.lexists(path)]
    with ExitStack() as undo:
        for source, destination in old + pairs:
            undo.callback(_move_back, source, destination)  # first: an interruption can come at any place
            os.replace(source, destination)
        undo.pop_all()


def _move_back(source: Path, destination: Path) -> None:
    """Undo a move that may have happened or not."""
    if os.path.lexists(destination) and not os.path.lexists(source):
        os.replace(destination, source)


def sha256_file(path: str | os.PathLike) -> str:
    """Hex digest of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def as_json(value: Any, where: str) -> str:
    """``value`` as indented JSON.

    Raises:
        InputError: it has something that JSON has not; the message begins with ``where`` and names it.
    """
    try:
        return json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise InputError(f"{where}: {_unwritable(value)}") from error


def _unwritable(value: Any, place: str = "") -> str:
    """What of a value JSON has not, and how to mend it."""
    entries: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, Mapping):
        entries = value.items()
    elif isinstance(value, list | tuple):
        entries = enumerate(value)
    for key, inner in entries:
        try:
            json.dumps({key: inner}, allow_nan=False)
        except (TypeError, ValueError):
            return _unwritable(inner, f"{place}.{key}" if place else str(key))
    what = f"`{place}` is {value!r} ({type(value).__name__})" if place else f"{value!r}"
    return f"{what}, which JSON cannot hold; give plain finite numbers, text, lists and mappings with text as keys"


def write_json(path: str | os.PathLike, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically.

    Raises:
        InputError: it has something that JSON has not.
    """
    text = as_json(value, str(path))
    with atomic_path(path) as temporary:
        temporary.write_text(text)


def _refuse_constant(name: str) -> None:
    raise ValueError(f"it holds {name}, which is no JSON")


def read_json(path: str | os.PathLike) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is absent or not JSON.
    """
    try:
        return json.loads(Path(path).read_text(), parse_constant=_refuse_constant)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run the rule that makes it") from error
    except (ValueError, RecursionError) as error:  # also text that is none, numbers without end, nesting without end
        reason = str(error).splitlines()[0]
        raise InputError(f"{path}: not valid JSON ({reason}); delete it and run again") from error
