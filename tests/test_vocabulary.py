"""Every layer that relmap knows: its trace is the model, and its gradient autograd's."""

import pytest
import relmap
import torch
import torch.nn.functional as F
from relmap.errors import InputError
from relmap.network import trace
from relmap.network.vocabulary import OPERATIONS
from relmap.propagation import Propagator, composites
from torch import nn

SHAPES = {1: (2, 4, 9), 2: (2, 4, 7, 6), 3: (2, 4, 5, 4, 3)}


class Function(nn.Module):
    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


def kernel(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


MASK = torch.tensor([True, False, False, True, True, False])

LAYERS = {
    **{
        f"{name}{n}d": (getattr(nn, f"{name}{n}d")(*arguments), n)
        for n in (1, 2, 3)
        for name, arguments in (
            ("Conv", (4, 3, 3)),
            ("ConvTranspose", (4, 3, 3, 2)),
            ("BatchNorm", (4,)),
            ("InstanceNorm", (4, 1e-5, 0.1, True)),
            ("MaxPool", (3, 2, 1)),
            ("AvgPool", (2, 1)),
            ("AdaptiveAvgPool", (2,)),
            ("AdaptiveMaxPool", (2,)),
            ("ConstantPad", (1, -0.7)),
            ("ReflectionPad", (1,)),
            ("ReplicationPad", (2,)),
            ("CircularPad", (1,)),
            ("ZeroPad", (1,)),
        )
    },
    **{
        f"padding {mode}": (nn.Conv2d(4, 3, 3, padding=(1, 2), padding_mode=mode), 2)
        for mode in ("reflect", "replicate", "circular")
    },
    "same": (nn.Conv2d(4, 3, (3, 4), padding="same", dilation=(1, 3)), 2),
    "same, reflected": (nn.Conv1d(4, 3, 4, padding="same", padding_mode="reflect"), 1),
    "valid": (nn.Conv2d(4, 3, 3, padding="valid", stride=2), 2),
    "conv2d, same": (Function(lambda x: F.conv2d(x, kernel(3, 4, 2, 3), padding="same")), 2),
    "conv1d": (Function(lambda x: F.conv1d(x, kernel(6, 2, 3), kernel(6), 2, 1, groups=2)), 1),
    "conv_transpose2d": (Function(lambda x: F.conv_transpose2d(x, kernel(4, 2, 3, 3), stride=2, output_padding=1)), 2),
    "running instance norm": (nn.InstanceNorm2d(4, affine=True, track_running_stats=True), 2),
    "SyncBatchNorm": (nn.SyncBatchNorm(4), 2),
    "GroupNorm": (nn.GroupNorm(2, 4), 2),
    "GroupNorm without weights": (nn.GroupNorm(1, 4, affine=False), 1),
    "group_norm": (Function(lambda x: F.group_norm(x, 2)), 3),
    "RMSNorm": (nn.RMSNorm(6), 2),
    "rms_norm": (Function(lambda x: F.rms_norm(x, (7, 6), eps=0.1)), 2),
    "LayerNorm": (nn.LayerNorm([7, 6]), 2),
    "PReLU": (nn.PReLU(4), 2),
    "PReLU of one": (nn.PReLU(), 1),
    "prelu": (Function(lambda x: F.prelu(x, kernel(4))), 2),
    "RReLU": (nn.RReLU(), 2),
    "rrelu": (Function(lambda x: F.rrelu(x, 0.1, 0.2, training=False)), 2),
    "CELU": (nn.CELU(0.7, inplace=True), 2),
    "celu": (Function(lambda x: F.celu(x, 0.7)), 2),
    "Threshold": (nn.Threshold(0.3, -0.2), 2),
    "threshold": (Function(lambda x: F.threshold(x, 0.3, 0.1)), 2),
    "LogSigmoid": (nn.LogSigmoid(), 2),
    "Softsign": (nn.Softsign(), 2),
    "Softshrink": (nn.Softshrink(0.2), 2),
    "Hardshrink": (nn.Hardshrink(0.2), 2),
    "Tanhshrink": (nn.Tanhshrink(), 2),
    "GLU": (nn.GLU(1), 2),
    "glu": (Function(lambda x: F.glu(x, -1)), 2),
    "Softmax2d": (nn.Softmax2d(), 2),
    "ChannelShuffle": (nn.ChannelShuffle(2), 2),
    "Unfold": (nn.Unfold(3, stride=2), 2),
    "Fold": (nn.Sequential(nn.Unfold(2), nn.Fold((7, 6), 2)), 2),
    "unfold": (Function(lambda x: x.unfold(2, 3, 2)), 2),
    "clamp": (Function(lambda x: x.clamp(-0.3, 0.4) + torch.clamp(x, max=0.2) + x.clamp_max(0.1).clamp_min(-0.1)), 2),
    "avg_pool2d": (Function(lambda x: F.avg_pool2d(x, 3, 2, 1, divisor_override=5)), 2),
    "max_pool1d": (Function(lambda x: F.max_pool1d(x, 3, 2)), 1),
    "adaptive_max_pool2d": (Function(lambda x: F.adaptive_max_pool2d(x, (2, 3))), 2),
    "pad": (Function(lambda x: F.pad(F.pad(x, (1, 0), value=2.0), (0, 1, 1, 0), mode="replicate")), 2),
    "where, a constant": (Function(lambda x: torch.where(MASK, x, 0.3)), 2),
    "where, two": (Function(lambda x: torch.where(MASK, 2 * x, x.tanh())), 2),
    "where, of the image": (Function(lambda x: torch.where(x > 0, x, 0.1 * x)), 2),
    "where, a method": (Function(lambda x: x.where(x > 0, x.new_zeros(1))), 2),
}


def model_with(name):
    torch.manual_seed(0)
    layer, dimensions = LAYERS[name]
    convolution = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}[dimensions]
    model = nn.Sequential(convolution(4, 4, 1), layer, nn.Flatten(), nn.LazyLinear(5)).double().eval()
    x = torch.randn(SHAPES[dimensions], dtype=torch.float64)
    model(x)
    for parameter in model.parameters():
        parameter.data.normal_()
    for key, buffer in model.named_buffers():
        if "running" in key:
            buffer.uniform_(0.5, 1.5)
    return model, x


