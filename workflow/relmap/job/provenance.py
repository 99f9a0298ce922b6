"""What a run was made with: versions, source, machine, and what each rule cost."""

from __future__ import annotations

import csv
import os
import platform
import shutil
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from relmap.job.files import read_json
from relmap.job.gpu import gpu_names

PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "zarr", "pillow", "snakemake", "papermill")


def collect(results: str | os.PathLike, repository: str | os.PathLike) -> dict[str, Any]:
    """Everything that is worth knowing of a finished run.

    Args:
        results: the run's folder, with ``benchmarks/<rule>/...tsv`` as Snakemake writes them.
        repository: the workflow's folder.

    Returns:
        JSON values: ``versions``, ``source`` (commit, and whether files differed from it), ``machine``, ``weights`` (of
        each network: SHA-256 and origin, which for weights from a file names it and its own SHA-256), ``rules`` (per
        rule: jobs, seconds in all, largest memory in MB); of a restored run also ``restored``: from what archive its
        maps and scores come, and what made them.
    """
    restored = Path(results) / "restored.json"
    return {
        "versions": {"python": platform.python_version(), **versions()},
        "source": source(repository),
        "machine": machine(),
        "weights": weights(Path(results) / "models"),
        "rules": costs(Path(results) / "benchmarks"),
        **({"restored": read_json(restored)} if restored.is_file() else {}),
    }


def versions() -> dict[str, str]:
    """Installed versions of the packages that numbers depend on."""
    found = {}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def source(repository: str | os.PathLike) -> dict[str, Any]:
    """Commit of the workflow, and whether tracked files differed from it; empty outside a git checkout."""

    def git(*arguments: str) -> str | None:
        if shutil.which("git") is None:
            return None
        run = subprocess.run(["git", "-C", str(repository), *arguments], capture_output=True, text=True, check=False)
        return run.stdout.strip() if run.returncode == 0 else None

    commit = git("rev-parse", "HEAD")
    if commit is None:
        return {}
    return {"commit": commit, "modified": bool(git("status", "--porcelain", "--untracked-files=no"))}


def machine() -> dict[str, Any]:
    """System, cores that this process may use, and the GPU where the driver names one."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {"system": platform.system(), "processor": platform.machine(), "cores": cores, "gpus": gpu_names()}


def weights(models: Path) -> dict[str, dict[str, str]]:
    """Per network, from the cards ``<dataset>/<model>.json``: its SHA-256 and where it comes from."""
    cards = {path: read_json(path) for path in sorted(models.glob("*/*.json"))}
    return {
        f"{path.parent.name}/{path.stem}": {"sha256": card.get("sha256", ""), "origin": card.get("origin", "")}
        for path, card in cards.items()
    }


def costs(benchmarks: Path) -> dict[str, dict[str, float]]:
    """Per rule, from Snakemake's benchmark files: ``jobs``, ``seconds`` in all, ``max_rss_mb``."""
    found: dict[str, dict[str, float]] = {}
    for path in sorted(benchmarks.rglob("*.tsv")):
        rule = path.relative_to(benchmarks).parts[0].removesuffix(".tsv")
        entry = found.setdefault(rule, {"jobs": 0, "seconds": 0.0, "max_rss_mb": 0.0})
        with open(path, newline="") as file:
            for row in csv.DictReader(file, delimiter="\t"):
                entry["jobs"] += 1
                entry["seconds"] = round(entry["seconds"] + _number(row["s"]), 2)
                entry["max_rss_mb"] = max(entry["max_rss_mb"], _number(row["max_rss"]))
    return found


def _number(text: str) -> float:
    """A benchmark's value; Snakemake writes NA for what it could not measure."""
    try:
        return float(text)
    except ValueError:
        return 0.0
