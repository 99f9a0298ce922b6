"""The six baselines: against autograd and hooks on ResNet (TorchRay's vectors pin VGG), and what they promise."""

import copy
import types

import numpy as np
import pytest
import relmap
import torch
import torch.nn.functional as F
from reference_nets import inputs, network, vectors
from relmap.errors import InputError
from relmap.explainers.gradients import smoothed
from relmap.propagation import Propagator, Walk
from scipy import ndimage
from torch import Tensor, nn

METHODS = ("input_x_gradient", "deconvnet", "saliency", "guided_backprop", "grad_cam", "excitation_backprop")


def logit_of(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    return model(images).gather(1, targets[:, None]).sum()


def resized(maps: Tensor) -> Tensor:
    return F.interpolate(maps[:, None], (64, 64), mode="bilinear", align_corners=False)[:, 0]


def by_hooks(images: Tensor, targets: Tensor, backward) -> Tensor:
    """Gradient at the images with another backward of ReLUs: (gradient of its input, of its output) -> its input."""
    model = network("resnet50")
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.register_full_backward_hook(lambda _, gi, go: (backward(gi[0], go[0]),))
    images = images.clone().requires_grad_()
    return torch.autograd.grad(logit_of(model, images, targets), images)[0]


class Excite(torch.autograd.Function):
    """A layer whose backward is x * J+^T (R / J+ x); ``positive`` is the layer with positive weights and no bias."""

    @staticmethod
    def forward(ctx, x, run, positive):
        ctx.save_for_backward(x)
        ctx.positive = positive
        return run(x)

    @staticmethod
    def backward(ctx, r):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            again = x.detach().requires_grad_()
            z = ctx.positive(again)
            return x * torch.autograd.grad(z, again, r / (z + 1e-20))[0], None, None


class Through(torch.autograd.Function):
    """A layer that relevance passes."""

    @staticmethod
    def forward(ctx, x, run):
        return run(x)

    @staticmethod
    def backward(ctx, r):
        return r, None


class SignedSum(torch.autograd.Function):
    @staticmethod
    def forward(ctx, a, b):
        ctx.save_for_backward(a, b)
        return a + b

    @staticmethod
    def backward(ctx, r):
        a, b = ctx.saved_tensors
        s = torch.where(a + b == 0, 0, r / (a + b))
        return a * s, b * s


def excitation_by_autograd(images: Tensor, targets: Tensor) -> Tensor:
    """Excitation backpropagation at layer3 as TorchRay does it: with altered backward functions in the model itself."""
    model = copy.deepcopy(network("resnet50"))
    for module in list(model.modules()):
        run = module.forward
        if isinstance(module, (nn.Conv2d, nn.Linear, nn.AdaptiveAvgPool2d)):
            positive = copy.deepcopy(module)
            if not isinstance(module, nn.AdaptiveAvgPool2d):
                positive.weight.data.clamp_(min=0)
                positive.bias = None
            module.forward = lambda x, run=run, positive=positive: Excite.apply(x, run, positive)
        elif isinstance(module, nn.BatchNorm2d):
            module.forward = lambda x, run=run: Through.apply(x, run)
        elif type(module).__name__ == "Bottleneck":

            def forward(self, x):
                y = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
                y = self.bn3(self.conv3(y))
                return self.relu(SignedSum.apply(y, x if self.downsample is None else self.downsample(x)))

            module.forward = types.MethodType(forward, module)
    kept = []
    model.layer3.register_forward_hook(lambda _, __, output: kept.append(output))
    total = logit_of(model, images.clone().requires_grad_(), targets)
    return torch.autograd.grad(total, kept[0])[0].sum(1)


def expected(images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    model, kept = network("resnet50"), []
    model.layer4.register_forward_hook(lambda _, __, output: kept.append(output))
    leaf = images.clone().requires_grad_()
    gradient, inner = torch.autograd.grad(logit_of(model, leaf, targets), [leaf, *kept])
    return {
        "input_x_gradient": (images * gradient).sum(1),
        "deconvnet": by_hooks(images, targets, lambda gi, go: go.clamp(min=0)).abs().amax(1),
        "saliency": gradient.abs().amax(1),
        "guided_backprop": by_hooks(images, targets, lambda gi, go: gi.clamp(min=0)).abs().amax(1),
        "grad_cam": resized((kept[0] * inner.mean((2, 3), keepdim=True)).sum(1).relu()).detach(),
        "excitation_backprop": resized(excitation_by_autograd(images, targets)),
    }


def test_resnet():
    images, targets = inputs()
    images, targets = images[:3], targets[1, :3]
    wanted = expected(images, targets)
    maps = relmap.compare(network("resnet50"), images, targets, METHODS)
    assert list(maps) == list(METHODS)
    for name, theirs in wanted.items():
        assert maps[name].shape == (3, 64, 64)
        assert theirs.abs().max() > 0
        torch.testing.assert_close(
            maps[name].double(),
            theirs,
            rtol=1e-5,
            atol=1e-6 * theirs.abs().max().item(),
            msg=lambda m, n=name: f"{n}: {m}",
        )


def test_vgg_layers_and_resizing():
    """TorchRay's layers of VGG-16, its maps resized as it does."""
    images, targets = inputs()
    maps = relmap.compare(network("vgg16"), images, targets[0], ["grad_cam", "excitation_backprop"])
    for name, theirs in (
        ("grad_cam", vectors("lrp/torchray_lin_cam_vgg16s.npz")["grad_cam__features_29"]),
        ("excitation_backprop", vectors("lrp/torchray_eb_vgg16s.npz")["eb__features_23"]),
    ):
        theirs = resized(torch.from_numpy(theirs[:, 0]))
        torch.testing.assert_close(maps[name].float(), theirs, rtol=1e-4, atol=1e-5 * theirs.abs().max().item())


def test_the_forward_pass_is_shared(monkeypatch):
    calls = {"forward": 0, "propagate": 0}
    for owner, name in ((Propagator, "forward"), (Walk, "propagate")):
        original = getattr(owner, name)

        def counted(self, *args, name=name, original=original, **kwargs):
            calls[name] += 1
            return original(self, *args, **kwargs)

        monkeypatch.setattr(owner, name, counted)
    images, targets = inputs(torch.float32)
    family = ["hires_cam", "layer_cam", "grad_cam_pp", "guided_grad_cam"]
    relmap.compare(network("vgg16", torch.float32), images[:1], targets[0, :1], [*METHODS, *family])
    # One pass each at the image by gradient, DeconvNet and guided backpropagation, at the feature map by the gradient,
    # and that of excitation backpropagation.
    assert calls == {"forward": 1, "propagate": 5}


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_alone_and_in_any_company_the_maps_are_the_same(architecture):
    images, targets = inputs()
    propagator = Propagator(network(architecture))
    together = relmap.compare(propagator, images[:4], targets[0, :4], METHODS)
    for name in METHODS:
        assert torch.equal(relmap.explain(propagator, images[:4], targets[0, :4], name), together[name])
        for i in range(4):
            alone = relmap.explain(propagator, images[i : i + 1], targets[0, i : i + 1], name)
            torch.testing.assert_close(alone[0], together[name][i], rtol=1e-5, atol=1e-7)


def test_signs():
    images, targets = inputs()
    maps = relmap.compare(network("vgg16"), images, targets[0], METHODS)
    assert (maps["input_x_gradient"] < 0).any()
    assert all((maps[name] >= 0).all() for name in METHODS if name != "input_x_gradient")


def test_layers_can_be_chosen():
    images, targets = inputs()
    model = network("vgg16")

    def maps(**layer):
        return relmap.explain(model, images, targets[0], "excitation_backprop", **layer)

    assert torch.equal(maps(layer="features.28"), maps(layer="features.29"))
    assert not torch.equal(maps(), maps(layer="features.28"))


def test_errors_name_the_culprit():
    images, targets = inputs()
    with pytest.raises(InputError, match="did you mean 'grad_cam'"):
        relmap.explain(network("vgg16"), images, targets[0], "gradcam")
    with pytest.raises(InputError, match=r"layer 'features\.77' does not exist in this model; it has: features\.0"):
        relmap.explain(network("vgg16"), images, targets[0], "grad_cam", layer="features.77")
    with pytest.raises(InputError, match="no feature map that its classifier pools"):
        relmap.explain(nn.Sequential(nn.Conv2d(3, 4, 3)), images, targets[0], "grad_cam")


def test_smoothing_is_a_gaussian_mean_with_the_border_going_on():
    """Against scipy's filter, cut at the same reach; a constant map stays, and the sum of a spike inside too."""
    maps = torch.randn(2, 30, 50, dtype=torch.float64)
    sigma = 0.02 * 50
    expected = [ndimage.gaussian_filter(each.numpy(), sigma, mode="nearest", radius=4) for each in maps]
    assert torch.allclose(smoothed(maps, 0.02), torch.from_numpy(np.stack(expected)), atol=1e-12)
    assert torch.allclose(smoothed(torch.ones(1, 9, 9), 0.1), torch.ones(1, 9, 9))
    spike = torch.zeros(1, 41, 41)
    spike[0, 20, 20] = 1
    assert smoothed(spike, 0.05).sum().item() == pytest.approx(1)


def test_smoothed_guided_backprop_is_guided_backprop_smoothed():
    model, (images, targets) = network("vgg16"), inputs()
    targets = targets[0]
    maps = relmap.compare(model, images, targets, ["guided_backprop", "guided_backprop_smoothed"])
    assert torch.allclose(maps["guided_backprop_smoothed"], smoothed(maps["guided_backprop"], 0.02))
    assert (maps["guided_backprop_smoothed"] >= 0).all()
