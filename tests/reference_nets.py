"""The small trained networks whose reference vectors the tests compare with."""

from functools import cache
from pathlib import Path

import numpy as np
import torch
from relmap.models.card import load_weights
from relmap.models.zoo import build
from relmap.torchvision_shim import torchvision

REFERENCE = Path(__file__).parent / "reference"


def network(architecture: str, dtype: torch.dtype = torch.float64) -> torch.nn.Module:
    """``vgg16`` or ``resnet50`` at an eighth of the width, or a small ``vit``; ten classes, 64 x 64 pixels."""
    if architecture == "vit":
        sizes = {"image_size": 64, "patch_size": 8, "num_layers": 4, "num_heads": 3, "hidden_dim": 96, "mlp_dim": 192}
        model = torchvision.models.VisionTransformer(**sizes, num_classes=10)
    else:
        model = build(architecture, 10, 0.125, 64, device="meta")
    load_weights(model, REFERENCE / "nets" / f"{architecture}s.safetensors")
    return model.to(dtype).eval().requires_grad_(False)


@cache
def inputs(dtype: torch.dtype = torch.float64) -> tuple[torch.Tensor, torch.Tensor]:
    """Images (8,3,64,64), normalised, and targets (2,8): the label and the class after it."""
    stored = np.load(REFERENCE / "nets" / "inputs.npz")
    labels = torch.from_numpy(stored["labels"]).long()
    return torch.from_numpy(stored["normalised"]).to(dtype), torch.stack([labels, (labels + 1) % 10])


def logit_signs(architecture: str) -> torch.Tensor:
    """Signs (8,2) of the targets' logits: all labels' are positive, most others' negative."""
    logits = torch.from_numpy(vectors("nets/logits.npz")[f"{architecture}s"])
    return logits.gather(1, inputs()[1].T).sign()


def vectors(path: str) -> dict[str, np.ndarray]:
    with np.load(REFERENCE / path) as stored:
        return {name: stored[name] for name in stored}
