"""ImageNet-Segmentation: pictures inside one MATLAB file, read by threads and processes; broken files are named."""

import shutil
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context

import h5py
import numpy as np
import pytest
from PIL import Image
from relmap.data.decoding import decode, read_size
from relmap.data.formats.classes import classes_of
from relmap.data.formats.imagenet_segmentation import FILE, read_imagenet_segmentation
from relmap.data.images import Preprocessing, load_images, load_masks
from relmap.data.manifest import read_manifest, write_manifest
from relmap.data.members import Member, member_of
from relmap.data.render import render_imagenet_segmentation
from relmap.data.render.imagenet_segmentation_writer import Segmented, write_mat
from relmap.errors import InputError
from relmap.figures.pictures import read_picture

# In the order of a classifier that is not that of the file.
CLASSES = {"n02084071": "dog", "n01440764": "tench", "n02121808": "cat"}
SIZES = ((40, 30), (30, 45), (33, 33))


def pictures():
    """Three pictures, not symmetric in any axis, and masks of one pixel in three at the left."""
    rng = np.random.default_rng(0)
    made = []
    for name, (width, height) in zip(("n01440764_17", "n02121808_3", "n01440764_9"), SIZES, strict=True):
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), dtype=np.uint8)
        mask[2:9, : width // 3] = 1
        made.append(Segmented(name, image, mask))
    return made


@pytest.fixture
def root(tmp_path):
    write_mat(tmp_path / FILE, pictures())
    return tmp_path


def read(root, **options):
    return read_imagenet_segmentation(root, **{"classes": CLASSES, **options})


def test_rows_pixels_and_masks(root):
    manifest = read(root)
    frame = manifest.frame
    assert frame["image_id"].tolist() == ["n01440764_17", "n02121808_3", "n01440764_9"]
    assert frame["labels"].tolist() == [[1], [2], [1]] and set(frame["split"]) == {"test"}
    assert manifest.info.class_names == ("dog", "tench", "cat") and manifest.info.class_ids == tuple(CLASSES)
    assert frame["path"][1] == f"{FILE}#1" and frame["mask_path"][1] == f"{FILE}#1/gt"
    assert list(zip(frame["width"], frame["height"], strict=True)) == list(SIZES)
    for row, one in enumerate(pictures()):
        assert (np.asarray(decode(manifest.resolve(frame["path"][row]))) == one.image).all()
        assert (np.asarray(decode(manifest.resolve(frame["mask_path"][row]))) == one.mask).all()
        assert read_size(manifest.resolve(frame["path"][row])) == SIZES[row]
    shown = Preprocessing(33, 33).denormalise(load_images(manifest, [2], Preprocessing(33, 33)))[0]
    np.testing.assert_allclose(shown.permute(1, 2, 0).numpy() * 255, pictures()[2].image, atol=1e-3)
    masks = load_masks(manifest, [0], Preprocessing(30, 30), targets=[0])
    assert (masks[0].numpy() == pictures()[0].mask[:, 5:35].astype(bool)).all()


@pytest.mark.parametrize("how", ["bytes of any file", "a view of another file", "a link"])
def test_pictures_do_not_come_from_other_files(root, how):
    secret = root / "secret"
    with h5py.File(secret, "w") as other:
        other["a"] = np.full((3, 40, 30), 7, np.uint8)
        other["img"] = np.zeros((3, 1))
    with h5py.File(root / FILE, "r+") as file:
        if how == "a link":
            del file["value/img"]
            file["value/img"] = h5py.ExternalLink(str(secret), "img")
        elif how == "bytes of any file":
            taken = file.create_dataset("t", (3, 40, 30), "u1", external=[(str(secret), 0, 3600)])
        else:
            layout = h5py.VirtualLayout((3, 40, 30), "u1")
            layout[...] = h5py.VirtualSource(str(secret), "a", (3, 40, 30))
            taken = file.create_virtual_dataset("t", layout)
        if how != "a link":
            file["value/img"][0, 0] = taken.ref
    where = "/value/img" if how == "a link" else "#0"
    with pytest.raises(InputError, match=rf"{where}: lies in another file.*restore gtsegs_ijcv\.mat"):
        read(root)


def test_the_layout_is_the_published_ones(root):
    """As TIBAV's loader reads it: transposed arrays behind references, the mask's behind two, names as UTF-16."""
    assert (root / FILE).read_bytes()[:19] == b"MATLAB 7.3 MAT-file"
    one = pictures()[1]
    with h5py.File(root / FILE) as file:
        assert file["/value/img"].shape == file["/value/gt"].shape == file["/value/id"].shape == (3, 1)
        assert "target" in file["value"]
        image = file[file["/value/img"][1, 0]][()]
        assert image.shape == (3, 30, 45) and (image.transpose(2, 1, 0) == one.image).all()
        inner = file[file["/value/gt"][1, 0]]
        assert inner.shape == (1, 1)
        assert (file[inner[0, 0]][()].transpose(1, 0) == one.mask).all()
        name = file[file["/value/id"][1, 0]][()]
        assert name.dtype == np.uint16 and "".join(map(chr, name.ravel())) == one.name


def test_an_archive_folder_is_looked_into_and_round_trips(root, tmp_path):
    (tmp_path / "archives").mkdir()
    shutil.move(root / FILE, tmp_path / "archives" / FILE)
    manifest = read(tmp_path)
    assert manifest.frame["path"][2] == f"archives/{FILE}#2"
    write_manifest(manifest.frame, tmp_path / "m.parquet", manifest.info)
    again = read_manifest(tmp_path / "m.parquet")
    assert again.info == manifest.info
    assert classes_of(again.info) == CLASSES
    with pytest.raises(InputError, match="names no ids of classes"):
        classes_of(type(again.info)("x", ".", "", ("a",)))


def test_the_fingerprint_follows_the_files_bytes(root, tmp_path):
    first = read(root).info.fingerprint
    assert read(root).info.fingerprint == first
    with open(root / FILE, "r+b") as file:
        file.seek(40)
        file.write(b"x")  # of MATLAB's header, which no picture is read from
    assert read(root).info.fingerprint != first


def _pixels(path):
    return np.asarray(decode(path)).tobytes()


def test_threads_and_forked_processes_read_the_same(root):
    paths = [str(Member(str(root / FILE), index, mask)) for index in range(3) for mask in (False, True)] * 8
    expected = [_pixels(path) for path in paths]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(_pixels, paths)) == expected
    with ProcessPoolExecutor(2, mp_context=get_context("fork")) as pool:
        found = pool.map(_pixels, paths)
        assert [_pixels(path) for path in paths] == expected, "the parent reads meanwhile"
        assert list(found) == expected


