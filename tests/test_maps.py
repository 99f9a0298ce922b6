"""The Zarr store of maps: what goes in comes out, whole or not at all."""

import contextlib
import itertools
import json
import pkgutil
import shutil
import threading

import numpy as np
import pytest
import torch
import zarr
from relmap.errors import InputError
from relmap.evidence.maps import (
    content_sha256,
    open_maps,
    read_maps,
    sidecar,
    verify_maps,
    write_maps,
    writing_maps,
)


@pytest.fixture
def maps():
    return np.random.default_rng(0).normal(size=(10, 8, 6)).astype(np.float32)


IDS = [f"image_{i}" for i in range(10)]
TARGETS = np.arange(10) % 3
SIZES = np.tile([8, 6], (len(IDS), 1))
ATTRS = {"method": "lrp", "seed": 0, "parameters": {"alpha": 1}}


def test_round_trip(tmp_path, maps):
    path = tmp_path / "lrp.zarr"
    write_maps(path, maps, IDS, TARGETS, ATTRS, shard=4)
    read = read_maps(path)
    np.testing.assert_array_equal(read.maps, maps)
    np.testing.assert_array_equal(read.targets, TARGETS)
    assert (read.image_ids, read.attrs) == (IDS, ATTRS)
    some = read_maps(path, slice(3, 5))
    np.testing.assert_array_equal(some.maps, maps[3:5])
    assert some.image_ids == IDS[3:5]


def test_layout(tmp_path, maps):
    path = tmp_path / "lrp.zarr"
    write_maps(path, maps, IDS, TARGETS, ATTRS, shard=4)
    stored = zarr.open_group(path, mode="r")["maps"]
    assert stored.metadata.zarr_format == 3
    assert stored.metadata.dimension_names == ("pair", "y", "x")
    assert (stored.chunks, stored.shards) == ((1, 8, 6), (4, 8, 6))
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["lrp.json", "lrp.zarr"]


def test_sidecar_carries_the_content_hash(tmp_path, maps):
    """The hash is of the content: another sharding keeps it, another value, id or target does not."""
    for name, shard in (("a", 4), ("b", 64)):
        write_maps(tmp_path / f"{name}.zarr", maps, IDS, TARGETS, ATTRS, shard=shard)
    a, b = (json.loads((tmp_path / f"{name}.json").read_text()) for name in "ab")
    assert a == b
    assert a["attrs"] == ATTRS
    assert a["content_sha256"] == verify_maps(tmp_path / "a.zarr")
    changed = maps.copy()
    changed[3, 0, 0] += 1
    assert (
        len(
            {
                content_sha256(m, i, t, s)
                for m, i, t, s in (
                    (maps, IDS, TARGETS, SIZES),
                    (changed, IDS, TARGETS, SIZES),
                    (maps, IDS[::-1], TARGETS, SIZES),
                    (maps, IDS, TARGETS[::-1], SIZES),
                    (maps, IDS, TARGETS, SIZES - 1),
                )
            }
        )
        == 5
    )


def test_maps_of_several_sizes_lie_in_one_frame(tmp_path, maps):
    sizes = SIZES.copy()
    sizes[2] = 5, 4
    with pytest.raises(InputError, match=r"not 0 outside its size \[5, 4\]"):
        write_maps(tmp_path / "lrp.zarr", maps, IDS, TARGETS, ATTRS, sizes=sizes)
    cut = maps.copy()
    cut[2, 5:], cut[2, :, 4:] = 0, 0
    write_maps(tmp_path / "lrp.zarr", cut, IDS, TARGETS, ATTRS, sizes=sizes)
    read = read_maps(tmp_path / "lrp.zarr", slice(1, 4))
    np.testing.assert_array_equal(read.sizes, sizes[1:4])
    np.testing.assert_array_equal(read.maps, cut[1:4])
    verify_maps(tmp_path / "lrp.zarr")
    with pytest.raises(InputError, match="give a height and width of each"):
        write_maps(tmp_path / "lrp.zarr", maps, IDS, TARGETS, ATTRS, sizes=sizes + 9)


def test_a_changed_store_is_noticed(tmp_path, maps):
    path = tmp_path / "lrp.zarr"
    write_maps(path, maps, IDS, TARGETS, ATTRS)
    zarr.open_group(path, mode="r+")["maps"][2] = 0
    with pytest.raises(InputError, match=r"lrp\.zarr.*image_2 for target 2 does not match"):
        verify_maps(path)


