"""Training of whole networks, and fine-tuning of their last part on features that are computed once.

Every random draw of an epoch follows from (seed, epoch) alone. A training that was interrupted and goes on from its
checkpoint therefore ends with the same weights, bit for bit on one machine, as one that was not.
"""

from __future__ import annotations

import copy
import csv
import math
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from relmap.errors import InputError
from relmap.job.files import atomic_path
from relmap.models import objective
from relmap.models.augment import clean_view, random_view
from relmap.models.checkpoint import State, fingerprint, restore, store
from relmap.models.examples import InMemory, Normalisation, Source, Streamed, grouped, held_out
from relmap.models.folding import add_batch_norm, fold_batch_norm
from relmap.models.inference import autocast, device_of, evaluate, laid_out, precision_type, predict, threads
from relmap.models.recipe import TrainingConfig, learning_rate, training_size
from relmap.models.zoo import architecture_of, new_last_layer

__all__ = [
    "HISTORY_COLUMNS",
    "Fit",
    "InMemory",
    "Normalisation",
    "Source",
    "Streamed",
    "TrainingConfig",
    "cache_features",
    "evaluate",
    "finetune",
    "predict",
    "threads",
    "train",
    "train_as_is",
    "write_history",
]

HISTORY_COLUMNS = ("epoch", "split", "loss", "accuracy", "learning_rate", "seconds")


@dataclass
class Fit:
    """What a training leaves behind besides the weights.

    Attributes:
        history: rows with the keys ``HISTORY_COLUMNS``; splits ``train`` (as trained: augmented, with dropout) and
            ``validation`` (the held-out part). With several labels an image, ``accuracy`` is the mean average
            precision.
        best_epoch: the epoch whose weights were kept, from 1.
        accuracy: its held-out accuracy (where nothing is held out, the last epoch's on the training pictures).
    """

    history: list[dict[str, Any]]
    best_epoch: int
    accuracy: float


# A view of a batch: (batch, epoch, generator) -> what the module takes; without a generator, the clean view.
Prepare = Callable[[torch.Tensor, int, torch.Generator | None], torch.Tensor]


def train(
    model: nn.Module,
    source: Source,
    config: TrainingConfig,
    normalisation: Normalisation,
    input_size: int,
    *,
    seed: int = 0,
    checkpoint: str | os.PathLike | None = None,
    identity: str = "",
    name: str = "train",
) -> Fit:
    """Train all weights of ``model``, in place, on the device where it lies.

    Args:
        model: network taking normalised (N,3,input_size,input_size).
        source: pictures in [0,1]; larger than ``input_size``, they leave room for shifts.
        config: the recipe.
        normalisation: applied after augmentation.
        input_size: side of the network's input in pixels.
        seed: of order, views and dropout.
        checkpoint: file to go on from and to keep up to date; the caller removes it once the model is saved.
        identity: fingerprint of the data; a checkpoint of other data, recipe or seed is not used.
        name: label in the log.

    Returns:
        History and the epoch whose weights the model now has.

    Raises:
        InputError: the training diverges, or the source has no examples.
    """

    def prepare(batch: torch.Tensor, epoch: int, generator: torch.Generator | None) -> torch.Tensor:
        if generator is None:
            return normalisation(clean_view(batch, input_size, input_size))
        size = training_size(config, input_size, epoch)
        return normalisation(random_view(batch, config.augmentation, input_size, size, generator))

    added = config.batch_norm and add_batch_norm(model)
    model.to(memory_format=torch.channels_last)
    fit = _fit(model, source, prepare, config, seed, checkpoint, identity, name)
    model.to(memory_format=torch.contiguous_format)
    if added:
        fold_batch_norm(model)
    return fit


def train_as_is(model: nn.Module, source: Source, config: TrainingConfig, *, seed: int = 0, name: str = "train") -> Fit:
    """Train all weights of ``model``, in place, on examples that it takes as they are, such as token ids.

    Arguments as in ``train``; of ``config``, augmentation and sizes play no part.
    """
    return _fit(model, source, lambda batch, epoch, generator: batch, config, seed, None, "", name)


