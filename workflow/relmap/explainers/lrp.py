"""LRP, CLRP and SGLRP on LRP-alpha1-beta0, and the same refined by CLAM: K explainers share one forward pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor, nn

from relmap.data.images import Preprocessing
from relmap.errors import InputError
from relmap.explainers.clam.refinement import Regions, refinements
from relmap.explainers.clam.settings import ClamOptions
from relmap.explainers.clam.trained import TrainedLayer
from relmap.explainers.clam.training import stacked_starts
from relmap.propagation import Propagator, Walk, composites
from relmap.propagation.rules import Flat, Rule, ZBox


def valid_range(preprocessing: Preprocessing) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Lowest and highest value of each channel of a normalised image."""
    pairs = list(zip(preprocessing.mean, preprocessing.std, strict=True))
    return tuple(-mean / std for mean, std in pairs), tuple((1 - mean) / std for mean, std in pairs)


def first_rule(kind: str, bounds: str, preprocessing: Preprocessing) -> Rule | None:
    """Rule of the first convolution: ``z_box``, ``alpha1_beta0`` (as everywhere else) or ``flat``.

    ``bounds`` of z_box: ``valid_range`` per channel of a normalised image, or ``image_range``.
    """
    if kind == "alpha1_beta0":
        return None
    if kind == "flat":
        return Flat()
    if kind != "z_box":
        raise InputError(f"explainers.first_layer {kind!r} is unknown; choose z_box, alpha1_beta0 or flat")
    if bounds == "image_range":
        return ZBox(None, None)
    return ZBox(*valid_range(preprocessing))


def lrp_propagator(
    model: nn.Module,
    preprocessing: Preprocessing,
    *,
    first_layer: str = "z_box",
    z_box: str = "valid_range",
    batch_norm: str = "alpha_beta",
) -> Walk:
    """LRP-alpha1-beta0 without bias, as CLAM and its three explainers use it."""
    first = first_rule(first_layer, z_box, preprocessing)
    return Propagator(model).by(composites.alpha_beta(1, 0, first=first, batch_norm=batch_norm))


@dataclass(frozen=True)
class Explanation:
    """Maps (K, N, H, W) of K explainers; with CLA-layers also their regions and refined relevance.

    ``regions``: one for each layer. ``relevance``: layer -> (K, N, h, w), channel-summed after refinement.
    """

    maps: Tensor
    regions: list[Regions] = field(default_factory=list)
    relevance: Mapping[str, Tensor] = field(default_factory=dict)


def explain_lrp(
    propagator: Walk,
    images: Tensor,
    targets: Tensor,
    explainers: Sequence[str],
    layers: Sequence[TrainedLayer] = (),
    options: ClamOptions | None = None,
    *,
    capture: bool = False,
) -> Explanation:
    """Maps of ``images`` (N, 3, H, W) for ``targets`` (N,) by each explainer; refined where there are CLA-layers.

    Relevance at all layers costs one propagation. Maps are channel sums, signed, not normalised.
    """
    options = options or ClamOptions()
    activations = propagator.forward(images, keep={layer.features_at for layer in layers})
    transforms, regions = refinements(
        layers,
        activations,
        targets,
        explainers,
        mask_width=options.mask_width,
        restore_total=options.restore_total,
    )
    result = propagator.propagate(
        activations,
        stacked_starts(explainers, activations.logits, targets),
        transforms=transforms,
        capture=[layer.relevance_at for layer in layers] if capture else (),
    )
    relevance = {layer.settings.layer: result.captured[layer.relevance_at].sum(2) for layer in layers if capture}
    return Explanation(result.relevance.sum(2), regions, relevance)
