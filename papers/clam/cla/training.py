"""Training of one CLA-layer (CLAM, Sec. 3.3 and Appendix A.1).

The layers above, nearer the output, are trained already: relevance arrives refined by them. For every training image
the N most relevant patches are kept once; the epochs then only draw new wrong classes. As in Forward-Forward, no
gradient leaves the layer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import torch
from relmap.catalogue.methods import CATALOGUE
from relmap.errors import InputError
from relmap.explainers.building import build
from relmap.job.seeds import derive, generator
from relmap.network import Graph
from relmap.propagation import Propagator, Walk
from relmap.propagation.starts import STARTS
from torch import Tensor, nn

from papers.clam.cla.layer import ClaLayer
from papers.clam.cla.loss import balanced_contrastive_loss, paired
from papers.clam.cla.patterns import class_patterns
from papers.clam.cla.refinement import refinements
from papers.clam.cla.settings import ClamOptions, LayerSettings
from papers.clam.cla.sub_features import gather_patches, top_positions
from papers.clam.cla.trained import TrainedLayer, new_layer
from papers.clam.methods import CLAM_ARM, clam_methods

EXPLAINERS: dict[str, str] = {method.parameters["explainer"]: method.wraps for method in clam_methods(CLAM_ARM)}
"""Explainer that CLAM refines -> the id of the method. They differ in the start alone, so that one pass serves all."""


@dataclass(frozen=True)
class SubFeatures:
    """Patches (M, N, D, P, P) of M images with labels (M,), for one explainer; on the CPU."""

    patches: Tensor
    labels: Tensor


def feature_operation(graph: Graph, layer: str, features: str) -> str:
    """Operation whose output a CLA-layer reads: after the ReLU, or what that ReLU takes."""
    after = graph.activation_of(layer)
    if features == "after_relu" or graph[after].kind != "relu":
        return after
    return graph[after].inputs[0]


def lrp_walk(model: nn.Module | Propagator) -> Walk:
    """The walk that CLAM's explainers share on a network."""
    return build(model, EXPLAINERS["lrp"]).walk


def stacked_starts(explainers: Sequence[str], logits: Tensor, targets: Tensor) -> Tensor:
    """(K, N, C): the starts of K explainers for targets (N,), which then share one pass backwards."""
    named = (CATALOGUE[EXPLAINERS[name]].parameters["start"] for name in explainers)
    return torch.stack([STARTS[start](logits.double(), targets) for start in named])


def collect_sub_features(
    propagator: Walk,
    batches: Iterable[tuple[Tensor, Tensor]],
    settings: LayerSettings,
    above: Sequence[TrainedLayer],
    explainers: Sequence[str],
    options: ClamOptions,
) -> tuple[dict[str, SubFeatures], float]:
    """Sub-features of every training image (Eq. 1) for each explainer, and the RMS of the layer's features.

    Args:
        batches: (images (M, 3, H, W), labels (M,)).
        above: trained layers between this one and the output.
    """
    stop = propagator.graph.activation_of(settings.layer)
    source = feature_operation(propagator.graph, settings.layer, options.features)
    keep = {source, *(layer.features_at for layer in above)}
    patches: dict[str, list[Tensor]] = {name: [] for name in explainers}
    labels, energy, elements = [], 0.0, 0
    for images, targets in batches:
        activations = propagator.forward(images, keep=keep)
        features = activations.outputs[source]
        transforms, _ = refinements(
            above,
            activations,
            targets.expand(len(explainers), -1),
            explainers,
            mask_width=options.mask_width,
            restore_total=options.restore_total,
        )
        start = stacked_starts(explainers, activations.logits, targets)
        relevance = propagator.propagate(activations, start, stop=stop, transforms=transforms).relevance
        for name, of_explainer in zip(explainers, relevance, strict=True):
            positions = top_positions(of_explainer, settings.patch, settings.attributes)
            # On the CPU: at full scale the sub-features of all images outgrow a GPU.
            patches[name].append(gather_patches(features, positions, settings.patch).cpu().contiguous())
        labels.append(targets.cpu())
        energy += features.double().square().sum().item()
        elements += features.numel()
    if not labels:
        raise InputError(f"clam: no training images for layer {settings.layer}; check clam.train_images_per_class")
    found = {name: SubFeatures(torch.cat(parts), torch.cat(labels)) for name, parts in patches.items()}
    return found, (energy / elements) ** 0.5


def train_layer(
    propagator: Walk,
    batches: Iterable[tuple[Tensor, Tensor]],
    settings: LayerSettings,
    above: Sequence[TrainedLayer],
    explainers: Sequence[str],
    classes: int,
    options: ClamOptions,
    seed: int,
    report: Callable[[str], None] = lambda line: None,
) -> TrainedLayer:
    """Train the CLA-layers of one classifier layer, one for each explainer.

    Args:
        propagator: LRP-alpha1-beta0 of the classifier.
        batches: training images and labels; gone through once.
        classes: number of classes C.
        report: called with a line of progress now and then.

    Raises:
        InputError: there are no images, or only one class.
    """
    if classes < 2:
        raise InputError("clam: at least two classes are needed, for a negative carries another class's pattern")
    found, rms = collect_sub_features(propagator, batches, settings, above, explainers, options)
    patterns = class_patterns(options.pattern, classes, settings.patch, settings.layer, seed)
    trained, notes = {}, {}
    for name, sub_features in found.items():
        device = propagator.device
        scaled = patterns.to(device) * (rms * options.pattern_amplitude)
        layer = new_layer(options, settings, sub_features.patches.shape[2], seed, name).to(device)
        notes[name] = fit(layer, sub_features, scaled, settings, options, seed)
        report(f"{settings.layer} {name}: {notes[name]}")
        trained[name] = layer.requires_grad_(False)
    graph = propagator.graph
    return TrainedLayer(
        settings,
        graph.activation_of(settings.layer),
        feature_operation(graph, settings.layer, options.features),
        scaled,
        trained,
        notes,
    )


