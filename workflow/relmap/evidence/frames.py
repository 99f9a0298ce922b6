"""Tables that a job computes with a network: kept as they are, with their caption, and laid out by another job.

So a change of the layout computes nothing anew. The layout is in ``relmap.evidence.layout``.
"""

from __future__ import annotations

import os

import pandas as pd
import pyarrow as pa

from relmap.errors import InputError
from relmap.job.parquet import read_table, write_table

_CAPTION = b"relmap.caption"


def write_computed(frame: pd.DataFrame, path: str | os.PathLike, caption: str) -> None:
    """Write a tidy frame and the caption that it will be shown with, as Parquet."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _CAPTION: caption.encode()})
    write_table(table, path)


def read_computed(path: str | os.PathLike) -> tuple[pd.DataFrame, str]:
    """The frame and its caption.

    Raises:
        InputError: the file is absent, damaged, or has no caption.
    """
    table = read_table(path)
    caption = (table.schema.metadata or {}).get(_CAPTION)
    if caption is None:
        raise InputError(f"{path}: not a computed table, it lacks a caption; delete it and run again")
    return table.to_pandas(), caption.decode()
