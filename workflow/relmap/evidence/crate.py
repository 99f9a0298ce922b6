"""A packed run as a Research Object Crate (RO-Crate 1.1), which repositories and others' programs can read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

_VERSION = "https://w3id.org/ro/crate/1.1"
_KINDS = {
    ".csv": "text/csv",
    ".html": "text/html",
    ".ipynb": "application/x-ipynb+json",
    ".json": "application/json",
    ".md": "text/markdown",
    ".npz": "application/zip",
    ".parquet": "application/vnd.apache.parquet",
    ".pdf": "application/pdf",
    ".png": "image/png",
    ".tex": "application/x-tex",
    ".tsv": "text/tab-separated-values",
    ".txt": "text/plain",
    ".yaml": "application/yaml",
}


def describe(
    run: str, files: Mapping[str, tuple[int, str]], provenance: Mapping[str, Any], ended: float
) -> dict[str, Any]:
    """The crate's metadata.

    Args:
        run: its name.
        files: (bytes, SHA-256) by path in the archive. Of a Zarr store the folder is an entity, not each chunk.
        provenance: the run's, as :func:`relmap.job.provenance.collect` has it.
        ended: when its last job ended, in seconds since 1970.

    Returns:
        JSON-LD: ``@context`` and ``@graph``.
    """
    date = datetime.fromtimestamp(int(ended), UTC).isoformat()
    stores = sorted({store for path in files if (store := _store(path))})
    plain = {path: known for path, known in sorted(files.items()) if not _store(path)}
    parts = [*({"@id": f"{quote(store)}/"} for store in stores), *({"@id": quote(path)} for path in plain)]
    commit = (provenance.get("source") or {}).get("commit", "")
    software = {
        "@id": "#relmap",
        "@type": "SoftwareApplication",
        "name": "relmap",
        "softwareVersion": commit or "not of a commit",
        "softwareRequirements": ", ".join(f"{name} {version}" for name, version in provenance["versions"].items()),
    }
    graph = [
        {
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "conformsTo": {"@id": _VERSION},
            "about": {"@id": "./"},
        },
        {
            "@id": "./",
            "@type": "Dataset",
            "name": f"relmap: the run {run}",
            "description": f"Relevance maps, scores, tables, claims and figures of the run {run} of relmap. "
            "`relmap restore` puts it into a clone of the repository, where tables and figures can be made again "
            "without data or networks. Pictures are of the data sets that the run names, under their terms.",
            "datePublished": date,
            "license": {"@id": "https://spdx.org/licenses/MIT"},
            "hasPart": parts,
            "mentions": {"@id": "#run"},
        },
        {
            "@id": "https://spdx.org/licenses/MIT",
            "@type": "CreativeWork",
            "name": "MIT License",
            "url": "https://spdx.org/licenses/MIT",
        },
        {
            "@id": "#run",
            "@type": "CreateAction",
            "name": f"The run {run}",
            "endTime": date,
            "instrument": {"@id": "#relmap"},
            "result": parts,
        },
        software,
        *({"@id": f"{quote(store)}/", "@type": "Dataset", "name": PurePosixPath(store).name} for store in stores),
        *(_file(path, *known) for path, known in plain.items()),
    ]
    terms = {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}
    return {"@context": [f"{_VERSION}/context", terms], "@graph": graph}


def _file(path: str, size: int, digest: str) -> dict[str, Any]:
    kind = _KINDS.get(PurePosixPath(path).suffix)
    return {
        "@id": quote(path),
        "@type": "File",
        "name": PurePosixPath(path).name,
        "contentSize": str(size),
        "sha256": digest,
        **({"encodingFormat": kind} if kind else {}),
    }


def _store(path: str) -> str | None:
    """The Zarr store that a file lies in."""
    return next((str(parent) for parent in PurePosixPath(path).parents if parent.suffix == ".zarr"), None)
