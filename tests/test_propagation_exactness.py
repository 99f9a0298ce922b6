"""Rules in float32: as exact as float32 allows, layer by layer, also where most of a layer is dead.

The float64 results that these tests compare with are those of the same rules, which ``test_propagation_rules.py``
compares with their definitions.
"""

import copy

import pytest
import torch
from oracles import dense
from relmap.network import Operation, trace
from relmap.propagation.rules import AlphaBeta, Epsilon, Flat, Gamma, Gradient, Record, Share, Winner, ZBox
from torch import Tensor, nn

PER_LAYER = 1e-5
LAYERS = {
    "conv": (lambda: nn.Conv2d(32, 32, 3, padding=1), (32, 14, 14)),
    "conv_1x1": (lambda: nn.Conv2d(256, 32, 1), (256, 7, 7)),
    "conv_stride": (lambda: nn.Conv2d(16, 32, 3, stride=2, padding=1, bias=False), (16, 15, 15)),
    "conv_groups": (lambda: nn.Conv2d(64, 64, 3, padding=1, groups=8), (64, 7, 7)),
    "conv_depthwise": (lambda: nn.Conv2d(32, 32, 5, padding=2, groups=32), (32, 14, 14)),
    "linear": (lambda: nn.Linear(1024, 64), (1024,)),
    "linear_tokens": (lambda: nn.Linear(256, 64), (17, 256)),
}
RULES = {
    "epsilon": Epsilon(),
    "lrp_0": Epsilon(0.0),
    "a1b0": AlphaBeta(signed_input=False),
    "a1b0_bias": AlphaBeta(bias=True, signed_input=False),
    "a2b1": AlphaBeta(2, 1, signed_input=False),
    "a2b1_bias": AlphaBeta(2, 1, bias=True, signed_input=False),
    "a2b1_signed": AlphaBeta(2, 1),
    "gamma": Gamma(),
    "flat": Flat(),
    "box": ZBox(None, None),
    "gradient": Gradient(),
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def layer_of(make, weights: str) -> nn.Module:
    """Weights as they are drawn; ``rarely_negative``: one in 500; ``hardly_negative``: a hundredth of the size."""
    torch.manual_seed(0)
    layer = make().eval()
    w = layer.weight.data
    if weights == "rarely_negative":
        w.copy_(torch.where(torch.rand(w.shape, generator=generator(1)) < 0.002, -w.abs(), w.abs()))
    if weights == "hardly_negative":
        w.copy_(torch.where(w < 0, 0.01 * w, w))
    return layer


def activations(shape: tuple[int, ...]) -> Tensor:
    """After a ReLU: one image as usual, one of which one entry in twenty is active, one with a dead half."""
    x = torch.randn(3, *shape, generator=generator(2)).relu()
    x[1] *= torch.rand(shape, generator=generator(3)) > 0.95
    x[2].flatten()[: x[2].numel() // 2] = 0
    return x


def operation_of(layer: nn.Module) -> Operation:
    return trace(nn.Sequential(layer, nn.Conv2d(1, 1, 1)).eval())["0"]


def worst_error(rule, layer: nn.Module, x: Tensor, start: Tensor) -> float:
    """Greatest relative L2 error of float32 over starts and images."""
    results = []
    for dtype in (torch.float32, torch.float64):
        operation = operation_of(copy.deepcopy(layer).to(dtype))
        given = x.to(dtype)
        record = Record(operation, (given,), operation.run(given), (x.shape,))
        results.append(rule(record, start.to(dtype))[0].double().flatten(2))
    error = (results[0] - results[1]).norm(dim=2)
    return (error / results[1].norm(dim=2).clamp(min=1e-300)).max().item()


@pytest.mark.parametrize("weights", ["drawn", "rarely_negative", "hardly_negative"])
@pytest.mark.parametrize("name", RULES)
@pytest.mark.parametrize("layer", LAYERS)
@torch.no_grad()
def test_float32_of_active_outputs(layer, name, weights):
    """Relevance as it arrives behind a ReLU: at outputs that are active, in proportion to them.

    An output near 0 is left out: its own rounding, not the rule's, decides what R / z is there.
    """
    make, shape = LAYERS[layer]
    module, x = layer_of(make, weights), activations(shape)
    y = module(x)
    start = torch.randn(2, *y.shape, generator=generator(4)) * torch.where(y > 0.02 * y.std(), y, 0)
    assert worst_error(RULES[name], module, x, start) < PER_LAYER


@pytest.mark.parametrize("name", ["a1b0", "a1b0_bias", "a2b1", "flat", "box", "gradient"])
@pytest.mark.parametrize("layer", LAYERS)
@torch.no_grad()
def test_float32_of_outputs_that_see_nothing(layer, name):
    """Relevance of outputs whose denominator is 0 is dropped, and does not spill over to their neighbours."""
    make, shape = LAYERS[layer]
    module, x = layer_of(make, "drawn"), activations(shape)
    x[:, : shape[0] // 2] = 0
    if len(shape) == 3:
        x[:, :, shape[1] // 2 :] = 0
    y = module(x)
    start = torch.randn(2, *y.shape, generator=generator(4))
    tolerance = PER_LAYER
    if name == "a2b1":
        # One denominator is a difference with the output: it has its digits where the output is active, but for one
        # that only the bias makes active.
        start, tolerance = start * y.relu(), 1e-3
    assert worst_error(RULES[name], module, x, start) < tolerance


@pytest.mark.parametrize("scale", [2.0**-40, 2.0**-13, 2.0**13, 2.0**40])
@pytest.mark.parametrize("name", ["lrp_0", "a1b0", "a2b1", "flat", "box"])
@torch.no_grad()
def test_the_size_of_activations_does_not_matter(name, scale):
    """Rules of shares alone give the same map for an input, and for the input times a number."""
    make, shape = LAYERS["conv_stride"]
    module, x = layer_of(make, "drawn"), activations(shape)
    operation = operation_of(module)
    start = torch.randn(2, *module(x).shape, generator=generator(4)) * module(x).relu()
    maps = [
        RULES[name](Record(operation, (v,), operation.run(v), (x.shape,)), start)[0].flatten(1) for v in (x, scale * x)
    ]
    assert ((maps[0] - maps[1]).norm(dim=1) / maps[0].norm(dim=1)).max() < PER_LAYER


@pytest.mark.parametrize("bounds", ["image", "channels"])
@torch.no_grad()
def test_float32_z_box_of_plain_areas(bounds):
    """White, black and grey areas under filters of one sign: shares are 0 exactly, or far from it."""
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 8, 5, padding=2)
    layer.weight.data[:4] = -layer.weight.data[:4].abs()
    layer.weight.data[6:] = layer.weight.data[6:].abs()
    low, high = (-2.117904, -2.035714, -1.804444), (2.248908, 2.428571, 2.640000)
    x = torch.empty(3, 3, 20, 20)
    x[:, :, :10], x[:, :, 10:] = torch.tensor(high)[:, None, None], torch.tensor(low)[:, None, None]
    x[1, :, :, 5:15] = 0.3
    x[2] = 0.7
    rule = ZBox(None, None) if bounds == "image" else ZBox(low, high)
    start = torch.randn(2, *layer(x).shape, generator=generator(4))
    results = []
    for dtype in (torch.float32, torch.float64):
        operation = operation_of(copy.deepcopy(layer).to(dtype))
        given = x.to(dtype)
        if dtype == torch.float64 and bounds == "channels":
            rule = ZBox(*(tuple(torch.tensor(v).double().tolist()) for v in (low, high)))  # float32's bounds, exactly
        results.append(rule(Record(operation, (given,), None, (x.shape,)), start.to(dtype))[0].double().flatten(2))
    error = (results[0] - results[1]).norm(dim=2)
    assert (error <= PER_LAYER * results[1].norm(dim=2)).all()


@pytest.mark.parametrize("rule", [Share(), Share("positive"), Share("absolute")], ids=str)
@torch.no_grad()
def test_float32_shares_of_pools(rule):
    x = activations((16, 15, 15))
    layer = nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False)
    start = torch.randn(2, *layer(x).shape, generator=generator(4))
    assert worst_error(rule, layer, x, start) < PER_LAYER


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@torch.no_grad()
def test_ties_go_to_the_first_in_every_layout(dtype, layout):
    """Maps after a ReLU are full of ties, and the first winner must not depend on how memory is laid out."""
    layer = nn.MaxPool2d(3, 2, 1, ceil_mode=True)
    x = (activations((16, 9, 9)) * 2).round().to(dtype).contiguous(memory_format=layout)
    operation = operation_of(layer)
    start = torch.randn(2, *layer(x).shape, generator=generator(4)).to(dtype)
    (result,) = Winner()(Record(operation, (x,), operation.run(x), (x.shape,)), start)
    for n in range(len(x)):
        torch.testing.assert_close(result[0, n], dense.winners(x[n], start[0, n], 3, 2, 1, 1), rtol=1e-5, atol=1e-5)
