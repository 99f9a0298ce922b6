"""The toy paper: a folder that brings its own data set, network, method and metric, run by the workflow as it is.

What docs/adding.md shows is what is run here.
"""

import csv
import re
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
import relmap
import torch
import yaml
import zarr
from relmap.catalogue.grid import make_plan
from relmap.catalogue.papers import published, read_paper
from relmap.catalogue.rows import load_rows
from relmap.errors import InputError
from relmap.evidence.claims import read_claims
from relmap.evidence.layout import lay_out
from relmap.evidence.tables import fill
from relmap.evidence.values import CELL, PAIR
from relmap.job.config import defaults
from relmap.job.subject import Subject

ROOT = Path(__file__).parents[1]
TOY = ROOT / "tests" / "toy"
CONFIG = TOY / "config.yaml"
PAGE = ROOT / "docs" / "adding.md"


def snakemake(folder, *arguments):
    """Run Snakemake in a folder, with the repository's workflow."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--cores", "1", "--workflow-profile", "none", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=240, check=False)


def toy_run(folder, *arguments, papers=("tests/toy",)):
    """The toy's config as it stands, or with other papers."""
    return snakemake(folder, *arguments, "--configfile", CONFIG, "--config", f"papers=[{','.join(map(str, papers))}]")


def error_of(run):
    """The one line that a wrong run ends in."""
    assert run.returncode != 0
    assert "Traceback" not in run.stdout + run.stderr
    (line,) = (line for line in run.stderr.splitlines() if line.startswith("error: "))
    return line


@pytest.fixture(scope="module")
def workplace(tmp_path_factory):
    """Where everything that the toy's config asks for was made."""
    folder = tmp_path_factory.mktemp("toy")
    run = snakemake(folder, "--configfile", CONFIG)
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def results(workplace):
    return workplace / "results" / "toy"


@pytest.fixture(scope="module")
def table(results):
    return pd.read_csv(results / "tables" / "toy_table1.csv", keep_default_na=False)


def slow_inside(relevance, inside):
    """Share of the positive relevance in the box, pixel by pixel."""
    positive = [(max(float(value), 0.0), within) for value, within in zip(relevance, inside, strict=True)]
    return sum(value for value, within in positive if within) / sum(value for value, _ in positive)


