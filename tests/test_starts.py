"""Positive relevance speaks for the class, whatever the sign of its logit, which softmax does not see."""

import pytest
import relmap
import torch
from random_networks import CLASSES, Network
from reference_nets import inputs, logit_signs, network
from relmap.catalogue.methods import ATTENTION, BRANCH, CATALOGUE, SIZES
from relmap.explainers.base import Relevance
from relmap.explainers.plain_lrp import LRPAlphaBeta, LRPComposite, LRPEpsilon
from relmap.propagation import Propagator, composites, starts
from test_propagation_laws import NETWORKS, draw, images
from torch import Tensor, nn
from trials import tried

TARGETS = torch.tensor([[0, 3], [1, 1], [2, 0], [3, 1]])

# Their equations weigh classes or positions by the sizes of logits, so that a constant changes the map.
WEIGHED = {
    "clrp_gu": "the others start from |z_n|",
    "abslrp": "outputs share by 1 / |h_n|",
    "abslrp_difference": "outputs share by 1 / |h_n|",
    "abslrp_eq12": "outputs share by 1 / |h_n|",
    "abslrp_eq12_without_bias": "outputs share by 1 / |z_n|",
    "abslrp_normalised": "outputs share by 1 / |h_n|",
    "abslrp_normalised_vgg": "outputs share by 1 / |h_n|, and others with a negative logit do not count",
    "abslrp_normalised_resnet": "outputs share by 1 / |h_n|",
    "agf": "the score is a softmax of z_t times something",
    "rise": "the score is a sigmoid of z_t",
}
# The class layer favours the contributions of the logit's sign.
WITH_BIAS = {"lrp_gamma"}
CONTROLS = {"constant", "random", "random_normal", "centre_gaussian"}
METHODS = [
    method.id
    for method in relmap.methods()
    if not {ATTENTION, BRANCH, SIZES}.intersection(method.needs)
    and not method.wraps
    and method.id not in CONTROLS | WEIGHED.keys()
]


def unit(maps: Tensor) -> Tensor:
    """Each map divided by its norm; an empty one stays empty, or nearly so if it is rounding of a contrast."""
    flat = maps.flatten(2)
    return flat / flat.norm(dim=2, keepdim=True).clamp(min=1e-15)


def maps_with(constant: float, name: str, method: str) -> Tensor:
    net = Network(NETWORKS[name], 11, True)
    net.linear.bias.data += constant
    return unit(relmap.explain(Propagator(net), images(4, 4), TARGETS, tried(method)))


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", METHODS)
def test_a_constant_added_to_all_logits_turns_no_map(method, name):
    maps = maps_with(0.0, name, method)
    logits = Network(NETWORKS[name], 11, True)(images(4, 4)).detach().gather(1, TARGETS)
    found = maps.norm(dim=2) > 0.5
    for constant in (-10.0, 10.0):
        # All targets have this sign now.
        assert ((logits + constant).sign() == torch.tensor(constant).sign()).all()
        alike = (maps * maps_with(constant, name, method)).sum(2)[found]
        assert (alike > (0.5 if method in WITH_BIAS else 1 - 1e-6)).all(), (constant, alike)


def test_those_that_are_left_out_do_weigh_by_the_logits():
    for method in WEIGHED:
        if method == "abslrp_eq12_without_bias":  # its denominators do not see the bias that is changed
            continue
        alike = (maps_with(0.0, "residual", method) * maps_with(10.0, "residual", method)).sum(2)
        assert alike.min() < 1 - 1e-6, method
    assert WEIGHED.keys() <= CATALOGUE.keys()


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
@pytest.mark.parametrize(
    "method", ["lrp_alpha1_beta0", "lrp_alpha1_beta0_rap", "lrp_alpha1_beta0_norms", "rap", "rap_logit_init"]
)
def test_totals_are_positive_on_trained_networks(architecture, method):
    """Most targets after the label have a negative logit there."""
    pictures, targets = inputs()
    assert (logit_signs(architecture) < 0).any() and (logit_signs(architecture) > 0).any()
    maps = relmap.explain(Propagator(network(architecture)), pictures, targets.T, method)
    assert (maps.sum((2, 3)) > 0).all()


class Convolutional(nn.Module):
    """A class layer that is a convolution, its logits averaged over the positions."""

    def __init__(self, constant: float) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)
        self.classes = nn.Conv2d(12, CLASSES, 1)
        self.double().requires_grad_(False)
        self.classes.bias += constant

    def forward(self, x: Tensor) -> Tensor:
        return self.classes(self.second(self.first(x).relu()).relu()).mean((2, 3))


