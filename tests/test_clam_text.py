"""What CLAM's text says and its tables do not: where attributes look, likeness to edges, plain backgrounds."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import relmap
import torch
from metric_cases import case_of, values_of
from relmap.catalogue.rows import load_rows
from relmap.errors import InputError
from relmap.evidence.values import image_scores
from relmap.propagation import Propagator
from scipy import ndimage, stats
from test_clam_chain import OPTIONS, chain, data, methods, model, propagator  # noqa: F401 (fixtures)

from papers.clam import body, edges, plain_backgrounds
from papers.clam.cla.refined import explain_together
from papers.clam.cla.trained import save_layer
from papers.clam.rows import REGIONS

ROWS = load_rows([Path(__file__).parents[1] / "papers" / "clam" / "rows.py"])
CHOSEN, _, ANYWHERE = (ROWS.methods[row.id] for row in REGIONS)


@pytest.fixture(scope="module")
def artifacts(chain, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("layers")
    (folder / "0").mkdir()
    for place, layer in enumerate(chain):
        save_layer(folder / "0" / f"{place}.safetensors", layer)
    return [folder]


def test_regions_as_a_map_are_the_boxes_that_attributes_chose(chain, data, methods, artifacts):  # noqa: F811
    """Against boxes painted one by one: each layer's share is 1 over its pixels, and layers weigh alike."""
    images, targets = data
    maps = relmap.explain(Propagator(model()), images, targets, CHOSEN, artifacts=artifacts)
    found = explain_together({"clrp": methods["clrp"]}, images, targets, chain, OPTIONS)
    expected = torch.zeros(len(images), 8, 8)
    for regions in found.regions:
        boxes = regions.boxes((8, 8))[0]
        for image, own in enumerate(boxes.tolist()):
            for x0, y0, x1, y1 in own:
                expected[image, round(y0) : round(y1), round(x0) : round(x1)] += 1 / len(own) / regions.patch**2
    torch.testing.assert_close(maps, expected / len(found.regions))
    assert maps.sum((1, 2)).tolist() == pytest.approx([1.0] * len(images))
    both = relmap.explain(
        Propagator(model()), images[:2], torch.stack([targets[:2], targets[2:4]], 1), CHOSEN, artifacts=artifacts
    )
    torch.testing.assert_close(both[:, 0], maps[:2])


def test_regions_anywhere_are_the_mean_over_all_positions(chain, data, artifacts):  # noqa: F811
    images, targets = data
    maps = relmap.explain(Propagator(model()), images[:2], targets[:2], ANYWHERE, artifacts=artifacts)
    expected = torch.zeros(8, 8)
    for layer in chain:
        patch = layer.settings.patch
        places = [(y, x) for y in range(9 - patch) for x in range(9 - patch)]
        for y, x in places:
            expected[y : y + patch, x : x + patch] += 1 / len(places) / patch**2 / len(chain)
    torch.testing.assert_close(maps, expected.expand(2, 8, 8))
    assert expected[4, 4] > expected[0, 0], "the centre is covered more often: a bird there is found for nothing"


def test_regions_need_layers_of_their_explainer(tmp_path, chain):  # noqa: F811
    with pytest.raises(InputError, match="no CLA-layers of training 0; run the rule train_cla_layers"):
        relmap.explain(Propagator(model()), torch.rand(1, 3, 8, 8), 0, CHOSEN, artifacts=[tmp_path])
    alone = replace(chain[0], explainers={"lrp": chain[0].explainers["lrp"]})
    save_layer(tmp_path / "0.safetensors", alone)
    with pytest.raises(InputError, match="none of clrp, it has lrp"):
        relmap.explain(Propagator(model()), torch.rand(1, 3, 8, 8), 0, CHOSEN, artifacts=[tmp_path / "0.safetensors"])


PICTURE = {"width": 20, "height": 20, "boxes": [[7, 7, 13, 13]], "box_labels": [0]}


def case_with(images, masks, maps, **given):
    case, stored = case_of([PICTURE] * len(images), [(i, 0, {}) for i in range(len(images))], maps, **given)
    case.images, case.masks = images, masks
    return case, stored


