"""What a run costs before it is run: seconds of a core, bytes and wall time, from what jobs like its own took.

A job of a network takes ``start + rate * effort``: the effort is a forward pass over its pictures, in seconds of a
core as ``benchmarks/networks.py`` measured them, times what the job does, in passes. The rate is that of the measured
job that is most like it. On a GPU the same passes take their counted operations at a throughput that somebody names.
"""

from __future__ import annotations

import csv
import heapq
import math
import os
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from relmap.catalogue.models import MODELS
from relmap.errors import InputError
from relmap.job.listing import Job
from relmap.job.resources import GUESS, MB_PER_FRAME_PIXEL, OF_IMAGES, OF_NOTHING, read_table
from relmap.job.sizes import TRAININGS, entries_of, place_of, size

REPEATED = ("steps", "rows", "draws", "masks", "iterations", "samples", "stages", "percents", "repetitions")
"""Settings of methods and metrics that say how often they ask the network."""
CAPS = ("images", "mosaics")
"""Settings of metrics that say how many pictures they look at, at most."""
CONTEXT_MB = 500.0
"""Of a GPU's memory, what a process takes that uses it."""
WITH_GRADIENT = 3
"""Forward passes that one with its gradient takes, in operations."""
START_SECONDS = 3.0
"""What a job takes before it works: an interpreter and its imports."""
DRAWN = ("draw", "render_", "write_report")
"""Beginnings of rules whose files are as large at every number of images: figures, notebooks, pages."""
STORE_PIXELS = 16_384
"""What a store of maps takes besides its maps, in pixels of maps."""
WIDTHS = (0.125, 0.25, 1.0)


@dataclass(frozen=True)
class Network:
    """A line of ``resources/networks.csv``.

    Attributes:
        operations: of a forward pass for a pixel, at full width.
        rates: operations a second on one thread, at each of ``WIDTHS``.
        weights_mb: at full width.
    """

    operations: float
    rates: tuple[float, ...]
    weights_mb: float

    def rate(self, width: float) -> float:
        """Operations a second at a width: along a straight line between the measured ones, both in logarithms."""
        at = math.log(min(max(width, WIDTHS[0]), WIDTHS[-1]))
        for low in range(len(WIDTHS) - 1):
            below, above = math.log(WIDTHS[low]), math.log(WIDTHS[low + 1])
            if at <= above:
                share = (at - below) / (above - below)
                return math.exp((1 - share) * math.log(self.rates[low]) + share * math.log(self.rates[low + 1]))
        raise AssertionError("the widths are in order")

    def seconds(self, pixels: float, width: float) -> float:
        """Of a core, for a forward pass over so many pixels."""
        return pixels * self.operations * width**2 / self.rate(width)


@dataclass(frozen=True)
class Scale:
    """What passes cost: of each network, and how many each method takes.

    Attributes:
        networks: by name.
        methods: name -> (forward passes by time, and by operations, how often its settings had it ask the network).
    """

    networks: Mapping[str, Network]
    methods: Mapping[str, tuple[float, float, float]]

    @classmethod
    def read(cls, folder: str | os.PathLike) -> Scale:
        """From ``networks.csv`` and ``methods.csv`` of a folder.

        Raises:
            InputError: one is absent.
        """
        found = {}
        for name in ("networks", "methods"):
            path = Path(folder) / f"{name}.csv"
            if not path.is_file():
                raise InputError(f"{path}: absent; it is part of the repository, so restore it with git")
            with open(path, newline="", encoding="utf-8") as file:
                found[name] = list(csv.DictReader(file))
        networks = {
            line["network"]: Network(
                float(line["operations"]) / float(line["side"]) ** 2,
                tuple(float(line[f"rate_{width:g}"]) for width in WIDTHS),
                float(line["weights_mb"]),
            )
            for line in found["networks"]
        }
        methods = {
            line["method"]: (float(line["passes"]), float(line["operations"]), float(line["repeats"]))
            for line in found["methods"]
        }
        return cls(networks, methods)

    def network(self, name: str) -> Network:
        """A network's line, or its architecture's; of one that nobody measured, ResNet-50's."""
        row = MODELS.get(name) or MODELS.get(name.rpartition("_")[0])
        if row is not None and row.id not in self.networks:
            name = next((other for other in self.networks if MODELS[other].maker == row.maker), "")
        elif row is not None:
            name = row.id
        return self.networks.get(name) or self.networks["resnet50"]

    def passes(self, method: str, explainers: Mapping[str, Any], *, counted: bool = False) -> float:
        """Forward passes that a map takes, by time, or by operations.

        Of a method that nobody measured: one for each time that its settings have it ask the network, with the gradient
        where it iterates; of one without such settings as many as most take.
        """
        settings = explainers.get(method) or {}
        begun = [name for name in self.methods if method == name or method.startswith(f"{name}_")]
        base = max(begun, key=len, default="")
        if base:
            *taken, repeats = self.methods[base]
            return taken[counted] * repeats_of(settings) / repeats
        asked = repeats_of(settings)
        if asked == 1:
            return statistics.median(taken[counted] for taken in self.methods.values())
        return asked * (WITH_GRADIENT if settings.get("iterations") else 1)


