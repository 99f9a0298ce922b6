"""Decoding and the one geometry of images, boxes, masks and part maps."""

import numpy as np
import pytest
import torch
from dataset_trees import picture, save, write_cub
from PIL import Image
from relmap.data import decoding as module
from relmap.data.decoding import MAX_PIXELS, as_rgb, decode, read_size
from relmap.data.formats.cub import read_cub
from relmap.data.images import (
    ImageDataset,
    Preprocessing,
    batches,
    load_boxes,
    load_images,
    load_masks,
    load_part_maps,
    load_pixels,
    sizes_seen,
)
from relmap.data.manifest import build_manifest
from relmap.errors import InputError


def toy(root, paths, **columns):
    """A manifest over existing files; ``columns`` are added to each row."""
    rows = []
    for index, path in enumerate(paths):
        with Image.open(root / path) as image:
            size = dict(zip(("width", "height"), image.size, strict=True))
        rows.append({"image_id": str(index), "path": path, "split": "train", "labels": [0]} | size | columns)
    return build_manifest("toy", root, rows, ["a"])


WHOLE = Preprocessing(30, 30)


@pytest.mark.parametrize("size", [(40, 30), (30, 40), (33, 33), (101, 37), (64, 65)])
def test_the_same_pixels_as_torchvision(tmp_path, size):
    from relmap.torchvision_shim import torchvision

    save(picture(*size), tmp_path / "a.png")
    preprocessing = Preprocessing(32, 27)
    transforms = torchvision.transforms
    reference = transforms.Compose(
        [
            transforms.Resize(32),
            transforms.CenterCrop(27),
            transforms.ToTensor(),
            transforms.Normalize(preprocessing.mean, preprocessing.std),
        ]
    )
    ours = load_images(toy(tmp_path, ["a.png"]), [0], preprocessing)
    assert ours.dtype == torch.float32 and ours.shape == (1, 3, 27, 27)
    torch.testing.assert_close(ours[0], reference(Image.open(tmp_path / "a.png")), rtol=0, atol=1e-6)


def test_normalise_has_an_inverse():
    pixels = torch.arange(0, 256, dtype=torch.uint8).reshape(1, 1, 16, 16).expand(2, 3, 16, 16)
    assert (WHOLE.denormalise(WHOLE.normalise(pixels)) * 255 - pixels).abs().max() < 1e-3
    assert Preprocessing.from_dict(WHOLE.to_dict()) == WHOLE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((20, 30), "crop 30 must be positive and at most resize 20"), ((30, 0), "crop 0"), ((8, 8, (0, 0)), "three")],
)
def test_impossible_preprocessing_is_refused(arguments, message):
    with pytest.raises(InputError, match=message):
        Preprocessing(*arguments)


@pytest.mark.parametrize("mode", ["L", "1", "LA", "P", "RGBA", "I;16"])
def test_other_modes_become_rgb(tmp_path, mode):
    original = picture(30, 30)
    grey = np.asarray(original.convert("L"))
    image = Image.fromarray(grey.astype(np.uint16) * 257) if mode == "I;16" else original.convert(mode)
    save(image, tmp_path / "a.png")
    pixels = load_pixels(toy(tmp_path, ["a.png"]), [0], WHOLE)[0].permute(1, 2, 0).numpy()
    if mode in ("L", "LA", "I;16"):
        assert (pixels == grey[..., None]).all(), "16 bits are scaled, not clipped; alpha is ignored"
    else:
        assert (pixels == np.asarray(image.convert("RGB"))).all()


def test_cmyk_jpeg_and_png_named_jpeg(tmp_path):
    original = picture(30, 30)
    save(original.convert("CMYK"), tmp_path / "cmyk.JPEG", format="JPEG", quality=95)
    save(original, tmp_path / "png.JPEG", format="PNG")
    pixels = load_pixels(toy(tmp_path, ["cmyk.JPEG", "png.JPEG"]), [0, 1], WHOLE).float()
    assert (pixels[1].permute(1, 2, 0).numpy() == np.asarray(original)).all()
    assert (pixels[0] - pixels[1]).abs().mean() < 12, "the colours survive, they are not inverted"


