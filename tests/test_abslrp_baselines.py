"""The readings that absLRP compares itself with: TorchLRP's rules, CLRP without z-box, SmoothGrad, normal noise."""

import copy

import pytest
import relmap
import torch
import torch.nn.functional as F
from reference_nets import inputs, logit_signs, network, vectors
from relmap.errors import InputError
from relmap.explainers.smoothgrad import SmoothGrad
from relmap.job.seeds import generator
from relmap.propagation import Propagator
from torch import Tensor, nn


class TorchLRP(torch.autograd.Function):
    """A layer whose backward is the rule of fhvilshoj/TorchLRP; ReLU and pools are autograd's own there."""

    @staticmethod
    def forward(ctx, x: Tensor, layer: nn.Module, rule: str) -> Tensor:
        ctx.save_for_backward(x)
        ctx.layer, ctx.rule = layer, rule
        return layer(x)

    @staticmethod
    def backward(ctx, r: Tensor):
        (x,), layer = ctx.saved_tensors, ctx.layer

        def run(x: Tensor, weight: Tensor) -> Tensor:
            return F.linear(x, weight) if isinstance(layer, nn.Linear) else F.conv2d(x, weight, None, 1, layer.padding)

        def back(s: Tensor, weight: Tensor) -> Tensor:
            if isinstance(layer, nn.Linear):
                return F.linear(s, weight.T)
            return F.conv_transpose2d(s, weight, None, 1, layer.padding)

        if ctx.rule == "epsilon":
            z = layer(x)
            return x * back(r / (z + 0.1 * torch.where(z > 0, 1, -1)), layer.weight), None, None
        up, down = layer.weight.clamp(min=0), layer.weight.clamp(max=0)
        above, below = x.clamp(min=0), x.clamp(max=0)

        def part(a: Tensor, b: Tensor) -> Tensor:
            """Of products of ``above`` with a and of ``below`` with b, all of one sign."""
            z = run(above, a) + run(below, b)
            s = r / (z + (z == 0) * 1e-6)
            return above * back(s, a) + below * back(s, b)

        if ctx.rule == "alpha1_beta0":
            return part(up, down), None, None
        return 2 * part(up, down) - part(down, up), None, None


class Layer(nn.Module):
    def __init__(self, layer: nn.Module, rule: str) -> None:
        super().__init__()
        self.layer, self.rule = layer, rule

    def forward(self, x: Tensor) -> Tensor:
        return TorchLRP.apply(x, self.layer, self.rule)


@pytest.mark.parametrize("rule", ["epsilon", "alpha1_beta0", "alpha2_beta1"])
def test_torchlrp(rule):
    """Theirs where the logit is positive; of a negative one, by signed shares, theirs turned round."""
    images, targets = inputs()
    model = copy.deepcopy(network("vgg16"))
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Conv2d | nn.Linear):
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, Layer(module, rule))
    leaf = images.clone().requires_grad_()
    logits = model(leaf).gather(1, targets.T)
    theirs = torch.stack([torch.autograd.grad(z.sum(), leaf, retain_graph=True)[0].sum(1) for z in logits.T], 1)
    signs = logits.sign()[..., None, None]
    assert (signs < 0).any() and (signs > 0).any()
    maps = relmap.explain(network("vgg16"), images, targets.T, f"lrp_{rule}_torchlrp")
    expected = theirs * signs if rule == "epsilon" else theirs
    error = (maps - expected).abs().amax((2, 3)) / expected.abs().amax((2, 3))
    assert error.max() < 1e-5  # average pools of one cell are widened by 1e-6


def test_alpha_beta_of_torchlrp_is_zennits_but_for_its_wider_denominators():
    images, targets = inputs()
    for rule, name in (("alpha1_beta0", "zplus"), ("alpha2_beta1", "alpha2beta1")):
        theirs = torch.from_numpy(vectors(f"lrp/zennit_vgg16s_{name}.npz")[f"{name}_nobias_sum"])
        maps = relmap.explain(network("vgg16"), images, targets.T, f"lrp_{rule}_torchlrp", epsilon=1e-6)
        error = (maps - theirs).flatten(2).norm(dim=2) / theirs.flatten(2).norm(dim=2)
        assert error.max() < 1e-6


