"""absLRP as its paper writes it down, module by module: the oracle of the tests and what the benchmark is held against.

Algorithm 1 keeps a copy of every layer with absolute parameters, runs both copies in the forward pass and takes the
gradient of their sum. ``LiteralAbsLRP`` is that for torchvision's VGG and ResNet, ``literal_vit`` for its vision
transformer, one image at a time. Nothing here uses relmap.
"""

import copy
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Law = Callable[[Callable[[Tensor], list[Tensor]], Tensor], list[Tensor]]


def abs_module_params(module: nn.Module) -> nn.Module:
    module = copy.deepcopy(module)
    for parameter in module.parameters():
        parameter.data.abs_()
    return module


def per_image(x: Tensor) -> Tensor:
    return x.flatten(1).sum(1).view(-1, *[1] * (x.dim() - 1))


def sign_wise(rule: Callable[[Tensor], list[Tensor]], relevance: Tensor) -> list[Tensor]:
    """Each sign through the rule by itself, then back to its sum; the parts of several inputs jointly."""
    total = None
    for part in (relevance.clamp(min=0), relevance.clamp(max=0)):
        results = rule(part)
        absolute = sum(per_image(r.abs()).flatten() for r in results) + 1e-9
        kept = per_image(part).flatten().abs()
        results = [r * (kept / absolute).view(-1, *[1] * (r.dim() - 1)) for r in results]
        total = results if total is None else [a + b for a, b in zip(total, results, strict=True)]
    return total


def equation_12(rule: Callable[[Tensor], list[Tensor]], relevance: Tensor) -> list[Tensor]:
    """Algorithm 1 returns twice Eq. 12."""
    return [r / 2 for r in rule(relevance)]


class Operation:
    """One call of a module: its inputs cut from the graph, h and ha."""

    def __init__(self, law: Law, inputs: list[Tensor], run: Callable, run_abs: Callable) -> None:
        self.law = law
        with torch.enable_grad():
            self.inputs = [x.detach().requires_grad_() for x in inputs]
            self.h, self.ha = run(*self.inputs), run_abs(*self.inputs)
        self.output = self.h.detach()

    def relevance(self, relevance: Tensor) -> list[Tensor]:
        def rule(relevance: Tensor) -> list[Tensor]:
            scaling = relevance / torch.where(self.h == 0, 1e-9, self.h.abs())
            gradients = torch.autograd.grad(self.ha + self.h, self.inputs, scaling, retain_graph=True)
            return [g * x for g, x in zip(gradients, self.inputs, strict=True)]

        return [r.detach() for r in self.law(rule, relevance)]


class LiteralAbsLRP:
    """Algorithm 1 on VGG and ResNet.

    ``law``: ``sign_wise`` (the code of the paper's time) or ``equation_12``.
    """

    def __init__(self, model: nn.Module, law: Law = sign_wise) -> None:
        self.model, self.law = model.eval(), law
        layers = (nn.Conv2d, nn.Linear)
        self.absolute = {m: abs_module_params(m) for m in model.modules() if isinstance(m, layers)}

    def __call__(self, images: Tensor, start: Callable[[Tensor], Tensor]) -> Tensor:
        """Relevance of images (N, C, H, W); ``start`` maps logits (N, C) to their relevance."""
        self.trail: list[Callable[[Tensor], Tensor]] = []
        logits = self._model(images)
        relevance = start(logits)
        for step in reversed(self.trail):
            relevance = step(relevance)
        return relevance

    def _model(self, x: Tensor) -> Tensor:
        model = self.model
        if hasattr(model, "features"):
            for module in [*model.features, model.avgpool, torch.flatten, *model.classifier]:
                x = self._module(x, module)
            return x
        for module in (model.conv1, model.bn1, model.relu, model.maxpool):
            x = self._module(x, module)
        for block in [*model.layer1, *model.layer2, *model.layer3, *model.layer4]:
            x = self._block(x, block)
        for module in (model.avgpool, torch.flatten, model.fc):
            x = self._module(x, module)
        return x

    def _operation(self, x: Tensor, run: Callable, run_abs: Callable) -> Tensor:
        operation = Operation(self.law, [x], run, run_abs)
        self.trail.append(lambda relevance: operation.relevance(relevance)[0])
        return operation.output

    def _module(self, x: Tensor, module: Callable) -> Tensor:
        if module is torch.flatten:
            self.trail.append(lambda relevance, shape=x.shape: relevance.view(shape))
            return torch.flatten(x, 1)
        if isinstance(module, nn.Dropout):
            return x
        if isinstance(module, nn.BatchNorm2d):
            return self._batch_norm(x, module)
        if module in self.absolute:
            return self._operation(x, module, lambda x: self.absolute[module](x.abs()))
        if isinstance(module, nn.AdaptiveAvgPool2d):
            return self._operation(x, module, lambda x: module(x.abs()))
        if isinstance(module, nn.ReLU):
            return self._operation(x, F.relu, lambda x: F.relu(x).abs())
        return self._operation(x, module, lambda x: module(x).abs())

    def _batch_norm(self, x: Tensor, module: nn.BatchNorm2d) -> Tensor:
        mean, variance = module.running_mean[:, None, None], module.running_var[:, None, None]
        weight, bias = module.weight[:, None, None], module.bias[:, None, None]
        std = torch.sqrt(variance + module.eps)
        x = self._operation(x, lambda x: (x - mean) / std, lambda x: (x.abs() + mean.abs()) / std)
        return self._operation(x, lambda h: h * weight + bias, lambda h: h.abs() * weight.abs() + bias.abs())

    def _block(self, x: Tensor, block: nn.Module) -> Tensor:
        outer, self.trail = self.trail, []
        branch = self._module(self._module(self._module(x, block.conv1), block.bn1), block.relu)
        branch = self._module(self._module(branch, block.conv2), block.bn2)
        if hasattr(block, "conv3"):
            branch = self._module(self._module(self._module(branch, block.relu), block.conv3), block.bn3)
        main, self.trail = self.trail, []
        short = x
        for module in block.downsample or ():
            short = self._module(short, module)
        shortcut, self.trail = self.trail, outer
        joined = Operation(self.law, [branch, short], torch.add, lambda a, b: a.abs() + b.abs())

        def step(relevance: Tensor) -> Tensor:
            parts = joined.relevance(relevance)
            for index, steps in enumerate((main, shortcut)):
                for back in reversed(steps):
                    parts[index] = back(parts[index])
            return parts[0] + parts[1]

        self.trail.append(step)
        return self._module(joined.output, block.relu)


