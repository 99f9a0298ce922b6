"""Every rule against a slow, dense, float64 re-statement of its definition.

An affine layer becomes the matrix of its Jacobian, made from unit vectors; the sums of a rule's equation are then taken
literally over the shares ``P[j, i] = w_ij x_i`` of input i in output j.
"""

import itertools

import pytest
import torch
from relmap.propagation import Operation, trace
from relmap.propagation.rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    Gradient,
    Pass,
    Record,
    ReluGradient,
    Reshape,
    Share,
    Split,
    Winner,
    ZBox,
)
from torch import Tensor, nn

IMAGES, STARTS = 2, 3


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def operation_of(layer: nn.Module) -> Operation:
    """The traced operation of one layer; the convolution behind it only makes it a network."""
    for index, parameter in enumerate(layer.parameters()):
        parameter.data = seeded(*parameter.shape, seed=index)
    if isinstance(layer, nn.BatchNorm2d):
        layer.running_mean = seeded(layer.num_features, seed=5)
        layer.running_var = seeded(layer.num_features, seed=6).square() + 0.1
    return trace(nn.Sequential(layer.double(), nn.Conv2d(1, 1, 1)).eval())["0"]


def dense(operation: Operation, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Matrix (outputs, inputs) and bias (outputs,) of an affine operation on one image of this shape."""
    units = torch.eye(shape.numel(), dtype=torch.float64).view(-1, *shape)
    zero = operation.run(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
    return (operation.run(units).flatten(1) - zero).T, zero


def ratio(r: Tensor, z: Tensor) -> Tensor:
    """r / z, 0 where z is 0."""
    return torch.where(z == 0, 0, r / torch.where(z == 0, 1, z))


def widened(z: Tensor, epsilon: float) -> Tensor:
    return torch.where(z < 0, z - epsilon, z + epsilon)


def by_epsilon(rule: Epsilon, w, b, x, r):
    shares = w * x
    z = shares.sum(1) + (b if rule.bias else 0)
    return shares.T @ ratio(r, widened(z, rule.epsilon))


def by_alpha_beta(rule: AlphaBeta, w, b, x, r):
    b = b if rule.bias else torch.zeros_like(b)
    positive, negative = (w * x).clamp(min=0), (w * x).clamp(max=0)
    up = positive.T @ ratio(r, positive.sum(1) + b.clamp(min=0) + rule.epsilon)
    down = negative.T @ ratio(r, negative.sum(1) + b.clamp(max=0) - rule.epsilon)
    return rule.alpha * up - rule.beta * down


def by_gamma(rule: Gamma, w, b, x, r):
    total = 0
    for sign in (1, -1):
        favoured = (sign * w * x).clamp(min=0) * sign
        shares = w * x + rule.gamma * favoured
        bias = b + rule.gamma * sign * (sign * b).clamp(min=0)
        z = widened(shares.sum(1) + (bias if rule.bias else 0), rule.epsilon)
        total = total + shares.T @ torch.where(sign * ((w * x).sum(1) + b) > 0, r / z, 0)
    return total


def by_flat(rule: Flat, w, b, x, r):
    reach = (w != 0).double()
    return reach.T @ (r / reach.sum(1))


def by_box(rule: ZBox, w, b, x, r, channels):
    if rule.low is None:
        low, high = x.min().expand_as(x), x.max().expand_as(x)
    else:
        low, high = (torch.tensor(v, dtype=torch.float64)[channels] for v in (rule.low, rule.high))
    shares = w * x - w.clamp(min=0) * low - w.clamp(max=0) * high
    return shares.T @ ratio(r, shares.sum(1))


def by_gradient(rule: Gradient, w, b, x, r):
    return w.T @ r


LAYERS = {
    "conv": (lambda: nn.Conv2d(3, 4, 3), (3, 5, 6)),
    "conv_stride_padding": (lambda: nn.Conv2d(2, 4, 3, stride=2, padding=1), (2, 6, 7)),
    "conv_stride_leaves_a_rest": (lambda: nn.Conv2d(2, 3, 2, stride=3), (2, 7, 6)),
    "conv_groups": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 4, 4)),
    "conv_depthwise": (lambda: nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False), (3, 4, 5)),
    "conv_dilation": (lambda: nn.Conv2d(2, 3, 3, dilation=2, padding=2), (2, 6, 5)),
    "conv_uneven": (lambda: nn.Conv2d(2, 3, (1, 3), stride=(2, 1), padding=(0, 1)), (2, 5, 4)),
    "conv_1x1": (lambda: nn.Conv2d(5, 4, 1), (5, 3, 3)),
    "conv_1x1_stride_no_bias": (lambda: nn.Conv2d(5, 4, 1, stride=2, bias=False), (5, 4, 5)),
    "linear": (lambda: nn.Linear(7, 5), (7,)),
    "linear_no_bias": (lambda: nn.Linear(7, 5, bias=False), (7,)),
    "batch_norm": (lambda: nn.BatchNorm2d(4), (4, 3, 3)),
}
AFFINE_RULES = {
    "epsilon": (Epsilon(0.25), by_epsilon),
    "epsilon_no_bias": (Epsilon(0.1, bias=False), by_epsilon),
    "lrp_0": (Epsilon(0.0), by_epsilon),
    "z_plus": (AlphaBeta(), by_alpha_beta),
    "z_plus_bias": (AlphaBeta(1, 0, bias=True), by_alpha_beta),
    "alpha2_beta1": (AlphaBeta(2, 1), by_alpha_beta),
    "alpha2_beta1_bias_epsilon": (AlphaBeta(2, 1, bias=True, epsilon=0.1), by_alpha_beta),
    "alpha1.5_beta0.5": (AlphaBeta(1.5, 0.5), by_alpha_beta),
    "gamma": (Gamma(0.25, epsilon=0.01), by_gamma),
    "gamma_no_bias": (Gamma(0.5, epsilon=0.01, bias=False), by_gamma),
    "flat": (Flat(), by_flat),
    "gradient": (Gradient(), by_gradient),
}


def check(rule, operation: Operation, xs: tuple[Tensor, ...], expected) -> None:
    """Compare on K random starts at once; ``expected(xs of one image, relevance of one image)`` gives the inputs'."""
    output = operation.run(*xs)
    start = seeded(STARTS, *output.shape, seed=99)
    parts = rule(Record(operation, xs, output, tuple(x.shape for x in xs)), start)
    assert [part.shape for part in parts] == [(STARTS, *x.shape) for x in xs]
    for k, n in itertools.product(range(STARTS), range(IMAGES)):
        for part, wanted in zip(parts, expected([x[n] for x in xs], start[k, n]), strict=True):
            torch.testing.assert_close(part[k, n], wanted.view_as(part[k, n]), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "relu"])
