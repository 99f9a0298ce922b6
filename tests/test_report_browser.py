"""The report in a real browser: read, sorted, filtered, printed; on a desk and a phone; with and without JavaScript."""

from __future__ import annotations

import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pandas as pd
import pytest
from browser import CHROMIUM, Browser, Page
from PIL import Image
from relmap.catalogue.papers import read_paper
from relmap.catalogue.rows import load_rows
from relmap.figures.packing import Place, pack
from relmap.figures.tiles import GAP
from relmap.job.config import dump, load
from relmap.report import write_report
from synthetic_results import make_dataset, make_records, make_scores, make_tables

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here; Debian's package is `chromium`")

ROOT = Path(__file__).parents[1]
METHODS = ["lrp_alpha1_beta0_norms", "lrp_clam", "grad_cam"]
DESK, PHONE = (1280, 900), (390, 844)
ENTER, SPACE, RIGHT = ("Enter", 13, "\r"), (" ", 32, " "), ("ArrowRight", 39)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder that was moved after its page was written."""
    results = tmp_path_factory.mktemp("made") / "synthetic"
    make_dataset(results, "imagenet", 8, seed=0)
    for model in ("vgg16", "resnet50"):
        make_scores(results, "imagenet", model, seed=1, methods=METHODS)
    make_tables(results, seed=0)
    make_records(results)
    for path in (results / "tables").glob("clam_table*.csv"):
        pd.read_csv(path, dtype=str, keep_default_na=False).assign(reproduced_std="0.1").to_csv(path, index=False)
    leak = {"dataset": "imagenet", "model": "vgg16", "kind": "conv"}
    leaks = [{**leak, "method": name, "leak_of_start": at, "gross_of_start": abs(at)} for name, at in LEAKS.items()]
    pd.DataFrame(leaks).to_csv(results / "tables" / "conservation_summary.csv", index=False)
    many = {"counted": "True", "best_method": "lrp_alpha1_beta0_norms", "metric": "a metric with a long name"}
    many |= {f"tau_of_level_{number}": 0.123456 for number in range(25)}
    pd.DataFrame([many]).to_csv(results / "tables" / "metric_trust.csv", index=False)
    (results / "config.yaml").write_text(dump(load({"run": "synthetic"})))
    (results / "figures").mkdir()
    for number in range(3, 19):
        name = results / "figures" / f"clam_figure{number:02}"
        Image.new("RGB", (900, 600), "grey").save(name.with_suffix(".png"))
        name.with_suffix(".json").write_text(json.dumps({"caption": "Words", "rows": [{"image": "a", "gain": 0.5}]}))
    pack(results, [Place("imagenet", model, METHODS) for model in ("vgg16", "resnet50")], [], 0, results / "gallery")
    paper = read_paper(ROOT / "papers" / "clam")
    write_report(results, results / "index.html", [paper], load_rows([paper.folder / "rows.py"]))
    return results.rename(tmp_path_factory.mktemp("moved") / "elsewhere")


LEAKS = {"lrp_clam": 12.5, "grad_cam": -0.031, "lrp_alpha1_beta0_norms": 0.0}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    started = Browser(tmp_path_factory.mktemp("profile"))
    yield started
    started.close()


@pytest.fixture
def page(browser: Browser, site: Path) -> Iterator[Page]:
    opened = browser.open(site / "index.html", *DESK)
    yield opened
    assert opened.complaints() == []
    opened.close()


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_it_fits_says_nothing_in_the_console_and_is_for_everybody(
    browser: Browser, site: Path, size: tuple[int, int]
) -> None:
    page = browser.open(site / "index.html", *size)
    assert page.run("innerWidth") == size[0] == page.run("document.documentElement.scrollWidth")
    page.run((files("axe_core_python") / "axe.min.js").read_text(encoding="utf-8") + "; 1")
    # Contrast is a matter of the styles, which few cells show as well as thousands do.
    page.run("document.querySelectorAll('tbody tr:nth-child(n+4)').forEach(row => row.remove())")
    page.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    found = page.run(
        "axe.run(document, {resultTypes: ['violations']}).then(result => result.violations.map("
        "one => [one.impact, one.id, one.nodes.length, one.nodes[0].html]))"
    )
    assert not [one for one in found if one[0] in ("serious", "critical")], found
    assert page.complaints() == []
    page.close()


def column(page: Page, table: str, at: int) -> list[str]:
    return page.run(f"[...document.querySelector('{table}').tBodies[0].rows].map(row => row.cells[{at}].innerText)")


def test_a_click_sorts_and_a_third_one_restores_the_papers_order(page: Page) -> None:
    table = "#clam-table-1 ~ details table"
    button = f"document.querySelector('{table} th:nth-child(2) button')"
    before = column(page, table, 1)
    values = [float(text.split()[0]) for text in before]
    said = []
    for wanted in (sorted(values), sorted(values, reverse=True), values):
        page.run(f"{button}.click()")
        assert [float(text.split()[0]) for text in column(page, table, 1)] == wanted
        said.append(page.run(f"{button}.parentElement.getAttribute('aria-sort')"))
    assert said == ["ascending", "descending", None]
    assert column(page, table, 1) == before


def test_the_keyboard_sorts_too_and_multiples_follow_percents(page: Page) -> None:
    table = "#leaks ~ .scroll table"
    page.run(f"document.querySelector('{table} tr:last-child th:last-child button').focus()")
    page.press(*ENTER)
    assert [text.split("\n")[0] for text in column(page, table, 1)] == ["−3.1 %", "0 %", "12 ×"]
    page.press(*SPACE)
    assert [text.split("\n")[0] for text in column(page, table, 1)] == ["12 ×", "0 %", "−3.1 %"]
    heads = page.run(f"[...document.querySelectorAll('{table} th[aria-sort]')].map(head => head.innerText.trim())")
    assert heads == ["VGG-16"], "the head of several columns sorts nothing"


@pytest.mark.parametrize(
    ("cells", "wanted"),
    [
        (["−.5 [−.6, −.4]", ".25 ± .1", "-1", "none", "+.1", ""], ["-1", "−.5 [−.6, −.4]", "+.1", ".25 ± .1"]),
        (["1,200", "< .0001", "9e2", "–", "20 %", "3 of 16"], ["< .0001", "3 of 16", "20 %", "9e2", "1,200"]),
        (["[.4, .5]", "[−.1, .2]", "(3)"], ["[−.1, .2]", "[.4, .5]", "(3)"]),
        (["2007_10", "Figure 10", "Figure 9", "b", "A"], ["2007_10", "A", "b", "Figure 9", "Figure 10"]),
        (["4.3.1", "4.10.2", "4"], ["4", "4.3.1", "4.10.2"]),
    ],
)
def test_numbers_are_sorted_as_numbers(browser: Browser, tmp_path: Path, cells: list[str], wanted: list[str]) -> None:
    """Whatever stands for minus, and whatever follows; what is missing comes last, up and down."""
    rows = "".join(f"<tr><td>{cell.replace('<', '&lt;')}</td></tr>" for cell in cells)
    script = (ROOT / "workflow" / "relmap" / "report" / "tables.js").read_text()
    head = "<!doctype html><meta charset=utf-8><table class=sort><thead><tr><th scope=col>A</th></tr></thead>"
    (tmp_path / "t.html").write_text(f"{head}<tbody>{rows}</tbody></table><script>{script}</script>", encoding="utf-8")
    page = browser.open(tmp_path / "t.html")
    for order in (wanted, wanted[::-1]):
        page.run("document.querySelector('th button').click()")
        assert [text for text in column(page, "table", 0) if text not in ("none", "", "–")] == order
        assert all(text in order for text in column(page, "table", 0)[: len(order)])
    page.close()


def test_a_filter_leaves_rows_with_all_its_words(page: Page) -> None:
    page.run("document.querySelectorAll('details').forEach(part => part.open = true)")
    filters = page.run("[...document.querySelectorAll('.filter input')].map(one => one.getAttribute('aria-label'))")
    assert filters and all(name.startswith("Filter rows of") for name in filters)
    page.run("document.querySelector('.filter input').focus()")
    page.ask("Input.insertText", text="resnet clrp")
    box = "document.querySelector('.filter')"
    texts = page.run(
        f"[...{box}.nextElementSibling.querySelectorAll('tbody tr')].filter(row => row.offsetHeight)"
        ".map(row => row.innerText.toLowerCase())"
    )
    assert texts and all("resnet" in text and "clrp" in text for text in texts)
    assert page.run(f"{box}.querySelector('[role=status]').textContent") == f"{len(texts)} of 48 rows"


def test_the_gallery_shows_what_is_chosen(page: Page) -> None:
    labels = page.run("[...document.querySelectorAll('#gallery-maps b')].map(one => one.textContent)")
    assert (labels[0], *labels[2:]) == ("Image", "LRP+CLAM", "Grad-CAM")
    notes = page.run("[...document.querySelectorAll('#gallery-maps small')].map(one => one.textContent)")
    assert not notes[0] and notes[2].startswith("sum ") and notes[2].endswith("\nleak 12 ×")
    page.run("document.getElementById('gallery').scrollIntoView()")
    page.run("Promise.all([...document.querySelectorAll('#gallery-explorer img')].map(one => one.decode()))")
    tiles = page.run(
        "[...document.querySelectorAll('#gallery-maps .tile')].map(box => { const image = box.querySelector('img');"
        "const [inner, outer] = [image, box].map(one => one.getBoundingClientRect());"
        "return [image.naturalHeight, (outer.top - inner.top) / inner.height, box.clientHeight / box.offsetHeight,"
        "inner.width / outer.width, box.querySelector('path').getAttribute('d').slice(0, 1)]; })"
    )
    height = 3 * (64 + GAP)
    assert tiles[0] == [64, 0, 1, 1, "M"]
    for place, tile in enumerate(tiles[1:]):
        assert tile == [height, pytest.approx(place / 3, abs=1e-3), 1, 1, "M"], "a frame would shift oblong tiles"
    page.run("document.getElementById('gallery-outline').click()")
    paths = page.run(
        "[...document.querySelectorAll('#gallery-maps path')].map(one => one.getAttribute('d').length > 0)"
    )
    assert paths == [True, False, False, False], "over the picture it stays"
    page.run("document.querySelector('#gallery-checks input[value=lrp_clam]').click()")
    assert page.run("document.querySelectorAll('#gallery-maps li').length") == 3
    words = page.run("document.getElementById('gallery-words').textContent")
    page.run("document.querySelector('#gallery-images input:checked').focus()")
    page.press(*RIGHT)
    other = page.run("document.getElementById('gallery-words').textContent")
    assert other != words and other.startswith("Image imagenet_")
    page.run(
        "const list = document.getElementById('gallery-model'); list.value = 'resnet50';"
        "list.dispatchEvent(new Event('change'))"
    )
    assert page.run("document.querySelector('#gallery-maps img').src").endswith("gallery/imagenet/resnet50/1.jpg")
    assert page.run("document.getElementById('gallery-words').textContent").split(".")[0] == other.split(".")[0]
    assert page.run("document.querySelectorAll('#gallery-maps li').length") == 3, "the choice of methods stays"
    page.run("document.getElementById('gallery-none').click()")
    assert page.run("document.getElementById('gallery-count').textContent") == "0 of 3"


@pytest.mark.parametrize("size", [DESK, PHONE])
def test_every_part_is_reached_with_the_keyboard(browser: Browser, site: Path, size: tuple[int, int]) -> None:
    page = browser.open(site / "index.html", *size)
    focused = "document.activeElement.textContent"
    page.press("Tab", 9)
    assert page.run(focused) == "Skip to the report"
    reached = {}
    for _ in range(page.run("document.querySelectorAll('nav li a').length")):
        page.press("Tab", 9)
        box = page.run("(({left, right, top}) => [left, right, top])(document.activeElement.getBoundingClientRect())")
        assert box[0] >= 0 and box[1] <= size[0] and box[2] >= 0, "it is seen"
        reached[page.run(focused)] = page.run("document.activeElement.hash")
    assert {"Papers", "CLAM", "Leaderboard", "Gallery", "Cost", "Conservation", "Provenance"} <= reached.keys()
    page.run("document.querySelector('nav a[href=\"#leaks\"]').focus()")
    page.press(*ENTER)
    assert page.run("location.hash") == reached["Conservation"] == "#leaks"
    assert 0 <= page.run("document.getElementById('leaks').getBoundingClientRect().top") < size[1] / 2
    page.close()


def test_figures_are_loaded_when_they_come_near(page: Page) -> None:
    loaded = "[...document.querySelectorAll('figure img')].filter(image => image.naturalWidth).length"
    assert page.run(loaded) < 8 < page.run("document.querySelectorAll('figure img').length")


def test_paper_has_no_controls_and_cuts_no_table(page: Page) -> None:
    assert page.pdf().startswith(b"%PDF-")
    assert page.run("[...document.querySelectorAll('details[open]')].length") > 0, "what was open is open"
    page.ask("Emulation.setEmulatedMedia", media="print")
    page.run("dispatchEvent(new Event('beforeprint'))")
    seen = page.run(
        "[...document.querySelectorAll('nav, input, select, summary, .mark, .small')].filter(one => one.offsetHeight)"
        ".map(one => one.outerHTML)"
    )
    assert seen == []
    display = "getComputedStyle(document.querySelector('th > button')).display"
    assert page.run(display) == "contents", "a head with a control in it is not repeated on the next page"
    shut = page.run("[...document.querySelectorAll('details:not([open])')].map(part => part.className)")
    assert set(shut) <= {"listing", "methods"}
    millimetre = 96 / 25.4
    for kind, width in ((":not(.wide)", (210 - 28) * millimetre), (".wide", (297 - 24) * millimetre)):
        page.ask("Emulation.setDeviceMetricsOverride", width=int(width), height=900, deviceScaleFactor=1, mobile=False)
        cut = page.run(
            f"[...document.querySelectorAll('.scroll{kind}')].filter(box => box.firstElementChild.offsetWidth >"
            " box.clientWidth + 1).map(box => box.getAttribute('aria-label'))"
        )
        assert cut == []
    page.run("dispatchEvent(new Event('afterprint'))")


def test_without_javascript_there_are_plain_tables_and_a_word_on_the_gallery(browser: Browser, site: Path) -> None:
    page = browser.open(site / "index.html", *DESK, scripts=False)
    page.ask("Emulation.setScriptExecutionDisabled", value=False)  # for the questions, not for the page
    assert page.run("document.querySelectorAll('th button, .filter').length") == 0
    assert page.run("document.querySelectorAll('table').length") > 10
    assert not page.run("document.getElementById('gallery-explorer').offsetHeight")
    assert "Choosing needs JavaScript" in page.run("document.querySelector('noscript').textContent")
    page.close()