def repeats_of(settings: Mapping[str, Any] | None) -> float:
    """How often settings have a method or metric ask the network, up to a factor that they share with others."""
    product = 1.0
    for name, value in (settings or {}).items():
        if name in REPEATED and value:
            product *= len(value) if isinstance(value, Sequence) and not isinstance(value, str) else float(value)
    return product


@dataclass(frozen=True)
class Work:
    """What a job does.

    Attributes:
        effort: what its seconds grow with.
        extent: what its bytes grow with.
        operations: of its network, counted; None where nobody counted them.
    """

    effort: float
    extent: float
    operations: float | None = None


def work_of(job: Job, config: Mapping[str, Any], scale: Scale) -> Work:
    """The work of a job, by its place, its files and the config."""
    dataset, model = place_of(config, job.place)
    sized = size(config, job.kind, dataset, model, job.parts)
    if job.kind in OF_NOTHING:
        return Work(1.0, 1.0)
    if job.kind == "render_dataset":
        side = (config["datasets"].get(job.place) or {}).get("render", {}).get("size", 1)
        return Work(sized.images * side**2, sized.images * side**2)
    if job.kind in OF_IMAGES:
        return Work(sized.images, 1.0 if job.kind.startswith(DRAWN) else sized.images)
    entries = entries_of(config, model)
    seen = [(scale.network(name), entry["input_size"] ** 2, entry["width"]) for name, entry in entries.items()]
    per_image = max((network.seconds(pixels, width) for network, pixels, width in seen), default=0.001)
    counted = max((network.operations * pixels * width**2 for network, pixels, width in seen), default=0.0)
    pixels, widest = max((pixels for _, pixels, _ in seen), default=1), max((width for *_, width in seen), default=1.0)
    stores = [path for path in job.inputs if path.endswith(".zarr")]
    images = sized.images
    if job.kind == "attribute":
        made = [Path(path).stem for path in job.outputs if path.endswith(".zarr")]
        by_time, by_count = (
            sum(scale.passes(method, config["explainers"], counted=way) for method in made) for way in (False, True)
        )
        return Work(
            images * per_image * by_time,
            float((images * pixels + STORE_PIXELS) * len(made)),
            images * counted * by_count,
        )
    if job.kind == "score":
        if job.place.endswith("/maps"):
            return Work(float(images * pixels * len(stores) * len(job.outputs)), float(images * len(stores)), 0.0)
        settings = config["evaluation"].get(job.place.rpartition("/")[2]) or {}
        images = min([images, *(settings[cap] for cap in CAPS if settings.get(cap))])
        passes = len(stores) * repeats_of(settings)
        return Work(images * per_image * passes, float(images * len(stores)), images * counted * passes)
    # Time of a training is that of its epochs; what it leaves is weights.
    epochs = max(1.0, sized.work / max(1, images * pixels))
    if job.kind in TRAININGS:
        return Work(images * per_image * epochs, widest**2, images * counted * epochs * WITH_GRADIENT)
    repeated = _trainings(config, job.place)
    operations = images * counted if job.kind == "predict" else None
    return Work(images * per_image * repeated, widest**2 * repeated, operations)


