"""DeepLIFT's Rescale rule by autograd: images and reference run through the network itself as one batch.

Whatever is not linear is a function whose backward multiplies by differences instead of slopes. The second half of
every batch is the reference, once for each image. Layer norm, softmax and attention are written out in elementary
operations.
"""

import copy
import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def of_images(g: Tensor) -> Tensor:
    """A gradient of the images' half alone."""
    return torch.cat([g, torch.zeros_like(g)])


class Each(torch.autograd.Function):
    """A function of each value."""

    @staticmethod
    def forward(ctx, x: Tensor, function: Callable[[Tensor], Tensor]) -> Tensor:
        ctx.save_for_backward(x)
        ctx.function = function
        return function(x)

    @staticmethod
    def backward(ctx, g: Tensor):
        (x,) = ctx.saved_tensors
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(ctx.function(leaf).sum(), leaf)
        image, reference = x.chunk(2)
        difference = image - reference
        ratio = (ctx.function(image) - ctx.function(reference)) / difference
        ratio = torch.where(difference == 0, slope.chunk(2)[0], ratio)
        return of_images(g.chunk(2)[0] * ratio), None


class Product(torch.autograd.Function):
    """Of matrices, in their last two dimensions."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a @ b

    @staticmethod
    def backward(ctx, g: Tensor):
        (a, a0), (b, b0) = (v.chunk(2) for v in ctx.saved_tensors)
        g = g.chunk(2)[0]
        return of_images(g @ ((b + b0) / 2).mT), of_images(((a + a0) / 2).mT @ g)


class Times(torch.autograd.Function):
    """An entry's product with a number of its row."""

    @staticmethod
    def forward(ctx, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        return a * b

    @staticmethod
    def backward(ctx, g: Tensor):
        (a, a0), (b, b0) = (v.chunk(2) for v in ctx.saved_tensors)
        g = g.chunk(2)[0]
        return of_images(g * (b + b0) / 2), of_images((g * (a + a0) / 2).sum(-1, keepdim=True))


class LogSum(torch.autograd.Function):
    """log sum e^x of a row; an entry's share is the logarithmic mean of its two probabilities."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return x.exp().sum(-1, keepdim=True).log()

    @staticmethod
    def backward(ctx, g: Tensor):
        p, p0 = ctx.saved_tensors[0].softmax(-1).chunk(2)
        mean = torch.where(p == p0, p, (p - p0) / (p.log() - p0.log()))
        return of_images(g.chunk(2)[0] * mean / mean.sum(-1, keepdim=True))


class Pool(torch.autograd.Function):
    """A maximum pool, window by window."""

    @staticmethod
    def forward(ctx, x: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x)
        ctx.window = kernel, stride, padding
        return F.max_pool2d(x, kernel, stride, padding)

    @staticmethod
    def backward(ctx, g: Tensor):
        (x,), (kernel, stride, padding) = ctx.saved_tensors, ctx.window
        padded = F.pad(x, (padding,) * 4, value=-math.inf)
        windows = padded.unfold(2, kernel, stride).unfold(3, kernel, stride)  # (2N, C, h, w, kernel, kernel)
        image, reference = windows.flatten(4).chunk(2)
        (count, channels), (rows, columns) = image.shape[:2], image.shape[2:4]
        result = torch.zeros_like(padded.chunk(2)[0])
        for row in range(rows):
            for column in range(columns):
                now, before = image[:, :, row, column], reference[:, :, row, column]
                y, y0 = now.amax(2), before.amax(2)
                winner = torch.where(y >= y0, now.argmax(2), before.argmax(2))[..., None]
                change = now.gather(2, winner) - before.gather(2, winner)
                ratio = torch.where(change == 0, 1, (y - y0)[..., None] / change)
                part = torch.zeros_like(now).scatter_(2, winner, ratio * g[:count, :, row, column, None])
                place = (
                    ...,
                    slice(row * stride, row * stride + kernel),
                    slice(column * stride, column * stride + kernel),
                )
                result[place] += part.view(count, channels, kernel, kernel)
        height, width = x.shape[2:]
        return of_images(result[..., padding : padding + height, padding : padding + width]), None, None, None


class Activation(nn.Module):
    def __init__(self, function: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return Each.apply(x, self.function)


class MaxPool(nn.Module):
    def __init__(self, pool: nn.MaxPool2d) -> None:
        super().__init__()
        self.window = pool.kernel_size, pool.stride, pool.padding

    def forward(self, x: Tensor) -> Tensor:
        return Pool.apply(x, *self.window)


class Norm(nn.Module):
    def __init__(self, norm: nn.LayerNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        variance = Each.apply(centred, torch.square).mean(-1, keepdim=True)
        inverse = Each.apply(variance, lambda v: (v + self.norm.eps) ** -0.5)
        return Times.apply(centred, inverse) * self.norm.weight + self.norm.bias


class Attention(nn.Module):
    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        self.attention = attention

    def forward(self, x: Tensor, *_, **__) -> tuple[Tensor, None]:
        each, heads = self.attention, self.attention.num_heads
        projected = F.linear(x, each.in_proj_weight, each.in_proj_bias).chunk(3, -1)
        q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in projected)
        scores = Product.apply(q, k.mT) / math.sqrt(q.shape[-1])
        mixed = Product.apply(Each.apply(scores - LogSum.apply(scores), torch.exp), v)
        return each.out_proj(mixed.transpose(1, 2).flatten(2)), None


REPLACEMENTS = {
    nn.ReLU: lambda module: Activation(torch.relu),
    nn.GELU: lambda module: Activation(F.gelu),
    nn.MaxPool2d: MaxPool,
    nn.LayerNorm: Norm,
    nn.MultiheadAttention: Attention,
}


def contributions(model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
    """Of K targets of each image (N, K), against an image of zeros: (N, K, H, W)."""
    model = copy.deepcopy(model)
    for name, module in list(model.named_modules()):
        # torchvision's layer norms and activations are subclasses; parts of what is replaced stay.
        make = next((make for kind, make in REPLACEMENTS.items() if isinstance(module, kind)), None)
        if make is not None:
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, make(module))
    leaf = images.clone().requires_grad_()
    logits = model(torch.cat([leaf, torch.zeros_like(images)]))[: len(images)].gather(1, targets)
    gradients = [torch.autograd.grad(column.sum(), leaf, retain_graph=True)[0] for column in logits.T]
    return torch.stack([(images * gradient).sum(1) for gradient in gradients], 1)
