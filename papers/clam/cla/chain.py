"""A whole chain of CLA-layers, from the output to the input, in one job that can stop and go on.

Each layer is written when it is trained, into a folder beside the one that the job promises, which becomes that one at
the end. A job that was stopped goes on after the last layer that all trainings have, if all that they follow from is
the same.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from relmap.explainers.base import Relevance
from relmap.job.files import atomic_path

from papers.clam.cla.layers import layer_file
from papers.clam.cla.settings import ClamOptions, LayerSettings
from papers.clam.cla.trained import TrainedLayer, load_layer, save_layer
from papers.clam.cla.training import Source, train_layer

FINGERPRINT = "fingerprint"


def fingerprint(values: Mapping[str, Any], files: Iterable[str | os.PathLike]) -> str:
    """Of all that a chain follows from: plain values, and the content of some files."""
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for file in files:
        digest.update(hashlib.sha256(Path(file).read_bytes()).digest())
    return digest.hexdigest()


def train_chain(
    folder: str | os.PathLike,
    digest: str,
    methods: Mapping[str, Relevance],
    source: Source,
    plan: Sequence[LayerSettings],
    options: ClamOptions,
    seeds: Sequence[int],
    report: Callable[[str], None] = lambda line: None,
) -> None:
    """Train all CLA-layers, and write them as ``<training>/<place>_<layer>.safetensors`` below ``folder``.

    Args:
        digest: of all that they follow from, see :func:`fingerprint`.
        methods, source, options, seeds, report: as of ``train_layer``.
        plan: settings of the layers, from the output to the input.
    """
    folder = Path(folder)
    begun = folder.with_name(f"{folder.name}.begun")
    if not (begun / FINGERPRINT).is_file() or (begun / FINGERPRINT).read_text() != digest:
        shutil.rmtree(begun, ignore_errors=True)
        begun.mkdir(parents=True)
        with atomic_path(begun / FINGERPRINT) as temporary:
            Path(temporary).write_text(digest)
    device = next(iter(methods.values())).walk.propagator.device
    above: list[list[TrainedLayer]] = [[] for _ in seeds]
    for place, settings in enumerate(plan):
        name = f"{layer_file(place, settings.layer)}.safetensors"
        paths = [begun / str(number) / name for number in range(len(seeds))]
        if all(path.is_file() for path in paths):
            report(f"{settings.layer}: trained before the job was stopped")
            layers = [load_layer(path, device) for path in paths]
        else:
            layers = train_layer(methods, source, settings, above, options, seeds, report)
            for path, layer in zip(paths, layers, strict=True):
                path.parent.mkdir(exist_ok=True)
                save_layer(path, layer)
        for trained, layer in zip(above, layers, strict=True):
            trained.append(layer)
    shutil.rmtree(folder, ignore_errors=True)
    (begun / FINGERPRINT).unlink()
    begun.replace(folder)
