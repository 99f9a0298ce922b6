"""RSP against its authors' code (wjNam/Relative_Sectional_Propagation@68a1297) on VGG, and its equations written out
with autograd's weight gradients, one image at a time (``oracles.rsp``), on VGG and ResNet.
"""

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import nam
from oracles import rsp as oracle
from reference_nets import inputs, network, vectors
from relmap.explainers.rsp import RelativeSectionalPropagation
from relmap.network import trace
from relmap.propagation import Propagator
from relmap.propagation.rules.base import Record
from relmap.propagation.rules.rsp import RelativeSectional
from torch import Tensor, nn

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


def forward(explain: RelativeSectionalPropagation, images: Tensor):
    return explain.walk.propagator.forward(images, explain.walks, explain.keep)


@DTYPES
def test_maps_of_the_authors(dtype):
    count = 8 if dtype == torch.float64 else 3
    maps = nam.explained("vgg16", RelativeSectionalPropagation, dtype, count)
    assert max(nam.map_errors(maps, vectors("nam/vgg16s_rsp.npz"))) < (1e-6 if dtype == torch.float64 else 1e-5)


def test_every_layer_of_the_authors():
    theirs = vectors("nam/vgg16s_rsp.npz")
    explain = RelativeSectionalPropagation(Propagator(network("vgg16")))
    images, targets = inputs()
    activations = forward(explain, images)
    start = explain.start(activations, targets)
    for i, target in enumerate(nam.TARGETS):
        assert nam.error(start[i, :1], theirs[f"init_{target}_0"]) < 1e-6
    found = nam.observed(partial(explain.propagate, activations, targets), {})
    sums = nam.sum_errors(found, theirs)
    assert len(sums) == len(theirs["sum_names"]) and max(sums.values()) < 1e-9, sums
    captured = nam.captured_errors(found, theirs)
    assert len(captured) == 3 and max(captured.values()) < 1e-6, captured
    for part in found.values():  # conserved, but for image 7, where a unit with relevance sees zeros only
        torch.testing.assert_close(part.flatten(2).sum(2)[:, :7], start.flatten(2).sum(2)[:, :7], rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_equations_module_by_module(architecture):
    images, targets = inputs()
    explain = RelativeSectionalPropagation(Propagator(network(architecture)))
    ours = explain.read(forward(explain, images[:2]), targets[:, :2])
    for i in range(2):
        assert nam.error(ours[i], oracle.relevance(network(architecture), images[:2], targets[i, :2])) < 1e-10


LAYERS = {
    "plain": nn.Conv2d(4, 6, 3, padding=1),
    "stride": nn.Conv2d(4, 6, 3, stride=2, padding=1),
    "groups": nn.Conv2d(4, 6, 3, padding=1, groups=2),
    "dilation": nn.Conv2d(4, 6, 3, padding=2, dilation=2),
    "rectangular": nn.Conv2d(4, 6, (1, 5), padding=(0, 2)),
    "pointwise": nn.Conv2d(4, 6, 1),
}


def record_and_relevance(layer: nn.Module, seed: int) -> tuple[Record, Tensor]:
    layer = layer.double().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    size = (2, 12) if isinstance(layer, nn.Linear) else (2, 4, 9, 8)
    x = torch.randn(size, dtype=torch.float64, generator=generator).relu()
    operation = list(trace(nn.Sequential(layer)))[-1]
    r = torch.randn(3, *layer(x).shape, dtype=torch.float64, generator=generator)
    return Record(operation, (x,), None, (x.shape,)), r


@pytest.mark.parametrize("limit", [1, 3000, 2**28], ids=["one", "two or three", "all"])
@pytest.mark.parametrize("name", LAYERS)
def test_rule_is_the_equation_however_many_images_at_once(name, limit):
    record, r = record_and_relevance(LAYERS[name], 0)
    layer = LAYERS[name].requires_grad_(False)
    (ours,) = RelativeSectional(limit)(record, r)
    expected = torch.stack([oracle.RSP().affine(layer, record.inputs[0], None, part) for part in r])
    torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-10)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from(sorted(LAYERS)))
def test_rule_conserves(seed, name):
    record, r = record_and_relevance(LAYERS[name], seed)
    x = record.inputs[0] + 0.01  # every unit sees an input that is not 0
    (ours,) = RelativeSectional()(replace(record, inputs=(x,)), r)
    torch.testing.assert_close(ours.flatten(2).sum(2), r.flatten(2).sum(2), rtol=1e-8, atol=1e-8)


def test_a_linear_layer_is_a_pointwise_convolution_of_one_pixel():
    linear = nn.Linear(12, 5)
    record, r = record_and_relevance(linear, 1)
    x = record.inputs[0]
    (ours,) = RelativeSectional()(record, r)
    # Each section's weights are p_j x_i, so that every output shares by x squared.
    torch.testing.assert_close(ours, x**2 / (x**2).sum(1, keepdim=True) * r.sum(2, keepdim=True))


def test_batches_and_targets_are_independent():
    images, targets = inputs()
    explain = RelativeSectionalPropagation(Propagator(network("resnet50")))
    together = explain.read(forward(explain, images[:3]), targets[:, :3])
    alone = explain.read(forward(explain, images[1:2]), targets[1:, 1:2])
    assert nam.error(together[1, 1:2], alone[0]) < 1e-10
