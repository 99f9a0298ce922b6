"""Minimal pairs: what changes between two renderings, what a perfect map scores, and what chance is."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from metric_cases import values_of
from PIL import Image
from relmap.catalogue.grid import make_plan
from relmap.catalogue.methods import ARTIFACTS, Method
from relmap.catalogue.metrics import METRICS, MINIMAL_PAIRS
from relmap.catalogue.papers import Cell, Paper
from relmap.catalogue.rows import Rows, as_configured
from relmap.data.formats.cub import read_cub
from relmap.data.images import Preprocessing, load_images
from relmap.data.render import birds, render_cub
from relmap.data.render.canvas import SUPERSAMPLE, Canvas
from relmap.data.render.cub_writer import DATASET_KEY, RECIPES, REMOVABLE, render_bird
from relmap.data.render.jobs import generator
from relmap.data.render.minimal_pairs import minimal_pairs
from relmap.errors import InputError
from relmap.evidence.rankings import boards
from relmap.evidence.values import image_scores
from relmap.explainers.base import Explainer
from relmap.metrics.case import Case
from relmap.metrics.minimal_pairs import THINGS, Effects, Relevance, numbers, rank_correlation, score
from scipy.stats import rankdata, spearmanr
from torch import nn

SIDE = 56
SETTINGS = {"minimal_pairs": {"pictures": None, "unimportant": 0.1}}
CHANCE = {column.rows: column.chance for column in METRICS["minimal_pairs"].columns}


@pytest.fixture(scope="module")
def manifest(tmp_path_factory):
    """A family and half of another, one test picture a class."""
    root = tmp_path_factory.mktemp("pairs") / "cub"
    render_cub(root, classes=6, train_per_class=1, test_per_class=1, size=SIDE, seed=3)
    return read_cub(root)


@pytest.fixture(scope="module")
def changed(manifest):
    return minimal_pairs(manifest, manifest.rows("test"))


def pixels(manifest, row):
    return np.asarray(Image.open(manifest.resolve(manifest.frame["path"].iat[row])))


def near(mask):
    """Pixels at most two from the mask: as far as the camera blurs."""
    return np.lib.stride_tricks.sliding_window_view(np.pad(mask, 2), (5, 5)).any((2, 3))


def shows(label, things, monkeypatch):
    """(H, W) bool by thing: the pixels of a class's test picture of which it has any part."""
    planes = []

    def keep(canvas, original=Canvas.label_planes):
        planes.append(np.asarray(canvas.labels).reshape(canvas.height, SUPERSAMPLE, canvas.width, SUPERSAMPLE))
        return original(canvas)

    monkeypatch.setattr(Canvas, "label_planes", keep)
    render_bird(birds.bird_class(label, 3), generator(3, DATASET_KEY, 1, label, 0), SIDE)
    monkeypatch.undo()
    fine = birds.merge_far(planes[0])
    return {thing: (fine == birds.INDEX[thing]).any((1, 3)) for thing in things}, (fine == 0).any((1, 3))


def test_nothing_else_changes(manifest, changed, monkeypatch):
    """What differs lies where the part shows, but for the camera's blur; nothing on the bird does by what is behind."""
    for row, own in zip(manifest.rows("test"), changed, strict=True):
        label = int(manifest.single_labels([row])[0])
        bird, picture = birds.bird_class(label, 3), pixels(manifest, row)
        assert {change.thing for change in own} <= {*bird.looks, *REMOVABLE} and len(own) > 10
        where, behind = shows(label, bird.looks, monkeypatch)
        for change in own:
            differs = (np.asarray(change.image) != picture).any(2)
            assert differs.any() and change.image.size == picture.shape[1::-1]
            if change.behind:
                assert change.sibling is None
                assert not differs[~near(behind)].any(), f"{change.thing} shows through the bird"
            elif change.thing not in ("beak", "tail", "crest"):  # these may change their shape
                assert not differs[~near(where[change.thing])].any(), f"{change.thing} of row {row} changes others"


def test_siblings_differ_in_the_part_alone(manifest, changed):
    for row, own in zip(manifest.rows("test"), changed, strict=True):
        label = int(manifest.single_labels([row])[0])
        bird = birds.bird_class(label, 3)
        siblings = {change.thing: change.sibling for change in own if change.sibling is not None}
        for part, sibling in siblings.items():
            assert birds.differing_parts(bird, birds.bird_class(sibling, 3)) == (part,)
        if label < 4:
            assert set(siblings) == set(bird.varying)
        else:  # of two siblings, each has the other
            assert list(siblings.values()) == [9 - label]


def test_every_part_has_another_look():
    for look in {look for label in range(birds.MAX_CLASSES) for look in birds.bird_class(label, 0).looks.items()}:
        assert birds.other_look(np.random.default_rng(0), *look) != look[1]