def slow_pointing(relevance, inside):
    """Mean over twenty energies of the share of kept pixels in the box (CLAM, Eq. 6)."""
    positive = sorted((float(value) for value in relevance if value > 0), reverse=True)
    found = []
    for level in range(1, 21):
        threshold = positive[max(1, (2 * level * len(positive) + 20) // 40) - 1]
        kept = [within for value, within in zip(relevance, inside, strict=True) if value >= threshold]
        found.append(sum(kept) / len(kept))
    return sum(found) / len(found)


@pytest.mark.parametrize("method", ["toy_occlusion", "saliency"])
@pytest.mark.parametrize(
    ("metric", "slow"), [("toy_inside_share", slow_inside), ("pointing_energy_mean", slow_pointing)]
)
def test_cells_are_what_the_maps_and_boxes_say(results, table, method, metric, slow):
    store = zarr.open_group(results / "maps" / "toy" / "toy_net" / f"{method}.zarr", mode="r")
    with open(results / "data" / "toy" / "index.csv", newline="") as file:
        boxes = {Path(line["file"]).stem: line for line in csv.DictReader(file)}
    values = []
    for image, relevance in zip(store.attrs["image_ids"], np.asarray(store["maps"]), strict=True):
        left, top, right, bottom = (int(boxes[image][side]) for side in ("left", "top", "right", "bottom"))
        inside = [left <= x < right and top <= y < bottom for y in range(32) for x in range(32)]
        values.append(slow(relevance.ravel(), inside))
    (cell,) = table[(table["method"] == method) & (table["metric"] == metric)].to_dict("records")
    assert len(values) == cell["n_images"] == 24
    assert float(cell["reproduced"]) == pytest.approx(np.mean(values), abs=1e-6)
    assert float(cell["ci_low"]) < float(cell["reproduced"]) < float(cell["ci_high"])


def test_four_cells_and_the_controls_below_them(table):
    assert table["role"].tolist() == ["published"] * 4 + ["control"] * 6
    assert table["method"].tolist()[4::2] == ["constant", "random", "centre_gaussian"]
    assert pd.to_numeric(table["reproduced"]).between(0, 1).all()
    assert (table["missing"] == "").all()
    # A map that is 1 everywhere has in the box what the box has of the picture: the two metrics agree on it.
    constant = table[table["method"] == "constant"]["reproduced"].tolist()
    assert constant[0] == pytest.approx(constant[1], abs=1e-6)


def test_claims_are_decided(results):
    claims = pd.read_csv(results / "tables" / "toy_claims.csv").set_index("claim")
    assert claims["verdict"].tolist() == ["holds", "holds"]
    assert claims["published_verdict"].tolist() == ["supported", "not in the paper"]


def test_figure_is_drawn(results):
    for suffix in ("png", "pdf", "json"):
        assert (results / "figures" / f"toy_figure01.{suffix}").stat().st_size > 0


def test_the_report_shows_the_paper(results):
    page = (results / "index.html").read_text()
    for words in ("A Toy Paper: Four Cells about Three Shapes", "Toy shapes", "Toy network", "Occlusion", "Centre"):
        assert words in page, words
    assert "figures/toy_figure01.png" in page
    assert "clam_" not in page  # no file of another paper


def test_notebook_is_stored_clean_and_without_torch():
    notebook = nbformat.read(TOY / "shares.ipynb", as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None and "torch" not in cell.source for cell in code)


@pytest.mark.parametrize("method", ["toy_occlusion", "saliency"])
def test_a_store_is_what_the_face_gives(workplace, results, method, monkeypatch):
    monkeypatch.chdir(workplace)  # the manifest's folder is named from there
    subject = Subject.open(
        results / "manifests" / "toy.parquet", results / "models" / "toy" / "toy_net.safetensors", "cpu", 64
    )
    store = zarr.open_group(results / "maps" / "toy" / "toy_net" / f"{method}.zarr", mode="r")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the job had
    try:
        ((images, _),) = subject.batches(subject.manifest.rows("test"))
        row = load_rows([TOY / "rows.py"]).methods[method]
        found = relmap.explain(subject.model, images, store["target"][:], row, batch_size=64)
    finally:
        torch.set_num_threads(threads)
    assert store.attrs["image_ids"] == subject.manifest.frame["image_id"][subject.manifest.rows("test")].tolist()
    assert np.array_equal(found.numpy(), store["maps"][:])


def test_no_file_of_relmap_names_it():
    files = [ROOT / "Snakefile", ROOT / "config.yaml"]
    for folder in ("workflow", "notebooks", "resources", "config", "profiles"):
        files += [path for path in (ROOT / folder).rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    naming = [path for path in files if re.search(rb"\btests/toy\b|\btoy_(net|occlusion|inside)\b", path.read_bytes())]
    assert not naming


def test_its_rows_are_read_without_torch():
    code = f"from relmap.catalogue.rows import load_rows; load_rows([{str(TOY / 'rows.py')!r}])"
    code += "; import sys; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def copied(folder, **changes):
    """The toy's folder, in another place; ``changes`` are texts to replace in files, (old, new), by stem."""
    shutil.copytree(TOY, folder, ignore=shutil.ignore_patterns("__pycache__"))
    for stem, (old, new) in changes.items():
        (path,) = folder.glob(f"{stem}.*")
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))
    return folder


def test_a_paper_that_lacks_an_ingredient_runs_and_remakes_nothing_of_others(workplace, results):
    """A second paper without rows of its own, printing nothing: one cell that this run can fill, one that it cannot."""
    folder = copied(workplace / "papers" / "second")
    (folder / "rows.py").unlink()
    (folder / "claims.yaml").unlink()
    words = yaml.safe_load((folder / "paper.yaml").read_text())
    words |= {"figures": [], "notebooks": {}, "models": {"net": "toy_net", "vgg": "vgg16"}}
    (folder / "paper.yaml").write_text(yaml.safe_dump(words))
    first, *_ = (TOY / "table1.csv").read_text().splitlines()
    lines = [f"second,1,shapes,{model},occlusion,inside,,,,true,," for model in ("net", "vgg")]
    (folder / "table1.csv").write_text("\n".join([first, *lines]) + "\n")

    run = toy_run(workplace, "second", papers=("tests/toy", "papers/second"))
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-3000:]
    assert set(re.findall(r"Finished jobid: \d+ \(Rule: (\w+)\)", run.stdout + run.stderr)) == {
        "second",
        "tabulate_second",
    }
    table = pd.read_csv(results / "tables" / "second_table1.csv", keep_default_na=False)
    published = table[table["role"] == "published"]
    assert published["missing"].tolist() == ["", "model vgg16 in the config"]
    assert published["value"].tolist() == ["", ""]
    filled, empty = published["reproduced"]
    assert float(filled) > 0 and empty == ""


