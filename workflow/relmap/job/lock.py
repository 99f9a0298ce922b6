"""One process at a time, for runs that share a folder of data: a lock of the file system, or a file that stands for it.

``flock`` ends with its process. Where a file system has none (Lustre without ``-o flock``, some NFS), a file is created
that must not exist. It names its owner, who touches it while it works; it is void when that process is gone from this
computer, or when nobody touched it for long. How long is measured by who waits: clocks of two computers differ.
"""

from __future__ import annotations

import atexit
import errno
import fcntl
import functools
import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from relmap.errors import InputError

LOG = logging.getLogger(__name__)
HEARTBEAT = 10.0
"""Seconds between two touches of a lock file."""
VOID_AFTER = 180.0
"""Seconds without a touch after which a lock file's owner counts as gone."""
OF_DATA = "set `data_root` to a folder of your own that has room"
_SAYING = threading.Lock()
_UNSUPPORTED = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS}


@contextmanager
def locked(path: str | os.PathLike, what: str, poll: float = 0.5) -> Iterator[None]:
    """Hold the lock at ``path`` while the block runs; wait for it, and say so, while another process has it.

    Args:
        path: of the lock, a hidden file beside what it guards. It is there only while somebody holds it.
        what: what is guarded, for the message.
        poll: seconds between two tries.

    Raises:
        InputError: the folder cannot be written.
    """
    with locked_any([path], what, poll):
        yield


@contextmanager
def locked_any(paths: Sequence[str | os.PathLike], what: str, poll: float = 0.5) -> Iterator[Path]:
    """As :func:`locked`, the first of some locks that is free, whose path it yields."""
    waiting = {Path(path): _Waiting() for path in paths}
    for folder in {path.parent for path in waiting}:
        make_folder(folder)
    said = False
    while (taken := _first_free(waiting)) is None:
        if not said:
            first = next(iter(waiting))
            LOG.warning("%s: another run works on it; waiting. If no other run is alive, delete %s*", what, first)
            said = True
        time.sleep(poll)
    path, release = taken
    try:
        yield path
    finally:
        release()


def claim(path: str | os.PathLike, cure: str) -> bool:
    """Take a lock until this process ends; whether it was free.

    Args:
        path: as of :func:`locked`.
        cure: what to do where its folder cannot be written.

    Raises:
        InputError: the folder cannot be written.
    """
    make_folder(Path(path).parent, cure)
    # Snakemake changes folders, and back before the process ends.
    path, waiting = Path(path).absolute(), _Waiting()
    # The second try is for the file of an owner who is gone, which the first has removed.
    release = _try_flock(path, waiting, cure) or _try_flock(path, waiting, cure)
    if release is not None:
        atexit.register(_unless_forked, os.getpid(), release)
    return release is not None


def _unless_forked(pid: int, release: Callable[[], None]) -> None:
    """A child that ends holds nothing of its parent's."""
    if os.getpid() == pid:
        release()


def _first_free(waiting: Mapping[Path, _Waiting]) -> tuple[Path, Callable[[], None]] | None:
    for path, seen in waiting.items():
        release = _try_flock(path, seen)
        if release is not None:
            return path, release
    return None


def make_folder(folder: str | os.PathLike, cure: str = OF_DATA) -> None:
    """Make a folder, and those above it, where there is none.

    Raises:
        InputError: it cannot be made.
    """
    try:
        os.makedirs(folder, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error, cure) from error


class _Waiting:
    """What a waiting process has seen of a lock file: the state of it, and since when it has not changed."""

    def __init__(self) -> None:
        self.state: tuple[Any, ...] | None = None
        self.since = time.monotonic()

    def unchanged_for(self, state: tuple[Any, ...]) -> float:
        if state != self.state:
            self.state, self.since = state, time.monotonic()
        return time.monotonic() - self.since


