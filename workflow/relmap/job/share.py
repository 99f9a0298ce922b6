"""One job's share of work that several jobs divide: what they make together does not depend on how many they are.

Work is a list of blocks that no job divides further, and a share is a run of whole blocks. A batch, and so what a float
rounds to, is then the same whichever job has it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Share:
    """The ``number``-th of ``count`` shares, from 1; the only one by default."""

    number: int = 1
    count: int = 1

    @classmethod
    def parse(cls, text: str) -> Share:
        """Out of Snakemake's name of a scattered item, such as ``2-of-8``.

        Raises:
            ValueError: it is none.
        """
        found = re.fullmatch(r"(\d+)-of-(\d+)", text)
        if not found or not 1 <= int(found[1]) <= int(found[2]):
            raise ValueError(f"{text!r} names no share; give one such as 2-of-8")
        return cls(int(found[1]), int(found[2]))

    def of(self, blocks: Sequence[T]) -> Sequence[T]:
        """Its blocks, in order; all shares differ by at most one block, and some have none where blocks are few."""
        return blocks[(self.number - 1) * len(blocks) // self.count : self.number * len(blocks) // self.count]
