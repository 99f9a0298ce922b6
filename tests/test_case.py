"""What a metric is given, where pictures have several sizes."""

import numpy as np
import pandas as pd
import pytest
from metric_cases import manifest_of
from relmap.data.images import Preprocessing
from relmap.errors import InputError
from relmap.evidence.maps import Maps
from relmap.metrics.case import Case

SIZES = [(40, 20), (20, 40), (40, 20), (30, 30)]
SEEN = Preprocessing(10, 10, fit="aspect")


def case_and_maps():
    manifest = manifest_of([{"width": w, "height": h, "labels": [0], "boxes": [], "box_labels": []} for w, h in SIZES])
    pairs = pd.DataFrame({"image_id": ["p0", "p1", "p2", "p3", "p1"], "target": [0, 0, 0, 0, 1]})
    sizes = np.array([[10, 20], [20, 10], [10, 20], [10, 10], [20, 10]])
    stored = np.zeros((5, 20, 20), np.float32)
    for place, (height, width) in enumerate(sizes):
        stored[place, :height, :width] = place + 1
    return Case(manifest, pairs, SEEN), Maps(stored, pairs["image_id"].tolist(), pairs["target"].to_numpy(), sizes, {})


def test_pairs_come_in_groups_of_one_size():
    case, maps = case_and_maps()
    found = [(group.pairs["image_id"].tolist(), tuple(group.of(maps).shape)) for group in case.groups()]
    assert found == [(["p0", "p2"], (2, 10, 20)), (["p1", "p1"], (2, 20, 10)), (["p3"], (1, 10, 10))]
    assert case.groups()[0] is case.groups()[0], "pictures are read once for all methods"
    values = [group.of(maps).unique().tolist() for group in case.groups()]
    assert values == [[1, 3], [2, 5], [4]], "cut to their own sizes: nothing of the frame is left"
    with pytest.raises(ValueError, match="several sizes"):
        case.of(maps)


def test_maps_of_another_preprocessing_are_refused():
    case, maps = case_and_maps()
    other = Case(case.manifest, case.pairs, Preprocessing(12, 12, fit="aspect"))
    with pytest.raises(InputError, match="made for other sizes"):
        other.groups()[0].of(maps)


def test_the_first_images_are_those_of_all_groups():
    case, _ = case_and_maps()
    first = [group.of_first_images(2).pairs["image_id"].tolist() for group in case.groups()]
    assert first == [["p0"], ["p1", "p1"], []]
