"""Every rule against a slow, dense, float64 re-statement of its definition (``oracles/dense.py``)."""

import itertools
from functools import partial

import pytest
import torch
from oracles import dense
from oracles.dense import seeded
from relmap.network import Operation, trace
from relmap.propagation.rules import (
    AlphaBeta,
    Epsilon,
    Flat,
    Gamma,
    Gradient,
    Halves,
    LocalGradient,
    Pass,
    Record,
    ReluGradient,
    Reshape,
    Share,
    SoftmaxTaylor,
    Split,
    Winner,
    ZBox,
)
from torch import Tensor, nn

IMAGES, STARTS = 2, 3
NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)


def filled(layer: nn.Module, weights: str = "random") -> nn.Module:
    """The layer in float64 with random parameters; ``positive``, ``negative`` and ``holes`` are about its weights."""
    for index, (name, parameter) in enumerate(layer.named_parameters()):
        value = seeded(*parameter.shape, seed=index)
        if name.endswith("weight"):
            value = {"positive": value.abs(), "negative": -value.abs(), "holes": value.relu()}.get(weights, value)
        parameter.data = -value.abs() if name.endswith("bias") and weights == "negative" else value
    for index, norm in enumerate(module for module in layer.modules() if isinstance(module, NORMS)):
        norm.running_mean = seeded(norm.num_features, seed=50 + index)
        norm.running_var = seeded(norm.num_features, seed=60 + index).square() + 0.1
    return layer.double().eval()


def operation_of(layer: nn.Module, weights: str = "random") -> Operation:
    """The traced operation of one layer, or of a convolution with its batch norm folded into it.

    The convolution behind it only makes it a network.
    """
    graph = trace(nn.Sequential(filled(layer, weights), nn.Conv2d(1, 1, 1)).eval())
    return graph.folded("0.0")[0] if isinstance(layer, nn.Sequential) else graph["0"]


def check(rule, operation: Operation, xs: tuple[Tensor, ...], expected, tolerance: float = 1e-9) -> None:
    """Compare on K random starts at once; ``expected(xs of one image, relevance of one image)`` gives the inputs'.

    Neither the layout of the tensors nor their strides matter, and a rule changes nothing that it is given.
    """
    output = operation.run(*xs)
    rule_start = seeded(STARTS, *output.shape, seed=99)
    record = Record(operation, xs, output, tuple(x.shape for x in xs))
    before = [value.clone() for value in (*xs, output, rule_start)]
    parts = rule(record, rule_start)
    assert all(torch.equal(old, new) for old, new in zip(before, (*xs, output, rule_start), strict=True))
    assert [part.shape for part in parts] == [(STARTS, *x.shape) for x in xs]
    for k, n in itertools.product(range(STARTS), range(IMAGES)):
        for part, wanted in zip(parts, expected([x[n] for x in xs], rule_start[k, n]), strict=True):
            torch.testing.assert_close(part[k, n], wanted.view_as(part[k, n]), rtol=tolerance, atol=tolerance)

    def layout(x: Tensor) -> Tensor:
        return x.transpose(1, -1).contiguous().transpose(1, -1)

    one = layout(rule_start[0]).expand(STARTS, *output.shape)  # one start, read K times
    again = rule(Record(operation, tuple(map(layout, xs)), layout(output), record.shapes), one)
    for part, other in zip(parts, again, strict=True):
        torch.testing.assert_close(other, part[:1].expand_as(part), rtol=tolerance, atol=tolerance)


