r"""The CLA-layer (CLAM, Sec. 3.2, Eq. 2 and 3).

A sub-feature :math:`S` is a P x P patch of a layer's features with the class pattern as its last channel. It is
normalised to unit RMS, passes the add-on block (two 1 x 1 convolutions), and is compared with every attribute
:math:`A_i` (D x A x A) at each window of the patch:

.. math::
    S' = \mathrm{AoL}(S / \|S\|), \qquad
    D_i(w) = \frac{1}{D A^2} \sum_{a, d} \big( S'_d(w + a) - A_{i,d}(a) \big)^2

Called, it takes patches. ``search`` gives the mean of a distance map for the patch at every position of a feature
map at once: the first 1 x 1 convolution is applied to the whole map before patches exist, and the P * P offsets inside
a patch become shifts of that map, so that nothing loops over positions. The mean over windows needs no distance maps,
for it is

.. math:: \overline{D_i} = \frac{1}{D A^2 w^2} \sum_o \big( n_o \|S'(o)\|^2 - 2 \langle S'(o), K_i(o) \rangle \big)
    + \frac{\|A_i\|^2}{D A^2}, \qquad K_i(o) = \sum_{a :\, o - a \in \text{windows}} A_i(a)

with o over the P * P offsets and n_o the number of windows that cover o.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from relmap.job.seeds import generator
from torch import Tensor, nn

from papers.clam.cla.sub_features import gather_patches

CACHED_ELEMENTS = 2**17


class ClaLayer(nn.Module):
    """Add-on block and attributes of one layer, for one explainer.

    Args:
        channels: D of the layer's features.
        attributes: N. patch: P. attribute_size: A < P.
        normalisation: ``sub_feature`` or ``position``: what is brought to unit RMS.
        add_on: ``linear`` or ``sigmoid`` end of the add-on block.
        distance: ``squared_l2`` or ``l2``.
        distance_over: ``mean`` or ``sum`` over the D A A elements of a window.
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
        distance_over: str = "mean",
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.patch, self.attribute_size = patch, attribute_size
        self.normalisation, self.add_on = normalisation, add_on
        self.distance, self.distance_over = distance, distance_over
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

    @property
    def _elements(self) -> int:
        """What a squared distance is divided by."""
        return self.attributes[0].numel() if self.distance_over == "mean" else 1

    def _mean_kernels(self) -> Tensor:
        """(N, D, P, P): K of the module's docstring, the sum of the attributes shifted to every window."""
        shifts = self.attributes.new_ones(1, 1, self.windows, self.windows)
        flat = self.attributes.flatten(0, 1)[:, None]
        return F.conv_transpose2d(flat, shifts).view(*self.attributes.shape[:2], self.patch, self.patch)

    def _second(self, hidden: Tensor) -> Tensor:
        out = F.linear(hidden, self.second_weight, self.second_bias)
        return out.sigmoid() if self.add_on == "sigmoid" else out

    def forward(self, patches: Tensor, patterns: Tensor) -> Tensor:
        """Distance maps of patches.

        Args:
            patches: (B, D, P, P) features.
            patterns: (B, P, P) class patterns at the features' scale.

        Returns:
            (B, N, P - A + 1, P - A + 1).
        """
        a, p = self.attribute_size, self.patch
        sub_features = torch.cat([patches, patterns[:, None]], 1).permute(0, 2, 3, 1)
        over = (1, 2, 3) if self.normalisation == "sub_feature" else (3,)
        sub_features = sub_features * torch.rsqrt(sub_features.square().mean(over, keepdim=True) + 1e-12)
        # Products of two matrices, which stay one product of a batch when several layers are fitted together.
        hidden = F.linear(sub_features.flatten(0, 2), self.first_weight, self.first_bias).relu()
        mapped = self._second(hidden).unflatten(0, (-1, p, p))
        # (B w w, D A A): every window of every patch.
        windows = mapped.unfold(1, a, 1).unfold(2, a, 1).flatten(3).flatten(0, 2)
        kernels = self.attributes.flatten(1)
        squared = windows.square().sum(1, keepdim=True) - 2 * windows @ kernels.T + kernels.square().sum(1)
        squared = squared.unflatten(0, (-1, self.windows, self.windows))
        squared = squared.clamp(min=0).permute(0, 3, 1, 2) / self._elements
        return squared if self.distance == "squared_l2" else (squared + 1e-12).sqrt()

    def search(self, features: Tensor, patterns: Tensor) -> Tensor:
        """Mean distance of the patch at every position.

        Args:
            features: (M, D, H, W).
            patterns: (M, P, P) class patterns at the features' scale.

        Returns:
            (M, N, H - P + 1, W - P + 1).
        """
        form = self._search_shifts if self.distance == "squared_l2" else self._search_patches
        # Few images at a time: the shifted maps then stay in a processor's cache, and laid out patches in memory.
        whole = features.device.type != "cpu" and self.distance == "squared_l2"
        some = len(features) if whole else max(1, CACHED_ELEMENTS // features[0].numel())
        parts = zip(features.split(some), patterns.split(some), strict=True)
        return torch.cat([form(*part) for part in parts])

    def _search_patches(self, features: Tensor, patterns: Tensor) -> Tensor:
        """The plain form, for distances whose mean is not linear in the attributes: all patches laid out."""
        patches = features.unfold(2, self.patch, 1).unfold(3, self.patch, 1).permute(0, 2, 3, 1, 4, 5)
        places = patches.shape[:3]
        repeated = patterns.repeat_interleave(places[1] * places[2], 0)
        return self(patches.flatten(0, 2), repeated).mean((2, 3)).unflatten(0, places).permute(0, 3, 1, 2)

    def _search_shifts(self, features: Tensor, patterns: Tensor) -> Tensor:
        p, a, w = self.patch, self.attribute_size, self.windows
        rows, columns = features.shape[2] - p + 1, features.shape[3] - p + 1
        features = features.permute(0, 2, 3, 1)
        mapped = F.linear(features, self.first_weight[:, :-1])
        energy = features.square().sum(3, keepdim=True)
        if self.normalisation == "sub_feature":
            total = F.avg_pool2d(energy.squeeze(3), p, 1)[..., None] * p * p
            total = total + patterns.square().sum((1, 2))[:, None, None, None]
            scale = torch.rsqrt(total / ((features.shape[3] + 1) * p * p) + 1e-12)
        kernels = self._mean_kernels()
        covering = F.conv_transpose2d(features.new_ones(1, 1, a, a), features.new_ones(1, 1, w, w))[0, 0]
        result = self.attributes.square().sum((1, 2, 3)) * (w * w)
        for y in range(p):
            for x in range(p):
                pattern = patterns[:, y, x, None]
                if self.normalisation == "position":
                    local = energy[:, y : y + rows, x : x + columns] + pattern.square()[:, None, None]
                    scale = torch.rsqrt(local / (features.shape[3] + 1) + 1e-12)
                shifted = mapped[:, y : y + rows, x : x + columns]
                hidden = (shifted + (pattern * self.first_weight[:, -1])[:, None, None]).mul_(scale)
                position = self._second(hidden.add_(self.first_bias).relu_())
                norm = (position * position).sum(3, keepdim=True)
                result = result + covering[y, x] * norm - 2 * F.linear(position, kernels[:, :, y, x])
        return result.permute(0, 3, 1, 2) / (self._elements * w * w)


def best_positions(layer: ClaLayer, features: Tensor, patterns: Tensor) -> tuple[Tensor, Tensor]:
    """Where each attribute fits best: the least mean distance over a patch's windows (Sec. 3.4).

    Args:
        features: (M, D, H, W). patterns: (M, P, P).

    Returns:
        positions (M, N, 2) as (row, column) of the patch's upper left corner, the first where several tie; and the
        attributes' distance maps there, (M, N, w, w).
    """
    means = layer.search(features, patterns)
    columns = means.shape[3]
    best = means.flatten(2).argmin(2)
    positions = torch.stack([best // columns, best % columns], 2)
    patches = gather_patches(features, positions, layer.patch)
    count = patches.shape[1]
    maps = layer(patches.flatten(0, 1), patterns.repeat_interleave(count, 0)).unflatten(0, (-1, count))
    return positions, maps.diagonal(dim1=1, dim2=2).movedim(-1, 1)
