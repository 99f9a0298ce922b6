"""Classes in the order of a network's outputs: as a file names them, or another data set has them."""

from __future__ import annotations

import os
from pathlib import Path

from relmap.data.manifest import ManifestInfo
from relmap.errors import InputError


def read_classes(path: str | os.PathLike) -> dict[str, str]:
    """Folder's name -> words for readers, in the order of the lines; as ``synset_words.txt`` has them.

    A line is the name of the class's folder, and maybe words after a space, of which those before a comma count.

    Raises:
        InputError: the file is absent or empty, or names a class twice.
    """
    try:
        lines = [line.strip() for line in Path(path).read_text(encoding="utf-8").splitlines() if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot read the names of classes ({error}); correct `classes`") from error
    found: dict[str, str] = {}
    for line in lines:
        if not line.isprintable():
            raise InputError(f"{path}: the line {line[:100]!r} has control characters; correct it")
        name, _, words = line.partition(" ")
        if name in found:
            raise InputError(f"{path}: names the class {name} twice; a line is a class")
        found[name] = words.split(",")[0].strip() or name
    if not found:
        raise InputError(f"{path}: names no class; write one a line")
    return found


def classes_of(info: ManifestInfo) -> dict[str, str]:
    """What a data set's files call its classes -> words for readers, in the order of its labels.

    Raises:
        InputError: its reader does not say what the files call them.
    """
    if not info.class_ids:
        raise InputError(
            f"{info.dataset}: its manifest names no ids of classes, by which another data set could take its classes; "
            "name them in a file, `classes`"
        )
    return dict(zip(info.class_ids, info.class_names, strict=True))
