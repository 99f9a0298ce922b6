"""Whole-or-absent files, and seeds."""

import errno

import pytest
import torch
from relmap.errors import InputError
from relmap.job.files import atomic_path, read_json, write_json
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


def test_seeds_depend_on_their_purpose_alone():
    assert derive(0, "a", 1) == derive(0, "a", 1)
    assert len({derive(0, "a", 1), derive(1, "a", 1), derive(0, "b", 1), derive(0, "a1"), derive(0, "a", 1, "")}) == 5
    assert torch.equal(torch.rand(3, generator=generator(5, "x")), torch.rand(3, generator=generator(5, "x")))