def test_pictures_of_another_world_are_refused(manifest, tmp_path):
    bare = replace(manifest, info=replace(manifest.info, root=str(tmp_path)))
    with pytest.raises(InputError, match="rendered from"):
        minimal_pairs(bare, [0])
    path = manifest.resolve(RECIPES)
    text = path.read_text()
    try:
        path.write_text(text.replace(f",{SIDE},3", f",{SIDE},4"))
        with pytest.raises(InputError, match="another picture than it is rendered from"):
            minimal_pairs(manifest, [0])
    finally:
        path.write_text(text)


class Weights(Explainer):
    """Where a linear network looks, positive for the class that what it sees speaks for."""

    def __init__(self, model):
        self.weight = model[1].weight.detach()

    def __call__(self, images, targets):
        signs = self.weight.sum(1).sign()[targets]
        maps = self.weight[targets].unflatten(-1, images.shape[1:]).abs().sum(2)
        return maps * signs[..., None, None]


class Opposite(Weights):
    def __call__(self, images, targets):
        return -super().__call__(images, targets)


class Silent(Weights):
    def __call__(self, images, targets):
        return 0 * super().__call__(images, targets)


class Given(Weights):
    """Needs files and settings, as methods of papers' own arms do."""

    def __init__(self, model, *, artifacts, settings):
        super().__init__(model)
        assert (artifacts, settings) == (["layer.safetensors"], {"strength": 2})


METHODS = {
    "perfect": Method("perfect", "", "", Weights),
    "opposite": Method("opposite", "", "", Opposite),
    "constant": Method("constant", "", "", "controls:Constant", control=True),
    "centre_gaussian": Method("centre_gaussian", "", "", "controls:CentreGaussian", control=True),
    "silent": Method("silent", "", "", Silent),
}


def single_part_case(manifest, changed, place, part):
    """A linear network that tells the picture's class from its sibling by pixels that only this part changes."""
    row, own = manifest.rows("test")[place], {change.thing: change for change in changed[place]}
    seen = Preprocessing(SIDE, SIDE, fit="squash")
    picture = load_images(manifest, [row], seen)[0]

    def altered(thing):
        image = own[thing].image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        return seen.normalise(torch.from_numpy(np.array(image)).permute(2, 0, 1)[None])[0]

    others = torch.stack([(altered(thing) != picture).any(0) for thing in own if thing != part]).any(0)
    difference = (picture - altered(part)) * ~others
    assert difference.any()
    # Of one sign, so that the sum of the weights tells which class they are for.
    weight = difference.abs().flatten()
    level = ((picture + altered(part)) / 2).flatten()
    label, sibling = int(manifest.single_labels([row])[0]), own[part].sibling
    linear = nn.Linear(len(weight), len(manifest.info.class_names))
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.fill_(-1e4)
        linear.weight[label], linear.weight[sibling] = weight, -weight
        side = (weight * (picture.flatten() - level)).sum().sign()
        linear.weight[[label, sibling]] *= side
        linear.bias[label], linear.bias[sibling] = -side * (weight * level).sum(), side * (weight * level).sum()
    pairs = pd.DataFrame(
        [{"image_id": manifest.frame["image_id"].iat[row], "target": label, "present": True, "correct": True}]
    )
    model = nn.Sequential(nn.Flatten(), linear).eval()
    return Case(manifest, pairs, seen, SETTINGS, model, methods=METHODS), side


@pytest.mark.parametrize("place", [0, 3])
def test_a_network_that_sees_one_part(manifest, changed, place):
    """The logit depends on one part alone: perfect maps have 1 everywhere, their opposite 0, a constant one chance."""
    label = int(manifest.single_labels([manifest.rows("test")[place]])[0])
    for part in birds.bird_class(label, 3).varying:
        case, side = single_part_case(manifest, changed, place, part)
        perfect, opposite = ("perfect", "opposite") if side > 0 else ("opposite", "perfect")
        got = {m: {name: values_of(score(case, m, None), name) for name in CHANCE} for m in METHODS}
        assert got[perfect] == {name: [pytest.approx(1)] for name in CHANCE}
        assert got[opposite]["target_sensitivity"] == [0]
        assert got[opposite]["part_importance"] == [pytest.approx(-1)]
        for name in CHANCE.keys() - {"part_importance_plain"}:
            assert got["constant"][name] == got["silent"][name] == [CHANCE[name]], name
        assert got["silent"]["part_importance_plain"] == [0]
        assert got["centre_gaussian"]["target_sensitivity"] == [0.5] and got["centre_gaussian"]["target_shift"] == [0]
        small = replace(case, batch_size=1)
        again = pd.concat([score(small, m, None) for m in METHODS], ignore_index=True)
        every = pd.concat([score(case, m, None) for m in METHODS], ignore_index=True)
        pd.testing.assert_frame_equal(again, every, rtol=1e-9)
        assert len(image_scores(every, "cub200_2011", "vgg16")) == len(METHODS) * len(CHANCE)


def test_methods_get_their_artifacts(manifest, changed):
    part = next(change.thing for change in changed[0] if change.sibling is not None)
    case, _ = single_part_case(manifest, changed, 0, part)
    methods = {**METHODS, "given": Method("given", "", "", Given, needs=(ARTIFACTS,), arm="own")}
    given = {"given": {"artifacts": ["layer.safetensors"], "settings": {"strength": 2}}}
    case = replace(case, methods=methods, artifacts=given)
    assert score(case, "given", None)["value"].equals(score(case, "perfect", None)["value"])


