"""What C3-LRP's figures read of a run: the first training's pictures and maps, ABN's, and their ID scores."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from functools import cached_property

import numpy as np
import pandas as pd
from relmap.catalogue.rows import Rows
from relmap.errors import InputError
from relmap.figures.pairs import Pair, Place, having

from papers.c3lrp.figures.maps import id_words

OURS, BRANCH = "c3_lrp_contour", "attention_branch_network"
# Columns of Figure 4, (b) to (f), and two of ours.
COLUMNS = {
    "rise_keio": "RISE",
    "grad_cam": "Grad-CAM",
    "lrp_epsilon_captum": "LRP",
    BRANCH: "ABN",
    OURS: "C3-LRP",
    "input_x_gradient_contour": "Gradient x Input,\nsame contour",
    "c3_lrp_released_contour": "released,\nsame contour",
}
_METRIC = "deletion_insertion_black"


class Trained:
    """The first of several trainings that a run has, and the first of ABN's.

    Args:
        results: the run's folder.
        dataset: id.
        model, branch: what is trained several times, by itself and with an attention branch.

    Raises:
        InputError: the run has maps of none.
    """

    def __init__(self, results: str | os.PathLike, dataset: str, model: str, branch: str) -> None:
        known = Rows()
        here = having(results, dataset, known.trainings(model), OURS)
        branches = having(results, dataset, known.trainings(branch), BRANCH)
        if not here:
            raise InputError(f"{results}: no maps of {OURS} on {dataset} with a training of {model}; run the workflow")
        self.place: Place = here[0]
        self.branch: Place | None = branches[0] if branches else None

    @cached_property
    def scored(self) -> pd.DataFrame:
        """The pairs that have been scored, as the targets tell them."""
        scores = self._scores(self.place)
        scored = pd.MultiIndex.from_frame(scores[["image_id", "target"]].drop_duplicates())
        pairs = self.place.pairs
        return pairs[pd.MultiIndex.from_frame(pairs[["image_id", "target"]]).isin(scored)]

    def maps_of(self, methods: Iterable[str], pairs: Sequence[Pair]) -> dict[Pair, dict[str, np.ndarray]]:
        """Pair -> method -> map; ABN's by its own network."""
        methods = list(methods)
        found = self.place.maps_of([method for method in methods if method != BRANCH], pairs)
        if self.branch is not None and BRANCH in methods:
            for pair, own in self.branch.maps_of([BRANCH], pairs).items():
                found[pair] |= own
        return found

    def words_of(self, pairs: Sequence[Pair]) -> dict[Pair, dict[str, str]]:
        """Pair -> method -> its ID scores by both rules of ties, in words."""
        frames = [self._scores(place) for place in (self.place, self.branch) if place is not None]
        scores = pd.concat(frames, ignore_index=True).set_index(["metric", "image_id", "target"]).sort_index()
        found = {}
        for image, target in pairs:
            rules = [
                scores.loc[(name, image, target)].set_index("method")["value"].to_dict()
                for name in ("id_score", "id_score_at_once")
            ]
            found[image, target] = id_words(*rules)
        return found

    @staticmethod
    def _scores(place: Place) -> pd.DataFrame:
        rows = place.scores(_METRIC)
        return rows[rows["metric"].isin(["id_score", "id_score_at_once"])]
