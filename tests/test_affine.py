"""Convolutions of one to three dimensions and transposed ones are linear maps to every rule: their matrix's."""

from dataclasses import replace

import pytest
import torch
from relmap.network.affine import Affine, Convolution, Dense, Diagonal, TransposedConvolution
from relmap.network.graph import Operation
from relmap.propagation.rules import AlphaBeta, Epsilon, Flat, Gamma, Gradient, Record, ZBox
from relmap.propagation.rules.abslrp import AbsLayer, OneSign, SignWise, UnitSum, Unrestored
from relmap.propagation.rules.equilibrium import BalancedZBox, Equilibrium
from relmap.propagation.rules.rap import AbsoluteShare, RelativeAttributing
from relmap.propagation.rules.released import ReleasedPlus
from relmap.propagation.rules.rsp import RelativeSectional
from torch import nn

LAYERS = {
    "conv1d": (nn.Conv1d(4, 6, 3, stride=2, padding=2, dilation=2, groups=2), (4, 9)),
    "conv2d": (nn.Conv2d(4, 6, (3, 2), stride=(2, 1), padding=(1, 0), groups=2), (4, 6, 5)),
    "conv3d": (nn.Conv3d(2, 3, (1, 2, 3), stride=2, padding=(0, 1, 1)), (2, 3, 4, 5)),
    "transposed 1d": (nn.ConvTranspose1d(4, 6, 3, stride=2, padding=1, output_padding=1, groups=2), (4, 5)),
    "transposed 2d": (nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), (4, 3, 4)),
    "transposed, dilated": (
        nn.ConvTranspose2d(3, 2, 2, dilation=2, padding=1, output_padding=1, bias=False),
        (3, 4, 3),
    ),
    "transposed 3d": (nn.ConvTranspose3d(2, 4, 2, stride=(1, 2, 2), padding=(0, 1, 0)), (2, 2, 3, 3)),
}
RULES = {
    "epsilon": Epsilon(0.1),
    "epsilon without bias": Epsilon(0.0, bias=False),
    "alpha-beta": AlphaBeta(),
    "alpha 2, beta 1": AlphaBeta(2, 1),
    "alpha 2, beta 1 with bias": AlphaBeta(2, 1, bias=True, epsilon=1e-6),
    "gamma": Gamma(),
    "gamma without bias": Gamma(0.5, bias=False),
    "flat": Flat(),
    "z-box of the image": ZBox(None, None),
    "gradient": Gradient(),
    "equation 12": AbsLayer(Unrestored(), signed=(True,)),
    "absLRP": AbsLayer(SignWise(), signed=(True,)),
    "absLRP of one sign": AbsLayer(OneSign(), signed=(True,)),
    "absLRP normalised": AbsLayer(UnitSum(), signed=(True,), bias=False),
    "equilibrium": Equilibrium(1.5),
    "balanced z-box": BalancedZBox(None, None, 1.5),
    "absolute": AbsoluteShare(),
    "RAP": RelativeAttributing(),
    "released": ReleasedPlus(2, 1e-9, "signs"),
    "released, ones": ReleasedPlus(1, 1e-5, "ones"),
}


def affine_of(name: str) -> tuple[Affine, tuple[int, ...]]:
    torch.manual_seed(0)
    module, shape = LAYERS[name]
    module = module.double()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    kind = TransposedConvolution if "transposed" in name else Convolution
    return kind.of(module), shape


def matrix(affine: Affine, shape: tuple[int, ...]) -> torch.Tensor:
    """(outputs, inputs), one column for each entry of the input."""
    units = torch.eye(torch.Size(shape).numel(), dtype=torch.float64).view(-1, *shape)
    return affine.apply(units, affine.weight).flatten(1).T.contiguous()


def record(affine: Affine, x: torch.Tensor) -> Record:
    kind = "linear" if isinstance(affine, Dense) else "conv"
    return Record(Operation("layer", kind, ("x",), affine.forward, affine), (x,), affine.forward(x), (x.shape,))


