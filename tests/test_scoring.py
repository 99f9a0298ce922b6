"""Scores of a run: part after part they are those of all pairs at once, and each part's pictures go when it is done."""

import weakref
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from metric_cases import manifest_of
from PIL import Image
from relmap.catalogue.methods import CATALOGUE
from relmap.catalogue.metrics import METRICS, MINIMAL_PAIRS, metric_settings, score_of
from relmap.data.images import Preprocessing
from relmap.errors import InputError
from relmap.evidence.maps import Maps
from relmap.job.config import load
from relmap.job.share import Share
from relmap.metrics.case import Case
from relmap.metrics.scoring import Asked, joined, score_all
from torch import nn

METHODS = ("saliency", "input_x_gradient")
SMALL = {
    "road": {"images": 5, "percents": [10, 50], "noise": 0.01},
    "lerf": {"images": None, "steps": 2, "pixels": 20, "reference_size": 24, "fill": "mean"},
    "deletion_insertion": {"images": 6, "rows": 4, "kernel": 5, "sigma": 2.0},
}
# Operations are counted anew for a method, whatever the pairs; the others lack what these pictures have not.
SCORED = [name for name, row in METRICS.items() if MINIMAL_PAIRS not in row.needs and name != "operations"]


@pytest.fixture(scope="module")
def case(tmp_path_factory):
    """Nine pictures of two sizes, one with two targets; boxes and masks of all."""
    root, rng, pictures = tmp_path_factory.mktemp("pictures"), np.random.default_rng(0), []
    for place in range(9):
        height, width = (24, 24) if place % 3 else (24, 30)
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(root / f"p{place}.png")
        mask = np.zeros((height, width), np.uint8)
        mask[4:16, 6:20] = 255
        Image.fromarray(mask).save(root / f"m{place}.png")
        labels = [place % 3] if place != 4 else [1, 2]
        boxes = [[6.0, 4.0, 20.0, 16.0]] * len(labels)
        size = {"width": width, "height": height, "mask_path": f"m{place}.png"}
        pictures.append({**size, "labels": labels, "boxes": boxes, "box_labels": labels})
        pictures[-1]["box_difficult"] = [False] * len(labels)
    manifest = manifest_of(pictures, classes=3)
    object.__setattr__(manifest.info, "root", str(root))
    flags = {"present": True, "predicted": True, "correct": True, "counted": True, "difficult": False}
    pairs = [(f"p{k}", label) for k, picture in enumerate(pictures) for label in picture["labels"]]
    frame = pd.DataFrame([{"image_id": image, "target": target, **flags} for image, target in pairs])
    torch.manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3, 2, 1), nn.ReLU(), nn.Conv2d(6, 8, 3, 2, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).append(nn.Linear(8, 3))
    methods = {name: CATALOGUE[name] for name in METHODS}
    evaluation = {**load({})["evaluation"], **SMALL}
    settings = {key: value for name in SCORED for key, value in metric_settings(METRICS[name], evaluation).items()}
    view = Preprocessing(24, 24, fit="aspect")
    return Case(manifest, frame, view, settings, model.eval(), batch_size=64, methods=methods)


def maps_of(case):
    rng = np.random.default_rng(1)
    maps = rng.normal(size=(len(case.pairs), 24, 30)).astype(np.float32)
    for own, (height, width) in zip(maps, case.sizes, strict=True):
        own[height:], own[:, width:] = 0, 0
    ids, targets = case.pairs["image_id"].tolist(), case.pairs["target"].to_numpy()
    return {name: Maps(maps * (k + 1) - k * maps**2, ids, targets, case.sizes, {}) for k, name in enumerate(METHODS)}


@pytest.mark.parametrize("name", SCORED)
def test_no_score_depends_on_the_parts(case, name):
    row = METRICS[name]
    asked = [Asked(score_of(row.score), METHODS, row.together)]
    (whole,) = score_all(case, maps_of(case), asked)
    assert set(whole["method"]) == set(METHODS)
    for pixels in (1, 24 * 24 * 4):
        (found,) = score_all(case, maps_of(case), asked, pixels=pixels)
        pd.testing.assert_frame_equal(ordered(found), ordered(whole), rtol=1e-5, atol=1e-6)
        assert found["method"].tolist() == sorted(found["method"], key=METHODS.index)


@pytest.mark.parametrize("name", [name for name in SCORED if not METRICS[name].together])
def test_jobs_that_divide_the_pairs_score_them_to_the_bit_as_one_does(case, name):
    asked = [Asked(score_of(METRICS[name].score), METHODS)]
    small, maps = replace(case, batch_size=1), maps_of(case)
    (whole,) = score_all(small, maps, asked)
    for count in (2, 5):
        shares = [score_all(small, maps, asked, share=Share(place + 1, count))[0] for place in range(count)]
        assert sum(len(one) > 0 for one in shares) > 1
        pd.testing.assert_frame_equal(joined(shares, METHODS), whole, check_exact=True)


def test_pairs_that_must_stay_together_are_not_divided(case):
    together = next(row for row in METRICS.values() if row.together)
    with pytest.raises(ValueError, match="no shares"):
        score_all(case, {}, [Asked(score_of(together.score), METHODS, True)], share=Share(1, 2))


def test_scores_of_a_method_that_none_asked_for_are_refused(case):
    rows = case.tidy("saliency", "some", np.zeros(len(case.pairs)))
    with pytest.raises(InputError, match="saliency, which none asked for"):
        joined([rows], ["grad_cam"])


def ordered(rows):
    keys = ["metric", "method", "image_id", "target", "level"]
    return rows.sort_values(keys).reset_index(drop=True)


def test_a_method_is_scored_by_what_asks_for_it_alone_and_pictures_do_not_stay(case):
    alive, seen = weakref.WeakSet(), []

    def score(part, method, maps):
        alive.add(part)
        seen.append((len(part.images), len(alive)))
        return part.tidy(method, "some", part.of(maps).mean((1, 2)))

    (rows,) = score_all(case, maps_of(case), [Asked(score, METHODS[:1])], pixels=1)
    assert rows["method"].unique().tolist() == [METHODS[0]] and len(rows) == len(case.pairs)
    assert seen == [(1, 1)] * len(case.pairs)
