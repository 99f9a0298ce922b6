"""What is missing is remade, and an edit remakes what follows from it: counted in dry runs over a finished-looking run.

Every output of the smoke workflow lies there, empty, as Snakemake's own ``--touch`` believes it made it. The workflow
is a copy, so that its files can be edited.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from relmap.evidence.packing import pack
from relmap.evidence.restoring import restore
from relmap.job.config import dump, load

ROOT = Path(__file__).parents[1]
PARTS = ("Snakefile", "config.yaml", "config", "workflow", "papers", "notebooks", "envs", "resources", "profiles")


def snakemake(folder, *arguments):
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--workflow-profile", "none"]
    command += ["--configfile", "config/smoke.yaml", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, timeout=300, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout + done.stderr


def clone(root, folder):
    """What the workflow is made of, new as in a fresh clone."""
    for part in PARTS:
        if (root / part).is_dir():
            shutil.copytree(root / part, folder / part, copy_function=shutil.copy)
        else:
            shutil.copy(root / part, folder / part)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("restore")
    clone(ROOT, folder)
    for line in snakemake(folder, "--summary").splitlines():
        path = folder / line.split("\t")[0]
        if not line.startswith("results/"):
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch() if path.suffix not in ("", ".zarr") else path.mkdir(exist_ok=True)
        if path.is_dir():  # of one that is empty an archive would know nothing
            (path / "zarr.json").touch()
    (folder / "results/smoke/provenance.json").write_text('{"versions": {}}')
    (folder / "results/smoke/config.yaml").write_text(dump(load({"run": "smoke"})))
    snakemake(folder, "--touch")
    return folder


def planned(folder, *targets):
    """Names of the rules that would run; those that a name is made for are its verb."""
    text = snakemake(folder, "--dry-run", *targets)
    table = re.search(r"Job stats:\n.*?\n-+ +-+\n(.*?)\ntotal", text, re.DOTALL)
    return {line.split()[0] for line in table[1].splitlines()} - {"all"} if table else set()


def test_what_is_gone_is_remade_and_what_stands_before_it_is_not(run):
    assert planned(run) == set()
    of_scores = {"decide", "draw", "rank", "tabulate", "write", "record", "render", "compare_ties", "explain", "trace"}
    of_tables = {"decide", "draw", "rank", "tabulate", "write", "record", "render", "lay_out", "compare_ties", "count"}
    maps = run / "results/smoke/maps/imagenet/vgg16/abslrp.zarr"
    for gone, needed, allowed in (
        ("tables", {"decide_clam", "tabulate_leaks", "lay_out_engine", "rank_methods"}, of_tables),
        ("figures", {"draw_clam_curves", "render_gallery"}, {"draw", "render", "write", "record"}),
        ("scores", {"score", "decide_clam"}, {*of_scores, "score"}),
        (maps, {"attribute_imagenet_vgg16"}, {*of_scores, "score", "attribute_imagenet_vgg16", "count", "pack"}),
    ):
        path = run / "results/smoke" / gone
        away = path.with_name("away")
        path.rename(away)
        found = planned(run)
        away.rename(path)
        assert needed <= found
        others = {rule for rule in found if not any(rule == own or rule.startswith(f"{own}_") for own in allowed)}
        assert not others, f"without {gone}"
    scores = run / "results/smoke/scores/voc2007"
    scores.rename(scores.with_name("away"))
    found = planned(run, "ae")
    scores.with_name("away").rename(scores)
    assert "score" in found and not {name for name in found if name.startswith(("attribute", "draw_clam"))}


def test_a_packed_run_needs_no_data_no_network_and_no_maps_where_it_is_restored(run, tmp_path):
    archive, fresh = tmp_path / "smoke.tar.gz", tmp_path / "fresh"
    pack(run / "results/smoke", archive, run)
    fresh.mkdir()
    clone(run, fresh)
    results = restore(archive, fresh).folder
    assert not (results / "data/imagenet").exists() and not list(results.rglob("*.safetensors"))
    assert planned(fresh) == set()
    for name in ("tables", "figures"):
        shutil.rmtree(results / name)
    found = planned(fresh)
    assert {
        "tabulate_ae",
        "decide_clam",
        "tabulate_leaks",
        "lay_out_engine",
        "draw_clam_curves",
        "render_gallery",
    } <= found
    verbs = ("tabulate", "decide", "lay_out", "draw", "render", "rank", "write", "record", "compare_ties", "count")
    assert not {name for name in found if not name.startswith(verbs)} and "render_dataset" not in found
    assert "pretrain_classifier" in planned(fresh, "--config", "seed=1"), "another config is noticed"


def test_an_edit_remakes_what_follows_from_it(run):
    of_nobody = [run / f"workflow/relmap/{name}.py" for name in ("nobody", "explainers/nobody", "metrics/nobody")]
    notebook = run / "notebooks/clam/curves.ipynb"
    for path in (*of_nobody, notebook):
        path.write_text((path.read_text() if path.exists() else "") + "\n")
    assert planned(run) == {"draw_clam_curves", "record_provenance", "write_report"}, "files of nobody remake nothing"
    for path in of_nobody:
        path.unlink()
    shutil.copy2(ROOT / "notebooks/clam/curves.ipynb", notebook)
    readers = run / "workflow/relmap/data/formats/cub.py"
    readers.write_text(readers.read_text() + "\n# edited\n")
    found = planned(run)
    assert {"build_manifest", "attribute_cub200_2011_vgg16", "decide_clam"} <= found
    of_others = ("imagenet", "voc2007", "voc2012", "coco2014")
    assert not [name for name in found if any(other in name for other in of_others)]
    assert not {"pretrain_classifier", "tabulate_ae", "decide_abslrp"} & found
