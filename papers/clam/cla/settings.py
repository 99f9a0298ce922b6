"""What a CLA-layer needs to know: the choices of a whole model, and the numbers of one layer (Appendix A.1).

A paper's range becomes a straight line over the depth of the CLA-layers: the first value of a pair at the layer nearest
the output, the last at the one nearest the input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from relmap.errors import InputError


@dataclass(frozen=True)
class Optimiser:
    """``learning_rate`` is multiplied by half the attribute size, and by ``decay`` after each epoch.

    ``watched``: what must become smaller, or the training ends after ``patience`` epochs: ``positive``, the mean least
    distance of the positive data (A.1), or ``ratio``, that over the negative distance. At the paper's beta, .5 and
    more, both distances shrink together, so that the first falls for as long as one likes, whatever is learned; the
    second rises before it falls.
    """

    name: str = "adam"
    learning_rate: float = 0.01
    decay: float = 0.95
    epochs: int = 16
    patience: int = 5
    watched: str = "positive"
    batch_size: int = 8


@dataclass(frozen=True)
class ClamOptions:
    """Every choice of a run's CLAM; the keys of ``clam:`` in the config mean the same.

    Attributes:
        attributes: number of attributes of a layer (nb_attrs), or None for the formula of ``layer_settings``.
        patch_size: side of a sub-feature (sz_patches), or None for the formula.
        attribute_size: side of an attribute (sz_attrs), or None for the formula.
        alpha, beta, strength: (nearest the output, nearest the input).
        layers: settings of single layers by name, which win over those above.
        features: ``after_relu`` or ``pre_activation``.
        pattern: ``random`` or ``orthogonal``; ``pattern_amplitude`` in units of the features' RMS.
        normalisation: ``sub_feature`` or ``position``.
        add_on: ``linear`` or ``sigmoid`` end of the add-on block.
        distance: ``squared_l2`` or ``l2``; ``distance_over`` a window's elements: ``mean`` or ``sum``.
        positive: key of ``loss.POSITIVE``: reading of Eq. 4.
        negatives: ``random`` or ``hardest`` other class.
        pooling: ``sliding`` by one or ``tiles``: the strides of Eq. 1's pooling.
        mask_width: standard deviation of the mask, in sides of the patch.
        overlap: key of ``refinement.OVERLAPS``: what holds where regions overlap.
    """

    attributes: int | None = 4
    patch_size: int | None = None
    attribute_size: int | None = None
    largest_patch: int = 4
    alpha: tuple[float, float] = (0.1, 0.01)
    beta: tuple[float, float] = (0.6, 0.5)
    strength: tuple[float, float] = (1.4, 1.1)
    layers: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    features: str = "after_relu"
    pattern: str = "random"
    pattern_amplitude: float = 2.0
    normalisation: str = "sub_feature"
    add_on: str = "linear"
    distance: str = "squared_l2"
    distance_over: str = "mean"
    positive: str = "max"
    negatives: str = "random"
    pooling: str = "sliding"
    mask_width: float = 0.5
    overlap: str = "multiply"
    optimiser: Optimiser = field(default_factory=Optimiser)

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> ClamOptions:
        """Take the keys that CLAM itself reads from the config's ``clam`` section."""
        known = {f.name for f in fields(cls)}
        values = {key: tuple(v) if isinstance(v, list) else v for key, v in config.items() if key in known}
        if "optimiser" in values:
            values["optimiser"] = Optimiser(**values["optimiser"])
        return cls(**values)


def changed(settings: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The ``clam`` section with a variant's changes, section by section."""
    nested = {key: {**settings[key], **value} for key, value in changes.items() if isinstance(value, Mapping)}
    return {**settings, **changes, **nested}


@dataclass(frozen=True)
class LayerSettings:
    """The numbers of one CLA-layer.

    Attributes:
        layer: name of the classifier's layer.
        index: its place among the CLA-layers, 0 nearest the output.
        attributes: number N of attributes. patch: side P. attribute_size: side A < P.
        alpha, beta: of Eq. 4 and 5. strength: factor on relevance at the centre of a region.
    """

    layer: str
    index: int
    attributes: int
    patch: int
    attribute_size: int
    alpha: float
    beta: float
    strength: float

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def layer_settings(
    options: ClamOptions, layers: Sequence[str], sizes: Mapping[str, tuple[int, int]]
) -> list[LayerSettings]:
    """Settings of every CLA-layer, from the output to the input.

    Where the config leaves sizes open: a patch is about the square root of the feature map's side, 2 at least and
    ``largest_patch`` at most; an attribute half a patch; and there are as many attributes as patches tile the map,
    between 2 and 8.

    Args:
        layers: names from the output to the input.
        sizes: feature map (height, width) of each.

    Raises:
        InputError: a patch is not larger than its attribute, or larger than the feature map.
    """
    unknown = set(options.layers) - set(layers)
    if unknown:
        raise InputError(
            f"clam.layers: {', '.join(sorted(unknown))} carries no CLA-layer here; those that do: {', '.join(layers)}"
        )
    return [_one(options, layer, index, len(layers), sizes[layer]) for index, layer in enumerate(layers)]


def _one(options: ClamOptions, layer: str, index: int, count: int, size: tuple[int, int]) -> LayerSettings:
    side, depth = min(size), index / max(count - 1, 1)

    def between(pair: tuple[float, float]) -> float:
        return round(pair[0] + depth * (pair[1] - pair[0]), 6)

    own = dict(options.layers.get(layer, {}))
    patch = own.get("patch_size") or options.patch_size
    patch = patch or max(2, min(round(math.sqrt(side)), options.largest_patch))
    attribute_size = own.get("attribute_size") or options.attribute_size or max(1, patch // 2)
    if attribute_size >= patch:
        raise InputError(
            f"clam: at layer {layer} the patch ({patch} x {patch}) is not larger than its attribute "
            f"({attribute_size} x {attribute_size}); raise patch_size or lower attribute_size"
        )
    if patch > side:
        raise InputError(
            f"clam: at layer {layer} the patch ({patch} x {patch}) is larger than the feature map "
            f"({size[0]} x {size[1]}); lower patch_size, or leave this layer out"
        )
    if options.pooling == "tiles":
        places = (size[0] // patch) * (size[1] // patch)
    else:
        places = (size[0] - patch + 1) * (size[1] - patch + 1)
    attributes = own.get("attributes") or options.attributes or min(8, max(2, round((side / patch) ** 2)))
    return LayerSettings(
        layer,
        index,
        min(attributes, places),
        patch,
        attribute_size,
        own.get("alpha", between(options.alpha)),
        own.get("beta", between(options.beta)),
        own.get("strength", between(options.strength)),
    )
