"""Hostile files, each made by a few lines, and what of relmap reads them.

A keeper makes its files in a folder of its own, ``data``, beside which lies a secret, and returns what reads them.
Every one must end in an ``InputError`` whose words the keeper names. Nothing here is stored: the tests make it.
"""

import bz2
import functools
import gzip
import io
import json
import lzma
import pickle
import stat
import struct
import tarfile
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
from PIL import Image
from relmap.cli.runs import config_of_run
from relmap.data.decoding import decode, read_size
from relmap.data.formats.annotated_folder import read_with_boxes
from relmap.data.formats.classes import read_classes
from relmap.data.formats.coco import read_coco
from relmap.data.formats.folder import read_folder
from relmap.data.formats.pascal import read_annotation
from relmap.data.images import Preprocessing
from relmap.data.members import member_of, member_size, names_in, read_member
from relmap.data.photographs import read_photograph
from relmap.data.retrieve.archive import extract
from relmap.evidence.claims import read_claims
from relmap.evidence.maps import open_maps, write_maps
from relmap.evidence.restoring import restore
from relmap.evidence.status import run_config
from relmap.inspection.explanations import load
from relmap.job.files import read_json
from relmap.models.weights import read_state

SECRET = "secret, which is no part of the data"
ZOO = {}
MEGA = 2**20


def keeper(kind, words):
    """Register a function of a folder that makes a file and returns what reads it."""

    def register(make):
        assert (kind, make.__name__) not in ZOO
        ZOO[kind, make.__name__] = (make, words)
        return make

    return register


def keep(kind, words, **cases):
    """The same for cases that differ in their content alone: name -> (reader, file name, bytes)."""
    for name, (read, file, content) in cases.items():

        def make(folder, read=read, file=file, content=content):
            (folder / file).write_bytes(content() if callable(content) else content)
            return lambda: read(folder / file)

        ZOO[kind, name] = (make, words)


# Archives


def unpacked(path):
    extract(path, path.parent / "out")


def member(name, content=b"x", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content) if kind == tarfile.REGTYPE else 0, kind, link
    return info, content


def tar(*members, pack=bytes):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as file:
        for info, content in members:
            file.addfile(info, io.BytesIO(content) if info.size else None)
    return pack(stream.getvalue())


def zipped(*entries):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for name, content, mode in entries:
            info = zipfile.ZipInfo(name)
            info.external_attr, info.compress_type = mode << 16, zipfile.ZIP_DEFLATED
            file.writestr(info, content)
    return stream.getvalue()


def overlapping():
    """A zip whose central directory names one member a thousand times."""
    whole = zipped(("a", bytes(100_000), 0))
    start = whole.index(b"PK\1\2")
    end = whole.index(b"PK\5\6")
    entry = whole[start:end]
    table = b"".join(entry[:46] + b"%c" % (65 + i % 26) + entry[47:] for i in range(1000))
    tail = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 1000, 1000, len(table), start, 0)
    return whole[:start] + table + tail


