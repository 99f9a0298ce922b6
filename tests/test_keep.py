"""What a run found, kept in docs/evidence: whole, with what makes it again, and of committed files alone."""

import json

import pytest
import yaml
from relmap.errors import InputError
from relmap.evidence.keep import SUMS, differences, keep
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
        *("README.md", SUMS, "config.yaml", "provenance.json"),
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