def test_a_folder_anywhere_is_a_paper(tmp_path):
    copied(tmp_path / "mine" / "toy")
    run = toy_run(tmp_path, "--dry-run", "toy", papers=("mine/toy",))
    assert run.returncode == 0, run.stderr[-3000:]
    assert "draw_toy_shares" in run.stdout + run.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": ('"toy_occlusion"', '"saliency"')}, ["rows.py", "'saliency'", "another id"]),
        ({"rows": ("occlusion.py", "oclusion.py")}, ["rows.py", "oclusion.py", "'toy_occlusion'"]),
        ({"rows": ("[\n    Method", "[\n    'blur',\n    Method")}, ["rows.py", "'blur'", "Method(...)"]),
        ({"table1": ("true", "false")}, ["table1.csv, line 2", "higher_is_better", "toy_inside_share"]),
        ({"claims": ("toy_inside_share", "inside_share")}, ["claims.yaml", "occlusion_above_gradient", "inside_share"]),
        ({"paper": ("controls:", "control:")}, ["paper.yaml", "`control`", "controls"]),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else value[1].strip("'`"),
)
def test_a_fault_is_named_with_its_file(tmp_path, changes, words):
    """What the workflow reads at its start, in its order."""
    folder = copied(tmp_path / "toy", **changes)
    with pytest.raises(InputError) as refused:
        paper, rows = read_paper(folder), load_rows([folder / "rows.py"])
        published(paper, 1, rows)
        read_claims(folder / "claims.yaml", ["toy_occlusion", "saliency"], rows)
    assert all(word in str(refused.value) for word in words), refused.value


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"rows": ("DATASETS = [", "1 / 0\nDATASETS = [")}, ["rows.py", "ZeroDivisionError"]),
        ({"table1": ("gradient", "gradiant")}, ["table1.csv, line 4", "'gradiant'", "paper.yaml"]),
    ],
    ids=["rows", "label"],
)
def test_a_fault_ends_the_workflow_in_one_line(tmp_path, changes, words):
    line = error_of(toy_run(tmp_path, "--dry-run", papers=(copied(tmp_path / "toy", **changes),)))
    assert all(word in line for word in words), line
    assert not (tmp_path / "results").exists()


def test_an_extension_that_is_absent_or_fails_is_named(tmp_path):
    (tmp_path / "bad.py").write_text("from nowhere_at_all import Method\n")
    for name, words in (("bad.py", "ModuleNotFoundError"), ("absent.py", "`extensions`")):
        with pytest.raises(InputError, match=rf"{name}: .*{words}"):
            load_rows([tmp_path / name])