REFUSED = "is refused, "
keep(
    "archive",
    "its path leaves the destination",
    parent=(unpacked, "x.tar", tar(member("../evil"))),
    parent_inside=(unpacked, "x.tgz", tar(member("data/../../evil"), pack=gzip.compress)),
    parent_in_zip=(unpacked, "x.zip", zipped(("../evil", b"x", 0))),
    parent_in_nested=(unpacked, "x.tar", tar(member("n1.tar", tar(member("../../evil"))))),
)
keep(
    "archive",
    "its path is absolute or malformed",
    absolute=(unpacked, "x.tar", tar(member("/tmp/evil"))),
    absolute_in_zip=(unpacked, "x.zip", zipped(("/tmp/evil", b"x", 0))),
    drive=(unpacked, "x.tar", tar(member("C:evil"))),
    backslash=(unpacked, "x.tar", tar(member("data\\evil"))),
)
keep(
    "archive",
    REFUSED + "it is a link",
    symlink=(unpacked, "x.tar", tar(member("a", kind=tarfile.SYMTYPE, link="../secret"))),
    symlink_to_folder=(unpacked, "x.tar", tar(member("a", kind=tarfile.SYMTYPE, link=".."), member("a/secret"))),
    hard_link=(unpacked, "x.tar", tar(member("a", kind=tarfile.LNKTYPE, link="../secret"))),
    symlink_in_zip=(unpacked, "x.zip", zipped(("a", b"../secret", stat.S_IFLNK | 0o777))),
)
keep(
    "archive",
    REFUSED + "it is a device or a pipe",
    device=(unpacked, "x.tar", tar(member("a", kind=tarfile.CHRTYPE))),
    block_device=(unpacked, "x.tar", tar(member("a", kind=tarfile.BLKTYPE))),
    pipe=(unpacked, "x.tar", tar(member("a", kind=tarfile.FIFOTYPE))),
)
keep(
    "archive",
    "refused, it unpacks to at least",
    bomb_gzip=(unpacked, "x.tgz", lambda: tar(member("zeros", bytes(70 * MEGA)), pack=gzip.compress)),
    bomb_bzip2=(unpacked, "x.tar.bz2", lambda: tar(member("zeros", bytes(70 * MEGA)), pack=bz2.compress)),
    bomb_zip=(unpacked, "x.zip", lambda: zipped(("zeros", bytes(70 * MEGA), 0))),
    bomb_nested=(
        unpacked,
        "x.tgz",
        lambda: tar(member("n1.tar", tar(member("zeros", bytes(70 * MEGA)))), pack=gzip.compress),
    ),
)
keep(
    "archive",
    "is there twice",
    duplicate=(unpacked, "x.tar", tar(member("a", b"one"), member("a", b"two"))),
    duplicate_by_dots=(unpacked, "x.tar", tar(member("a", b"one"), member("./a", b"two"))),
    duplicate_in_zip=(unpacked, "x.zip", zipped(("a", b"one", 0), ("./a", b"two", 0))),
)
keep(
    "archive",
    "truncated, corrupt|cannot be extracted|refused",
    overlapping_zip=(unpacked, "x.zip", overlapping),
    file_and_folder=(unpacked, "x.tar", tar(member("a", b"one"), member("a/b", b"two"))),
    long_header=(
        unpacked,
        "x.tar.xz",
        lambda: lzma.compress(
            tarfile.TarInfo("././@LongLink").tobuf(tarfile.GNU_FORMAT)[:124]
            + b"%011o\0" % (32 * MEGA)
            + bytes(12)
            + b"        L"
            + bytes(512 - 157)
            + b"a" * (32 * MEGA),
            preset=0,
        ),
    ),
    names_with_line_breaks=(unpacked, "x.tar", tar(member("a\nb\x1b[31m/../../c"))),
    nothing=(unpacked, "x.zip", b""),
)


@keeper("archive", "is no packed run|should not be there|is no part of the run")
def restored_notebook(folder):
    """An archive that would put a notebook of its own in the place of the workflow's."""
    notebook = json.dumps({"cells": [{"cell_type": "code", "source": f"open('{folder}/executed', 'w')"}]}).encode()
    (folder / "results").mkdir()
    (folder / "x.tar.gz").write_bytes(tar(member("notebooks/clam/curves.ipynb", notebook), pack=gzip.compress))
    return lambda: restore(folder / "x.tar.gz", folder)


# Pictures


def chunk(name, content):
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width, height, *chunks):
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + b"".join(chunks) + chunk(b"IEND", b"")


def saved(kind, size=(40, 30)):
    stream = io.BytesIO()
    Image.new("RGB", size).save(stream, kind)
    return stream.getvalue()


def photograph(path):
    read_photograph(path, Preprocessing(32, 32))


