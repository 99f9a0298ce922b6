"""Slow, dense statements of the rules: a layer as an explicit matrix, a rule's equation as explicit sums.

Everything here treats one image and one start. ``w`` (J, I) and ``b`` (J,) are the matrix and the bias of a layer,
``x`` (I,) is its input and ``r`` (J,) the relevance of its output. ``w * x`` holds the share ``w_ij x_i`` of input i in
output j.
"""

import itertools

import torch
from torch import Tensor


def seeded(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def matrix(run, shape: torch.Size) -> tuple[Tensor, Tensor]:
    """Matrix (J, I) and bias (J,) of an affine function of one image of this shape, by unit vectors."""
    bias = run(torch.zeros(1, *shape, dtype=torch.float64)).flatten()
    columns = [
        run(unit.view(1, *shape)).flatten() - bias for unit in torch.eye(torch.Size(shape).numel(), dtype=torch.float64)
    ]
    return torch.stack(columns, 1), bias


def ratio(r: Tensor, z: Tensor) -> Tensor:
    """r / z, 0 where z is 0."""
    return torch.where(z == 0, 0, r / torch.where(z == 0, 1, z))


def widened(z: Tensor, epsilon: float) -> Tensor:
    """z + epsilon sign(z), where the sign of 0 is 1."""
    return torch.where(z < 0, z - epsilon, z + epsilon)


def epsilon(w: Tensor, b: Tensor, x: Tensor, r: Tensor, *, epsilon: float, bias: bool = True) -> Tensor:
    shares = w * x
    z = shares.sum(1) + (b if bias else 0)
    return shares.T @ ratio(r, widened(z, epsilon))


def alpha_beta(
    w: Tensor, b: Tensor, x: Tensor, r: Tensor, *, alpha: float, beta: float, bias: bool = False, epsilon: float = 0
) -> Tensor:
    b = b if bias else torch.zeros_like(b)
    positive, negative = (w * x).clamp(min=0), (w * x).clamp(max=0)
    up = positive.T @ ratio(r, positive.sum(1) + b.clamp(min=0) + epsilon)
    down = negative.T @ ratio(r, negative.sum(1) + b.clamp(max=0) - epsilon)
    return alpha * up - beta * down


def gamma(w: Tensor, b: Tensor, x: Tensor, r: Tensor, *, gamma: float, epsilon: float, bias: bool = True) -> Tensor:
    total = torch.zeros_like(x)
    for j in range(len(r)):
        shares = w[j] * x
        output = shares.sum() + b[j]
        if output == 0:
            continue
        sign = output.sign()
        favoured = sign * (sign * shares).clamp(min=0)
        own = b[j] + gamma * sign * (sign * b[j]).clamp(min=0) if bias else 0
        parts = shares + gamma * favoured
        total += parts * r[j] / widened(parts.sum() + own, epsilon)
    return total


def flat(reach: Tensor, r: Tensor) -> Tensor:
    """``reach`` (J, I) is 1 where input i is in the receptive field of output j; a field with no input loses it."""
    return reach.T @ ratio(r, reach.sum(1))


def box(w: Tensor, x: Tensor, r: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """``low`` and ``high`` (I,). A share is ``w (x - low)`` where w is positive and ``w (x - high)`` where negative."""
    shares = torch.where(w > 0, w * (x - low), w * (x - high))
    return shares.T @ ratio(r, shares.sum(1))


def gradient(w: Tensor, b: Tensor, x: Tensor, r: Tensor) -> Tensor:
    return w.T @ r


def part(x: Tensor, name: str) -> Tensor:
    return {"signed": x, "positive": x.clamp(min=0), "absolute": x.abs()}[name]


def shared(w: Tensor, contributions: Tensor, r: Tensor, epsilon: float = 0.0) -> Tensor:
    """Proportional shares of an operation that is linear with weights that are not negative."""
    shares = w * contributions
    return shares.T @ ratio(r, widened(shares.sum(1), epsilon))


def winners(x: Tensor, r: Tensor, kernel, stride, padding, dilation) -> Tensor:
    """All relevance of a window to its first maximum in rows and columns, window by window; x (C, H, W)."""
    pairs = [(v, v) if isinstance(v, int) else v for v in (kernel, stride, padding, dilation)]
    (ky, kx), (sy, sx), (py, px), (dy, dx) = pairs
    result = torch.zeros_like(x)
    for c, oy, ox in itertools.product(*(range(size) for size in r.shape)):
        window = [(oy * sy - py + a * dy, ox * sx - px + b * dx) for a in range(ky) for b in range(kx)]
        window = [(y, q) for y, q in window if 0 <= y < x.shape[1] and 0 <= q < x.shape[2]]
        y, q = max(window, key=lambda place: x[c, *place].item())
        result[c, y, q] += r[c, oy, ox]
    return result


def bilinear(a: Tensor, b: Tensor, r: Tensor, epsilon: float, scale: float = 1.0) -> tuple[Tensor, Tensor]:
    """Halves of ``o = scale a b`` (AttnLRP): a (Q, I), b (I, P), r (Q, P), by the sum over single products."""
    output = scale * a @ b
    left, right = torch.zeros_like(a), torch.zeros_like(b)
    for q, i, p in itertools.product(range(a.shape[0]), range(a.shape[1]), range(b.shape[1])):
        share = scale * a[q, i] * b[i, p] * r[q, p] / (2 * widened(output[q, p], epsilon))
        left[q, i] += share
        right[i, p] += share
    return left, right


def softmax_taylor(x: Tensor, r: Tensor) -> Tensor:
    """First-order Taylor shares of a softmax over one vector: ``x_i sum_j (ds_j / dx_i) r_j / s_j`` with r_j per s_j.

    With the relevance of output j read as ``r_j = s_j g_j`` this is ``x_i sum_j s_j ([i = j] - s_i) g_j``.
    """
    s = (x - x.max()).exp()
    s = s / s.sum()
    jacobian = torch.diag(s) - torch.outer(s, s)
    return x * (jacobian.T @ ratio(r, s))
