"""How a network is trained: the keys of ``training.pretrain`` and ``training.finetune``, and what follows from them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from relmap.errors import InputError
from relmap.models.augment import Augmentation

_CHOICES = {
    "optimiser": ("adamw", "sgd"),
    "schedule": ("onecycle", "cosine", "constant"),
    "precision": ("auto", "float32", "bfloat16", "float16"),
    "decayed": ("weights", "all"),
    "judged_by": ("accuracy", "loss"),
    "trainable": ("head", "last_stage", "all"),
}


@dataclass(frozen=True)
class TrainingConfig:
    """The keys of ``training.pretrain`` and ``training.finetune``.

    Attributes:
        epochs: at most so many.
        batch_size: pictures (or features) a step.
        optimiser: ``adamw`` or ``sgd`` (with ``momentum``).
        learning_rate: the largest of the schedule.
        weight_decay: of what ``decayed`` says: ``weights`` with two or more axes and not biases and norms, or ``all``.
        momentum, nesterov: for ``sgd``.
        memory: of ``adamw``, of the mean of squared gradients (beta 2).
        schedule: ``onecycle`` (linear warm-up, then cosine to zero), ``cosine`` (no warm-up), ``constant``.
        warmup: share of all steps in which the rate rises linearly.
        label_smoothing: share of the target spread over all classes.
        clip: largest norm of the gradient; 0 for no limit.
        dropout: probability in all dropout layers while training; negative keeps the architecture's own.
        batch_norm: a network, or fully connected part, without batch norm is trained with it and has it folded into its
            weights at the end. A narrow VGG learns in a third of the epochs so, and its topology stays VGG-16's.
        holdout: training pictures kept apart to choose the epoch: below 1 a share of each class, else how many in all,
            spread evenly over the classes; 0 keeps the last epoch.
        judged_by: what of these an epoch is better by: ``accuracy`` (then the least loss), or the ``loss`` alone.
        patience: stop after so many epochs that were not better; 0 for never.
        trainable: fine-tuning only: the ``head``; the ``last_stage``, from the row's ``stage`` on; or ``all``.
        views: fine-tuning on features only: how many of a picture have theirs computed, the clean one and random ones.
        start_size: of whole networks: side of the pictures in the first epoch, rising in steps of 8; 0 for no rise.
        full_size_from: of whole networks: share of the epochs after which the pictures have their full size.
        precision: ``auto`` is float32 on the CPU, and on CUDA bfloat16 where the card has it, else float16.
        feature_gib: fine-tuning on features only: most memory that cached features may take.
        checkpoint_seconds: least time between two checkpoints.
        augmentation: the limits of random views.
    """

    epochs: int = 12
    batch_size: int = 32
    optimiser: str = "adamw"
    learning_rate: float = 0.0025
    weight_decay: float = 0.01
    decayed: str = "weights"
    momentum: float = 0.9
    nesterov: bool = True
    memory: float = 0.999
    schedule: str = "onecycle"
    warmup: float = 0.15
    label_smoothing: float = 0.0
    clip: float = 1.0
    dropout: float = 0.0
    batch_norm: bool = True
    holdout: float = 0.1
    judged_by: str = "accuracy"
    patience: int = 0
    trainable: str = "head"
    views: int = 4
    start_size: int = 40
    full_size_from: float = 0.8
    precision: str = "auto"
    feature_gib: float = 8.0
    checkpoint_seconds: float = 15.0
    augmentation: Augmentation = field(default_factory=Augmentation)

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> TrainingConfig:
        """Read a section of the configuration; what it leaves out keeps its default.

        Raises:
            InputError: an unknown key or a value out of range.
        """
        values = dict(values)
        extra = dict(values.pop("augmentation", None) or {})
        for kind, given, where in ((cls, values, "training"), (Augmentation, extra, "training augmentation")):
            known = sorted(item.name for item in fields(kind))
            if unknown := sorted(given.keys() - set(known)):
                raise InputError(f"{where}: unknown key {unknown[0]!r}; known are {', '.join(known)}")
        return cls(**values, augmentation=Augmentation(**extra))

    def __post_init__(self) -> None:
        for key, choices in _CHOICES.items():
            if getattr(self, key) not in choices:
                raise InputError(f"training: {key} is {getattr(self, key)!r}; choose one of {', '.join(choices)}")
        for key in ("epochs", "batch_size", "views"):
            if getattr(self, key) < 1:
                raise InputError(f"training: {key} is {getattr(self, key)}; it must be at least 1")
        if self.holdout < 0 or (self.holdout >= 1 and self.holdout != int(self.holdout)):
            raise InputError(
                f"training: holdout is {self.holdout}; give a share from 0 to below 1, or a whole number of pictures"
            )
        if self.learning_rate <= 0:
            raise InputError(f"training: learning_rate is {self.learning_rate}; it must be positive")


def training_size(config: TrainingConfig, input_size: int, epoch: int) -> int:
    """Side of the training pictures in an epoch (from 0): small ones first, which cost a fraction of the time."""
    if not config.start_size or config.start_size >= input_size:
        return input_size
    rise = min(1.0, epoch / max(1.0, config.full_size_from * config.epochs))
    return min(input_size, 8 * round((config.start_size + rise * (input_size - config.start_size)) / 8))


def learning_rate(config: TrainingConfig, step: int, steps: int) -> float:
    """The rate at a step (from 0) of ``steps``: a closed form, so that a checkpoint needs no schedule's state."""
    warmup = 0 if config.schedule == "cosine" else round(config.warmup * steps)
    if step < warmup:
        return config.learning_rate * (step + 1) / warmup
    if config.schedule == "constant":
        return config.learning_rate
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))