@pytest.mark.parametrize("name", LAYERS)
def test_what_it_computes(name):
    affine, shape = affine_of(name)
    module = LAYERS[name][0]
    x = torch.randn(2, *shape, dtype=torch.float64)
    torch.testing.assert_close(affine.forward(x), module(x).detach())
    full = matrix(affine, shape)
    s = torch.randn(3, *affine.forward(x).shape, dtype=torch.float64)
    for weights in ("own", "positive", "absolute"):
        of_matrix = {"own": full, "positive": full.clamp(min=0), "absolute": full.abs()}[weights]
        back = affine.transpose(s, affine.weights(weights), x.shape)
        torch.testing.assert_close(back, (s.flatten(2) @ of_matrix).view(3, *x.shape))
    norm = Diagonal(torch.randn(affine.outputs).double(), torch.randn(affine.outputs).double())
    torch.testing.assert_close(affine.scaled(norm).forward(x), norm.forward(affine.forward(x)))
    assert affine.inputs == shape[0] and affine.forward(x).shape[1] == affine.outputs


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", LAYERS)
def test_a_rule_sees_a_linear_map(name, rule):
    """Relevance through a convolution is relevance through its matrix."""
    affine, shape = affine_of(name)
    x = torch.randn(2, *shape, dtype=torch.float64)
    x[:, 0] = x[:, 0].relu()
    h = affine.forward(x)
    relevance = torch.randn(3, *h.shape, dtype=torch.float64)
    bias = None if affine.bias is None else affine.bias.view(-1, *[1] * (h.dim() - 2)).expand(h.shape[1:]).flatten()
    dense = Dense(matrix(affine, shape), bias)
    if rule == "flat":  # ones where a window reaches, in place of all
        reach = matrix(replace(affine, weight=torch.ones_like(affine.weight), bias=None, _derived={}), shape)
        dense = Dense(reach, bias, {"ones": reach})
    (found,) = RULES[rule](record(affine, x), relevance)
    (expected,) = RULES[rule](record(dense, x.flatten(1)), relevance.flatten(2))
    scale = expected.abs().max().item()
    torch.testing.assert_close(found.flatten(2), expected, rtol=1e-8, atol=1e-10 * scale)


@pytest.mark.parametrize("name", LAYERS)
def test_bounds_of_channels(name):
    affine, shape = affine_of(name)
    x = torch.rand(2, *shape, dtype=torch.float64)
    low, high = torch.linspace(-1, -0.5, shape[0]).double(), torch.linspace(1, 2, shape[0]).double()
    relevance = torch.randn(3, *affine.forward(x).shape, dtype=torch.float64)
    (found,) = ZBox(tuple(low.tolist()), tuple(high.tolist()))(record(affine, x), relevance)
    bounds = [v.view(-1, *[1] * (x.dim() - 2)).expand(shape).flatten() for v in (low, high)]
    weight, flat = matrix(affine, shape), x.flatten(1)
    terms = (flat - bounds[0])[:, None] * weight.clamp(min=0) + (flat - bounds[1])[:, None] * weight.clamp(max=0)
    z = terms.sum(2, keepdim=True)
    shares = terms / torch.where(z == 0, torch.inf, z)
    expected = torch.einsum("noi,kno->kni", shares, relevance.flatten(2))
    torch.testing.assert_close(found.flatten(2), expected)


@pytest.mark.parametrize("name", LAYERS)
def test_relative_sections(name):
    """The weights of RSP are gradients with respect to the layer's own, shared over positions."""
    affine, shape = affine_of(name)
    x = torch.rand(2, *shape, dtype=torch.float64)
    relevance = torch.randn(1, *affine.forward(x).shape, dtype=torch.float64)
    (found,) = RelativeSectional()(record(affine, x), relevance)
    for image, r, result in zip(x.split(1), relevance[0].split(1), found[0].split(1), strict=True):
        difference = torch.zeros_like(image)
        for section, sign in ((r.clamp(min=0), 1), (-r.clamp(max=0), -1)):
            weight = affine.weight.clone().requires_grad_()
            (gradient,) = torch.autograd.grad((section * affine.apply(image, weight)).sum(), weight)
            z = affine.apply(image, gradient)
            share = section / torch.where(z == 0, torch.inf, z)
            difference += sign * image * affine.transpose(share[None], gradient, image.shape)[0]
        counted = (difference != 0).double()
        expected = 2 * difference - counted * r.sum() / counted.sum()
        torch.testing.assert_close(result, expected)
