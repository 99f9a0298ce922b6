"""Maps of enlarged images, and what maps cost."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from metric_cases import case_of, values_of
from relmap.catalogue.methods import Method, find
from relmap.data.images import Preprocessing
from relmap.errors import InputError
from relmap.explanation import explain
from relmap.inspection.cost import measure
from relmap.metrics.operations import cost_of_map, score
from torch import nn


def network():
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 8, 3, stride=2, padding=1), nn.ReLU()]
    pooled = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)]
    return nn.Sequential(*layers, *pooled).eval().requires_grad_(False)


IMAGES = torch.randn(3, 3, 16, 20, generator=torch.Generator().manual_seed(1))
TWICE = find("grad_cam_twice")


def test_a_map_of_an_enlarged_image_is_brought_back():
    model = network()
    large = F.interpolate(IMAGES, (32, 40), mode="bicubic", align_corners=False)
    expected = F.interpolate(explain(model, large, 2, "grad_cam")[:, None], (16, 20), mode="bilinear")[:, 0]
    assert torch.equal(explain(model, IMAGES, 2, TWICE), expected)
    assert torch.allclose(explain(model, IMAGES, 2, TWICE, batch_size=1), expected, atol=1e-6)


def test_a_factor_of_one_is_the_method_itself():
    once = Method("once", "Once", "test", "enlarged:Enlarged", {"factor": 1}, wraps="lrp_epsilon")
    model = network()
    assert torch.equal(explain(model, IMAGES, 1, once), explain(model, IMAGES, 1, "lrp_epsilon"))
    shrunk = Method("shrunk", "Shrunk", "test", "enlarged:Enlarged", {"factor": 0.5}, wraps="lrp_epsilon")
    with pytest.raises(InputError, match="at least 1"):
        explain(model, IMAGES, 1, shrunk)


def cost_case(model, images, methods):
    pairs = [(place, 1, {}) for place in range(len(images))]
    size = {"width": images.shape[3], "height": images.shape[2]}
    case, maps = case_of(
        [{**size, "labels": [1]} for _ in images],
        pairs,
        np.zeros((len(images), *images.shape[2:])),
        preprocessing=Preprocessing(16, 16, fit="aspect"),
        model=model,
        methods={row.id: row for row in map(find, methods)},
    )
    case.__dict__["images"] = images
    return case, maps


def test_operations_are_those_of_the_layers():
    model, images = network(), IMAGES[:2]
    case, maps = cost_case(model, images, ["grad_cam", "grad_cam_twice", "saliency"])
    convolutions = 16 * 20 * 6 * 3 * 9, 8 * 10 * 8 * 6 * 9
    forward = sum(convolutions) + 8 * 4
    rows = score(case, "grad_cam", maps)
    # Backwards Grad-CAM goes through the linear layer alone.
    assert values_of(rows, "map_operations") == pytest.approx([(forward + 8 * 4) / 1e9] * 2, rel=1e-12)
    twice = values_of(score(case, "grad_cam_twice", maps), "map_operations")
    assert twice == pytest.approx([(4 * sum(convolutions) + 2 * 8 * 4) / 1e9] * 2, rel=1e-12)
    of_saliency, _ = cost_of_map(case, "saliency")
    counted = measure(model, images[:1], ["saliency"], repetitions=1)["forward_equivalents"][0]
    assert of_saliency == pytest.approx(counted * 2 * forward, rel=1e-9)
    assert all(value > 0 for value in values_of(rows, "map_memory"))


def test_memory_grows_with_the_image():
    images = torch.zeros(1, 3, 192, 192)  # so large that what is fixed does not count
    case, maps = cost_case(network(), images, ["grad_cam", "grad_cam_twice"])
    plain, twice = (values_of(score(case, method, maps), "map_memory")[0] for method in ("grad_cam", "grad_cam_twice"))
    assert 3 < twice / plain < 6
