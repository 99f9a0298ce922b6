"""Whether an operation is of the kind that it was said to be, tried out on the first values that it meets.

A kind by name (``OPERATIONS[MySwish] = "activation"``) is a claim, and no rule would notice a false one: relevance
would pass a transposed convolution as if it were a function of each value by itself. So the claim is tried once: half
of the values are changed, and of a pointwise function the other half of the results must stay.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from relmap.errors import InputError

ENOUGH = 16
"""So many values show that a claim is false; of fewer it is tried again on the next."""


def checked(kind: str, run: Callable[..., Tensor], what: str) -> Callable[..., Tensor]:
    """``run``, whose first call makes sure that it is of its kind.

    Raises:
        InputError: on that call, where it is not; ``what`` names it.
    """
    claims = CLAIMS.get(kind, ())
    done = not claims

    def forward(x: Tensor, *others: object) -> Tensor:
        nonlocal done
        result = run(x, *others)
        if not done and x.is_floating_point():
            with torch.no_grad():
                _try_out(kind, claims, lambda value: run(value, *others), x.detach(), result.detach(), what)
            done = x.numel() >= ENOUGH
        return result

    return forward


Claim = Callable[[Callable[[Tensor], Tensor], Tensor, Tensor], str | None]


def _try_out(
    kind: str, claims: tuple[Claim, ...], run: Callable[[Tensor], Tensor], x: Tensor, result: Tensor, what: str
) -> None:
    for claim in claims:
        fault = claim(run, x, result)
        if fault:
            raise InputError(
                f"OPERATIONS says that {what} is {kind!r}, but {fault}: give OPERATIONS a function of the module that "
                "returns its Primitive, such as Primitive.of(affine, 'linear'), or replace it"
            )


def _noise(x: Tensor) -> Tensor:
    """Of the size of ``x``, always the same, without a change to torch's own random numbers."""
    generator = torch.Generator(x.device).manual_seed(0)
    spread = x.abs().amax().nan_to_num(1, 1, 1).clamp(min=1e-3) if x.numel() else 1
    return (0.5 + torch.rand(x.shape, generator=generator, dtype=x.dtype, device=x.device)) * spread


def _close(a: Tensor, b: Tensor) -> bool:
    scale = b.abs().nan_to_num(0, 0, 0).amax().item() if b.numel() else 0.0
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4 * scale, equal_nan=True)


def pointwise(run: Callable[[Tensor], Tensor], x: Tensor, result: Tensor) -> str | None:
    if result.shape != x.shape:
        return f"it makes {tuple(result.shape)} of {tuple(x.shape)}"
    noise = _noise(x)
    kept = noise > noise.median()
    other = run(torch.where(kept, x, x + noise))
    return None if _close(other[kept], result[kept]) else "its results depend on values at other places"


def linear(run: Callable[[Tensor], Tensor], x: Tensor, result: Tensor) -> str | None:
    noise = _noise(x)
    return None if _close(run(x + noise), result + run(noise)) else "it is not linear"


def never_negative(run: Callable[[Tensor], Tensor], x: Tensor, result: Tensor) -> str | None:
    return None if (run(_noise(x)) >= 0).all() else "it has negative weights"


def unchanged(run: Callable[[Tensor], Tensor], x: Tensor, result: Tensor) -> str | None:
    return None if result.shape == x.shape and _close(result.to(x.dtype), x) else "it changes values"


def rectifying(run: Callable[[Tensor], Tensor], x: Tensor, result: Tensor) -> str | None:
    return None if result.shape == x.shape and _close(result, x.clamp(min=0)) else "it is not max(x, 0)"


CLAIMS: dict[str, tuple[Claim, ...]] = {
    "relu": (rectifying,),
    "gelu": (pointwise,),
    "activation": (pointwise,),
    "identity": (unchanged,),
    "scale": (pointwise, linear),
    "reshape": (linear, never_negative),
    "average_pool": (linear, never_negative),
}
"""Kind -> what makes it that kind."""
