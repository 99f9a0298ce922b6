"""Deletion and insertion against the reference vectors, the definition restated slowly, and maps of known values."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from metric_cases import case_of, values_of
from reference_nets import inputs, network
from relmap.data.images import Preprocessing
from relmap.errors import InputError
from relmap.evidence.statistics import area_under
from relmap.evidence.values import image_scores
from relmap.metrics import deletion_insertion
from relmap.metrics.deletion_insertion import (
    DELETION,
    INSERTION,
    even_points,
    points,
    probabilities,
    score,
    score_black,
)
from relmap.metrics.insertion_blur import gaussian_blur
from relmap.metrics.ranking import TIES
from torch import nn

REFERENCE = Path(__file__).parent / "reference" / "metrics"
SIDES = {"ins": INSERTION, "del": DELETION}
GREY, BLACK = torch.zeros(3), torch.full((3,), -2.0)


@pytest.fixture(scope="module")
def shared():
    """Eight images and labels, five maps of each, the numbers."""
    expected = np.load(REFERENCE / "insdel.npz")
    images, targets = inputs(torch.float32)
    maps = torch.from_numpy(np.load(REFERENCE / "maps.npz")["maps"])[:, expected["map_index"]]
    return images, targets[0], maps, dict(expected)


def of_pairs(shared, chosen, points, behind, deleted_to, ties="strict", classes=None, change=lambda maps: maps):
    """Curves (pairs, 2, T) of some of the 40 pairs of image and map, and their areas (pairs, 2)."""
    images, labels, maps, _ = shared
    counts, levels = points
    owner = torch.arange(40)[chosen] // 5
    behind = behind[owner] if behind.ndim == 4 else behind
    classes = labels if classes is None else classes
    some = change(maps.flatten(0, 1)[chosen])
    model = network("vgg16", torch.float32)
    found = probabilities(model, images[owner], some, classes[owner], counts, behind, deleted_to, (ties,))[:, 0].numpy()
    return found, np.stack([area_under(found[:, side], levels) for side in (INSERTION, DELETION)], axis=1)


def compare(shared, chosen, names, found, areas):
    """``names`` with a place for ins or del."""
    for side, place in SIDES.items():
        for what, values in (("curve", found), ("auc", areas)):
            theirs = shared[3][f"{names.format(side)}_{what}"]
            theirs = theirs.reshape(40, *theirs.shape[2:])[chosen]
            np.testing.assert_allclose(values[:, place], theirs, atol=1e-5 if what == "curve" else 1e-6)


@pytest.mark.parametrize(("step", "chosen"), [(512, slice(None)), (147, slice(1, None, 2))])
def test_vectors_of_ucag(shared, step, chosen):
    images, _, _, expected = shared
    blurred = gaussian_blur(images, 51, 50.0)
    np.testing.assert_allclose(blurred[:2], expected["ucag_blur_substrate"], atol=1e-6)
    compare(
        shared,
        chosen,
        f"ucag_{{}}_step{step}",
        *of_pairs(shared, chosen, even_points(4096, step / 64, 64), blurred, GREY),
    )


def test_vectors_of_rise(shared):
    """Its own blur, and the class that is predicted."""
    images, _, _, expected = shared
    kernel = torch.from_numpy(expected["rise_kernel11"]).expand(3, 1, 11, 11)
    blurred = F.conv2d(images, kernel, padding=5, groups=3)
    np.testing.assert_allclose(blurred[:2], expected["rise_blur_substrate"], atol=1e-6)
    predicted, some = torch.from_numpy(expected["pred_class"]), slice(2, None, 5)
    fine = of_pairs(shared, some, even_points(4096, 1, 64), blurred, GREY, classes=predicted)
    compare(shared, some, "rise_{}", *fine)
    curves, areas = of_pairs(shared, slice(None), even_points(4096, 8, 64), blurred, GREY, classes=predicted)
    for side, place in SIDES.items():
        np.testing.assert_allclose(curves[:, place].reshape(8, 5, 9), expected[f"rise_{side}_bulk_curve"], atol=1e-5)
        mean = areas[:, place].reshape(8, 5).mean(0)
        np.testing.assert_allclose(mean, expected[f"rise_{side}_bulk_auc_of_mean"], atol=1e-6)


@pytest.mark.parametrize(("kind", "chosen"), [("zero", slice(3, None, 7)), ("black", slice(0, None, 3))])
def test_vectors_of_c3(shared, kind, chosen):
    wanted = points(4096, 100)
    assert wanted[0] == shared[3]["c3_n"].tolist()
    curves, areas = of_pairs(shared, chosen, wanted, GREY if kind == "zero" else BLACK, None)
    compare(shared, chosen, f"c3_{kind}_{{}}", curves, areas)
    theirs = shared[3][f"c3_{kind}_id"].reshape(40)[chosen]
    np.testing.assert_allclose(areas[:, INSERTION] - areas[:, DELETION], theirs, atol=1e-6)


def eight_levels(maps):
    """Maps floored to the lower edges of seven equal bins; the maximum keeps its own."""
    low, high = (bound(maps, (1, 2), keepdim=True).flatten() for bound in (torch.amin, torch.amax))
    edges = torch.stack([torch.linspace(a, b, 8) for a, b in zip(low, high, strict=True)])
    edges[:, -1] = high
    place = torch.searchsorted(edges, maps.flatten(1), right=True) - 1
    return edges.gather(1, place).view_as(maps)


@pytest.mark.parametrize("kind", ["raw", "q8"])
def test_vectors_of_the_released_code(shared, kind):
    """All of a tie at once, from one step on; the quantised maps have nothing but ties."""
    wanted, chosen = points(4096, 100, "released"), slice(0, None, 4) if kind == "raw" else slice(None)
    assert wanted[0][:3] == [42, 83, 124] and wanted[0][-2:] == [4060, 4096] and len(wanted[0]) == 100
    change = eight_levels if kind == "q8" else lambda maps: maps
    if kind == "q8":
        got = eight_levels(shared[2][:3].flatten(0, 1)).view(3, 5, 64, 64)
        np.testing.assert_allclose(got, shared[3]["lrpres_q8_maps"], atol=1e-6)
    compare(
        shared, chosen, f"lrpres_{kind}_{{}}", *of_pairs(shared, chosen, wanted, BLACK, None, "at_once", None, change)
    )


def test_points():
    assert even_points(50176, 8, 224)[0] == [1792 * k for k in range(29)]
    counts, levels = even_points(299 * 299, 8, 299)
    assert len(counts) == 39 and counts[-2:] == [37 * 2392, 299 * 299] and levels[1] == 1 / 38
    assert even_points(10, 0.1, 5) == (list(range(11)), [k / 10 for k in range(11)]), "a pixel at least"
    counts, levels = points(50176, 100)
    assert counts[:3] == [0, 502, 1004] and counts[-1] == 50176 and levels[1] == 502 / 50176 and len(counts) == 101
    assert points(10, 4)[0] == [0, 3, 5, 8, 10], "halves up"
    counts, levels = points(50176, 100, "released")
    assert counts[:2] == [501, 1001] and counts[-2:] == [50001, 50176] and len(counts) == 101
    np.testing.assert_allclose(np.diff(levels), 1 / 101, atol=1e-15)
    with pytest.raises(InputError, match=r"deletion_insertion_black\.points.* is 'code'; choose paper or released"):
        points(100, 10, "code")
    with pytest.raises(InputError, match=r"deletion_insertion_black\.steps.* is 101; give at most 100"):
        points(100, 101)


class Toy(nn.Module):
    """Three classes by a random linear layer and a curve, of pictures 6 x 5; keeps what it saw."""

    def __init__(self, shift=0.0):
        super().__init__()
        weights = torch.randn(90, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
        self.weights, self.shift, self.seen = weights, shift, []

    def forward(self, x):
        self.seen.append(x.clone(memory_format=torch.contiguous_format))
        return (x.flatten(1).double() @ self.weights).tanh() * 2 + self.shift


def small(seed=0):
    """Four images 3 x 6 x 5, their classes; maps: distinct values, few values, zero but for a corner, constant."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(4, 3, 6, 5, generator=generator, dtype=torch.float64)
    maps = torch.randn(4, 6, 5, generator=generator, dtype=torch.float64)
    maps[1] = (maps[1] * 2).round()
    maps[2] = 0
    maps[2, :2, :2] = torch.tensor([[2.0, -1.0], [2.0, 1.0]])
    maps[3] = 0.3
    return images, maps, torch.tensor([0, 2, 1, 2])


