"""Retrieval against a local server that behaves as badly as real ones."""

import csv
import hashlib
import io
import shutil
import tarfile
import threading
import time
import zipfile
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from relmap.data.formats.coco import read_coco
from relmap.data.formats.imagenet_segmentation import read_imagenet_segmentation
from relmap.data.formats.voc import read_voc
from relmap.data.render import render_coco2014, render_imagenet_segmentation, render_voc2007
from relmap.data.render.catalogue import CLASSES
from relmap.data.retrieve import download
from relmap.data.retrieve.download import Download, read_table, retrieve, retrieve_dataset
from relmap.data.retrieve.kinds import check_kind
from relmap.errors import InputError
from test_archive import FILES, content_of, tar_bytes

CONTENT = bytes(range(256)) * 2000
# Whole blocks of the first half, after which "closes early" stops.
KEPT = len(CONTENT) // 2 // download._BLOCK * download._BLOCK
SHA = hashlib.sha256(CONTENT).hexdigest()
TABLE = Path(__file__).parents[1] / "resources" / "downloads.csv"


class Handler(BaseHTTPRequestHandler):
    """Serves ``server.content``; ``server.script`` is one behaviour per request, then "good" for ever."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        server = self.server
        server.requests.append(dict(self.headers))
        behaviour = server.script.pop(0) if server.script else "good"
        content, start, status = server.content, 0, 200
        asked = self.headers.get("Range")
        if behaviour.isdigit():
            self.send_response(int(behaviour))
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        fresh = self.headers.get("If-Range") in (None, server.etag) or behaviour == "ignores If-Range"
        if asked and fresh and behaviour != "ignores Range":
            start, status = int(asked.removeprefix("bytes=").rstrip("-")), 206
            if start >= len(content):
                status, start, content = 416, 0, b""
        body = content[start:]
        self.send_response(status)
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        if status == 416:
            self.send_header("Content-Range", f"bytes */{len(server.content)}")
        if server.etag:
            self.send_header("ETag", server.etag)
        if behaviour == "endless":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"%x\r\n%s\r\n" % (len(CONTENT), CONTENT))
                    server.sent += len(CONTENT)
            except OSError:
                self.close_connection = True
            return
        if behaviour == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body))
            return
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if behaviour == "closes early":
            self.wfile.write(body[: len(body) // 2])
            self.close_connection = True
        elif behaviour == "sends nothing":
            self.close_connection = True
        else:
            self.wfile.write(body)


@pytest.fixture
def server():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.content, server.etag, server.script, server.requests, server.sent = CONTENT, '"one"', [], [], 0
    server.handle_error = lambda *_: None  # a client that hangs up
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()


def table_for(server, **values):
    entry = {"name": "x.bin", "dataset": "toy", "size": len(CONTENT), "sha256": SHA} | values
    return {entry["name"]: Download(url=f"http://127.0.0.1:{server.server_port}/x.bin", **entry)}


def fetch(server, tmp_path, mirror=None, attempts=3, **values):
    table = table_for(server, **values)
    return retrieve(next(iter(table)), tmp_path / "d", table, mirror, attempts=attempts, pause=0.001)


def names(tmp_path):
    return {path.name for path in (tmp_path / "d").iterdir()} if (tmp_path / "d").exists() else set()


def test_plain(server, tmp_path):
    path = fetch(server, tmp_path)
    assert path == tmp_path / "d" / "x.bin" and path.read_bytes() == CONTENT
    assert names(tmp_path) == {"x.bin", ".x.bin.verified.json"}
    fetch(server, tmp_path)
    assert len(server.requests) == 1, "a verified file is not fetched again"


@pytest.mark.parametrize(
    "values",
    [
        {"sha256": "", "md5": hashlib.md5(CONTENT).hexdigest(), "size": None},
        {"sha256": "", "name": f"vgg16-{SHA[:8]}.pth", "size": None},
        {"sha256": "", "size": None},
    ],
    ids=["md5", "digits in the name", "nothing published"],
)
def test_other_checks(server, tmp_path, values):
    assert fetch(server, tmp_path, **values).read_bytes() == CONTENT


@pytest.mark.parametrize(
    "values",
    [{"sha256": "0" * 64}, {"sha256": "", "md5": "0" * 32}, {"sha256": "", "name": "vgg16-00000000.pth"}],
    ids=["sha256", "md5", "digits in the name"],
)
def test_wrong_bytes_leave_nothing(server, tmp_path, values):
    message = r"wrong checksum of .* expected (sha256|md5) 0+, got [0-9a-f]+; the file was removed; run again, and if"
    with pytest.raises(InputError, match=message):
        fetch(server, tmp_path, **values)
    assert names(tmp_path) == set()
    assert len(server.requests) == 1, "wrong bytes are not a reason to try again"


@pytest.mark.parametrize(
    "script",
    [["closes early"], ["closes early"] * 4, ["503", "closes early", "502"], ["429", "sends nothing"]],
)
def test_interruptions_are_resumed(server, tmp_path, script):
    server.script = list(script)
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert len(server.requests) == len(script) + 1
    if "closes early" in script:
        assert server.requests[-1]["Range"].startswith("bytes=") and server.requests[-1]["If-Range"] == '"one"'


def test_giving_up_keeps_what_the_next_run_resumes(server, tmp_path):
    server.script = ["closes early"] + ["503"] * 3
    with pytest.raises(InputError, match=rf"failed 3 times .*{KEPT} bytes are kept .*set data_mirror"):
        fetch(server, tmp_path)
    assert names(tmp_path) == {".x.bin.part", ".x.bin.part.json"}
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert server.requests[-1]["Range"] == f"bytes={KEPT}-"
    assert names(tmp_path) == {"x.bin", ".x.bin.verified.json"}


def test_a_server_that_ignores_ranges(server, tmp_path):
    server.script = ["closes early", "ignores Range"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert "Range" in server.requests[-1]


@pytest.mark.parametrize("behaviour", ["good", "ignores If-Range"])
def test_a_file_that_changes_between_two_runs_is_started_anew(server, tmp_path, behaviour):
    server.script = ["closes early"] + ["503"] * 3
    with pytest.raises(InputError):
        fetch(server, tmp_path, sha256="", size=None)
    server.content, server.etag, server.script = CONTENT[::-1], '"two"', [behaviour]
    assert fetch(server, tmp_path, sha256="", size=None).read_bytes() == CONTENT[::-1]


def test_a_part_without_validator_is_not_continued(server, tmp_path):
    server.etag, server.script = "", ["closes early"]
    assert fetch(server, tmp_path).read_bytes() == CONTENT
    assert "Range" not in server.requests[-1]


def test_a_stale_part_costs_one_more_download(server, tmp_path):
    """Same length and ETag, other bytes: only the checksum tells."""
    server.script = ["closes early"] + ["503"] * 3
    with pytest.raises(InputError):
        fetch(server, tmp_path)
    part = tmp_path / "d" / ".x.bin.part"
    part.write_bytes(bytes(len(part.read_bytes())))
    assert fetch(server, tmp_path).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [None, len(CONTENT)])
def test_a_part_that_is_complete_or_too_long(server, tmp_path, size):
    for content in (CONTENT, CONTENT + b"too much"):
        server.script = ["closes early"] + ["503"] * 3
        with pytest.raises(InputError):
            fetch(server, tmp_path, size=size)
        (tmp_path / "d" / ".x.bin.part").write_bytes(content)
        assert fetch(server, tmp_path, size=size).read_bytes() == CONTENT
        shutil.rmtree(tmp_path / "d")


def test_an_answer_without_length(server, tmp_path):
    server.script = ["chunked"]
    assert fetch(server, tmp_path, size=None).read_bytes() == CONTENT


@pytest.mark.parametrize("size", [None, len(CONTENT)], ids=["size unknown", "size in the table"])
def test_a_server_that_does_not_end_is_cut_off(server, tmp_path, monkeypatch, size):
    monkeypatch.setattr(download, "_UNTOLD", 2 * len(CONTENT))
    server.script = ["endless"]
    told = "and nobody told its size" if size is None else "which is its size"
    most = size or 2 * len(CONTENT)
    with pytest.raises(InputError, match=rf"sends more than {most} bytes, {told}; what came was removed: check the"):
        fetch(server, tmp_path, size=size)
    assert len(server.requests) == 1 and names(tmp_path) == set()
    # What lies in buffers between the two is sent, too.
    assert server.sent < most + 32 * 2**20


def test_two_runs_that_want_one_file_take_turns(server, tmp_path):
    with ThreadPoolExecutor(6) as pool:
        paths = list(pool.map(lambda _: fetch(server, tmp_path), range(6)))
    assert {path.read_bytes() for path in paths} == {CONTENT}
    assert len(server.requests) == 1, "whoever comes second finds the file verified"
    assert names(tmp_path) == {"x.bin", ".x.bin.verified.json"}


def test_a_verified_file_needs_no_right_to_write(server, tmp_path, monkeypatch):
    fetch(server, tmp_path)
    monkeypatch.setattr(download, "locked", lambda *_: pytest.fail("locked"))
    fetch(server, tmp_path)


PAGE = b"\n<!DOCTYPE html><html><body>The server is closed for maintenance</body></html>" + b" " * 5000


@pytest.mark.parametrize("name", ["x.mat", "x.safetensors", "x.pth", "x.zip", "x.tgz", "x.txt", "x.bin"])
def test_a_web_page_is_no_reference(server, tmp_path, name):
    server.content = PAGE
    with pytest.raises(InputError, match=rf"{name} is a web page, and not what was asked for; it came from http"):
        fetch(server, tmp_path, name=name, sha256="", size=None)
    assert names(tmp_path) == set()
    server.content, server.script = b"Sorry, come back later", []
    if name in ("x.txt", "x.bin"):
        assert fetch(server, tmp_path, name=name, sha256="", size=None).read_bytes() == server.content
        return
    with pytest.raises(InputError, match=rf"{name} does not begin as .* does, but with b'Sorry, come "):
        fetch(server, tmp_path, name=name, sha256="", size=None)
    assert names(tmp_path) == set()


def test_a_web_page_that_was_taken_for_the_file_is_found(server, tmp_path, monkeypatch):
    monkeypatch.setattr(download, "check_kind", lambda *_: None)
    server.content = PAGE
    fetch(server, tmp_path, name="x.mat", sha256="", size=None)
    monkeypatch.undo()
    with pytest.raises(InputError, match=r"x\.mat is a web page.*delete it and run again"):
        fetch(server, tmp_path, name="x.mat", sha256="", size=None)


def test_files_of_their_kind_pass(tmp_path):
    import h5py
    import torch
    from PIL import Image
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(2)}, tmp_path / "a.safetensors")
    torch.save({"a": torch.zeros(2)}, tmp_path / "a.pth")
    torch.save({"a": torch.zeros(2)}, tmp_path / "b.pth.tar", _use_new_zipfile_serialization=False)
    for name, block in (("a.mat", 0), ("b.mat", 512)):
        with h5py.File(tmp_path / name, "w", userblock_size=block) as file:
            file["a"] = 1
    for suffix in ("jpg", "png"):
        Image.new("RGB", (2, 2)).save(tmp_path / f"a.{suffix}")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a", "a")
    for kind, mode in (("tar", "w"), ("tgz", "w:gz"), ("tar.bz2", "w:bz2"), ("tar.xz", "w:xz")):
        with tarfile.open(tmp_path / f"a.{kind}", mode) as file:
            file.addfile(tarfile.TarInfo("a"), io.BytesIO())
    paths = sorted(tmp_path.iterdir())
    assert len(paths) == 12
    for path in paths:
        check_kind(path, path.name, "")
    with pytest.raises(InputError, match=r"a\.jpg does not begin as a JPEG"):
        check_kind(tmp_path / "a.png", "a.jpg", "")


def test_a_file_of_another_size_is_not_downloaded(server, tmp_path):
    with pytest.raises(
        InputError, match=rf"offers {len(CONTENT)} bytes, expected 7; the provider has changed the file"
    ):
        fetch(server, tmp_path, size=7)
    assert names(tmp_path) == set()


def test_a_refusal_is_final(server, tmp_path):
    server.script = ["404"]
    with pytest.raises(
        InputError, match=r"x\.bin: http://.* answers 404 .*correct the row in resources/downloads\.csv"
    ):
        fetch(server, tmp_path)
    assert len(server.requests) == 1 and names(tmp_path) == set()


def test_no_server(server, tmp_path):
    table = table_for(server)
    server.shutdown()
    server.server_close()
    with pytest.raises(InputError, match=r"x\.bin: http://.* failed 2 times .*0 bytes are kept"):
        retrieve("x.bin", tmp_path / "d", table, attempts=2, pause=0.001)
    assert names(tmp_path) == set()


def test_no_space_is_said_before_the_first_byte(server, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(10**6, 10**6 - 99, 99))
    with pytest.raises(InputError, match=rf"x\.bin: needs {len(CONTENT)} bytes in .*d, which has 99 free; free some"):
        fetch(server, tmp_path)
    assert names(tmp_path) == set()


def test_a_disk_that_fills_meanwhile(server, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download, "_receive", full)
    with pytest.raises(InputError, match=r"x\.bin: no space left in .*d; free some, or set data_root"):
        fetch(server, tmp_path)
    assert names(tmp_path) == set()


def test_the_server_says_when_to_come_back(server, tmp_path, monkeypatch):
    waits = []
    monkeypatch.setattr(time, "sleep", waits.append)
    server.script = ["503"] * 4
    table = table_for(server)
    retrieve("x.bin", tmp_path / "d", table, pause=3)
    assert waits == [3, 6, 12, 24]


@pytest.mark.parametrize("inner", ["", "toy"])
def test_a_mirror_comes_first(server, tmp_path, inner):
    mirror = tmp_path / "mirror"
    (mirror / inner).mkdir(parents=True)
    (mirror / inner / "x.bin").write_bytes(CONTENT)
    assert fetch(server, tmp_path, mirror).read_bytes() == CONTENT
    assert server.requests == []


def test_a_mirror_on_another_disk_is_copied(server, tmp_path, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr("os.link", refuse)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror" / "x.bin").write_bytes(CONTENT)
    path = fetch(server, tmp_path, tmp_path / "mirror")
    assert path.read_bytes() == CONTENT and path.stat().st_nlink == 1


def test_a_wrong_file_in_the_mirror_is_named_and_kept(server, tmp_path):
    (tmp_path / "mirror").mkdir()
    wrong = tmp_path / "mirror" / "x.bin"
    wrong.write_bytes(CONTENT[::-1])
    with pytest.raises(InputError, match=r"mirror/x\.bin: wrong checksum .*replace the mirror's file"):
        fetch(server, tmp_path, tmp_path / "mirror")
    wrong.write_bytes(b"short")
    with pytest.raises(InputError, match=rf"mirror/x\.bin: x\.bin has 5 bytes, expected {len(CONTENT)}"):
        fetch(server, tmp_path, tmp_path / "mirror")
    assert wrong.exists() and names(tmp_path) == set()


def test_a_mirror_without_the_file_or_without_folder(server, tmp_path):
    (tmp_path / "mirror").mkdir()
    assert fetch(server, tmp_path, tmp_path / "mirror").read_bytes() == CONTENT
    shutil.rmtree(tmp_path / "d")
    with pytest.raises(
        InputError, match=r"data_mirror: .*nowhere is not a folder; correct the path, or remove the key"
    ):
        fetch(server, tmp_path, tmp_path / "nowhere")


def test_a_login_says_what_to_put_where(server, tmp_path):
    (tmp_path / "mirror").mkdir()
    message = (
        rf"x\.bin \(; {len(CONTENT)} bytes, md5 0+\) needs an account: .*http://.* and put it at .*d/x\.bin, "
        r"or into the data_mirror .*mirror"
    )
    with pytest.raises(InputError, match=message):
        fetch(server, tmp_path, tmp_path / "mirror", login=True, md5="0" * 32)
    assert server.requests == [] and names(tmp_path) == set()
    (tmp_path / "d" / "x.bin").write_bytes(CONTENT)
    assert fetch(server, tmp_path, login=True).is_file()


def test_a_file_that_was_put_there_is_verified_and_never_deleted(server, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "x.bin").write_bytes(CONTENT[::-1])
    with pytest.raises(InputError, match=r"d/x\.bin: wrong checksum .*replace it with the official file"):
        fetch(server, tmp_path, login=True)
    with pytest.raises(InputError, match="delete it and run again"):
        fetch(server, tmp_path)
    assert names(tmp_path) == {"x.bin"}


def test_without_published_checksum_the_first_one_counts(server, tmp_path):
    path = fetch(server, tmp_path, sha256="", size=None)
    path.write_bytes(CONTENT[::-1])
    with pytest.raises(InputError, match=rf"has changed since it was retrieved: expected sha256 {SHA}, got "):
        fetch(server, tmp_path, sha256="", size=None)


def test_a_verified_file_is_read_once(server, tmp_path, monkeypatch):
    fetch(server, tmp_path)
    monkeypatch.setattr(download, "_digest", lambda *_: pytest.fail("read again"))
    fetch(server, tmp_path)


def test_an_unknown_name(server, tmp_path):
    with pytest.raises(InputError, match=r"y\.bin: not in the download table; it knows x\.bin"):
        retrieve("y.bin", tmp_path, table_for(server))


def test_a_dataset_is_retrieved_and_unpacked(server, tmp_path):
    server.content = tar_bytes(FILES)
    sha = hashlib.sha256(server.content).hexdigest()
    table = table_for(server, name="x.tar", size=len(server.content), sha256=sha, extract_to="train")
    assert retrieve_dataset("toy", tmp_path / "d", table) == tmp_path / "d"
    assert content_of(tmp_path / "d" / "train") == FILES
    assert (tmp_path / "d" / "archives" / "x.tar").is_file()
    with pytest.raises(InputError, match="dataset 'other' is not in the download table; it knows toy"):
        retrieve_dataset("other", tmp_path, table)


def test_missing_logins_are_said_before_anything_is_downloaded(server, tmp_path):
    table = (
        table_for(server) | table_for(server, name="a.tar", login=True) | table_for(server, name="b.tar", login=True)
    )
    with pytest.raises(InputError) as caught:
        retrieve_dataset("toy", tmp_path / "d", table)
    for name in ("a.tar", "b.tar"):
        assert f"put it at {tmp_path / 'd' / 'archives' / name}" in str(caught.value)
    assert server.requests == [] and names(tmp_path) == set()


def test_the_repository_table():
    table = read_table(TABLE)
    assert table["CUB_200_2011.tgz"].size == 1150585339
    assert table["ILSVRC2012_img_val.tar"].login and table["ILSVRC2012_img_val.tar"].extract_to == "val"
    assert table["vgg11-bbd30ac9.pth"].digest == ("sha256", "bbd30ac9")
    assert all(entry.licence for entry in table.values())
    # A file whose own name would be anyone's, such as config.json, begins with its collection's; weights that Hugging
    # Face calls model.safetensors have the name of the network, which its address has too.
    named = [entry for entry in table.values() if entry.dataset != "timm_models" or entry.url.endswith(".pth")]
    assert all(entry.url.endswith(entry.name.removeprefix(f"{entry.dataset}.")) for entry in named)
    others = [entry for entry in table.values() if entry not in named]
    assert len(others) == 3 and all(
        f"/{entry.name.removesuffix('.safetensors').partition('-')[0]}/" in entry.url for entry in others
    )
    unchecked = [name for name, entry in table.items() if not entry.digest[1]]
    assert unchecked == [
        "gtsegs_ijcv.mat",
        "vit_base_patch32_224.augreg_in21k_ft_in1k.safetensors",
        "vit_base_patch16_384.augreg_in21k_ft_in1k.safetensors",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"md5": "xyz"},
        {"sha256": "0" * 63},
        {"size": "1 GB"},
        {"login": "maybe"},
        *({"name": name} for name in ("a/../b", "", ".hidden", "a" * 201)),
    ],
)
def test_a_malformed_table_is_named(tmp_path, change):
    with open(TABLE, newline="") as file:
        rows = list(csv.DictReader(file))
    with open(tmp_path / "t.csv", "w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows([rows[0], rows[1] | change])
    with pytest.raises(InputError, match=r"t\.csv: line 3 .*malformed value; correct it"):
        read_table(tmp_path / "t.csv")
    (tmp_path / "t.csv").write_text("name,url\n")
    with pytest.raises(InputError, match=r"t\.csv: the columns must be name,dataset"):
        read_table(tmp_path / "t.csv")
    with pytest.raises(InputError, match="no such download table"):
        read_table(tmp_path / "absent.csv")


def packed(folder, archive):
    """Everything in a folder as an archive in ``mirror``, in the archive's own format."""
    archive.parent.mkdir(exist_ok=True)
    kind = "zip" if archive.suffix == ".zip" else "tar"
    made = shutil.make_archive(str(archive.with_suffix("")), kind, folder)
    assert Path(made) == archive


