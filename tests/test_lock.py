"""One process at a time, with flock and without it."""

import errno
import fcntl
import json
import logging
import os
import socket
import subprocess
import sys
import threading
import time

import pytest
from relmap.errors import InputError
from relmap.job import lock
from relmap.job.lock import claim, locked


def unsupported(*_):
    raise OSError(errno.ENOLCK, "No locks available")


@pytest.fixture(params=["flock", "lock file"])
def kind(request, monkeypatch):
    if request.param == "lock file":
        monkeypatch.setattr(fcntl, "flock", unsupported)
        lock._say_unsupported.cache_clear()
    return request.param


def test_blocks_never_overlap_and_the_second_says_that_it_waits(tmp_path, kind, caplog):
    inside, seen = [], []

    def work():
        with locked(tmp_path / ".x.lock", "x.tar", poll=0.005):
            inside.append(1)
            seen.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    with caplog.at_level(logging.WARNING):
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == [1] * 4
    assert "x.tar: another run works on it; waiting" in caplog.text
    assert caplog.text.count("has no flock; lock files stand for it") == (kind == "lock file")
    assert list(tmp_path.iterdir()) == []


def test_a_lock_ends_with_its_block_whatever_happens(tmp_path, kind):
    with pytest.raises(ValueError, match="inside"), locked(tmp_path / ".x.lock", "x"):
        raise ValueError("inside")
    with locked(tmp_path / ".x.lock", "x"):
        pass


def test_a_killed_owner_holds_nothing(tmp_path, kind):
    """Of flock the kernel sees to it; of a lock file the process that waits."""
    code = (
        "import errno, fcntl, os, sys, time\n"
        "from relmap.job.lock import locked\n"
        "def unsupported(*_): raise OSError(errno.ENOSYS, '')\n"
        f"if {kind != 'flock'}: fcntl.flock = unsupported\n"
        "with locked(sys.argv[1], 'x'):\n"
        "    print('held', flush=True); os.kill(os.getpid(), 9)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / ".x.lock")], capture_output=True, text=True)
    assert done.stdout == "held\n" and done.returncode == -9
    with locked(tmp_path / ".x.lock", "x", poll=0.005):
        pass


def test_the_owner_on_another_computer_is_gone_when_nobody_touches_its_file(tmp_path, monkeypatch, caplog):
    def unsupported(*_):
        raise OSError(errno.EINVAL, "Invalid argument")

    monkeypatch.setattr(fcntl, "flock", unsupported)
    held = tmp_path / ".x.locked"
    held.write_text(json.dumps({"host": f"not-{socket.gethostname()}", "pid": 1, "token": "t"}))
    # Its clock is an hour ahead, which must not matter.
    os.utime(held, (time.time() + 3600,) * 2)
    waiting = lock._Waiting()
    monkeypatch.setattr(lock, "VOID_AFTER", 0.2)
    assert lock._try_file(held, waiting) is None and held.exists()
    time.sleep(0.15)
    os.utime(held)  # a heartbeat
    assert lock._try_file(held, waiting) is None and held.exists()
    time.sleep(0.15)
    assert lock._try_file(held, waiting) is None and held.exists(), "touched less than VOID_AFTER ago"
    time.sleep(0.2)
    assert lock._try_file(held, waiting) is None and not held.exists()
    release = lock._try_file(held, waiting)
    assert json.loads(held.read_text())["pid"] == os.getpid()
    release()
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_of_another_user_left_is_free(tmp_path, monkeypatch):
    """It may be read and not written, and perhaps not removed."""
    true = os.open
    path = tmp_path / ".x.lock"
    path.touch()

    def others(name, flags, *mode):
        if name == path and flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "Permission denied")
        return true(name, flags, *mode)

    monkeypatch.setattr(os, "open", others)
    with locked(path, "x"):
        holds = lock._try_flock(path, lock._Waiting())
        assert holds is None, "who reads it excludes others all the same"
    assert not path.exists()
    path.touch()
    monkeypatch.setattr(type(path), "unlink", _denied)
    with locked(path, "x"):
        pass
    with locked(path, "x"):
        assert path.exists()


def _denied(*_, **__):
    raise PermissionError(errno.EPERM, "Operation not permitted")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path, monkeypatch, number, what):
    call = "mkdir" if what == "folder" else "open"
    true = getattr(os, call)

    def fails(path, how, *others):
        if str(path).startswith(str(tmp_path)) and (what == "folder" or how & os.O_CREAT):
            raise OSError(number, os.strerror(number))
        return true(path, how, *others)

    monkeypatch.setattr(os, call, fails)
    monkeypatch.setattr(os, "access", lambda *_: False)
    folder = tmp_path / "data" if what == "folder" else tmp_path
    message = rf"{folder.name}: cannot be written \({os.strerror(number)}\); set `data_root` to a folder of your own"
    with pytest.raises(InputError, match=message), locked(folder / ".x.lock", "x"):
        pass


def test_other_errors_are_not_hidden(tmp_path, monkeypatch):
    def broken(*_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(fcntl, "flock", broken)
    with pytest.raises(OSError, match="Input/output error"), locked(tmp_path / ".x.lock", "x"):
        pass


def test_a_claim_lasts_as_long_as_its_process(tmp_path, kind, monkeypatch):
    held = []
    monkeypatch.setattr(lock.atexit, "register", lambda call, *given: held.append(lambda: call(*given)))
    assert claim(tmp_path / "new" / ".lock", "cure") and not claim(tmp_path / "new" / ".lock", "cure")
    held.pop()()
    assert list((tmp_path / "new").iterdir()) == [] and claim(tmp_path / "new" / ".lock", "cure")
    held.pop()()
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    assert claim("new/.lock", "cure")
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr(lock.os, "getpid", lambda: -1)
    held[-1]()
    assert list((tmp_path / "new").iterdir()), "another process, a child, releases nothing"
    monkeypatch.undo()
    monkeypatch.setattr(lock.atexit, "register", lambda call, *given: held.append(lambda: call(*given)))
    if kind == "lock file":
        monkeypatch.setattr(fcntl, "flock", unsupported)
    held.pop()()
    assert list((tmp_path / "new").iterdir()) == [], "its own, wherever the process is by then"
    gone = {"host": socket.gethostname(), "pid": 2**22 + 1, "time": 0, "token": "of one that was killed"}
    (tmp_path / "new" / ".locked").write_text(json.dumps(gone))
    assert claim(tmp_path / "new" / ".lock", "cure"), "of an owner who is gone"
    held.pop()()
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"cannot be written .*; the cure"):
        claim(tmp_path / "file" / ".lock", "the cure")
