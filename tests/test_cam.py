"""The class activation maps: the package's vectors on VGG, autograd on ResNet, one backward pass for all."""

import pytest
import relmap
import torch
import torch.nn.functional as F
from reference_nets import inputs, network, vectors
from relmap.explainers.baselines import BaselineMap, GuidedGradCAM
from relmap.explainers.building import build
from relmap.explainers.cam import grad_cam_pp
from relmap.propagation import Propagator
from torch import Tensor, nn

PACKAGE = {
    "grad_cam": "GradCAM",
    "grad_cam_pp": "GradCAMPlusPlus",
    "hires_cam": "HiResCAM",
    "layer_cam": "LayerCAM",
    "xgrad_cam": "XGradCAM",
}
SUMS = [*PACKAGE, "wgrad_cam"]
LAST = {"vgg16": "features.29", "resnet50": "layer4"}
FAMILY = [*SUMS, "guided_grad_cam"]


def resized(maps: Tensor) -> Tensor:
    return F.interpolate(maps, (64, 64), mode="bilinear", align_corners=False)


def test_family_by_the_package():
    """jacobgil/pytorch-grad-cam 1.5.7, whose last ReLU the vectors leave out."""
    images, targets = inputs()
    theirs = vectors("lrp/cams_raw_vgg16s.npz")
    maps = relmap.compare(network("vgg16"), images, targets.T, list(PACKAGE))
    for method, name in PACKAGE.items():
        expected = resized(torch.from_numpy(theirs[name]).double().relu())
        scale = expected.flatten(2).amax(2)[..., None, None]
        # The package adds 1e-7 to XGrad-CAM's denominator.
        tolerance = 1e-5 if method == "xgrad_cam" else 1e-6
        assert (maps[method] - expected).abs().div(scale.clamp(min=1e-12)).max() < tolerance, method
        assert scale.min() >= 0 and (scale > 0).float().mean() > 0.5


def literal(features: Tensor, gradient: Tensor) -> dict[str, Tensor]:
    """One image's maps (h, w) of features and gradient (C, h, w), position by position."""
    channels, height, width = features.shape
    maps = {name: torch.zeros(height, width, dtype=features.dtype) for name in SUMS}
    for c in range(channels):
        a, g = features[c], gradient[c]
        total, weight = a.sum().item(), 0.0
        for one in g.flatten().tolist():
            if one > 0:
                weight += one * one**2 / (2 * one**2 + total * one**3 + 1e-6)
        maps["grad_cam"] += g.mean() * a
        maps["grad_cam_pp"] += weight * a
        maps["hires_cam"] += g * a
        maps["layer_cam"] += g.clamp(min=0) * a
        maps["xgrad_cam"] += sum((g / (total + 1e-6) * a).flatten().tolist()) * a
        maps["wgrad_cam"] += sum((g * a).flatten().tolist()) / (height * width) * a
    return {name: map.clamp(min=0) for name, map in maps.items()}


def guided(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_full_backward_hook(lambda _, gi, go: (gi[0].clamp(min=0),))
    leaf = images.clone().requires_grad_()
    return torch.autograd.grad(model(leaf).gather(1, targets[:, None]).sum(), leaf)[0]


@pytest.mark.parametrize(("architecture", "layer"), [("vgg16", "features.29"), ("resnet50", "layer4")])
def test_family_by_autograd(architecture, layer):
    images, targets = inputs()
    images, targets = images[:3], targets[:, :3]
    maps = relmap.compare(Propagator(network(architecture)), images, targets.T, FAMILY)
    for column, classes in enumerate(targets):
        model, kept = network(architecture), []
        handle = model.get_submodule(layer).register_forward_hook(lambda _, __, output, kept=kept: kept.append(output))
        logits = model(images.clone().requires_grad_())
        (gradient,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), kept[0])
        handle.remove()
        each = [literal(a, g) for a, g in zip(kept[0].detach(), gradient, strict=True)]
        expected = {name: resized(torch.stack([one[name] for one in each])[:, None])[:, 0] for name in SUMS}
        by_guide = guided(network(architecture), images, classes) * expected["grad_cam"][:, None]
        expected["guided_grad_cam"] = by_guide.sum(1)
        for name, theirs in expected.items():
            scale = theirs.abs().max().item()
            torch.testing.assert_close(maps[name][:, column], theirs, rtol=1e-9, atol=1e-11 * scale, msg=name)


