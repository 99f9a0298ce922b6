"""CUDA gives what the CPU gives; runs where there is a GPU."""

import pytest
import relmap
import torch
from reference_nets import inputs, network
from relmap.catalogue.methods import ATTENTION, BRANCH, CATALOGUE
from trials import tried

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")

# Small differences of nearly equal maps, and quotients by differences: float32 itself leaves them fewer digits.
ILL_CONDITIONED = {
    "abslrp_difference",
    "abslrp_normalised",
    "abslrp_normalised_vgg",
    "abslrp_normalised_resnet",
    "abslrp_eq12_without_bias",
}
ILL_CONDITIONED |= {"rap", "crap", "lrp_alpha2_beta1_rap", "lrp_epsilon_captum"}


@pytest.mark.parametrize(
    "method",
    [n for n, row in CATALOGUE.items() if n not in ILL_CONDITIONED and not {ATTENTION, BRANCH} & set(row.needs)],
)
@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_cuda_equals_cpu(architecture, method):
    images, targets = inputs(torch.float32)
    model = network(architecture, torch.float32)
    on_cpu = relmap.explain(model, images, targets.T, tried(method)).double()
    on_cuda = relmap.explain(model.cuda(), images, targets.T, tried(method)).double()
    errors = (on_cuda - on_cpu).flatten(2).norm(dim=2) / on_cpu.flatten(2).norm(dim=2)
    assert errors.max() < 1e-3


@pytest.mark.parametrize("method", sorted(ILL_CONDITIONED))
@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_cuda_equals_cpu_in_float64(architecture, method):
    images, targets = inputs()
    model = network(architecture)
    on_cpu = relmap.explain(model, images, targets.T, method)
    on_cuda = relmap.explain(model.cuda(), images, targets.T, method)
    errors = (on_cuda - on_cpu).flatten(2).norm(dim=2) / on_cpu.flatten(2).norm(dim=2)
    assert errors.max() < 1e-5