def unchecked(dataset):
    """The repository's rows of a data set, without sizes and digests, which rendered archives have not."""
    rows = {name: entry for name, entry in read_table(TABLE).items() if entry.dataset == dataset}
    return {name: replace(entry, size=None, md5="", sha256="") for name, entry in rows.items()}


def test_vocs_archives_are_read_where_they_are_unpacked(tmp_path):
    """Both hold VOCdevkit/VOC2007; what one lacks the other brings."""
    render_voc2007(tmp_path / "made", classes=2, train=6, test=3, size=40, seed=0)
    lists = tmp_path / "made/VOCdevkit/VOC2007/ImageSets/Main"
    tests = set((lists / "test.txt").read_text().split())
    for part in ("trainval", "test"):
        shutil.copytree(tmp_path / "made", tmp_path / part)
        for path in (tmp_path / part).rglob("*.*"):
            held = path.stem in tests or path.stem.endswith("test")
            if held != (part == "test"):
                path.unlink()
        packed(tmp_path / part, tmp_path / "mirror" / f"VOC{part}_06-Nov-2007.tar")
    retrieve_dataset("voc2007", tmp_path / "data", unchecked("voc2007"), tmp_path / "mirror")
    manifest = read_voc(tmp_path / "data", dataset="voc2007")
    assert (len(manifest.rows("train")), len(manifest.rows("test"))) == (6, 3)
    assert manifest.info.fingerprint == read_voc(tmp_path / "made", dataset="voc2007").info.fingerprint


