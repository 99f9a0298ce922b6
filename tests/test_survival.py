"""A run that is killed at any moment and started again, its pairs divided among jobs, has the bytes of a quiet one.

One moment here; ``SURVIVAL_SEEDS=50 pytest tests/test_survival.py`` for as many.
"""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from relmap.evidence.maps import verify_maps
from relmap.job.files import sha256_file

ROOT = Path(__file__).resolve().parents[1]
SCORES = "scores/imagenet/vgg16/insertion.parquet"


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    """Three pictures of each of four classes on a narrow VGG-16, by a dozen methods."""
    smoke = yaml.safe_load((ROOT / "config" / "smoke.yaml").read_text())
    only = {"imagenet": {"render": {"classes": 4, "train_per_class": 4, "val_per_class": 3, "size": 64}}}
    chosen = {
        **{key: smoke[key] for key in ("training", "evaluation", "engine") if key in smoke},
        "run": "killed",
        "papers": ["ae"],
        "datasets": {name: only.get(name) for name in (*smoke["datasets"], "imagenet", "cub200_2011")},
        "models": {"vgg16": smoke["models"]["vgg16"], "resnet50": None},
        "compute": {"batch_size": 2},
    }
    path = tmp_path_factory.mktemp("config") / "killed.yaml"
    path.write_text(yaml.safe_dump(chosen))
    return path


def start(folder, config, *arguments):
    """Snakemake in a folder of its own, and a group of processes of its own, which can be killed as one."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile"), "--directory", str(folder)]
    command += ["--cores", "2", "--workflow-profile", str(ROOT / "profiles" / "default"), "--configfile", str(config)]
    command += [*arguments, "--", f"results/killed/{SCORES}"]
    log = (folder / "log.txt").open("a")
    return subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)


def found(folder):
    """What a run says: the digest of every map store, each compared with its manifest, and of the scores."""
    results = folder / "results" / "killed"
    stores = {path.name: verify_maps(path) for path in sorted(results.glob("maps/imagenet/vgg16/*.zarr"))}
    return {**stores, "scores": sha256_file(results / SCORES)}


@pytest.fixture(scope="module")
def quiet(tmp_path_factory, config):
    """A run that nobody disturbs: what it says, and its seconds."""
    folder, begin = tmp_path_factory.mktemp("quiet"), time.monotonic()
    assert start(folder, config).wait(400) == 0, (folder / "log.txt").read_text()[-3000:]
    said = found(folder)
    assert len(said) > 10
    return said, time.monotonic() - begin


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(int(os.environ.get("SURVIVAL_SEEDS", "1"))))
def test_a_killed_run_goes_on_and_says_the_same(tmp_path, config, quiet, seed):
    said, seconds = quiet
    parts, rng = ("--set-scatter", "pairs=2"), random.Random(seed)
    run = start(tmp_path, config, *parts)
    try:
        run.wait(rng.uniform(0.2, 0.9) * seconds)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
    assert run.wait(10) == -signal.SIGKILL, "it ended before it was killed"
    again = start(tmp_path, config, *parts)
    assert again.wait(400) == 0, (tmp_path / "log.txt").read_text()[-3000:]
    assert found(tmp_path) == said
    assert not list((tmp_path / "results").rglob(".*.part")), "something half written was left"
    assert not list((tmp_path / "results" / "killed" / "parts").glob("*/maps/**/*.zarr")), "shares stay behind"
