"""Minimal pairs: a rendered bird again with one thing changed, all else the same.

A part is shown in another look: a part that varies in its family in the sibling's, so that the changed bird is one of
that class; any other part in a look that no class of the family has. Or something behind the bird is taken away. Pose,
place, background, light and grain stay, and so does every pixel that the change does not touch: where two renderings
agree, the changed picture has the stored one's pixels, elsewhere those that it would have been stored with.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from relmap.data.decoding import as_rgb, decode
from relmap.data.manifest import Manifest
from relmap.data.render import birds
from relmap.data.render.birds import BirdClass
from relmap.data.render.cub_writer import DATASET_KEY, JPEG, RECIPES, REMOVABLE, render_bird
from relmap.data.render.jobs import generator
from relmap.errors import InputError

_COLUMNS = ("label", "split", "index", "size", "seed")


@dataclass(frozen=True, eq=False)
class Changed:
    """A picture after one change.

    Attributes:
        thing: what is changed: a name of ``birds.PARTS``, or of ``cub_writer.REMOVABLE``.
        sibling: the class that the changed bird is of, which differs in this part alone; None where none does.
        image: RGB, of the stored picture's size.
    """

    thing: str
    sibling: int | None
    image: Image.Image

    @property
    def behind(self) -> bool:
        """Whether something behind the bird was taken away."""
        return self.thing in REMOVABLE


@dataclass(frozen=True)
class Recipe:
    """What a picture was rendered from."""

    label: int
    split: int
    index: int
    size: int
    seed: int

    @property
    def key(self) -> tuple[int, ...]:
        """Of its random numbers."""
        return self.seed, DATASET_KEY, self.split, self.label, self.index


def minimal_pairs(manifest: Manifest, rows: Iterable[int]) -> list[list[Changed]]:
    """Each picture's changes, of the parts in the order of ``birds.PARTS``, then of what is behind the bird.

    What does not show, such as a part behind a leaf, is left out.

    Args:
        manifest: of birds rendered here.
        rows: places of pictures in it.

    Raises:
        InputError: the pictures were not rendered here, or not by this version.
    """
    root = Path(manifest.info.root)
    recipes = _recipes(root / RECIPES)
    found = []
    for row in rows:
        image_id, path = manifest.frame["image_id"].iat[row], manifest.resolve(manifest.frame["path"].iat[row])
        manifest.check(manifest.frame["path"].iat[row])
        if image_id not in recipes:
            raise InputError(f"{root / RECIPES}: no line for {image_id}; delete the rendered data and run again")
        found.append(changes(recipes[image_id], path, len(manifest.info.class_names)))
    return found


def changes(recipe: Recipe, path: Path, classes: int) -> list[Changed]:
    """The changes of the picture that lies at ``path``, in a world of so many classes.

    Raises:
        InputError: the stored picture is not what its recipe gives.
    """
    bird = birds.bird_class(recipe.label, recipe.seed)
    plain = render_bird(bird, generator(*recipe.key), recipe.size)
    stored, rendered = np.asarray(as_rgb(decode(path))), np.asarray(plain.image)
    if not np.array_equal(stored, _as_stored(plain.image)):
        raise InputError(f"{path}: another picture than it is rendered from; delete the rendered data and run again")
    found = []
    for thing, sibling, shown in (*_parts(bird, recipe), *((thing, None, bird) for thing in REMOVABLE)):
        without = thing if thing in REMOVABLE else ""
        other = render_bird(bird, generator(*recipe.key), recipe.size, shown=shown, without=without)
        touched = (np.asarray(other.image) != rendered).any(axis=2, keepdims=True)
        # Leaves are taken away where they would hide too much: of the changed bird that may be decided otherwise.
        if touched.any() and other.covered == plain.covered:
            known = sibling if sibling is not None and sibling < classes else None
            pixels = np.where(touched, _as_stored(other.image), stored)
            found.append(Changed(thing, known, Image.fromarray(pixels)))
    return found


def _parts(bird: BirdClass, recipe: Recipe) -> Iterable[tuple[str, int | None, BirdClass]]:
    """Each part of a bird, the index of the sibling that has its other look, and the bird with that look."""
    for part in birds.PARTS:
        if part in bird.varying:
            # Of four siblings, a bit of the index for each of the two parts.
            sibling = bird.index ^ (1 << bird.varying.index(part))
            yield part, sibling, birds.bird_class(sibling, recipe.seed)
        elif part in bird.looks:
            rng = generator(*recipe.key, birds.INDEX[part])
            looks = {**bird.looks, part: birds.other_look(rng, part, bird.looks[part])}
            yield part, None, replace(bird, looks=looks)


def _as_stored(image: Image.Image) -> np.ndarray:
    """A picture after it has been written and read, (H, W, 3) uint8."""
    file = io.BytesIO()
    image.save(file, **JPEG)
    return np.asarray(Image.open(file).convert("RGB"))


def _recipes(path: Path) -> dict[str, Recipe]:
    """By picture.

    Raises:
        InputError: the file is absent, or no table of recipes.
    """
    try:
        with open(path, newline="", encoding="utf-8") as file:
            lines = list(csv.DictReader(file))
        return {line["image_id"]: Recipe(*(int(line[name]) for name in _COLUMNS)) for line in lines}
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise InputError(
            f"{path}: cannot read what the pictures were rendered from ({error}); delete the data and run again"
        ) from error
