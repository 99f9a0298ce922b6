"""Extraction: whole or nothing, inside or nothing."""

import bz2
import gzip
import hashlib
import io
import json
import lzma
import shutil
import stat
import tarfile
import tracemalloc
import zipfile
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor

import pytest
from relmap.data.retrieve import archive as module
from relmap.data.retrieve.archive import MARKS, Limits, check_unpacked, extract, unpack
from relmap.errors import InputError

FILES = {"data/a.txt": b"alpha" * 300, "data/deep/b.txt": b"beta", "top.txt": b"top"}


def member(name, size=0, kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = size, kind, link
    return info


def tar_bytes(files, extra=()):
    """A plain tar of ``files``, then of the bare members ``extra``."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            tar.addfile(member(name, len(content)), io.BytesIO(content))
        for info in extra:
            tar.addfile(info)
    return stream.getvalue()


def write_tar(path, files=FILES, extra=()):
    content = tar_bytes(files, extra)
    path.write_bytes(gzip.compress(content) if path.suffix in (".tgz", ".gz") else content)
    return path


def write_zip(path, files=FILES):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name, content in files.items():
            zipped.writestr(name, content)
    return path


def content_of(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out"


@pytest.mark.parametrize("name", ["x.tar", "x.tgz", "x.tar.gz", "x.zip"])
def test_every_format(tmp_path, out, name):
    write = write_zip if name.endswith("zip") else write_tar
    assert extract(write(tmp_path / name), out) == out
    assert content_of(out) == FILES
    assert not [p for p in out.iterdir() if p.name.startswith(".")]


def test_a_tar_of_tars(tmp_path, out):
    inner = {f"n0144076{i}.tar": tar_bytes({f"n0144076{i}_1.JPEG": b"jpeg%d" % i}) for i in (4, 5)}
    extract(write_tar(tmp_path / "ILSVRC2012_img_train.tar", inner), out)
    assert content_of(out) == {f"n0144076{i}/n0144076{i}_1.JPEG": b"jpeg%d" % i for i in (4, 5)}


def test_folders_are_merged_and_files_replaced(tmp_path, out):
    extract(write_tar(tmp_path / "first.tar"), out)
    extract(write_tar(tmp_path / "second.tar", {"data/a.txt": b"new", "data/deep/c.txt": b"c"}), out)
    assert content_of(out) == FILES | {"data/a.txt": b"new", "data/deep/c.txt": b"c"}


def test_what_a_killed_run_left_is_removed(tmp_path, out):
    archive = write_tar(tmp_path / "x.tar")
    (out / ".x.tar.extracting").mkdir(parents=True)
    (out / ".x.tar.extracting" / "stale.txt").write_text("stale")
    extract(archive, out)
    assert content_of(out) == FILES


@pytest.mark.parametrize("write", [write_tar, write_zip], ids=["tar", "zip"])
def test_long_names_are_refused_before_anything_is_written(tmp_path, out, write, monkeypatch):
    long = {
        "a" * 256: "a name of 256 bytes",
        "ü" * 128 + ".txt": "a name of 260 bytes",
        "d/" * 2048 + "a": "its path is",
    }
    monkeypatch.setattr(module._Writer, "write", lambda *_: pytest.fail("written"))
    for name, reason in long.items():
        archive = write(tmp_path / "x.zip", {name: b"x"})
        with pytest.raises(InputError, match=rf"x\.zip: member .* is refused, {reason}") as caught:
            extract(archive, out)
        assert len(str(caught.value)) < 500 and list(out.iterdir()) == []


def test_links_and_encryption_in_a_zip_are_refused(tmp_path, out):
    archive = write_zip(tmp_path / "link.zip")
    with zipfile.ZipFile(archive, "a") as zipped:
        info = zipfile.ZipInfo("link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        zipped.writestr(info, "/etc/passwd")
    with pytest.raises(InputError, match="member 'link' is refused, it is a link"):
        extract(archive, out)
    content = bytearray(write_zip(tmp_path / "locked.zip", {"a": b"x"}).read_bytes())
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "locked.zip").write_bytes(bytes(content))
    with pytest.raises(InputError, match="member 'a' is refused, it is encrypted"):
        extract(tmp_path / "locked.zip", out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("name", ["x.tar", "x.tgz", "x.zip"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.6, 0.9])
def test_a_truncated_archive_is_named(tmp_path, out, name, share):
    # Noise does not shrink, so every share cuts through a member.
    noise = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(900))
    files = {"a/one": noise, "a/two": noise[::-1]}
    path = (write_zip if name.endswith("zip") else write_tar)(tmp_path / name, files)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match=rf"{name}: truncated, corrupt, or .*; delete it and retrieve it again"):
        extract(path, out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("nested", [False, True])
def test_a_tar_cut_between_two_members_is_truncated(tmp_path, out, nested):
    content = tar_bytes({"a": b"1", "b": b"2"})[: 2 * 512]
    if nested:
        content = tar_bytes({"n1.tar": content})
    (tmp_path / "x.tar").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.tar: truncated.*" + (r"n1\.tar inside it" if nested else "the end of")):
        extract(tmp_path / "x.tar", out)
    assert list(out.iterdir()) == []


_PACK = {"tar": bytes, "tgz": gzip.compress, "tar.bz2": bz2.compress, "tar.xz": lzma.compress}


@pytest.mark.parametrize("kind", _PACK)
def test_what_follows_the_end_of_a_tar_is_noticed(tmp_path, out, kind):
    content, path = tar_bytes(FILES), tmp_path / f"x.{kind}"
    for inside, behind in ((b"evil", b""), (b"", b"evil"), (b"", bytes(9) + b"evil")):
        path.write_bytes(_PACK[kind](content + inside) + behind)
        with pytest.raises(InputError, match=rf"x\.{kind}: truncated, corrupt"):
            extract(path, out)
        assert list(out.iterdir()) == []
    # Zeros fill a record, and streams may follow each other.
    padding = b"" if kind == "tar.xz" else bytes(16)
    path.write_bytes(_PACK[kind](content + bytes(512)) + _PACK[kind](bytes(10240)) + padding)
    extract(path, out)
    assert content_of(out) == FILES


def test_what_follows_the_end_of_a_nested_tar_is_noticed(tmp_path, out):
    archive = write_tar(tmp_path / "x.tar", {"n1.tar": tar_bytes({"a": b"1"}) + b"evil"})
    with pytest.raises(InputError, match=r"n1\.tar inside it: something follows its end"):
        extract(archive, out)
    assert list(out.iterdir()) == []


def test_what_surrounds_a_zip_is_noticed(tmp_path, out):
    content, path = write_zip(tmp_path / "y.zip").read_bytes(), tmp_path / "x.zip"
    for whole in (content + b"evil", b"evil" + content):
        path.write_bytes(whole)
        with pytest.raises(InputError, match=r"x\.zip: truncated, corrupt"):
            extract(path, out)
        assert list(out.iterdir()) == []
    with zipfile.ZipFile(tmp_path / "y.zip", "a") as zipped:
        zipped.comment = b"a comment belongs to it"
    assert content_of(extract(tmp_path / "y.zip", out)) == FILES


def test_a_tar_whose_last_member_is_a_zip_is_a_tar(tmp_path, out):
    files = {**FILES, "z.zip": write_zip(tmp_path / "z.zip", {"inner": b"x"}).read_bytes()}
    assert content_of(extract(write_tar(tmp_path / "x.tar", files), out)) == files


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE], ids=["long name", "pax"])
@pytest.mark.parametrize("nested", [False, True])
def test_what_a_tar_says_of_a_member_takes_no_memory(tmp_path, out, kind, nested):
    """tarfile would read it whole, from a few kilobytes gigabytes."""
    size = 32 << 20
    content = member("././@LongLink", size, kind).tobuf(tarfile.GNU_FORMAT) + b"a" * size + tar_bytes(FILES)
    archive = write_tar(tmp_path / "x.tgz", {"n1.tar": content} if nested else FILES)
    if not nested:
        archive.write_bytes(gzip.compress(content))
    del content
    tracemalloc.start()
    with pytest.raises(InputError, match=r"x\.tgz: .*what it says of one member takes more than 1048576 bytes"):
        extract(archive, out)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20 and list(out.iterdir()) == []


@pytest.mark.parametrize(
    "said",
    [
        {"size": "-1"},
        {"GNU.sparse.map": "0,x", "GNU.sparse.size": "9"},
        {"GNU.sparse.map": "0,1", "GNU.sparse.size": "-5"},
    ],
)
def test_numbers_of_a_tar_that_are_none_are_refused(tmp_path, out, said):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        info = member("a", 5)
        info.pax_headers = said
        tar.addfile(info, io.BytesIO(b"12345"))
    with pytest.raises(InputError, match=r"x\.tar: truncated, corrupt"):
        extract(path, out)
    assert list(out.iterdir()) == []


def test_headers_of_headers_end(tmp_path, out):
    empty = member("x", 0, tarfile.XHDTYPE).tobuf(tarfile.USTAR_FORMAT)
    (tmp_path / "x.tar").write_bytes(empty * 1500 + tar_bytes(FILES))
    with pytest.raises(InputError, match=r"x\.tar: truncated, corrupt"):
        extract(tmp_path / "x.tar", out)
    assert list(out.iterdir()) == []


def test_the_checksum_of_a_compressed_tar_counts(tmp_path, out):
    """It stands behind the last member, where tarfile stops to read."""
    path = write_tar(tmp_path / "x.tgz")
    content = bytearray(path.read_bytes())
    content[-8] ^= 1
    path.write_bytes(bytes(content))
    with pytest.raises(InputError, match=r"x\.tgz: truncated, corrupt.*CRC check failed"):
        extract(path, out)
    assert list(out.iterdir()) == []


def test_a_mark_says_what_an_archive_became_and_what_is_lost_is_noticed(tmp_path, out):
    first = write_tar(tmp_path / "a.tar")
    second = write_tar(tmp_path / "b.tar", {"data/b.txt": b"b", "data/a.txt": b"new"})
    for archive in (first, second):
        mark = unpack(archive, out)
        assert mark == out / MARKS / archive.name
    check_unpacked(out)
    assert json.loads((out / MARKS / "a.tar").read_text()) | {"archive": None} == {
        "archive": None,
        "files": 3,
        "bytes": sum(map(len, FILES.values())),
        # Two files, and the folder "deep"; hidden marks do not count.
        "folders": {".": 2, "data": 2, "data/deep": 1},
    }
    (out / "data" / "b.txt").unlink()
    with pytest.raises(InputError, match=r"data: has 2 of the 3 entries .* b\.tar was unpacked; delete .*/b\.tar and"):
        check_unpacked(out)
    shutil.rmtree(out / "data" / "deep")
    with pytest.raises(InputError, match=r"data: has 1 of the 2 entries that it had when a\.tar"):
        check_unpacked(out)
    unpack(first, out), unpack(second, out)
    check_unpacked(out)
    unpack(first, out, "elsewhere")
    assert content_of(out / "elsewhere") == FILES, "a mark of another folder does not count"
    # Marks of earlier versions are empty, and data that was put there has none.
    (out / MARKS / "a.tar").write_text("")
    check_unpacked(out), check_unpacked(tmp_path / "nowhere")


def test_two_runs_that_unpack_one_archive_take_turns(tmp_path, out, monkeypatch):
    archives = [write_tar(tmp_path / f"{name}.tar", {f"data/{name}{i}": b"x" for i in range(50)}) for name in "ab"]
    calls, true = [], module._untar_file
    monkeypatch.setattr(module, "_untar_file", lambda *args: (calls.append(args), true(*args)))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda archive: unpack(archive, out), archives * 4))
    assert len(calls) == 2, "whoever comes second finds the mark"
    assert len(list((out / "data").iterdir())) == 100
    check_unpacked(out)
    assert {path.name for path in out.iterdir()} == {"data", MARKS}
    assert {path.name for path in (out / MARKS).iterdir()} == {"a.tar", "b.tar"}


def test_a_flipped_byte_in_a_zip_is_noticed(tmp_path, out):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as zipped:
        zipped.writestr("a", b"0123456789" * 10)
    path.write_bytes(path.read_bytes().replace(b"0123456789", b"0123456780", 1))
    with pytest.raises(InputError, match=r"x\.zip: truncated, corrupt"):
        extract(path, out)
    assert list(out.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"<html>not found</html>", bytes(600)])
def test_another_format_is_named(tmp_path, out, content):
    (tmp_path / "x.tgz").write_bytes(content)
    if content == bytes(600):
        # Zeros are the end mark of an empty tar.
        assert content_of(extract(tmp_path / "x.tgz", out)) == {}
        return
    with pytest.raises(InputError, match=r"x\.tgz: .*neither a tar nor a zip"):
        extract(tmp_path / "x.tgz", out)


def test_an_absent_archive_is_named(tmp_path, out):
    with pytest.raises(InputError, match=r"x\.tgz: no such archive; retrieve it again"):
        extract(tmp_path / "x.tgz", out)


@pytest.mark.parametrize("name", ["x.tgz", "x.zip"])
@pytest.mark.parametrize(
    "limits", [Limits(ratio_from=10_000), Limits(size=99_999), Limits(files=1)], ids=["ratio", "size", "files"]
)
def test_bombs_are_refused(tmp_path, out, name, limits):
    files = {"zeros": bytes(100_000), "more": b""}
    path = (write_zip if name.endswith("zip") else write_tar)(tmp_path / name, files)
    with pytest.raises(InputError, match=rf"{name}: refused, it unpacks to at least \d+ bytes in \d files from"):
        extract(path, out, limits)
    assert list(out.iterdir()) == []
    extract(path, out)


@pytest.mark.parametrize("name", ["x.tar", "x.zip"])
def test_no_space_is_said_before_anything_is_written(tmp_path, out, monkeypatch, name):
    path = (write_zip if name.endswith("zip") else write_tar)(tmp_path / name)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(1000, 990, 10))
    with pytest.raises(
        InputError, match=rf"{name}: extracting needs \d+ bytes, but .*out has 10 free; free some space"
    ):
        extract(path, out)
    assert list(out.iterdir()) == []


def test_a_disk_that_fills_while_extracting(tmp_path, out, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(module._Writer, "write", full)
    with pytest.raises(InputError, match=r"x\.tgz: no space left in .*out while extracting .*free some"):
        extract(write_tar(tmp_path / "x.tgz"), out)
    assert list(out.iterdir()) == []
