"""FullGrad: completeness to rounding, and the map as the authors state it, image by image through autograd."""

import pytest
import relmap
import torch
import torch.nn.functional as F
from random_networks import CLASSES, IMAGE, Network
from reference_nets import inputs, network
from relmap.explainers.full_grad import FullGrad
from relmap.models.zoo import build
from relmap.propagation import Propagator
from torch import Tensor, nn

LAYERS = (nn.Conv2d, nn.Linear, nn.BatchNorm2d)


def densenet() -> nn.Module:
    torch.manual_seed(0)
    model = build("densenet121", 10, 0.125, 64).double()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        norm.running_mean.normal_(0, 0.3)
        norm.running_var.uniform_(0.5, 1.5)
        nn.init.normal_(norm.bias, std=0.2)
    return model.eval().requires_grad_(False)


MODELS = {"vgg16": lambda: network("vgg16"), "resnet50": lambda: network("resnet50"), "densenet121": densenet}


def biases_of(module: nn.Module) -> Tensor | None:
    if isinstance(module, nn.BatchNorm2d):
        return module.bias - module.running_mean * module.weight / (module.running_var + module.eps).sqrt()
    return module.bias


def terms(model: nn.Module, image: Tensor, target: int) -> list[Tensor]:
    """Of one image (C, H, W): the input times its gradient, and each layer's bias times the gradient at its output."""
    outputs, handles = [], []

    def keep(module, arguments, output):
        # A copy, for ReLUs in place would overwrite it.
        output = output.detach().requires_grad_() if not output.requires_grad else output
        outputs.append((module, output))
        return output.clone()

    for module in model.modules():
        if isinstance(module, LAYERS) and biases_of(module) is not None:
            handles.append(module.register_forward_hook(keep))
    leaf = image[None].clone().requires_grad_()
    logit = model(leaf)[0, target]
    for handle in handles:
        handle.remove()
    gradients = torch.autograd.grad(logit, [leaf, *[output for _, output in outputs]])
    found = [leaf.detach() * gradients[0]]
    for (module, output), gradient in zip(outputs, gradients[1:], strict=True):
        bias = biases_of(module)
        found.append(gradient * bias.view(1, -1, *[1] * (output.dim() - 2)))
    return found


def literal(parts: list[Tensor], size: tuple[int, int]) -> Tensor:
    total = torch.zeros(size, dtype=torch.float64)
    for part in parts:
        if part.dim() != 4:
            continue
        part = part.abs()
        part = part - part.min()
        part = part / (part.max() + 1e-6)
        total += F.interpolate(part, size, mode="bilinear", align_corners=True).sum((0, 1))
    return total


@pytest.mark.parametrize("name", MODELS)
def test_map_and_completeness(name):
    model, (pictures, targets) = MODELS[name](), inputs()
    pictures, targets = pictures[:2], targets.T[:2]
    maps = relmap.explain(model, pictures, targets, "full_grad")
    logits = model(pictures)
    for image, classes, of_image, z in zip(pictures, targets.tolist(), maps, logits, strict=True):
        for target, ours in zip(classes, of_image, strict=True):
            parts = terms(model, image, target)
            assert sum(part.sum() for part in parts).item() == pytest.approx(z[target].item(), rel=1e-11)
            torch.testing.assert_close(ours, literal(parts, (64, 64)), rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", MODELS)
def test_terms_add_up_to_the_logit(name):
    model, (pictures, targets) = MODELS[name](), inputs()
    propagator = Propagator(model)
    explainer, totals = FullGrad(propagator), []
    activations = propagator.forward(pictures, explainer.walks, explainer.keep)
    explainer.each_term(activations, targets, lambda term: totals.append(term.flatten(2).sum(2)))
    logits = activations.logits.gather(1, targets.T).T
    assert len(totals) > 10 and (sum(totals) - logits).abs().max() < 1e-12 * logits.abs().max()
    # The biases count: Input x Gradient alone is another number.
    assert (totals[-1] - logits).abs().min() > 1e-3


@pytest.mark.parametrize(
    "blocks", [("conv", "max", "norm", "average", "conv"), ("residual_norm", "max"), ("branched",)]
)
def test_completeness_on_random_networks(blocks):
    blocks = ("concatenated", "ceil", "shared", "norm") if blocks == ("branched",) else blocks
    propagator = Propagator(Network(blocks, 5, True))
    explainer, totals = FullGrad(propagator), []
    x = torch.randn(4, *IMAGE, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    targets = torch.arange(4)[None].expand(2, 4) % CLASSES
    activations = propagator.forward(x, explainer.walks, explainer.keep)
    explainer.each_term(activations, targets, lambda term: totals.append(term.flatten(2).sum(2)))
    torch.testing.assert_close(sum(totals), activations.logits.gather(1, targets.T).T, rtol=1e-11, atol=1e-12)


def test_a_score_maps_terms_add_up_to_its_score():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 4, 5, stride=3)).double()
    propagator = Propagator(model)
    explainer, totals = FullGrad(propagator), []
    x = torch.randn(2, 3, 16, 16, dtype=torch.float64)
    activations = propagator.forward(x, explainer.walks, explainer.keep)
    explainer.each_term(activations, torch.tensor([[1, 2]]), lambda term: totals.append(term.flatten(2).sum(2)))
    logits = model(x)[[0, 1], [1, 2]].flatten(1)
    torch.testing.assert_close(sum(totals)[0], (logits.softmax(1) * logits).sum(1))


def test_it_shares_the_forward_pass_and_is_watched_as_others_are():
    propagator, (pictures, targets) = Propagator(network("vgg16")), inputs()
    together = relmap.compare(propagator, pictures[:2], targets.T[:2], ["full_grad", "saliency", "full_grad"][:2])
    torch.testing.assert_close(
        together["full_grad"], relmap.explain(propagator, pictures[:2], targets.T[:2], "full_grad")
    )
    assert len(relmap.conservation(propagator, pictures[:1], method="full_grad")) > 10