def changed_bytes(path, seed):
    """Ten bytes flipped in a file, none of them in the index at its end."""
    data = bytearray(path.read_bytes())
    for place in np.random.default_rng(seed).choice(len(data) - 200, 10, replace=False):
        data[place] ^= 0xFF
    path.write_bytes(data)


DAMAGE = {
    "a shard lost": lambda store: (store / "maps/c/1/0/0").unlink(),
    "all shards lost": lambda store: shutil.rmtree(store / "maps" / "c"),
    "bytes flipped": lambda store: changed_bytes(store / "maps/c/1/0/0", 0),
    "other bytes flipped": lambda store: changed_bytes(store / "maps/c/1/0/0", 1),
    "a shard cut": lambda store: (store / "maps/c/1/0/0").write_bytes((store / "maps/c/1/0/0").read_bytes()[:-50]),
    "NaN": lambda store: zarr.open_group(store, mode="r+")["maps"].__setitem__((5, 0, 0), np.nan),
    "targets": lambda store: zarr.open_group(store, mode="r+")["target"].__setitem__(5, 9),
    "digests": lambda store: zarr.open_group(store, mode="r+")["sha256"].__setitem__((5, 0), 9),
    "sizes": lambda store: zarr.open_group(store, mode="r+")["size"].__setitem__((5, 0), 7),
    "ids": lambda store: zarr.open_group(store, mode="r+").attrs.__setitem__("image_ids", ["image_x", *IDS[1:]]),
    "a shorter store": lambda store: zarr.open_group(store, mode="r+")["maps"].resize((9, 8, 6)),
    "no manifest": lambda store: sidecar(store).unlink(),
    "another manifest": lambda store: sidecar(store).write_text("[]"),
    "no metadata": lambda store: (store / "maps" / "zarr.json").unlink(),
    "metadata cut": lambda store: (store / "zarr.json").write_text("{"),
}


@pytest.mark.parametrize("how", DAMAGE)
def test_what_is_damaged_is_an_error_that_names_the_store_whenever_it_is_read(tmp_path, maps, how):
    path = tmp_path / "lrp.zarr"
    write_maps(path, maps, IDS, TARGETS, ATTRS, shard=4)
    DAMAGE[how](path)
    with pytest.raises(InputError, match=r"lrp\.(zarr|json).*run (again|the rule)"):
        read_maps(path)


def test_what_is_whole_is_read_though_other_maps_are_damaged(tmp_path, maps):
    path = tmp_path / "lrp.zarr"
    write_maps(path, maps, IDS, TARGETS, ATTRS, shard=4)
    (path / "maps/c/1/0/0").unlink()
    store = open_maps(path)
    np.testing.assert_array_equal(store.at(np.array([9, 0, 3])), maps[[9, 0, 3]])
    with pytest.raises(InputError, match="image_4 for target 1"):
        store.at(np.array([0, 4]))


@pytest.mark.parametrize("steps", [[10], [1] * 10, [3, 4, 3], [0, 9, 1]])
def test_maps_that_come_in_parts_are_the_store_of_all(tmp_path, maps, steps):
    write_maps(tmp_path / "whole.zarr", maps, IDS, TARGETS, ATTRS, shard=4)
    with writing_maps(tmp_path / "parts.zarr", (8, 6), IDS, TARGETS, ATTRS, shard=4) as writer:
        for start, count in zip(np.cumsum([0, *steps]), steps, strict=False):
            writer.append(maps[start : start + count])
    assert sidecar(tmp_path / "parts.zarr").read_bytes() == sidecar(tmp_path / "whole.zarr").read_bytes()
    np.testing.assert_array_equal(
        np.concatenate([part.maps for part in open_maps(tmp_path / "parts.zarr").parts()]), maps
    )


@pytest.mark.parametrize("given", [9, 11])
def test_as_many_maps_must_come_as_were_announced(tmp_path, maps, given):
    with (
        pytest.raises(InputError, match=r"lrp.* do not fit"),
        writing_maps(tmp_path / "lrp.zarr", (8, 6), IDS, TARGETS, ATTRS) as writer,
    ):
        writer.append(np.concatenate([maps, maps])[:given])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_map_that_is_not_finite_is_refused_and_nothing_is_written(tmp_path, maps, bad):
    maps[7, 1, 1] = bad
    with pytest.raises(InputError, match=r"lrp for image image_7.*NaN or infinity"):
        write_maps(tmp_path / "lrp.zarr", maps, IDS, TARGETS, ATTRS)
    assert list(tmp_path.iterdir()) == []