zeros = functools.partial(zlib.compress, bytes(64 * MEGA), 9)
keep(
    "picture",
    "the image has .* pixels",
    bomb_png=(decode, "a.png", lambda: png(30_000, 30_000, chunk(b"IDAT", zeros()))),
    bomb_bmp=(decode, "a.bmp", lambda: saved("BMP")[:18] + struct.pack("<ii", 40_000, 40_000) + saved("BMP")[26:]),
    bomb_photograph=(photograph, "a.jpg", lambda: png(30_000, 30_000, chunk(b"IDAT", zeros()))),
    line=(decode, "a.png", lambda: png(400_000, 1, chunk(b"IDAT", zeros()))),
    size_alone=(read_size, "a.png", lambda: png(2**31 - 1, 2**31 - 1)),
)
keep(
    "picture",
    "none of the formats JPEG",
    postscript_named_jpeg=(decode, "a.jpg", lambda: saved("EPS")),
    postscript_named_tiff=(photograph, "a.tif", lambda: saved("EPS")),
    postscript_asked_for_its_size=(read_size, "a.png", lambda: saved("EPS")),
    svg=(
        decode,
        "a.png",
        b'<?xml version="1.0"?><!DOCTYPE s [<!ENTITY x SYSTEM "../secret">]><svg xmlns="http://www.w3.org/2000/svg">'
        b'<image href="file:../secret"/><text>&x;</text></svg>',
    ),
    pdf=(decode, "a.png", lambda: saved("PDF")),
    icns=(decode, "a.jpg", b"icns" + struct.pack(">I", 16) + b"ic10" + struct.pack(">I", 8)),
)
keep(
    "picture",
    "corrupt or truncated|none of the formats|the image has",
    truncated_jpeg=(decode, "a.jpg", lambda: saved("JPEG")[:-200]),
    bomb_text=(decode, "a.png", lambda: png(40, 30, chunk(b"zTXt", b"k\0\0" + zeros()), chunk(b"IDAT", b""))),
    bomb_profile=(decode, "a.png", lambda: png(40, 30, chunk(b"iCCP", b"k\0\0" + zeros()), chunk(b"IDAT", b""))),
    gif_frame=(decode, "a.gif", b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(3) + b"," + bytes(9)),
    tiff_offsets=(decode, "a.tif", b"II*\0" + struct.pack("<I", 8) + struct.pack("<H", 65535) + b"\xff" * 600),
)


# XML


def xml(entities="", body="<object><name>a</name></object>"):
    return f'<?xml version="1.0"?><!DOCTYPE annotation [{entities}]><annotation>{body}</annotation>'.encode()


laughs = "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10 if i else "ha" * 10}">' for i in range(10))
keep(
    "xml",
    "not a readable box annotation",
    billion_laughs=(read_annotation, "a.xml", xml(laughs, "<object><name>&l9;</name></object>")),
    quadratic=(read_annotation, "a.xml", xml(f'<!ENTITY a "{"a" * 50_000}">', f"<name>{'&a;' * 50_000}</name>")),
    external_entity=(
        read_annotation,
        "a.xml",
        xml('<!ENTITY x SYSTEM "../secret">', "<object><name>&x;</name></object>"),
    ),
    parameter_entity=(read_annotation, "a.xml", xml('<!ENTITY % x SYSTEM "http://127.0.0.1:9/x.dtd"> %x;')),
    external_dtd=(
        read_annotation,
        "a.xml",
        b'<!DOCTYPE annotation SYSTEM "http://127.0.0.1:9/x.dtd"><annotation>&x;</annotation>',
    ),
    not_finite=(
        read_annotation,
        "a.xml",
        b"<annotation><object><name>a</name><bndbox><xmin>nan</xmin><ymin>1e999</ymin><xmax>2</xmax><ymax>2</ymax>"
        b"</bndbox></object></annotation>",
    ),
    digits=(read_annotation, "a.xml", b"<annotation><size><width>" + b"9" * 10_000 + b"</width></size></annotation>"),
    nested=(read_annotation, "a.xml", b"<annotation>" + b"<a>" * 200_000),
    bytes_that_are_no_text=(read_annotation, "a.xml", b'<?xml version="1.0" encoding="utf-7"?><a>+ADw-</a>'),
)


# JSON


def coco(path):
    (path.parent / "annotations").mkdir()
    path.rename(path.parent / "annotations" / "instances_val2014.json")
    (path.parent / "annotations" / "instances_train2014.json").write_text(
        '{"images": [], "annotations": [], "categories": []}'
    )
    read_coco(path.parent)


def boxes(path):
    (path.parent / "heron").mkdir()
    Image.new("RGB", (40, 30)).save(path.parent / "heron" / "a.png")
    read_with_boxes(path.parent, dataset="own")


