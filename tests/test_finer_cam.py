"""Finer-CAM by autograd, and what it is at its ends."""

import pytest
import relmap
import torch
import torch.nn.functional as F
from reference_nets import inputs, network
from relmap.errors import InputError
from relmap.explainers.finer_cam import FinerCAM
from relmap.propagation import Propagator


def literal(model, image, target, similar, alpha):
    """The map (h, w) before it is resized, by the mean over the classes d of the gradient of ``z_t - alpha z_d``."""
    features = model.features[:30](image[None]).detach().requires_grad_()
    tail = model.avgpool(model.features[30](features)).flatten(1)
    logits = model.classifier(tail)[0]
    order = sorted(range(10), key=lambda d: abs(float((logits[d] - logits[target]).detach())))
    order.remove(target)
    chosen = order[:similar]
    probability = logits.softmax(0).detach()
    weight = 0
    for d in chosen:
        (gradient,) = torch.autograd.grad(logits[target] - alpha * logits[d], features, retain_graph=True)
        weight = weight + probability[d] / probability[chosen].sum() * gradient[0].mean((1, 2))
    return (weight[:, None, None] * features[0].detach()).sum(0).clamp(min=0)


@pytest.mark.parametrize(("similar", "alpha"), [(3, 1.0), (1, 0.6)])
def test_finer_cam_by_autograd(similar, alpha):
    model, (images, targets) = network("vgg16"), inputs()
    found = relmap.explain(model, images[:3], targets.T[:3], "finer_cam", similar=similar, alpha=alpha)
    for image, classes, maps in zip(images, targets.T, found, strict=False):
        for target, ours in zip(classes.tolist(), maps, strict=True):
            expected = literal(model, image, target, similar, alpha)
            expected = F.interpolate(expected[None, None], (64, 64), mode="bilinear", align_corners=False)[0, 0]
            torch.testing.assert_close(ours, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("architecture", ["resnet50", "vit"])
def test_without_comparison_it_is_grad_cam(architecture):
    images, targets = inputs()
    propagator = Propagator(network(architecture))
    plain = relmap.explain(propagator, images, targets.T, "grad_cam")
    torch.testing.assert_close(relmap.explain(propagator, images, targets.T, "finer_cam", alpha=0.0), plain)
    finer = relmap.compare(propagator, images, targets.T, ["finer_cam", "grad_cam"])
    assert torch.equal(finer["grad_cam"], plain) and not torch.allclose(finer["finer_cam"], plain)


def test_a_number_added_to_all_logits_changes_nothing():
    """Even a large one: logits are compared, not weighed by their size."""
    shifted = network("vgg16")
    shifted.classifier[-1].bias.data -= 30
    images, targets = inputs()
    expected = relmap.explain(network("vgg16"), images, targets.T, "finer_cam")
    torch.testing.assert_close(relmap.explain(shifted, images, targets.T, "finer_cam"), expected, rtol=1e-8, atol=1e-12)


def test_it_reads_any_class_activation_map_and_refuses_no_class():
    propagator = Propagator(network("vgg16"))
    layer = relmap.explain(propagator, inputs()[0][:2], 1, "finer_cam", baseline="layer_cam")
    assert not torch.allclose(layer, relmap.explain(propagator, inputs()[0][:2], 1, "finer_cam"))
    with pytest.raises(InputError, match="similar is 0; give at least 1 class"):
        FinerCAM(propagator, similar=0)
