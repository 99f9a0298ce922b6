"""A few lines of a kept run for the README: how far it takes each paper, and what becomes of its main claims. No torch.

``python -m relmap.evidence.summary docs/evidence/<run>`` writes them into README.md between two marks.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from relmap.catalogue.papers import Paper, read_papers
from relmap.errors import InputError
from relmap.evidence.keep import STATUS
from relmap.evidence.status import PAPERS, REPOSITORY, read_table
from relmap.job.files import atomic_path

BEGIN, END = "<!-- evidence -->", "<!-- /evidence -->"
_VERDICTS = ("holds", "fails", "undecided")


def summary(kept: str | os.PathLike, papers: Sequence[Paper]) -> str:
    """Two tables in Markdown.

    Args:
        kept: folder of a run that ``relmap.evidence.keep`` wrote.
        papers: those that may be in it.

    Raises:
        InputError: it lacks a file or a column, or a claim that is named as a paper's main one.
    """
    kept = Path(kept)
    counts = read_table(kept / STATUS, ["id", "short", "printed", "filled", "drawn", "figures"])
    if counts is None:
        raise InputError(f"{kept / STATUS}: no such file; keep a finished run first: python -m relmap.evidence.keep")
    known = {paper.id: paper for paper in papers}
    lines = [
        "| paper | printed cells filled | figures | claims of the text: hold, fail, undecided |",
        "|---|---|---|---|",
    ]
    claims = ["| paper | claim, shortened | its own numbers | this run |", "|---|---|---|---|"]
    for row in counts.itertuples():
        path = kept / "tables" / f"{row.id}_claims.csv"
        found = read_table(path, ["claim", "text", "ours", "published_verdict", "verdict"])
        if found is None:
            raise InputError(f"{path}: no such file; keep the run again")
        of_text = found.loc[found["ours"] != "True", "verdict"].tolist()
        verdicts = ", ".join(str(of_text.count(verdict)) for verdict in _VERDICTS)
        lines.append(f"| {row.short} | {row.filled} of {row.printed} | {row.drawn} of {row.figures} | {verdicts} |")
        by_id = found.set_index("claim")
        for claim in known[row.id].main_claims if row.id in known else ():
            if claim not in by_id.index:
                raise InputError(f"{path}: no claim {claim}, a main one of {row.id}; keep the run again")
            one = by_id.loc[claim]
            own = "not the paper's" if one["ours"] == "True" else one["published_verdict"]
            claims.append(f"| {row.short} | {_short(one['text'])} | {own} | {one['verdict']} |")
    return "\n".join([*lines, "", *claims]) + "\n"


def _short(text: str) -> str:
    """Without what is in brackets at its end."""
    return re.sub(r"\s*\([^()]*(\([^()]*\)[^()]*)*\)$", "", text).strip('"').replace("|", "\\|")


def within(text: str, given: str, path: str | os.PathLike) -> str:
    """A page with other lines between its marks.

    Raises:
        InputError: it has no such marks.
    """
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise InputError(f"{path}: has not the marks {BEGIN} and {END}")
    return f"{before}{BEGIN}\n{given}{END}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write a kept run's summary into README.md."""
    parser = argparse.ArgumentParser(prog="python -m relmap.evidence.summary", description=main.__doc__)
    parser.add_argument("kept", type=Path, help="the run's folder in docs/evidence")
    page = REPOSITORY / "README.md"
    try:
        text = within(page.read_text(), summary(parser.parse_args(arguments).kept, read_papers(PAPERS)), page)
    except InputError as error:
        sys.exit(f"error: {error}")
    with atomic_path(page) as temporary:
        Path(temporary).write_text(text)


if __name__ == "__main__":
    main()
