"""The LRP rules and presets on a ResNet against zennit 0.5.1, which runs beside them in float64.

zennit merges batch norms into the convolutions before them (their shifts become biases), shares relevance at additions
and average pools by the signed addends, and widens denominators by 1e-6. Its merging leaves each batch norm behind
with its own epsilon: most tests merge by hand with ``fuse_conv_bn_eval``, after which nothing is left, and one
replicates it.
"""

from collections.abc import Callable
from dataclasses import replace

import pytest
import relmap.torchvision_shim  # noqa: F401  zennit imports torchvision
import torch
import zennit.attribution
import zennit.canonizers
import zennit.composites
import zennit.layer
import zennit.rules
import zennit.torchvision
import zennit.types
from reference_nets import inputs, network
from relmap.propagation import Composite, Propagator, composites
from relmap.propagation.rules import AlphaBeta, Gamma, Pass, Share, ZBox
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

BOX = ZBox((-2.0,) * 3, (2.0,) * 3)
SHARE = Share("signed", epsilon=1e-6)


def fused(left_behind: Callable[[nn.BatchNorm2d], nn.Module]) -> nn.Module:
    """The small ResNet with its batch norms merged into convolutions; ``left_behind`` gives what takes their place."""
    model = network("resnet50")
    pairs = [(model, "conv1", "bn1")]
    for block in (b for stage in (model.layer1, model.layer2, model.layer3, model.layer4) for b in stage):
        pairs += [(block, f"conv{i}", f"bn{i}") for i in (1, 2, 3)]
        pairs += [(block.downsample, "0", "1")] if block.downsample is not None else []
    for parent, conv_name, norm_name in pairs:
        norm = getattr(parent, norm_name)
        setattr(parent, conv_name, fuse_conv_bn_eval(getattr(parent, conv_name), norm))
        setattr(parent, norm_name, left_behind(norm))
    return model.eval().double().requires_grad_(False)


def two_images() -> tuple[Tensor, Tensor]:
    images, targets = inputs()
    return images[:2], targets[:, :2]


