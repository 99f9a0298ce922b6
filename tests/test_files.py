"""Whole-or-absent files, and seeds."""

import errno
import itertools
import os
import re
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from relmap.errors import InputError
from relmap.evidence.evaluation import write_parquet
from relmap.job.files import atomic_path, atomic_paths, read_json, sweep, write_json
from relmap.job.parquet import read_parquet
from relmap.job.seeds import derive, generator
from relmap.models import checkpoint

ROOT = Path(__file__).parents[1]


def test_a_file_appears_only_when_it_is_complete(tmp_path):
    path = tmp_path / "made" / "table.csv"
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert temporary.suffix == ".csv"
        assert not path.exists()
    assert path.read_text() == "whole"
    assert [item.name for item in path.parent.iterdir()] == ["table.csv"]


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("old")
    with pytest.raises(ValueError, match="on the way"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise ValueError("on the way")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["table.csv"]


def test_a_folder_is_replaced_whole(tmp_path):
    path = tmp_path / "store.zarr"
    for content in ("first", "second"):
        with atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / content).touch()
    assert [item.name for item in path.iterdir()] == ["second"]


def test_files_that_belong_together_are_all_new_or_all_old(tmp_path, monkeypatch):
    """Whichever move fails; also where a folder takes a file's place, and a file a folder's."""
    a, b, c = tmp_path / "a.csv", tmp_path / "b.zarr", tmp_path / "c.md"
    a.write_text("old")
    b.mkdir()
    (b / "old").touch()

    def write(paths):
        paths[0].mkdir()
        paths[1].write_text("new")
        paths[2].write_text("new")

    true = os.replace
    for which in range(5):
        calls = itertools.count()

        def fails(*args, calls=calls, which=which):
            if next(calls) == which:
                raise KeyboardInterrupt
            true(*args)

        monkeypatch.setattr("os.replace", fails)
        with pytest.raises(KeyboardInterrupt), atomic_paths(a, b, c) as temporaries:
            write(temporaries)
        assert sorted(item.name for item in tmp_path.iterdir()) == ["a.csv", "b.zarr"]
        assert a.read_text() == "old" and [item.name for item in b.iterdir()] == ["old"]
    monkeypatch.undo()
    with atomic_paths(a, b, c) as temporaries:
        write(temporaries)
    assert a.is_dir() and b.read_text() == c.read_text() == "new"
    assert sorted(item.name for item in tmp_path.iterdir()) == ["a.csv", "b.zarr", "c.md"]


def test_a_full_disk_is_named_with_a_cure_and_leaves_nothing(tmp_path):
    full = pytest.raises(InputError, match=r"table\.csv: no space left on the disk; free some")
    with full, atomic_path(tmp_path / "table.csv") as temporary:
        temporary.write_text("half")
        raise OSError(errno.ENOSPC, "No space left on device")
    assert not list(tmp_path.iterdir())


def test_libraries_that_find_a_full_disk_say_disk(tmp_path, monkeypatch):
    """/dev/full stands for one; safetensors writes a file of its own, so that its words are given here."""
    from safetensors import SafetensorError

    for name, error in (
        ("weights.safetensors", SafetensorError("I/O error: No space left on device (os error 28)")),
        ("quota.csv", OSError(errno.EDQUOT, "Disk quota exceeded")),
    ):
        full = pytest.raises(InputError, match=rf"{name}: no space left on the disk; free some")
        with full, atomic_path(tmp_path / name):
            raise error

    @contextmanager
    def on_a_full_disk(path):
        with atomic_path(path) as temporary:
            temporary.symlink_to("/dev/full")
            yield temporary

    monkeypatch.setattr(checkpoint, "atomic_path", on_a_full_disk)
    module = torch.nn.Linear(400, 400)
    given = (module, torch.optim.SGD(module.parameters()), torch.amp.GradScaler("cpu"), checkpoint.State())
    with pytest.raises(InputError, match=r"checkpoint\.pt: no space left on the disk; free some"):
        checkpoint.store(tmp_path / "checkpoint.pt", "digest", *given)
    with pytest.raises(RuntimeError, match="another reason"), atomic_path(tmp_path / "x"):
        raise RuntimeError("another reason")
    assert not list(tmp_path.iterdir())


