"""One ordered thread map for work that waits for the disk or runs outside the interpreter lock."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def thread_map(
    function: Callable[[Item], Result], items: Iterable[Item], workers: int, chunk: int = 64
) -> list[Result]:
    """``[function(item) for item in items]`` in threads, in order; the first error ends it.

    One task is ``chunk`` items: a future for each of a million images would cost gigabytes.
    """
    items = list(items)
    chunks = [items[start : start + chunk] for start in range(0, len(items), chunk)]
    with ThreadPoolExecutor(max(1, min(workers, len(chunks)))) as pool:
        done = pool.map(lambda part: [function(item) for item in part], chunks)
        return list(itertools.chain.from_iterable(done))
