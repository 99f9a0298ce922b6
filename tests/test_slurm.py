"""The workflow on a real Slurm, of this machine alone: what goes wrong there, and that the numbers are the same.

Skipped, saying why, where Slurm is not installed. ``SLURM_TRIALS=long`` adds what takes minutes: a job over its time.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.slurm.cluster import cluster, missing

ROOT = Path(__file__).parents[1]
TRIALS = ROOT / "tests" / "slurm" / "Snakefile"
WHY_NOT = missing()
LONG = os.environ.get("SLURM_TRIALS") == "long"
# As which of them a job counts that was killed for its memory, Slurm's version decides.
OVER_MEMORY = "FAILED", "OUT_OF_MEMORY"
pytestmark = pytest.mark.skipif(WHY_NOT is not None, reason=f"no Slurm run: {WHY_NOT}")


@pytest.fixture(scope="module")
def slurm():
    """A cluster of four booked cores; munge's socket wants a short path."""
    with tempfile.TemporaryDirectory(prefix="relmap-slurm-", dir="/tmp") as folder, cluster(Path(folder), 4) as found:
        yield found


def start(slurm, folder, *arguments, snakefile=ROOT / "Snakefile"):
    """Snakemake with profiles/slurm, polling often."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--directory", str(folder)]
    command += ["--workflow-profile", str(ROOT / "profiles/slurm"), "--slurm-status-command", "squeue"]
    command += ["--slurm-init-seconds-before-status-checks", "2", "--latency-wait", "5", "--cores", "2"]
    return subprocess.Popen(
        [*command, *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        cwd=ROOT,
        env={**slurm.environment, "OMP_NUM_THREADS": "1"},
    )


def ended(process, slurm, seconds):
    """What a run said, which ended well."""
    try:
        said, _ = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.kill()
        pytest.fail(process.communicate()[0][-4000:] + slurm.words() + slurm.ask("squeue", "--states=all"))
    assert process.returncode == 0, said[-4000:]
    return said


def locally(folder, *arguments, snakefile=ROOT / "Snakefile"):
    """The same without a cluster."""
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--directory", str(folder)]
    command += ["--workflow-profile", "none", "--cores", "2", "--quiet", "all", *map(str, arguments)]
    subprocess.run(command, check=True, cwd=ROOT, timeout=1200)


def job_of(slurm, rule, *states):
    """Slurm's number of a rule's job in one of some states, or nothing."""
    jobs = [
        line.split("|") for line in slurm.ask("squeue", "--noheader", "--states=all", "--format=%i|%T|%k").splitlines()
    ]
    return next((number for number, found, comment in jobs if found in states and comment == f"rule_{rule}"), "")


def node(slurm, state):
    slurm.ask("scontrol", "update", f"NodeName={slurm.host}", f"State={state}", "Reason=trial")


def test_a_run_ends_with_the_same_numbers_whatever_happens(slurm, tmp_path):
    """A job is cancelled, one takes too much memory, the node is drained, the controller goes away and comes back."""
    late = ["--config", f"late={int(LONG)}"]
    run = start(slurm, tmp_path, *late, snakefile=TRIALS)
    begun = [tmp_path / f"{rule}.begun" for rule in ("steady", "cancelled")]
    slurm.wait(lambda: all(path.exists() for path in begun) and job_of(slurm, "hungry", *OVER_MEMORY), "three jobs", 90)
    node(slurm, "drain")
    slurm.stop("slurmctld")
    assert slurm.ask("squeue", "--noheader") == ""
    slurm.start_controller()
    slurm.wait(lambda: job_of(slurm, "cancelled", "RUNNING"), "the controller", 60)
    assert slurm.ask("sinfo", "--noheader", "--format=%T") in ("draining", "drained"), "it has not forgotten"
    slurm.ask("scancel", job_of(slurm, "cancelled", "RUNNING"))
    node(slurm, "resume")
    (tmp_path / "go").touch()
    said = ended(run, slurm, 400 if LONG else 120)
    failed = dict(
        re.findall(r"Error in rule (\w+):\n +message: SLURM-job '\d+' failed, SLURM status is: '(\w+)'", said)
    )
    assert failed.pop("hungry") in OVER_MEMORY
    assert failed == {"cancelled": "CANCELLED", **({"late": "TIMEOUT"} if LONG else {})}
    shutil.rmtree(tmp_path / ".snakemake")
    again = tmp_path / "local"
    again.mkdir()
    (again / "go").touch()
    locally(again, *late, "--set-resources", "cancelled:first=0", "late:first=0", snakefile=TRIALS)
    assert (tmp_path / "total.txt").read_bytes() == (again / "total.txt").read_bytes()


def test_rules_of_the_workflow_run_on_the_cluster(slurm, tmp_path):
    """Two rules in one job, as their group asks; what they make is what is made without a cluster."""
    target = "results/toy/manifests/toy.parquet"
    given = ["--configfile", ROOT / "tests/toy/config.yaml", "--", target]
    run = start(slurm, tmp_path / "cluster", *given)
    locally(tmp_path / "local", *given)
    said = ended(run, slurm, 100)
    assert len(re.findall("has been submitted with SLURM jobid", said)) == 1
    made, wanted = (folder / target for folder in (tmp_path / "cluster", tmp_path / "local"))
    assert made.read_bytes() == wanted.read_bytes()