def initial_layers(
    propagator: Walk,
    batches: Iterable[tuple[Tensor, Tensor]],
    plan: Sequence[LayerSettings],
    explainers: Sequence[str],
    classes: int,
    options: ClamOptions,
    seed: int,
) -> list[TrainedLayer]:
    """The untrained control: CLA-layers as drawn, with patterns at the features' scale of the training images."""
    graph = propagator.graph
    sources = {each.layer: feature_operation(graph, each.layer, options.features) for each in plan}
    energy, elements, channels = dict.fromkeys(sources, 0.0), dict.fromkeys(sources, 0), {}
    for images, _ in batches:
        outputs = propagator.forward(images, keep=sources.values()).outputs
        for layer, source in sources.items():
            energy[layer] += outputs[source].double().square().sum().item()
            elements[layer] += outputs[source].numel()
            channels[layer] = outputs[source].shape[1]
    if not channels:
        raise InputError("clam: no training images; check clam.train_images_per_class")
    control = derive(seed, "untrained")
    result = []
    for each in plan:
        rms = (energy[each.layer] / elements[each.layer]) ** 0.5
        patterns = class_patterns(options.pattern, classes, each.patch, each.layer, seed)
        layers = {name: new_layer(options, each, channels[each.layer], control, name) for name in explainers}
        result.append(
            TrainedLayer(
                each,
                graph.activation_of(each.layer),
                sources[each.layer],
                (patterns * (rms * options.pattern_amplitude)).to(propagator.device),
                {name: layer.requires_grad_(False).to(propagator.device) for name, layer in layers.items()},
                {},
            )
        )
    return result


def fit(
    layer: ClaLayer,
    sub_features: SubFeatures,
    patterns: Tensor,
    settings: LayerSettings,
    options: ClamOptions,
    seed: int,
) -> dict[str, float]:
    """Fit one CLA-layer in place; its best state, by the least mean positive distance, stays.

    Returns:
        epochs run, and the mean positive and negative distance of the epoch that was kept.
    """
    how = options.optimiser
    rate = how.learning_rate * settings.attribute_size / 2
    optimisers = {"adam": torch.optim.Adam, "sgd": torch.optim.SGD}
    optimiser = optimisers[how.name](layer.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, how.decay)
    random = generator(seed, "fit", settings.layer)
    labels, count, device = sub_features.labels, len(sub_features.labels), patterns.device
    best, best_state, notes, waited = float("inf"), None, {}, 0
    for epoch in range(1, how.epochs + 1):
        order = torch.randperm(count, generator=random)
        shift = torch.randint(1, len(patterns), (count,), generator=random)
        nearest = torch.zeros(2, device=device)
        for rows in order.split(how.batch_size):
            patches, right = sub_features.patches[rows].to(device), labels[rows].to(device)
            if options.negatives == "hardest":
                wrong = _hardest(layer, patches, right, patterns)
            else:
                wrong = (right + shift[rows].to(device)) % len(patterns)
            both = _distances(layer, torch.cat([patches, patches]), patterns[torch.cat([right, wrong])])
            positive, negative = both.chunk(2)
            loss = balanced_contrastive_loss(positive, negative, settings.alpha, settings.beta, options.positive)
            optimiser.zero_grad()
            loss.mean().backward()
            optimiser.step()
            with torch.no_grad():
                near = positive.diagonal(dim1=1, dim2=2).amin((1, 2)).mean(1).sum()
                nearest += torch.stack([near, paired(negative).mean(1).sum()])
        schedule.step()
        near, far = (nearest / count).tolist()
        if near < best:
            best, waited = near, 0
            best_state = {key: value.clone() for key, value in layer.state_dict().items()}
            notes = {"kept_epoch": epoch, "positive_distance": near, "negative_distance": far}
        else:
            waited += 1
            if waited >= how.patience:
                break
    if best_state is None:
        raise InputError(f"clam: training of layer {settings.layer} diverged; lower clam.optimiser.learning_rate")
    layer.load_state_dict(best_state)
    return notes | {"epochs": epoch}


def _distances(layer: ClaLayer, patches: Tensor, patterns: Tensor) -> Tensor:
    """(B, N, D, P, P) patches with (B, P, P) patterns -> (B, N sub-features, N attributes, w, w)."""
    count = patches.shape[1]
    flat = layer.distances(patches.flatten(0, 1), patterns.repeat_interleave(count, 0))
    return flat.unflatten(0, (-1, count))


@torch.no_grad()
def _hardest(layer: ClaLayer, patches: Tensor, right: Tensor, patterns: Tensor) -> Tensor:
    """The wrong class whose pattern brings the sub-features nearest to their attributes."""
    means = torch.stack([paired(_distances(layer, patches, p.expand(len(patches), -1, -1))).mean(1) for p in patterns])
    return means.scatter(0, right[None], torch.inf).argmin(0)