@pytest.mark.parametrize(
    "method",
    [
        *("lrp_zero", "lrp_alpha1_beta0", "lrp_alpha2_beta1", "clrp", "sglrp", "clrp_two_passes", "clrp_gu_negated"),
        *("excitation_backprop", "rap", "crap", "rap_logit_init", "lrp_alpha2_beta1_rap", "c3_lrp_released"),
    ],
)
def test_averages_of_logits_do_not_turn_a_map_either(method):
    """Positions share evenly behind the class layer, not by logits that may be negative or cancel."""
    x, maps = draw(5, 4, 3, 12, 12), []
    for constant in (-3.0, 0.0, 3.0):
        maps.append(unit(relmap.explain(Propagator(Convolutional(constant)), x, TARGETS, method)))
    signs = (Convolutional(0.0)(x)[:, :, None] + torch.tensor([-3.0, 3.0])).sign()
    assert (signs == torch.tensor([-1.0, 1.0])).all() and (maps[1].norm(dim=2) > 0.5).all()
    assert all(((maps[1] * other).sum(2) > 1 - 1e-6).all() for other in (maps[0], maps[2]))


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (lambda p: LRPEpsilon(p), lambda z, b: z),
        (lambda p: LRPEpsilon(p, bias=False), lambda z, b: z - b),
        (lambda p: LRPAlphaBeta(p), lambda z, b: z.abs()),
        (lambda p: LRPAlphaBeta(p, bias=True), lambda z, b: z.abs()),
        (lambda p: LRPAlphaBeta(p, start="logit"), lambda z, b: z),
        (lambda p: LRPComposite(p, preset="epsilon_plus"), lambda z, b: z),
        (lambda p: Relevance(p, composites.excitation_backprop()), lambda z, b: z.abs()),
    ],
)
def test_the_class_layers_rule_chooses_the_start(make, expected):
    net = Network(NETWORKS["plain"], 11, True)
    logits, targets = draw(1, 4, CLASSES), TARGETS[:, 0]
    start = make(Propagator(net)).starts[0](logits, targets)
    at = nn.functional.one_hot(targets, CLASSES)
    torch.testing.assert_close(start, expected(logits, net.linear.bias.detach()) * at)


def test_presets_start_by_the_rule_of_a_convolutional_class_layer():
    """There z+ takes it, not epsilon."""
    explainer = LRPComposite(Propagator(Convolutional(0.0)), preset="epsilon_plus")
    assert explainer.starts == (starts.magnitude,)


def test_one_name_for_each_start():
    logits, targets = draw(1, 4, CLASSES), TARGETS[:, 0]
    magnitudes = starts.magnitude(logits, targets) + starts.other_magnitudes(logits, targets)
    torch.testing.assert_close(magnitudes, logits.abs())
    torch.testing.assert_close(
        starts.clrp(logits, targets).clamp(min=0), starts.magnitude(logits, targets), check_dtype=False
    )
    with pytest.raises(relmap.InputError, match=r"start 'x' is unknown; choose one of one_hot, .*magnitude"):
        LRPAlphaBeta(Propagator(Network(NETWORKS["plain"], 11, True)), start="x")


def test_a_batch_norm_behind_an_exact_class_layer_is_folded_into_it():
    torch.manual_seed(1)
    net = nn.Sequential(nn.Flatten(), nn.Linear(27, 8), nn.ReLU(), nn.Linear(8, 5), nn.BatchNorm1d(5)).double().eval()
    net[4].running_mean.normal_()
    nn.init.normal_(net[4].weight)
    folded = nn.Sequential(*net[:3], nn.Linear(8, 5)).double()
    scale = (net[4].weight / (net[4].running_var + net[4].eps).sqrt()).detach()
    folded[3].weight.data = net[3].weight.data * scale[:, None]
    folded[3].bias.data = net(torch.zeros(1, 3, 3, 3).double())[0].detach()
    folded[3].bias.data -= folded[3].weight.data @ net[:3](torch.zeros(1, 3, 3, 3).double())[0].detach()
    x, targets = draw(2, 3, 3, 3, 3), torch.tensor([0, 1, 2])
    torch.testing.assert_close(folded(x), net(x))
    ours, expected = (relmap.explain(Propagator(model), x, targets, "clrp") for model in (net, folded))
    torch.testing.assert_close(ours, expected)
