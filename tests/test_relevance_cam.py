"""Relevance-CAM at any layer. Vectors: mongeoroo/Relevance-CAM@49b03bd on VGG-16; on ResNet an oracle."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from oracles.excitation import excitation_resnet
from reference_nets import inputs, network, vectors
from relmap.explainers.relevance_cam import RelevanceCAM
from relmap.propagation import Propagator
from torch import Tensor

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


@cache
def propagator(architecture: str, dtype: torch.dtype = torch.float64) -> Propagator:
    return Propagator(network(architecture, dtype))


def explain(explainer: RelevanceCAM, images: Tensor, targets: Tensor, model: Propagator) -> Tensor:
    return explainer.read(model.forward(images, explainer.walks, explainer.keep), targets)


@DTYPES
@pytest.mark.parametrize("layer", [29, 23, 16])
def test_vectors(layer, dtype):
    model, (images, targets) = propagator("vgg16", dtype), inputs(dtype)
    ours = explain(RelevanceCAM(model, layer=f"features.{layer}"), images, targets, model).double()
    theirs = torch.as_tensor(vectors("lrp/relevance_cam_vgg16s.npz")[f"relcam__{layer}"]).double().transpose(0, 1)
    errors = (ours - theirs).flatten(2).norm(dim=2) / theirs.flatten(2).norm(dim=2)
    assert errors.max() < (1e-6 if dtype == torch.float64 else 1e-4)


def test_the_default_is_the_last_feature_map():
    model, (images, targets) = propagator("vgg16"), inputs()
    named = explain(RelevanceCAM(model, layer="features.29"), images, targets, model)
    torch.testing.assert_close(explain(RelevanceCAM(model), images, targets, model), named)


@pytest.mark.parametrize("layer", ["layer4", "layer3", "layer2", "layer1"])
def test_resnet(layer):
    model, (images, targets) = propagator("resnet50"), inputs()
    ours = explain(RelevanceCAM(model, layer=layer), images, targets, model)
    net = network("resnet50")
    features = net.maxpool(net.relu(net.bn1(net.conv1(images))))
    for name in ("layer1", "layer2", "layer3", "layer4")[: int(layer[-1])]:
        features = getattr(net, name)(features)
    for classes, maps in zip(targets, ours, strict=True):
        at = F.one_hot(classes, 10).double()
        relevance = excitation_resnet(net, images, at - (1 - at) / 10)[layer]
        expected = (features * relevance.mean((2, 3), keepdim=True)).sum(1)
        torch.testing.assert_close(maps, expected, rtol=1e-5, atol=1e-7 * expected.abs().max().item())  # their 1e-9


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_images_and_targets_by_themselves(architecture):
    model, (images, targets) = propagator(architecture), inputs()
    explainer = RelevanceCAM(model)
    together = explain(explainer, images[:3], targets[:, :3], model)
    for k in range(2):
        for n in range(3):
            alone = explain(explainer, images[n : n + 1], targets[k : k + 1, n : n + 1], model)
            torch.testing.assert_close(alone[0, 0], together[k, n])
