"""Plain text in columns, for terminals."""

from __future__ import annotations

from collections.abc import Collection, Sequence


def aligned(lines: Sequence[Sequence[str]], right: Collection[int] = ()) -> str:
    """Lines in columns two spaces apart, those of ``right`` with their words to the right; ends with a line end."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    padded = (
        [text.rjust(width) if place in right else text.ljust(width) for place, (text, width) in enumerate(pairs)]
        for pairs in (zip(line, widths, strict=True) for line in lines)
    )
    return "".join(f"{'  '.join(line).rstrip()}\n" for line in padded)
