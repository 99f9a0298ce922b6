"""CLAM on a small network: refinement, training from the output to the input, related images, files."""

import copy
import json
import math
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import relmap
import torch
from relmap.catalogue.methods import CATALOGUE, Method, unfold_and_conquer
from relmap.catalogue.rows import load_rows
from relmap.data.manifest import ManifestInfo
from relmap.errors import InputError
from relmap.job.seeds import generator
from torch import nn

from papers.clam.ablation import Chain, check_variants, lrp_variant
from papers.clam.attribute_scores import distinguishing_table, score_layers
from papers.clam.cla.chain import fingerprint, train_chain
from papers.clam.cla.loss import balanced_contrastive_loss
from papers.clam.cla.plan import plan_layers
from papers.clam.cla.refined import explain_together
from papers.clam.cla.refinement import Refine, refinement_mask, refinements
from papers.clam.cla.settings import ClamOptions, LayerSettings, Optimiser
from papers.clam.cla.sub_features import top_positions
from papers.clam.cla.together import Together
from papers.clam.cla.trained import load_chain, load_layer, new_layer, save_layer
from papers.clam.cla.training import (
    Source,
    collect_sub_features,
    fit,
    initial_layers,
    refined_methods,
    train_layer,
    training_seeds,
)
from papers.clam.examples import layer_examples
from papers.clam.methods import clam_methods
from papers.clam.related import build_index, distinct, find_related, read_index, write_index

EXPLAINERS = ["lrp", "clrp", "sglrp"]
LAYERS = ["2", "0"]
ONE_OR_SIX = ((1, 1.0), (6, 0.555))
OPTIONS = ClamOptions(optimiser=Optimiser(epochs=3, batch_size=8), attributes=2)


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(8 * 16, 3),
    ).eval()


def model():
    """With the range of its input, which z-box asks for."""
    net = network()
    net.input_range = (-5.0,) * 3, (5.0,) * 3
    return net


@pytest.fixture(scope="module")
def methods():
    return refined_methods(model())


@pytest.fixture(scope="module")
def propagator(methods):
    return methods["lrp"].walk


@pytest.fixture(scope="module")
def data():
    random = torch.Generator().manual_seed(5)
    return torch.randn(12, 3, 8, 8, generator=random), torch.arange(12) % 3


def in_batches(data, size):
    return list(zip(data[0].split(size), data[1].split(size), strict=True))


def source_of(data, size):
    return Source(lambda what: in_batches(data, size), len(data[0]), 3)


@pytest.fixture(scope="module")
def chain(methods, propagator, data):
    trained = []
    for settings in plan_layers(propagator, LAYERS, 8, OPTIONS):
        trained += train_layer(methods, source_of(data, 5), settings, [trained], OPTIONS, [1])
    return trained


def test_mask_is_the_strength_at_the_centre_and_one_outside():
    mask = refinement_mask(torch.tensor([[[1, 2]]]), 3, (6, 7), 1.5, 0.5)
    assert mask.shape == (1, 1, 6, 7)
    assert mask[0, 0, 2, 3] == 1.5
    corner = 1 + 0.5 * math.exp(-2 / (2 * 1.5**2))
    assert mask[0, 0, 1, 2].item() == pytest.approx(corner)
    outside = mask.clone()
    outside[0, 0, 1:4, 2:5] = 1
    assert torch.equal(outside, torch.ones_like(outside))


@pytest.mark.parametrize(("overlap", "join"), [("multiply", torch.mul), ("maximum", torch.maximum)])
def test_overlapping_regions(overlap, join):
    one = refinement_mask(torch.tensor([[[0, 0]]]), 3, (5, 5), 1.4, 0.5)
    other = refinement_mask(torch.tensor([[[1, 1]]]), 3, (5, 5), 1.4, 0.5)
    both = refinement_mask(torch.tensor([[[0, 0], [1, 1]]]), 3, (5, 5), 1.4, 0.5, overlap)
    torch.testing.assert_close(both, join(one, other))


