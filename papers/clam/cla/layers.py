"""Which layers carry a CLA-layer, by name, from the output to the input (Appendices A.1 and A.3).

What a job depends on is planned by these names, so they must be known without building a network: this file is pure
data and imports no torch. Names are torchvision's: the convolution that a VGG layer is named for (``features.28``
is the paper's Conv-28), the block or the block's convolution of a ResNet (``layer4.2``, ``layer4.2.conv2``).
"""

from __future__ import annotations

from collections.abc import Sequence

from relmap.errors import InputError

_VGG16_CONVOLUTIONS = (0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28)
_VGG16_BEFORE_POOLING = (2, 7, 14, 21, 28)
_RESNET50_BLOCKS = (3, 4, 6, 3)

_VGG16 = tuple(f"features.{index}" for index in reversed(_VGG16_CONVOLUTIONS))
_RESNET50 = tuple(
    f"layer{stage}.{block}"
    for stage, blocks in reversed(tuple(enumerate(_RESNET50_BLOCKS, 1)))
    for block in reversed(range(blocks))
)
_RESNET50_ENDS = tuple(f"layer{stage}.{_RESNET50_BLOCKS[stage - 1] - 1}" for stage in (4, 3, 2, 1))


def _with_inner_convolutions(blocks: Sequence[str]) -> tuple[str, ...]:
    """Each block's output, then its 3 x 3 convolution, which relevance reaches next."""
    return tuple(name for block in blocks for name in (block, f"{block}.conv2"))


LAYER_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "vgg16": {
        "all_convolutions": _VGG16,
        "before_pooling": tuple(f"features.{index}" for index in reversed(_VGG16_BEFORE_POOLING)),
    },
    "resnet50": {
        "case1": _with_inner_convolutions(_RESNET50),
        "case2": _RESNET50,
        "stage_ends": _RESNET50_ENDS,
        "stage_ends_case1": _with_inner_convolutions(_RESNET50_ENDS),
    },
}


def candidate_layers(architecture: str) -> tuple[str, ...]:
    """Every layer of ``architecture`` that can carry a CLA-layer, from the output to the input."""
    return {"vgg16": _VGG16, "resnet50": _with_inner_convolutions(_RESNET50)}[architecture]


def select_layers(architecture: str, selection: str | Sequence[str]) -> tuple[str, ...]:
    """The layers that a config entry means, from the output to the input.

    Args:
        architecture: ``vgg16`` or ``resnet50``.
        selection: the name of a layer set, or a list of layer names in any order.

    Raises:
        InputError: no such set, no such layer, or no layer at all.
    """
    if isinstance(selection, str):
        sets = LAYER_SETS[architecture]
        if selection not in sets:
            raise InputError(f"`{selection}` is no layer set of {architecture}; choose one of {', '.join(sets)}")
        return sets[selection]
    known = candidate_layers(architecture)
    unknown = [name for name in selection if name not in known]
    if unknown:
        raise InputError(f"`{unknown[0]}` is no layer of {architecture}; choose among {', '.join(known)}")
    if not selection:
        raise InputError(f"no layer of {architecture} is named; list at least one, or name a layer set")
    return tuple(name for name in known if name in set(selection))


def layer_file(index: int, layer: str) -> str:
    """Stem of a CLA-layer's file: its place in the chain, counted from the output, and its name."""
    return f"{index:02d}_{layer}"


def layer_label(layer: str) -> str:
    """The paper's name of a VGG layer (``features.28`` is Conv-28); torchvision's name of any other."""
    return f"Conv-{layer.removeprefix('features.')}" if layer.startswith("features.") else layer
