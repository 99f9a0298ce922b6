"""``relmap methods``, ``metrics``, ``datasets``, ``models``, ``papers``: what there is, and where it comes from."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import fill
from typing import Any

import click

Entry = dict[str, Any]
"""``id``, ``label``, ``source`` and ``about``, and what else the JSON has."""


def _methods(rows: Any) -> Iterator[Entry]:
    from relmap.catalogue.methods import NEEDS

    for row in rows.methods.values():
        about = [
            "a control, which knows nothing of the network" if row.control else "",
            "signed" if row.signed else "sizes only",
            "sets the class against the others" if row.contrastive else "",
            f"another reading of {row.variant_of}" if row.variant_of else "",
            *(NEEDS[need] for need in row.needs),
        ]
        more = {"needs": list(row.needs), "signed": row.signed, "control": row.control, "variant_of": row.variant_of}
        yield {"id": row.id, "label": row.label, "source": row.citation, "about": _joined(about), **more}


def _metrics(rows: Any) -> Iterator[Entry]:
    for row in rows.metrics.values():
        for column in row.columns:
            about = [
                f"by {row.label}, `{row.id}`",
                f"{'higher' if column.higher_is_better else 'lower'} is better"
                if column.counted
                else "not counted in ranks",
                f"needs {' and '.join(row.needs)}" if row.needs else "needs maps alone",
                f"drawn at random: {row.drawn}" if row.drawn else "",
            ]
            more = {"metric": row.id, "needs": list(row.needs), "higher_is_better": column.higher_is_better}
            yield {"id": column.id, "label": column.label, "source": column.citation, "about": _joined(about), **more}


def _datasets(rows: Any) -> Iterator[Entry]:
    for row in rows.datasets.values():
        about = [
            f"has {' and '.join(row.has)}" if row.has else "no boxes or masks",
            "several classes an image" if row.multi_label else "",
            "can be rendered" if row.renderer else "",
            f"classified by networks of {row.classified_by}" if row.classified_by else "",
        ]
        more = {"has": list(row.has), "rendered": row.renderer is not None}
        yield {"id": row.id, "label": row.label, "source": row.citation, "about": _joined(about), **more}


def _models(rows: Any) -> Iterator[Entry]:
    for row in rows.models.values():
        if row.training_of:
            continue
        about = [
            f"starts from {row.initial}" if row.initial else "",
            f"another form of {row.form_of}" if row.form_of else "",
            f"up to {row.trainings} trainings" if row.trainings else "",
            "inputs of one size" if row.one_size else f"inputs from {row.smallest} pixels on",
        ]
        yield {"id": row.id, "label": row.label, "source": row.citation, "about": _joined(about)}


def _papers(rows: Any) -> Iterator[Entry]:
    from relmap.catalogue.papers import published, read_papers
    from relmap.cli.repository import repository

    folder = repository() / "papers"
    for paper in read_papers(folder):
        cells = sum(len(published(paper, number, rows)) for number in paper.tables)
        counts = (len(paper.tables), len(paper.figures), cells)
        about = "{} tables, {} figures, {} printed cells".format(*counts)
        more = dict(zip(("tables", "figures", "cells"), counts, strict=True))
        yield {"id": paper.id, "label": paper.title, "source": paper.citation, "about": about, **more}


def _joined(parts: list[str]) -> str:
    return "; ".join(part for part in parts if part)


def _command(name: str, about: str, entries: Callable[[Any], Iterator[Entry]]) -> click.Command:
    def listed(as_json: bool, extension: tuple[Path, ...]) -> None:
        from relmap.catalogue.rows import load_rows

        files = list(extension)
        if name == "papers":
            from relmap.cli.repository import repository

            files += sorted((repository() / "papers").glob("*/rows.py"))
        found = list(entries(load_rows(files)))
        click.echo(json.dumps(found, indent=2, ensure_ascii=False) if as_json else _text(found), nl=as_json)

    listed.__doc__ = f"{about}\n\n\b\n  relmap {name}\n  relmap {name} --json"
    command: Any = click.option(
        "--extension",
        multiple=True,
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Python file with further rows; may be repeated.",
    )(listed)
    command = click.option("--json", "as_json", is_flag=True, help="For programs: a list of objects.")(command)
    return click.command(name)(command)


def _text(entries: list[Entry]) -> str:
    """A line with id, label and source, and one below with the rest, as wide as the terminal."""
    width = max(60, shutil.get_terminal_size((110, 24)).columns)
    return "".join(
        fill(
            f"{click.style(each['id'], bold=True)}  {each['label']}. {each['source']}", width, subsequent_indent="    "
        )
        + "\n"
        + fill(each["about"], width, initial_indent="    ", subsequent_indent="    ")
        + "\n"
        for each in entries
    )


COMMANDS = (
    _command("methods", "List the methods: id, name, source, and what each needs of a network.", _methods),
    _command("metrics", "List the published numbers: id, name, source, and what each needs of a data set.", _metrics),
    _command("datasets", "List the data sets: id, name, source, and what they are annotated with.", _datasets),
    _command(
        "models",
        "List the networks: id, name, source. Any other of torchvision and timm can be explained too.",
        _models,
    ),
    _command(
        "papers",
        "List the papers whose evidence is regenerated: id, title, citation, and how much they print.",
        _papers,
    ),
)
