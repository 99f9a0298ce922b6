"""Excitation backpropagation and its contrastive form at any layer.

Vectors: facebookresearch/TorchRay@6a198ee on VGG-16; on ResNet an oracle of its conventions.
"""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from oracles.excitation import excitation_resnet
from reference_nets import inputs, network, vectors
from relmap.explainers.excitation import (
    ContrastiveExcitationBackprop,
    ExcitationBackprop,
    contrast_layer,
    excitation_layer,
)
from relmap.propagation import Propagator, trace
from relmap.torchvision_shim import torchvision
from torch import Tensor

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
METHODS = {"eb": ExcitationBackprop, "ceb": ContrastiveExcitationBackprop}
BOTH = pytest.mark.parametrize("method", METHODS)


@cache
def propagator(architecture: str, dtype: torch.dtype = torch.float64) -> Propagator:
    return Propagator(network(architecture, dtype))


def explain(explainer, images: Tensor, targets: Tensor, model: Propagator) -> Tensor:
    return explainer(model.forward(images, explainer.walks, explainer.keep), targets)


def error(ours: Tensor, theirs) -> float:
    """Largest relative L2 error over the maps, ours (2, 8, ...) and theirs (8, 2, ...)."""
    ours, theirs = ours.double().transpose(0, 1).flatten(2), torch.as_tensor(theirs).double().flatten(2)
    return ((ours - theirs).norm(dim=2) / theirs.norm(dim=2)).max().item()


@DTYPES
@BOTH
@pytest.mark.parametrize("layer", [4, 16, 23, 30])
def test_torchray(method, layer, dtype):
    model, (images, targets) = propagator("vgg16", dtype), inputs(dtype)
    ours = explain(METHODS[method](model, layer=f"features.{layer}"), images, targets, model)
    theirs = vectors("lrp/torchray_eb_vgg16s.npz")[f"{method}__features_{layer}"]
    # The contrast is a difference of nearly equal relevances: the forward's float32 rounding is 3e-4 of it.
    float32 = 1e-3 if method == "ceb" else 1e-4
    assert error(ours, theirs) < (1e-6 if dtype == torch.float64 else float32)


def test_default_layer_is_torchrays():
    model, (images, targets) = propagator("vgg16"), inputs()
    for explainer in METHODS.values():
        named = explain(explainer(model, layer="features.23"), images, targets, model)
        torch.testing.assert_close(explain(explainer(model), images, targets, model), named)


@BOTH
@pytest.mark.parametrize("layer", ["layer4", "layer3", "layer2", "layer1", "maxpool", "input"])
def test_resnet(method, layer):
    """TorchRay's conventions for skip connections and batch norms."""
    model, (images, targets) = propagator("resnet50"), inputs()
    ours = explain(METHODS[method](model, layer=layer), images, targets, model)
    net = network("resnet50")
    for classes, maps in zip(targets, ours, strict=True):
        found = excitation_resnet(net, images, F.one_hot(classes, 10).double(), contrastive=method == "ceb")
        expected = found[layer].sum(1)
        expected = expected.clamp(min=0) if method == "ceb" else expected
        torch.testing.assert_close(maps, expected, rtol=1e-8, atol=1e-10 * expected.abs().max().item())


CHOICES = {
    "vgg11": ("features.15", "classifier.4"),
    "vgg16": ("features.23", "classifier.4"),
    "vgg16_bn": ("features.33", "classifier.4"),
    "vgg19": ("features.27", "classifier.4"),
    "resnet18": ("layer3.1.relu_1", "avgpool"),
    "resnet50": ("layer3.5.relu_2", "avgpool"),
    "resnet101": ("layer3.22.relu_2", "avgpool"),
    "alexnet": ("features.5", "classifier.5"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_layers_of_torchvisions_networks(name):
    with torch.device("meta"):
        graph = trace(getattr(torchvision.models, name)())
    assert (excitation_layer(graph), contrast_layer(graph)) == CHOICES[name]


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
@BOTH
def test_images_and_targets_by_themselves(architecture, method):
    model, (images, targets) = propagator(architecture), inputs()
    explainer = METHODS[method](model)
    together = explain(explainer, images, targets, model)
    apart = torch.stack(
        [
            torch.cat([explain(explainer, images[i : i + 1], t[None, i : i + 1], model)[0] for i in range(2)])
            for t in targets
        ]
    )
    torch.testing.assert_close(together[:, :2], apart)


def test_the_negated_last_layer_is_that_of_a_negated_model():
    """Alpha-beta with alpha 0 and beta -1 is z+ of the negated weights; the model is not copied or changed."""
    model, (images, targets) = propagator("vgg16"), inputs()
    copy = network("vgg16")
    copy.classifier[6].weight.neg_()
    negated, start = Propagator(copy), F.one_hot(targets, 10).double()
    explainer, plain = ContrastiveExcitationBackprop(model), ExcitationBackprop(negated)
    ours = explainer.negated.propagate(model.forward(images, explainer.walks), start, stop="features.23").relevance
    theirs = plain.walk.propagate(negated.forward(images, plain.walks), start, stop="features.23").relevance
    torch.testing.assert_close(ours, theirs)
