"""Random small networks for property tests: a list of blocks, and the seed of their weights.

Images are (N, 3, 10, 9), logits (N, 4). Every ReLU is a module ``relu``, so that a test can exchange it.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

IMAGE, CLASSES, CHANNELS = (3, 10, 9), 4, 4


class Chain(nn.Module):
    """Convolutions, or other layers, with a ReLU after the last."""

    def __init__(self, relu: nn.Module, *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.relu = nn.Sequential(*layers), relu

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.layers(x))


class PreActivation(Chain):
    """The layers see what the ReLU leaves; what goes on is signed."""

    def forward(self, x: Tensor) -> Tensor:
        norm, conv = self.layers
        return conv(self.relu(norm(x)))


class Residual(Chain):
    def forward(self, x: Tensor) -> Tensor:
        y = self.layers(x)
        y += x
        return self.relu(y)


class Gate(Chain):
    """A sum in which one operand is broadcast, in either place."""

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.adaptive_avg_pool2d(self.relu(self.layers(x)), 1)
        return y + (x + y)


class Concatenated(Chain):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x, self.relu(self.layers(x))], 1)


class Rows(Chain):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.relu(self.layers(x)), x], dim=-2)


class Shared(Chain):
    """The same layers twice."""

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.layers(self.relu(self.layers(x))))


class Doubled(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + x


class Twice(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat((x, x), 1)


@dataclass(frozen=True)
class Maker:
    """What a block is built with."""

    channels: int
    bias: bool
    relu: Callable[[], nn.Module]

    def conv(self, kernel=3, padding=1, out: int | None = None, **more) -> nn.Conv2d:
        return nn.Conv2d(self.channels, out or self.channels, kernel, padding=padding, bias=self.bias, **more)

    def norm(self) -> nn.BatchNorm2d:
        return nn.BatchNorm2d(self.channels)


PLAIN: dict[str, Callable[[Maker], nn.Module]] = {
    "conv": lambda m: Chain(m.relu(), m.conv()),
    "uneven": lambda m: Chain(m.relu(), m.conv((3, 2), (1, 0), stride=(2, 1))),
    "grouped": lambda m: Chain(m.relu(), m.conv(3, 2, dilation=2, groups=2)),
    "depthwise": lambda m: Chain(m.relu(), m.conv(groups=m.channels), m.relu(), m.conv(1, 0)),
    "max": lambda m: nn.MaxPool2d(3, 2, 1),
    "ceil": lambda m: nn.MaxPool2d(2, ceil_mode=True),
    "average": lambda m: nn.AvgPool2d(2, ceil_mode=True, count_include_pad=False),
    "overlapping": lambda m: nn.AvgPool2d(3, 1, 1),
    "adaptive": lambda m: nn.AdaptiveAvgPool2d((3, 4)),
    "residual": lambda m: Residual(m.relu(), m.conv(), m.relu(), m.conv()),
    "gate": lambda m: Gate(m.relu(), m.conv(1, 0)),
    "concatenated": lambda m: Concatenated(m.relu(), m.conv(3, 1, 2)),
    "rows": lambda m: Rows(m.relu(), m.conv((2, 1), 0)),
    "shared": lambda m: Shared(m.relu(), m.conv()),
    "doubled": lambda m: Doubled(),
    "twice": lambda m: Twice(),
}
NORMED: dict[str, Callable[[Maker], nn.Module]] = {
    "norm": lambda m: Chain(m.relu(), m.conv(), m.norm()),
    "pre_activation": lambda m: PreActivation(m.relu(), m.norm(), m.conv()),
    "residual_norm": lambda m: Residual(m.relu(), m.conv(1, 0), m.norm(), m.relu(), m.conv(), m.norm()),
    "shared_norm": lambda m: Shared(m.relu(), m.conv(), m.norm()),
}
BLOCKS = PLAIN | NORMED


class Network(nn.Module):
    def __init__(self, blocks: tuple[str, ...], seed: int, bias: bool = True, inplace: bool = False) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.label = f"Network({blocks}, {seed}, {bias}, {inplace})"
        self.stem = Chain(nn.ReLU(inplace), nn.Conv2d(IMAGE[0], CHANNELS, 3, padding=1, bias=bias))
        self.blocks, channels = nn.Sequential(), CHANNELS
        for name in blocks:
            self.blocks.append(BLOCKS[name](Maker(channels, bias, lambda: nn.ReLU(inplace))))
            channels = self._shape()[1]
        self.linear = nn.Linear(self._shape().numel(), CLASSES, bias=bias)
        for norm in (module for module in self.modules() if isinstance(module, nn.BatchNorm2d)):
            norm.running_mean.normal_(0, 0.3)
            norm.running_var.uniform_(0.5, 2)
            nn.init.normal_(norm.weight)
            nn.init.normal_(norm.bias, 0, 0.3)
        self.double().eval()

    @torch.no_grad()
    def _shape(self) -> torch.Size:
        self.eval()
        return self.blocks(self.stem(torch.zeros(1, *IMAGE))).shape

    def __repr__(self) -> str:  # what hypothesis prints of a network that breaks a law
        return self.label

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(torch.flatten(self.blocks(self.stem(x)), 1))


def lists(blocks=tuple(BLOCKS), most: int = 4):
    return st.lists(st.sampled_from(sorted(blocks)), min_size=1, max_size=most).map(tuple)


def networks(blocks=tuple(BLOCKS), bias: bool | None = None, most: int = 4):
    biases = st.booleans() if bias is None else st.just(bias)
    return st.builds(Network, lists(blocks, most), st.integers(0, 1000), biases, st.booleans())