def test_an_exif_rotation_does_not_tear_box_and_image_apart(tmp_path):
    white = np.zeros((30, 60, 3), np.uint8)
    white[5:15, 20:40] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 90 degrees for display
    save(Image.fromarray(white), tmp_path / "a.jpg", exif=exif, quality=100)
    assert read_size(tmp_path / "a.jpg") == (60, 30)
    manifest = toy(tmp_path, ["a.jpg"], boxes=[[20.0, 5.0, 40.0, 15.0]])
    bright = load_pixels(manifest, [0], WHOLE)[0].float().mean(0) > 128
    assert (bright == load_boxes(manifest, [0], WHOLE)[0]).all()


def test_a_pixel_is_inside_when_its_centre_is(tmp_path):
    save(picture(30, 30), tmp_path / "a.png")
    boxes = [[2.4, 3.6, 5.5, 5.6], [10.0, 10.0, 12.0, 12.0], [11.0, 11.0, 30.0, 12.0]]
    inside = load_boxes(toy(tmp_path, ["a.png"], boxes=boxes), [0], WHOLE)[0]
    expected = torch.zeros(30, 30, dtype=torch.bool)
    expected[4:6, 2:5] = True
    expected[10:12, 10:12] = True
    expected[11, 11:30] = True
    assert (inside == expected).all()


def test_boxes_of_many_images_are_not_mixed_up(tmp_path):
    manifest = read_cub(write_cub(tmp_path))
    frame = manifest.frame
    frame.at[1, "boxes"] = [[0.0, 0.0, 40.0, 30.0]]
    frame.at[4, "boxes"] = [[5.0, 0.0, 6.0, 30.0], [30.0, 2.0, 31.0, 3.0]]
    together = load_boxes(manifest, [4, 0, 1], WHOLE)
    assert together.flatten(1).sum(1).tolist() == [31, 200, 900]
    assert (together[1:2] == load_boxes(manifest, [0], WHOLE)).all()
    assert load_boxes(manifest, [], WHOLE).shape == (0, 30, 30)


def test_an_image_without_box_mask_or_parts_is_named(tmp_path):
    save(picture(), tmp_path / "a.png")
    manifest = toy(tmp_path, ["a.png"])
    for load, what in ((load_boxes, "bounding box"), (load_masks, "segmentation mask"), (load_part_maps, "part map")):
        with pytest.raises(InputError, match=rf"a\.png: the image has no {what}; add"):
            load(manifest, [0], WHOLE)


def test_nearest_keeps_part_indices(tmp_path):
    save(picture(90, 90), tmp_path / "a.png")
    parts = np.zeros((90, 90), np.uint8)
    parts[:, 30:60], parts[:, 60:] = 3, 9
    save(Image.fromarray(parts), tmp_path / "p.png")
    manifest = toy(tmp_path, ["a.png"], part_map_path="p.png", mask_path="p.png")
    loaded = load_part_maps(manifest, [0], Preprocessing(40, 40))
    assert loaded.dtype == torch.uint8 and loaded.unique().tolist() == [0, 3, 9]
    assert (load_masks(manifest, [0], Preprocessing(40, 40)) == (loaded > 0)).all()


def test_a_mask_of_another_size_is_named(tmp_path):
    save(picture(40, 30), tmp_path / "a.png")
    save(Image.new("L", (30, 40)), tmp_path / "m.png")
    with pytest.raises(InputError, match=r"m\.png: the segmentation mask has 30 x 40 pixels, its image 40 x 30"):
        load_masks(toy(tmp_path, ["a.png"], mask_path="m.png"), [0], WHOLE)


