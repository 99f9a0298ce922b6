"""Slots of GPUs: with made-up devices, several processes at once, killed holders; nothing without a GPU."""

import ast
import errno
import fcntl
import logging
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from relmap.job import gpu
from relmap.job.gpu import VISIBLE, gpu_slot, visible_devices
from relmap.job.logs import job

ROOT = Path(__file__).parents[1]
# Whoever finds another's name under its device has broken the promise.
HOLDER = """
import errno, fcntl, os, sys, time
from relmap.job import lock
from relmap.job.gpu import gpu_slot
folder, flock, rounds = sys.argv[1], sys.argv[2], int(sys.argv[3])
def unsupported(*_): raise OSError(errno.ENOLCK, '')
if flock == 'no flock': fcntl.flock = unsupported
for _ in range(rounds):
    with gpu_slot(['0', '2', 'MIG-1/2'], folder) as device:
        assert os.environ['CUDA_VISIBLE_DEVICES'] == device
        mark = os.path.join(folder, 'held-' + device.replace('/', '_'))
        os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        time.sleep(0.02)
        os.unlink(mark)
        print(device, flush=True)
"""


@pytest.mark.parametrize("flock", ["flock", "no flock"])
def test_no_two_processes_hold_the_same_device(tmp_path, flock):
    command = [sys.executable, "-c", HOLDER, str(tmp_path), flock, "3"]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(6)]
    devices = [process.communicate(timeout=60)[0].split() for process in running]
    assert [process.returncode for process in running] == [0] * 6
    assert all(len(found) == 3 for found in devices)
    assert {device for found in devices for device in found} == {"0", "2", "MIG-1/2"}, "all are used"
    assert list(tmp_path.iterdir()) == []


def test_waits_when_all_are_taken_and_says_so(tmp_path, caplog):
    taken, order = threading.Event(), []

    def late():
        taken.wait()
        with gpu_slot(["7"], tmp_path) as device:
            order.append(device)

    thread = threading.Thread(target=late)
    thread.start()
    with caplog.at_level(logging.WARNING), gpu_slot(["7"], tmp_path):
        taken.set()
        time.sleep(0.2)
        order.append("first")
    thread.join(10)
    assert order == ["first", "7"]
    assert "GPU 7: another run works on it; waiting" in caplog.text


@pytest.mark.parametrize("flock", ["flock", "no flock"])
def test_the_slot_of_a_killed_holder_is_free_again(tmp_path, flock, monkeypatch):
    code = HOLDER.replace("time.sleep(0.02)", "os.unlink(mark); print('held', flush=True); time.sleep(60)")
    for device in ("0", "2", "MIG-1/2"):
        process = subprocess.Popen(
            [sys.executable, "-c", code.replace("['0', '2', 'MIG-1/2']", f"[{device!r}]"), str(tmp_path), flock, "1"],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout.readline() == "held\n"
        process.kill()
        process.wait()
    if flock != "flock":

        def unsupported(*_):
            raise OSError(errno.ENOLCK, "")

        monkeypatch.setattr(fcntl, "flock", unsupported)
    with gpu_slot(["0", "2"], tmp_path) as first, gpu_slot(["0", "2"], tmp_path) as second:
        assert {first, second} == {"0", "2"}


def test_devices_are_those_that_cuda_would_see(monkeypatch):
    monkeypatch.setattr(gpu, "gpu_names", lambda: ["A", "B"])
    monkeypatch.delenv(VISIBLE, raising=False)
    assert visible_devices() == ["0", "1"]
    for given, seen in {"3,1": ["3", "1"], " GPU-ab , 2": ["GPU-ab", "2"], "0,-1,1": ["0"], "": [], "-1": []}.items():
        monkeypatch.setenv(VISIBLE, given)
        assert visible_devices() == seen, given


def test_each_job_of_a_scheduler_has_slots_of_its_own(tmp_path, monkeypatch):
    """Schedulers that fence devices off count them from 0 in each job: the same number is another device."""
    monkeypatch.setattr(gpu.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("SLURM_JOB_ID", "11")
    with gpu_slot(["0"]):
        monkeypatch.setenv("SLURM_JOB_ID", "12")
        with gpu_slot(["0"]) as device:
            assert device == "0"


def test_nothing_happens_without_a_gpu(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu, "gpu_names", list)
    monkeypatch.delenv(VISIBLE, raising=False)
    with gpu_slot(folder=tmp_path / "slots") as device:
        assert device is None and VISIBLE not in os.environ
    assert not (tmp_path / "slots").exists()


def test_a_job_that_asks_for_a_gpu_sees_one(tmp_path, monkeypatch):
    monkeypatch.setattr(gpu.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv(VISIBLE, "4,5")
    with gpu_slot(["4"]):
        monkeypatch.setenv(VISIBLE, "4,5")
        with job(str(tmp_path / "a.log"), gpus=1):
            assert os.environ[VISIBLE] == "5"
        assert os.environ[VISIBLE] == "4,5", "as before"
        with job(str(tmp_path / "b.log")):
            assert os.environ[VISIBLE] == "4,5", "a job that asks for none is left alone"


def test_every_job_that_is_given_a_gpu_takes_its_slot():
    scripts = [
        (path.parent / script).resolve()
        for path in [*(ROOT / "workflow/rules").glob("*.smk"), *ROOT.glob("papers/*/*.smk")]
        for block in re.split(r"\n(?=\s*rule\b)", path.read_text())
        if "gpu=" in block
        for script in re.findall(r'script:\s*"([^"]+)"', block)
    ]
    assert len(scripts) > 20
    lacking = {path.name for path in scripts if not re.search(r"\bjob\(.*snakemake\.resources\.", path.read_text())}
    assert lacking == set()


def test_no_module_asks_cuda_for_anything_when_it_is_imported():
    """CUDA keeps the devices that it saw first, so a script may import what it likes before its job takes a slot."""

    def at_import(node):
        for child in ast.iter_child_nodes(node):
            if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                yield child
                yield from at_import(child)

    asking = [
        f"{path.name}:{node.lineno}"
        for path in [*(ROOT / "workflow/relmap").rglob("*.py"), *ROOT.glob("papers/**/*.py")]
        if path.parent.name != "scripts"
        for node in at_import(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == "cuda"
    ]
    assert asking == []
