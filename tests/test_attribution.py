"""Maps of a run: block after block, and job after job, they are those of all pairs, each at its pair's place."""

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis.strategies import integers
from metric_cases import manifest_of
from PIL import Image
from relmap.catalogue.methods import CATALOGUE
from relmap.data.images import Preprocessing, load_images, sizes_seen
from relmap.errors import InputError
from relmap.evidence.maps import join_maps, open_maps, verify_maps, writing_maps
from relmap.explanation import explain
from relmap.inspection.attribution import blocks_of, explain_pairs
from relmap.job.share import Share
from relmap.job.subject import Subject
from torch import nn

METHODS = ("lrp_epsilon", "saliency")


@pytest.fixture(scope="module")
def subject(tmp_path_factory):
    """Seven pictures of two sizes."""
    root, rng, pictures = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0), []
    for place in range(7):
        height, width = (24, 24) if place % 3 else (24, 30)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(root / f"p{place}.png")
        pictures.append({"width": width, "height": height, "labels": [0]})
    manifest = manifest_of(pictures, classes=3)
    object.__setattr__(manifest.info, "root", str(root))
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3)]
    model = nn.Sequential(*layers).eval()
    return Subject(manifest, model, None, Preprocessing(24, 24, fit="aspect"), torch.device("cpu"), 2, 1)


# Images with one, two and three targets.
PAIRS = [(0, 1), (1, 0), (1, 2), (2, 0), (3, 0), (3, 1), (3, 2), (4, 2), (5, 0), (5, 1), (6, 2)]


FRAME = (24, 30)
IDS = [f"p{row}" for row, _ in PAIRS]
TARGETS = np.array([target for _, target in PAIRS])


def stored(subject, folder, at_once=1 << 20, share=Share()):  # noqa: B008  # frozen
    rows = np.array([row for row, _ in PAIRS])
    sizes = sizes_seen(subject.manifest, rows, subject.preprocessing)
    blocks = share.of(blocks_of(IDS, len(METHODS), FRAME, subject.batch_size, at_once))
    own = slice(blocks[0].start, blocks[-1].stop) if blocks else slice(0)
    with ExitStack() as stack:
        keep = {}
        for name in METHODS:
            pairs = FRAME, IDS[own], TARGETS[own], {"method": name}, 4, sizes[own]
            keep[name] = stack.enter_context(writing_maps(folder / f"{name}.zarr", *pairs)).append
        rows_given = {CATALOGUE[name]: {} for name in METHODS}
        explain_pairs(subject, IDS, rows, TARGETS, FRAME, blocks, rows_given, keep)
    return {name: open_maps(folder / f"{name}.zarr").part(slice(None)) for name in METHODS}


def same(found, expected):
    """Equal but for how batches of other sizes round in single precision."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_no_map_depends_on_the_blocks_and_each_is_its_pairs(subject, tmp_path):
    whole = stored(subject, tmp_path / "whole")
    for at_once in (1, 24 * 30 * 4 * 2 * 3):
        found = stored(subject, tmp_path / str(at_once), at_once)
        for name in METHODS:
            assert found[name].image_ids == whole[name].image_ids
            for own, other in zip(found[name].maps, whole[name].maps, strict=True):
                same(own, other)
    for place, (row, target) in enumerate(PAIRS):
        image = load_images(subject.manifest, [row], subject.preprocessing)
        for name in METHODS:
            own, (height, width) = whole[name].maps[place], whole[name].sizes[place]
            same(own[:height, :width], explain(subject.model, image, torch.tensor([target]), name)[0].numpy())
            assert not own[:, width:].any() and width in (24, 30)


@pytest.mark.parametrize("count", [2, 3, 50])
def test_jobs_that_divide_the_pairs_make_the_maps_to_the_bit_that_one_does(subject, tmp_path, count):
    shares = [tmp_path / f"{place + 1}-of-{count}" for place in range(count)]
    held = [len(stored(subject, folder, share=Share.parse(folder.name))["saliency"].maps) for folder in shares]
    assert sum(held) == len(PAIRS) and sum(map(bool, held)) > 1
    stored(subject, tmp_path / "whole")
    for name in METHODS:
        join_maps([folder / f"{name}.zarr" for folder in shares], tmp_path / f"{name}.zarr", IDS, TARGETS)
        assert verify_maps(tmp_path / f"{name}.zarr") == verify_maps(tmp_path / "whole" / f"{name}.zarr")


def test_stores_that_do_not_hold_the_pairs_are_not_joined(subject, tmp_path):
    for number in (1, 2, 3):
        stored(subject, tmp_path / str(number), share=Share(number, 3))
    first, second, third = (tmp_path / str(number) / "saliency.zarr" for number in (1, 2, 3))
    for parts in ([first, third], [second, first, third]):
        with pytest.raises(InputError, match="not those of the 11 pairs"):
            join_maps(parts, tmp_path / "saliency.zarr", IDS, TARGETS)
    with pytest.raises(InputError, match="of other settings"):
        join_maps([first, third.with_name("lrp_epsilon.zarr")], tmp_path / "saliency.zarr", IDS, TARGETS)


@pytest.mark.parametrize("text", ["0-of-2", "3-of-2", "2", "a-of-b", ""])
def test_what_names_no_share_is_refused(text):
    with pytest.raises(ValueError, match="2-of-8"):
        Share.parse(text)


@given(blocks=integers(0, 40), count=integers(1, 50))
def test_shares_are_all_blocks_in_order_and_nearly_equal(blocks, count):
    shares = [Share(number, count).of(range(blocks)) for number in range(1, count + 1)]
    assert [block for share in shares for block in share] == list(range(blocks))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