keep(
    "json",
    "not valid JSON|not JSON|holds no|lacks|has no|is no|must|annotations",
    nested=(read_json, "a.json", b"[" * 10**6),
    nested_objects=(read_json, "a.json", b'{"a":' * 10**6),
    digits=(read_json, "a.json", b'{"a": ' + b"9" * 100_000 + b"}"),
    not_a_number=(read_json, "a.json", b'{"a": NaN}'),
    infinite=(read_json, "a.json", b'{"a": -Infinity}'),
    no_text=(read_json, "a.json", b"\xff\xfe\xfd"),
    nested_coco=(coco, "a.json", b'{"images":' + b"[" * 10**6),
    digits_coco=(coco, "a.json", b'{"images": [{"id": ' + b"9" * 100_000 + b"}]}"),
    list_coco=(coco, "a.json", b"[1, 2]"),
    nested_boxes=(boxes, "annotations.json", b'{"images":' + b"[" * 10**6),
    wrong_boxes=(boxes, "annotations.json", b'{"images": {"a": 1}, "annotations": 3}'),
)


# HDF5


REFERENCE = h5py.ref_dtype


def matlab(folder, change):
    """A file with three pictures in ImageNet-Segmentation's form, changed."""
    path = folder / "gtsegs_ijcv.mat"
    with h5py.File(path, "w") as file:
        for name in ("img", "gt", "id"):
            found = file.create_dataset(f"value/{name}", (3, 1), REFERENCE)
            for index in range(3):
                if name == "id":
                    one = file.create_dataset(f"#refs#/{name}{index}", data=np.frombuffer(b"n0_1", np.uint8)[:, None])
                else:
                    one = file.create_dataset(f"#refs#/{name}{index}", data=np.zeros((3, 40, 30), np.uint8))
                found[index, 0] = one.ref
        change(file, folder)
    return path


def picture_of(path):
    found = member_of(f"{path}#0")
    return lambda: (member_size(found), read_member(found))


@keeper("hdf5", "lies in another file")
def external_storage(folder):
    """An array whose bytes are those of any file."""

    def change(file, folder):
        space = h5py.h5s.create_simple((1, 6, 6))
        settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        settings.set_external(b"../secret", 0, h5py.h5f.UNLIMITED)
        h5py.h5d.create(file.id, b"stolen", h5py.h5t.NATIVE_UINT8, space, settings)
        file["value/img"][0, 0] = file["stolen"].ref

    return picture_of(matlab(folder, change))


@keeper("hdf5", "lies in another file|no such array")
def virtual(folder):
    def change(file, folder):
        with h5py.File(folder.parent / "other.h5", "w") as other:
            other["a"] = np.zeros((3, 40, 30), np.uint8)
        layout = h5py.VirtualLayout((3, 40, 30), np.uint8)
        layout[:] = h5py.VirtualSource("../other.h5", "a", (3, 40, 30))
        file.create_virtual_dataset("mapped", layout)
        file["value/img"][0, 0] = file["mapped"].ref

    return picture_of(matlab(folder, change))


@keeper("hdf5", "lies in another file|lacks the list")
def external_link(folder):
    def change(file, folder):
        with h5py.File(folder.parent / "other.h5", "w") as other:
            other.create_dataset("img", (3, 1), REFERENCE)
        del file["value/img"]
        file["value/img"] = h5py.ExternalLink("../other.h5", "img")

    path = matlab(folder, change)
    return lambda: names_in(path)


@keeper("hdf5", "lacks the list|no such array")
def link_to_itself(folder):
    def change(file, folder):
        del file["value/img"]
        file["value/img"] = h5py.SoftLink("/value/img")

    path = matlab(folder, change)
    return lambda: names_in(path)


@keeper("hdf5", "the image has")
def picture_without_end(folder):
    def change(file, folder):
        whole = file.create_dataset("whole", (3, 10**6, 10**6), np.uint8, chunks=(1, 1000, 1000))
        file["value/img"][0, 0] = whole.ref

    path = matlab(folder, change)
    return lambda: decode(f"{path}#0")


