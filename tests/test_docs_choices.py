"""docs/choices.md: what it says of printed cells is so, and what it leans on is there."""

import csv
import re
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "choices.md").read_text()


def printed(paper):
    rows = []
    for path in sorted((ROOT / "papers" / paper).glob("table*.csv")):
        with open(path, newline="") as file:
            rows += csv.DictReader(file)
    return rows


def test_tests_tables_and_claims_that_it_names_exist():
    tests = "".join(path.read_text() for path in (ROOT / "tests").glob("test_*.py"))
    named = set(re.findall(r"`(test_\w+)`", PAGE))
    assert len(named) > 10
    assert not {name for name in named if f"def {name}(" not in tests}
    made = "".join(
        path.read_text()
        for folder in ("papers", "workflow")
        for suffix in ("py", "smk", "yaml")
        for path in (ROOT / folder).rglob(f"*.{suffix}")
    )
    papers = {path.parent.name for path in ROOT.glob("papers/*/paper.yaml")}
    for table in set(re.findall(r"`(\w+)\.csv`", PAGE)):
        paper, rest = table.split("_", 1)
        assert paper in papers, table
        own = (ROOT / "papers" / paper / "paper.yaml").read_text()
        printed_there = (ROOT / "papers" / paper / f"{rest}.csv").exists() or f"\n{rest}:" in own
        assert printed_there or f"name: {rest}" in made or f"{rest}.csv" in made, table
    for claim in re.findall(r"claim `(\w+)`", PAGE):
        assert f"- id: {claim}\n" in made, claim


def test_every_suspect_cell_is_counted():
    found = Counter(
        (paper.parent.name, row["table"])
        for paper in ROOT.glob("papers/*/paper.yaml")
        for row in printed(paper.parent.name)
        if row["note"].startswith("suspect")
    )
    stated = re.findall(r"^\| (\w+) \| (\d+) \| (\d+) \|$", PAGE, re.MULTILINE)
    assert {(paper, table): int(count) for paper, table, count in stated} == found


def test_four_printed_cells_cannot_be_the_binarised_average_precision():
    """With pixel accuracy a it is a^2 + (1 - a) / 2, least at a = 1/4."""
    least = min((a / 1000) ** 2 + (1 - a / 1000) / 2 for a in range(1001))
    assert least == 7 / 16
    cells = [float(row["value"]) for row in printed("ae") if row["table"] == "3" and row["metric"] == "map"]
    assert len(cells) == 12 and sum(cell < least for cell in cells) == 4


def pointing(table, method):
    """Values by column, Table 1's of all labels and in percent."""
    found = {}
    for row in printed("ae"):
        if (row["table"], row["method"], row["metric"]) == (table, method, "pointing_game"):
            found[row["dataset"], row["model"], row["variant"]] = float(row["value"])
    return found


def test_table_2_has_another_gamma_than_table_1():
    first, second = pointing("1", "attribution_equilibrium"), pointing("2", "attribution_equilibrium")
    for model in ("vgg16", "resnet50"):
        for subset in ("all", "difficult"):
            one = 100 * first["voc2007_test", model, f"{subset};all_labels"]
            # Table 2 prints a decimal of a percent: they differ there, not by rounding.
            assert f"{one:.1f}" != f"{second['voc2007_test', model, f'{subset};C+A+U+Psi']:.1f}"


def test_grad_cam_is_ahead_in_three_columns_of_print():
    ours, theirs = pointing("1", "attribution_equilibrium"), pointing("1", "grad_cam")
    assert ours.keys() == theirs.keys() and len(ours) == 16
    assert sum(theirs[column] > ours[column] for column in ours) == 3