def finetune(
    model: nn.Module,
    architecture: str,
    classes: int,
    source: Source,
    config: TrainingConfig,
    normalisation: Normalisation,
    input_size: int,
    *,
    seed: int = 0,
    checkpoint: str | os.PathLike | None = None,
    identity: str = "",
    name: str = "finetune",
    features: InMemory | None = None,
) -> Fit:
    """Give ``model`` a fresh last layer and train what the recipe says, in place.

    Its fully connected part only (``head``; CLAM, A.1), or from its last stage on (``last_stage``): what is before is
    frozen, so its features are computed once, of the clean picture and of ``views - 1`` random views. Or ``all``, as
    ``train`` does. Arguments are those of ``train``; ``classes`` is the number of outputs of the fresh layer, and
    ``features`` are those of ``cache_features`` where several trainings, of other seeds, share them.

    Raises:
        InputError: as ``train``; the features need more memory than ``feature_gib``; or the architecture's row names no
            last stage.
    """
    new_last_layer(model, architecture, classes, seed)
    if config.trainable == "all":
        return train(
            model,
            source,
            config,
            normalisation,
            input_size,
            seed=seed,
            checkpoint=checkpoint,
            identity=identity,
            name=name,
        )
    first, head = trained_part(model, architecture, config.trainable)
    cached = features or cache_features(model, first, source, config, normalisation, input_size, seed=seed, name=name)

    def prepare(batch: torch.Tensor, epoch: int, generator: torch.Generator | None) -> torch.Tensor:
        if generator is None:
            return batch[:, 0]
        view = torch.randint(batch.shape[1], (len(batch),), generator=generator)
        return batch[torch.arange(len(batch), device=batch.device), view.to(batch.device)]

    added = config.batch_norm and add_batch_norm(head)
    fit = _fit(head, cached, prepare, config, seed, checkpoint, identity, name)
    if added:
        fold_batch_norm(head)
    model.eval()
    return fit


def trained_part(model: nn.Module, architecture: str, trainable: str) -> tuple[nn.Module, nn.Module]:
    """What fine-tuning trains: the first of its modules, and a network of what that one receives.

    The last stage's network is ``model`` whose modules before the stage hand on what they are given; they are called
    one after the other, each once. Parameters are the model's own.

    Raises:
        InputError: the architecture's row names no last stage.
    """
    row = architecture_of(architecture)
    if trainable == "head":
        head = model.get_submodule(row.head)
        return head, head
    names = [name for name, _ in model.named_children()]
    if row.stage not in names:
        raise InputError(
            f"{architecture}: trainable is last_stage, and its row in MODELS names none as `stage`; write head or all"
        )
    rest = copy.copy(model)
    rest._modules = dict(model._modules)
    for name in names[: names.index(row.stage)]:
        setattr(rest, name, nn.Identity())
    return model.get_submodule(row.stage), rest


@torch.no_grad()
def cache_features(
    model: nn.Module,
    head: nn.Module,
    source: Source,
    config: TrainingConfig,
    normalisation: Normalisation,
    input_size: int,
    *,
    seed: int = 0,
    name: str = "features",
) -> InMemory:
    """What ``head`` receives for each picture: features (N, views, ...) on the CPU, view 0 being the clean picture.

    Raises:
        InputError: they need more memory than ``config.feature_gib``.
    """
    device = device_of(model)
    received: list[torch.Tensor] = []
    hook = head.register_forward_pre_hook(lambda module, inputs: received.append(inputs[0]))
    generator = torch.Generator().manual_seed(_epoch_seed(seed, -1))
    count = len(source.labels)
    groups = grouped(torch.arange(count), config.batch_size)
    features: torch.Tensor | None = None
    model.eval()
    try:
        progress = tqdm(source.batches(groups), f"{name}: features", len(groups), False, disable=None)
        for group, batch in zip(groups, progress, strict=True):
            batch = batch.to(device)
            views = [clean_view(batch, input_size, input_size)]
            views += [
                random_view(batch, config.augmentation, input_size, input_size, generator)
                for _ in range(config.views - 1)
            ]
            for index, view in enumerate(views):
                received.clear()
                with autocast(device, config.precision):
                    model(normalisation(view).contiguous(memory_format=torch.channels_last))
                found = received[0].float().cpu()
                if features is None:
                    shape = (count, config.views, *found.shape[1:])
                    _check_room(shape, config.feature_gib)
                    features = torch.empty(shape)
                features[group, index] = found
    finally:
        hook.remove()
    return InMemory(features, source.labels)