@keeper("hdf5", "more than")
def list_without_end(folder):
    """Nothing of it is stored: each of its references is the one that fills."""

    def change(file, folder):
        for name in ("img", "gt", "id"):
            del file[f"value/{name}"]
            file.create_dataset(f"value/{name}", (10**9, 1), REFERENCE, chunks=(1000, 1))

    path = matlab(folder, change)
    return lambda: names_in(path)


@keeper("hdf5", "names no text")
def name_without_end(folder):
    def change(file, folder):
        file["value/id"][0, 0] = file.create_dataset("name", (10**10, 1), np.uint8, chunks=(1000, 1)).ref

    path = matlab(folder, change)
    return lambda: names_in(path)


keep(
    "hdf5",
    "which is HDF5",
    truncated=(names_in, "gtsegs_ijcv.mat", b"\x89HDF\r\n\x1a\n" + bytes(100)),
    nothing=(names_in, "gtsegs_ijcv.mat", b""),
)


# Weights


def tensors(header, data=b"", length=None):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(start, end, shape=(1,), kind="F32"):
    return {"dtype": kind, "shape": list(shape), "data_offsets": [start, end]}


class Program:
    """What unpickles into a call."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return open, (self.path, "w")


keep(
    "weights",
    "not a file of weights that can be read",
    header_without_end=(read_state, "a.safetensors", tensors(b"{}", length=2**63)),
    header_of_a_gigabyte=(read_state, "a.safetensors", tensors(b"{}", length=2**30)),
    header_nested=(read_state, "a.safetensors", lambda: tensors(b'{"a":' * 10**6)),
    overlapping=(read_state, "a.safetensors", tensors({"a": entry(0, 4), "b": entry(0, 4)}, bytes(4))),
    behind_the_end=(read_state, "a.safetensors", tensors({"a": entry(0, 4 * 10**9, (10**9,))}, bytes(4))),
    between=(read_state, "a.safetensors", tensors({"a": entry(4, 8)}, bytes(8))),
    shape_overflows=(read_state, "a.safetensors", tensors({"a": entry(0, 4, (2**40, 2**40))}, bytes(4))),
    negative=(read_state, "a.safetensors", tensors({"a": entry(-4, 4)}, bytes(4))),
    of_no_type=(read_state, "a.safetensors", tensors({"a": entry(0, 4, kind="O")}, bytes(4))),
    pickled_arrays=(read_state, "a.npz", lambda: npz(np.array([{}], dtype=object))),
    array_without_end=(read_state, "a.npz", lambda: npz(np.zeros(1), (10**12,))),
    bomb=(read_state, "a.npz", lambda: npz(np.zeros(1), (2**30,), zeros=True)),
)
keep(
    "weights",
    "none of relmap's|cannot be read|was written by|not",
    explanation_pickled=(load, "a.npz", lambda: npz(np.array([{}], dtype=object), name="words")),
    explanation_without_end=(load, "a.npz", lambda: npz(np.zeros(1), (10**12,), name="words")),
)


def npz(array, shape=None, zeros=False, name="embedding/kernel"):
    """An archive of one array, whose header may speak of more than there is."""
    stream = io.BytesIO()
    head = {"descr": np.lib.format.dtype_to_descr(array.dtype), "fortran_order": False, "shape": shape or array.shape}
    np.lib.format.write_array_header_1_0(stream, head)
    stream.write(pickle.dumps(array) if array.dtype == object else array.tobytes())
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as file, file.open(f"{name}.npy", "w") as inner:
        inner.write(stream.getvalue())
        for _ in range(256 if zeros else 0):
            inner.write(bytes(MEGA))
    return packed.getvalue()


@keeper("weights", "not a file of weights that can be read")
def pickled_program(folder):
    (folder / "a.pth").write_bytes(pickle.dumps(Program(folder / "executed"), protocol=2))
    return lambda: read_state(folder / "a.pth")


@keeper("weights", "not a file of weights that can be read")
def pickled_program_in_a_checkpoint(folder):
    import torch

    torch.save({"state_dict": {"x": Program(folder / "executed")}}, folder / "a.pth")
    return lambda: read_state(folder / "a.pth")


# Stores of maps, which an archive of a run holds


def store(folder, change):
    path = folder / "a.zarr"
    write_maps(path, np.ones((2, 4, 4), np.float32), ["a", "b"], np.zeros(2, np.int64), {})
    change(path)

    def read():
        open_maps(path).at(np.arange(2))

    return read


def edited(path, **changes):
    text = json.loads(path.read_text())
    text.update(changes)
    path.write_text(json.dumps(text))


@keeper("store", "a.zarr")
def shape_without_end(folder):
    return store(folder, lambda path: edited(path / "maps" / "zarr.json", shape=[10**9, 10**4, 10**4]))


@keeper("store", "a.zarr")
def codec_of_a_stranger(folder):
    return store(folder, lambda path: edited(path / "maps" / "zarr.json", codecs=[{"name": "os.system"}]))


@keeper("store", "a.zarr")
def chunk_elsewhere(folder):
    def change(path):
        for file in (path / "maps" / "c").rglob("*"):
            if file.is_file():
                file.unlink()
                file.symlink_to(folder.parent / "secret")

    return store(folder, change)


@keeper("store", "a.zarr")
def metadata_nested(folder):
    return store(folder, lambda path: (path / "zarr.json").write_text("[" * 10**6))


# Configs


aliases = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9 if i else ['x'] * 9)}]\n" for i in range(9)).encode()


def of_a_run(path):
    return run_config(path.parent)


def of_a_plan(path):
    return config_of_run(path.parent, path)


TAGS = b"run: !!python/object/apply:os.system ['touch executed']\n"
keep(
    "config",
    "cannot be read as YAML",
    python_object_of_a_run=(of_a_run, "config.yaml", TAGS),
    python_object_of_a_plan=(of_a_plan, "config.yaml", TAGS),
    python_name=(of_a_run, "config.yaml", b"run: !!python/name:os.system\n"),
    nested=(of_a_run, "config.yaml", b"run: " + b"[" * 20_000),
    nested_of_a_plan=(of_a_plan, "config.yaml", b"run: " + b"[" * 20_000),
    no_text=(of_a_run, "config.yaml", b"\xff\xfe\xfd\xfc"),
)
keep(
    "config",
    "unknown key|config|aliases",
    aliases=(of_a_plan, "config.yaml", aliases),
)
keep(
    "config",
    "claims.yaml",
    python_object_of_claims=(lambda path: read_claims(path, ["a"]), "claims.yaml", TAGS),
    nested_claims=(lambda path: read_claims(path, ["a"]), "claims.yaml", b"[" * 20_000),
)


# Names and tables


@keeper("names", "line break|control character|no text that")
def class_with_a_line_break(folder):
    (folder / "heron\n= 1").mkdir()
    Image.new("RGB", (40, 30)).save(folder / "heron\n= 1" / "a.png")
    return lambda: read_folder(folder, dataset="own")


@keeper("names", "line break|control character|no text that")
def picture_with_an_escape(folder):
    (folder / "heron").mkdir()
    Image.new("RGB", (40, 30)).save(folder / "heron" / "a\x1b]0;evil\x07.png")
    return lambda: read_folder(folder, dataset="own")


@keeper("names", "line break|control character|no text that")
def name_that_is_no_text(folder):
    (folder / "heron").mkdir()
    Image.new("RGB", (40, 30)).save(folder / "heron" / "a.png")
    (folder / "heron" / "a.png").rename(Path(f"{folder}/heron/\udcff.png"))
    return lambda: read_folder(folder, dataset="own")


keep(
    "names",
    "classes.txt",
    classes_with_zero_bytes=(read_classes, "classes.txt", b"a\0b\n" * 3),
    classes_that_are_no_text=(read_classes, "classes.txt", b"\xff\xfe\n"),
)
keep(
    "names",
    "boxes.csv",
    csv_with_a_field_without_end=(boxes, "boxes.csv", lambda: b'image,x0,y0,x1,y1\n"' + b"a" * MEGA),
    csv_with_zero_bytes=(boxes, "boxes.csv", b"image,x0,y0,x1,y1\nheron/a.png,0,0,\0,9\n"),
    csv_that_names_another_folder=(boxes, "boxes.csv", b"image,x0,y0,x1,y1\n../../secret,0,0,9,9\n"),
)
