"""Whole-or-absent files, and seeds."""

import errno
import itertools
import os

import pytest
import torch
from relmap.errors import InputError
from relmap.job.files import atomic_path, atomic_paths, read_json, write_json
from relmap.job.seeds import derive, generator


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


def test_seeds_depend_on_their_purpose_alone():
    assert derive(0, "a", 1) == derive(0, "a", 1)
    assert len({derive(0, "a", 1), derive(1, "a", 1), derive(0, "b", 1), derive(0, "a1"), derive(0, "a", 1, "")}) == 5
    assert torch.equal(torch.rand(3, generator=generator(5, "x")), torch.rand(3, generator=generator(5, "x")))
