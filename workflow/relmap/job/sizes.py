"""How large a job's work is: from the config, by its data set and network."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from relmap.catalogue.datasets import DATASETS, DataSet

UNKNOWN = DataSet("", "", "")
"""Of what neither the config nor the catalogue says how large it is."""
TRAININGS = {"pretrain_classifier": "pretrain", "finetune_classifier": "finetune", "train_multilabel": "multilabel"}


@dataclass(frozen=True)
class Size:
    """What a job works on.

    Attributes:
        images: at most so many.
        work: images times pixels of one, as the network sees it, times epochs where it is trained.
        frame: pixels of a batch, times the network's width.
    """

    images: int
    work: float
    frame: float


def size(
    config: Mapping[str, Any], rule: str, dataset: str | None = None, model: str | None = None, parts: int = 1
) -> Size:
    """The size of a rule's job on a data set with a network; of none in particular, on the largest.

    A job with a network reads the images to test on, one that trains a classifier the others, one of a data set alone
    all of them. Of ``parts`` jobs that divide the work each has its share.
    """
    entries = list(entries_of(config, model).values())
    pixels = max((entry["input_size"] ** 2 for entry in entries), default=1)
    frame = max((entry["input_size"] ** 2 * entry["width"] for entry in entries), default=1)
    used = {name: entry for name, entry in config["datasets"].items() if entry}
    counts = [images_of(name, entry) for name, entry in used.items() if name == dataset or dataset not in used]
    stage = TRAININGS.get(rule)
    if stage:
        images = max((train for train, _ in counts), default=1)
    elif dataset in used and not model:
        images = max(map(sum, counts))
    else:
        limits = [entry["max_images"] or config["evaluation"]["max_images"] for entry in entries]
        most = None if None in limits else max(limits, default=None)
        images = max((min(test, most or test) for _, test in counts), default=1)
    epochs = max((_epochs(config, entry, stage) for entry in entries), default=1) if stage else 1
    images = math.ceil(images / parts)
    return Size(images, float(images * pixels * epochs), float(frame * config["compute"]["batch_size"]))


def entries_of(config: Mapping[str, Any], model: str | None) -> dict[str, Mapping[str, Any]]:
    """A network's settings; of one of several trainings, their model's; of all where none is named."""
    models = {name: entry for name, entry in config["models"].items() if entry}
    name = model if model in models else re.sub(r"_\d+$", "", model or "")
    return {name: models[name]} if name in models else models


def _epochs(config: Mapping[str, Any], entry: Mapping[str, Any], stage: str) -> int:
    return (entry.get(stage) or {}).get("epochs") or config["training"][stage]["epochs"]


def images_of(dataset: str, entry: Mapping[str, Any]) -> tuple[int, int]:
    """How many images a data set has to train on and to test on: as the config has it rendered, else as published."""
    if entry["source"] != "render":
        return DATASETS.get(entry.get("format") or dataset, DATASETS.get(dataset, UNKNOWN)).size
    render = {name: value for name, value in entry["render"].items() if isinstance(value, int) and name != "size"}
    classes = render.pop("classes", 1)
    counts = {name: value * (classes if name.endswith("per_class") else 1) for name, value in render.items()}
    train = sum(value for name, value in counts.items() if name.startswith("train"))
    return train, sum(counts.values()) - train


def place_of(config: Mapping[str, Any], place: str) -> tuple[str | None, str | None]:
    """The data set and the network of a benchmark's path, ``imagenet/vgg16/plain``, each where it has one."""
    parts = place.split("/")
    dataset = next((part for part in parts if config["datasets"].get(part)), None)
    models = {name for name, entry in config["models"].items() if entry}
    known = (part for part in parts if part in models or re.sub(r"_\d+$", "", part) in models)
    model = next((part for part in known if part != dataset), None)
    return dataset, model