def test_lengths_and_ids_must_fit(tmp_path, maps):
    with pytest.raises(InputError, match="do not fit"):
        write_maps(tmp_path / "x.zarr", maps, IDS[:-1], TARGETS, ATTRS)
    with pytest.raises(InputError, match="image_0 occurs more than once with target 0"):
        write_maps(tmp_path / "x.zarr", maps, [*IDS[:-1], "image_0"], TARGETS, ATTRS)


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("already_there", [True, False])
def test_a_failure_at_any_step_leaves_the_old_store_or_the_new(tmp_path, maps, monkeypatch, already_there, error):
    """Every call of what writes, moves or removes fails once, before it does its work and after."""
    path, steps = tmp_path / "lrp.zarr", 0
    places = ["os.replace", "os.mkdir", "pathlib.Path.write_text", "zarr.create_group", "zarr.Group.create_array"]
    for place in places:
        for after in (False, True):
            for which in range(9):
                for entry in (path, sidecar(path)):
                    shutil.rmtree(entry) if entry.is_dir() else entry.unlink(missing_ok=True)
                if already_there:
                    write_maps(path, maps, IDS, TARGETS, ATTRS)
                old = verify_maps(path) if already_there else None
                with monkeypatch.context() as patch:
                    reached = failing_once(patch, place, which, after, error)
                    with contextlib.suppress(error):
                        write_maps(path, maps + 1, IDS, TARGETS, ATTRS)
                if not reached:
                    break
                steps += 1
                left = sorted(entry.name for entry in tmp_path.iterdir() if not entry.name.endswith(".part"))
                if left == []:
                    assert not already_there
                    continue
                assert left == ["lrp.json", "lrp.zarr"], (place, which, after)
                found = verify_maps(path)
                assert found == old or np.array_equal(read_maps(path).maps, maps + 1), (place, which, after)
    assert steps > 10


def failing_once(patch, place, which, after, error):
    """Let the call number ``which`` of a function fail; what comes back is not empty once it has."""
    owner, _, name = place.rpartition(".")
    owner, reached, calls = pkgutil.resolve_name(owner), [], itertools.count()
    true = getattr(owner, name)

    def fails(*args, **kwargs):
        # In zarr's own thread an interruption would stop the thread, for good.
        if threading.current_thread() is not threading.main_thread() or next(calls) != which:
            return true(*args, **kwargs)
        reached.append(args)
        if after:
            true(*args, **kwargs)
        raise error

    patch.setattr(owner, name, fails)
    return reached


@pytest.mark.parametrize(
    ("attrs", "message"),
    [
        ({"epsilon": np.float32(1e-6)}, r"`attrs.epsilon` is .*\(float32\)"),
        ({"parameters": {"low": [0.0, np.nan]}}, r"`attrs.parameters.low.1` is nan"),
        ({"weights": torch.zeros(2)}, r"`attrs.weights` is .*\(Tensor\)"),
        ({"parameters": {(1, 2): 3}}, r"with text as keys"),
    ],
)
def test_attributes_that_json_cannot_hold_are_refused_before_anything_is_written(tmp_path, maps, attrs, message):
    path = tmp_path / "lrp.zarr"
    write_maps(path, maps, IDS, TARGETS, ATTRS)
    digest = verify_maps(path)
    with pytest.raises(InputError, match=message):
        write_maps(path, maps + 1, IDS, TARGETS, {**ATTRS, **attrs})
    assert verify_maps(path) == digest
    with pytest.raises(InputError, match="whole numbers"):
        write_maps(path, maps + 1, IDS, TARGETS + 0.5, ATTRS)
    assert verify_maps(path) == digest


def test_a_manifest_says_what_its_store_says(tmp_path, maps):
    path = tmp_path / "lrp.zarr"
    write_maps(path, maps, IDS, TARGETS, ATTRS)
    zarr.open_group(path, mode="r+").attrs["attrs"] = {**ATTRS, "method": "another"}
    with pytest.raises(InputError, match="does not match"):
        verify_maps(path)


def test_reading_what_is_not_a_store(tmp_path):
    with pytest.raises(InputError, match="no such store"):
        read_maps(tmp_path / "absent.zarr")
    zarr.create_group(tmp_path / "other.zarr")
    with pytest.raises(InputError, match="not a store of relevance maps"):
        read_maps(tmp_path / "other.zarr")