def _trainings(config: Mapping[str, Any], place: str) -> int:
    """How often the layers of an arm are trained, by the section of the config that has the arm."""
    arm = place.rpartition("/")[2]
    sections = (section for section in config.values() if isinstance(section, Mapping))
    return next((section.get("trainings") or 1 for section in sections if arm in (section.get("arms") or ())), 1)


@dataclass(frozen=True)
class Cost:
    """What a job takes.

    Attributes:
        seconds: of one core.
        gpu_seconds: with a GPU, 0 where it asks for none.
        bytes: what its files take that stay.
        source: the measured job that it was taken from, as run/rule/place; empty where none is like it.
    """

    seconds: float
    gpu_seconds: float
    bytes: float
    source: str


class Costs:
    """What jobs take, by the table of what jobs took.

    Args:
        lines: of ``resources/measured.csv``.
        scale: what passes cost.
        downloads: bytes of each file that is retrieved, by name.
        throughput: operations a second of a GPU, as they are counted and used, not its peak.
        bandwidth: bytes a second of the network.
    """

    def __init__(
        self,
        lines: Iterable[Mapping[str, str]],
        scale: Scale,
        downloads: Mapping[str, float],
        *,
        throughput: float = 6e12,
        bandwidth: float = 12.5e6,
    ) -> None:
        self.scale, self.downloads, self.throughput, self.bandwidth = scale, downloads, throughput, bandwidth
        self.lines: dict[str, list[Mapping[str, str]]] = {}
        for line in lines:
            if line["run"] != GUESS:
                self.lines.setdefault(line["rule"], []).append(line)

    @classmethod
    def read(cls, folder: str | os.PathLike, **settings: float) -> Costs:
        """From the tables of a folder, ``resources``."""
        with open(Path(folder) / "downloads.csv", newline="", encoding="utf-8") as file:
            downloads = {line["name"]: float(line["size"] or 0) for line in csv.DictReader(file)}
        return cls(read_table(Path(folder) / "measured.csv"), Scale.read(folder), downloads, **settings)

    def of(self, job: Job, config: Mapping[str, Any]) -> Cost:
        """What a job takes."""
        if job.kind == "retrieve_file":
            bytes_ = self.downloads.get(Path(job.outputs[0]).name, 0.0)
            return Cost(START_SECONDS + bytes_ / self.bandwidth, 0.0, bytes_, "resources/downloads.csv")
        if job.kind == "unpack_archive":
            bytes_ = self.downloads.get(Path(job.inputs[0]).name, 0.0)
            return Cost(START_SECONDS + bytes_ / 50e6, 0.0, bytes_, "resources/downloads.csv")
        work = work_of(job, config, self.scale)
        if job.kind.startswith("convert_weights"):
            model = Path(job.outputs[0]).stem
            bytes_ = 1e6 * self.scale.network(model).weights_mb
            # Where the run has their data set, all of its pictures are looked at once.
            looked = any("/manifests/" in path for path in job.inputs)
            of_test = replace(job, kind="predict", place=f"{Path(job.outputs[0]).parent.name}/{model}")
            seen = work_of(of_test, config, self.scale) if looked else Work(0.0, 0.0, 0.0)
            return Cost(
                2 * START_SECONDS + seen.effort,
                START_SECONDS + (seen.operations or 0.0) / self.throughput,
                bytes_,
                "resources/networks.csv",
            )
        line = self._like(job, work)
        if line is None:
            return Cost(START_SECONDS, 0.0, 0.0, "")
        taken, effort, extent = float(line["seconds"]), float(line["effort"]), float(line["extent"])
        start = min(taken, START_SECONDS)
        # Short jobs grow from nothing: how much of them is their start is not known well enough.
        grown = (taken - start) * work.effort / effort if effort else 0.0
        source = "/".join(filter(None, (line["run"], line["rule"], line["place"])))
        bytes_ = float(line["bytes"]) * (work.extent / extent if extent else 1.0)
        gpu = 0.0
        if job.network:
            # Where nobody counted, as many as a core does in the time that it takes.
            counted = grown * self._speed(job, config) if work.operations is None else work.operations
            gpu = start + counted / self.throughput
        return Cost(start + grown, gpu, bytes_, source)

    def _speed(self, job: Job, config: Mapping[str, Any]) -> float:
        """Operations a second of the job's network on a core."""
        _, model = place_of(config, job.place)
        entries = entries_of(config, model)
        rates = [self.scale.network(name).rate(entry["width"]) for name, entry in entries.items()]
        return statistics.mean(rates) if rates else self.scale.networks["resnet50"].rate(1.0)

    def _like(self, job: Job, work: Work) -> Mapping[str, str] | None:
        """The measured job most like one: of its kind, of its metric or arm, network and data set, then of its size.

        Of some that were as large the fastest, for more was at work beside the others.
        """
        parts = job.place.split("/")

        def unlike(line: Mapping[str, str]) -> tuple[bool, int, float, float]:
            others = line["place"].split("/")
            differing = sum(a != b for a, b in zip(parts, others, strict=False)) + abs(len(parts) - len(others))
            apart = abs(math.log((work.effort or 1e-9) / (float(line["effort"]) or 1e-9)))
            return parts[-1] != others[-1], differing, round(apart, 2), float(line["seconds"])

        return min(self.lines.get(job.kind, ()), key=unlike, default=None)