def test_a_replaced_file_is_opened_anew(root):
    path = str(Member(str(root / FILE), 0))
    before = _pixels(path)
    (root / FILE).unlink()
    write_mat(root / FILE, pictures()[::-1])
    assert _pixels(path) != before and _pixels(str(Member(str(root / FILE), 2))) == before


def test_names_of_files_are_no_members():
    assert member_of("a/b.mat#3") == Member("a/b.mat", 3)
    assert member_of("a/b.mat#3/gt") == Member("a/b.mat", 3, mask=True)
    for path in ("a/b.mat", "b.png", "b.png#3", "b.mat#3/img", "b.mat#x"):
        assert member_of(path) is None


def edited(root, edit):
    with h5py.File(root / FILE, "r+") as file:
        edit(file)


def _rename(file):
    file[file["value/id"][1, 0]][-1] = ord("!")


def _mask_of_another_size(file):
    array = file.create_dataset("#refs#/new", data=np.zeros((5, 6), np.uint8))
    file[file["value/gt"][0, 0]][0, 0] = array.ref


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / FILE).unlink(), r"gtsegs_ijcv\.mat: missing; .*`data_mirror`"),
        (
            lambda root: (root / FILE).write_bytes(b"MATLAB 5.0 MAT-file" + bytes(600)),
            "not of MATLAB v7.3, which is HDF5",
        ),
        (
            lambda root: (root / FILE).write_bytes((root / FILE).read_bytes()[:3000]),
            r"truncated, or not of MATLAB v7\.3.*`data_mirror`",
        ),
        (lambda root: edited(root, lambda file: file.__delitem__("value/gt")), "lacks the list /value/gt"),
        (lambda root: edited(root, lambda file: file.__delitem__("value")), "lacks the list /value/img"),
        (lambda root: edited(root, _rename), "picture 1 is 'n02121808_!', whose class is none of the 3"),
        (lambda root: edited(root, _mask_of_another_size), r"#0: has 40 x 30 pixels, its mask 5 x 6"),
    ],
)
def test_broken_files_are_named(root, damage, message):
    damage(root)
    with pytest.raises(InputError, match=message) as caught:
        read(root)
    assert "\n" not in str(caught.value)


def put(file, kind, data):
    """Make ``data``, or a group without any, the first picture or mask."""
    new = file.create_group("#refs#/new") if data is None else file.create_dataset("#refs#/new", data=data)
    place = file["value/img"] if kind == "img" else file[file["value/gt"][0, 0]]
    place[0, 0] = new.ref