def literal_vit(
    model: nn.Module, image: Tensor, start: Callable[[Tensor], Tensor], branches: tuple[str, ...] = ("q", "k", "v")
) -> tuple[Tensor, Tensor]:
    """Sign-wise absLRP of torchvision's vision transformer at one image (1, C, H, W), and that of its patches.

    ``branches``: which of queries, keys and values pass relevance on.
    """
    order: list[tuple[Operation, tuple[Tensor, ...]]] = []

    def apply(run: Callable, run_abs: Callable, *inputs: Tensor) -> Tensor:
        operation = Operation(sign_wise, list(inputs), run, run_abs)
        order.append((operation, inputs))
        return operation.output

    def layer(x: Tensor, module: Callable, weight: Tensor, bias: Tensor | None) -> Tensor:
        return apply(
            lambda x: module(x, weight, bias),
            lambda x: module(x.abs(), weight.abs(), None if bias is None else bias.abs()),
            x,
        )

    def shuffle(x: Tensor, run: Callable) -> Tensor:
        return apply(run, lambda x: run(x).abs(), x)

    def norm(x: Tensor, module: nn.LayerNorm) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, correction=0, keepdim=True)
        std = torch.sqrt(variance + module.eps)

        def standard(x: Tensor) -> Tensor:
            return (x - mean) / std

        return apply(
            lambda x: standard(x) * module.weight + module.bias,
            lambda x: standard(x).abs() * module.weight.abs() + module.bias.abs(),
            x,
        )

    def softmax(x: Tensor) -> Tensor:
        top = x.amax(-1, keepdim=True)
        total = (x - top).exp().sum(-1, keepdim=True)
        return apply(lambda x: (x - top).exp() / total, lambda x: (x - top).exp() / total, x)

    def add(a: Tensor, b: Tensor) -> Tensor:
        return apply(torch.add, lambda a, b: a.abs() + b.abs(), a, b)

    width, heads = model.hidden_dim, model.encoder.layers[0].self_attention.num_heads
    scale = (width // heads) ** -0.5

    def split(x: Tensor) -> Tensor:
        return shuffle(x, lambda x: x.unflatten(-1, (heads, -1)).transpose(1, 2))

    embedded = layer(
        image, lambda x, w, b: F.conv2d(x, w, b, stride=model.patch_size), model.conv_proj.weight, model.conv_proj.bias
    )
    x = shuffle(embedded, lambda x: x.flatten(2).transpose(1, 2))
    x = shuffle(x, lambda x: torch.cat([model.class_token, x], 1))
    x = add(x, model.encoder.pos_embedding.detach())
    dropped: set[int] = set()
    for block in model.encoder.layers:
        attention = block.self_attention
        normed = norm(x, block.ln_1)
        q, k, v = (
            layer(normed, F.linear, w, b)
            for w, b in zip(attention.in_proj_weight.split(width), attention.in_proj_bias.split(width), strict=True)
        )
        dropped |= {id(t) for name, t in zip("qkv", (q, k, v), strict=True) if name not in branches}
        scores = apply(
            lambda q, k: q @ k.transpose(-2, -1) * scale,
            lambda q, k: q.abs() @ k.abs().transpose(-2, -1) * scale,
            split(q),
            split(k),
        )
        context = apply(torch.matmul, lambda a, v: a.abs() @ v.abs(), softmax(scores), split(v))
        merged = shuffle(context, lambda x: x.transpose(1, 2).flatten(2))
        x = add(x, layer(merged, F.linear, attention.out_proj.weight, attention.out_proj.bias))
        hidden = layer(norm(x, block.ln_2), F.linear, block.mlp[0].weight, block.mlp[0].bias)
        hidden = apply(F.gelu, lambda x: F.gelu(x).abs(), hidden)
        x = add(x, layer(hidden, F.linear, block.mlp[3].weight, block.mlp[3].bias))
    x = shuffle(norm(x, model.encoder.ln), lambda x: x[:, 0])
    logits = layer(x, F.linear, model.heads.head.weight, model.heads.head.bias)

    pending = {id(logits): start(logits)}
    for operation, inputs in reversed(order):
        relevance = pending[id(operation.output)]
        if id(operation.output) in dropped:
            relevance = torch.zeros_like(relevance)
        for tensor, part in zip(inputs, operation.relevance(relevance), strict=True):
            pending[id(tensor)] = pending[id(tensor)] + part if id(tensor) in pending else part
    return pending[id(image)], pending[id(embedded)]
