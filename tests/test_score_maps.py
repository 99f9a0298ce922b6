"""Score maps (N, C, h, w): one score a class, and starts that follow from the scores alone."""

import pytest
import relmap
import torch
from relmap.explainers.agf import score_gradient
from relmap.explainers.contrastive import READINGS
from relmap.models.torchray import FullyConvolutionalVGG
from relmap.network.score_maps import pooled_scores, position_weights, spread
from relmap.propagation import Propagator, composites, starts
from test_propagation_laws import draw
from torch import nn

TARGETS = torch.tensor([0, 3, 1])


def logits(*positions: int) -> torch.Tensor:
    return 3 * draw(7, 3, 5, *positions)


def test_weights_are_the_softmax_of_the_class_s_own_positions():
    z = logits(2, 3)
    weights, scores = position_weights(z), pooled_scores(z)
    for image in range(3):
        for c in range(5):
            exp = [[float(v.exp()) for v in row] for row in z[image, c]]
            total = sum(map(sum, exp))
            expected = sum(exp[i][j] / total * float(z[image, c, i, j]) for i in range(2) for j in range(3))
            assert scores[image, c].item() == pytest.approx(expected, rel=1e-12)
            assert weights[image, c, 1, 2].item() == pytest.approx(exp[1][2] / total, rel=1e-12)
    torch.testing.assert_close(weights.sum((2, 3)), torch.ones(3, 5).double())
    torch.testing.assert_close(pooled_scores(z + 5), scores + 5)


@pytest.mark.parametrize("name", starts.STARTS)
def test_one_position_is_no_map(name):
    z = logits()
    expected = starts.STARTS[name](z, TARGETS)
    assert torch.equal(starts.STARTS[name](z[..., None, None], TARGETS)[..., 0, 0], expected)
    assert torch.equal(pooled_scores(z[..., None, None]), z) and pooled_scores(z) is z


@pytest.mark.parametrize("name", starts.STARTS)
def test_totals_are_those_of_the_scores(name):
    z = logits(2, 3)
    found = starts.STARTS[name](z, TARGETS)
    assert found.shape == z.shape
    expected = starts.STARTS[name](pooled_scores(z), TARGETS)
    torch.testing.assert_close(found.sum((2, 3)), expected)
    if name != "logit":
        torch.testing.assert_close(found, spread(expected, z))


def test_other_starts_are_spread_alike():
    z, targets = logits(2, 3), TARGETS[None]
    torch.testing.assert_close(score_gradient(z, targets).sum((3, 4)), score_gradient(pooled_scores(z), targets))
    for reading in READINGS.values():
        of_maps = starts.of_scores(lambda z, t, reading=reading: reading(z, t)[1])(z, TARGETS)
        torch.testing.assert_close(of_maps.sum((2, 3)), reading(pooled_scores(z), TARGETS)[1])


class Sliding(nn.Module):
    """A convolutional class layer whose positions are the logits."""

    def __init__(self, constant: float = 0.0) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, stride=4)
        self.classes = nn.Conv2d(12, 5, 1)
        self.double().requires_grad_(False)
        nn.init.normal_(self.classes.weight, std=8)
        self.classes.bias += constant

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.classes(self.second(self.first(x).relu()).relu())


def test_gradients_are_those_of_the_log_sum_of_exponentials():
    model, x = Sliding(), draw(5, 3, 3, 12, 12).requires_grad_()
    z = model(x)
    assert z.shape == (3, 5, 3, 3)
    z.flatten(2).logsumexp(2).gather(1, TARGETS[:, None]).sum().backward()
    walk = Propagator(model).by(composites.gradient())
    activations = walk.forward(x.detach())
    start = starts.stacked(starts.one_hot, activations.logits, TARGETS[None])
    torch.testing.assert_close(walk.propagate(activations, start).relevance[0], x.grad)
    maps = relmap.explain(model, x.detach(), TARGETS, "input_x_gradient")
    torch.testing.assert_close(maps, (x.detach() * x.grad).sum(1))


def test_the_predicted_class_has_the_highest_score():
    model, x = Sliding(), draw(6, 9, 3, 12, 12)
    predicted = pooled_scores(model(x)).argmax(1)
    assert (predicted != model(x).mean((2, 3)).argmax(1)).any(), "a case in which it matters"
    for method in ("saliency", "grad_cam"):
        torch.testing.assert_close(relmap.explain(model, x, None, method), relmap.explain(model, x, predicted, method))


METHODS = ("lrp_zero", "lrp_alpha1_beta0", "clrp", "sglrp", "clrp_two_passes", "sglrp_two_passes", "rap", "crap")
METHODS += ("excitation_backprop", "contrastive_excitation_backprop", "attribution_equilibrium", "saliency", "grad_cam")


@pytest.mark.parametrize("method", METHODS)
def test_a_constant_added_to_all_logits_turns_no_map(method):
    x, maps = draw(5, 3, 3, 12, 12), []
    for constant in (-30.0, 0.0, 30.0):
        found = relmap.explain(Sliding(constant), x, TARGETS, method).flatten(1)
        maps.append(found / found.norm(dim=1, keepdim=True))
    assert all((maps[1] * other).sum(1).min() > 1 - 1e-6 for other in (maps[0], maps[2]))


@pytest.mark.parametrize("method", ["clrp_gu", "agf", "abslrp", "abslrp_difference", "abslrp_normalised_vgg", *METHODS])
def test_maps_of_a_fully_convolutional_network_by_themselves(method):
    """Finite, and each image's the same whatever the batch."""
    torch.manual_seed(1)
    model = FullyConvolutionalVGG(4, 1 / 16, 2).double().eval().requires_grad_(False)
    x = draw(2, 2, 3, 96, 64).clamp(-2, 2)
    assert model(x).shape[2:] == (2, 1)
    targets = torch.tensor([2, 3])
    together = relmap.explain(model, x, targets, method)
    assert together.isfinite().all() and together.any()
    alone = relmap.explain(model, x[1:], targets[1:], method)
    torch.testing.assert_close(together[1:], alone)
