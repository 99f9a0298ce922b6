"""The toy network: three convolutions, a mean over places, one linear layer."""

from torch import nn


def three_layers(classes: int, width: float, input_size: int) -> nn.Module:
    """Channels 16, 32, 64 at width 1."""
    channels = [3, *(max(1, round(count * width)) for count in (16, 32, 64))]
    network = nn.Sequential()
    for place in range(3):
        network.add_module(f"conv{place}", nn.Conv2d(channels[place], channels[place + 1], 3, padding=1))
        network.add_module(f"relu{place}", nn.ReLU())
        network.add_module(f"pool{place}", nn.MaxPool2d(2))
    network.add_module("mean", nn.AdaptiveAvgPool2d(1))
    network.add_module("flatten", nn.Flatten())
    network.add_module("classifier", nn.Linear(channels[3], classes))
    return network