@pytest.mark.filterwarnings("ignore::relmap.errors.RelevanceWarning")
def test_where_a_mean_and_a_linear_layer_follow_three_are_one():
    """The gradient is the same at every position."""
    images, targets = inputs()
    model = network("resnet50")
    maps = relmap.compare(model, images, targets.T, ["grad_cam", "hires_cam", "xgrad_cam", "wgrad_cam"])
    torch.testing.assert_close(maps["grad_cam"], maps["hires_cam"])
    # XGrad-CAM adds 1e-6 to the sum S of a channel A >= 0: its term g A S / (S + 1e-6) lacks at most 1e-6 |g|.
    cells = (images.shape[2] // 32) ** 2
    apart = (maps["grad_cam"] - maps["xgrad_cam"]).abs().amax((2, 3)).flatten()
    most = 1e-6 * model.fc.weight[targets.T].abs().sum(2).flatten() / cells
    assert (apart <= most).all() and apart.any()
    # WGrad-CAM is another map, not only at another scale.
    scale = maps["grad_cam"].max()
    assert (maps["grad_cam"] - maps["wgrad_cam"] * scale / maps["wgrad_cam"].max()).abs().max() > 1e-2 * scale


@pytest.mark.parametrize(
    ("architecture", "layer", "module"),
    [("vgg16", "features.22", "features.22"), ("resnet50", "layer3.5.relu_2", "layer3")],
)
def test_norm_grad_multiplies_lengths_one_resolution_before(architecture, layer, module):
    images, targets = inputs()
    model, kept = network(architecture), []
    propagator = Propagator(network(architecture))
    assert BaselineMap(propagator, baseline="norm_grad").layer == layer
    model.get_submodule(module).register_forward_hook(lambda _, __, output: kept.append(output))
    score = model(images.clone().requires_grad_()).gather(1, targets[:1].T).sum()
    (gradient,) = torch.autograd.grad(score, kept[0])
    expected = (kept[0].detach() ** 2).sum(1).sqrt() * (gradient**2).sum(1).sqrt()
    found = relmap.explain(propagator, images, targets[0], "norm_grad")
    torch.testing.assert_close(found, resized(expected[:, None])[:, 0], rtol=1e-9, atol=0)
    other = relmap.explain(propagator, images, targets[0], "norm_grad", layer=LAST[architecture])
    assert not torch.allclose(found, other)


@pytest.mark.parametrize("method", [*SUMS, "norm_grad"])
def test_the_signed_form_is_the_map_before_its_relu(method):
    images, targets = inputs()
    propagator = Propagator(network("resnet50"))
    explainer = build(propagator, method)
    activations = propagator.forward(images, explainer.walks, explainer.keep)
    signed = explainer.signed_activation_map()
    assert signed.signed_activation_map() is None
    raw = signed.read(activations, targets)
    assert torch.equal(explainer.read(activations, targets), raw.relu())
    assert (raw < 0).any() == (method not in ("grad_cam_pp", "layer_cam", "norm_grad"))
    assert build(propagator, "saliency").signed_activation_map() is None


def test_grad_cam_pp_without_gradient_is_empty():
    """No position speaks for the class: not a number nowhere, whatever the features' sum."""
    features = torch.tensor([-2.0, 1.0, 0.0, 3.0]).view(1, 4, 1, 1).expand(1, 4, 2, 2)
    assert not grad_cam_pp(features, -torch.ones(1, 4, 2, 2)).any()
    assert not grad_cam_pp(features, torch.zeros(1, 4, 2, 2)).any()


def test_a_shared_pass_is_of_its_targets():
    """Other targets, or an equal tensor, on the same forward pass get a pass of their own."""
    images, targets = inputs()
    propagator = Propagator(network("vgg16"))
    explain, by_guide = BaselineMap(propagator, baseline="hires_cam"), GuidedGradCAM(propagator)
    activations = propagator.forward(images[:2], [*explain.walks, *by_guide.walks], [*explain.keep, *by_guide.keep])
    for chosen in (targets[:, :2], targets.flip(0)[:, :2], targets[:1, :2], targets[:, :2]):
        for one in (explain, by_guide):
            expected = one(images[:2], chosen.T).transpose(0, 1)
            found = one.read(activations, chosen)
            found = found.sum(2) if found.dim() == 5 else resized(found)
            torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


def test_layer_of_guided_grad_cam_can_be_chosen():
    images, targets = inputs()
    model = network("vgg16")
    own, same, other = (
        relmap.explain(model, images, targets[0], "guided_grad_cam", **given)
        for given in ({}, {"layer": "features.28"}, {"layer": "features.22"})
    )
    assert torch.equal(own, same) and not torch.allclose(own, other)
