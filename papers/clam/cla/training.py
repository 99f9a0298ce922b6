"""Training of the CLA-layers of one classifier layer (CLAM, Sec. 3.3 and Appendix A.1).

The layers above, nearer the output, are trained already: relevance arrives refined by them. For every training image
the N most relevant patches are kept once; the epochs then only draw new wrong classes. As in Forward-Forward, no
gradient leaves the layer.

A layer has one CLA-layer for each explainer, and a run may have several trainings that differ in their seed. All of
them, the *members*, share the forward pass and the propagation, and are fitted as one batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from relmap.errors import InputError
from relmap.explainers.base import Relevance
from relmap.explainers.building import build
from relmap.job.seeds import derive, generator
from relmap.network import Graph
from relmap.propagation import Propagator, Walk
from torch import Tensor, nn

from papers.clam.cla.layer import ClaLayer
from papers.clam.cla.loss import balanced_contrastive_loss, paired
from papers.clam.cla.patterns import class_patterns
from papers.clam.cla.refinement import refinements
from papers.clam.cla.settings import ClamOptions, LayerSettings
from papers.clam.cla.sub_features import Store, gather_patches, top_positions
from papers.clam.cla.together import Together
from papers.clam.cla.trained import TrainedLayer, new_layer
from papers.clam.methods import REFINED


def refined_methods(model: nn.Module | Propagator) -> dict[str, Relevance]:
    """The methods that CLAM refines, by the names of their CLA-layers, on one network."""
    propagator = model if isinstance(model, Propagator) else Propagator(model)
    return {name: build(propagator, method) for name, method in REFINED.items()}


def feature_operation(graph: Graph, layer: str, features: str) -> str:
    """Operation whose output a CLA-layer reads: after the ReLU, or what that ReLU takes."""
    after = graph.activation_of(layer)
    if features == "after_relu" or graph[after].kind != "relu":
        return after
    return graph[after].inputs[0]


def training_seeds(seed: int, trainings: int) -> list[int]:
    """The seeds of some trainings; the first is the run's own, so that more of them change none."""
    return [derive(seed, "training", number) if number else seed for number in range(trainings)]


@dataclass(frozen=True)
class Source:
    """Training images of a classifier.

    Attributes:
        batches: called with what they are read for; batches of images (M, 3, H, W) and labels (M,).
        images: how many there are. classes: number of classes C.
        folder: where sub-features lie while a layer is trained; None for the system's temporary folder.
    """

    batches: Callable[[str], Iterable[tuple[Tensor, Tensor]]]
    images: int
    classes: int
    folder: Path | None = None

    def __post_init__(self) -> None:
        if self.classes < 2:
            raise InputError("clam: at least two classes are needed, for a negative carries another class's pattern")
        if not self.images:
            raise InputError("clam: no training images; check clam.train_images_per_class")


@dataclass(frozen=True)
class SubFeatures:
    """What a layer's members learn from.

    Attributes:
        store: of E members, a row an image: its patches (N, D, P, P).
        labels: (M,), on the CPU.
        rms: of the layer's features.
    """

    store: Store
    labels: Tensor
    rms: float


def collect_sub_features(
    methods: Mapping[str, Relevance],
    source: Source,
    settings: LayerSettings,
    above: Sequence[Sequence[TrainedLayer]],
    options: ClamOptions,
) -> SubFeatures:
    """Sub-features of every training image (Eq. 1) for each training's explainers.

    Args:
        methods: what is refined, K of them.
        above: of each of T trainings the layers between this one and the output; none where there are none yet.

    Returns:
        Those of the T K members, training by training.
    """
    together = Together(list(methods.values()) * len(above))
    graph = together.walk.graph
    stop = graph.activation_of(settings.layer)
    at = feature_operation(graph, settings.layer, options.features)
    keep = {at, *(layer.features_at for layers in above for layer in layers)}
    stride = settings.patch if options.pooling == "tiles" else 1
    store, labels, energy, elements, done = None, [], 0.0, 0, 0
    for images, targets in source.batches(settings.layer):
        activations = together.walk.forward(images, keep=keep)
        features = activations.outputs[at]
        of_each = targets.expand(len(methods), -1)
        masks = [
            refinements(
                layers,
                activations.outputs,
                of_each,
                list(methods),
                options,
            )[0]
            for layers in above
        ]
        stacked = {name: torch.cat([of_one[name] for of_one in masks]) for name in masks[0]}
        relevance, _ = together.propagate(activations, of_each.repeat(len(above), 1), stacked, stop=stop)
        some = slice(done, done + len(images))
        for member, of_member in enumerate(relevance):
            positions = top_positions(of_member, settings.patch, settings.attributes, stride)
            patches = gather_patches(features, positions, settings.patch)
            if store is None:
                store = Store(len(relevance), source.images, patches.shape[1:], source.folder)
            store.values[member, some] = patches.to("cpu", torch.float32)
        labels.append(targets.cpu())
        done += len(images)
        energy += features.double().square().sum().item()
        elements += features.numel()
    if done != source.images:
        raise InputError(f"clam: {done} training images were read for layer {settings.layer}, of {source.images}")
    return SubFeatures(store, torch.cat(labels), (energy / elements) ** 0.5)


