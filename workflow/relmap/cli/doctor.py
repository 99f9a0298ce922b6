"""``relmap doctor``: what this machine has, what it lacks, and the cure of each."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

OK, NOTE, MISSING = "ok", "note", "missing"
GIB = 2**30
_PACKAGES = (
    "torch",
    "torchvision",
    "timm",
    "safetensors",
    "numpy",
    "scipy",
    "pandas",
    "pyarrow",
    "zarr",
    "PIL",
    "matplotlib",
)
_BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass(frozen=True)
class Finding:
    """What one check says: ``ok``; ``note``, of what is only of use; or ``missing``, with the cure."""

    what: str
    state: str
    says: str
    cure: str = ""


@click.command()
def doctor() -> None:
    """Say what is missing on this machine, and how to mend it. Ends with 1 where something needed is missing.

    \b
      relmap doctor
    """
    findings = examine()
    width = max(len(each.what) for each in findings)
    for each in findings:
        click.echo(f"{each.state:8}{each.what:{width}}  {each.says}")
        if each.cure:
            click.echo(f"{'':{8 + width}}  -> {each.cure}")
    missing = [each.what for each in findings if each.state == MISSING]
    click.echo(f"\n{'Missing: ' + ', '.join(missing) if missing else 'Everything needed is there.'}")
    if missing:
        click.get_current_context().exit(1)


def examine() -> list[Finding]:
    """All checks, in the order of what depends on what. A check that fails itself is a finding."""
    found: list[Finding] = []
    for check in _CHECKS:
        try:
            found += check()
        except Exception as error:
            found.append(
                Finding(check.__name__.strip("_"), MISSING, f"cannot be examined: {type(error).__name__}: {error}")
            )
    return found


def _python() -> Iterator[Finding]:
    says = sys.version.split()[0]
    new_enough = sys.version_info >= (3, 11)
    yield Finding("Python", OK if new_enough else MISSING, says, "" if new_enough else "install Python 3.11 or newer")


def _packages() -> Iterator[Finding]:
    absent = [name for name in _PACKAGES if importlib.util.find_spec(name) is None]
    cure = "python -m pip install --requirement requirements.lock" if absent else ""
    yield Finding(
        "packages", MISSING if absent else OK, f"{', '.join(absent) or 'all'} {'absent' if absent else 'there'}", cure
    )


def _torch() -> Iterator[Finding]:
    import torch

    threads = f"{torch.get_num_threads()} thread{'s' if torch.get_num_threads() > 1 else ''}"
    yield Finding("torch", OK, f"{torch.__version__}, {threads}")
    if torch.cuda.is_available():
        free, total = torch.cuda.mem_get_info()
        yield Finding("CUDA", OK, f"{torch.cuda.get_device_name()}, {free / GIB:.0f} of {total / GIB:.0f} GiB free")
    elif torch.version.cuda is None:
        cure = "where there is an NVIDIA GPU, install torch's CUDA build: pip install torch from PyPI"
        yield Finding("CUDA", NOTE, "torch is built for the CPU; everything runs on it", cure)
    else:
        cure = "where there is an NVIDIA GPU, install its driver; `nvidia-smi` must list it"
        yield Finding("CUDA", NOTE, "no device; everything runs on the CPU", cure)


def _torchvision() -> Iterator[Finding]:
    from relmap.torchvision_shim import torchvision

    yield Finding("torchvision", OK, torchvision.__version__)


def _memory() -> Iterator[Finding]:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    enough = total >= 4 * GIB
    cure = (
        ""
        if enough
        else "explain few images at a time: relmap explain --batch-size 1, compute.batch_size in the config"
    )
    yield Finding("memory", OK if enough else NOTE, f"{total / GIB:.0f} GiB, {cores} cores", cure)


def _disk() -> Iterator[Finding]:
    free = shutil.disk_usage(Path.cwd()).free
    enough = free >= 5 * GIB
    cure = "" if enough else "the default run writes 3 GiB; free some, or run in another folder"
    yield Finding("disk", OK if enough else MISSING, f"{free / GIB:.0f} GiB free here", cure)
    writable = os.access(Path.cwd(), os.W_OK)
    if not writable:
        yield Finding("folder", MISSING, f"{Path.cwd()} cannot be written to", "run in a folder of your own")


def _workflow() -> Iterator[Finding]:
    from relmap.cli.repository import repository
    from relmap.errors import InputError

    try:
        root = repository()
    except InputError:
        cure = "clone the repository to regenerate papers; `relmap explain` needs none"
        yield Finding("workflow", NOTE, "no copy of the repository here", cure)
        return
    yield Finding("workflow", OK, str(root))
    if importlib.util.find_spec("snakemake") is None:
        yield Finding("snakemake", MISSING, "absent", "python -m pip install --requirement requirements.lock")
    else:
        yield Finding("snakemake", OK, importlib.metadata.version("snakemake"))
    yield from _data(root)


def _data(root: Path) -> Iterator[Finding]:
    import yaml

    data = root / str(
        (yaml.safe_load((root / "config.yaml").read_text(encoding="utf-8")) or {}).get("data_root", "data")
    )
    if data.is_dir():
        kept = sorted(path.name for path in data.iterdir())
        yield Finding(
            "data_root",
            OK,
            f"{data}: {', '.join(kept[:6]) or 'empty'}; {shutil.disk_usage(data).free / GIB:.0f} GiB free",
        )
    else:
        cure = "nothing to do for the default run, which renders its pictures; the full run downloads into it"
        yield Finding("data_root", NOTE, f"{data} is not there", cure)


def _weights() -> Iterator[Finding]:
    import torch

    folder = Path(torch.hub.get_dir(), "checkpoints")
    files = sorted(path.name for path in folder.glob("*.pth")) if folder.is_dir() else []
    cure = "" if files else "`relmap explain` fetches them where there is internet; else name a file: --weights FILE"
    says = f"{folder}: {', '.join(files[:4])}" if files else f"none of torchvision's in {folder}"
    yield Finding("weights", OK if files else NOTE, says, cure)


def _fonts() -> Iterator[Finding]:
    from matplotlib import font_manager

    try:
        yield Finding("fonts", OK, Path(font_manager.findfont("DejaVu Sans", fallback_to_default=False)).name)
    except ValueError:
        yield Finding("fonts", MISSING, "DejaVu Sans is absent", "install matplotlib again, which brings it")


def _browser() -> Iterator[Finding]:
    found = next((path for path in map(shutil.which, _BROWSERS) if path), None)
    cure = "" if found else "only tests of the report use it: apt-get install chromium"
    yield Finding("chromium", OK if found else NOTE, found or "absent", cure)


_CHECKS: tuple[Callable[[], Iterator[Finding]], ...] = (
    _python,
    _packages,
    _torch,
    _torchvision,
    _memory,
    _disk,
    _workflow,
    _weights,
    _fonts,
    _browser,
)
