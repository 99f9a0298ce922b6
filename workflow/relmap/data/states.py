"""What a data set's files were when its manifest was made, so that whoever opens one later notices another.

A file of the same size and time is the same. One of another time is read and compared by content; where the contents of
a large data set were not read (``manifest.HASH_BYTES_LIMIT``), another time is another file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from relmap.errors import InputError
from relmap.job.files import sha256_file
from relmap.job.parquet import read_table, write_table

_SCHEMA = pa.schema([("path", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64()), ("sha256", pa.string())])


class State(NamedTuple):
    """Bytes, time of the last change, and hex digest of the content ("" where it was not read)."""

    size: int
    mtime_ns: int
    sha256: str


@dataclass(frozen=True)
class States:
    """The states of a data set's files, by their paths below its root."""

    known: Mapping[str, State]
    # Files of another time that turned out to be the same.
    _compared: set[tuple[str, int]] = field(default_factory=set, compare=False, repr=False)

    @property
    def digest(self) -> str:
        """Hex SHA-256 of paths, sizes and contents, whatever the times: what a manifest knows its files' table by."""
        rows = [[path, state.size, state.sha256] for path, state in self.known.items()]
        return hashlib.sha256(json.dumps(rows).encode()).hexdigest()

    def check(self, path: str, where: Path) -> None:
        """Refuse a file that is not the one that the manifest was made of; one that it does not know is not judged.

        Args:
            path: below the data set's root.
            where: the file on disk.

        Raises:
            InputError: it is absent, or was changed.
        """
        state = self.known.get(path)
        if state is None:
            return
        try:
            status = os.stat(where)
        except OSError as error:
            raise InputError(f"{where}: cannot be read ({error.strerror}); restore it") from error
        if status.st_size == state.size and status.st_mtime_ns == state.mtime_ns:
            return
        if (path, status.st_mtime_ns) in self._compared:
            return
        if status.st_size != state.size or not state.sha256 or sha256_file(where) != state.sha256:
            raise InputError(
                f"{where}: was changed after the manifest was made ({status.st_size} bytes, {state.size} then); "
                "restore it, or delete the data set's manifest to take it as it is"
            )
        self._compared.add((path, status.st_mtime_ns))


def states_file(manifest: str | os.PathLike) -> Path:
    """Where the states lie, beside the manifest."""
    return Path(manifest).with_suffix(".files.parquet")


def write_states(states: States, path: str | os.PathLike) -> None:
    """Write a table of files, atomically."""
    rows = [(name, *state) for name, state in states.known.items()]
    frame = pd.DataFrame(rows, columns=_SCHEMA.names)
    write_table(pa.Table.from_pandas(frame, schema=_SCHEMA, preserve_index=False), path)


def read_states(path: str | os.PathLike) -> States:
    """Read what ``write_states`` wrote.

    Raises:
        InputError: the file is absent, or no such table.
    """
    rows = read_table(path, _SCHEMA.names).to_pylist()
    return States({row.pop("path"): State(**row) for row in rows})