@pytest.mark.parametrize("name", AFFINE_RULES)
@pytest.mark.parametrize("layer", LAYERS)
def test_affine(layer, name, signed):
    make, shape = LAYERS[layer]
    rule, definition = AFFINE_RULES[name]
    operation = operation_of(make())
    x = seeded(IMAGES, *shape, seed=7)
    if not signed:
        x = x.relu()
        x[1, : shape[0] // 2] = 0  # whole windows without input: denominators that are exactly 0
        if isinstance(rule, AlphaBeta):
            rule = AlphaBeta(rule.alpha, rule.beta, rule.bias, rule.epsilon, signed_input=False)
    w, b = dense(operation, x.shape[1:])
    check(rule, operation, (x,), lambda xs, r: [definition(rule, w, b, xs[0].flatten(), r.flatten())])


@pytest.mark.parametrize(
    "rule", [ZBox((-1.0, -2.0, -3.0, 0.0), (4.0, 3.0, 2.5, 3.0)), ZBox(None, None)], ids=["channels", "image"]
)
@pytest.mark.parametrize(
    "layer", ["conv", "conv_stride_padding", "conv_groups", "conv_dilation", "conv_1x1_stride_no_bias"]
)
def test_z_box(layer, rule):
    make, shape = LAYERS[layer]
    if rule.low is not None:
        rule = ZBox((*rule.low, -0.5)[: shape[0]], (*rule.high, 3.0)[: shape[0]])
    operation = operation_of(make())
    x = seeded(IMAGES, *shape, seed=7)
    w, b = dense(operation, x.shape[1:])
    channels = torch.arange(shape[0]).repeat_interleave(shape[1] * shape[2])
    check(rule, operation, (x,), lambda xs, r: [by_box(rule, w, b, xs[0].flatten(), r.flatten(), channels)])


def winners(layer: nn.MaxPool2d, x: Tensor, r: Tensor) -> Tensor:
    """All relevance of a window to its first maximum, window by window."""
    pair = [
        (v, v) if isinstance(v, int) else v for v in (layer.kernel_size, layer.stride, layer.padding, layer.dilation)
    ]
    (ky, kx), (sy, sx), (py, px), (dy, dx) = pair
    result = torch.zeros_like(x)
    for c, oy, ox in itertools.product(*(range(size) for size in r.shape)):
        window = [(oy * sy - py + a * dy, ox * sx - px + b * dx) for a in range(ky) for b in range(kx)]
        window = [(y, q) for y, q in window if 0 <= y < x.shape[1] and 0 <= q < x.shape[2]]
        y, q = max(window, key=lambda place: x[c, *place].item())
        result[c, y, q] += r[c, oy, ox]
    return result


@pytest.mark.parametrize("values", ["random", "ties", "zero"])
@pytest.mark.parametrize(
    "layer",
    [
        nn.MaxPool2d(2),
        nn.MaxPool2d(3, 2, 1),
        nn.MaxPool2d(3, 2, ceil_mode=True),
        nn.MaxPool2d(3, 1),
        nn.MaxPool2d(2, 2, padding=1, ceil_mode=True),
        nn.MaxPool2d((3, 2), (2, 1), (1, 0)),
        nn.MaxPool2d(2, 2, dilation=2),
    ],
    ids=str,
)
def test_maximum_pool(layer, values):
    x = seeded(IMAGES, 2, 6, 7)
    x = {"random": x, "ties": x.round(), "zero": torch.zeros_like(x)}[values]
    check(Winner(), operation_of(layer), (x,), lambda xs, r: [winners(layer, xs[0], r)])


@pytest.mark.parametrize("rule", [Share(), Share("positive"), Share("absolute"), Share("signed", epsilon=0.1)], ids=str)
@pytest.mark.parametrize(
    "layer",
    [
        nn.AvgPool2d(2),
        nn.AvgPool2d(3, 2, 1),
        nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
        nn.AvgPool2d(3, 1, divisor_override=5),
        nn.AdaptiveAvgPool2d(1),
        nn.AdaptiveAvgPool2d((2, 3)),
        nn.AdaptiveAvgPool2d((8, 9)),
    ],
    ids=str,
)
def test_average_pool(layer, rule):
    operation = operation_of(layer)
    x = seeded(IMAGES, 2, 5, 7)
    x[1] = x[1].relu()
    x[1, :, :3, :4] = 0
    w, _ = dense(operation, x.shape[1:])

    def expected(xs, r):
        part = {"signed": xs[0], "positive": xs[0].relu(), "absolute": xs[0].abs()}[rule.part].flatten()
        z = w @ part
        return [part * (w.T @ ratio(r.flatten(), widened(z, rule.epsilon)))]

    check(rule, operation, (x,), expected)
    check(Gradient(), operation, (x,), lambda xs, r: [w.T @ r.flatten()])


class Joined(nn.Module):
    def __init__(self, join):
        super().__init__()
        self.join, self.conv = join, nn.Conv2d(1, 1, 1)

    def forward(self, x):
        return self.join(self.conv(x), torch.relu(x))


def joint(join) -> Operation:
    return next(operation for operation in trace(Joined(join)) if operation.kind in ("add", "concatenate"))


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 1, 1)], ids=["same", "broadcast"])
@pytest.mark.parametrize("rule", [Share(), Share("positive"), Share("absolute"), Share("signed", epsilon=0.1)], ids=str)
def test_addition(rule, shape):
    a, b = seeded(IMAGES, 2, 3, 4, seed=1), seeded(IMAGES, *shape, seed=2)
    a[0, 0] = b[0, 0] = 0

    def expected(xs, r):
        parts = [{"signed": x, "positive": x.relu(), "absolute": x.abs()}[rule.part] for x in xs]
        s = ratio(r, widened(parts[0] + parts[1], rule.epsilon))
        shares = [part * s for part in parts]
        return shares if shape[1:] != (1, 1) else [shares[0], shares[1].sum((1, 2), keepdim=True)]

    check(rule, joint(lambda x, y: x + y), (a, b), expected)


