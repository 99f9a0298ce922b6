"""docs/metrics.md says what the metrics' files say."""

import re
from pathlib import Path

from relmap.catalogue.metrics import METRICS
from relmap.catalogue.metrics_page import FOOLED, definition, page

ROOT = Path(__file__).parents[1]


def test_the_page_is_up_to_date_and_has_every_metric_once():
    text = (ROOT / "docs" / "metrics.md").read_text()
    assert text == page(), "python -m relmap.catalogue.metrics_page > docs/metrics.md"
    assert FOOLED.keys() == METRICS.keys()
    numbers = re.findall(r"^\| .* \| `(\w+)` \| (?:higher|lower) is better", text, re.MULTILINE)
    assert numbers == [column.id for metric in METRICS.values() for column in metric.columns]


def test_equations_are_blocks_and_nothing_of_the_source_markup_is_left():
    whole = page()
    assert ".. math" not in whole and ":math:" not in whole and "``" not in whole.replace("```", "")
    assert "\n```math\n" in definition(METRICS["energy_pointing"])
    assert all(len(definition(metric)) > 80 for metric in METRICS.values())
