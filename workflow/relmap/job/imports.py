"""What a script's numbers follow from: the files that it imports, transitively, read from the import statements.

A rule lists them as inputs, so that an edit remakes what it changes and nothing else. Nothing is imported here: a name
that is built at run time (a method's maker) is not seen, and its file is given to ``closure`` beside the script.
"""

from __future__ import annotations

import ast
import functools
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from relmap.errors import InputError


def closure(paths: Iterable[str | os.PathLike], roots: Mapping[str, str | os.PathLike]) -> list[Path]:
    """Files that some scripts, modules or notebooks import, directly or through one another, sorted; not themselves.

    Args:
        paths: Python files or notebooks.
        roots: top-level package -> its folder, for example ``{"relmap": "workflow/relmap"}``; others are not followed.

    Raises:
        InputError: a file is absent, or is not Python.
    """
    folders = tuple((name, Path(folder).resolve()) for name, folder in roots.items())
    given = [Path(path).resolve() for path in paths]
    found: set[Path] = set()
    waiting = list(given)
    while waiting:
        for path in imported(waiting.pop(), folders):
            if path not in found:
                found.add(path)
                waiting.append(path)
    return sorted(found - set(given))


@functools.cache
def imported(path: Path, roots: tuple[tuple[str, Path], ...]) -> tuple[Path, ...]:
    """Files that one file imports itself, with the ``__init__.py`` of every package on the way."""
    folders = dict(roots)
    found: dict[Path, None] = {}
    for name in _names(path, folders):
        top, *rest = name.split(".")
        if top not in folders:
            continue
        place = folders[top]
        for part in (None, *rest):
            place = place if part is None else place / part
            if part is not None and place.with_suffix(".py").is_file():
                found[place.with_suffix(".py")] = None
                break  # what follows is an attribute
            if not place.is_dir():
                break  # an attribute of the package
            if (place / "__init__.py").is_file():
                found[place / "__init__.py"] = None
    found.pop(path, None)
    return tuple(found)


def _names(path: Path, folders: Mapping[str, Path]) -> Iterator[str]:
    """Dotted names that a file imports; ``from a import b`` gives ``a.b``, for b may be a module."""
    for node in _run(_tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                base = ".".join(filter(None, (_package(path, node.level, folders), base)))
            yield from (f"{base}.{alias.name}" for alias in node.names)


# Where statements hold others. Expressions hold no imports, and are most of a file.
_BODIES = ("body", "orelse", "finalbody", "handlers", "cases")


def _run(tree: ast.AST) -> Iterator[ast.AST]:
    """The statements of a module but those under ``if TYPE_CHECKING``, which never run."""
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        yield node
        checked = isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
        for name in ("orelse",) if checked else _BODIES:
            part = getattr(node, name, ())
            if isinstance(part, list):  # a lambda's body is an expression
                waiting += part


def _package(path: Path, level: int, folders: Mapping[str, Path]) -> str:
    folder = path.parents[level - 1]
    for name, root in folders.items():
        if folder == root or root in folder.parents:
            return ".".join((name, *folder.relative_to(root).parts))
    return ""


def _tree(path: Path) -> ast.AST:
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".ipynb":
            cells = json.loads(text)["cells"]
            text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
        return ast.parse(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); a rule runs it") from error
    except (SyntaxError, ValueError, KeyError) as error:
        raise InputError(f"{path}: not Python, so nobody can tell what it imports ({error})") from error