@pytest.mark.parametrize("name", LAYERS)
def test_a_layer(name):
    model, x = model_with(name)
    propagator = Propagator(model)
    start = torch.randn(1, 2, 5, dtype=torch.float64)
    walk = propagator.by(composites.gradient())
    activations = walk.forward(x)
    x = x.requires_grad_()
    logits = model(x * 1)
    torch.testing.assert_close(activations.logits, logits.detach())
    (expected,) = torch.autograd.grad((logits * start[0]).sum(), x)
    torch.testing.assert_close(walk.propagate(activations, start).relevance[0], expected)


METHODS = ("lrp_epsilon", "lrp_alpha2_beta1", "lrp_gamma", "abslrp", "abslrp_eq12", "abslrp_normalised")


@pytest.mark.parametrize("name", LAYERS)
def test_relevance_passes_a_layer(name):
    """Every image by itself, and something arrives."""
    model, x = model_with(name)
    methods = [method for method in METHODS if method in {each.id for each in relmap.methods()}]
    maps = relmap.compare(model, x, 1, methods)
    alone = relmap.compare(model, x[1:], 1, methods)
    for method in methods:
        assert maps[method].shape == (2, *x.shape[2:]) and maps[method].isfinite().all(), method
        # Of a function that is nowhere positive, absLRP's equation lets nothing pass.
        assert (maps[method] != 0).any() or (name == "LogSigmoid" and "abslrp" in method), method
        torch.testing.assert_close(maps[method][1:], alone[method])


def test_log_softmax_at_the_end():
    """Log-probabilities are logits less a number: relevance is what it is without, gradients are those of the model."""
    torch.manual_seed(0)
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 25, 4)).double()
    x = torch.randn(2, 3, 7, 7, dtype=torch.float64).requires_grad_()
    for end in (nn.LogSoftmax(1), Function(lambda x: F.log_softmax(x, dim=-1)), Function(lambda x: x.log_softmax(1))):
        model = nn.Sequential(*plain, end)
        start = torch.randn(1, 2, 4, dtype=torch.float64)
        for composite in (composites.epsilon(), composites.alpha_beta()):
            walks = [Propagator(each).by(composite) for each in (model, plain)]
            a, b = (walk.propagate(walk.forward(x.detach()), start).relevance for walk in walks)
            torch.testing.assert_close(a, b)
        (expected,) = torch.autograd.grad(model(x)[:, 2].sum(), x)
        found = relmap.explain(model, x.detach(), 2, "input_x_gradient")
        torch.testing.assert_close(found, (x * expected).sum(1).detach())


class Blur(nn.Module):
    def forward(self, x):
        return F.avg_pool2d(x, 3, 1, 1).tanh()


class Swish(nn.Module):
    def forward(self, x):
        return x * torch.special.expit(x)


class Halving(nn.Module):
    def forward(self, x):
        return x.flip(-1) / 2


@pytest.mark.parametrize(
    ("layer", "kind", "fault"),
    [
        (nn.ConvTranspose2d(4, 4, 3, padding=1), "activation", "depend on values at other places"),
        (nn.GroupNorm(2, 4), "activation", "depend on values at other places"),
        (Blur(), "activation", "depend on values at other places"),
        (nn.ConvTranspose2d(4, 4, 2, 2), "activation", r"makes \(2, 4, 10, 10\) of \(2, 4, 5, 5\)"),
        (Swish(), "activation", None),
        (Swish(), "relu", "not max"),
        (Swish(), "reshape", "not linear"),
        (Swish(), "identity", "changes values"),
        (Halving(), "average_pool", None),
        (Halving(), "scale", "depend on values at other places"),
        (nn.ConvTranspose2d(4, 4, 3, padding=1, bias=False), "average_pool", "negative weights"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, nn.Module) else None,
)
def test_a_kind_by_name_is_tried_out(monkeypatch, layer, kind, fault):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), layer, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    monkeypatch.setitem(OPERATIONS, type(layer), kind)
    x, state = torch.randn(2, 3, 7, 7), torch.get_rng_state()
    if fault is None:
        assert relmap.explain(model, x, 1, "lrp_epsilon").isfinite().all()
        assert torch.equal(torch.get_rng_state(), state)
        return
    with pytest.raises(InputError, match=f"OPERATIONS says that {type(layer).__name__} is '{kind}', but .*{fault}"):
        relmap.explain(model, x, 1, "lrp_epsilon")


def test_advice_is_nothing_that_would_be_wrong():
    model = nn.Sequential(nn.Linear(3, 4), nn.LSTM(4, 4))
    with pytest.raises(InputError, match="it has weights") as error:
        trace(model)
    assert "activation" not in str(error.value)
