"""docs/numbers.md names every number of the catalogue, and what it says of controls is so."""

import copy
import re
from pathlib import Path

import pytest
import relmap
import torch
from reference_nets import inputs, network
from relmap.catalogue.metrics import METRICS, columns
from relmap.evidence.statistics import area_under
from relmap.metrics.average_precision import agf_average_precision, soft_average_precision
from relmap.metrics.deletion_insertion import DELETION, INSERTION, even_points, points, probabilities
from relmap.metrics.density import densities
from relmap.metrics.gae import robustness
from relmap.metrics.grid_pointing import grid_pointing
from relmap.metrics.insertion_blur import gaussian_blur
from relmap.metrics.lerf import lerf_correct
from relmap.metrics.outside_inside import outside_inside
from relmap.metrics.pointing import extended_pointing
from relmap.metrics.positive_ratio import positive_ratio
from relmap.metrics.road import road_predictions
from relmap.metrics.segmentation import iou_at_mean_plus_std

PAGE = (Path(__file__).parents[1] / "docs" / "numbers.md").read_text()
ROWS = [[cell.strip() for cell in line.strip("|").split("|")] for line in PAGE.splitlines() if line.startswith("| `")]


def test_every_number_stands_in_the_table_with_its_metric_and_direction():
    found = columns(METRICS)
    stated = {
        re.fullmatch(r"`(\w+)`", name)[1]: (re.match(r"\[(\w+)\]\(metrics\.md#", metric)[1], better, counts)
        for name, metric, _, better, counts, _ in ROWS
    }
    assert len(stated) == len(ROWS)
    assert stated == {
        name: (metric.id, "higher" if column.higher_is_better else "lower", "yes" if column.counted else "no")
        for name, (metric, column) in found.items()
    }


def test_chance_of_a_constant_map_is_what_the_catalogue_says():
    stated = {name.strip("`"): constant for name, *_, constant in ROWS}
    for name, (_, column) in columns(METRICS).items():
        # By chance is over permutations of the parts there: a constant map, which knows their area, has more.
        if column.chance is not None and name != "part_importance_plain":
            assert float(stated[name]) == column.chance


def test_what_a_constant_map_gets():
    constant, mask = torch.ones(1, 8, 8), torch.zeros(1, 8, 8, dtype=torch.bool)
    mask[0, 2:5, 2:6] = True
    share = float(mask.double().mean())
    assert extended_pointing(constant, mask).tolist() == [[share] * 20]
    assert iou_at_mean_plus_std(constant, mask) == 0 and positive_ratio(constant) == 1
    assert outside_inside(constant, mask) == 1 and soft_average_precision(constant, mask) == 0.5
    assert grid_pointing(constant, torch.arange(8) // 4 + torch.zeros(1, 8, 1) < (torch.arange(8) < 4)[:, None]) == 0.25
    assert robustness(torch.ones(1, 10), torch.ones(2, 1, 10)) == -1
    least = min(float(agf_average_precision(torch.arange(64).view(1, 8, 8) < n, mask)) for n in range(65))
    assert least >= 7 / 16
    # One strongly negative pixel outside makes all others equal: 51 of the 52 outside are as bright as those inside.
    turned = torch.rand(1, 8, 8, dtype=torch.float64)
    turned[0, 0, 0] = -1e12
    assert float(outside_inside(turned, mask)) == pytest.approx(51 / 52, abs=1e-11)


@pytest.fixture(scope="module", params=["vgg16", "resnet50"])
def seen(request):
    """A small trained network, eight pictures, their labels, and maps."""
    model, (images, targets) = network(request.param, torch.float32), inputs(torch.float32)
    controls = ["constant", "random", "centre_gaussian", "centre_square"]
    others = ["abslrp", "grad_cam", "lrp_epsilon", "lrp_alpha1_beta0", "saliency"]
    return model, images, targets[0], relmap.compare(model, images, targets[0], controls + others)


def test_what_fools_insertion_and_deletion_before_black(seen):
    model, images, targets, maps = seen
    counts, levels = points(64 * 64, 50)
    black, ties = torch.full((3,), -2.0), ("strict", "at_once")
    curves = {name: probabilities(model, images, own, targets, counts, black, None, ties) for name, own in maps.items()}
    area = {
        name: [[area_under(found[:, rule, side].numpy(), levels).mean() for side in (0, 1)] for rule in (0, 1)]
        for name, found in curves.items()
    }
    score = {rule: {name: own[rule][INSERTION] - own[rule][DELETION] for name, own in area.items()} for rule in (0, 1)}
    assert max(score[1], key=score[1].get) == "constant" and score[1]["constant"] > 0.85
    assert score[1]["centre_square"] > max(score[1][name] for name in ("abslrp", "grad_cam", "saliency"))
    assert score[0]["constant"] < min(score[0][name] for name in ("abslrp", "saliency", "lrp_alpha1_beta0"))
    assert score[0]["centre_square"] < score[0]["abslrp"]
    assert max(area, key=lambda name: area[name][0][INSERTION]) == "centre_gaussian"


def test_what_fools_the_others_that_ask_the_network(seen):
    model, images, targets, maps = seen
    counts, levels = even_points(64 * 64, 8 * 64 / 224, 64)
    blurred, grey = gaussian_blur(images, 15, 14.0, "a test"), torch.zeros(3)

    def deletion(name):
        found = probabilities(model, images, maps[name], targets, counts, blurred, grey)
        return area_under(found[:, 0, DELETION].numpy(), levels).mean()

    assert deletion("centre_gaussian") < deletion("grad_cam")
    assert lerf_correct(model, images, maps["centre_gaussian"], targets, 100, 16).all()

    def road(name):
        return (
            (road_predictions(model, images, maps[name], [10, 30, 50, 70, 90])[:, 1] == targets[:, None])
            .double()
            .mean()
        )

    assert road("random") > road("grad_cam")
    one = torch.zeros(8, 64, 64)
    one[:, 5, 5] = 1
    # What the network says of a grey picture with one pixel in it, times 4096: more than any method's density.
    exact, pictures, pixel = copy.deepcopy(model).double(), images.double(), one.double()
    nearly_grey = exact(pictures * pixel[:, None]).softmax(1).gather(1, targets[:, None])[:, 0]
    of_a_pixel = densities(exact, pictures, pixel, targets)[:, 0]
    torch.testing.assert_close(of_a_pixel, 64 * 64 * nearly_grey, rtol=1e-12, atol=0)
    for own in maps.values():
        assert of_a_pixel.mean() > densities(model, images, own, targets)[:, 0].mean()
