"""``relmap new``: the files that docs/adding.md describes, with a test that passes as they are."""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from string import Template

import click

from relmap.cli.repository import repository
from relmap.errors import InputError

_NEXT = {
    "method": (
        "pytest {folder}",
        "relmap explain photo.jpg --extension {folder}/rows.py --methods {name},abslrp",
        'snakemake --cores all --config run=mine "extensions=[{place}/rows.py]" "methods=[{name}]"',
    ),
    "metric": ("pytest {folder}", "relmap metrics --extension {folder}/rows.py"),
    "dataset": ("pytest {folder}", "relmap datasets --extension {folder}/rows.py"),
    "paper": ("pytest {folder}", "relmap plan --configfile {folder}/config.yaml"),
}
_KINDS = {"method": "methods", "metric": "metrics", "dataset": "datasets"}


@click.command()
@click.argument("kind", type=click.Choice(list(_NEXT)))
@click.argument("name")
@click.option(
    "--into", type=click.Path(path_type=Path), metavar="FOLDER", help="Where to; a folder of this name by default."
)
def new(kind: str, name: str, into: Path | None) -> None:
    """Begin a method, a metric, a data set or a paper of your own, with a test that passes.

    What is written works as it stands; replace its inside by yours. Nothing is overwritten. docs/adding.md says more.

    \b
      relmap new method smoothed_lrp
      relmap new metric sharpness --into mine/sharpness
    """
    _check_name(kind, name)
    folder = Path(name) if into is None else into
    written = write_skeleton(kind, name, folder)
    for path in written:
        click.echo(f"wrote {path}")
    click.echo("\nNext:")
    for command in _NEXT[kind]:
        click.echo(f"  {command.format(folder=folder.as_posix(), place=_from_workflow(folder), name=name)}")


def _check_name(kind: str, name: str) -> None:
    """Refuse what is no id, or another's.

    Raises:
        InputError: with the cure.
    """
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or keyword.iskeyword(name) or name in ("rows", "relmap"):
        raise InputError(f"{name!r} is no name for a {kind}: take lower-case letters, digits and _, such as my_{kind}")
    if kind in _KINDS:
        from relmap.catalogue.rows import Rows

        rows = Rows()
        known = {*getattr(rows, _KINDS[kind]), *(rows.columns() if kind == "metric" else ())}
        if name in known:
            raise InputError(f"{name!r} is the id of a {kind} of the catalogue already; choose another name")


def write_skeleton(kind: str, name: str, folder: Path) -> list[Path]:
    """Write the files of a kind.

    Raises:
        InputError: one of them is there already; then none is written.
    """
    words = {"name": name, "label": name.replace("_", " ").capitalize(), "folder": _from_workflow(folder)}
    words["type"] = "".join(part.capitalize() for part in name.split("_"))
    contents = _filled(kind, words)
    there = next((folder / file for file in contents if (folder / file).exists()), None)
    if there is not None:
        raise InputError(f"{there}: is there already, and is not overwritten; choose another name or --into")
    folder.mkdir(parents=True, exist_ok=True)
    for file, text in contents.items():
        with open(folder / file, "x", encoding="utf-8") as opened:
            opened.write(text)
    return [folder / file for file in contents]


def _from_workflow(folder: Path) -> str:
    """A folder as a config names it: from the repository's root, and not by a bare word, which names a paper there."""
    whole = folder.resolve()
    try:
        root = repository().resolve()
    except InputError:
        return whole.as_posix()
    return f"./{whole.relative_to(root).as_posix()}" if whole.is_relative_to(root) else whole.as_posix()


def _filled(kind: str, words: Mapping[str, str]) -> dict[str, str]:
    """File name -> text."""
    names = {"maker.py": f"{words['name']}.py", "test.py": f"test_{words['name']}.py"}
    found = {}
    for path in sorted(files("relmap.cli").joinpath("skeletons", kind).iterdir(), key=lambda path: path.name):
        file = path.name.removesuffix(".txt")
        found[names.get(file, file)] = Template(path.read_text(encoding="utf-8")).substitute(words)
    return found
