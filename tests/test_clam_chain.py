"""CLAM on a small network: refinement, training from the output to the input, related images, files."""

import json
import math
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
from relmap.propagation import Propagator, composites
from torch import nn

from papers.clam.ablation import lrp_variant
from papers.clam.attribute_scores import distinguishing_table, score_layers
from papers.clam.cla.plan import plan_layers
from papers.clam.cla.refined import explain_together
from papers.clam.cla.refinement import Refine, refinement_mask, refinements
from papers.clam.cla.settings import ClamOptions, Optimiser
from papers.clam.cla.trained import load_layer, save_layer
from papers.clam.cla.training import collect_sub_features, initial_layers, lrp_walk, train_layer
from papers.clam.examples import layer_examples
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


@pytest.fixture(scope="module")
def propagator():
    return Propagator(network()).by(composites.alpha_beta(1, 0))


@pytest.fixture(scope="module")
def data():
    random = torch.Generator().manual_seed(5)
    return torch.randn(12, 3, 8, 8, generator=random), torch.arange(12) % 3


def in_batches(data, size):
    return list(zip(data[0].split(size), data[1].split(size), strict=True))


@pytest.fixture(scope="module")
def chain(propagator, data):
    trained = []
    for settings in plan_layers(propagator, LAYERS, 8, OPTIONS):
        trained.append(train_layer(propagator, in_batches(data, 5), settings, trained, EXPLAINERS, 3, OPTIONS, 1))
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


def test_overlapping_regions_take_the_larger_value():
    one = refinement_mask(torch.tensor([[[0, 0]]]), 3, (5, 5), 1.4, 0.5)
    other = refinement_mask(torch.tensor([[[1, 1]]]), 3, (5, 5), 1.4, 0.5)
    both = refinement_mask(torch.tensor([[[0, 0], [1, 1]]]), 3, (5, 5), 1.4, 0.5)
    assert torch.equal(both, torch.maximum(one, other))


def test_restoring_keeps_each_images_total():
    relevance = torch.rand(2, 3, 4, 5, 5) - 0.3
    mask = 1 + torch.rand(2, 3, 1, 5, 5)
    kept = Refine(mask, restore_total=True)(relevance)
    torch.testing.assert_close(kept.sum((2, 3, 4)), relevance.sum((2, 3, 4)))
    assert torch.equal(Refine(mask)(relevance), relevance * mask)


def test_strength_one_changes_nothing(propagator, data, chain):
    import dataclasses

    weak = [dataclasses.replace(layer, settings=dataclasses.replace(layer.settings, strength=1.0)) for layer in chain]
    plain = explain_together(propagator, *data, EXPLAINERS).maps
    same = explain_together(propagator, *data, EXPLAINERS, weak, OPTIONS).maps
    refined = explain_together(propagator, *data, EXPLAINERS, chain, OPTIONS).maps
    torch.testing.assert_close(plain, same)
    assert not torch.allclose(plain, refined)


def test_a_row_with_its_files_is_what_all_explainers_give_together(data, chain, tmp_path):
    files = [tmp_path / f"{place}.safetensors" for place in range(len(chain))]
    for path, layer in zip(files, chain, strict=True):
        save_layer(path, layer)
    rows = load_rows([Path(__file__).parents[1] / "papers" / "clam" / "rows.py"]).methods
    together = explain_together(lrp_walk(network()), *data, EXPLAINERS, chain, OPTIONS).maps
    for name, maps in zip(EXPLAINERS, together, strict=True):
        for artifacts in (files, [tmp_path]):
            alone = relmap.explain(network(), *data, rows[f"{name}_clam"], artifacts=artifacts, batch_size=5)
            torch.testing.assert_close(alone, maps)


def test_ucag_of_refined_maps_takes_their_files(data, chain, tmp_path):
    """Its patches are enlarged to the images' size: this network takes no other."""
    for place, layer in enumerate(chain):
        save_layer(tmp_path / f"{place}.safetensors", layer)
    rows = load_rows([Path(__file__).parents[1] / "papers" / "clam" / "rows.py"]).methods
    row = Method.from_dict(json.loads(json.dumps(rows["ucag_clrp_clam"].to_dict())))
    assert (row.arm, row.wraps, row.needs) == ("clam", rows["clrp_clam"], ("artifacts", "pixels"))
    given = {"artifacts": [tmp_path], "settings": {}}
    whole, patches = (relmap.explain(network(), *data, row, alpha=None, n=n, rho=rho, **given) for n, rho in ONE_OR_SIX)
    refined = relmap.explain(network(), *data, rows["clrp_clam"], **given)
    torch.testing.assert_close(whole, refined)
    unrefined = relmap.explain(network(), *data, unfold_and_conquer(CATALOGUE["clrp_norms"]), alpha=None)
    assert patches.any() and not torch.allclose(patches, unrefined)


