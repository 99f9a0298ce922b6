"""Birds beside their siblings: which are shown, what is kept, and what the figures say of them."""

import numpy as np
import pandas as pd
import pytest
import torch
from relmap.catalogue.metrics import METRICS
from relmap.data.formats.cub import read_cub
from relmap.data.images import Preprocessing, load_pixels
from relmap.data.render import birds, render_cub
from relmap.data.render.minimal_pairs import minimal_pairs
from relmap.errors import InputError
from relmap.evidence.siblings import Siblings, read_siblings, write_siblings
from relmap.figures.siblings import METRIC, net_shares, numbers_figure, siblings_figure
from relmap.inspection.siblings import clearest
from relmap.job.subject import Subject
from relmap.metrics.minimal_pairs import seen_changes
from torch import nn

SIDE = 56


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """Two families of four, one test picture a class."""
    root = tmp_path_factory.mktemp("siblings") / "cub"
    render_cub(root, classes=8, train_per_class=1, test_per_class=1, size=SIDE, seed=3)
    return read_cub(root)


class Knows(nn.Module):
    """A class's logit falls with the distance from the nearest picture that is known to be of it."""

    def __init__(self, pictures, labels):
        super().__init__()
        self.known, self.labels = nn.Parameter(pictures.double().flatten(1)), labels

    def forward(self, images):
        distances = torch.cdist(images.double().flatten(1), self.known)
        return torch.stack([-distances[:, self.labels == label].amin(1) for label in range(8)], 1)


@pytest.fixture(scope="module")
def siblings(manifest):
    """What is shown of a network that knows each bird, and what it becomes with its sibling's part."""
    rows, view = manifest.rows("test"), Preprocessing(SIDE, SIDE)
    stored = load_pixels(manifest, rows, view)
    changes = seen_changes(view, minimal_pairs(manifest, rows), stored)
    of_siblings = changes.sibling >= 0
    labels = np.concatenate([manifest.single_labels(rows), changes.sibling[of_siblings]])
    known = view.normalise(torch.cat([stored, changes.pixels[of_siblings]]))
    model = Knows(known, torch.from_numpy(labels))
    subject = Subject(manifest, model, None, view, torch.device("cpu"), 64, 1)
    return clearest(subject, rows, 3)


def test_what_is_shown_is_a_bird_and_its_sibling_that_differ_in_one_part(siblings):
    assert len(siblings.parts) == 3 and len(set(siblings.image_ids)) == len(siblings.image_ids)
    for part, (own, other) in zip(siblings.parts, siblings.targets, strict=True):
        differing = birds.differing_parts(birds.bird_class(own, 3), birds.bird_class(other, 3))
        assert differing == (part,)
    np.testing.assert_array_equal(siblings.differs, (siblings.pictures != siblings.changed).any(3))
    assert siblings.differs.any((1, 2)).all() and (siblings.drops > 0).all()
    fresh = len(set(siblings.parts))
    assert sorted(siblings.drops[:fresh], reverse=True) == siblings.drops[:fresh].tolist()


def test_of_a_network_that_knows_no_sibling_nothing_is_shown(manifest, tmp_path):
    rows, view = manifest.rows("test"), Preprocessing(SIDE, SIDE)
    model = Knows(view.normalise(load_pixels(manifest, rows, view)), torch.from_numpy(manifest.single_labels(rows)))
    model.labels = torch.zeros(len(rows), dtype=torch.int64) + 7  # it calls every bird by one name
    model.forward = lambda images: torch.eye(8, dtype=torch.float64)[7].expand(len(images), -1)
    found = clearest(Subject(manifest, model, None, view, torch.device("cpu"), 64, 1), rows, 3)
    write_siblings(found, {"saliency": np.empty((0, 2, SIDE, SIDE), np.float32)}, tmp_path / "none.npz")
    again, maps = read_siblings(tmp_path / "none.npz")
    assert again.parts == [] and again.targets.shape == (0, 2) and maps["saliency"].shape == (0, 2, SIDE, SIDE)


def test_what_is_kept_is_read_and_what_is_damaged_refused(tmp_path, siblings):
    path = tmp_path / "vgg16.npz"
    maps = {"saliency": np.ones((len(siblings.parts), 2, SIDE, SIDE), np.float32)}
    write_siblings(siblings, maps, path)
    again, kept = read_siblings(path)
    assert again.image_ids == siblings.image_ids and again.parts == siblings.parts
    np.testing.assert_array_equal(again.changed, siblings.changed)
    np.testing.assert_array_equal(kept["saliency"], maps["saliency"])
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"vgg16\.npz: not a file of birds"):
        read_siblings(path)


def test_shares_are_signed_and_those_of_an_empty_map_are_0():
    differs = np.zeros((2, 4, 4), bool)
    differs[:, :1] = True
    maps = np.zeros((2, 2, 4, 4))
    maps[0, 0, 0, 0], maps[0, 0, 3, 3] = -1, 3
    maps[0, 1] = 1
    np.testing.assert_array_equal(net_shares(maps, differs), [[-0.25, 0.25], [0, 0]])


def test_the_figure_says_what_each_row_asks(siblings):
    blank = np.zeros((len(siblings.parts), 2, SIDE, SIDE))
    maps = {"saliency": np.ones_like(blank), "lrp_epsilon": blank}
    names = [f"Class {label}" for label in range(8)]
    texts = [text.get_text() for axes in siblings_figure(siblings, maps, names).axes for text in axes.texts]
    for part, (own, other) in zip(siblings.parts, siblings.targets, strict=True):
        assert f"the {part}:\nClass {own}" in texts and f"for its sibling:\nClass {other}" in texts
    assert texts.count("0 everywhere") == 2 * len(siblings.parts)
    none = Siblings([], [], *(np.empty((0, 2)) for _ in range(5)))
    (text,) = [text.get_text() for axes in siblings_figure(none, maps, names).axes for text in axes.texts]
    assert text == "No bird and its sibling are both classified rightly."
    with pytest.raises(InputError, match=r"engine\.siblings"):
        siblings_figure(siblings, {}, names)


def test_numbers_stand_beside_chance_the_best_first():
    rows = [
        {
            "dataset": "cub200_2011",
            "model": model,
            "metric": column.rows,
            "method": method,
            "control": method == "constant",
        }
        | {"mean": mean, "mean_low": mean - 0.1, "mean_high": mean + 0.1}
        for column in METRICS[METRIC].columns
        for model in ("vgg16", "resnet50")
        for method, mean in (("saliency", 0.4), ("lrp_epsilon", 0.7), ("constant", 0.5))
    ]
    figure = numbers_figure(pd.DataFrame(rows), {"saliency": "Saliency", "lrp_epsilon": "LRP"})
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == ["LRP", "Constant", "Saliency"]
    for axes, column in zip(figure.axes, METRICS[METRIC].columns, strict=True):
        lines = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == "--"]
        assert lines == ([] if column.chance is None else [column.chance])
    (text,) = numbers_figure(pd.DataFrame(rows).assign(metric="pointing"), {}).axes[0].texts
    assert "No method has a number" in text.get_text()
