"""Boxes or masks in a CSV file: a line a region.

Its columns are ``image``; ``x0,y0,x1,y1`` in pixels, the right and lower edge outside, or ``mask``, an image file
that is not 0 on the object; and maybe others, such as ``class``.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from relmap.errors import InputError

_BOX = ("x0", "y0", "x1", "y1")


def lines_of(path: Path) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines of a file, each with its number.

    Raises:
        InputError: it cannot be read, lacks a column, has no lines, or a line has not as many values as columns.
    """
    try:
        with open(path, newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, skipinitialspace=True)
            columns = set(reader.fieldnames or ())
            if "image" not in columns or not ({*_BOX} <= columns or "mask" in columns):
                raise InputError(
                    f"{path}: has the columns {', '.join(reader.fieldnames or ['none'])}; it must have image, and "
                    "x0, y0, x1, y1 or mask"
                )
            lines = [(number, line) for number, line in enumerate(reader, start=2)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: cannot be read as CSV ({error})") from error
    if not lines:
        raise InputError(f"{path}: has no lines below its heading")
    for number, line in lines:
        if None in line or None in line.values():
            raise InputError(f"{path}: line {number} has not as many values as there are columns")
        yield number, line


def box_of(line: dict[str, str], path: Path, number: int) -> list[float]:
    """The box of a line.

    Raises:
        InputError: it is no box.
    """
    try:
        box = [float(line[side]) for side in _BOX]
    except ValueError as error:
        raise InputError(f"{path}: line {number}: a side of the box is no number ({error})") from error
    if not (np.isfinite(box).all() and box[0] < box[2] and box[1] < box[3]):
        raise InputError(f"{path}: line {number}: the box {box} is empty; x0 must be below x1, and y0 below y1")
    return box