def _try_flock(path: Path, waiting: _Waiting, cure: str = OF_DATA) -> Callable[[], None] | None:
    """A function that releases the lock, or None while another process has it."""
    handle = _open(path, cure)
    if handle is None:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(handle)
        if error.errno in _UNSUPPORTED:
            with suppress(PermissionError):
                path.unlink(missing_ok=True)
            with _SAYING:
                _say_unsupported(path.parent)
            return _try_file(path.with_name(f"{path.name}ed"), waiting, cure)
        # NFS locks nothing that cannot be written.
        if error.errno in (errno.EWOULDBLOCK, errno.EACCES, errno.EINTR, errno.EBADF):
            return None
        raise
    if not _is_still(path, handle):
        # Its last owner has removed the file since it was opened.
        os.close(handle)
        return None

    def release() -> None:
        # A killed run of another user left it, in a folder where none removes another's files; it is free all the same.
        with suppress(PermissionError):
            path.unlink(missing_ok=True)
        os.close(handle)

    return release


def _open(path: Path, cure: str) -> int | None:
    """The lock's file; None where it is another user's and cannot even be read, or was just removed.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    except PermissionError as error:
        # It may be free, left by a run that was killed: to lock it, it need not be written.
        try:
            return os.open(path, os.O_RDONLY)
        except PermissionError:
            if os.path.lexists(path):
                return None
        except FileNotFoundError:
            if os.access(path.parent, os.W_OK):
                return None
        raise _unwritable(path.parent, error, cure) from error
    except OSError as error:
        raise _unwritable(path.parent, error, cure) from error


def _unwritable(folder: str | os.PathLike, error: OSError, cure: str) -> InputError:
    return InputError(f"{folder}: cannot be written ({error.strerror}); {cure}")


def _is_still(path: Path, handle: int) -> bool:
    try:
        return os.path.samestat(os.fstat(handle), os.stat(path))
    except FileNotFoundError:
        return False


@functools.cache
def _say_unsupported(folder: Path) -> None:
    """Once a process and folder."""
    LOG.warning("%s: this file system has no flock; lock files stand for it", folder)


def _try_file(path: Path, waiting: _Waiting, cure: str = OF_DATA) -> Callable[[], None] | None:
    """As :func:`_try_flock`, by a file that is created if there is none."""
    token = uuid.uuid4().hex
    owner = {"host": socket.gethostname(), "pid": os.getpid(), "time": time.time(), "token": token}
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    except FileExistsError:
        _remove_if_void(path, waiting)
        return None
    except OSError as error:
        raise _unwritable(path.parent, error, cure) from error
    with open(handle, "w", encoding="utf-8") as file:
        json.dump(owner, file)
    done = threading.Event()

    def touch() -> None:
        while not done.wait(HEARTBEAT):
            with suppress(OSError):
                os.utime(path)

    beating = threading.Thread(target=touch, daemon=True)
    beating.start()

    def release() -> None:
        done.set()
        beating.join()
        if _owner(path).get("token") == token:
            path.unlink(missing_ok=True)

    return release


def _owner(path: Path) -> dict[str, Any]:
    """What a lock file says; nothing where it is gone, or not yet written."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _remove_if_void(path: Path, waiting: _Waiting) -> None:
    """Remove the file of an owner who is gone. One process alone does it: whoever makes the file that says so."""
    owner = _owner(path)
    try:
        state = (owner.get("token"), path.stat().st_mtime_ns)
    except FileNotFoundError:
        return
    gone = owner.get("host") == socket.gethostname() and not _is_alive(owner.get("pid"))
    if not gone and waiting.unchanged_for(state) < VOID_AFTER:
        return
    claim = path.with_name(f"{path.name}.{owner.get('token', 'unreadable')}")
    try:
        os.close(os.open(claim, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))
    except FileExistsError:
        return
    try:
        if _owner(path) == owner:
            LOG.warning("%s: its owner is gone (%s); the lock is void", path, owner or "unreadable")
            path.unlink(missing_ok=True)
    except PermissionError as error:
        raise InputError(f"{path}: left by a run of another user, who must delete it ({error.strerror})") from error
    finally:
        claim.unlink(missing_ok=True)


def _is_alive(pid: Any) -> bool:
    """Whether a process of this computer runs; what cannot be told counts as running."""
    if not isinstance(pid, int) or pid <= 0:
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