def test_cocos_archives_are_read_where_they_are_unpacked(tmp_path):
    render_coco2014(tmp_path / "made", classes=2, train=6, val=3, size=40, seed=0)
    for name, folder in (
        ("train2014", "train2014"),
        ("val2014", "val2014"),
        ("annotations_trainval2014", "annotations"),
    ):
        shutil.copytree(tmp_path / "made" / folder, tmp_path / name / folder)
        packed(tmp_path / name, tmp_path / "mirror" / f"{name}.zip")
    retrieve_dataset("coco2014", tmp_path / "data", unchecked("coco2014"), tmp_path / "mirror")
    assert read_coco(tmp_path / "data").info.fingerprint == read_coco(tmp_path / "made").info.fingerprint


def test_the_matlab_file_is_no_archive_and_its_first_digest_counts(server, tmp_path):
    render_imagenet_segmentation(tmp_path / "made", classes=2, per_class=1, size=40, seed=0)
    made = tmp_path / "made" / "gtsegs_ijcv.mat"
    server.content = made.read_bytes()
    entry = unchecked("imagenet_segmentation")["gtsegs_ijcv.mat"]
    table = {entry.name: replace(entry, url=f"http://127.0.0.1:{server.server_address[1]}/{entry.name}")}
    retrieve_dataset("imagenet_segmentation", tmp_path / "data", table)
    classes = {kind.wnid: kind.name for kind in CLASSES[:2]}
    assert len(read_imagenet_segmentation(tmp_path / "data", classes=classes)) == 2
    kept = tmp_path / "data" / "archives" / entry.name
    kept.write_bytes(made.read_bytes() + b"x")
    with pytest.raises(InputError, match=r"gtsegs_ijcv\.mat has changed since it was retrieved"):
        retrieve_dataset("imagenet_segmentation", tmp_path / "data", table)