def test_clrp_without_z_box():
    """Float64, written out: from the logit and its negative shares; ours starts from the magnitude."""
    images, targets = inputs()
    theirs = torch.from_numpy(vectors("lrp/sglrp_clrp_literal_vgg16s_zplus.npz")["clrp_onepass_sum"]).double()
    expected = theirs * logit_signs("vgg16")[..., None, None]
    maps = relmap.explain(network("vgg16"), images, targets.T, "clrp_zplus")
    assert ((maps - expected).abs().amax((2, 3)) / expected.abs().amax((2, 3))).max() < 1e-5
    assert not torch.allclose(maps, relmap.explain(network("vgg16"), images, targets.T, "clrp"))


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_smoothgrad_by_autograd(architecture):
    """Image by image, draw by draw."""
    images, targets = inputs()
    images, targets, model = images[:2], targets[:, :2].T, network(architecture)
    maps = relmap.explain(model, images, targets, "smoothgrad", samples=4, noise=0.2, seed=3)
    draws = [torch.randn(3, 64, 64, generator=generator(3, "smoothgrad", k)).double() for k in range(4)]
    for image, classes, ours in zip(images, targets, maps, strict=True):
        sigma = 0.2 * (image.max() - image.min())
        for target, found in zip(classes, ours, strict=True):
            gradients = []
            for draw in draws:
                leaf = (image + sigma * draw).requires_grad_()
                gradients.append(torch.autograd.grad(model(leaf[None])[0, target], leaf)[0])
            expected = torch.stack(gradients).mean(0).abs().amax(0)
            torch.testing.assert_close(found, expected, rtol=1e-8, atol=1e-11)


def test_smoothgrad_without_noise_is_saliency():
    images, targets = inputs()
    model = network("vgg16")
    saliency = relmap.explain(model, images, targets.T, "saliency")
    torch.testing.assert_close(relmap.explain(model, images, targets.T, "smoothgrad", samples=2, noise=0), saliency)
    # An image of one value has no range.
    flat = torch.full_like(images[:1], 0.5)
    ours = relmap.explain(model, flat, 1, "smoothgrad", samples=3)
    torch.testing.assert_close(ours, relmap.explain(model, flat, 1, "saliency"))
    for wrong in ({"samples": 0}, {"noise": -0.1}):
        with pytest.raises(InputError, match=f"SmoothGrad: {next(iter(wrong))}"):
            relmap.explain(model, images, 0, "smoothgrad", **wrong)
    with pytest.raises(InputError, match="noise on token ids"):
        SmoothGrad(Propagator(model))(torch.ones(2, 5, dtype=torch.long), targets[:2])


def test_smoothgrad_is_less_noisy_with_more_draws():
    """The mean of 40 draws is nearer to that of others than the mean of 5 is."""
    images, targets = inputs()
    model = Propagator(network("vgg16"))

    def spread(samples: int) -> Tensor:
        one, other = (
            relmap.explain(model, images[:3], targets[0, :3], "smoothgrad", samples=samples, seed=seed)
            for seed in (1, 2)
        )
        assert not torch.equal(one, other)
        return (one - other).flatten(1).norm(dim=1) / one.flatten(1).norm(dim=1)

    assert (spread(40) < spread(5) / 1.5).all()


def test_normal_noise_is_normal():
    images, targets = inputs()
    maps = relmap.explain(network("vgg16"), images, targets.T, "random_normal")
    values = maps.flatten()
    assert values.mean().abs() < 4 / values.numel() ** 0.5 and (values.std() - 1).abs() < 4 / values.numel() ** 0.5
    assert ((values.abs() < 1).double().mean() - 0.6827).abs() < 0.005
    order = [3, 0, 2]
    again = relmap.explain(network("vgg16"), images[order], targets.T[order], "random_normal", batch_size=2)
    assert torch.equal(again, maps[order])
    uniform = relmap.explain(network("vgg16"), images, targets.T, "random")
    assert uniform.min() >= 0 and uniform.max() < 1
    with pytest.raises(InputError, match="law 'cauchy' is unknown; choose one of uniform, normal"):
        relmap.explain(network("vgg16"), images, 0, "random", law="cauchy")


def test_contrastive_rap_is_there():
    images, targets = inputs()
    with_contrast, alone = (relmap.explain(network("vgg16"), images, targets.T, name) for name in ("crap", "rap"))
    assert with_contrast.isfinite().all() and not torch.allclose(with_contrast, alone)