def gpu_memory_mb(job: Job, config: Mapping[str, Any]) -> float:
    """MB of a GPU that a job with a network takes, from what its batches take of a CPU's memory; it halves a batch that
    does not fit.
    """
    frame = size(config, job.kind, *place_of(config, job.place), job.parts).frame
    return CONTEXT_MB + MB_PER_FRAME_PIXEL * frame


def wall_seconds(
    jobs: Sequence[Job], seconds: Sequence[float], cores: int, *, gpus: int = 0, between: float = 0.0
) -> float:
    """How long jobs take on some cores, each job begun as soon as its inputs and cores are there, long chains first.

    Args:
        jobs, seconds: what is done, and the seconds of each.
        cores: of one machine or of all.
        gpus: jobs with a network take one of so many, each one core; 0 for none.
        between: seconds from a job's end to the next one's beginning.
    """
    maker = {path: place for place, job in enumerate(jobs) for path in job.outputs}
    needs = [{maker[path] for path in job.inputs if path in maker} - {place} for place, job in enumerate(jobs)]
    followers: list[list[int]] = [[] for _ in jobs]
    for place, makers in enumerate(needs):
        for one in makers:
            followers[one].append(place)
    waiting = [len(makers) for makers in needs]
    remaining = _remaining(followers, waiting, seconds)
    ready = [(-remaining[place], place) for place, count in enumerate(waiting) if not count]
    heapq.heapify(ready)
    running: list[tuple[float, int]] = []
    now, free, slots = 0.0, cores, gpus
    while ready or running:
        held = []
        while ready and free:
            entry = heapq.heappop(ready)
            place = entry[1]
            asked = min(jobs[place].threads, cores)
            if asked > free or (gpus and jobs[place].network and not slots):
                held.append(entry)
                continue
            free -= asked
            slots -= bool(gpus and jobs[place].network)
            heapq.heappush(running, (now + seconds[place] + between, place))
        for entry in held:
            heapq.heappush(ready, entry)
        now, place = heapq.heappop(running)
        free += min(jobs[place].threads, cores)
        slots += bool(gpus and jobs[place].network)
        for follower in followers[place]:
            waiting[follower] -= 1
            if not waiting[follower]:
                heapq.heappush(ready, (-remaining[follower], follower))
    return now


def _remaining(followers: Sequence[Sequence[int]], waiting: Sequence[int], seconds: Sequence[float]) -> list[float]:
    """From each job's beginning the seconds to the end of the longest chain that it begins."""
    counts, order = list(waiting), [place for place, count in enumerate(waiting) if not count]
    for place in order:
        for follower in followers[place]:
            counts[follower] -= 1
            if not counts[follower]:
                order.append(follower)
    longest = [0.0] * len(seconds)
    for place in reversed(order):
        longest[place] = seconds[place] + max((longest[follower] for follower in followers[place]), default=0.0)
    return longest