def test_addition_gradient():
    a, b = seeded(IMAGES, 2, 3, 4, seed=1), seeded(IMAGES, 2, 1, 1, seed=2)
    operation = joint(torch.add)
    check(Gradient(), operation, (a, b), lambda xs, r: [r, r.sum((1, 2), keepdim=True)])
    check(Gradient(), operation, (a, a), lambda xs, r: [r, r])


@pytest.mark.parametrize("dim", [1, 2, -1])
def test_concatenation(dim):
    shapes = [[IMAGES, 3, 3, 3], [IMAGES, 3, 3, 3]]
    shapes[1][dim] = 2
    xs = tuple(seeded(*shape, seed=i) for i, shape in enumerate(shapes))
    axis = dim - 1 if dim > 0 else dim
    operation = joint(lambda x, y: torch.cat([x, y], dim))
    check(Split(), operation, xs, lambda xs, r: r.split([x.shape[axis] for x in xs], axis))


def test_reshaping_and_passing():
    x = seeded(IMAGES, 2, 3, 4)
    check(Reshape(), operation_of(nn.Flatten()), (x,), lambda xs, r: [r])
    check(Pass(), operation_of(nn.ReLU()), (x,), lambda xs, r: [r])


@pytest.mark.parametrize(
    ("mode", "definition"),
    [
        ("gradient", lambda x, r: r * (x > 0)),
        ("deconvnet", lambda x, r: r.clamp(min=0)),
        ("guided", lambda x, r: r.clamp(min=0) * (x > 0)),
    ],
)
def test_relu_gradients(mode, definition):
    x = seeded(IMAGES, 2, 3, 4)
    check(ReluGradient(mode), operation_of(nn.ReLU(inplace=True)), (x,), lambda xs, r: [definition(xs[0], r)])