COUNTS = [0, 1, 4, 9, 20, 29, 30]


def slowly(images, maps, targets, counts, inserted_into, deleted_to, rule):
    """Picture after picture, by the definition."""
    model, found = Toy(), np.zeros((len(images), 2, len(counts)))
    for i, (image, relevance) in enumerate(zip(images.numpy(), maps.numpy(), strict=True)):
        pixels = sorted(np.ndindex(6, 5), key=lambda at: -relevance[at])  # Python's sort is stable
        for k, n in enumerate(counts):
            chosen = pixels[:n]
            if rule == "at_once" and n:
                chosen = [at for at in pixels if relevance[at] >= relevance[pixels[n - 1]]]
            insert, delete = inserted_into[i].numpy().copy(), image.copy()
            for y, x in chosen:
                insert[:, y, x], delete[:, y, x] = image[:, y, x], deleted_to[i].numpy()[:, y, x]
            for side, picture in ((INSERTION, insert), (DELETION, delete)):
                logits = model(torch.from_numpy(picture)[None])[0].numpy()
                found[i, side, k] = np.exp(logits[targets[i]]) / np.exp(logits).sum()
    return found


@pytest.mark.parametrize("same", [True, False])
def test_restated_slowly(same):
    """Both rules together, in float64; what is inserted into is a picture, and what deleted pixels become a colour."""
    images, maps, targets = small()
    into = images.roll(1, 2) * 0.1
    colour = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
    colours = colour.view(1, 3, 1, 1).expand_as(images)
    behind = (colour, None) if same else (into, colour)
    got = probabilities(Toy(), images, maps, targets, COUNTS, *behind, TIES, batch_size=5)
    for place, rule in enumerate(TIES):
        expected = slowly(images, maps, targets, COUNTS, colours if same else into, colours, rule)
        np.testing.assert_allclose(got[:, place], expected, atol=1e-14)
    assert torch.equal(got[0, 0], got[0, 1]), "no ties, no difference"
    assert (got[1:, 0] != got[1:, 1]).flatten(1).any(1).all()