def test_what_is_written_may_be_read_as_the_umask_says(tmp_path):
    def write(path):
        with atomic_path(path) as temporary:
            temporary.mkdir()
            (temporary / "inner").mkdir(mode=0o700)
            os.close(os.open(temporary / "inner" / "file", os.O_CREAT, 0o600))
        with atomic_path(path.with_suffix(".txt")) as temporary:
            os.close(os.open(temporary, os.O_CREAT, 0o600))

    def mode(path):
        return oct(path.stat().st_mode & 0o777)

    for umask, file, folder in ((0o022, "0o644", "0o755"), (0o007, "0o660", "0o770"), (0o077, "0o600", "0o700")):
        old = os.umask(umask)
        try:
            write(tmp_path / "store")
        finally:
            os.umask(old)
        assert [mode(tmp_path / name) for name in ("store.txt", "store/inner/file")] == [file] * 2
        assert [mode(tmp_path / name) for name in ("store", "store/inner")] == [folder] * 2
    # What is linked from elsewhere belongs to somebody else.
    (tmp_path / "mirror").touch(mode=0o400)
    with atomic_path(tmp_path / "linked") as temporary:
        os.link(tmp_path / "mirror", temporary)
    assert mode(tmp_path / "mirror") == "0o400"


def test_json_survives_and_broken_json_is_named(tmp_path):
    write_json(tmp_path / "card.json", {"images": 3})
    assert read_json(tmp_path / "card.json") == {"images": 3}
    (tmp_path / "card.json").write_text("{")
    with pytest.raises(InputError, match=r"card\.json: not valid JSON.*delete it"):
        read_json(tmp_path / "card.json")
    with pytest.raises(InputError, match=r"absent\.json: no such file"):
        read_json(tmp_path / "absent.json")


def test_what_json_cannot_hold_is_named_and_leaves_the_old_file(tmp_path):
    write_json(tmp_path / "card.json", {"images": 3})
    for value, message in (
        ({"a": [1, {"b": {1, 2}}]}, r"`a\.1\.b` is {1, 2} \(set\)"),
        ({"a": float("inf")}, "`a` is inf"),
    ):
        with pytest.raises(InputError, match=rf"card\.json: {message}"):
            write_json(tmp_path / "card.json", value)
    assert read_json(tmp_path / "card.json") == {"images": 3}


def test_a_truncated_table_is_named_with_its_cure(tmp_path):
    path = tmp_path / "scores.parquet"
    frame = pd.DataFrame({"image_id": [f"bird_{i}" for i in range(500)], "value": np.linspace(0, 1, 500)})
    write_parquet(frame, path)
    pd.testing.assert_frame_equal(read_parquet(path), frame)
    assert list(read_parquet(path, ["value"])) == ["value"]
    content = path.read_bytes()
    for length in (0, 3, 100, len(content) // 2, len(content) - 9, len(content) - 1):
        path.write_bytes(content[:length])
        with pytest.raises(InputError, match=r"scores\.parquet: truncated, or .*; delete it and run") as caught:
            read_parquet(path)
        assert "\n" not in str(caught.value)
    # Ten flipped bytes of the values, which have no other guard than the sum of their page.
    middle = len(content) // 2
    flipped = bytes(byte ^ 255 for byte in content[middle : middle + 10])
    path.write_bytes(content[:middle] + flipped + content[middle + 10 :])
    with pytest.raises(InputError, match=r"scores\.parquet: truncated, or .*; delete it and run"):
        read_parquet(path)
    with pytest.raises(InputError, match=r"absent\.parquet: no such file; run the rule that makes it"):
        read_parquet(tmp_path / "absent.parquet")


def test_every_table_is_read_so():
    """Outside of these files nobody reads Parquet without a word for one that is broken."""
    names = ("job/parquet", "report/reading")
    allowed = {f"workflow/relmap/{name}.py" for name in names}
    calls = re.compile(r"\b(?:pd\.read_parquet|pq\.read_\w+|pq\.ParquetFile|ParquetDataset)\b")
    scripts = [path for room in ("workflow", "papers", "notebooks") for path in (ROOT / room).rglob("*")]
    found = [path for path in scripts if path.suffix in (".py", ".ipynb") and calls.search(path.read_text("utf-8"))]
    assert {path.relative_to(ROOT).as_posix() for path in found} == allowed


def test_seeds_depend_on_their_purpose_alone():
    assert derive(0, "a", 1) == derive(0, "a", 1)
    assert len({derive(0, "a", 1), derive(1, "a", 1), derive(0, "b", 1), derive(0, "a1"), derive(0, "a", 1, "")}) == 5
    assert torch.equal(torch.rand(3, generator=generator(5, "x")), torch.rand(3, generator=generator(5, "x")))


def test_what_killed_processes_left_is_swept_and_nothing_else(tmp_path):
    for name in ("maps/.a.zarr.x1.part/a.zarr/c", "maps/b.zarr/.c.part", ".hidden", "d.part"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / ".e.bin.part").write_text("a download that will go on")
    assert sweep(tmp_path) == [tmp_path / "maps" / ".a.zarr.x1.part"]
    left = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*"))
    assert left == [".e.bin.part", ".hidden", "d.part", "maps", "maps/b.zarr", "maps/b.zarr/.c.part"]
    assert sweep(tmp_path / "absent") == []
