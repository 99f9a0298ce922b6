"""Tables that another rule wrote: read, or said which file is broken and what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from relmap.errors import InputError
from relmap.job.files import atomic_path


@contextmanager
def reading(path: str | os.PathLike) -> Iterator[None]:
    """Turn what pyarrow says of a file into one line.

    Raises:
        InputError: the file is absent, truncated or no Parquet.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; run the rule that makes it") from error
    except (pa.ArrowException, OSError, ValueError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"{path}: truncated, or not a readable Parquet file ({reason}); delete it and run again"
        ) from error


def read_table(path: str | os.PathLike, columns: Sequence[str] | None = None) -> pa.Table:
    """Read one table, or some of its columns, with its metadata; pages that have checksums are compared with them.

    Raises:
        InputError: as :func:`reading`, or bytes were changed.
    """
    with reading(path):
        chosen = None if columns is None else list(columns)
        table = pq.read_table(path, columns=chosen, page_checksum_verification=True)
        # Names are no part of a page: whether they are text shows when they are read.
        table.schema.names, table.schema.metadata  # noqa: B018
        return table


def write_table(table: pa.Table, path: str | os.PathLike) -> None:
    """Write one table with checksums of its pages, atomically."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", write_page_checksum=True)


def read_parquet(path: str | os.PathLike, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """The same as a frame.

    Raises:
        InputError: as :func:`read_table`.
    """
    table = read_table(path, columns)
    with reading(path):
        return table.to_pandas()
