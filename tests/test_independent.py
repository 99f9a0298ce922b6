"""Rules against literal implementations written apart from the library, straight from the reference READMEs.

One image at a time, plain autograd, float64; the images are the stored ones mirrored, shifted and dimmed, except where
a stored vector is the check.
"""

import pytest
import torch
from reference_nets import inputs, network, vectors
from relmap.explainers.abslrp import AbsLRPNormalisedLeaking
from relmap.explanation import explain
from relmap.propagation import Propagator
from torch import nn


def stabilised(z, epsilon=1e-6):
    return z + epsilon * torch.where(z < 0, -1.0, 1.0).to(z)


def rolled() -> torch.Tensor:
    images = inputs()[0][:2]
    return torch.roll(images.flip(-1), (7, 11), (2, 3)) * 0.9


def folded(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> tuple[torch.Tensor, torch.Tensor]:
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    return conv.weight * gain.view(-1, 1, 1, 1), norm.bias - norm.running_mean * gain


def epsilon_rule(x, conv, norm, relevance, epsilon):
    weight, bias = folded(conv, norm)
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        z = nn.functional.conv2d(x, weight, bias, conv.stride, conv.padding)
        return x.detach() * torch.autograd.grad(z, x, relevance / stabilised(z.detach(), epsilon))[0]


def literal_zennit_epsilon(model, image, target, epsilon):
    """Zennit's Epsilon on a ResNet whose batch norms are merged: shares x / st(sum) at additions and at the pool."""
    blocks = [block for stage in (model.layer1, model.layer2, model.layer3, model.layer4) for block in stage]
    stem = model.relu(model.bn1(model.conv1(image)))
    inner = [model.maxpool(stem)]
    for block in blocks:
        inner.append(block(inner[-1]))
    features, fc = model.avgpool(inner[-1]).flatten(1), model.fc
    logit = fc(features)[0, target]
    relevance = features * fc.weight[target] / stabilised(logit, epsilon)
    pooled = inner[-1].mean((2, 3))
    relevance = inner[-1] / inner[-1][0, 0].numel() * (relevance / stabilised(pooled))[..., None, None]
    for block, x in zip(reversed(blocks), reversed(inner[:-1]), strict=True):
        a = block.relu(block.bn1(block.conv1(x)))
        b = block.relu(block.bn2(block.conv2(a)))
        branch = block.bn3(block.conv3(b))
        skip = x if block.downsample is None else block.downsample(x)
        share = relevance / stabilised(branch + skip)
        through, past = branch * share, skip * share
        for conv, norm, layer_input in (
            (block.conv3, block.bn3, b),
            (block.conv2, block.bn2, a),
            (block.conv1, block.bn1, x),
        ):
            through = epsilon_rule(layer_input, conv, norm, through, epsilon)
        if block.downsample is not None:
            past = epsilon_rule(x, *block.downsample, past, epsilon)
        relevance = through + past
    with torch.enable_grad():
        leaf = stem.detach().requires_grad_()
        relevance = torch.autograd.grad(model.maxpool(leaf), leaf, relevance)[0]
    return epsilon_rule(image, model.conv1, model.bn1, relevance, epsilon).sum(1)[0]


@pytest.mark.parametrize("epsilon", [1e-6, 0.25])
@torch.no_grad()
def test_epsilon_on_resnet_stabilises_sums_and_averages_like_zennit(epsilon):
    # Without 1e-6 in the sums the maps differ by 1e-5 to 1e-2. Compared by hand with zennit 0.5.1 to 1e-12.
    model, images = network("resnet50"), rolled()
    ours = explain(model, images, [[3, 8]] * 2, "lrp_epsilon", epsilon=epsilon, start="one_hot")
    for image, maps in zip(images, ours, strict=True):
        for target, ours_of_target in zip((3, 8), maps, strict=True):
            theirs = literal_zennit_epsilon(model, image[None], target, epsilon)
            assert (ours_of_target - theirs).norm() < 1e-8 * theirs.norm()


def test_later_abslrp_on_resnet_with_its_graph_leak():
    # The clean reading is off by 0.09 to 0.18 (channel sums). The contrast divides by a maximum near 1e-9's reach.
    stored, (images, targets) = vectors("abslrp/resnet50s.npz"), inputs()
    propagator = Propagator(network("resnet50"))
    for contrast, name in (("none", "main_positive"), ("difference", "main_contrastive")):
        explainer = AbsLRPNormalisedLeaking(propagator, contrast=contrast)
        activations = propagator.forward(images[:4], walks=explainer.walks, keep=explainer.keep)
        ours, theirs = explainer.read(activations, targets[:1, :4])[0], torch.tensor(stored[name]).double()
        theirs = theirs.sum(1) if theirs.dim() > ours.dim() else theirs
        ours = ours.sum(1) if theirs.dim() < ours.dim() else ours
        assert ((ours - theirs).flatten(1).norm(dim=1) < 1e-6 * theirs.flatten(1).norm(dim=1)).all()
