"""What several methods say of some images, with what is needed to read it; it saves itself. No torch."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from relmap.errors import InputError, suggestion
from relmap.job.files import atomic_path

if TYPE_CHECKING:
    from torch import Tensor, nn

    from relmap.catalogue.methods import Method
    from relmap.data.images import Preprocessing
    from relmap.propagation import Propagator

FORMAT = 1
_ARRAYS = ("targets", "pictures", "predicted", "probabilities", "target_probabilities", "sizes")
_SUFFIXES = (".npz", ".zarr")


@dataclass(frozen=True, eq=False)
class MethodMaps:
    """The maps of one method.

    Attributes:
        id, label, citation, signed: of its row.
        seconds: that its maps took, their forward pass included.
        said: what there is to say of them, a line each: why there are none, why they should not be relied on.
        maps: (N, K, H, W) as ``relmap.explain`` gives them; None where the method refused. A map that is not finite is
            NaN everywhere.
        leak: (N, K) float64, the part of the start's absolute sum by which the total at the end differs, 0 where
            relevance is conserved; None for a method that is not made to keep a total.
    """

    id: str
    label: str
    citation: str
    signed: bool
    seconds: float
    said: tuple[str, ...] = ()
    maps: np.ndarray | None = None
    leak: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Explanation:
    """Maps of N images for K classes each, by some methods.

    ``explanation["abslrp"]`` are the maps of one method, (N, K, H, W). A notebook shows an explanation by itself.

    Attributes:
        model: its name.
        images: N names.
        targets: (N, K) int64, the classes that are explained.
        methods: id -> its maps.
        pictures: (N, H, W, 3) uint8, as the network saw them.
        predicted: (N, T) int64, the classes that the network is surest of, the surest first.
        probabilities: (N, T) float64, of those.
        target_probabilities: (N, K) float64, of the targets.
        sizes: (N, 2) int64, height and width of the images before they were resized and cropped.
        class_names: of all classes in their order; empty where nobody knows them.
        preprocessing: ``Preprocessing.to_dict()``; empty where the images were given as tensors.
        weights, device: where the network's weights came from, and where it ran.
    """

    model: str
    images: tuple[str, ...]
    targets: np.ndarray
    methods: Mapping[str, MethodMaps]
    pictures: np.ndarray
    predicted: np.ndarray
    probabilities: np.ndarray
    target_probabilities: np.ndarray
    sizes: np.ndarray
    class_names: tuple[str, ...] = ()
    preprocessing: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    device: str = "cpu"

    @classmethod
    def of(
        cls,
        model: nn.Module | Propagator | str,
        images: Tensor | str | os.PathLike | Sequence[str | os.PathLike],
        targets: Tensor | Sequence[int | str] | int | str | None = None,
        methods: Sequence[str | Method] | str | None = None,
        *,
        weights: str | os.PathLike | None = None,
        class_names: Sequence[str] | str | os.PathLike | None = None,
        preprocessing: Preprocessing | None = None,
        device: str = "auto",
        batch_size: int = 4,
    ) -> Explanation:
        """Explain photographs, or a tensor of images.

        Args:
            model: a classifier, or its name: ``resnet50``, ``timm:vit_tiny_patch16_224``, ``hf:timm/resnet18.a1_in1k``,
                ``package.module:factory``.
            images: files and folders of photographs; or (N, C, H, W), normalised as the model takes them.
            targets: classes by number or name, for all images (several explain several); a tensor (N,) or (N, K) of
                numbers; by default the predicted ones.
            methods: ids or rows; by default eight that the network admits.
            weights: of a model that is given by name, a file; by default those that are distributed by this name.
            class_names: names, or a file with a line a class; by default ImageNet's where there are 1000 outputs.
            preprocessing: what the network sees of a photograph; by default what its published weights take.
            device: ``auto``, ``cpu`` or ``cuda``, of a model that is given by name.
            batch_size: images at a time; it does not change the result.

        Raises:
            InputError: an unknown name, file, class or method. A method that refuses this network says so in
                ``methods[id].said``; the others go on.

        Example:
            >>> explanation = relmap.Explanation.of("resnet50", "photo.jpg", weights="resnet50.safetensors")
            >>> relmap.show(explanation)
        """
        from relmap.inspection.explaining import explanation_of

        return explanation_of(
            model,
            images,
            targets,
            methods,
            weights=weights,
            class_names=class_names,
            preprocessing=preprocessing,
            device=device,
            batch_size=batch_size,
        )

    @property
    def maps(self) -> dict[str, np.ndarray]:
        """Method -> maps (N, K, H, W), of those that did not refuse."""
        return {name: method.maps for name, method in self.methods.items() if method.maps is not None}

    def __getitem__(self, method: str) -> np.ndarray:
        """The maps of one method, (N, K, H, W).

        Raises:
            InputError: it is not among them, or refused.
        """
        if method not in self.methods:
            raise InputError(
                f"no maps of {method!r}{suggestion(method, self.methods)}; there are {', '.join(self.maps)}"
            )
        found = self.methods[method]
        if found.maps is None:
            raise InputError(f"method {method!r} made no maps: {'; '.join(found.said)}")
        return found.maps

    def class_name(self, number: int) -> str:
        """The name of a class, or ``class 7`` where nobody knows it."""
        return self.class_names[number] if self.class_names else f"class {number}"

    def __repr__(self) -> str:
        shown = ", ".join(
            f"{name}: {self.class_name(int(k[0]))}" for name, k in zip(self.images, self.targets, strict=True)
        )
        return f"Explanation({self.model}; {shown}; {', '.join(self.methods)})"

    def _repr_png_(self) -> bytes:
        from relmap.figures.contact import show

        buffer = io.BytesIO()
        show(self).save(buffer, format="png")
        return buffer.getvalue()

    def save(self, path: str | os.PathLike) -> None:
        """Write everything to ``<name>.npz`` or ``<name>.zarr``, atomically; ``relmap.load`` reads it, bit for bit.

        Raises:
            InputError: another suffix.
        """
        path = _kept_at(path)
        arrays, words = _apart(self)
        with atomic_path(path) as temporary:
            if path.suffix == ".npz":
                every: dict[str, Any] = {"words": np.array(json.dumps(words)), **arrays}
                np.savez_compressed(temporary, **every)
            else:
                import zarr

                group = zarr.create_group(temporary, zarr_format=3)
                for name, values in arrays.items():
                    chunks = tuple(max(1, side) for side in (1, *values.shape[1:]))[: values.ndim]
                    stored = group.create_array(name, shape=values.shape, chunks=chunks, dtype=values.dtype)
                    stored[...] = values
                group.attrs.update(words)


def load(path: str | os.PathLike) -> Explanation:
    """Read what ``Explanation.save`` wrote.

    Raises:
        InputError: the file is absent, or is none of relmap's.
    """
    path = _kept_at(path)
    if not path.exists():
        raise InputError(f"{path}: no such file; `relmap explain photo.jpg --save {path.name}` makes one")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                arrays = {name: stored[name] for name in stored.files}
            words = json.loads(arrays.pop("words").item())
        else:
            import zarr

            group = zarr.open_group(path, mode="r")
            words = dict(group.attrs)
            arrays = {name: np.asarray(array[...]) for name, array in group.arrays()}
        if words["format"] != FORMAT:
            raise InputError(
                f"{path}: was written by another version of relmap (format {words['format']}); explain again"
            )
        return _together(arrays, words)
    except (KeyError, TypeError, AttributeError, OSError, ValueError, MemoryError, zipfile.BadZipFile) as error:
        raise InputError(
            f"{path}: not an explanation that relmap saved ({error!r}); explain again with --save"
        ) from error


def _kept_at(path: str | os.PathLike) -> Path:
    path = Path(path)
    if path.suffix not in _SUFFIXES:
        raise InputError(
            f"{path}: explanations are kept as .npz (one file) or .zarr (a folder); give one of these suffixes"
        )
    return path


def _apart(explanation: Explanation) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays, and everything else as JSON."""
    arrays = {name: getattr(explanation, name) for name in _ARRAYS}
    methods = []
    for method in explanation.methods.values():
        words = {each.name: getattr(method, each.name) for each in fields(method) if each.name not in ("maps", "leak")}
        methods.append({**words, "said": list(method.said)})
        kept = {"maps": method.maps, "leak": method.leak}
        arrays |= {f"{kind}.{method.id}": values for kind, values in kept.items() if values is not None}
    rest = {
        each.name: getattr(explanation, each.name)
        for each in fields(explanation)
        if each.name not in (*_ARRAYS, "methods", "images", "class_names", "preprocessing")
    }
    lists = {name: list(getattr(explanation, name)) for name in ("images", "class_names")}
    words = {**rest, **lists, "preprocessing": dict(explanation.preprocessing), "methods": methods, "format": FORMAT}
    return arrays, words


def _together(arrays: Mapping[str, np.ndarray], words: Mapping[str, Any]) -> Explanation:
    methods = {
        row["id"]: MethodMaps(
            **{**row, "said": tuple(row["said"])},
            maps=arrays.get(f"maps.{row['id']}"),
            leak=arrays.get(f"leak.{row['id']}"),
        )
        for row in words["methods"]
    }
    rest: dict[str, Any] = {key: value for key, value in words.items() if key not in ("format", "methods")}
    rest |= {name: tuple(words[name]) for name in ("images", "class_names")}
    rest |= {name: arrays[name] for name in _ARRAYS}
    return Explanation(**{**rest, "methods": methods})
