"""What a run found, kept in docs/evidence: whole, with what makes it again, and of committed files alone."""

import json
from pathlib import Path

import pytest
import yaml
from relmap.catalogue.papers import read_papers
from relmap.errors import InputError
from relmap.evidence.keep import STATUS, SUMS, differences, keep
from relmap.evidence.status import PAPERS
from relmap.evidence.summary import summary, within
from relmap.job.config import defaults, dump, load
from relmap.job.files import sha256_file

SOURCE = {"commit": "c0ffee" * 6 + "beef", "modified": False}


def make_run(folder, source=SOURCE):
    config = load({"run": "mine", "seed": 3, "papers": ["clam"], "clam": {"trainings": 2}})
    (folder / "tables").mkdir(parents=True)
    (folder / "config.yaml").write_text(dump(config))
    (folder / "index.html").write_text("<p>")
    rules = {"attribute": {"jobs": 2, "seconds": 5400.0, "max_rss_mb": 3.0}}
    machine = {"system": "Linux", "processor": "x86_64", "cores": 2, "gpus": []}
    record = {"versions": {"torch": "2"}, "source": source, "machine": machine, "weights": {}, "rules": rules}
    (folder / "provenance.json").write_text(json.dumps(record))
    for name in ("clam_table1.csv", "clam_table1.md", "clam_table1.tex", "ae_table1.csv"):
        (folder / "tables" / name).write_text("role,value,reproduced\n")
    return folder


def test_differences_are_a_config_that_makes_the_same():
    config = load({"run": "mine", "clam": {"trainings": 2, "strength": [2.0, 1.0]}, "datasets": {"voc2007": None}})
    found = differences(config, defaults())
    assert found == {"run": "mine", "clam": {"trainings": 2, "strength": [2.0, 1.0]}, "datasets": {"voc2007": None}}
    assert load(found) == config


def test_a_run_is_kept_with_what_makes_it_again(tmp_path):
    folder = keep(make_run(tmp_path / "results"), tmp_path / "kept")
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert names == {
        *("README.md", SUMS, STATUS, "config.yaml", "provenance.json"),
        *("tables/clam_table1.csv", "tables/clam_table1.md"),
    }
    assert yaml.safe_load((folder / "config.yaml").read_text()) == {
        "run": "mine",
        "seed": 3,
        "papers": ["clam"],
        "clam": {"trainings": 2},
    }
    text = (folder / "README.md").read_text()
    assert SOURCE["commit"] in text and "2 jobs of 1.5 hours" in text
    assert "--configfile docs/evidence/mine/config.yaml" in text and "[clam_table1.md](tables/clam_table1.md)" in text
    sums = dict(reversed(line.split("  ")) for line in (folder / SUMS).read_text().splitlines())
    assert sums == {name: sha256_file(folder / name) for name in names - {SUMS}}
    again = keep(tmp_path / "results", tmp_path / "kept")
    assert (again / SUMS).read_text() == (folder / SUMS).read_text(), "kept again, the same"


@pytest.mark.parametrize("source", [{}, SOURCE | {"modified": True}])
def test_what_no_commit_has_is_not_kept(tmp_path, source):
    with pytest.raises(InputError, match="made by files that no commit has; commit them and run again"):
        keep(make_run(tmp_path / "results", source), tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


@pytest.mark.parametrize("name", ["config.yaml", "provenance.json", "index.html"])
def test_an_unfinished_run_is_not_kept(tmp_path, name):
    (make_run(tmp_path / "results") / name).unlink()
    with pytest.raises(InputError, match=f"{name}: no such file; finish the run before it is kept"):
        keep(tmp_path / "results", tmp_path / "kept")


def test_main_claims_are_claims():
    for paper in read_papers(PAPERS):
        ids = {claim["id"] for claim in yaml.safe_load((paper.folder / "claims.yaml").read_text())}
        assert paper.main_claims and ids.issuperset(paper.main_claims), paper.id


def test_a_kept_run_in_a_few_lines(tmp_path):
    folder = keep(make_run(tmp_path / "results"), tmp_path / "kept")
    papers = [paper for paper in read_papers(PAPERS) if paper.id == "clam"]
    table = folder / "tables" / "clam_claims.csv"
    with pytest.raises(InputError, match=r"clam_claims\.csv: no such file; keep the run again"):
        summary(folder, papers)
    named = papers[0].main_claims
    rows = [f'{name},"""it is so"" (read: a (b) c)",{name == named[2]},holds,fails' for name in named]
    table.write_text("\n".join(["claim,text,ours,published_verdict,verdict", *rows, "more,x,False,fails,holds"]))
    text = summary(folder, papers)
    assert "| CLAM | 0 of " in text and " | 1, 2, 0 |\n" in text, "what is ours does not count"
    assert text.count("| CLAM | it is so | holds | fails |\n") == 2
    assert text.count("| CLAM | it is so | not the paper's | fails |\n") == 1
    table.write_text("claim,text,ours,published_verdict,verdict\n")
    with pytest.raises(InputError, match=f"no claim {named[0]}"):
        summary(folder, papers)


def test_the_readme_says_what_the_kept_run_says():
    root = PAPERS.parent
    page, kept = root / "README.md", Path(root) / "docs" / "evidence" / "demo"
    assert within(page.read_text(), summary(kept, read_papers(PAPERS)), page) == page.read_text()


def test_a_page_without_marks_is_refused():
    with pytest.raises(InputError, match=r"README\.md: has not the marks"):
        within("no marks", "x", "README.md")