def train_layer(
    methods: Mapping[str, Relevance],
    source: Source,
    settings: LayerSettings,
    above: Sequence[Sequence[TrainedLayer]],
    options: ClamOptions,
    seeds: Sequence[int],
    report: Callable[[str], None] = lambda line: None,
) -> list[TrainedLayer]:
    """Train the CLA-layers of one classifier layer, one for each explainer and training.

    Args:
        methods: name of an explainer -> the method, on one propagator.
        above: of each training its trained layers between this one and the output.
        seeds: of each training.
        report: called with a line of progress now and then.
    """
    found = collect_sub_features(methods, source, settings, above, options)
    walk = next(iter(methods.values())).walk
    device, graph = walk.propagator.device, walk.graph
    channels = found.store.values.shape[3]
    patterns = [
        (class_patterns(options.pattern, source.classes, settings.patch, settings.layer, seed)).to(device)
        * (found.rms * options.pattern_amplitude)
        for seed in seeds
    ]
    layers = [new_layer(options, settings, channels, seed, name).to(device) for seed in seeds for name in methods]
    with found.store:
        notes = fit(layers, found.store.values, found.labels, patterns, settings, options, seeds)
    result = []
    for number, of_seed in enumerate(patterns):
        own = slice(number * len(methods), (number + 1) * len(methods))
        of_names = dict(zip(methods, notes[own], strict=True))
        for name, values in of_names.items():
            report(f"{settings.layer} {name} (training {number}): {values}")
        result.append(
            TrainedLayer(
                settings,
                graph.activation_of(settings.layer),
                feature_operation(graph, settings.layer, options.features),
                of_seed,
                {name: layer.requires_grad_(False) for name, layer in zip(methods, layers[own], strict=True)},
                of_names,
            )
        )
    return result


def initial_layers(
    walk: Walk,
    source: Source,
    plan: Sequence[LayerSettings],
    explainers: Sequence[str],
    options: ClamOptions,
    seed: int,
) -> list[TrainedLayer]:
    """The untrained control: CLA-layers as drawn, with patterns at the features' scale of the training images."""
    graph = walk.graph
    sources = {each.layer: feature_operation(graph, each.layer, options.features) for each in plan}
    energy, elements, channels = dict.fromkeys(sources, 0.0), dict.fromkeys(sources, 0), {}
    for images, _ in source.batches("features"):
        outputs = walk.forward(images, keep=sources.values()).outputs
        for layer, at in sources.items():
            energy[layer] += outputs[at].double().square().sum().item()
            elements[layer] += outputs[at].numel()
            channels[layer] = outputs[at].shape[1]
    control, device = derive(seed, "untrained"), walk.propagator.device
    result = []
    for each in plan:
        rms = (energy[each.layer] / elements[each.layer]) ** 0.5
        patterns = class_patterns(options.pattern, source.classes, each.patch, each.layer, seed)
        layers = {name: new_layer(options, each, channels[each.layer], control, name) for name in explainers}
        result.append(
            TrainedLayer(
                each,
                graph.activation_of(each.layer),
                sources[each.layer],
                (patterns * (rms * options.pattern_amplitude)).to(device),
                {name: layer.requires_grad_(False).to(device) for name, layer in layers.items()},
                {},
            )
        )
    return result


