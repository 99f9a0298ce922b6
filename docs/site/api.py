"""The page of the library, docs/api.md, from the docstrings of what ``import relmap`` gives.

``python docs/site/api.py > docs/api.md`` writes it; a test compares.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import relmap

HEAD = """# The library

What `import relmap` gives, from its docstrings; `make docs` writes this page. Nothing is imported before it is used,
and nothing here needs the workflow. [Questions](questions.md) has what goes wrong most often, and
[The rules, derived](rules.md) what the methods compute.
"""
# What is not a part of the face by name, and is what its functions take and return.
BESIDE = {"MethodMaps": "relmap.inspection.explanations", "Method": "relmap.catalogue.methods"}
ORDER = ("explain", "compare", "methods", "Propagator", "conservation", "Explanation", "show", "load")
_SECTIONS = ("Args", "Returns", "Raises", "Warns", "Attributes", "Example")


def page() -> str:
    """The whole page."""
    rest = sorted(set(relmap.__all__) - set(ORDER))
    named = {f"relmap.{name}": getattr(relmap, name) for name in (*ORDER, *rest)}
    named |= {f"{module}.{name}": getattr(importlib.import_module(module), name) for name, module in BESIDE.items()}
    return HEAD + "".join(f"\n{part}\n" for name, thing in named.items() for part in _described(name, thing, "##"))


def _described(name: str, thing: Any, level: str) -> Iterator[str]:
    yield f"{level} `{name}`"
    short = name.rsplit(".", 1)[1]
    exception = isinstance(thing, type) and issubclass(thing, BaseException)
    if not exception and not isinstance(thing, property):
        yield f"```python\n{short}{_signature(thing)}\n```"
    yield _markdown(inspect.getdoc(thing) or "")
    if isinstance(thing, type) and not exception:
        for member, value in _members(thing):
            yield from _described(f"{short}.{member}", value, level + "#")


def _members(kind: type) -> Iterable[tuple[str, Any]]:
    """Methods and properties of its own, in their order, with a docstring."""
    fields = {field.name for field in dataclasses.fields(kind)} if dataclasses.is_dataclass(kind) else set()
    for name, value in vars(kind).items():
        plain = value.__func__ if isinstance(value, classmethod | staticmethod) else value
        known = inspect.isfunction(inspect.unwrap(plain)) if callable(plain) else isinstance(plain, property)
        if known and not name.startswith("_") and name not in fields and inspect.getdoc(plain):
            yield name, plain


def _signature(thing: Any) -> str:
    """Parameters, one a line where there are many; their types as they stand in the source."""
    found = inspect.signature(thing)
    parts, keyword_only = [], False
    for parameter in found.parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if parameter.kind is parameter.KEYWORD_ONLY and not keyword_only:
            parts.append("*")
            keyword_only = True
        stars = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        text = stars + parameter.name
        if parameter.annotation is not parameter.empty:
            text += f": {parameter.annotation}"
        if parameter.default is not parameter.empty:
            text += " = ..." if repr(parameter.default) == "<factory>" else f" = {parameter.default!r}"
        parts.append(text)
    returns = found.return_annotation
    end = ")" if isinstance(thing, type) or returns is found.empty else f") -> {returns}"
    line = f"({', '.join(parts)}{end}"
    return line if len(line) < 90 else "(\n" + "".join(f"    {part},\n" for part in parts) + end


def _markdown(docstring: str) -> str:
    """A docstring with Google's sections as Markdown."""
    text = re.sub(r"``([^`]+)``", r"`\1`", re.sub(r":\w+:`~?([^`]+)`", r"`\1`", docstring))
    lines, out, section = text.splitlines(), [], ""
    for line in lines:
        heading = re.fullmatch(rf"({'|'.join(_SECTIONS)}):", line)
        if heading:
            section = heading[1]
            out += ["", "**Arguments**" if section == "Args" else f"**{section}**", ""]
            out += ["```pycon"] if section == "Example" else []
        elif section == "Example":
            out += [line[4:]] if line.strip() else []
        elif section and line.startswith("    "):
            entry = re.fullmatch(r"    ([\w*][\w, *]*): (.*)", line)
            if entry and section != "Returns" and not line.startswith("     "):
                names = ", ".join(f"`{name.strip()}`" for name in entry[1].split(","))
                out.append(f"- {names}: {entry[2]}")
            else:
                out.append(line[4:] if section == "Returns" else f"  {line.strip()}")
        else:
            section = section if not line.strip() else ""
            out.append(line)
    if section == "Example":
        out.append("```")
    return re.sub(r"\n{3,}", "\n\n", "\n".join(out)).strip()


if __name__ == "__main__":
    sys.stdout.write(page())
