"""Methods of the LRP family that share a walk, propagated together: their passes are one batch of starts.

CLAM's explainers differ in their starts alone, so that one propagation serves them all, each refined by CLA-layers of
its own. Contrastive ones take two passes, the target's and the others' (``relmap.explainers.contrastive``), both
refined by the same layers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from relmap.errors import InputError
from relmap.explainers.base import Relevance
from relmap.propagation import Activations, Walk, starts
from torch import Tensor

from papers.clam.cla.refinement import Refine


@dataclass(frozen=True)
class Together:
    """K methods, each for one target of every image.

    Attributes:
        methods: of one walk.

    Raises:
        InputError: they do not share a walk.
    """

    methods: Sequence[Relevance]

    def __post_init__(self) -> None:
        if any(method.walk.composite != self.walk.composite for method in self.methods):
            raise InputError("methods that are propagated together must have the same rules")

    @property
    def walk(self) -> Walk:
        return self.methods[0].walk

    def propagate(
        self,
        activations: Activations,
        targets: Tensor,
        masks: Mapping[str, Tensor],
        *,
        stop: str = "input",
        capture: Iterable[str] = (),
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Relevance of each method.

        Args:
            activations: of a forward pass of N images that kept what the walk needs.
            targets: (K, N), those of each method.
            masks: operation -> (K, N, 1, H, W), by which each method's relevance is multiplied there.
            stop: operation at whose output to stop.
            capture: further operations whose relevance to keep on the way.

        Returns:
            (K, N, ...) at ``stop``, and the same of each operation in ``capture``.
        """
        passes = [len(method.starts) for method in self.methods]
        owners = torch.arange(len(passes)).repeat_interleave(torch.tensor(passes))
        start = torch.cat(
            [
                starts.stacked(start, activations.logits.double(), of_one[None])
                for method, of_one in zip(self.methods, targets, strict=True)
                for start in method.starts
            ]
        )
        result = self.walk.propagate(
            activations,
            start,
            stop=stop,
            capture=capture,
            transforms={name: Refine(mask[owners]) for name, mask in masks.items()},
        )

        def combined(stacked: Tensor) -> Tensor:
            parts = zip(self.methods, stacked.split(passes), strict=True)
            return torch.cat([method.combined(part.split(1)) for method, part in parts])

        return combined(result.relevance), {name: combined(value) for name, value in result.captured.items()}