def fit(
    layers: Sequence[ClaLayer],
    patches: Tensor,
    labels: Tensor,
    patterns: Sequence[Tensor],
    settings: LayerSettings,
    options: ClamOptions,
    seeds: Sequence[int],
) -> list[dict[str, Any]]:
    """Fit E CLA-layers of one shape in place, as one batch; the best state of each stays.

    Args:
        layers: training by training, as many of each.
        patches: (E, M, N, D, P, P), where they lie.
        labels: (M,).
        patterns: of each training (C, P, P), on the layers' device.
        seeds: of each training: of the order of the images and the wrong classes.

    Returns:
        Of each layer: epochs run, and the kept epoch's mean positive and negative distance.
    """
    how, template, count = options.optimiser, layers[0], len(labels)
    device, classes = patterns[0].device, len(patterns[0])
    of_training = torch.arange(len(seeds)).repeat_interleave(len(layers) // len(seeds))
    members = torch.arange(len(layers))[:, None]
    stacked = torch.stack(list(patterns))[of_training.to(device)]
    state = {
        key: torch.stack([layer.get_parameter(key).detach() for layer in layers]).requires_grad_()
        for key, _ in template.named_parameters()
    }
    optimisers = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    optimiser = optimisers[how.name](state.values(), lr=how.learning_rate * settings.attribute_size / 2)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, how.decay)
    randoms = [generator(seed, "fit", settings.layer) for seed in seeds]
    distances = torch.vmap(lambda own, some, wanted: _distances(template, own, some, wanted))
    watch = _Watch(len(layers), how.patience, {key: value.detach().clone() for key, value in state.items()})
    for epoch in range(1, how.epochs + 1):
        order = torch.stack([torch.randperm(count, generator=random) for random in randoms])[of_training]
        shift = torch.stack([torch.randint(1, classes, (count,), generator=random) for random in randoms])[of_training]
        totals = torch.zeros(2, len(layers), device=device, dtype=torch.float64)
        for rows in order.split(how.batch_size, 1):
            some, right = patches[members, rows].to(device), labels[rows].to(device)
            if options.negatives == "hardest":
                wrong = _hardest(distances, state, some, right, stacked)
            else:
                wrong = (right + shift.gather(1, rows).to(device)) % classes
            wanted = stacked[members.to(device), torch.cat([right, wrong], 1)]
            both = distances(state, torch.cat([some, some], 1), wanted)
            near, far = (part.flatten(0, 1) for part in both.chunk(2, 1))
            loss = balanced_contrastive_loss(near, far, settings.alpha, settings.beta, options.positive)
            optimiser.zero_grad()
            (loss.sum() / rows.shape[1]).backward()
            optimiser.step()
            with torch.no_grad():
                least = near.diagonal(dim1=1, dim2=2).amin((1, 2)).mean(1)
                each = torch.stack([least, paired(far).mean(1)]).double()
                totals += each.unflatten(1, (len(layers), -1)).sum(2)
        schedule.step()
        near, far = (totals / count).cpu()
        watched = near if how.watched == "positive" else near / far
        if watch.ends(epoch, watched, {"positive_distance": near, "negative_distance": far}, state):
            break
    if not all(watch.notes):
        raise InputError(f"clam: training of layer {settings.layer} diverged; lower clam.optimiser.learning_rate")
    with torch.no_grad():
        for member, layer in enumerate(layers):
            layer.load_state_dict({key: value[member] for key, value in watch.best.items()})
    return watch.notes


class _Watch:
    """Early stopping of E members by a number that should fall; each keeps its best state, and none waits for others.

    Members that have stopped are fitted on with the rest of the batch, to no effect.
    """

    def __init__(self, members: int, patience: int, state: dict[str, Tensor]) -> None:
        self.least = torch.full((members,), torch.inf, dtype=torch.float64)
        self.waited = torch.zeros(members, dtype=torch.int64)
        self.patience, self.best = patience, state
        self.notes: list[dict[str, Any]] = [{} for _ in range(members)]

    def ends(self, epoch: int, watched: Tensor, notes: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> bool:
        """Take note of an epoch; whether all have stopped."""
        active = self.waited < self.patience
        better = active & (watched < self.least)
        self.least = torch.where(better, watched, self.least)
        self.waited = torch.where(better, 0, self.waited + active)
        for member in better.nonzero().flatten().tolist():
            kept = {name: values[member].item() for name, values in notes.items()}
            self.notes[member] = {"kept_epoch": epoch, **kept}
            for key, value in state.items():
                self.best[key][member] = value[member].detach()
        for member in active.nonzero().flatten().tolist():
            if self.notes[member]:
                self.notes[member]["epochs"] = epoch
        return bool((self.waited >= self.patience).all())


def _distances(template: ClaLayer, state: Mapping[str, Tensor], patches: Tensor, patterns: Tensor) -> Tensor:
    """(B, N, D, P, P) patches with (B, P, P) patterns -> (B, N sub-features, N attributes, w, w)."""
    count = patches.shape[1]
    inputs = patches.flatten(0, 1), patterns.repeat_interleave(count, 0)
    flat = torch.func.functional_call(template, dict(state), inputs)
    return flat.unflatten(0, (-1, count))


@torch.no_grad()
def _hardest(
    distances: Callable[..., Tensor], state: Mapping[str, Tensor], patches: Tensor, right: Tensor, patterns: Tensor
) -> Tensor:
    """The wrong class whose pattern brings the sub-features nearest to their attributes: (E, B)."""
    each = patterns.transpose(0, 1)[:, :, None].expand(-1, -1, patches.shape[1], -1, -1)
    found = (distances(dict(state), patches, wanted) for wanted in each)
    means = torch.stack([paired(of.flatten(0, 1)).mean(1).view(right.shape) for of in found])
    return means.scatter(0, right[None], torch.inf).argmin(0)
