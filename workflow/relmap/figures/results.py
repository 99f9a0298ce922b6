"""What the notebooks read from a results folder: scores, targets, maps and pictures, without torch."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from textwrap import fill
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image

from relmap.catalogue.rows import rank
from relmap.data.decoding import decode
from relmap.data.manifest import Manifest, read_manifest
from relmap.data.members import file_of
from relmap.data.runs import decode_runs
from relmap.errors import InputError
from relmap.evidence.maps import open_maps
from relmap.figures.pictures import fit, move_boxes, read_picture
from relmap.figures.style import signed
from relmap.job.files import atomic_path, read_json
from relmap.job.parquet import read_parquet


@dataclass(frozen=True)
class Row:
    """One image and its maps.

    Attributes:
        picture: uint8 (H, W, 3), as the network saw it.
        boxes: (k, 4) object boxes [x0, y0, x1, y1] in its pixels.
        maps: method id -> (H, W) signed map; methods without one are drawn as an empty cell.
        label: lines printed at the row's left.
        gains: method id -> gain over the method that it refines, printed under its map.
    """

    picture: np.ndarray
    boxes: np.ndarray
    maps: Mapping[str, np.ndarray]
    label: str
    gains: Mapping[str, float] = field(default_factory=dict)


class Setting:
    """One data set and model of a run.

    Args:
        results: the run's folder.
        dataset: data set id.
        model: model id.
    """

    def __init__(self, results: str | os.PathLike, dataset: str, model: str) -> None:
        self.results, self.dataset, self.model = Path(results), dataset, model

    @cached_property
    def pointing(self) -> pd.DataFrame:
        """Rows image_id, target, method, metric ``pointing``, level (residual energy), value."""
        scores = read_parquet(self.results / "scores" / self.dataset / self.model / "pointing.parquet")
        return scores[scores["metric"] == "pointing"]

    @cached_property
    def targets(self) -> pd.DataFrame:
        """Rows image_id, target, predicted, correct, top and so on, one an image.

        Raises:
            InputError: an image has several targets, and what is drawn shows one map an image.
        """
        frame = read_parquet(self.results / "targets" / self.dataset / f"{self.model}.parquet")
        repeated = frame["image_id"][frame["image_id"].duplicated()]
        if len(repeated):
            raise InputError(f"targets of {self.dataset}: image {repeated.iloc[0]} has several; draw one map a target")
        return frame

    @cached_property
    def manifest(self) -> Manifest:
        """The data set's manifest."""
        return read_manifest(self.results / "manifests" / f"{self.dataset}.parquet")

    @cached_property
    def preprocessing(self) -> dict[str, Any]:
        """``resize`` and ``crop`` in pixels, of the model's card."""
        return read_json(self.results / "models" / self.dataset / f"{self.model}.json")["preprocessing"]

    @cached_property
    def _entries(self) -> pd.DataFrame:
        return self.manifest.frame.set_index("image_id")

    def entry(self, image_id: str) -> pd.Series:
        """One image's manifest row.

        Raises:
            InputError: the manifest does not know the image.
        """
        if image_id not in self._entries.index:
            raise InputError(f"manifest of {self.dataset}: no image '{image_id}'; remake what refers to it")
        return self._entries.loc[image_id]

    def picture(self, image_id: str) -> np.ndarray:
        """The image as the network saw it: uint8 (crop, crop, 3)."""
        return self._read(self.entry(image_id)["path"])

    def part_map(self, image_id: str) -> np.ndarray | None:
        """The rendered birds' part index per pixel: uint8 (crop, crop), or None where the data set has none."""
        path = self.entry(image_id)["part_map_path"]
        if path is None:
            return None
        return self._read(path, nearest=True)

    def _read(self, path: str, nearest: bool = False) -> np.ndarray:
        """Pixels as the network saw them; a copy remains in the run, and is read where the data are gone."""
        copy, file = self._copy(path, nearest), self.manifest.resolve(path)
        if copy.is_file() and not os.path.lexists(file_of(file)):
            return np.asarray(decode(copy))
        values = read_picture(file, self.preprocessing, nearest)
        self.manifest.check(path)
        if not copy.is_file():
            with atomic_path(copy) as temporary:
                Image.fromarray(values).save(temporary)
        return values

    def _copy(self, path: str, nearest: bool) -> Path:
        """Where the copy lies, by a name that no other picture, or another state of the data, has."""
        what = [self.manifest.info.fingerprint, path, self.preprocessing, nearest]
        name = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()[:32]
        return self.results / "pictures" / self.dataset / f"{name}.png"

    def boxes(self, image_id: str) -> np.ndarray:
        """The image's object boxes in the pixels of its picture: (k, 4)."""
        entry = self.entry(image_id)
        return move_boxes(entry["boxes"], entry["width"], entry["height"], self.preprocessing)

    def boxes_of(self, image_id: str, target: int) -> np.ndarray:
        """The boxes of one class alone: (k, 4)."""
        kept = [label == target for label in self.entry(image_id)["box_labels"]]
        return self.boxes(image_id)[kept]

    def mask_of(self, image_id: str, target: int) -> np.ndarray | None:
        """Which pixels of the picture one class covers: bool (H, W); None where nobody drew them.

        As ``relmap.data.images.load_masks``: the masks of the class's boxes, else the file, which holds the image's
        class.
        """
        entry = self.entry(image_id)
        masked = [(run, label) for run, label in zip(entry["box_masks"], entry["box_labels"], strict=True) if run]
        path = entry["mask_path"]
        if masked:
            runs = [run for run, label in masked if label == target]
            if not runs:
                return None
            whole = Image.fromarray(decode_runs(runs, entry["width"], entry["height"]))
            return fit(whole, self.preprocessing, entry["path"], nearest=True)
        if path is None or target not in entry["labels"]:
            return None
        values = self._read(path, nearest=True)
        return (values if values.ndim == 2 else values.max(2)) > 0

    def class_name(self, image_id: str) -> str:
        """The image's class in words."""
        return ", ".join(self.class_of(label) for label in self.entry(image_id)["labels"])

    def predicted_name(self, image_id: str) -> str:
        """The class that the network predicts, in words."""
        return self.class_of(int(self.targets.set_index("image_id").loc[image_id, "top"]))

    def class_of(self, label: int) -> str:
        """A class in words."""
        return readable(self.manifest.info.class_names[label])

    def maps(self, methods: Sequence[str], image_ids: Sequence[str]) -> dict[str, dict[str, np.ndarray]]:
        """Maps of some images.

        Args:
            methods: method ids; those without a store are left out.
            image_ids: images.

        Returns:
            image id -> method id -> (H, W) float32.

        Raises:
            InputError: a store lacks one of the images.
        """
        chosen: dict[str, dict[str, np.ndarray]] = {image: {} for image in image_ids}
        for method in methods:
            path = self.results / "maps" / self.dataset / self.model / f"{method}.zarr"
            if not path.is_dir():
                continue
            store = open_maps(path)
            first = {image: place for place, image in reversed(list(enumerate(store.image_ids)))}
            missing = set(image_ids) - set(first)
            if missing:
                raise InputError(f"{path}: no map of image '{min(missing)}'; delete the store and run again")
            places = np.array([first[image] for image in image_ids], dtype=np.int64)
            for image, values, size in zip(image_ids, store.at(places), store.sizes[places], strict=True):
                chosen[image][method] = values[: size[0], : size[1]]
        return chosen

    def rows(
        self, image_ids: Sequence[str], methods: Sequence[str], gains: pd.DataFrame, heading: str = ""
    ) -> list[Row]:
        """Everything that a comparison figure needs of some images.

        Args:
            image_ids: images, in the order of the rows.
            methods: columns.
            gains: image ids by method -> gain.
            heading: first line of every label.
        """
        maps = self.maps(methods, image_ids)
        rows = []
        for image in image_ids:
            truth, correct = self.class_name(image), self.targets.set_index("image_id").loc[image, "correct"]
            verdict = "predicted rightly" if correct else f"predicted: {self.predicted_name(image)}"
            lines = [heading] if heading else []
            lines += [fill(truth, 17), fill(verdict, 17), f"gain {signed(gains.loc[image, 'gain'])}"]
            each = {name: float(gains.loc[image, name]) for name in gains.columns if name != "gain"}
            rows.append(Row(self.picture(image), self.boxes(image), maps[image], "\n".join(lines), each))
        return rows


def readable(class_name: str) -> str:
    """A class folder's name as words: ``001.Black_footed_Albatross`` -> ``Black footed Albatross``."""
    number, dot, rest = class_name.partition(".")
    return (rest if dot and number.isdigit() else class_name).replace("_", " ")


def settings(results: str | os.PathLike, having: str | None = None) -> list[Setting]:
    """The data sets and models of a run that have pointing scores, in the catalogue's order.

    Args:
        results: the run's folder.
        having: leave those out that lack this method.

    Raises:
        InputError: there are none.
    """
    paths = Path(results).glob("scores/*/*/pointing.parquet")
    found = {
        path.parent.parts[-2:]
        for path in paths
        if having is None or having in set(read_parquet(path, ["method"])["method"])
    }
    if not found:
        raise InputError(f"{results}/scores: no pointing.parquet of any data set and model; run the workflow first")
    return [Setting(results, *pair) for pair in sorted(found, key=lambda pair: rank(*pair))]
