"""``relmap pack`` and ``relmap restore``: a finished run as one archive, and back."""

from __future__ import annotations

from pathlib import Path

import click

from relmap.cli.repository import repository


@click.command()
@click.argument("results", type=click.Path(path_type=Path))
@click.argument("archive", type=click.Path(path_type=Path))
def pack(results: Path, archive: Path) -> None:
    """Pack a finished run, RESULTS, into one ARCHIVE, a .tar.gz.

    It holds maps, scores, tables, claims, figures, config and provenance, the SHA-256 of each file and an RO-Crate; no
    data, but the pictures that figures show, and no networks.

    \b
      relmap pack results/demo demo.tar.gz
    """
    from relmap.evidence.packing import pack as write

    root = repository()
    digest = write(results if results.is_dir() else root / "results" / results, archive, root)
    click.echo(f"{archive}: {archive.stat().st_size} bytes, SHA-256 {digest}")


@click.command()
@click.argument("archive", type=click.Path(path_type=Path))
@click.option("--sha256", metavar="HEX", help="Refuse an archive with another SHA-256.")
@click.option("--other-code", is_flag=True, help="Restore also what other code made than lies here.")
def restore(archive: Path, sha256: str | None, other_code: bool) -> None:
    """Restore a packed run into this repository.

    Every byte is compared first. Then tables and figures that are deleted can be made again from maps and scores,
    without data, networks or GPU.

    \b
      relmap restore demo.tar.gz
      snakemake --cores all --configfile results/demo/config.yaml
    """
    from relmap.evidence.restoring import restore as read

    done = read(archive, repository(), sha256=sha256, other_code=other_code)
    folder = f"results/{done.folder.name}"
    click.echo(f"{folder}: {done.files} files, each as it was packed")
    if done.differing:
        click.echo(f"{len(done.differing)} files of the code are not those that made it, {done.differing[0]} the first")
    click.echo(f"snakemake --cores all --configfile {folder}/config.yaml makes what is missing of it")
