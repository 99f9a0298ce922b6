r"""The CLA-layer (CLAM, Sec. 3.2, Eq. 2 and 3).

A sub-feature :math:`S` is a P x P patch of a layer's features with the class pattern as its last channel. It is
normalised to unit RMS, passes the add-on block (two 1 x 1 convolutions), and is compared with every attribute
:math:`A_i` (D x A x A) at each window of the patch:

.. math::
    S' = \mathrm{AoL}(S / \|S\|), \qquad
    D_i(w) = \frac{1}{D A^2} \sum_{a, d} \big( S'_d(w + a) - A_{i,d}(a) \big)^2

``distances`` takes patches. ``search`` gives the same for the patch at every position of a feature map at once: the
first 1 x 1 convolution is applied to the whole map before patches exist, and the P * P offsets inside a patch become
shifts of that map, so that nothing loops over positions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from relmap.seeds import generator


class ClaLayer(nn.Module):
    """Add-on block and attributes of one layer, for one explainer.

    Args:
        channels: D of the layer's features.
        attributes: N. patch: P. attribute_size: A < P.
        normalisation: ``sub_feature`` or ``position``: what is brought to unit RMS.
        add_on: ``linear`` or ``sigmoid`` end of the add-on block.
        distance: ``squared_l2`` or ``l2``.
        seed: of the initial weights.
    """

    def __init__(
        self,
        channels: int,
        attributes: int,
        patch: int,
        attribute_size: int,
        *,
        normalisation: str = "sub_feature",
        add_on: str = "linear",
        distance: str = "squared_l2",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.patch, self.attribute_size = patch, attribute_size
        self.normalisation, self.add_on, self.distance = normalisation, add_on, distance
        random = generator(seed, "cla-layer")
        fan = channels + 1
        self.first_weight = nn.Parameter(torch.randn(channels, fan, generator=random) * (2 / fan) ** 0.5)
        self.first_bias = nn.Parameter(torch.zeros(channels))
        self.second_weight = nn.Parameter(torch.randn(channels, channels, generator=random) * channels**-0.5)
        self.second_bias = nn.Parameter(torch.zeros(channels))
        shape = (attributes, channels, attribute_size, attribute_size)
        self.attributes = nn.Parameter(torch.rand(shape, generator=random))

    @property
    def windows(self) -> int:
        """Side of a distance map, P - A + 1."""
        return self.patch - self.attribute_size + 1

    def _finish(self, squared: Tensor) -> Tensor:
        squared = squared.clamp(min=0) / self.attributes[0].numel()
        return squared if self.distance == "squared_l2" else (squared + 1e-12).sqrt()

    def _second(self, hidden: Tensor) -> Tensor:
        out = F.conv2d(hidden, self.second_weight[:, :, None, None], self.second_bias)
        return out.sigmoid() if self.add_on == "sigmoid" else out

    def distances(self, patches: Tensor, patterns: Tensor) -> Tensor:
        """Distance maps of patches.

        Args:
            patches: (B, D, P, P) features.
            patterns: (B, P, P) class patterns at the features' scale.

        Returns:
            (B, N, P - A + 1, P - A + 1).
        """
        sub_features = torch.cat([patches, patterns[:, None]], 1)
        over = (1, 2, 3) if self.normalisation == "sub_feature" else (1,)
        sub_features = sub_features * torch.rsqrt(sub_features.square().mean(over, keepdim=True) + 1e-12)
        hidden = F.conv2d(sub_features, self.first_weight[:, :, None, None], self.first_bias).relu()
        mapped = self._second(hidden)
        norms = F.avg_pool2d(mapped.square().sum(1, keepdim=True), self.attribute_size, 1) * self.attribute_size**2
        products = F.conv2d(mapped, self.attributes)
        return self._finish(norms - 2 * products + self.attributes.square().sum((1, 2, 3))[:, None, None])

    def search(self, features: Tensor, patterns: Tensor) -> Tensor:
        """Distance maps of the patch at every position.

        Args:
            features: (M, D, H, W).
            patterns: (M, P, P) class patterns at the features' scale.

        Returns:
            (M, N, P - A + 1, P - A + 1, H - P + 1, W - P + 1).
        """
        p, a, w = self.patch, self.attribute_size, self.windows
        rows, columns = features.shape[2] - p + 1, features.shape[3] - p + 1
        mapped = F.conv2d(features, self.first_weight[:, :-1, None, None])
        energy = features.square().sum(1, keepdim=True)
        if self.normalisation == "sub_feature":
            total = F.avg_pool2d(energy, p, 1) * p * p + patterns.square().sum((1, 2))[:, None, None, None]
            scale = torch.rsqrt(total / ((features.shape[1] + 1) * p * p) + 1e-12)
        attributes = self.attributes.permute(2, 3, 0, 1).flatten(0, 2)[:, :, None, None]
        squared = features.new_zeros(len(features), len(self.attributes), w, w, rows, columns)
        for y in range(p):
            for x in range(p):
                pattern = patterns[:, y, x, None]
                if self.normalisation == "position":
                    local = energy[:, :, y : y + rows, x : x + columns] + pattern.square()[:, :, None, None]
                    scale = torch.rsqrt(local / (features.shape[1] + 1) + 1e-12)
                shifted = mapped[:, :, y : y + rows, x : x + columns]
                hidden = (shifted + (pattern * self.first_weight[:, -1])[:, :, None, None]) * scale
                position = self._second((hidden + self.first_bias[:, None, None]).relu())
                norm = position.square().sum(1, keepdim=True)
                products = F.conv2d(position, attributes).unflatten(1, (a, a, -1))
                for i in range(max(0, y - a + 1), min(w, y + 1)):
                    for j in range(max(0, x - a + 1), min(w, x + 1)):
                        squared[:, :, i, j] += norm - 2 * products[:, y - i, x - j]
        squared += self.attributes.square().sum((1, 2, 3))[:, None, None, None, None]
        return self._finish(squared)


def best_positions(distances: Tensor) -> tuple[Tensor, Tensor]:
    """Where each attribute fits best: the least mean distance over a patch's windows (Sec. 3.4).

    Args:
        distances: (M, N, w, w, H', W') as ``ClaLayer.search`` gives them.

    Returns:
        positions (M, N, 2) as (row, column) of the patch's upper left corner, the first where several tie; and the
        distance maps there, (M, N, w, w).
    """
    columns = distances.shape[-1]
    flat = distances.flatten(4)
    best = flat.mean((2, 3)).argmin(2)
    index = best[:, :, None, None, None].expand(*flat.shape[:4], 1)
    return torch.stack([best // columns, best % columns], 2), flat.gather(4, index).squeeze(4)