def _check_room(shape: tuple[int, ...], limit: float) -> None:
    needed = 4 * math.prod(shape) / 2**30
    if needed > limit:
        fitting = int(shape[1] * limit / needed)
        raise InputError(
            f"training: the features of {shape[0]} pictures x {shape[1]} views take {needed:.1f} GiB, over "
            f"feature_gib: {limit}; lower views to {max(1, fitting)} or raise feature_gib"
        )


def _fit(
    module: nn.Module,
    source: Source,
    prepare: Prepare,
    config: TrainingConfig,
    seed: int,
    checkpoint: str | os.PathLike | None,
    identity: str,
    name: str,
) -> Fit:
    """The one training loop. ``module`` ends with the weights of its best epoch, in evaluation mode."""
    if not len(source.labels):
        raise InputError(f"{name}: there are no training pictures; check the manifest's split column")
    device = device_of(module)
    training, validation = held_out(source.labels, config.holdout, seed)
    module.requires_grad_(True)
    optimiser = _optimiser(module, config)
    scaler = torch.amp.GradScaler(device.type, enabled=precision_type(device, config.precision) == torch.float16)
    digest = fingerprint(module, source.labels, config, seed, identity)
    state = State()
    if checkpoint is not None:
        state = restore(Path(checkpoint), digest, module, optimiser, scaler, device) or state
    written = time.monotonic()
    with _dropout(module, config.dropout):
        while state.epoch < config.epochs and not _stalled(state, config.patience):
            started = time.monotonic()
            rate = _train_epoch(module, source, training, prepare, config, seed, state, optimiser, scaler, name)
            if len(validation):
                _score_epoch(module, source, validation, prepare, config, state, rate)
            _log(name, state.history, config.epochs, time.monotonic() - started)
            state.epoch += 1
            _keep_best(module, state, config.judged_by if len(validation) else "")
            last = state.epoch == config.epochs or _stalled(state, config.patience)
            if checkpoint is not None and (last or time.monotonic() - written >= config.checkpoint_seconds):
                store(Path(checkpoint), digest, module, optimiser, scaler, state)
                written = time.monotonic()
    module.load_state_dict(state.best)
    module.eval().requires_grad_(False)
    kept = [row for row in state.history if row["epoch"] == state.best_epoch]
    return Fit(state.history, state.best_epoch, kept[-1]["accuracy"])


def _train_epoch(
    module: nn.Module,
    source: Source,
    training: torch.Tensor,
    prepare: Prepare,
    config: TrainingConfig,
    seed: int,
    state: State,
    optimiser: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    name: str,
) -> float:
    """One pass over the training pictures; returns the last learning rate and adds a row to the history."""
    device, started = device_of(module), time.monotonic()
    generator = torch.Generator().manual_seed(_epoch_seed(seed, state.epoch))
    order = training[torch.randperm(len(training), generator=generator)]
    groups = grouped(order, config.batch_size)
    losses = torch.zeros((), device=device)
    seen = []
    rate = 0.0
    module.train()
    with _seeded(_epoch_seed(seed, state.epoch), device):
        progress = tqdm(source.batches(groups), f"{name} {state.epoch + 1}", len(groups), False, disable=None)
        for step, (group, batch) in enumerate(zip(groups, progress, strict=True)):
            rate = learning_rate(config, state.epoch * len(groups) + step, config.epochs * len(groups))
            for parameters in optimiser.param_groups:
                parameters["lr"] = rate
            labels = source.labels[group].to(device)
            inputs = laid_out(prepare(batch.to(device, non_blocking=True), state.epoch, generator))
            with autocast(device, config.precision):
                weighted = objective.heads(module, inputs)
            loss = objective.total_loss(weighted, labels, config.label_smoothing)
            optimiser.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()
            scaler.unscale_(optimiser)
            if config.clip:
                nn.utils.clip_grad_norm_(module.parameters(), config.clip)
            scaler.step(optimiser)
            scaler.update()
            losses += loss.detach() * len(group)
            seen.append(objective.evidence(weighted[0][1].detach().float(), labels))
    loss_mean = losses.item() / len(order)
    if not math.isfinite(loss_mean):
        raise InputError(f"{name}: the training diverged in epoch {state.epoch + 1}; lower learning_rate or set clip")
    quality = objective.quality(seen, source.labels[order])
    state.history.append(_row(state.epoch + 1, "train", loss_mean, quality, rate, time.monotonic() - started))
    return rate