CONVOLUTIONS = {
    "conv": (lambda: nn.Conv2d(3, 4, 3), (3, 5, 6)),
    "conv_stride_padding": (lambda: nn.Conv2d(2, 4, 3, stride=2, padding=1), (2, 6, 7)),
    "conv_stride_leaves_a_rest": (lambda: nn.Conv2d(2, 3, 2, stride=3), (2, 7, 6)),
    "conv_groups": (lambda: nn.Conv2d(4, 6, 3, padding=1, groups=2), (4, 4, 4)),
    "conv_depthwise": (lambda: nn.Conv2d(3, 3, 3, padding=1, groups=3, bias=False), (3, 4, 5)),
    "conv_depthwise_multiplier_stride": (lambda: nn.Conv2d(3, 6, 3, stride=2, padding=1, groups=3), (3, 5, 4)),
    "conv_dilation": (lambda: nn.Conv2d(2, 3, 3, dilation=2, padding=2), (2, 6, 5)),
    "conv_uneven": (lambda: nn.Conv2d(2, 3, (1, 3), stride=(2, 1), padding=(0, 1)), (2, 5, 4)),
    "conv_uneven_all": (lambda: nn.Conv2d(2, 2, (3, 2), (1, 2), (2, 0), (2, 1), groups=2), (2, 5, 6)),
    "conv_padding_beyond_kernel": (lambda: nn.Conv2d(2, 3, 1, padding=1), (2, 3, 3)),
    "conv_1x1": (lambda: nn.Conv2d(5, 4, 1), (5, 3, 3)),
    "conv_1x1_stride_no_bias": (lambda: nn.Conv2d(5, 4, 1, stride=2, bias=False), (5, 4, 5)),
    "conv_whole_image": (lambda: nn.Conv2d(2, 3, (3, 4)), (2, 3, 4)),
    "conv_folded_norm": (lambda: nn.Sequential(nn.Conv2d(2, 3, 3, padding=1), nn.BatchNorm2d(3)), (2, 4, 4)),
    "conv_folded_norm_no_bias": (
        lambda: nn.Sequential(nn.Conv2d(2, 4, 3, bias=False, groups=2), nn.BatchNorm2d(4, affine=False)),
        (2, 4, 4),
    ),
}
LAYERS = CONVOLUTIONS | {
    "linear": (lambda: nn.Linear(7, 5), (7,)),
    "linear_no_bias": (lambda: nn.Linear(7, 5, bias=False), (7,)),
    "linear_one_output": (lambda: nn.Linear(6, 1), (6,)),
    "linear_tokens": (lambda: nn.Linear(5, 3), (4, 5)),
    "linear_as_many_tokens_as_channels": (lambda: nn.Linear(5, 4), (4, 5)),  # a bias along the wrong one fits, too
    "linear_grid": (lambda: nn.Linear(3, 2), (2, 3, 3)),
    "linear_folded_norm": (lambda: nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4)), (5,)),
    "batch_norm": (lambda: nn.BatchNorm2d(4), (4, 3, 3)),
    "batch_norm_no_gain": (lambda: nn.BatchNorm2d(3, affine=False), (3, 2, 3)),
    "batch_norm_flat": (lambda: nn.BatchNorm1d(5), (5,)),
    "batch_norm_sequence": (lambda: nn.BatchNorm1d(3), (3, 4)),
}
AFFINE_RULES = {
    "epsilon": (Epsilon(0.25), partial(dense.epsilon, epsilon=0.25)),
    "epsilon_no_bias": (Epsilon(0.1, bias=False), partial(dense.epsilon, epsilon=0.1, bias=False)),
    "lrp_0": (Epsilon(0.0), partial(dense.epsilon, epsilon=0)),
    "lrp_0_no_bias": (Epsilon(0.0, bias=False), partial(dense.epsilon, epsilon=0, bias=False)),
    "z_plus": (AlphaBeta(), partial(dense.alpha_beta, alpha=1, beta=0)),
    "z_plus_bias": (AlphaBeta(1, 0, bias=True), partial(dense.alpha_beta, alpha=1, beta=0, bias=True)),
    "z_plus_bias_epsilon": (
        AlphaBeta(1, 0, bias=True, epsilon=0.1),
        partial(dense.alpha_beta, alpha=1, beta=0, bias=True, epsilon=0.1),
    ),
    "alpha2_beta1": (AlphaBeta(2, 1), partial(dense.alpha_beta, alpha=2, beta=1)),
    "alpha2_beta1_bias": (AlphaBeta(2, 1, bias=True), partial(dense.alpha_beta, alpha=2, beta=1, bias=True)),
    "alpha2_beta1_bias_epsilon": (
        AlphaBeta(2, 1, bias=True, epsilon=0.1),
        partial(dense.alpha_beta, alpha=2, beta=1, bias=True, epsilon=0.1),
    ),
    "alpha1.5_beta0.5": (AlphaBeta(1.5, 0.5), partial(dense.alpha_beta, alpha=1.5, beta=0.5)),
    "alpha0_beta-1": (AlphaBeta(0, -1), partial(dense.alpha_beta, alpha=0, beta=-1)),
    "gamma": (Gamma(0.25, epsilon=0.01), partial(dense.gamma, gamma=0.25, epsilon=0.01)),
    "gamma_no_bias": (Gamma(0.5, epsilon=0.01, bias=False), partial(dense.gamma, gamma=0.5, epsilon=0.01, bias=False)),
    "gradient": (Gradient(), dense.gradient),
}