def test_tiles_lie_side_by_side_and_overlap_nowhere():
    relevance = torch.rand(4, 3, 6, 7, generator=torch.Generator().manual_seed(2))
    tiles = top_positions(relevance, 2, 5, 2)
    assert (tiles % 2 == 0).all() and (tiles[..., 0] <= 4).all() and (tiles[..., 1] <= 4).all()
    pooled = torch.nn.functional.avg_pool2d(relevance.amax(1), 2, 2)
    best = pooled.flatten(1).argmax(1)
    assert torch.equal(tiles[:, 0], torch.stack([best // 3, best % 3], 1) * 2)


def test_strength_one_changes_nothing(methods, data, chain):
    weak = [replace(layer, settings=replace(layer.settings, strength=1.0)) for layer in chain]
    plain = explain_together(methods, *data).maps
    same = explain_together(methods, *data, weak, OPTIONS).maps
    refined = explain_together(methods, *data, chain, OPTIONS).maps
    torch.testing.assert_close(plain, same)
    assert not torch.allclose(plain, refined)


def test_a_row_with_its_files_is_what_all_explainers_give_together(methods, data, chain, tmp_path):
    (tmp_path / "0").mkdir()
    files = [tmp_path / "0" / f"{place}.safetensors" for place in range(len(chain))]
    for path, layer in zip(files, chain, strict=True):
        save_layer(path, layer)
    rows = load_rows([Path(__file__).parents[1] / "papers" / "clam" / "rows.py"]).methods
    together = explain_together(methods, *data, chain, OPTIONS).maps
    for name, maps in zip(EXPLAINERS, together, strict=True):
        for artifacts in (files, [tmp_path]):
            alone = relmap.explain(model(), *data, rows[f"{name}_clam"], artifacts=artifacts, batch_size=5)
            torch.testing.assert_close(alone, maps)


def test_ucag_of_refined_maps_takes_their_files(data, chain, tmp_path):
    """Its patches are enlarged to the images' size: this network takes no other."""
    (tmp_path / "0").mkdir()
    for place, layer in enumerate(chain):
        save_layer(tmp_path / "0" / f"{place}.safetensors", layer)
    rows = load_rows([Path(__file__).parents[1] / "papers" / "clam" / "rows.py"]).methods
    row = Method.from_dict(json.loads(json.dumps(rows["ucag_clrp_clam"].to_dict())))
    assert (row.arm, row.wraps, row.needs) == ("clam", rows["clrp_clam"], ("artifacts", "pixels"))
    given = {"artifacts": [tmp_path], "settings": {}}
    whole, patches = (relmap.explain(model(), *data, row, alpha=None, n=n, rho=rho, **given) for n, rho in ONE_OR_SIX)
    refined = relmap.explain(model(), *data, rows["clrp_clam"], **given)
    torch.testing.assert_close(whole, refined)
    unrefined = relmap.explain(model(), *data, unfold_and_conquer(CATALOGUE["clrp_two_passes_norms"]), alpha=None)
    assert patches.any() and not torch.allclose(patches, unrefined)


def test_relevance_reaches_a_lower_layer_refined_by_the_layers_above(propagator, data, chain):
    """Refining at the upper layer by hand and going on equals what training the lower layer sees."""
    images, targets = data
    upper, lower = chain
    activations = propagator.forward(images, keep=[upper.features_at, lower.features_at])
    masks, _ = refinements([upper], activations.outputs, targets[None], ["lrp"], OPTIONS)
    transforms = {name: Refine(mask) for name, mask in masks.items()}
    start = torch.nn.functional.one_hot(targets, 3).float()[None]
    at_upper = propagator.propagate(activations, start, stop=upper.relevance_at).relevance
    below = propagator.propagate(activations, start, stop=lower.relevance_at, transforms=transforms).relevance
    unrefined = propagator.propagate(activations, start, stop=lower.relevance_at).relevance
    gained = (transforms[upper.relevance_at](at_upper) - at_upper).sum()
    assert gained > 0
    torch.testing.assert_close(below.sum() - unrefined.sum(), gained, rtol=1e-4, atol=1e-5)


def test_two_passes_are_refined_apart_and_then_brought_to_one_total(methods, data, chain):
    """By hand, in float64: a pass from the target, one from the others, the same masks, equal totals at last."""
    images, targets = data
    outputs = methods["clrp"].walk.forward(images, keep=[layer.features_at for layer in chain]).outputs
    masks, _ = refinements(chain, outputs, targets[None], ["clrp"], OPTIONS)
    masks = {name: mask.double() for name, mask in masks.items()}
    exact = refined_methods(model().double())["clrp"]
    activations = exact.walk.forward(images.double())
    transforms = {name: Refine(mask) for name, mask in masks.items()}
    at = torch.nn.functional.one_hot(targets, 3).double()
    magnitude = (at * activations.logits).abs().sum(1, keepdim=True)
    passes = [
        exact.walk.propagate(activations, (magnitude * start)[None], transforms=transforms).relevance
        for start in (at, (1 - at) / 2)
    ]
    totals = [relevance.sum((2, 3, 4), keepdim=True) for relevance in passes]
    expected = passes[0] - passes[1] * totals[0] / totals[1]
    found, _ = Together([exact]).propagate(activations, targets[None], masks)
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12 * expected.abs().max().item())
    maps = explain_together({"clrp": methods["clrp"]}, *data, chain, OPTIONS).maps
    total = maps.sum((2, 3)).abs() / maps.abs().sum((2, 3))
    assert (total < 1e-5).all(), "masks must not tear up the total of a contrast, in float32 either"


def test_training_does_not_depend_on_the_batches(methods, propagator, data, chain):
    settings = plan_layers(propagator, LAYERS, 8, OPTIONS)[0]
    (again,) = train_layer(methods, source_of(data, 12), settings, [[]], OPTIONS, [1])
    for name in EXPLAINERS:
        for key, value in again.explainers[name].state_dict().items():
            torch.testing.assert_close(value, chain[0].explainers[name].state_dict()[key], rtol=1e-4, atol=1e-5)


def test_further_trainings_leave_the_first_as_it_is(methods, propagator, data, chain):
    seeds = training_seeds(1, 3)
    assert seeds[0] == 1 and len(set(seeds)) == 3
    settings = plan_layers(propagator, LAYERS, 8, OPTIONS)[0]
    first, *others = train_layer(methods, source_of(data, 5), settings, [[]] * 3, OPTIONS, seeds)
    for name in EXPLAINERS:
        torch.testing.assert_close(first.explainers[name].attributes, chain[0].explainers[name].attributes)
        for other in others:
            assert not torch.allclose(other.explainers[name].attributes, first.explainers[name].attributes)


@pytest.mark.parametrize("negatives", ["random", "hardest"])
def test_fitting_members_together_is_fitting_each_alone(negatives):
    """In float64, against a loop over one layer that is written down step by step."""
    options = ClamOptions(optimiser=Optimiser(epochs=5, patience=2, batch_size=4), negatives=negatives)
    settings = LayerSettings("2", 0, 2, 3, 1, 0.1, 0.6, 1.4)
    random = torch.Generator().manual_seed(3)
    patches = torch.rand(4, 10, 2, 5, 3, 3, generator=random, dtype=torch.float64)
    patterns = [torch.randn(3, 3, 3, generator=random, dtype=torch.float64) for _ in range(2)]
    labels, seeds = torch.arange(10) % 3, [1, 2]
    layers = [new_layer(options, settings, 5, seed, name).double() for seed in seeds for name in ("a", "b")]
    alone = [copy.deepcopy(layer) for layer in layers]
    notes = fit(layers, patches, labels, patterns, settings, options, seeds)
    for member, layer in enumerate(alone):
        expected = fit_one(layer, patches[member], labels, patterns[member // 2], settings, options, seeds[member // 2])
        assert notes[member].keys() == expected.keys()
        for key, value in expected.items():
            assert notes[member][key] == pytest.approx(value, rel=1e-9)
        for key, value in layer.state_dict().items():
            torch.testing.assert_close(layers[member].state_dict()[key], value, rtol=1e-9, atol=1e-12)


def fit_one(layer, patches, labels, patterns, settings, options, seed):
    how, random = options.optimiser, generator(seed, "fit", settings.layer)
    optimiser = torch.optim.Adam(layer.parameters(), lr=how.learning_rate * settings.attribute_size / 2)
    best, state, notes, waited = float("inf"), None, {}, 0
    for epoch in range(1, how.epochs + 1):
        order = torch.randperm(len(labels), generator=random)
        shift = torch.randint(1, 3, (len(labels),), generator=random)
        near_sum = far_sum = 0.0
        for rows in order.split(how.batch_size):
            right = labels[rows]

            def distances(classes, rows=rows):
                flat = layer(patches[rows].flatten(0, 1), patterns[classes].repeat_interleave(2, 0))
                return flat.unflatten(0, (-1, 2))

            if options.negatives == "hardest":
                with torch.no_grad():
                    each = [distances(torch.full_like(right, label)) for label in range(3)]
                    means = torch.stack([(of[:, 0, 0] + of[:, 1, 1]).mean((1, 2)) for of in each])
                    wrong = means.scatter(0, right[None], torch.inf).argmin(0)
            else:
                wrong = (right + shift[rows]) % 3
            near, far = distances(right), distances(wrong)
            optimiser.zero_grad()
            balanced_contrastive_loss(near, far, settings.alpha, settings.beta).mean().backward()
            optimiser.step()
            near_sum += sum(near[:, i, i].amin((1, 2)) for i in (0, 1)).sum().item() / 2
            far_sum += sum(far[:, i, i].mean((1, 2)) for i in (0, 1)).sum().item() / 2
        for group in optimiser.param_groups:
            group["lr"] *= how.decay
        if near_sum < best:
            best, waited, state = near_sum, 0, copy.deepcopy(layer.state_dict())
            notes = {
                "kept_epoch": epoch,
                "positive_distance": near_sum / len(labels),
                "negative_distance": far_sum / len(labels),
            }
        else:
            waited += 1
            if waited == how.patience:
                break
    layer.load_state_dict(state)
    return notes | {"epochs": epoch}


def test_training_brings_positives_nearer_than_negatives(methods, propagator, data):
    options = ClamOptions(optimiser=Optimiser(epochs=40, patience=40, batch_size=12), attributes=2, beta=(0.5, 0.5))
    settings = plan_layers(propagator, LAYERS, 8, options)[0]
    (layer,) = train_layer({"lrp": methods["lrp"]}, source_of(data, 12), settings, [[]], options, [1])
    notes = layer.notes["lrp"]
    assert notes["positive_distance"] < notes["negative_distance"]
    assert notes["kept_epoch"] <= notes["epochs"] == 40


def test_a_training_that_diverges_says_so(methods, propagator, data):
    options = ClamOptions(optimiser=Optimiser(epochs=3, learning_rate=1e30, name="sgd"), attributes=2)
    settings = plan_layers(propagator, LAYERS, 8, options)[0]
    layers = [new_layer(options, settings, 8, 1, "lrp")]
    bad = torch.full((1, 12, 2, 8, settings.patch, settings.patch), torch.nan)
    patterns = [torch.rand(3, settings.patch, settings.patch)]
    with pytest.raises(InputError, match=r"layer 2 diverged; lower clam\.optimiser\.learning_rate"):
        fit(layers, bad, data[1], patterns, settings, options, [1])


def test_sub_features_are_those_of_the_most_relevant_places(methods, propagator, data):
    settings = plan_layers(propagator, LAYERS, 8, OPTIONS)[0]
    found = collect_sub_features({"lrp": methods["lrp"]}, source_of(data, 4), settings, [[]], OPTIONS)
    with found.store as store:
        assert store.values.shape == (1, 12, 2, 8, settings.patch, settings.patch)
        activations = propagator.forward(data[0], keep=["3"])
        features = activations.outputs["3"]
        start = torch.nn.functional.one_hot(data[1], 3).double()[None]
        relevance = propagator.propagate(activations, start, stop="3").relevance[0]
        p = settings.patch
        for image in range(12):
            pooled = relevance[image].amax(0).unfold(0, p, 1).unfold(1, p, 1).mean((2, 3))
            for place, corner in enumerate(pooled.flatten().argsort(descending=True)[:2].tolist()):
                y, x = divmod(corner, pooled.shape[1])
                assert torch.equal(store.values[0, image, place], features[image, :, y : y + p, x : x + p])
    assert found.rms == pytest.approx(features.square().mean().sqrt().item(), rel=1e-5)
    assert torch.equal(found.labels, data[1])


def test_a_chain_that_was_stopped_goes_on_after_its_last_layer(methods, propagator, data, tmp_path):
    plan = plan_layers(propagator, LAYERS, 8, OPTIONS)
    digest = fingerprint({"seed": 1}, [])

    def train(folder, source, digest=digest):
        train_chain(folder, digest, methods, source, plan, OPTIONS, [1, 2])

    train(tmp_path / "whole", source_of(data, 5))
    asked = []

    def stops_at_the_second(what):
        asked.append(what)
        if what == LAYERS[1]:
            raise KeyboardInterrupt
        return in_batches(data, 5)

    with pytest.raises(KeyboardInterrupt):
        train(tmp_path / "layers", Source(stops_at_the_second, 12, 3))
    assert not (tmp_path / "layers").exists(), "what a job promises is whole or absent"

    def only_the_second(what):
        asked.append(what)
        return in_batches(data, 5)

    train(tmp_path / "layers", Source(only_the_second, 12, 3))
    assert asked == [LAYERS[0], LAYERS[1], LAYERS[1]]
    files = sorted(path.relative_to(tmp_path / "whole") for path in (tmp_path / "whole").rglob("*") if path.is_file())
    names = ["00_2.safetensors", "01_0.safetensors"]
    assert [str(file) for file in files] == [f"{training}/{name}" for training in (0, 1) for name in names]
    for file in files:
        assert (tmp_path / "layers" / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
    assert not list(tmp_path.glob("*.begun"))


def test_a_chain_that_follows_from_something_else_begins_anew(methods, propagator, data, tmp_path):
    plan, asked = plan_layers(propagator, LAYERS, 8, OPTIONS), []

    def stops_at_the_second(what):
        asked.append(what)
        if len(asked) == 2:
            raise KeyboardInterrupt
        return in_batches(data, 5)

    source = Source(stops_at_the_second, 12, 3)
    with pytest.raises(KeyboardInterrupt):
        train_chain(tmp_path / "layers", fingerprint({"seed": 1}, []), methods, source, plan, OPTIONS, [1])
    train_chain(tmp_path / "layers", fingerprint({"seed": 2}, []), methods, source, plan, OPTIONS, [2])
    assert asked == [*LAYERS, *LAYERS]


def test_each_training_has_maps_of_its_own(methods, propagator, data, tmp_path):
    plan = plan_layers(propagator, LAYERS, 8, OPTIONS)
    train_chain(tmp_path / "layers", "x", methods, source_of(data, 5), plan, OPTIONS, [1, 2])
    rows = clam_methods("clam", 2)
    assert [row.id for row in rows] == [f"{name}_clam{end}" for end in ("", "_1") for name in EXPLAINERS]
    assert [row.training_of for row in rows] == [None] * 3 + [f"{name}_clam" for name in EXPLAINERS]
    known = load_rows([Path(__file__).parents[1] / "papers" / "clam" / "rows.py"]).methods["lrp_clam"]
    own = [replace(known, parameters=row.parameters) for row in (rows[0], rows[3])]
    first, second = (relmap.explain(model(), *data, row, artifacts=[tmp_path / "layers"]) for row in own)
    assert not torch.allclose(first, second)
    with pytest.raises(InputError, match="no CLA-layers of training 2; run the rule train_cla_layers"):
        load_chain(tmp_path / "layers", 2)


def test_variants_that_are_the_same_here_are_refused(methods, data):
    chain = Chain(methods, source_of(data, 5), LAYERS, 8, 1)
    others = {"smaller": replace(OPTIONS, patch_size=2), "plain": replace(OPTIONS, distance="l2")}
    check_variants(chain, {"default": OPTIONS, **others})
    with pytest.raises(InputError, match="`patches up to 3` is the same as `default` on the layers 2, 0"):
        check_variants(chain, {"default": OPTIONS, "patches up to 3": replace(OPTIONS, largest_patch=3)})


def test_layers_survive_their_file(chain, tmp_path):
    path = tmp_path / "00_2.safetensors"
    save_layer(path, chain[0])
    again = load_layer(path)
    assert again.settings == chain[0].settings
    assert (again.relevance_at, again.features_at) == ("3", "3")
    features, pattern = torch.rand(2, 8, 8, 8), again.patterns[:2]
    for name in EXPLAINERS:
        assert torch.equal(
            again.explainers[name].search(features, pattern), chain[0].explainers[name].search(features, pattern)
        )
    assert again.notes == chain[0].notes


def test_a_broken_layer_file_is_named(tmp_path):
    path = tmp_path / "00_2.safetensors"
    with pytest.raises(InputError, match=r"00_2\.safetensors: no such CLA-layer"):
        load_layer(path)
    path.write_bytes(b"not safetensors")
    with pytest.raises(InputError, match=r"00_2\.safetensors: not a readable CLA-layer.*delete it"):
        load_layer(path)


def test_the_control_has_the_same_sizes_and_patterns_but_other_weights(propagator, data, chain):
    plan = plan_layers(propagator, LAYERS, 8, OPTIONS)
    control = initial_layers(propagator, source_of(data, 5), plan, EXPLAINERS, OPTIONS, 1)
    for trained, untrained in zip(chain, control, strict=True):
        assert trained.settings == untrained.settings
        torch.testing.assert_close(trained.patterns, untrained.patterns)
        for name in EXPLAINERS:
            assert not torch.equal(trained.explainers[name].attributes, untrained.explainers[name].attributes)


def test_related_images_are_the_nearest_of_the_class(propagator, data, chain, tmp_path):
    ids = [f"image{i}" for i in range(12)]
    index = build_index(propagator.propagator, chain, in_batches(data, 5), ids, EXPLAINERS)
    write_index(tmp_path / "related.zarr", index)
    index = read_index(tmp_path / "related.zarr")
    assert index.image_ids == ids
    queries = index.distances["2"][1][[4, 7]]
    found = find_related(index, "2", "clrp", queries, torch.tensor([1, 1]), 3)
    # A training image is its own nearest neighbour, and all others are of the target's class.
    assert found.rows[0, :, 0].tolist() == [4, 4]
    assert found.rows[1, :, 0].tolist() == [7, 7]
    assert set(index.labels[found.rows.flatten()].tolist()) == {1}
    assert (found.distances.diff(dim=2) >= 0).all()
    expected = (index.distances["2"][1][:, 0] - queries[0, 0]).square().sum((1, 2)).sqrt()
    torch.testing.assert_close(found.distances[0, 0], expected[index.labels == 1].sort().values[:3])
    cosine = find_related(index, "2", "clrp", queries, torch.tensor([1, 1]), 9, "cosine")
    assert (cosine.rows[..., 4:] == -1).all(), "the class has four training images"


def test_duplicate_regions_are_dropped_in_order():
    boxes = torch.tensor([[0.0, 0, 10, 10], [1, 0, 11, 10], [20, 20, 30, 30], [8, 0, 18, 10]])
    assert distinct(boxes, 0.5).tolist() == [True, False, True, True]


def test_examples_have_the_sheets_shapes(methods, propagator, data, chain):
    index = build_index(propagator.propagator, chain, in_batches(data, 5), [f"i{n}" for n in range(12)], EXPLAINERS)
    arrays = layer_examples(
        {"clrp": methods["clrp"]},
        chain,
        index,
        data[0][:4],
        data[1][:4],
        OPTIONS,
        related=2,
        measure="l2",
        duplicate_iou=0.5,
    )
    assert arrays["regions"].shape == (4, 2, 2, 4)
    assert arrays["kept"][:, :, 0].all()
    assert arrays["related_id"][0, 0, 0, 0] == "i0"
    assert arrays["relevance_2"].shape == (4, 8, 8)


def test_attribute_regions_are_scored_per_layer_and_explainer(propagator, data, chain):
    info = ManifestInfo("birds", ".", "0", ("a", "b", "c"), ("head", "wing"), {0: ["head"], 1: ["wing"], 2: ["wing"]})
    table = distinguishing_table(info)
    assert table.tolist() == [[False, True, False], [False, False, True], [False, False, True]]
    parts = torch.randint(0, 3, (12, 8, 8), generator=torch.Generator().manual_seed(0))
    frame = score_layers(propagator.propagator, {"clam": chain}, *data, parts, table, EXPLAINERS)
    assert len(frame) == 12 * 2 * 3
    assert set(frame["method"]) == {"lrp_clam", "clrp_clam", "sglrp_clam"}
    assert np.isfinite(frame["coverage"]).all()
    with pytest.raises(InputError, match="no distinguishing parts"):
        distinguishing_table(ManifestInfo("plain", ".", "0", ("a",)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (ClamOptions(patch_size=2, attribute_size=2), r"layer 2 the patch \(2 x 2\) is not larger than its attribute"),
        (ClamOptions(patch_size=9), r"layer 2 the patch \(9 x 9\) is larger than the feature map \(8 x 8\)"),
        (ClamOptions(layers={"7": {"patch_size": 3}}), "clam.layers: 7 carries no CLA-layer here; those that do: 2, 0"),
    ],
)
def test_impossible_settings_name_layer_and_cure(propagator, options, message):
    with pytest.raises(InputError, match=message):
        plan_layers(propagator, LAYERS, 8, options)


def test_an_unknown_layer_is_named_with_those_that_exist(propagator):
    with pytest.raises(InputError, match=r"layer .features\.99. does not exist in this model; it has: 0, 1, 2"):
        plan_layers(propagator, ["features.99"], 8, OPTIONS)


@pytest.mark.parametrize(
    ("first", "bounds", "batch_norm"),
    product(["z_box", "flat", "same"], ["valid_range", "image_range"], ["fold", "pass", "alpha_beta"]),
)
def test_every_choice_that_a_config_can_make_has_maps(first, bounds, batch_norm):
    """Bounds are given where they count alone; elsewhere they would be refused."""
    methods = lrp_variant(model(), first, bounds, batch_norm)
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    maps = explain_together(methods, images, torch.tensor([0, 1])).maps
    assert maps.shape == (3, 2, 8, 8) and maps.isfinite().all() and maps.any()
