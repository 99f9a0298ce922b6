"""From a row's ``module:name`` to the thing itself, in relmap or in a user's own Python file."""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from relmap.errors import InputError


def imported(where: Any, package: str) -> Any:
    """What ``module:name`` below ``package``, or ``path/to/file.py:name``, names; anything but a text is itself.

    Raises:
        InputError: the file is absent or fails to run, or there is no such name in it.
    """
    if not isinstance(where, str):
        return where
    module, _, name = where.rpartition(":")
    found = from_file(module) if module.endswith(".py") else importlib.import_module(f"{package}.{module}")
    try:
        return getattr(found, name)
    except AttributeError as error:
        raise InputError(f"{where}: there is no {name} in {module}; correct the row") from error


def from_file(path: str | os.PathLike) -> ModuleType:
    """Run a Python file once, as a module of its own name.

    Raises:
        InputError: it is absent or fails.
    """
    path = Path(path).resolve()
    name = f"relmap_extension_{path.stem}_{hashlib.sha256(os.fsencode(path)).hexdigest()[:8]}"
    if name in sys.modules:
        return sys.modules[name]
    if not path.is_file():
        raise InputError(f"{path}: no such Python file; correct `extensions`")
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        raise InputError(f"{path}: cannot be run ({type(error).__name__}: {error})") from error
    return module
