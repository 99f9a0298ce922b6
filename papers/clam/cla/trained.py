"""CLA-layers of one classifier layer, trained for each explainer, as a file."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from relmap.errors import InputError
from relmap.job.files import atomic_path
from relmap.job.seeds import derive
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from papers.clam.cla.layer import ClaLayer
from papers.clam.cla.settings import ClamOptions, LayerSettings

FORM = ("normalisation", "add_on", "distance", "distance_over")
"""What a CLA-layer is beside its sizes: attributes of ``ClaLayer``, and keys of the config."""


@dataclass(frozen=True)
class TrainedLayer:
    """One layer's CLA-layers.

    Attributes:
        settings: its numbers.
        relevance_at: operation whose output's relevance is read and refined.
        features_at: operation whose output is the features.
        patterns: (C, P, P) class patterns at the features' scale.
        explainers: CLA-layer of each explainer, in the explainers' order.
        notes: what training reports (epochs, distances).
    """

    settings: LayerSettings
    relevance_at: str
    features_at: str
    patterns: Tensor
    explainers: Mapping[str, ClaLayer]
    notes: Mapping[str, Any]

    def to(self, device: torch.device | str) -> TrainedLayer:
        explainers = {name: layer.to(device) for name, layer in self.explainers.items()}
        return TrainedLayer(
            self.settings, self.relevance_at, self.features_at, self.patterns.to(device), explainers, self.notes
        )


def save_layer(path: str | os.PathLike, trained: TrainedLayer) -> None:
    """Write one layer's CLA-layers as safetensors, atomically."""
    tensors = {"patterns": trained.patterns.cpu().contiguous()}
    forms = {}
    for name, layer in trained.explainers.items():
        tensors |= {f"{name}.{key}": value.detach().cpu().contiguous() for key, value in layer.state_dict().items()}
        forms[name] = {key: getattr(layer, key) for key in FORM}
    header = {
        "settings": trained.settings.to_dict(),
        "relevance_at": trained.relevance_at,
        "features_at": trained.features_at,
        "explainers": forms,
        "notes": trained.notes,
    }
    with atomic_path(path) as temporary:
        save_file(tensors, temporary, metadata={"relmap": json.dumps(header, sort_keys=True)})


def load_layer(path: str | os.PathLike, device: torch.device | str = "cpu") -> TrainedLayer:
    """Read what ``save_layer`` wrote.

    Raises:
        InputError: the file is absent, broken or not a CLA-layer.
    """
    try:
        with safe_open(path, framework="pt", device=str(device)) as file:
            header = json.loads(file.metadata()["relmap"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a mapping)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such CLA-layer; run the rule train_cla_layers") from error
    except Exception as error:
        raise InputError(f"{path}: not a readable CLA-layer ({error}); delete it and run again") from error
    settings = LayerSettings(**header["settings"])
    explainers = {}
    for name, form in header["explainers"].items():
        channels = tensors[f"{name}.second_weight"].shape[0]
        layer = ClaLayer(channels, settings.attributes, settings.patch, settings.attribute_size, **form).to(device)
        layer.load_state_dict({key: tensors[f"{name}.{key}"] for key in layer.state_dict()})
        explainers[name] = layer.requires_grad_(False)
    return TrainedLayer(
        settings, header["relevance_at"], header["features_at"], tensors["patterns"], explainers, header["notes"]
    )


def load_chain(path: Path, training: int = 0, device: torch.device | str = "cpu") -> list[TrainedLayer]:
    """CLA-layers from the output to the input: one file, or all of a training in the folder of a chain.

    Raises:
        InputError: a file is absent or broken, or the folder has no such training.
    """
    if not path.is_dir():
        return [load_layer(path, device)]
    files = sorted((path / str(training)).glob("*.safetensors"))
    if not files:
        raise InputError(f"{path}: no CLA-layers of training {training}; run the rule train_cla_layers")
    return [load_layer(file, device) for file in files]


def load_artifacts(
    artifacts: Iterable[str | os.PathLike], explainer: str, training: int, device: torch.device | str
) -> list[TrainedLayer]:
    """The layers, from the output to the input, that a method of CLAM is given: files, or folders of chains.

    Raises:
        InputError: there are none, or none of this explainer.
    """
    layers = [layer for path in artifacts for layer in load_chain(Path(path), training, device)]
    if not layers:
        raise InputError("CLAM needs at least one CLA-layer; give the files that train_cla_layers wrote")
    for layer in layers:
        if explainer not in layer.explainers:
            raise InputError(
                f"CLA-layer at {layer.settings.layer}: none of {explainer}, it has {', '.join(layer.explainers)}"
            )
    return layers


def new_layer(options: ClamOptions, settings: LayerSettings, channels: int, seed: int, explainer: str) -> ClaLayer:
    """A CLA-layer with initial weights."""
    return ClaLayer(
        channels,
        settings.attributes,
        settings.patch,
        settings.attribute_size,
        **{key: getattr(options, key) for key in FORM},
        seed=derive(seed, settings.layer, explainer),
    )
