"""Checkpoints of a training: all that it needs to go on as if it had never stopped."""

from __future__ import annotations

import hashlib
import json
import math
import pickle
import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from relmap.errors import InputError
from relmap.job.files import atomic_path
from relmap.models.recipe import TrainingConfig


@dataclass
class State:
    """What a checkpoint holds besides the states of module, optimiser and scaler."""

    epoch: int = 0
    best_epoch: int = 0
    best_score: tuple[float, float] = (-math.inf, -math.inf)
    best: dict[str, torch.Tensor] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)


def fingerprint(module: nn.Module, labels: torch.Tensor, config: TrainingConfig, seed: int, identity: str) -> str:
    """Fingerprint of all that a training follows from; a checkpoint goes on only where it is equal."""
    recipe = {key: value for key, value in asdict(config).items() if key != "checkpoint_seconds"}
    digest = hashlib.sha256(json.dumps([recipe, seed, identity], sort_keys=True).encode())
    for value in (labels, *module.state_dict().values()):
        digest.update(value.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def store(
    path: Path,
    digest: str,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    state: State,
) -> None:
    content = {
        "digest": digest,
        "module": module.state_dict(),
        "optimiser": optimiser.state_dict(),
        "scaler": scaler.state_dict(),
        "state": asdict(state),
    }
    # Through a file of Python's: of a full disk, torch's own says nothing but "unexpected pos".
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save(content, file)


def restore(
    path: Path,
    digest: str,
    module: nn.Module,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    device: torch.device,
) -> State | None:
    """The state of a checkpoint of this very training, or None if there is none."""
    if not path.is_file():
        return None
    try:
        content = torch.load(path, map_location=device, weights_only=True)
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError) as error:
        raise InputError(f"{path}: not a checkpoint that can be read ({error}); delete it and run again") from error
    if content.get("digest") != digest:
        tqdm.write(f"{path}: checkpoint of another recipe, seed or data; starting afresh", file=sys.stderr)
        return None
    module.load_state_dict(content["module"])
    optimiser.load_state_dict(content["optimiser"])
    scaler.load_state_dict(content["scaler"])
    state = State(**content["state"])
    tqdm.write(f"{path}: going on after epoch {state.epoch}", file=sys.stderr)
    return state
