r"""Attention Branch Network (Fukui et al. 2019) on a ResNet: a branch that classifies by itself makes an attention map.

With the features x of an inner stage, g the stages behind it and the branch's features :math:`b(x)`,

.. math::
    a = \sigma(\mathrm{BN}(W_a * h)), \qquad z = g(a \odot x) \text{ or } g((1 + a) \odot x), \qquad
    L = \mathrm{CE}(z, y) + \lambda \, \mathrm{CE}(\mathrm{mean}(W_c * h), y)

``resnet50``, the form that the group of C3-LRP has in its code (keio-smilab21/LambdaAttentionBranchNetworks): behind
``layer2``, :math:`a \odot x`, :math:`\lambda = 0.1`, b two bottlenecks to four times as many channels, h of 10,

.. math:: h = [W_1 * \mathrm{BN}(b)]^+, \qquad a = \sigma(\mathrm{BN}(w * [\mathrm{BN}(W_2 * h)]^+))

``official_resnet50``, the authors' (machine-perception-robotics-group/attention_branch_network): behind ``layer3``,
:math:`(1 + a) \odot x`, :math:`\lambda = 1`, b a copy of ``layer4`` that keeps the size, h of as many channels as
classes, and a by a 3 x 3 convolution,

.. math:: h = [\mathrm{BN}(W_1 * \mathrm{BN}(b))]^+, \qquad a = \sigma(\mathrm{BN}(w * h))

Convolutions of the branch have no bias, and all but the 3 x 3 are 1 x 1. The output is z alone.
"""

from __future__ import annotations

import copy
from abc import abstractmethod

from torch import Tensor, nn

from relmap.models import resnet
from relmap.torchvision_shim import torchvision

HIDDEN = 10
"""Channels of h in the group's form."""