def test_pictures_that_the_network_gets_wrong_have_no_answer(manifest):
    """A network that has learnt nothing has rows too, and gets on no board."""
    ids = manifest.frame["image_id"].iloc[manifest.rows("test")].tolist()
    pairs = pd.DataFrame({"image_id": ids, "target": range(6), "present": True, "correct": False})
    case = Case(manifest, pairs, Preprocessing(SIDE, SIDE), SETTINGS, nn.Identity(), methods=METHODS)
    rows = score(case, "constant", None)
    assert len(rows) == 6 * len(CHANCE) and rows["value"].isna().all()
    assert boards(image_scores(rows, "cub200_2011", "vgg16"), Rows()) == []


def drawn(pictures=4000, seed=0):
    """Effects of which some tell and some hardly matter, and relevance that knows nothing of them."""
    rng = np.random.default_rng(seed)
    shape = (pictures, len(THINGS))
    exists = rng.random(shape) < 0.8
    exists[:, 0] = False
    drop = np.where(exists, rng.normal(size=shape) * rng.choice([0.02, 1], shape), np.nan)
    tells = exists & np.isin(np.arange(len(THINGS)), [4, 9]) & (drop > 0)
    effects = Effects(drop, np.where(exists, rng.random(shape) / 9 + 0.001, np.nan), tells)
    net, sibling = (np.where(exists, rng.normal(size=shape), np.nan) for _ in range(2))
    density = np.where(exists, rng.random(shape), np.nan)
    shift = np.where(tells, rng.normal(size=shape), np.nan)
    return effects, Relevance(net, density, np.where(tells, sibling, np.nan), shift)


def test_chance_of_maps_that_know_nothing():
    for name, values in numbers(*drawn(), 0.1).items():
        known = values[~np.isnan(values)]
        assert len(known) > 500
        assert abs(known.mean() - CHANCE[name]) < 4 * known.std() / len(known) ** 0.5, name


def test_the_numbers_slowly():
    effects, relevance = drawn(60, seed=1)
    got = numbers(effects, relevance, 0.1)
    for k in range(60):
        things = [t for t in range(len(THINGS)) if not np.isnan(effects.drop[k, t])]
        parts = [t for t in things if THINGS[t] not in REMOVABLE]
        told = [t for t in things if effects.tells[k, t]]
        drop, net = effects.drop[k], relevance.net[k]
        density = relevance.density[k]

        def mean(values):
            return pytest.approx(np.mean(values)) if values else pytest.approx(np.nan, nan_ok=True)

        assert got["target_sensitivity"][k] == mean([float(net[t] > relevance.of_sibling[k, t]) for t in told])
        assert got["target_shift"][k] == mean([relevance.shift[k, t] for t in told])
        assert got["part_importance_plain"][k] == pytest.approx(spearmanr(net[parts], drop[parts]).statistic)
        ranks = np.array([rankdata(own[parts]) for own in (net, drop, effects.area[k])])
        left = [own - np.polyval(np.polyfit(ranks[2], own, 1), ranks[2]) for own in ranks[:2]]
        assert got["part_importance"][k] == pytest.approx(np.corrcoef(*left)[0, 1])
        for name, those in (("background", set(things) - set(parts)), ("distractor", set(parts))):
            compared = [(b, p) for b in those for p in told if b != p and abs(drop[b]) <= 0.1 * drop[p]]
            assert got[f"{name}_independence"][k] == mean([float(density[b] < density[p]) for b, p in compared])


def test_rank_correlation():
    values = np.array([[1.0, 2, 3, 4], [1, 1, 1, 1], [4, 3, 2, 1], [1, 2, np.nan, np.nan]])
    other = np.tile([1.0, 2, 3, 9], (4, 1))
    got = rank_correlation(values, other, ~np.isnan(values))
    np.testing.assert_allclose(got, [1, 0, -1, np.nan], atol=1e-12)


def test_only_rendered_birds_have_them():
    """Planned for all maps of rendered birds, though no paper prints it; not for birds that are not rendered."""
    paper = Paper("p", ".", "", "", "", {}, (), (), {}, (), (Cell("cub200_2011", "vgg16", "saliency", "mean_iou"),))

    def plan(source):
        config = {"datasets": {"cub200_2011": {"source": source, "format": None}}}
        rows = as_configured(Rows(), config)
        assert (MINIMAL_PAIRS in rows.datasets["cub200_2011"].has) == (source == "render")
        return make_plan([paper], rows, ["cub200_2011"], ["vgg16"])

    assert plan("render").scores["cub200_2011", "vgg16", "minimal_pairs"] == ("saliency",)
    assert plan("render").by_paper == plan("retrieve").by_paper
    assert ("cub200_2011", "vgg16", "minimal_pairs") not in plan("retrieve").scores
