"""A file that names classes in the order of a network's outputs."""

from __future__ import annotations

import os
from pathlib import Path

from relmap.errors import InputError


def read_classes(path: str | os.PathLike) -> dict[str, str]:
    """Folder's name -> words for readers, in the order of the lines; as ``synset_words.txt`` has them.

    A line is the name of the class's folder, and maybe words after a space, of which those before a comma count.

    Raises:
        InputError: the file is absent or empty, or names a class twice.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except OSError as error:
        raise InputError(f"{path}: cannot read the names of classes ({error.strerror}); correct `classes`") from error
    found: dict[str, str] = {}
    for line in lines:
        name, _, words = line.partition(" ")
        if name in found:
            raise InputError(f"{path}: names the class {name} twice; a line is a class")
        found[name] = words.split(",")[0].strip() or name
    if not found:
        raise InputError(f"{path}: names no class; write one a line")
    return found