@pytest.mark.parametrize("block", re.findall(r"^```\w+\n# (tests/toy/.*?)^```$", PAGE.read_text(), re.DOTALL | re.M))
def test_the_page_shows_the_files_as_they_are(block):
    name, text = block.split("\n", 1)
    assert text in (ROOT / name).read_text()


def test_every_block_of_the_page_is_tried():
    """Files here, commands as test_docs.py does, and one block of Python."""
    heads = re.findall(r"^```(\w+)\n(.*)", PAGE.read_text(), re.M)
    others = [first for kind, first in heads if not first.startswith("# tests/toy/") and kind != "sh"]
    assert others == ["import relmap", "import timm", "models: {resnet50: c3_resnet50}"], (
        "that block is of papers/c3lrp/paper.yaml"
    )
    commands = [first for kind, first in heads if kind == "sh"]
    assert all(command.startswith(".venv/bin/snakemake ") for command in commands)


def test_the_pages_python_runs(monkeypatch):
    monkeypatch.chdir(ROOT)
    (block,) = re.findall(r"^```python\n(import relmap\n.*?)^```$", PAGE.read_text(), re.DOTALL | re.M)
    model = load_rows(["tests/toy/rows.py"]).models["toy_net"].construct(classes=3, width=1.0, input_size=32)
    names = {"model": model.eval(), "images": torch.randn(2, 3, 32, 32), "targets": [0, 2]}
    exec(compile(block, "docs/adding.md", "exec"), names)
    assert names["maps"].shape == (2, 32, 32)


def test_the_pages_network_of_timm_is_built():
    (block,) = re.findall(r"^```python\n(import timm\n.*?)^```$", PAGE.read_text(), re.DOTALL | re.M)
    names: dict = {}
    exec(compile(block, "docs/adding.md", "exec"), names)
    (row,) = names["MODELS"]
    assert row.construct(classes=3, width=1.0, input_size=64).get_submodule(row.last).out_features == 3


def test_a_method_of_ones_own_stands_beside_a_papers(tmp_path):
    own = ["--config", "run=mine", "extensions=[tests/toy/extension.py]", "methods=[occlusion]"]
    run = snakemake(tmp_path, "clam", "--summary", *own)
    assert run.returncode == 0, run.stderr[-3000:]
    made = re.findall(r"^results/mine/maps/(.*)/occlusion.zarr\t", run.stdout, re.M)
    assert sorted(made) == [
        f"{data}/{model}" for data in ("cub200_2011", "imagenet") for model in ("resnet50", "vgg16")
    ]

    config, clam = defaults(), read_paper(ROOT / "papers" / "clam")
    rows = load_rows([ROOT / "papers" / "clam" / "rows.py", TOY / "extension.py"], config)
    plan = make_plan([clam], rows, list(config["datasets"]), list(config["models"]), guests=["occlusion"])
    assert all("occlusion" in methods for methods in plan.scores.values())
    printed = published(clam, 1, rows)
    filled = fill(
        printed,
        pd.DataFrame(columns=[*CELL, *PAIR, "value"]),
        known=rows,
        guests=["occlusion"],
        control_methods=["constant"],
    )
    assert list(dict.fromkeys(filled["role"])) == ["published", "guest", "control"]
    assert (filled["role"] == "guest").sum() == 4, "a cell for each column"
    layout = lay_out(filled)
    assert [name for name, _ in layout.rows[-2:]] == ["Occlusion", "Constant"] and layout.controls == 1


def test_an_unknown_method_under_methods_ends_in_one_line(tmp_path):
    run = snakemake(tmp_path, "--dry-run", "--config", "methods=[ocllusion]", "extensions=[tests/toy/extension.py]")
    (line,) = [line for line in run.stderr.splitlines() if line.startswith("error: ")]
    assert run.returncode != 0 and "`methods.ocllusion`" in line and "did you mean `occlusion`?" in line