def images(kind: str, shape: tuple[int, ...]) -> Tensor:
    """``signed``, ``positive``, ``zero``, or ``relu``: nothing is negative, and half of the second image is 0."""
    x = seeded(IMAGES, *shape, seed=7)
    if kind == "relu":
        x = x.relu()
        x[1, : (shape[0] + 1) // 2] = 0  # whole windows without input: denominators that are exactly 0
    return {"positive": x.abs() + 0.1, "zero": torch.zeros_like(x)}.get(kind, x)


def for_input(rule, kind: str):
    """The rule as the graph would tell it what its input can be."""
    if isinstance(rule, AlphaBeta) and kind != "signed":
        return AlphaBeta(rule.alpha, rule.beta, rule.bias, rule.epsilon, signed_input=False)
    return rule


@pytest.mark.parametrize("kind", ["signed", "relu"])
@pytest.mark.parametrize("name", AFFINE_RULES)
@pytest.mark.parametrize("layer", LAYERS)
@torch.no_grad()
def test_affine(layer, name, kind):
    make, shape = LAYERS[layer]
    rule, definition = AFFINE_RULES[name]
    operation = operation_of(make())
    w, b = dense.matrix(operation.run, shape)
    check(
        for_input(rule, kind),
        operation,
        (images(kind, shape),),
        lambda xs, r: [definition(w, b, xs[0].flatten(), r.flatten())],
    )


@pytest.mark.parametrize("kind", ["signed", "relu", "positive", "zero"])
@pytest.mark.parametrize("weights", ["positive", "negative", "holes"])
@pytest.mark.parametrize("name", AFFINE_RULES)
@pytest.mark.parametrize("layer", ["conv_stride_padding", "linear_tokens"])
@torch.no_grad()
def test_affine_of_one_sign(layer, name, weights, kind):
    """Outputs to which nothing of one sign is contributed; their relevance of that sign is dropped, not divided."""
    make, shape = LAYERS[layer]
    rule, definition = AFFINE_RULES[name]
    operation = operation_of(make(), weights)
    w, b = dense.matrix(operation.run, shape)
    check(
        for_input(rule, kind),
        operation,
        (images(kind, shape),),
        lambda xs, r: [definition(w, b, xs[0].flatten(), r.flatten())],
    )


@pytest.mark.parametrize("layer", LAYERS)
@torch.no_grad()
def test_flat(layer):
    make, shape = LAYERS[layer]
    operation = operation_of(make(), "holes")  # a weight that is 0 is in the receptive field as much as any other
    ones = operation.affine.weights("ones")
    reach, _ = dense.matrix(lambda x: operation.affine.apply(x, ones), shape)
    assert set(reach.unique().tolist()) <= {0.0, 1.0}
    check(Flat(), operation, (images("signed", shape),), lambda xs, r: [dense.flat(reach, r.flatten())])


LOW, HIGH = (-4.0, -4.5, -6.0, -5.0, -3.9), (4.0, 4.5, 5.5, 7.0, 3.9)


@pytest.mark.parametrize("weights", ["random", "positive", "negative"])
@pytest.mark.parametrize("bounds", ["channels", "image"])
@pytest.mark.parametrize("layer", [*CONVOLUTIONS, "linear", "linear_tokens"])
@torch.no_grad()
def test_z_box(layer, bounds, weights):
    make, shape = LAYERS[layer]
    operation = operation_of(make(), weights)
    w, _ = dense.matrix(operation.run, shape)
    tokens = len(shape) == 2
    channels = shape[-1] if tokens else shape[0]
    rule = ZBox(None, None) if bounds == "image" else ZBox(LOW[:channels], HIGH[:channels])
    if bounds == "channels" and channels > len(LOW):
        rule = ZBox((LOW * 2)[:channels], (HIGH * 2)[:channels])

    def expected(xs, r):
        x = xs[0].flatten()
        if bounds == "image":
            low, high = x.min().expand_as(x), x.max().expand_as(x)
        else:
            index = torch.arange(channels)
            index = index.expand(shape) if tokens else index.view(-1, *[1] * (len(shape) - 1)).expand(shape)
            low, high = (torch.tensor(v, dtype=torch.float64)[index.flatten()] for v in (rule.low, rule.high))
        return [dense.box(w, x, r.flatten(), low, high)]

    check(rule, operation, (images("signed", shape),), expected)


@pytest.mark.parametrize("value", [0.0, 0.7])
@torch.no_grad()
def test_z_box_of_a_plain_image_is_empty(value):
    """In an image of one value, its own extremes leave no room: every share is exactly 0, and so is the map."""
    operation = operation_of(nn.Conv2d(3, 4, 3, padding=1))
    x = torch.full((1, 3, 5, 5), value, dtype=torch.float64)
    output = operation.run(x)
    (result,) = ZBox(None, None)(Record(operation, (x,), output, (x.shape,)), seeded(2, *output.shape))
    assert not result.any()


@torch.no_grad()
def test_z_box_at_the_edge_of_the_box_has_nothing_to_share():
    """A white area under a filter with negative weights alone: its outputs have no shares, so they pass nothing on."""
    operation = operation_of(nn.Conv2d(3, 4, 3), "negative")
    x = torch.full((IMAGES, 3, 6, 6), 2.64, dtype=torch.float64)
    x[:, :, :, 4:] = -1.3
    low, high = (torch.tensor(v, dtype=torch.float64) for v in ([-2.1, -2.0, -1.8], [2.64] * 3))
    w, _ = dense.matrix(operation.run, x.shape[1:])
    index = torch.arange(3).repeat_interleave(36)
    rule = ZBox(tuple(low.tolist()), tuple(high.tolist()))
    check(rule, operation, (x,), lambda xs, r: [dense.box(w, xs[0].flatten(), r.flatten(), low[index], high[index])])


MAXIMUM_POOLS = [
    nn.MaxPool2d(2),
    nn.MaxPool2d(3, 2, 1),
    nn.MaxPool2d(3, 2, ceil_mode=True),
    nn.MaxPool2d(3, 1),
    nn.MaxPool2d(2, 2, padding=1, ceil_mode=True),
    nn.MaxPool2d((3, 2), (2, 1), (1, 0)),
    nn.MaxPool2d(2, 2, dilation=2),
    nn.MaxPool2d((2, 3), (1, 2), (1, 1), (2, 1), ceil_mode=True),
    nn.MaxPool2d(1),
    nn.MaxPool2d((6, 7)),
]


@pytest.mark.parametrize("values", ["random", "ties", "relu", "zero", "negative"])
@pytest.mark.parametrize("layer", MAXIMUM_POOLS, ids=str)
@torch.no_grad()
def test_maximum_pool(layer, values):
    x = seeded(IMAGES, 2, 6, 7)
    x = {
        "random": x,
        "ties": x.round(),
        "relu": x.relu(),
        "zero": torch.zeros_like(x),
        "negative": -x.abs().round(decimals=1) - 1,  # padding must not win
    }[values]
    settings = layer.kernel_size, layer.stride, layer.padding, layer.dilation
    check(Winner(), operation_of(layer), (x,), lambda xs, r: [dense.winners(xs[0], r, *settings)])


SHARES = [Share(), Share("positive"), Share("absolute"), Share("signed", epsilon=0.1), Share("absolute", epsilon=0.1)]
AVERAGE_POOLS = [
    nn.AvgPool2d(2),
    nn.AvgPool2d(3, 2, 1),
    nn.AvgPool2d(3, 2, 1, ceil_mode=True),
    nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    nn.AvgPool2d(3, 1, 1, count_include_pad=False),
    nn.AvgPool2d((2, 3), (1, 2), (1, 0)),
    nn.AvgPool2d(3, 1, divisor_override=5),
    nn.AdaptiveAvgPool2d(1),
    nn.AdaptiveAvgPool2d((2, 3)),
    nn.AdaptiveAvgPool2d((None, 2)),
    nn.AdaptiveAvgPool2d((8, 9)),
]


@pytest.mark.parametrize("rule", [*SHARES, Gradient()], ids=str)
@pytest.mark.parametrize("layer", AVERAGE_POOLS, ids=str)
@torch.no_grad()
def test_average_pool(layer, rule):
    operation = operation_of(layer)
    x = seeded(IMAGES, 2, 5, 7)
    x[1] = x[1].relu()
    x[1, :, :3, :4] = 0
    w, b = dense.matrix(operation.run, x.shape[1:])
    assert (w >= 0).all() and not b.any()

    def expected(xs, r):
        x, r = xs[0].flatten(), r.flatten()
        if isinstance(rule, Gradient):
            return [dense.gradient(w, b, x, r)]
        return [dense.shared(w, dense.part(x, rule.part), r, rule.epsilon)]

    check(rule, operation, (x,), expected)


class Joined(nn.Module):
    def __init__(self, join):
        super().__init__()
        self.join, self.conv = join, nn.Conv2d(1, 1, 1)

    def forward(self, x):
        return self.join(self.conv(x), torch.relu(x))


def joint(join) -> Operation:
    kinds = ("add", "concatenate", "matmul", "multiply", "softmax")
    return next(operation for operation in reversed(trace(Joined(join)).operations) if operation.kind in kinds)


def of_sum(shapes: tuple[torch.Size, torch.Size]) -> tuple[Tensor, Tensor]:
    """The matrices of both operands of a sum of one image, by unit vectors."""
    a, b = (torch.zeros(1, *shape, dtype=torch.float64) for shape in shapes)
    return dense.matrix(lambda x: x + b, shapes[0])[0], dense.matrix(lambda x: a + x, shapes[1])[0]


@pytest.mark.parametrize("shape", [(2, 3, 4), (2, 1, 1), (1, 3, 4), (1, 1, 4)], ids=str)
@pytest.mark.parametrize("rule", [*SHARES, Gradient()], ids=str)
def test_addition(rule, shape):
    a, b = seeded(IMAGES, 2, 3, 4, seed=1), seeded(IMAGES, *shape, seed=2)
    a[0, 0] = b[0, 0] = 0
    left, right = of_sum((a.shape[1:], b.shape[1:]))

    def expected(xs, r):
        w, values = torch.cat([left, right], 1), torch.cat([x.flatten() for x in xs])
        if isinstance(rule, Gradient):
            result = w.T @ r.flatten()
        else:
            result = dense.shared(w, dense.part(values, rule.part), r.flatten(), rule.epsilon)
        return result.split([xs[0].numel(), xs[1].numel()])

    check(rule, joint(lambda x, y: x + y), (a, b), expected)
    check(rule, joint(lambda x, y: y + x), (b, a), lambda xs, r: expected(xs[::-1], r)[::-1])


@pytest.mark.parametrize("rule", [Share(), Share("positive"), Gradient()], ids=str)
def test_a_tensor_added_to_itself(rule):
    """Each of the two operands takes its half (the gradient: all)."""
    a = seeded(IMAGES, 2, 3, 4, seed=1)
    factor = 1 if isinstance(rule, Gradient) else 0.5
    mask = (lambda x: x > 0) if rule == Share("positive") else torch.ones_like
    check(rule, joint(torch.add), (a, a), lambda xs, r: [factor * r * mask(xs[0])] * 2)


@pytest.mark.parametrize("dim", [1, 2, 3, -1, -2, -3])
def test_concatenation(dim):
    shapes = [[IMAGES, 3, 3, 3], [IMAGES, 3, 3, 3]]
    shapes[1][dim] = 2
    xs = tuple(seeded(*shape, seed=i) for i, shape in enumerate(shapes))
    axis = dim - 1 if dim > 0 else dim
    operation = joint(lambda x, y: torch.cat([x, y], dim))
    check(Split(), operation, xs, lambda xs, r: r.split([x.shape[axis] for x in xs], axis))


def test_a_tensor_concatenated_twice():
    x = seeded(IMAGES, 2, 3, 3)
    operation = joint(lambda x, y: torch.cat([x, x], 1))
    assert len(operation.inputs) == 2
    check(Split(), operation, (x, x), lambda xs, r: r.split(2))


@pytest.mark.parametrize("layer", [nn.Flatten(), nn.Flatten(2), nn.Flatten(1, 2)], ids=str)
def test_reshaping(layer):
    check(Reshape(), operation_of(layer), (seeded(IMAGES, 2, 3, 4),), lambda xs, r: [r])


def test_passing():
    check(Pass(), operation_of(nn.ReLU()), (seeded(IMAGES, 2, 3, 4),), lambda xs, r: [r])


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
    x[:, :, 0] = 0  # PyTorch's derivative there is 0
    check(ReluGradient(mode), operation_of(nn.ReLU(inplace=True)), (x,), lambda xs, r: [definition(xs[0], r)])


def made(kind: str, run, **settings) -> Operation:
    """An operation that needs no network around it."""
    return Operation("it", kind, (), run, settings=settings)


@pytest.mark.parametrize("scale", [1.0, 0.5])
@pytest.mark.parametrize("epsilon", [1e-6, 0.3])
def test_matrix_product(epsilon, scale):
    """Attention's products: (heads, queries, width) x (heads, width, keys)."""
    a, b = seeded(IMAGES, 2, 3, 4, seed=1), seeded(IMAGES, 2, 4, 5, seed=2)
    a[1, 0, 0] = 0  # an output row that is exactly 0

    def expected(xs, r):
        heads = [dense.bilinear(p, q, s, epsilon, scale) for p, q, s in zip(*xs, r, strict=True)]
        return [torch.stack(parts) for parts in zip(*heads, strict=True)]

    check(Halves(epsilon), made("matmul", lambda a, b: scale * (a @ b)), (a, b), expected)


def test_elementwise_product():
    a, b = seeded(IMAGES, 2, 3, 3, seed=1), seeded(IMAGES, 2, 1, 1, seed=2)

    def expected(xs, r):
        share = xs[0] * xs[1] * r / (2 * dense.widened(xs[0] * xs[1], 0.1))
        return [share, share.sum((1, 2), keepdim=True)]

    check(Halves(0.1), made("multiply", torch.mul), (a, b), expected)


@pytest.mark.parametrize("dim", [-1, 3, 1, -2])
def test_softmax(dim):
    x = seeded(IMAGES, 2, 3, 4)
    axis = dim - 1 if dim > 0 else dim

    def expected(xs, r):
        rows, relevance = xs[0].movedim(axis, -1), r.movedim(axis, -1)
        shape = rows.shape
        rows, relevance = rows.reshape(-1, shape[-1]), relevance.reshape(-1, shape[-1])
        result = torch.stack([dense.softmax_taylor(x, r) for x, r in zip(rows, relevance, strict=True)])
        return [result.view(shape).movedim(-1, axis).contiguous()]

    check(SoftmaxTaylor(), made("softmax", lambda x: x.softmax(dim), dim=dim), (x,), expected)


def test_softmax_gives_masked_keys_nothing():
    x = seeded(IMAGES, 2, 3, 4)
    x[1, :, :, 2:] = -torch.inf
    operation = made("softmax", lambda x: x.softmax(-1), dim=-1)
    start = seeded(STARTS, *x.shape, seed=9) * (x > -torch.inf)  # masked keys have no part in what comes after
    (result,) = SoftmaxTaylor()(Record(operation, (x,), operation.run(x), (x.shape,)), start)
    assert result.isfinite().all() and not result[:, 1, :, :, 2:].any()


@pytest.mark.parametrize(
    "function",
    [lambda x: x.softmax(-1), lambda x: nn.functional.layer_norm(x, (3, 4)), nn.functional.gelu, torch.sigmoid],
    ids=["softmax", "layer_norm", "gelu", "sigmoid"],
)
def test_local_gradient(function):
    """Jacobian by central differences."""
    x, step = seeded(IMAGES, 3, 4), 1e-5

    def expected(xs, r):
        result = torch.zeros_like(xs[0])
        for index in itertools.product(*map(range, xs[0].shape)):
            unit = torch.zeros_like(xs[0])
            unit[index] = step
            result[index] = ((function(xs[0] + unit) - function(xs[0] - unit)) / (2 * step) * r).sum()
        return [result]

    check(LocalGradient(), made("activation", function), (x,), expected, tolerance=1e-7)
