"""What methods cost, counted; and that it stays within what the issue allows."""

import pytest
import torch
import torch.nn.functional as F
from reference_nets import inputs, network
from relmap.errors import InputError
from relmap.inspection.cost import Meter, in_turns, measure
from relmap.models import build
from torch import nn

COLUMNS = [
    "method",
    "forward_equivalents",
    "forward_equivalents_3",
    "seconds_per_image",
    "forwards",
    "peak_memory",
    "derived_weights_mb",
]


@torch.no_grad()
def test_meter_counts_a_convolution_and_each_of_its_gradients_once():
    x, weight = torch.ones(2, 6, 8, 8), torch.ones(4, 3, 3, 3)
    with Meter() as meter:
        output = F.conv2d(x, weight, stride=2, padding=1, groups=2)
        forward = meter.operations
        for wanted in ([True, False, False], [False, True, False]):
            meter.restart()
            torch.ops.aten.convolution_backward(
                output, x, weight, None, [2, 2], [1, 1], [1, 1], False, [0, 0], 2, wanted
            )
            assert meter.operations == forward
    assert forward == 2 * (2 * 4 * 4 * 4) * (3 * 3 * 3)


@torch.no_grad()
def test_meter_counts_products():
    a, b = torch.ones(5, 3), torch.ones(3, 7)
    with Meter() as meter:
        a @ b
        assert meter.operations == 2 * 5 * 3 * 7
        F.linear(a, b.T, torch.ones(7))
        assert meter.operations == 4 * 5 * 3 * 7
        torch.bmm(a.expand(4, 5, 3), b.expand(4, 3, 7))
        assert meter.operations == 12 * 5 * 3 * 7


@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_meter_follows_what_is_live(device):
    given = torch.ones(10, device=device)
    with Meter() as meter:
        given.view(2, 5).add_(1)
        assert (meter.live, meter.peak) == (0, 0)
        a = given * 2
        view = a[2:]
        b = a + 1
        assert (meter.live, meter.peak) == (80, 80)
        del b, a
        assert (meter.live, meter.peak) == (40, 80)
        del view
        meter.restart()
        assert (meter.live, meter.peak) == (0, 0)


def test_table_of_a_network():
    images = inputs(torch.float32)[0][:2]
    methods = ["lrp_epsilon", "lrp_alpha1_beta0", "grad_cam"]
    model = network("vgg16", torch.float32)
    table = measure(model, images, methods, repetitions=1)
    assert list(table.columns) == COLUMNS
    assert list(table["method"]) == methods
    assert (table[COLUMNS[1:]] > 0).all(axis=None)
    epsilon, plus, cam = (table.iloc[i] for i in range(3))
    assert epsilon["forward_equivalents"] == 2
    assert epsilon["forward_equivalents_3"] == 4
    assert cam["forward_equivalents"] < epsilon["forward_equivalents"] < plus["forward_equivalents"]
    assert cam["peak_memory"] < epsilon["peak_memory"]
    weights = sum(parameter.nbytes for name, parameter in model.named_parameters() if "weight" in name)
    convolutions = sum(
        module.weight.nbytes for module in model.modules() if isinstance(module, nn.Conv2d) and module.out_channels > 1
    )
    # Epsilon's own weights in the convolutions' layout; alpha-beta's positive ones besides.
    assert epsilon["derived_weights_mb"] == pytest.approx(convolutions / 1e6)
    assert plus["derived_weights_mb"] == pytest.approx((convolutions + weights) / 1e6, rel=0.01)


def test_counts_are_those_of_the_shapes_alone():
    images = inputs(torch.float32)[0][:2]
    model = network("resnet50", torch.float32)
    real = measure(model, images, ["lrp_epsilon", "lrp_alpha2_beta1"], repetitions=1)
    shapes = measure(model.to("meta"), images.to("meta"), ["lrp_epsilon", "lrp_alpha2_beta1"])
    assert shapes[["seconds_per_image", "forwards"]].isna().all(axis=None)
    counted = ["forward_equivalents", "forward_equivalents_3", "derived_weights_mb"]
    assert real[counted].equals(shapes[counted])
    # What a batch norm keeps for backpropagation besides its input, a few numbers per channel, depends on the device.
    assert real["peak_memory"].tolist() == pytest.approx(shapes["peak_memory"].tolist(), rel=0.02)


def test_methods_with_parameters():
    images = torch.empty(1, 3, 64, 64, device="meta")
    model = build("vgg16", 10, 0.125, 64, device="meta").eval()
    table = measure(model, images, {"lrp_alpha1_beta0": {"first": "flat"}}, targets_per_image=(2,))
    assert list(table.columns) == [name for name in COLUMNS if name != "forward_equivalents_3"]
    with pytest.raises(InputError, match="unknown"):
        measure(model, images, ["magic"])


def test_contestants_take_turns():
    turns = []
    medians = in_turns({"a": lambda: turns.append("a"), "b": lambda: turns.append("b")}, 2)
    assert turns == ["a", "b"] * 3
    assert set(medians) == {"a", "b"}


# Forward passes for K targets. Two transposed products per target and layer are 2 K: both parts of alpha 2, beta 1 have
# weights and denominators of their own.
BUDGETS = {
    "lrp_epsilon": lambda k: 1 + k,
    "lrp_alpha1_beta0": lambda k: 2 + k,
    "lrp_alpha2_beta1": lambda k: 3 + 2 * k,
    "abslrp": lambda k: 1 + 2 * k,
    "c3_lrp": lambda k: 1 + k,
    "attribution_equilibrium": lambda k: 6 * k,
    "rap": lambda k: 8 * k,
}


@pytest.fixture(scope="module", params=["vgg16", "resnet50"])
def full_width(request):
    """Costs on the network at full width and 224 px, and the first layer's part of its forward pass."""
    model = build(request.param, 1000, device="meta").eval()
    images = torch.empty(2, 3, 224, 224, device="meta")
    first = next(module for module in model.modules() if isinstance(module, nn.Conv2d))
    with torch.no_grad(), Meter() as meter:
        first(images)
        part = meter.operations
        meter.restart()
        model(images)
    table = measure(model, images, list(BUDGETS)).set_index("method")
    return table, part / meter.operations


@pytest.mark.parametrize("method", BUDGETS)
def test_operations_are_within_budget(full_width, method):
    table, first = full_width
    # z^B in the first layer takes two products each way where the other layers take one.
    for count, column in ((1, "forward_equivalents"), (3, "forward_equivalents_3")):
        assert table.loc[method, column] <= BUDGETS[method](count) + (1 + count) * first


@pytest.mark.parametrize("method", BUDGETS)
def test_memory_is_within_budget(full_width, method):
    table, *_ = full_width
    assert table.loc[method, "peak_memory"] <= 2.5
