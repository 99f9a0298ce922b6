"""A network that classifies no image rightly, and a case without any pair: valid tables, or a line that says so."""

import numpy as np
import pandas as pd
import pytest
import torch
from dataset_trees import write_cub
from relmap.catalogue.methods import find
from relmap.catalogue.metrics import METRICS, metric_settings, score_of
from relmap.data.formats.cub import read_cub
from relmap.data.images import Preprocessing
from relmap.evidence.evaluation import target_frame, write_parquet
from relmap.evidence.maps import Maps
from relmap.evidence.values import by_cell, has_values, image_scores, load_scores
from relmap.job.config import defaults
from relmap.metrics.case import Case
from torch import nn

SIDE, COUNT = 32, 10
# What has no row, or no number, where no image is classified rightly.
OF_RIGHT_ONES = {"lerf_correct", "lerf_last", "lerf_mean"}


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A data set, a network, the pairs of its images with their labels, all classified wrongly, and maps of them."""
    manifest = read_cub(write_cub(tmp_path_factory.mktemp("birds"), per_class=COUNT // 2))
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(64, 2)
    )
    model.eval().requires_grad_(False)
    probabilities = 1 - np.eye(2)[manifest.single_labels()]
    pairs = target_frame(manifest, manifest.rows(), probabilities)
    assert not pairs["correct"].any() and len(pairs) == COUNT
    maps = np.random.default_rng(0).normal(size=(COUNT, SIDE, SIDE)).astype(np.float32)
    return manifest, model, pairs, maps


def scored(given, metric, count):
    manifest, model, pairs, maps = given
    pairs = pairs[:count]
    settings = metric_settings(metric, defaults()["evaluation"])
    methods = {"saliency": find("saliency")}
    sizes = np.tile([SIDE, SIDE], (count, 1))
    store = Maps(maps[:count], pairs["image_id"].tolist(), pairs["target"].to_numpy(np.int64), sizes, {})
    case = Case(manifest, pairs, Preprocessing(SIDE, SIDE), settings, model, "cpu", 16, 1, 0, methods)
    parts = [score_of(metric.score)(group, "saliency", store) for group in case.groups()]
    return pd.concat(parts, ignore_index=True), pairs


@pytest.mark.parametrize("count", [COUNT, 0], ids=["none is right", "there is none"])
@pytest.mark.parametrize("metric", METRICS.values(), ids=list(METRICS))
def test_every_metric_gives_valid_rows(given, tmp_path, metric, count):
    rows, pairs = scored(given, metric, count)
    assert {"image_id", "target", "method", "metric", "level", "value"} <= set(rows.columns)
    path = tmp_path / "birds" / "net" / f"{metric.id}.parquet"
    write_parquet(rows, path)
    targets = tmp_path / "targets" / "birds" / "net.parquet"
    write_parquet(pairs, targets)
    scores = load_scores([path], targets=[targets])
    assert set(scores["image_id"]) <= set(pairs["image_id"]) and not np.isinf(scores["value"].astype(float)).any()
    values = by_cell(scores)
    assert not any(has_values(values, ("birds", "net", "saliency", name)) for name in OF_RIGHT_ONES)
    assert not count or values or metric.id == "lerf"


def test_rows_of_none_stand_beside_others():
    row = {"image_id": "a", "target": 1, "method": "saliency", "metric": "accuracy", "level": np.nan, "value": 1.0}
    some = pd.DataFrame([row])
    tables = [image_scores(rows, "birds", "net") for rows in (some, some[:0])]
    together = pd.concat(tables, ignore_index=True)
    assert [list(table) for table in tables] == [list(together)] * 2
    assert together["value"].tolist() == [1.0] and together["target"].dtype == np.int64