def ours(composite: Composite, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    walk = Propagator(model).by(composite)
    activations = walk.forward(images)
    return walk.propagate(activations, one_hot(targets)).relevance.sum(2)


def theirs(composite, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    maps = []
    with zennit.attribution.Gradient(model, composite) as attribute:
        for start in one_hot(targets):
            maps.append(attribute(images.clone().requires_grad_(), start)[1].sum(1))
    return torch.stack(maps)


def one_hot(targets: Tensor) -> Tensor:
    return nn.functional.one_hot(targets, 10).double()


def error(maps: Tensor, expected: Tensor) -> float:
    return ((maps - expected).flatten(2).norm(dim=2) / expected.flatten(2).norm(dim=2)).max().item()


def like_zennit(composite: Composite) -> Composite:
    """The same with signed shares, and 1e-6 in all denominators."""
    kinds = {k: replace(r, epsilon=1e-6) if isinstance(r, AlphaBeta) else r for k, r in composite.kinds.items()}
    return replace(composite, kinds=kinds | {"add": SHARE, "average_pool": SHARE})


def layers(rule, first=None):
    """zennit's composite of one rule for all layers, another for the first."""
    types, rules = zennit.types, zennit.rules
    kinds = [(types.Activation, rules.Pass()), (types.BatchNorm, rules.Pass()), (types.Linear, rule)]
    kinds += [((types.AvgPool, zennit.layer.Sum), rules.Norm())]
    canonizers = [zennit.torchvision.ResNetBottleneckCanonizer()]
    if first is None:
        return zennit.composites.LayerMapComposite(kinds, canonizers=canonizers)
    return zennit.composites.SpecialFirstLayerMapComposite(kinds, [(types.Convolution, first)], canonizers=canonizers)


def z_box(**parameters):
    low, high = torch.full((1, 3, 1, 1), -2.0).double(), torch.full((1, 3, 1, 1), 2.0).double()
    return zennit.rules.ZBox(low, high, **parameters)


def preset(make, **parameters):
    return lambda: make(canonizers=[zennit.torchvision.ResNetBottleneckCanonizer()], **parameters)


def everywhere(rule) -> Composite:
    return Composite(composites.STRUCTURE | {"conv": rule, "linear": rule})


RULES = {
    "eps1e-6_bias": (composites.epsilon(1e-6), lambda: layers(zennit.rules.Epsilon(1e-6))),
    "eps0.25_bias": (composites.epsilon(0.25), lambda: layers(zennit.rules.Epsilon(0.25))),
    "zplus_bias": (composites.alpha_beta(bias=True), lambda: layers(zennit.rules.ZPlus())),
    "zplus_nobias": (composites.alpha_beta(), lambda: layers(zennit.rules.ZPlus(zero_params="bias"))),
    "alpha2beta1_bias": (composites.alpha_beta(2, 1, bias=True), lambda: layers(zennit.rules.AlphaBeta(2, 1))),
    "alpha2beta1_nobias": (
        composites.alpha_beta(2, 1),
        lambda: layers(zennit.rules.AlphaBeta(2, 1, zero_params="bias")),
    ),
    "zplus_zbox_bias": (composites.alpha_beta(bias=True, first=BOX), lambda: layers(zennit.rules.ZPlus(), z_box())),
    "zplus_zbox_nobias": (
        composites.alpha_beta(first=BOX),
        lambda: layers(zennit.rules.ZPlus(zero_params="bias"), z_box(zero_params="bias")),
    ),
    "gamma0.25_bias": (everywhere(Gamma(0.25)), lambda: layers(zennit.rules.Gamma(0.25))),
    "EpsilonPlus": (composites.epsilon_plus_flat(first_flat=False), preset(zennit.composites.EpsilonPlus)),
    "EpsilonPlusFlat": (composites.epsilon_plus_flat(), preset(zennit.composites.EpsilonPlusFlat)),
    "EpsilonAlpha2Beta1": (composites.epsilon_alpha2_beta1(), preset(zennit.composites.EpsilonAlpha2Beta1)),
    "EpsilonGammaBox": (
        composites.epsilon_gamma_box((-2.0,) * 3, (2.0,) * 3),
        preset(zennit.composites.EpsilonGammaBox, low=-2.0, high=2.0),
    ),
}


@pytest.mark.parametrize("name", RULES)
def test_zennit(name):
    composite, peer = RULES[name]
    images, targets = two_images()
    model = fused(lambda norm: nn.Identity())
    assert (
        error(
            ours(like_zennit(composite), network("resnet50"), images, targets), theirs(peer(), model, images, targets)
        )
        < 1e-6
    )


@pytest.mark.parametrize("name", ["zplus_bias", "EpsilonPlus"])
def test_zennits_own_merging(name):
    """Batch norms that are left behind with mean 0, variance 1 and their epsilon, through which relevance passes."""
    composite, peer = RULES[name]
    images, targets = two_images()
    merged = fused(lambda norm: nn.BatchNorm2d(norm.num_features, eps=norm.eps))
    composite = like_zennit(composite)
    composite = replace(composite, kinds={**composite.kinds, "batch_norm": Pass()}, fold_batch_norm=False)
    own = peer()
    own.canonizers = [zennit.torchvision.ResNetCanonizer()]
    expected = theirs(own, network("resnet50"), images, targets)
    assert error(ours(composite, merged, images, targets), expected) < 1e-6


def test_epsilon_is_what_it_takes():
    """The rules share with zennit's 1e-6 at additions and pools as they are; without it the maps differ a little."""
    images, targets = two_images()
    model = fused(lambda norm: nn.Identity())
    expected = theirs(layers(zennit.rules.Epsilon(0.25)), model, images, targets)
    rule = composites.epsilon(0.25)
    assert error(ours(rule, network("resnet50"), images, targets), expected) < 1e-6
    without = replace(rule, kinds={**rule.kinds, "add": Share("signed"), "average_pool": Share("signed")})
    assert 1e-9 < error(ours(without, network("resnet50"), images, targets), expected) < 1e-3