class Branch(nn.Module):
    """Features (N, C, h, w) to an attention map (N, 1, h, w), and to logits."""

    @abstractmethod
    def hidden(self, features: Tensor) -> Tensor:
        """h: (N, channels, h, w)."""

    @abstractmethod
    def squashed(self, hidden: Tensor) -> Tensor:
        """a: (N, 1, h, w), between 0 and 1."""

    def forward(self, features: Tensor) -> Tensor:
        """The attention map."""
        return self.squashed(self.hidden(features))

    def both(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """The attention map and the branch's own logits (N, classes)."""
        hidden = self.hidden(features)
        return self.squashed(hidden), self.classes(hidden).mean((2, 3))


class GroupBranch(Branch):
    """The group's: ``channels`` of the features."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        block, wide = torchvision.models.resnet.Bottleneck, 4 * channels
        shortcut = nn.Sequential(_pointwise(channels, wide), nn.BatchNorm2d(wide))
        self.blocks = nn.Sequential(block(channels, channels, downsample=shortcut), block(wide, channels))
        self.bn1, self.conv1 = nn.BatchNorm2d(wide), _pointwise(wide, HIDDEN)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()
        self.conv2, self.bn2 = _pointwise(HIDDEN, HIDDEN), nn.BatchNorm2d(HIDDEN)
        self.conv3, self.bn3 = _pointwise(HIDDEN, 1), nn.BatchNorm2d(1)
        self.sigmoid = nn.Sigmoid()
        self.classes = _pointwise(HIDDEN, classes)

    def hidden(self, features: Tensor) -> Tensor:
        return self.relu1(self.conv1(self.bn1(self.blocks(features))))

    def squashed(self, hidden: Tensor) -> Tensor:
        return self.sigmoid(self.bn3(self.conv3(self.relu2(self.bn2(self.conv2(hidden))))))


class OfficialBranch(Branch):
    """The authors': a copy of ``stage`` without its stride."""

    def __init__(self, stage: nn.Sequential, classes: int) -> None:
        super().__init__()
        self.blocks = copy.deepcopy(stage)
        convolutions = [module for module in self.blocks.modules() if isinstance(module, nn.Conv2d)]
        for convolution in convolutions:
            convolution.stride = (1, 1)
        # The last of a block's own layers; its shortcut's comes after them.
        last = getattr(self.blocks[-1], "conv3", self.blocks[-1].conv2)
        self.bn1, self.conv1 = nn.BatchNorm2d(last.out_channels), _pointwise(last.out_channels, classes)
        self.bn2, self.relu = nn.BatchNorm2d(classes), nn.ReLU()
        self.conv3, self.bn3 = nn.Conv2d(classes, 1, 3, padding=1, bias=False), nn.BatchNorm2d(1)
        self.sigmoid = nn.Sigmoid()
        self.classes = _pointwise(classes, classes)

    def hidden(self, features: Tensor) -> Tensor:
        return self.relu(self.bn2(self.conv1(self.bn1(self.blocks(features)))))

    def squashed(self, hidden: Tensor) -> Tensor:
        return self.sigmoid(self.bn3(self.conv3(hidden)))


def _pointwise(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 1, bias=False)


class AttentionBranchNetwork(nn.Module):
    """A ResNet whose features are weighed by a branch's attention; layers keep their names.

    Args:
        backbone: its parts are taken, not copied.
        behind: name of the stage whose features are weighed.
        branch: makes the attention.
        residual: whether features are weighed by 1 + a instead of a.
        weight: of the branch's loss.

    Attributes:
        attention_map: name of the layer whose output is the attention.
    """

    attention_map = "attention_branch.sigmoid"

    def __init__(self, backbone: nn.Module, behind: str, branch: Branch, *, residual: bool, weight: float) -> None:
        super().__init__()
        self.residual, self.weight = residual, weight
        self._before: list[str] = []
        self._after: list[str] = []
        names = self._before
        for name, part in backbone.named_children():
            if name == "fc":
                continue
            self.add_module(name, part)
            names.append(name)
            if name == behind:
                self.attention_branch, names = branch, self._after
        self.fc = backbone.fc

    def features(self, images: Tensor) -> Tensor:
        """What the branch looks at: (N, C, h, w) of images (N, 3, H, W)."""
        for name in self._before:
            images = getattr(self, name)(images)
        return images

    def attention(self, images: Tensor) -> Tensor:
        """The attention map (N, 1, h, w) of images (N, 3, H, W)."""
        return self.attention_branch(self.features(images))

    def forward(self, images: Tensor) -> Tensor:
        features = self.features(images)
        return self._weighed(features, self.attention_branch(features))

    def weighted_heads(self, images: Tensor) -> list[tuple[float, Tensor]]:
        """What it is trained for (``objective.heads``): its output, and the branch's."""
        features = self.features(images)
        attention, logits = self.attention_branch.both(features)
        return [(1.0, self._weighed(features, attention)), (self.weight, logits)]

    def _weighed(self, features: Tensor, attention: Tensor) -> Tensor:
        values = features * attention
        values = values + features if self.residual else values
        for name in self._after:
            values = getattr(self, name)(values)
        return self.fc(values.flatten(1))


def resnet50(classes: int, width: float, input_size: int) -> AttentionBranchNetwork:
    """The group's form on ResNet-50."""
    return group_form(resnet.resnet50(classes, width, input_size), classes)


def official_resnet50(classes: int, width: float, input_size: int) -> AttentionBranchNetwork:
    """The authors' form on ResNet-50."""
    return official_form(resnet.resnet50(classes, width, input_size), classes)


def group_form(backbone: nn.Module, classes: int, *, behind: str = "layer2") -> AttentionBranchNetwork:
    """The group's form on any of torchvision's ResNets."""
    last = getattr(backbone, behind)[-1]
    branch = GroupBranch(getattr(last, "conv3", last.conv2).out_channels, classes)
    return AttentionBranchNetwork(backbone, behind, branch, residual=False, weight=0.1)


def official_form(backbone: nn.Module, classes: int) -> AttentionBranchNetwork:
    """The authors' form on any of torchvision's ResNets."""
    branch = OfficialBranch(backbone.layer4, classes)
    return AttentionBranchNetwork(backbone, "layer3", branch, residual=True, weight=1.0)
