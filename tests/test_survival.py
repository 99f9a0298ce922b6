"""A run that is killed at any moment and started again, its pairs divided among jobs, has the bytes of a quiet one.

So has one whose computer's clock jumps, and one on a file system that shows files late. Folders that cannot be written,
or are another workflow's, are refused.

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
SEEDS = int(os.environ.get("SURVIVAL_SEEDS", "1"))
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


def start(folder, config, *arguments, before=(), **settings):
    """Snakemake in a folder of its own, and a group of processes of its own, which can be killed as one."""
    command = [*before, sys.executable, "-m", "snakemake", "--snakefile", str(ROOT / "Snakefile")]
    command += ["--directory", str(folder)]
    command += ["--cores", "2", "--workflow-profile", str(ROOT / "profiles" / "default"), "--configfile", str(config)]
    command += [*arguments, "--", f"results/killed/{SCORES}"]
    log = (folder / "log.txt").open("a")
    environment = os.environ | settings
    return subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, env=environment, start_new_session=True)


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


def killed(run, seconds):
    """End a run, and all that it began, after some seconds."""
    try:
        run.wait(seconds)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
    assert run.wait(10) == -signal.SIGKILL, "it ended before it was killed"


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_killed_run_goes_on_and_says_the_same(tmp_path, config, quiet, seed):
    said, seconds = quiet
    parts, rng = ("--set-scatter", "pairs=2"), random.Random(seed)
    run = start(tmp_path, config, *parts)
    killed(run, rng.uniform(0.2, 0.9) * seconds)
    again = start(tmp_path, config, *parts)
    assert again.wait(400) == 0, (tmp_path / "log.txt").read_text()[-3000:]
    assert found(tmp_path) == said
    assert not list((tmp_path / "results").rglob(".*.part")), "something half written was left"
    assert not list((tmp_path / "results" / "killed" / "parts").glob("*/maps/**/*.zarr")), "shares stay behind"


DAY = 86_400


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("ahead", [DAY, -DAY][: 1 + (SEEDS > 1)], ids=["back", "on"][: 1 + (SEEDS > 1)])
def test_a_clock_that_jumps_changes_no_number(tmp_path, config, quiet, ahead):
    """What was made before the jump is a day newer, or older, than what is made after it."""
    said, seconds = quiet
    killed(start(tmp_path, config), 0.6 * seconds)
    made = [path for path in (tmp_path / "results").rglob("*") if path.is_file()]
    assert len(made) > 10
    for path in made:
        state = path.stat()
        os.utime(path, (state.st_atime + ahead, state.st_mtime + ahead))
    if ahead > 0:
        # Snakemake notices that an output is older than its input, and ends: docs/questions.md has the cure.
        assert start(tmp_path, config).wait(400)
        assert "This could indicate a clock skew problem" in (tmp_path / "log.txt").read_text()
        cure = ["find", "results", "-newermt", "now", "-exec", "touch", "{}", "+"]
        assert " ".join(cure) in (ROOT / "docs/questions.md").read_text()
        subprocess.run(cure, cwd=tmp_path, check=True)
    again = start(tmp_path, config)
    assert again.wait(400) == 0, (tmp_path / "log.txt").read_text()[-3000:]
    assert found(tmp_path) == said


LATE = """
import os, subprocess, sys

def late(replace, seconds=3):
    def replaced(source, target, **settings):
        replace(source, target, **settings)
        if str(target).endswith(".parquet") and "/scores/" in str(target):
            replace(target, f"{target}.late")
            subprocess.Popen(["sh", "-c", 'sleep "$0"; mv "$1.late" "$1"', str(seconds), str(target)])
    return replaced

if any(".snakemake" in argument for argument in sys.orig_argv):
    os.replace = late(os.replace)
"""


@pytest.mark.timeout(1200)
def test_files_that_are_seen_late_are_waited_for(tmp_path, config, quiet):
    """As on NFS: a job has ended, and its table is not there for three seconds."""
    said, _ = quiet
    (tmp_path / "sitecustomize.py").write_text(LATE)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    waiting = start(tmp_path, config, "--latency-wait", "20", PYTHONPATH=path)
    assert waiting.wait(400) == 0, (tmp_path / "log.txt").read_text()[-3000:]
    assert found(tmp_path) == said
    (tmp_path / "results/killed" / SCORES).unlink()
    hasty = start(tmp_path, config, "--latency-wait", "0", PYTHONPATH=path)
    assert hasty.wait(400), "it was seen at once, so that nothing was tried"
    assert (
        "Output files missing" in (tmp_path / "log.txt").read_text() or "latency" in (tmp_path / "log.txt").read_text()
    )


def test_a_folder_that_cannot_be_written_is_named(tmp_path, config):
    """A file system that is read-only, in a namespace of its own."""
    (tmp_path / "results").mkdir()
    mounts = f'mount --bind "{tmp_path}/results" "{tmp_path}/results" && mount -o remount,ro,bind "{tmp_path}/results"'
    apart = ["unshare", "--mount", "--map-root-user"] if os.getuid() else ["unshare", "--mount"]
    try:
        subprocess.run([*apart, "sh", "-c", mounts], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"no file system can be made read-only here: {error}")
    run = start(tmp_path, config, before=[*apart, "sh", "-c", f'{mounts} && exec "$@"', "sh"])
    assert run.wait(200) == 1
    said = (tmp_path / "log.txt").read_text()
    assert "error: results/killed: cannot be written (Read-only file system); make it writable" in said
    assert "Traceback" not in said


def test_another_workflows_folder_is_refused(tmp_path, config):
    folder = tmp_path / "results" / "killed"
    folder.mkdir(parents=True)
    code = f"from relmap.job.lock import claim; print(claim({str(folder / '.lock')!r}, ''), flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout.readline() == "True\n"
        run = start(tmp_path, config)
        assert run.wait(200) == 1
        assert "error: results/killed: another workflow is at work here" in (tmp_path / "log.txt").read_text()
        other.communicate("\n")
    assert not list(folder.glob(".lock*")), "it ends with its process"
