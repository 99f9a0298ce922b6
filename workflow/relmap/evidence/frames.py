"""Tables that a job computes with a network: kept as they are, with their caption, and laid out by another job.

So a change of the layout computes nothing anew. The layout is in ``relmap.evidence.layout``.
"""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from relmap.errors import InputError
from relmap.job.files import atomic_path
from relmap.job.parquet import reading

_CAPTION = b"relmap.caption"


def write_computed(frame: pd.DataFrame, path: str | os.PathLike, caption: str) -> None:
    """Write a tidy frame and the caption that it will be shown with, as Parquet."""
    table = pa.Table.from_pandas(frame, preserve_index=False)
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), _CAPTION: caption.encode()})
    with atomic_path(Path(path)) as temporary:
        pq.write_table(table, temporary, write_page_checksum=True)


def read_computed(path: str | os.PathLike) -> tuple[pd.DataFrame, str]:
    """The frame and its caption.

    Raises:
        InputError: the file is absent, damaged, or has no caption.
    """
    with reading(path):
        table = pq.read_table(path, page_checksum_verification=True)
    caption = (table.schema.metadata or {}).get(_CAPTION)
    if caption is None:
        raise InputError(f"{path}: not a computed table, it lacks a caption; delete it and run again")
    return table.to_pandas(), caption.decode()