def test_relevance_reaches_a_lower_layer_refined_by_the_layers_above(propagator, data, chain):
    """Refining at the upper layer by hand and going on equals what training the lower layer sees."""
    images, targets = data
    upper, lower = chain
    activations = propagator.forward(images, keep=[upper.features_at, lower.features_at])
    transforms, _ = refinements([upper], activations, targets[None], ["lrp"], mask_width=OPTIONS.mask_width)
    start = torch.nn.functional.one_hot(targets, 3).float()[None]
    at_upper = propagator.propagate(activations, start, stop=upper.relevance_at).relevance
    below = propagator.propagate(activations, start, stop=lower.relevance_at, transforms=transforms).relevance
    unrefined = propagator.propagate(activations, start, stop=lower.relevance_at).relevance
    gained = (transforms[upper.relevance_at](at_upper) - at_upper).sum()
    assert gained > 0
    torch.testing.assert_close(below.sum() - unrefined.sum(), gained, rtol=1e-4, atol=1e-5)


def test_training_does_not_depend_on_the_batches(propagator, data, chain):
    settings = plan_layers(propagator, LAYERS, 8, OPTIONS)[0]
    again = train_layer(propagator, in_batches(data, 12), settings, [], EXPLAINERS, 3, OPTIONS, 1)
    for name in EXPLAINERS:
        for key, value in again.explainers[name].state_dict().items():
            torch.testing.assert_close(value, chain[0].explainers[name].state_dict()[key], rtol=1e-4, atol=1e-5)


def test_training_brings_positives_nearer_than_negatives(propagator, data):
    options = ClamOptions(optimiser=Optimiser(epochs=40, patience=40, batch_size=12), attributes=2, beta=(0.5, 0.5))
    settings = plan_layers(propagator, LAYERS, 8, options)[0]
    notes = train_layer(propagator, in_batches(data, 12), settings, [], ["lrp"], 3, options, 1).notes["lrp"]
    assert notes["positive_distance"] < notes["negative_distance"]
    assert notes["kept_epoch"] <= notes["epochs"] == 40


def test_sub_features_are_those_of_the_most_relevant_places(propagator, data):
    settings = plan_layers(propagator, LAYERS, 8, OPTIONS)[0]
    found, rms = collect_sub_features(propagator, in_batches(data, 4), settings, [], ["lrp"], OPTIONS)
    assert found["lrp"].patches.shape == (12, 2, 8, settings.patch, settings.patch)
    features = propagator.forward(data[0], keep=["3"]).outputs["3"]
    assert rms == pytest.approx(features.square().mean().sqrt().item(), rel=1e-5)


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
    control = initial_layers(propagator, in_batches(data, 5), plan, EXPLAINERS, 3, OPTIONS, 1)
    for trained, untrained in zip(chain, control, strict=True):
        assert trained.settings == untrained.settings
        torch.testing.assert_close(trained.patterns, untrained.patterns)
        for name in EXPLAINERS:
            assert not torch.equal(trained.explainers[name].attributes, untrained.explainers[name].attributes)


def test_related_images_are_the_nearest_of_the_class(propagator, data, chain, tmp_path):
    ids = [f"image{i}" for i in range(12)]
    index = build_index(propagator, chain, in_batches(data, 5), ids, EXPLAINERS)
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


def test_examples_have_the_sheets_shapes(propagator, data, chain):
    index = build_index(propagator, chain, in_batches(data, 5), [f"i{n}" for n in range(12)], EXPLAINERS)
    arrays = layer_examples(
        propagator,
        chain,
        index,
        "clrp",
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
    frame = score_layers(propagator, {"clam": chain}, *data, parts, table, EXPLAINERS)
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
    model = network()
    model.input_range = (-5.0,) * 3, (5.0,) * 3
    walk = lrp_variant(model, first, bounds, batch_norm)
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    maps = explain_together(walk, images, torch.tensor([0, 1]), EXPLAINERS).maps
    assert maps.shape == (3, 2, 8, 8) and maps.isfinite().all() and maps.any()
