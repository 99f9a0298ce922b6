"""captum's LRP: the package itself, on a VGG, on a ResNet as it is, and on one whose sums are modules of captum's."""

import copy
import types

import pytest
import relmap
import torch
from reference_nets import inputs, network
from relmap.errors import InputError, RelevanceWarning
from relmap.explainers.captum_lrp import CaptumLRP
from relmap.propagation import Propagator
from torch import Tensor, nn

captum = pytest.importorskip("captum.attr")


def by_captum(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """(N, C, H, W) of targets (N,)."""
    with torch.enable_grad():
        leaf = images.clone().requires_grad_()
        return captum.LRP(copy.deepcopy(model)).attribute(leaf, target=targets).detach()


def errors(ours: Tensor, theirs: Tensor) -> Tensor:
    return (ours - theirs).abs().flatten(1).amax(1) / theirs.abs().flatten(1).amax(1)


def small() -> nn.Module:
    """With what captum has rules for: also average pools, batch norms by themselves, layers without bias."""
    torch.manual_seed(0)
    model = nn.Sequential(
        *(nn.BatchNorm2d(3), nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(6, 8, 3, bias=False), nn.ReLU(), nn.AvgPool2d(2), nn.Conv2d(8, 8, 3), nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(2), nn.Conv2d(8, 10, 2), nn.AdaptiveAvgPool2d(1)),
    )
    for norm in (model[0], model[2]):
        norm.running_mean.normal_()
        norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(norm.bias)
    return nn.Sequential(model, nn.Conv2d(10, 10, 1)).double().eval()


class Flat(nn.Module):
    """Logits (N, C) of a network of positions (N, C, 1, 1), by a reshape that is no module."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x):
        return self.model(x).flatten(1)


@pytest.mark.parametrize("name", ["vgg16", "small"])
@pytest.mark.parametrize("method", ["lrp_epsilon_captum", "lrp_epsilon_captum_sums"])
def test_without_sums(name, method):
    model = Flat(small()) if name == "small" else network(name)
    images, targets = inputs()
    for classes in targets:
        ours = relmap.explain(model, images, classes, method, by_channel=True)
        assert errors(ours, by_captum(model, images, classes)).max() < 1e-11


@pytest.mark.filterwarnings("ignore::relmap.errors.RelevanceWarning")
def test_torchvisions_resnet():
    """What arrives is noise of 1e15 and more, and still what captum gives: rounding is all that differs."""
    model, (images, targets) = network("resnet50"), inputs()
    for classes in targets:
        theirs = by_captum(model, images, classes)
        ours = relmap.explain(model, images, classes, "lrp_epsilon_captum", by_channel=True)
        assert errors(ours, theirs).max() < 1e-8
        assert theirs.abs().flatten(1).amax(1).min() > 1e12


def with_modules(model: nn.Module) -> nn.Module:
    """A ResNet whose sums are captum's, each ReLU a module of its own."""
    from captum.attr._utils.custom_modules import Addition_Module

    def forward(self, x):
        out = self.relu1(self.bn1(self.conv1(x)))
        out = self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(out)))))
        return self.relu3(self.add(out, x if self.downsample is None else self.downsample(x)))

    for block in [module for module in model.modules() if type(module).__name__ == "Bottleneck"]:
        block.relu1, block.relu2, block.relu3, block.add = nn.ReLU(), nn.ReLU(), nn.ReLU(), Addition_Module()
        block.forward = types.MethodType(forward, block)
    return model


def test_sums_as_modules():
    images, targets = inputs()
    ours = relmap.explain(network("resnet50"), images, targets[0], "lrp_epsilon_captum_sums", by_channel=True)
    theirs = by_captum(with_modules(network("resnet50")), images, targets[0])
    assert errors(ours, theirs).max() < 1e-10
    # It is Input x Gradient, as one of its maintainers says (pytorch/captum, pull request 342).
    gradient = relmap.explain(network("resnet50"), images, targets[0], "input_x_gradient", by_channel=True)
    assert errors(ours, gradient).max() < 1e-4


def test_it_says_that_a_residual_networks_map_is_noise():
    images, targets = inputs()
    with pytest.warns(RelevanceWarning, match="noise"):
        relmap.explain(network("resnet50"), images[:1], targets[0, :1], "lrp_epsilon_captum")


def test_refusals():
    with pytest.raises(InputError, match="sums 'split' is unknown; choose one of copied, shared"):
        CaptumLRP(Propagator(network("vgg16")), sums="split")
