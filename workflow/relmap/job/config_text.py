"""``config.yaml``, written from the schema: every key with its default, and its description as a comment.

python -m relmap.job.config_text > config.yaml
"""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from relmap.job.config import SCHEMA, defaults, read_schema, resolve

HEAD = """\
# The default run: the paper smaller, on rendered data, with narrow networks, on two CPU cores, in minutes.
# Other runs state only what differs: snakemake --configfile config/paper.yaml
# Written from the schema, which refuses unknown keys: workflow/schemas/config.schema.yaml (make config)
"""
_WIDTH, _COLUMN = 100, 34


def config_text() -> str:
    """The whole file."""
    schema = read_schema(SCHEMA)
    lines = [HEAD.rstrip()]
    nested = True
    for key, value in defaults().items():
        node = resolve(schema["properties"][key], schema)
        following = isinstance(value, Mapping) and bool(value)
        lines += [""] if nested or following else []
        lines += _entry(key, value, node, schema, 0)
        nested = following
    return "\n".join(lines) + "\n"


def _entry(key: str, value: Any, node: Mapping[str, Any], root: Mapping[str, Any], depth: int) -> Iterator[str]:
    """The lines of one key: a section, a list with an item a line, or a line."""
    indent, comment = "  " * depth, _comment(node)
    if isinstance(value, Mapping) and value and not node.get("partial"):
        yield from _above(comment, indent)
        yield f"{indent}{key}:"
        yield from _inner_entries(value, node, root, depth + 1)
    elif isinstance(value, list) and value and isinstance(value[0], Mapping):
        yield from _above(comment, indent)
        yield f"{indent}{key}:"
        yield from (f"{indent}  - {_flow(item)}" for item in value)
    else:
        yield from _line(f"{indent}{key}: {_flow(value)}", comment, indent)


def _inner_entries(
    value: Mapping[str, Any], node: Mapping[str, Any], root: Mapping[str, Any], depth: int
) -> Iterator[str]:
    for key, content in value.items():
        known = node.get("properties", {}).get(key, node.get("additionalProperties"))
        yield from _entry(key, content, resolve(known or {}, root), root, depth)


def _line(text: str, comment: str, indent: str) -> list[str]:
    """A line with its comment beside it, or above it where it is long."""
    if not comment:
        return [text]
    beside = f"{text:<{_COLUMN}}# {comment}" if len(text) < _COLUMN else f"{text}  # {comment}"
    return [beside] if len(beside) <= _WIDTH + 20 else [*_above(comment, indent), text]


def _above(comment: str, indent: str) -> list[str]:
    lines = textwrap.wrap(comment, _WIDTH - len(indent) - 2, break_long_words=False, break_on_hyphens=False)
    return [f"{indent}# {line}" for line in lines]


def _comment(node: Mapping[str, Any]) -> str:
    text = str(node.get("description", "")).strip()
    choices = f" One of {', '.join('null' if one is None else one for one in node['enum'])}." if "enum" in node else ""
    return text + choices


def _flow(value: Any) -> str:
    """A value on one line."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_flow(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(map(_flow, value)) + "]"
    return value if isinstance(value, str) else json.dumps(value)


if __name__ == "__main__":
    print(config_text(), end="")