def test_a_home_that_fails_names_the_mirror(server, tmp_path):
    entry = unchecked("imagenet_segmentation")["gtsegs_ijcv.mat"]
    table = {entry.name: replace(entry, url=f"http://127.0.0.1:{server.server_address[1]}/{entry.name}")}
    server.script = ["404"]
    with pytest.raises(InputError, match=r"gtsegs_ijcv\.mat: .* answers 404 .*put the file into data_mirror"):
        retrieve_dataset("imagenet_segmentation", tmp_path / "data", table)


def test_every_row_of_a_data_set_has_its_place():
    """As PROTOCOLS' table of downloads has them."""
    table = read_table(TABLE)
    digests = {
        "VOCtrainval_06-Nov-2007.tar": "c52e279531787c972589f7e41ab4ae64",
        "VOCtest_06-Nov-2007.tar": "b6e924de25625d8de591ea690078ad9f",
        "VOCtrainval_11-May-2012.tar": "6cd6e144f989b92b3379bac3b3de84fd",
        "train2014.zip": "0da8c0bd3d6becc4dcb32757491aca88",
        "val2014.zip": "a3d79f5ed8d289b7a7554ce06a5782b3",
        "annotations_trainval2014.zip": "0a379cfc70b0e71301e0f377548639bd",
    }
    assert {name: table[name].md5 for name in digests} == digests
    assert {table[name].extract_to for name in digests} == {"."}
    assert table["annotations_trainval2014.zip"].size == 252872794
    assert not table["gtsegs_ijcv.mat"].extract_to
