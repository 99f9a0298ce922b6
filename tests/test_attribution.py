"""Maps of a run: range after range they are those of all pairs at once, each at its pair's place."""

from contextlib import ExitStack

import numpy as np
import pytest
import torch
from metric_cases import manifest_of
from PIL import Image
from relmap.catalogue.methods import CATALOGUE
from relmap.data.images import Preprocessing, load_images, sizes_seen
from relmap.evidence.maps import open_maps, writing_maps
from relmap.explanation import explain
from relmap.inspection.attribution import explain_pairs
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


def stored(subject, folder, at_once):
    rows, targets = (np.array(column) for column in zip(*PAIRS, strict=True))
    ids = [f"p{row}" for row in rows]
    sizes = sizes_seen(subject.manifest, rows, subject.preprocessing)
    given = {CATALOGUE[name]: {} for name in METHODS}
    with ExitStack() as stack:
        frame = (24, 30)
        writers = {m: writing_maps(folder / f"{m}.zarr", frame, ids, targets, {"method": m}, 4, sizes) for m in METHODS}
        keep = {method: stack.enter_context(writer).append for method, writer in writers.items()}
        explain_pairs(subject, ids, rows, targets, sizes, given, keep, at_once)
    return {name: open_maps(folder / f"{name}.zarr").part(slice(None)) for name in METHODS}


def same(found, expected):
    """Equal but for how batches of other sizes round in single precision."""
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6 * np.abs(expected).max())


def test_no_map_depends_on_the_ranges_and_each_is_its_pairs(subject, tmp_path):
    whole = stored(subject, tmp_path / "whole", 1 << 20)
    for at_once in (1, 24 * 30 * 4 * 2 * 5):
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
