"""TIBAV's relevance of attention, operation by operation as in hila-chefer/Transformer-Explainability, for one image.

Torchvision's vision transformer, alpha = 1, from 1 at the target. Written from the formulas, with autograd for the
gradients of the attention; slow.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

EPSILON = 1e-9


def safe_divide(a: Tensor, b: Tensor) -> Tensor:
    return torch.where(b == 0, 0, a / torch.where(b == 0, 1, b + EPSILON))


def linear(x: Tensor, weight: Tensor, relevance: Tensor) -> Tensor:
    """(T, in), (out, in), (T, out): z+ over pairs of equal sign."""
    positive = (x[:, None, :] * weight).clamp(min=0)  # (T, out, in)
    return (positive * safe_divide(relevance, positive.sum(2))[..., None]).sum(1)


def added(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    s = safe_divide(relevance, a + b)
    parts = [a * s, b * s]
    mass = sum(part.sum().abs() for part in parts)
    return tuple(part * safe_divide(part.sum().abs() / mass * relevance.sum(), part.sum()) for part in parts)


def product(a: Tensor, b: Tensor, relevance: Tensor) -> tuple[Tensor, Tensor]:
    """Of ``a @ b``, half for each."""
    s = safe_divide(relevance, a @ b)
    return a * (s @ b.transpose(-1, -2)) / 2, b * (a.transpose(-1, -2) @ s) / 2


class Trace:
    """A forward pass of one image with everything that is met on the way, and what comes back."""

    def __init__(self, model: torch.nn.Module, image: Tensor, target: int) -> None:
        x = model._process_input(image[None])
        x = torch.cat([model.class_token, x], 1) + model.encoder.pos_embedding
        x, self.blocks = x[0], []
        for block in model.encoder.layers:
            x = self.block(block, x)
        self.last = model.encoder.ln(x)[0]
        self.head = model.heads.head
        logit = self.head(self.last)[target]
        self.gradients = torch.autograd.grad(logit, [met["weights"] for met in self.blocks])
        self.relevances = self.backwards(target)

    def block(self, block: torch.nn.Module, x: Tensor) -> Tensor:
        attention = block.self_attention
        heads = attention.num_heads
        normed = block.ln_1(x)
        query, key, value = (
            F.linear(normed, weight, bias).unflatten(1, (heads, -1)).transpose(0, 1)
            for weight, bias in zip(attention.in_proj_weight.chunk(3), attention.in_proj_bias.chunk(3), strict=True)
        )
        scaled = query * query.shape[-1] ** -0.5
        scores = scaled @ key.transpose(1, 2)
        weights = scores.softmax(2).requires_grad_()
        merged = (weights @ value).transpose(0, 1).flatten(1)
        branch = attention.out_proj(merged)
        middle = x + branch
        hidden_in = block.ln_2(middle)
        hidden = block.mlp[0](hidden_in)
        active = F.gelu(hidden)
        branch_2 = block.mlp[3](active)
        self.blocks.append({**locals(), "query": scaled})
        return middle + branch_2

    @torch.no_grad()
    def backwards(self, target: int) -> list[Tensor]:
        start = torch.zeros(1, self.head.out_features, dtype=self.last.dtype)
        start[0, target] = 1
        of_class = linear(self.last[None], self.head.weight, start)
        relevance = torch.zeros_like(self.blocks[0]["x"])
        relevance[0] = of_class[0]
        found = []
        for met in reversed(self.blocks):
            block, attention = met["block"], met["attention"]
            past, through = added(met["middle"], met["branch_2"], relevance)
            through = linear(met["active"], block.mlp[3].weight, through)
            relevance = past + linear(met["hidden_in"], block.mlp[0].weight, through)
            past, through = added(met["x"], met["branch"], relevance)
            through = linear(met["merged"], attention.out_proj.weight, through)
            through = through.unflatten(1, (met["heads"], -1)).transpose(0, 1)
            of_weights, of_value = product(met["weights"], met["value"], through)
            found.append(of_weights)
            of_query, of_key = product(met["query"], met["key"].transpose(1, 2), of_weights)
            parts = of_query, of_key.transpose(1, 2), of_value
            relevance = past + sum(
                linear(met["normed"], weight, part.transpose(0, 1).flatten(1))
                for weight, part in zip(attention.in_proj_weight.chunk(3), parts, strict=True)
            )
        return found[::-1]


def tibav(model: torch.nn.Module, image: Tensor, target: int, start_layer: int = 0) -> Tensor:
    """The class token's row over all tokens, (T,)."""
    trace = Trace(model, image, target)
    joint = None
    for gradient, relevance in list(zip(trace.gradients, trace.relevances, strict=True))[start_layer:]:
        factor = (gradient * relevance).clamp(min=0).mean(0) + torch.eye(relevance.shape[-1], dtype=relevance.dtype)
        joint = factor if joint is None else factor @ joint
    return joint[0]
