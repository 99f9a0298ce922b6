"""AGF against its authors' code (shirgur/AGFVisualization@64c0159), and its equations with explicit matrices, image by
image (``oracles.agf``).
"""

from functools import cache, partial

import pytest
import torch
from oracles import agf as oracle
from oracles import nam
from reference_nets import inputs, network, vectors
from relmap.errors import InputError
from relmap.explainers.agf import AttributionGuidedFactorization, score_gradient
from relmap.network import trace
from relmap.propagation import Propagator
from relmap.propagation.rules.agf import GuidedConvolution, factorized
from relmap.propagation.rules.base import Record
from torch import Tensor, nn

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
NETWORKS = pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])


@cache
def explainer(architecture: str) -> AttributionGuidedFactorization:
    return AttributionGuidedFactorization(Propagator(network(architecture)))


def forward(explain: AttributionGuidedFactorization, images: Tensor):
    return explain.walk.propagator.forward(images, explain.walks, explain.keep)


@DTYPES
@NETWORKS
def test_maps_of_the_authors(architecture, dtype):
    theirs = vectors(f"nam/{architecture}s_agf.npz")
    maps = nam.explained(architecture, AttributionGuidedFactorization, dtype, 8 if dtype == torch.float64 else 3)
    assert max(nam.map_errors(maps, theirs)) < (1e-6 if dtype == torch.float64 else 2e-5)


@NETWORKS
def test_every_layer_of_the_authors(architecture):
    theirs = vectors(f"nam/{architecture}s_agf.npz")
    explain = explainer(architecture)
    images, targets = inputs()
    activations = forward(explain, images)
    blocks = nam.blocks(explain.walk.graph, theirs["sum_names"])
    found = nam.observed(partial(explain.propagate, activations, targets), blocks)
    sums = nam.sum_errors(found, theirs)
    # The start, dropout (VGG), and the input of the block after the first pool are no operation's input here.
    assert len(sums) >= len(theirs["sum_names"]) - 3 and max(sums.values()) < 1e-7, sums
    captured = nam.captured_errors(found, theirs)
    assert len(captured) >= 3 and max(captured.values()) < 1e-6, captured
    for i, target in enumerate(nam.TARGETS):
        assert nam.error(explain.propagate(activations, targets).relevance[i, :1], theirs[f"map3_{target}_0"]) < 1e-6


@NETWORKS
def test_equations_with_explicit_matrices(architecture):
    images, targets = inputs()
    explain = explainer(architecture)
    ours = explain.propagate(forward(explain, images[:2]), targets[:, :2]).relevance
    for i in range(2):
        assert nam.error(ours[i], oracle.relevance(network(architecture), images[:2], targets[i, :2])) < 1e-9


@NETWORKS
def test_batches_and_targets_are_independent(architecture):
    images, targets = inputs()
    explain = explainer(architecture)
    together = explain.read(forward(explain, images[:3]), targets[:, :3])
    alone = explain.read(forward(explain, images[1:2]), targets[1:, 1:2])
    assert nam.error(together[1, 1:2], alone[0]) < 1e-9
    assert torch.allclose(together.amax((2, 3, 4)), torch.ones(2, 3).double())


def test_factorization_is_ridge_regression():
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(2, 3, 5, 6, 7, dtype=torch.float64, generator=generator)
    phi = torch.randn(2, 3, 1, 6, 7, dtype=torch.float64, generator=generator)
    ours = factorized(values, phi)
    for k in range(2):
        for n in range(3):
            torch.testing.assert_close(ours[k, n, 0], oracle.factorized(values[k, n, None], phi[k, n, 0]))
    assert (factorized(values, phi.abs()).isfinite()).all()  # no background


def test_score_gradient():
    logits = torch.randn(3, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets = torch.tensor([[0, 1, 2], [5, 5, 5]])
    ours = score_gradient(logits, targets)
    for k in range(2):
        for n in range(3):
            y = logits[n].clone().requires_grad_()
            at = y[targets[k, n]]
            p = (at * torch.exp(-0.5 * ((y - at) / (y - at).abs().max()) ** 2)).softmax(0)
            (expected,) = torch.autograd.grad(p[targets[k, n]], y)
            torch.testing.assert_close(ours[k, n], expected)


def test_missing_gradients_are_named():
    layer = nn.Conv2d(3, 4, 3, padding=1).double().requires_grad_(False)
    operation = list(trace(nn.Sequential(layer)))[-1]
    x = torch.rand(1, 3, 5, 5).double()
    with pytest.raises(InputError, match="gradient at '0'"):
        GuidedConvolution()(Record(operation, (x,), None, (x.shape,)), torch.rand(1, 1, 4, 5, 5).double())


def test_totals_are_those_of_the_start():
    """Guides sum to 0 and shares conserve; closed ReLUs and the small constants in denominators take a little."""
    images, targets = inputs()
    explain = explainer("vgg16")
    found = nam.observed(partial(explain.propagate, forward(explain, images[:2]), targets[:1, :2]), {})
    totals = [part.flatten(2).sum(2) for name, part in found.items() if name.startswith(("classifier", "features"))]
    masses = [part.abs().flatten(2).sum(2) for part in found.values()]
    assert ((totals[-1] - totals[0]).abs() < 1e-4 * masses[-1]).all()
