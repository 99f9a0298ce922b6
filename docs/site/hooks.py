"""What MkDocs does to a page of relmap: equations become MathML, links to files of the repository become their paths.

MathML is drawn by browsers themselves, so that the site has no script of another server. The
notes of each paper are pages too, as they stand in its folder. Any other link that leads out of docs/ has nothing to
lead to on the site; where ``repo_url`` of mkdocs.yml says where the repository is, it leads there.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]

# What is not looked at: blocks of code, and code in running text.
_CODE = re.compile(r"(^```.*?^```$|`[^`\n]+`)", re.DOTALL | re.MULTILINE)
_FENCED = re.compile(r"^```math\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_BLOCK = re.compile(r"\$\$(.+?)\$\$", re.DOTALL)
_INLINE = re.compile(r"(?<![\\$\w])\$(?=\S)([^$\n]+?)(?<=\S)\$(?![\w$])")
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|`[^`]*`)+)\]\((\.\./[^)\s]+)\)")


def on_files(files: Files, config: Any) -> Files:
    """Adds papers/<paper>.md, the notes of each paper."""
    for path in sorted(ROOT.glob("papers/*/notes.md")):
        files.append(File.generated(config, f"papers/{path.parent.name}.md", abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """The page's Markdown as MkDocs goes on with it."""
    markdown = _FENCED.sub(lambda found: _mathml(found[1], "block"), markdown)
    markdown = _LINK.sub(lambda found: _outside(found, config.get("repo_url")), markdown)
    markdown = _outside_code(markdown, lambda text: _BLOCK.sub(lambda found: _mathml(found[1], "block"), text))
    return _outside_code(markdown, lambda text: _INLINE.sub(lambda found: _mathml(found[1], "inline"), text))


def _outside_code(markdown: str, change: Callable[[str], str]) -> str:
    """Text is changed between pieces of code, which ``split`` puts at odd places."""
    return "".join(part if at % 2 else change(part) for at, part in enumerate(_CODE.split(markdown)))


def _mathml(latex: str, display: str) -> str:
    made = convert(latex.strip(), display=display)
    return f"\n\n<div class='equation'>{made}</div>\n\n" if display == "block" else made


def _outside(found: re.Match[str], repository: str | None) -> str:
    words, path = found[1], posixpath.normpath(posixpath.join("docs", found[2]))
    notes = re.fullmatch(r"papers/(\w+)/notes\.md", path)
    if notes:
        return f"[{words}](papers/{notes[1]}.md)"
    if repository:
        return f"[{words}]({repository.rstrip('/')}/blob/main/{path})"
    named = words.strip("`")
    return f"`{path}`" if path.endswith(named) else f"{words} (`{path}`)"