def test_a_truncated_jpeg_is_named(tmp_path):
    save(picture(), tmp_path / "good.jpg")
    save(picture(seed=1), tmp_path / "bad.jpg")
    manifest = toy(tmp_path, ["good.jpg", "bad.jpg"])
    content = (tmp_path / "bad.jpg").read_bytes()
    (tmp_path / "bad.jpg").write_bytes(content[: len(content) * 2 // 3])
    with pytest.raises(InputError, match=r"bad\.jpg: corrupt or truncated image .*restore it from the archive"):
        load_images(manifest, [0, 1], WHOLE)
    assert load_images(manifest, [0], WHOLE).shape[0] == 1


@pytest.mark.parametrize("content", [b"", b"\xff\xd8\xff\xe0", b"<html>404</html>", b"\x89PNG\r\n\x1a\n" + bytes(40)])
def test_what_is_no_image_is_named(tmp_path, content):
    save(picture(), tmp_path / "a.jpg")
    manifest = toy(tmp_path, ["a.jpg"])
    (tmp_path / "a.jpg").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.jpg: corrupt or truncated"):
        load_images(manifest, [0], WHOLE)
    with pytest.raises(InputError, match=r"a\.jpg: corrupt or truncated"):
        read_size(tmp_path / "a.jpg")


def test_an_absent_image_is_named(tmp_path):
    save(picture(), tmp_path / "a.jpg")
    manifest = toy(tmp_path, ["a.jpg"])
    (tmp_path / "a.jpg").unlink()
    with pytest.raises(InputError, match=r"a\.jpg: no such image; restore it, or make the manifest again"):
        load_images(manifest, [0], WHOLE)


@pytest.mark.parametrize("pillow_limit", [None, 100])
def test_a_decompression_bomb_is_refused_before_it_is_decoded(tmp_path, monkeypatch, pillow_limit):
    save(picture(), tmp_path / "a.png")
    manifest = toy(tmp_path, ["a.png"])
    monkeypatch.setattr(module, "MAX_PIXELS", 1199)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", pillow_limit)
    with pytest.raises(InputError, match=r"a\.png: the image has .*allowed 1199 pixels; shrink or remove it"):
        load_images(manifest, [0], Preprocessing(20, 20))


def test_a_line_of_pixels_is_refused_before_it_is_resized(tmp_path):
    """400,000 x 2 pixels, of which a shorter side of 224 would make 30 GB."""
    Image.new("1", (400_000, 2)).save(tmp_path / "line.png")
    message = r"line\.png: the image has 400000 x 2 pixels, one side more than 100 times the other; cut or remove it"
    for read in (read_size, decode):
        with pytest.raises(InputError, match=message):
            read(tmp_path / "line.png")
    with pytest.raises(InputError, match=message):
        toy(tmp_path, ["line.png"])
    # A manifest of an earlier version has it.
    save(picture(30, 30), tmp_path / "a.png")
    manifest = toy(tmp_path, ["a.png"])
    manifest.frame.loc[0, "width"] = 200 * MAX_PIXELS
    for fit in ("crop", "aspect"):
        seen = Preprocessing(30, 30, fit=fit)
        loads = [load_pixels] + [sizes_seen] * (fit == "aspect")
        for load in loads:
            with pytest.raises(InputError, match=r"a\.png: resized, the image has \d+ x 30 pixels, more than"):
                load(manifest, [0], seen)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_each_format_is_read(tmp_path, kind):
    Image.new("RGB", (30, 20), (255, 255, 255)).save(tmp_path / "a", format=kind)
    assert read_size(tmp_path / "a") == (30, 20)
    assert np.asarray(as_rgb(decode(tmp_path / "a"))).min() >= 254


def test_pixels_of_32_bits_are_scaled_by_a_range_that_tells_or_refused(tmp_path):
    grey = np.linspace(0, 255, 900).round().reshape(30, 30)
    for values in (grey / 255, grey):
        Image.fromarray(values.astype(np.float32)).save(tmp_path / "a.tif")
        assert (load_pixels(toy(tmp_path, ["a.tif"]), [0], WHOLE)[0].numpy() == grey).all()
    Image.fromarray((grey * 257).astype(np.int32)).save(tmp_path / "a.tif")
    assert (load_pixels(toy(tmp_path, ["a.tif"]), [0], WHOLE)[0].numpy() == grey).all()
    for values, kind in (
        (grey - 1, np.float32),
        (grey * 257, np.float32),
        (np.full((30, 30), np.nan), np.float32),
        (grey, np.int32),
        (grey * 258, np.int32),
        (-grey, np.int32),
    ):
        Image.fromarray(values.astype(kind)).save(tmp_path / "a.tif")
        with pytest.raises(InputError, match=r"a\.tif: .* do not tell what is black and white; s(cale|ave)"):
            load_pixels(toy(tmp_path, ["a.tif"]), [0], WHOLE)


def test_a_mask_of_fractions_is_refused(tmp_path):
    save(picture(30, 30), tmp_path / "a.png")
    for value, ok in ((1.0, True), (0.5, False)):
        Image.fromarray(np.full((30, 30), value, np.float32)).save(tmp_path / "mask.tif")
        manifest = toy(tmp_path, ["a.png"], mask_path="mask.tif")
        if ok:
            assert load_masks(manifest, [0], WHOLE).all()
        else:
            with pytest.raises(InputError, match=r"mask\.tif: the segmentation mask holds fractions; save whole"):
                load_masks(manifest, [0], WHOLE)


def test_batches_are_the_same_for_any_size_and_threads(tmp_path):
    manifest = read_cub(write_cub(tmp_path))
    rows = np.array([5, 0, 3, 2, 1])
    whole = load_images(manifest, rows, WHOLE, workers=1)
    for batch_size, workers in ((1, 3), (2, 1), (5, 2), (9, None)):
        images, seen = zip(*batches(manifest, rows, WHOLE, batch_size, workers), strict=True)
        assert (torch.cat(images) == whole).all()
        assert np.concatenate(seen).tolist() == list(range(5))
    assert list(batches(manifest, [], WHOLE, 4)) == []


def test_batches_report_a_broken_image(tmp_path):
    manifest = read_cub(write_cub(tmp_path))
    manifest.resolve(manifest.frame["path"][3]).write_bytes(b"no")
    stream = batches(manifest, range(6), WHOLE, 2)
    assert next(stream)[1].tolist() == [0, 1]
    with pytest.raises(InputError, match=r"Laysan_Albatross_0000_4\.jpg: corrupt"):
        list(stream)


def test_dataset_items(tmp_path):
    manifest = read_cub(write_cub(tmp_path))
    dataset = ImageDataset(manifest, manifest.rows("train"), WHOLE)
    pixels, label, row = dataset[3]
    assert (len(dataset), label, row) == (4, 1, 4)
    assert (WHOLE.normalise(pixels[None]) == load_images(manifest, [4], WHOLE)).all()
    loader = torch.utils.data.DataLoader(dataset, batch_size=3)
    assert [batch[0].shape[0] for batch in loader] == [3, 1]


def test_pictures_that_keep_their_aspect_come_by_size(tmp_path):
    """Shorter side 20, the longer truncated; each image is the same alone and in a batch."""
    for name, size in (("wide", (47, 30)), ("tall", (30, 47)), ("wide2", (47, 30))):
        save(picture(*size), tmp_path / f"{name}.png")
    manifest = toy(tmp_path, ["wide.png", "tall.png", "wide2.png"], boxes=[[0, 0, 30, 30]])
    seen = Preprocessing(20, 20, fit="aspect")
    assert sizes_seen(manifest, [0, 1, 2], seen).tolist() == [[20, 31], [31, 20], [20, 31]]
    found = list(batches(manifest, [2, 1, 0], seen, 8))
    assert [places.tolist() for _, places in found] == [[0, 2], [1]]
    assert (found[0][0][1:] == load_images(manifest, [0], seen)).all()
    with pytest.raises(InputError, match=r"images of 2 sizes after resizing.*take those of one size at a time"):
        load_images(manifest, [0, 1], seen)
    inside = load_boxes(manifest, [1], seen)[0]
    assert inside.shape == (31, 20)
    assert inside.all(1).tolist() == [True] * 20 + [False] * 11, "30 of 47 pixels in height are 19.8 of 31"


def test_squashed_and_unsmoothed_pictures(tmp_path):
    """Squashing maps the corners of boxes to the corners; without antialiasing four neighbours make a pixel."""
    save(picture(60, 40), tmp_path / "a.png")
    manifest = toy(tmp_path, ["a.png"], boxes=[[0, 0, 30, 40]])
    squashed = Preprocessing(20, 20, fit="squash")
    assert load_boxes(manifest, [0], squashed)[0].float().mean(0).tolist() == [1.0] * 10 + [0.0] * 10
    rough = Preprocessing(20, 20, fit="squash", antialias=False)
    stored = torch.from_numpy(np.array(decode(manifest.resolve("a.png")))).permute(2, 0, 1)[None].double()
    expected = torch.nn.functional.interpolate(stored, (20, 20), mode="bilinear").round()
    assert (load_pixels(manifest, [0], rough).double() == expected).all()
    assert (load_pixels(manifest, [0], squashed).double() != expected).any()
    assert Preprocessing.from_dict(rough.to_dict()) == rough
    with pytest.raises(InputError, match="choose one of crop, squash, aspect"):
        Preprocessing(20, 20, fit="stretch")
    with pytest.raises(InputError, match="crops nothing"):
        Preprocessing(24, 20, fit="aspect")