@torch.no_grad()
def _score_epoch(
    module: nn.Module,
    source: Source,
    validation: torch.Tensor,
    prepare: Prepare,
    config: TrainingConfig,
    state: State,
    rate: float,
) -> None:
    """Loss and accuracy on the held-out pictures, as a row of the history."""
    device, started = device_of(module), time.monotonic()
    module.eval()
    groups = grouped(validation, config.batch_size)
    batches = []
    for batch in source.batches(groups):
        with autocast(device, config.precision):
            batches.append(objective.heads(module, laid_out(prepare(batch.to(device), state.epoch, None))))
    # Of each head, whose weights are the same in all batches.
    weighted = [(each[0][0], torch.cat([logits.float() for _, logits in each])) for each in zip(*batches, strict=True)]
    labels = source.labels[validation].to(device)
    loss = objective.total_loss(weighted, labels).item()
    quality = objective.quality([objective.evidence(weighted[0][1], labels)], labels)
    state.history.append(_row(state.epoch + 1, "validation", loss, quality, rate, time.monotonic() - started))


def _row(epoch: int, split: str, loss: float, accuracy: float, rate: float, seconds: float) -> dict[str, Any]:
    return dict(zip(HISTORY_COLUMNS, (epoch, split, loss, accuracy, rate, round(seconds, 3)), strict=True))


def _keep_best(module: nn.Module, state: State, judged_by: str) -> None:
    """Keep a copy of the weights if the epoch is the best so far by held-out accuracy (then the least loss), or loss.

    Where nothing is held out (``judged_by`` is empty) there is nothing to choose by, and the last epoch is kept.
    """
    last = state.history[-1]
    score = (last["accuracy"] if judged_by == "accuracy" else 0.0, -last["loss"])
    if score > state.best_score or not judged_by:
        state.best_score, state.best_epoch = score, state.epoch
        state.best = {key: value.detach().clone() for key, value in module.state_dict().items()}


def _stalled(state: State, patience: int) -> bool:
    return bool(patience) and state.epoch - state.best_epoch >= patience


def _log(name: str, history: list[dict[str, Any]], epochs: int, seconds: float) -> None:
    """One line an epoch, in place of a bar that a log file cannot show."""
    epoch = history[-1]["epoch"]
    parts = [f"{row['split']} {row['loss']:.3f} / {row['accuracy']:.1%}" for row in history if row["epoch"] == epoch]
    tqdm.write(f"{name}: epoch {epoch}/{epochs}, {', '.join(parts)}, {seconds:.1f} s", file=sys.stderr)


def _optimiser(module: nn.Module, config: TrainingConfig) -> torch.optim.Optimizer:
    decays = [config.decayed == "all" or value.dim() > 1 for value in module.parameters()]
    decayed = [value for value, decay in zip(module.parameters(), decays, strict=True) if decay]
    others = [value for value, decay in zip(module.parameters(), decays, strict=True) if not decay]
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": others, "weight_decay": 0.0}]
    if config.optimiser == "sgd":
        nesterov = config.nesterov and config.momentum > 0
        return torch.optim.SGD(groups, config.learning_rate, momentum=config.momentum, nesterov=nesterov)
    return torch.optim.AdamW(groups, config.learning_rate, betas=(0.9, config.memory))


def _epoch_seed(seed: int, epoch: int) -> int:
    return (seed + 1) * 1_000_003 + epoch


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """The global generators (dropout draws from them) seeded within the block, and as before after it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def _dropout(module: nn.Module, probability: float) -> Iterator[None]:
    """All dropout layers at ``probability`` within the block; a negative one changes nothing."""
    layers = [layer for layer in module.modules() if isinstance(layer, nn.Dropout)]
    before = [layer.p for layer in layers]
    for layer in layers:
        layer.p = probability if probability >= 0 else layer.p
    try:
        yield
    finally:
        for layer, value in zip(layers, before, strict=True):
            layer.p = value


def write_history(history: Sequence[Mapping[str, Any]], path: str | os.PathLike) -> None:
    """Write the rows of a training's history as CSV, atomically."""
    with atomic_path(path) as temporary, open(temporary, "w", newline="") as file:
        writer = csv.DictWriter(file, HISTORY_COLUMNS)
        writer.writeheader()
        writer.writerows(history)
