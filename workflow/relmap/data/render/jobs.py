"""Run rendering jobs on several processes with results that do not depend on how many there are."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Any

import numpy as np

from relmap.errors import InputError

Progress = Callable[[int, int], None]


def generator(*key: int) -> np.random.Generator:
    """The random numbers of one picture; ``key`` is (seed, dataset, split, class, index)."""
    return np.random.default_rng(np.random.SeedSequence(key))


def render_all(
    job: Callable[[Any], Any], jobs: Sequence[Any], workers: int, progress: Progress | None = None
) -> Iterator[Any]:
    """Yield ``job(item)`` for every item, in order.

    Processes are forked where the system can, so that a caller's main module need not be importable.
    """
    results: Iterable[Any]
    if workers == 1:
        results = map(job, jobs)
        yield from _counted(results, len(jobs), progress)
        return
    method = "fork" if "fork" in multiprocessing.get_all_start_methods() else None
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context(method)) as pool:
        results = pool.map(job, jobs, chunksize=max(1, min(32, len(jobs) // (4 * workers))))
        yield from _counted(results, len(jobs), progress)


def _counted(results: Iterable[Any], total: int, progress: Progress | None) -> Iterator[Any]:
    for done, result in enumerate(results, start=1):
        if progress is not None:
            progress(done, total)
        yield result


def check_sizes(dataset: str, most_classes: int, **values: int) -> None:
    """Refuse impossible arguments.

    Raises:
        InputError: names the dataset, the key and the value.
    """
    least = {"classes": 2, "size": 32, "workers": 1, "seed": 0}
    for key, value in values.items():
        lowest = least.get(key, 1)
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < lowest:
            raise InputError(f"datasets.{dataset}.{key}: {value!r} is not an integer of at least {lowest}; raise it")
    if values["classes"] > most_classes:
        raise InputError(
            f"datasets.{dataset}.classes: {values['classes']} are asked for, the renderer has {most_classes}; lower it"
        )


def picture_shape(rng: np.random.Generator, size: int) -> tuple[int, int]:
    """(height, width) whose shorter side is ``size`` and whose ratio lies between 3:4 and 4:3."""
    longer = round(size * rng.uniform(1.0, 4 / 3))
    return (size, longer) if rng.random() < 0.65 else (longer, size)


def tight_box(mask: np.ndarray) -> tuple[int, int, int, int] | None:
    """Box (x0, y0, x1, y1) of a bool mask (H, W) in pixel edges, x1 and y1 exclusive; None if empty."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    if len(columns) == 0:
        return None
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
