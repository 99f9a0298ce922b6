"""One GPU for one job.

Snakemake counts GPUs and knows no devices: four jobs that ask for ``gpu: 1`` would all run on the first. So a job takes
a slot, the lock of a device, and sees that device alone. Where a scheduler hands out devices, each of its jobs has
device numbers of its own, and slots of its own.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from relmap.job.lock import locked_any

VISIBLE = "CUDA_VISIBLE_DEVICES"


def visible_devices() -> list[str]:
    """Ids of the GPUs that this process may use: those in ``CUDA_VISIBLE_DEVICES``, else all that the driver counts.

    As CUDA reads the variable: what follows the first id that is none, such as -1, counts no more.
    """
    given = os.environ.get(VISIBLE)
    if given is None:
        return [str(number) for number in range(len(gpu_names()))]
    found: list[str] = []
    for name in map(str.strip, given.split(",")):
        if not name or name.startswith("-"):
            break
        found.append(name)
    return list(dict.fromkeys(found))


def gpu_names() -> list[str]:
    """Names of the NVIDIA GPUs, asked of the driver's tool, so that torch need not be imported."""
    if shutil.which("nvidia-smi") is None:
        return []
    query = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    run = subprocess.run(query, capture_output=True, text=True, check=False)
    return run.stdout.split("\n")[:-1] if run.returncode == 0 else []


@contextmanager
def gpu_slot(devices: Sequence[str] | None = None, folder: str | os.PathLike | None = None) -> Iterator[str | None]:
    """Take one GPU while the block runs, waiting until one is free; nothing where there is none.

    It must begin before CUDA is asked for anything: what CUDA saw first, it keeps.

    Args:
        devices: their ids; as :func:`visible_devices` finds them if not given.
        folder: where the locks lie, on this computer; a user's own in the folder of temporary files if not given.

    Yields:
        the device's id, which is all of ``CUDA_VISIBLE_DEVICES`` in the block, or None.
    """
    devices = visible_devices() if devices is None else list(devices)
    if not devices:
        yield None
        return
    folder = Path(_slots_of_user() if folder is None else folder)
    slots = {folder / f"{_file_name(device)}.lock": device for device in devices}
    with locked_any(list(slots), f"GPU {', '.join(devices)}") as taken:
        before = os.environ.get(VISIBLE)
        os.environ[VISIBLE] = slots[taken]
        try:
            yield slots[taken]
        finally:
            os.environ.pop(VISIBLE) if before is None else os.environ.update({VISIBLE: before})


def _slots_of_user() -> Path:
    scope = os.environ.get("SLURM_JOB_ID", "machine")
    return Path(tempfile.gettempdir()) / f"relmap-gpus-{os.getuid()}" / scope


def _file_name(device: str) -> str:
    """MIG's ids have slashes."""
    return device.replace("/", "_")
