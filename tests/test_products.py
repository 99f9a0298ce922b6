"""Products with what is not the image: relevance goes to what depends on it, however the model spells them."""

import pytest
import relmap
import torch
import torch.nn.functional as F
from relmap.network import trace
from torch import Tensor, nn


class Net(nn.Module):
    """A convolution, a function of its (N, 8, 7, 7) output, a mean, a linear layer; no biases."""

    def __init__(self, function) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.head = nn.Conv2d(3, 8, 3, bias=False), nn.Linear(8, 4, bias=False)
        self.gate, self.mix = nn.Parameter(torch.randn(8)), nn.Parameter(torch.randn(49, 49))
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.function(self, self.conv(x)).mean((2, 3)))


def images() -> Tensor:
    return torch.randn(3, 3, 9, 9, generator=torch.Generator().manual_seed(1)).double()


def overwritten(net, h):
    h = h.clone()
    h[:, :, :3] = 0
    return h


def rectified_in_place(net, h):
    h[h < 0] = 0
    return h


MASK = (torch.arange(49.0).view(7, 7) % 3 > 0).double()
LINEAR = {
    "mask of numbers": lambda net, h: h * MASK,
    "mask on the left": lambda net, h: MASK[None, None] * h,
    "boolean mask": lambda net, h: h * MASK.bool(),
    "constant": lambda net, h: h * torch.tensor(-2.0),
    "gate of a parameter": lambda net, h: torch.sigmoid(net.gate)[:, None, None] * h,
    "divided by a parameter": lambda net, h: h / (1 + net.gate.exp())[:, None, None],
    "mask of the values": lambda net, h: h * (h > 0),
    "mask of the values as numbers": lambda net, h: h * (h > 0).double(),
    "masked_fill": lambda net, h: h.masked_fill(h < 0, 0),
    "where": lambda net, h: torch.where(h > 0, h, torch.zeros_like(h)),
    "where of a number": lambda net, h: torch.where(h > 0, h, 0.0),
    "where of two parts": lambda net, h: torch.where(MASK.bool(), h, 3 * h),
    "a part overwritten": overwritten,
    "values overwritten": rectified_in_place,
    "product from the left": lambda net, h: (
        (net.mix @ h.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, (7, 7))
    ),
    "product from the right": lambda net, h: (h.flatten(2) @ net.mix).unflatten(2, (7, 7)),
    "einsum": lambda net, h: torch.einsum("ncp,pq->ncq", h.flatten(2), net.mix).unflatten(2, (7, 7)),
    "einsum, other order": lambda net, h: torch.einsum("qp,ncp->nqc", net.mix, h.flatten(2)).mT.unflatten(2, (7, 7)),
    "product with a stack of matrices": lambda net, h: (torch.stack([net.mix] * 8) @ h.flatten(2)[..., None])[
        ..., 0
    ].unflatten(2, (7, 7)),
}


@pytest.mark.parametrize("name", LINEAR)
def test_lrp_0_is_input_times_gradient_and_keeps_its_total(name):
    model, x = Net(LINEAR[name]).double().eval(), images()
    torch.testing.assert_close(relmap.Propagator(model).forward(x).logits, model(x).detach())
    with torch.enable_grad():
        (gradient,) = torch.autograd.grad(model(x.requires_grad_())[:, 1].sum(), x)
    maps = relmap.explain(model, x.detach(), 1, "lrp_zero")
    torch.testing.assert_close(maps, (gradient * x).sum(1).detach(), rtol=1e-6, atol=1e-6 * maps.abs().max().item())
    torch.testing.assert_close(maps.sum((1, 2)), model(x)[:, 1].detach())
    found = relmap.explain(model, x.detach(), 1, "input_x_gradient")
    torch.testing.assert_close(found, (gradient * x).sum(1).detach())


SPELLINGS = {name: LINEAR[name] for name in list(LINEAR) if "values" in name or name in ("masked_fill", "where")}
METHODS = [
    "lrp_epsilon",
    "lrp_gamma",
    "lrp_alpha1_beta0",
    "lrp_alpha2_beta1",
    "clrp",
    "rap",
    "saliency",
    "input_x_gradient",
]


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", SPELLINGS)
def test_a_relu_is_one_however_it_is_spelt(name, method):
    x = images()
    ours, plain = (
        relmap.explain(Net(f).double().eval(), x, 1, method) for f in (SPELLINGS[name], lambda net, h: h.relu())
    )
    torch.testing.assert_close(ours, plain, rtol=1e-6, atol=1e-8 * plain.abs().max().item())


class Head(nn.Module):
    def __init__(self, spell) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.w, self.b = nn.Conv2d(3, 8, 3), nn.Parameter(torch.randn(8, 4)), nn.Parameter(torch.randn(4))
        self.kernel, self.shift = nn.Parameter(torch.randn(8, 8, 1, 1)), nn.Parameter(torch.randn(8))
        self.spell = spell

    def forward(self, x: Tensor) -> Tensor:
        return self.spell(self, self.conv(x).relu())


def plainly(net, h):
    return F.linear(F.conv2d(h, net.kernel, net.shift).relu().mean((2, 3)), net.w.T, net.b)


def mixed(net, h):
    return (F.conv2d(h, net.kernel) + net.shift[:, None, None]).relu().mean((2, 3))


AFFINE = {
    "h @ w + b": lambda net, h: mixed(net, h) @ net.w + net.b,
    "b + h @ w": lambda net, h: net.b[None] + mixed(net, h) @ net.w,
    "addmm": lambda net, h: torch.addmm(net.b, mixed(net, h), net.w),
    "einsum": lambda net, h: torch.einsum("nc,co->no", mixed(net, h), net.w) + net.b,
    "two constants": lambda net, h: mixed(net, h) @ net.w + (net.b - 1) + 1,
    "less": lambda net, h: mixed(net, h) @ net.w - -net.b,
}


@pytest.mark.parametrize("method", ["lrp_epsilon", "lrp_alpha1_beta0", "clrp", "abslrp", "rap", "lrp_gamma"])
@pytest.mark.parametrize("name", AFFINE)
def test_an_affine_layer_is_one_however_it_is_spelt(name, method):
    x = images()
    ours, plain = (relmap.explain(Head(f).double().eval(), x, 1, method) for f in (AFFINE[name], plainly))
    torch.testing.assert_close(ours, plain, rtol=1e-8, atol=1e-10 * plain.abs().max().item())


def test_a_bias_belongs_to_a_layer_that_nothing_else_reads():
    graph = trace(Head(lambda net, h: (lambda y: (y + net.b) * y)(mixed(net, h) @ net.w)).eval())
    assert [operation.kind for operation in graph][-3:] == ["parameter", "add", "multiply"]
