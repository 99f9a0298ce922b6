"""AttnLRP, by its equations on one image at a time, and what a network without biases conserves."""

import pandas as pd
import pytest
import relmap
import torch
import torch.nn.functional as F
from oracles.tibav import Trace
from reference_nets import inputs, network
from relmap.errors import InputError
from relmap.explainers.attn_lrp import AttnLRP
from relmap.inspection.leakage import conservation
from relmap.propagation import Propagator
from relmap.torchvision_shim import torchvision
from torch import Tensor

GAMMA, CONV_GAMMA, EPSILON = 0.05, 0.25, 1e-6


def stabilised(z: Tensor) -> Tensor:
    return z + torch.where(z < 0, -EPSILON, EPSILON)


def by_gamma(x: Tensor, weight: Tensor, bias: Tensor, relevance: Tensor, gamma: float) -> Tensor:
    """(T, in), (out, in), (out,), (T, out): outputs above 0 favour what raises them, those below what lowers them."""
    parts = x[:, None, :] * weight  # (T, out, in)
    result = torch.zeros_like(x)
    for sign in (1, -1):
        favoured = parts + gamma * (sign * parts).clamp(min=0) * sign
        of_bias = bias + gamma * (sign * bias).clamp(min=0) * sign
        z = favoured.sum(2) + of_bias
        here = sign * (parts.sum(2) + bias) > 0
        share = torch.where(here, relevance / stabilised(z), 0)
        result += (favoured * share[..., None]).sum(1)
    return result


def product(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    s = relevance / (2 * stabilised(a @ b))
    return a * (s @ b.transpose(-1, -2)), b * (a.transpose(-1, -2) @ s)


def added(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    s = relevance / stabilised(a + b)
    return a * s, b * s


@torch.no_grad()
def attn_lrp(model, image: Tensor, target: int) -> Tensor:
    """The map (H, W) of torchvision's vision transformer, block by block from the head to the patches."""
    with torch.enable_grad():
        trace = Trace(model, image, target)
    head = trace.head
    start = torch.zeros(1, head.out_features, dtype=image.dtype)
    start[0, target] = head(trace.last)[target]
    relevance = torch.zeros_like(trace.blocks[0]["x"])
    relevance[0] = by_gamma(trace.last[None], head.weight, head.bias, start, GAMMA)[0]

    def through(layer, x, arriving):
        return by_gamma(x, layer.weight, layer.bias, arriving, GAMMA)

    for met in reversed(trace.blocks):
        block, attention, query = met["block"], met["attention"], met["query"]
        past, branch = added(met["middle"], met["branch_2"], relevance)
        relevance = past + through(block.mlp[0], met["hidden_in"], through(block.mlp[3], met["active"], branch))
        past, branch = added(met["x"], met["branch"], relevance)
        branch = through(attention.out_proj, met["merged"], branch)
        of_weights, of_value = product(
            met["weights"], met["value"], branch.unflatten(1, (met["heads"], -1)).transpose(0, 1)
        )
        scores = query @ met["key"].transpose(1, 2)
        of_scores = scores * (of_weights - met["weights"] * of_weights.sum(2, keepdim=True))
        of_query, of_key = product(query, met["key"].transpose(1, 2), of_scores)
        parts = (of_query, of_key.transpose(1, 2), of_value)
        weights, biases = attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3)
        relevance = past + sum(
            by_gamma(met["normed"], weight, bias, part.transpose(0, 1).flatten(1), GAMMA)
            for weight, bias, part in zip(weights, biases, parts, strict=True)
        )
    tokens = trace.blocks[0]["x"]
    position = model.encoder.pos_embedding[0]
    of_tokens = (tokens - position) * (relevance / stabilised(tokens))
    patch = model.conv_proj
    patches = F.unfold(image[None], patch.kernel_size, stride=patch.stride)[0].T  # (P, 3 p p)
    found = by_gamma(patches, patch.weight.flatten(1), patch.bias, of_tokens[1:], CONV_GAMMA)
    return F.fold(found.T[None], image.shape[1:], patch.kernel_size, stride=patch.stride)[0].sum(0)


def test_attn_lrp_by_its_equations():
    model, (images, targets) = network("vit"), inputs()
    found = relmap.explain(model, images[:1], targets.T[:1], "attn_lrp")
    for image, classes, maps in zip(images, targets.T, found, strict=False):
        for target, ours in zip(classes.tolist(), maps, strict=True):
            expected = attn_lrp(model, image, target)
            assert (ours - expected).abs().max() < 1e-7 * expected.abs().max()


def test_only_softmax_and_positions_take_relevance_without_biases():
    torch.manual_seed(0)
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 2, "hidden_dim": 16, "mlp_dim": 24}
    model = torchvision.models.VisionTransformer(**sizes, num_classes=5).double().eval()
    for name, value in model.named_parameters():
        value.data.normal_(std=0.5) if not name.endswith("bias") else value.data.zero_()
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    rows = conservation(model, images, torch.tensor([1, 4]), "attn_lrp")
    kept = rows[rows["kind"] != "softmax"]
    assert {"linear", "conv", "matmul", "add", "layer_norm", "gelu"} <= set(kept["kind"])
    assert (kept["leak"].abs() <= 2e-6 * kept["magnitude"]).all()  # the stabilisers
    assert (rows[rows["kind"] == "softmax"]["leak"].abs() > 1e-3).any()
    alone = [
        conservation(model, images[i : i + 1], torch.tensor([target]), "attn_lrp") for i, target in enumerate((1, 4))
    ]
    numbers = ["received", "to_constants", "leak", "leak_share"]
    mean = (alone[0][numbers] + alone[1][numbers]) / 2
    pd.testing.assert_frame_equal(rows[numbers], mean, rtol=1e-9, atol=1e-12)


def test_neither_batch_size_nor_order_counts():
    images, targets = inputs()
    propagator = Propagator(network("vit"))
    whole = relmap.explain(propagator, images, targets.T, "attn_lrp")
    turned = relmap.explain(propagator, images.flip(0), targets.T.flip(0), "attn_lrp", batch_size=3).flip(0)
    torch.testing.assert_close(turned, whole, rtol=1e-9, atol=1e-12)


def test_networks_without_attention_and_negative_gammas_are_refused():
    with pytest.raises(InputError, match="AttnLRP is for models with self-attention"):
        relmap.explain(network("vgg16"), inputs()[0][:1], 0, "attn_lrp")
    with pytest.raises(InputError, match="gamma is -1"):
        AttnLRP(Propagator(network("vit")), gamma=-1)