def test_likeness_to_edges_against_scipy():
    draw = torch.Generator().manual_seed(0)
    images, maps = torch.randn(6, 3, 20, 20, generator=draw), torch.randn(6, 20, 20, generator=draw)
    case, stored = case_with(images, None, maps)
    filters = np.outer([1, 2, 1], [-1, 0, 1]) / 8
    slopes = [ndimage.correlate(images.double().numpy(), f[None, None], mode="nearest") for f in (filters, filters.T)]
    magnitude = np.sqrt(sum(np.square(slope).sum(1) for slope in slopes))
    np.testing.assert_allclose(edges.edges_of(case), magnitude, atol=1e-5)
    rows = edges.score(case, "saliency", stored)
    expected = [
        stats.spearmanr(abs(m).ravel(), e.ravel()).statistic for m, e in zip(maps.numpy(), magnitude, strict=True)
    ]
    np.testing.assert_allclose(values_of(rows, "edge_correlation"), expected, atol=1e-6)
    assert len(image_scores(rows, "cub200_2011", "vgg16", ROWS)) == 6


def test_what_would_fool_likeness_to_edges():
    """The edges themselves, also with the sign turned, are 1; a constant map, and any map of a blank picture, is 0."""
    images = torch.randn(2, 3, 20, 20, generator=torch.Generator().manual_seed(1))
    own = edges.edges_of(case_with(images, None, torch.zeros(2, 20, 20))[0])
    assert edges.edge_correlation(-own, own).tolist() == pytest.approx([1, 1])
    assert edges.edge_correlation(torch.ones(2, 20, 20), own).tolist() == [0, 0]
    assert edges.edge_correlation(torch.ones(2, 20, 20), torch.zeros(2, 20, 20)).tolist() == [0, 0]
    assert edges.edge_correlation(own, torch.zeros(2, 20, 20)).tolist() == [0, 0]
    with pytest.raises(ValueError, match="must both be"):
        edges.edge_correlation(own, own[:, 1:])


def scenes():
    """Eight pictures whose noise outside the object grows, shuffled; the object is noisier than any background."""
    draw = torch.Generator().manual_seed(2)
    masks = torch.zeros(8, 20, 20, dtype=torch.bool)
    masks[:, 6:14, 6:14] = True
    strengths = torch.tensor([5.0, 2.0, 8.0, 1.0, 7.0, 3.0, 6.0, 4.0])
    images = torch.randn(8, 3, 20, 20, generator=draw)
    return torch.where(masks[:, None], 100 * images, strengths[:, None, None, None] * images), masks


def test_plain_pictures_are_the_quarter_with_the_quietest_backgrounds():
    """The object and its outline do not count; the same pictures for every method, and for every grouping of them."""
    images, masks = scenes()
    maps = masks.float() + torch.rand(8, 20, 20, generator=torch.Generator().manual_seed(3))
    case, stored = case_with(images, masks, maps)
    rows = plain_backgrounds.score(case, "saliency", stored)
    plain, cluttered = (np.isfinite(values_of(rows, f"iou_{kind}")) for kind in ("plain", "cluttered"))
    assert np.flatnonzero(plain).tolist() == [1, 3] and (plain ^ cluttered).all()
    scores = image_scores(rows, "cub200_2011", "vgg16", ROWS)
    assert set(scores["metric"]) == {"mean_iou_plain", "mean_iou_cluttered"}
    masks[5] = True
    case, stored = case_with(images, masks, maps)
    found = plain_backgrounds.score(case, "saliency", stored)
    assert np.isnan(values_of(found, "iou_plain")[5]) and np.isnan(values_of(found, "iou_cluttered")[5])


def test_clutter_by_hand():
    image = torch.zeros(1, 3, 12, 12)
    image[:, :, 4:8, 4:8] = 1
    masks = image[:, 0] == 1
    made = edges.edges_of(case_with(image, masks, torch.zeros(1, 12, 12))[0])
    assert plain_backgrounds.clutter(made, masks).tolist() == [0], "Sobel's reach is a pixel: the outline is left out"
    image[:, :, :, 11] = 1
    made = edges.edges_of(case_with(image, masks, torch.zeros(1, 12, 12))[0])
    far = 12 * 12 - 36
    assert plain_backgrounds.clutter(made, masks).tolist() == pytest.approx([made[0, :, 10:].sum().item() / far])


def test_the_share_on_the_object():
    _, masks = scenes()
    case, stored = case_with(torch.zeros(8, 3, 20, 20), masks, torch.ones(8, 20, 20))
    assert values_of(body.score(case, "clrp_clam_regions", stored), "share_on_object") == pytest.approx([64 / 400] * 8)
