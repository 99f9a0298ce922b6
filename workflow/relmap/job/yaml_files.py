"""YAML that strangers may have written: plain values, no program, and no more of them than the file has room for."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from relmap.errors import InputError

_MOST = 1_000_000
"""Values of a file; aliases let a kilobyte stand for billions."""
_DEEPEST = 100


def read_yaml(path: str | os.PathLike, cure: str) -> Any:
    """Read a file; None of an empty one.

    Args:
        path: the file.
        cure: what to do about one that cannot be read.

    Raises:
        InputError: it is absent, no text, no YAML, asks for objects of Python, or has too many values.
    """
    try:
        value = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    # Numbers and dates that are none are a ValueError, as is text that is none.
    except (OSError, yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({error}); {cure}") from error
    refuse_endless(value, str(path))
    return value


def refuse_endless(value: Any, where: str) -> None:
    """Count values as if nothing was shared, which is what becomes of them when they are copied.

    Raises:
        InputError: there are more than a million, or they are nested more than a hundred deep.
    """
    if _count(value, {}, 0) > _MOST:
        raise InputError(f"{where}: its aliases stand for more than {_MOST} values; write out what is meant")


def _count(value: Any, known: dict[int, int], depth: int) -> int:
    if not isinstance(value, Mapping | list):
        return 1
    if depth > _DEEPEST:
        return _MOST + 1
    if id(value) not in known:
        known[id(value)] = _MOST + 1  # what holds itself is endless
        inner = value.values() if isinstance(value, Mapping) else value
        known[id(value)] = 1 + sum(_count(one, known, depth + 1) for one in inner)
    return known[id(value)]
