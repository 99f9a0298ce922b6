"""Tables that another rule wrote: read, or said which file is broken and what to do."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pandas as pd
import pyarrow as pa

from relmap.errors import InputError


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


def read_parquet(path: str | os.PathLike, columns: Sequence[str] | None = None) -> pd.DataFrame:
    """Read one table, or some of its columns; where its pages have checksums, they are compared.

    Raises:
        InputError: as :func:`reading`, or bytes were changed.
    """
    with reading(path):
        chosen = None if columns is None else list(columns)
        return pd.read_parquet(path, columns=chosen, page_checksum_verification=True)