@pytest.mark.parametrize("kind", ["img", "gt"])
@pytest.mark.parametrize(
    ("data", "message"),
    [
        (np.zeros((3, 40, 30)), r"holds float64 of shape \(3, 40, 30\), no pixels"),
        (np.zeros((4, 40, 30), np.uint8), r"holds uint8 of shape \(4, 40, 30\)"),
        (np.zeros((2, 40, 30), np.uint8), r"holds uint8 of shape \(2, 40, 30\)"),
        (np.zeros((1, 3, 40, 30), np.uint8), r"holds uint8 of shape \(1, 3, 40, 30\)"),
        (np.zeros((40, 30), bool), r"holds bool of shape \(40, 30\)"),
        (np.zeros(2, np.uint64), r"holds uint64 of shape \(2,\)"),  # as MATLAB writes an empty cell
        (np.uint8(3), r"holds uint8 of shape \(\)"),
        (None, "a folder in the place of an array"),
    ],
)
def test_what_is_not_pixels_is_named(root, kind, data, message):
    edited(root, lambda file: put(file, kind, data))
    with pytest.raises(InputError, match=r"mat#0(/gt)?: " + message + r".*`data_mirror`"):
        read(root)


def test_a_coloured_mask_is_none(root):
    edited(root, lambda file: put(file, "gt", np.zeros((3, 40, 30), np.uint8)))
    with pytest.raises(InputError, match=r"mat#0/gt: holds uint8 of shape \(3, 40, 30\)"):
        read(root)


def test_a_grey_picture_is_read(root):
    edited(root, lambda file: put(file, "img", np.full((40, 30), 51, np.uint8)))
    view = Preprocessing(30, 30)
    np.testing.assert_allclose(view.denormalise(load_images(read(root), [0], view)), 0.2, atol=1e-6)


def test_absent_and_damaged_arrays_are_named(root):
    pixels = np.random.default_rng(0).integers(0, 255, (3, 40, 30), np.uint8)

    def packed(file):
        options = {"data": pixels, "chunks": pixels.shape, "compression": "gzip"}
        file["value/img"][0, 0] = file.create_dataset("#refs#/new", **options).ref

    edited(root, packed)
    with h5py.File(root / FILE) as file:
        chunk, start = file["#refs#/new"].id.get_chunk_info(0), file.userblock_size
    manifest = read(root)
    content = bytearray((root / FILE).read_bytes())
    first = start + chunk.byte_offset
    assert (np.asarray(decode(root / f"{FILE}#0")) == pixels.transpose(2, 1, 0)).all()
    content[first + 5 : first + chunk.size - 5] = bytes(chunk.size - 10)
    (root / FILE).write_bytes(content)
    with pytest.raises(InputError, match=r"mat#0: damaged .*`data_mirror`"):
        load_images(manifest, [0], Preprocessing(30, 30))
    with pytest.raises(InputError, match=r"mat#7: no such array in the file"):
        decode(root / f"{FILE}#7")
    with pytest.raises(InputError, match=r"other\.mat: cannot be read"):
        read_size(root / "other.mat#0")


def test_classes_are_another_data_sets(root):
    with pytest.raises(InputError, match="picture 1 is 'n02121808_3', whose class is none of the 2"):
        read(root, classes={"n02084071": "dog", "n01440764": "tench"})
    with pytest.raises(InputError, match=r"which output .*`datasets\.imagenet_segmentation\.classes`"):
        read(root, classes=None)
    with pytest.raises(InputError, match="no training images"):
        read(root, require_training=True)


def test_the_rendered_one_is_read_by_the_same_reader(tmp_path):
    from relmap.data.render.catalogue import CLASSES as KINDS

    render_imagenet_segmentation(tmp_path / "a", classes=4, per_class=2, size=40, seed=1, workers=1)
    render_imagenet_segmentation(tmp_path / "b", classes=4, per_class=2, size=40, seed=1, workers=2)
    assert (tmp_path / "a" / FILE).read_bytes() == (tmp_path / "b" / FILE).read_bytes()
    names = {kind.wnid: kind.name for kind in sorted(KINDS[:4], key=lambda kind: kind.wnid)}
    manifest = read(tmp_path / "a", classes=names)
    assert sorted(label for labels in manifest.label_sets() for label in labels) == [0, 0, 1, 1, 2, 2, 3, 3]
    masks = load_masks(manifest, manifest.rows(), Preprocessing(40, 40))
    share = masks.float().mean((1, 2))
    assert ((share > 0.05) & (share < 0.9)).all(), "an object, and not all of the picture"


def test_figures_show_the_pictures_that_networks_see(root):
    """The pictures of figures are read without torch, by a function of their own."""
    member, preprocessing = f"{root / FILE}#0", Preprocessing(24, 24, fit="squash")
    shown = read_picture(member, preprocessing.to_dict())
    whole = decode(member).convert("RGB").resize((24, 24), Image.Resampling.BILINEAR)
    assert np.array_equal(shown, np.asarray(whole))
    with pytest.raises(InputError, match="gtsegs"):
        read_picture(f"{root / FILE}#99", preprocessing.to_dict())