def test_no_picture_is_seen_twice():
    images, maps, targets = small()
    model = Toy()
    for place, distinct in ((0, 12), (3, 12)):
        model.seen.clear()
        one = slice(place, place + 1)
        probabilities(model, images[one], maps[one], targets[one], COUNTS, BLACK, None, TIES)
        seen = torch.cat(model.seen).flatten(1)
        # Two curves of seven pictures share the whole and the empty one; a tie at once is the whole one.
        assert len(seen) == distinct == len(seen.unique(dim=0))
    model.seen.clear()
    probabilities(model, images, maps, targets, COUNTS, images * 0.1, BLACK, ("at_once",))
    seen = torch.cat(model.seen).flatten(1)
    assert len(seen) == len(seen.unique(dim=0)) + 3, "but the black one, once for each of four images"


@pytest.mark.parametrize("size", [1, 3, 7])
def test_independent_of_the_batch_and_of_the_others(size):
    """Batches are full but for the last of each side; another order of images changes no value."""
    images, maps, targets = small()
    model = Toy()
    arguments = (COUNTS, images * 0.1, GREY, TIES)
    together = probabilities(model, images, maps, targets, *arguments, batch_size=1000)
    count = [len(batch) for batch in model.seen]
    model.seen.clear()
    found = probabilities(model, images, maps, targets, *arguments, batch_size=size)
    torch.testing.assert_close(found, together, atol=1e-14, rtol=0)
    assert len(count) == 2 and len(model.seen) == sum(-(-n // size) for n in count)
    order = [2, 0, 3, 1]
    behind = (COUNTS, images[order] * 0.1, GREY, TIES)
    turned = probabilities(model, images[order], maps[order], targets[order], *behind, batch_size=size)
    torch.testing.assert_close(turned, together[order], atol=1e-14, rtol=0)
    shifted = probabilities(Toy(7.0), images, maps, targets, *arguments, batch_size=size)
    torch.testing.assert_close(shifted, together, atol=1e-13, rtol=0)


class Linear(nn.Module):
    """The probability of class 0 is .1 + .8 s, s the share of pixels that are not black; of class 1 the rest."""

    def forward(self, x):
        share = (x[:, 0] > -1).double().mean((1, 2))
        return torch.stack([0.1 + 0.8 * share, 0.9 - 0.8 * share], dim=1).log()


def areas(maps, kind):
    """Strict and at once, insertion and deletion, of maps of white pictures 8 x 8: (N, rules, 2)."""
    counts, levels = points(64, 16, kind)
    images, targets = torch.ones(len(maps), 3, 8, 8), torch.zeros(len(maps), dtype=torch.int64)
    found = probabilities(Linear(), images, maps, targets, counts, BLACK, None, TIES)
    return area_under(found.reshape(-1, len(counts)), levels).reshape(len(maps), 2, 2)


def test_maps_of_known_values():
    """Where each pixel counts alike, no order is better than another: ID 0, and whatever a map has, ties gave it."""
    square = torch.zeros(8, 8)
    square[3:5, 3:5] = 1
    maps = torch.stack([torch.ones(8, 8), square, torch.arange(64.0).view(8, 8)])
    found = areas(maps, "paper")
    np.testing.assert_allclose(found[:, 0], 0.5, atol=1e-12)
    np.testing.assert_allclose(found[2, 1], 0.5, atol=1e-12)
    # A constant map: whole, or black, from the first pixel on; half of the first trapezoid is missing to .9 and .1.
    np.testing.assert_allclose(found[0, 1], [0.9 - 0.8 / 16 / 2, 0.1 + 0.8 / 16 / 2], atol=1e-12)
    # The square's four pixels are the first step; the second has all.
    inserted = ((0.1 + 0.15) / 2 + (0.15 + 0.9) / 2 + 14 * 0.9) / 16
    np.testing.assert_allclose(found[1, 1], [inserted, 1 - inserted], atol=1e-12)
    released = areas(maps, "released")
    np.testing.assert_allclose(released[0, 1], [0.9, 0.1], atol=1e-12)  # the bound
    # Strictly taken a constant map is one order of pixels; 5, 9, ..., 61 and all 64 of them, evenly spaced.
    inserted = 0.1 + 0.8 / 64 * (sum(range(9, 62, 4)) + (5 + 64) / 2) / 15
    np.testing.assert_allclose(released[:, 0], [[inserted, 1 - inserted]] * 3, atol=1e-12)


@pytest.fixture
def chunked(monkeypatch):
    monkeypatch.setattr(deletion_insertion, "_PIXELS_AT_ONCE", 3 * 64 * 64)


def blurred_case(shared, count=None, ties="strict"):
    settings = {"deletion_insertion": {"images": count, "rows": 8, "kernel": 51, "sigma": 50.0}, "ties": ties}
    images, labels, maps, _ = shared
    pictures = [{"width": 64, "height": 64, "labels": [int(label)]} for label in labels]
    pairs = [(i, int(label), {}) for i, label in enumerate(labels)]
    case, stored = case_of(pictures, pairs, maps[:, 2], settings, model=network("vgg16", torch.float32))
    case.images = images
    return case, stored


def test_rows(shared, chunked):
    """The columns are the reference's areas, also where images come in several chunks."""
    case, stored = blurred_case(shared)
    rows = score(case, "grad_cam", stored)
    values = image_scores(rows, "imagenet", "vgg16")
    for side, name in (("ins", "insertion"), ("del", "deletion")):
        theirs = shared[3][f"ucag_{side}_step512_auc"][:, 2]
        np.testing.assert_allclose(values[values["metric"] == f"{name}_auc"]["value"], theirs, atol=1e-6)
        curve = np.array(values_of(rows, f"{name}_probability")).reshape(8, 9)
        np.testing.assert_allclose(curve, shared[3][f"ucag_{side}_step512_curve"][:, 2], atol=1e-5)
    assert rows["level"].unique().tolist() == [k / 8 for k in range(9)]


def black_case(maps, count=None, kind="paper", model=None):
    """White pictures 8 x 8 of two classes, in turn."""
    settings = {"deletion_insertion_black": {"images": count, "steps": 16, "points": kind}}
    pictures = [{"width": 8, "height": 8, "labels": [i % 2]} for i in range(len(maps))]
    seen = Preprocessing(8, 8, fit="squash", mean=(0.5,) * 3, std=(0.25,) * 3)
    case, stored = case_of(
        pictures, [(i, i % 2, {}) for i in range(len(maps))], maps, settings, seen, model=model or Linear()
    )
    for part in {case, case.of_some_images(count)}:
        part.images = torch.ones(len(part.pairs), 3, 8, 8)
    return case, stored


@pytest.mark.parametrize("kind", ["paper", "released"])
def test_rows_before_black(kind):
    """Both rules in columns of their own; the ID score is what the columns' areas differ by."""
    maps = torch.stack([torch.ones(8, 8), torch.arange(64.0).view(8, 8)]).repeat(2, 1, 1)[[0, 1, 3, 2]]
    case, stored = black_case(maps, kind=kind)
    values = image_scores(score_black(case, "constant", stored), "cub200_2011", "resnet50")
    table = values.pivot(index="image_id", columns="metric", values="value")
    for suffix in ("", "_at_once"):
        both = table[f"insertion_auc_black{suffix}"] - table[f"deletion_auc_black{suffix}"]
        np.testing.assert_allclose(table[f"id_score{suffix}"], both, atol=1e-14)
    expected = areas(maps[:1], kind)[0, 1]
    np.testing.assert_allclose(table.loc["p0", ["insertion_auc_black_at_once", "deletion_auc_black_at_once"]], expected)
    assert table["id_score_at_once"]["p0"] > 0.7 and abs(table["id_score"]["p0"]) < 0.1
    # Class 1 falls where class 0 rises, so that the bound is turned round; p2's map has no ties.
    np.testing.assert_allclose(table["id_score_at_once"]["p3"], -table["id_score_at_once"]["p0"], atol=1e-12)
    np.testing.assert_allclose(table["id_score_at_once"]["p2"], table["id_score"]["p2"], atol=1e-14)


def test_few_images_are_of_all_classes():
    case, stored = black_case(torch.rand(8, 8, 8), count=2)
    rows = score_black(case, "random", stored)
    assert sorted(rows["target"].unique()) == [0, 1] and rows["image_id"].nunique() == 2
    more, same = black_case(torch.rand(8, 8, 8), count=4)
    assert set(rows["image_id"]) < set(score_black(more, "random", same)["image_id"]), "few are some of many"
    part = case.of_some_images(2).where("image_id == 'none'")
    assert len(score_black(part, "random", stored)) == 0, "a group of images may have none"


def test_bad_arguments(shared):
    images, maps, targets = small()
    with pytest.raises(ValueError, match="do not fit"):
        probabilities(Toy(), images, maps[:, :5], targets, COUNTS, BLACK)
    with pytest.raises(ValueError, match="do not fit"):
        probabilities(Toy(), images, maps, targets, COUNTS, torch.zeros(4))
    with pytest.raises(ValueError, match="counts from 0 to 31"):
        probabilities(Toy(), images, maps, targets, [0, 31], BLACK)
    with pytest.raises(InputError, match="map 0 contains NaN"):
        probabilities(Toy(), images, maps / 0 * 0, targets, COUNTS, BLACK)
    with pytest.raises(InputError, match="NaN or infinity for some images"):
        probabilities(Toy(torch.nan), images, maps, targets, COUNTS, BLACK)
    with pytest.raises(InputError, match="target 3 is none of the 3 classes"):
        probabilities(Toy(), images, maps, targets + 1, COUNTS, BLACK)
    with pytest.raises(InputError, match=r"evaluation\.ties"):
        probabilities(Toy(), images, maps, targets, COUNTS, BLACK, None, ("loose",))
    case, stored = blurred_case(shared)
    case.settings["deletion_insertion"]["kernel"] = 12
    with pytest.raises(InputError, match=r"evaluation\.deletion_insertion` has kernel 12"):
        score(case, "grad_cam", stored)
