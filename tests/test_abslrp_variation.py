"""What GAE and ROAD say by other draws and steps: made values by hand, and values that the metrics themselves give."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from metric_cases import case_of
from PIL import Image
from relmap.catalogue.methods import find
from relmap.data.images import Preprocessing
from relmap.metrics import gae_rows
from torch import nn

from papers.abslrp.variation import Setting, gae_settings, road_settings, scored, summary, variation

METHODS = ["abslrp", "grad_cam", "input_x_gradient", "random"]
OWN = {"seed": 7, "steps": 2}


def made(means):
    """Values of two images, .1 below and above a mean; ``means``: (varied, level) -> a mean of each of ``METHODS``."""
    rows = []
    for (varied, level), of_methods in means.items():
        for method, mean in zip(METHODS, of_methods, strict=True):
            row = {"metric": "gae_total", "method": method, "varied": varied, "level": level}
            rows += [{**row, "image_id": image, "value": mean + step} for image, step in (("a", -0.1), ("b", 0.1))]
    return pd.DataFrame(rows)


def test_settings_share_the_run_s_own():
    assert gae_settings(7, 2, [5, 1], 2) == [
        Setting("seed", 7, 7, 2),
        Setting("seed", 8, 8, 2),
        Setting("steps", 1, 7, 1),
        Setting("steps", 2, 7, 2),
        Setting("steps", 5, 7, 5),
    ]
    assert gae_settings(7, 1, [2], 2) == [Setting("seed", 7, 7, 2), Setting("steps", 2, 7, 2)]
    assert road_settings(7, 2) == [Setting("seed", 7, 7, None), Setting("seed", 8, 8, None)]


def test_means_spread_and_order_by_hand():
    values = made({("seed", 7): [0.1, 0.2, 0.3, 9.0], ("seed", 8): [0.3, 0.2, 0.5, 0.0], ("seed", 9): [0.2] * 4})
    table = variation(values, OWN, confidence=0.95, resamples=500, seed=3).set_index(["level", "method"])
    assert table["mean"].loc[7].tolist() == pytest.approx([0.1, 0.2, 0.3, 9.0]) and set(table["n"]) == {2}
    # Of .1, .3 and .2; of three times .2; of .3, .5 and .2; each at all levels.
    spreads = [0.1, 0.0, np.sqrt((0.001111111 + 0.027777778 + 0.017777778) / 2), np.std([9, 0, 0.2], ddof=1)]
    for level in (7, 8, 9):
        assert table["deviation"].loc[level].tolist() == pytest.approx(spreads, abs=1e-6)
    # Of the three pairs of methods proper one is turned round: (2 - 1) / 3. All equal is no order.
    assert table["tau"].loc[7].tolist() == [1.0] * 4 and table["tau"].loc[9].isna().all()
    assert table["tau"].loc[8].tolist() == pytest.approx([1 / 3] * 4)
    # A mean of two values .1 around it is at its ends in a quarter of the resamples each.
    assert table["half_width"].tolist() == pytest.approx([0.1] * 12)


def test_summary_by_hand_leaves_controls_out():
    given = {("seed", 7): [0.1, 0.2, 0.3, 9.0], ("seed", 8): [0.3, 0.2, 0.5, 0.0], ("seed", 9): [0.1, 0.2, 0.3, 0.0]}
    given |= {("steps", 2): [0.1, 0.2, 0.3, 9.0], ("steps", 4): [0.3, 0.2, 0.1, 9.0]}
    found = summary(variation(made(given), OWN, resamples=500), OWN).set_index("varied")
    assert found["levels"].tolist() == [3, 2] and found["n"].tolist() == [2, 2]
    apart = np.std([0.1, 0.3, 0.1], ddof=1)
    assert found.loc["seed", "deviation"] == pytest.approx((apart + 0 + apart) / 3)
    assert found.loc["steps", "deviation"] == pytest.approx(2 * np.std([0.1, 0.3], ddof=1) / 3)
    assert found["half_width"].tolist() == pytest.approx([0.1, 0.1])
    assert found.loc["seed", ["tau_mean", "tau_least"]].tolist() == pytest.approx([2 / 3, 1 / 3])
    assert found.loc["steps", ["tau_mean", "tau_least"]].tolist() == pytest.approx([-1, -1])


def test_one_level_has_no_spread_and_two_methods_no_order():
    table = variation(made({("seed", 7): [0.1, 0.2, 0.3, 0.4]}), OWN, resamples=50)
    assert table["deviation"].isna().all() and table["tau"].tolist() == [1.0] * 4
    assert np.isnan(summary(table, OWN)["tau_mean"].item())
    values = made({("seed", 7): [0.1, 0.2, 0.3, 0.4]})
    assert variation(values[values["method"] != "abslrp"], OWN, resamples=50)["tau"].isna().all()


@pytest.fixture
def case(tmp_path):
    """Nine pictures of noise, and a small network with random weights, whose class follows the noise."""
    draws, pictures = np.random.default_rng(0), []
    for number in range(9):
        path = tmp_path / f"{number}.png"
        Image.fromarray(draws.integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(path)
        pictures.append({"path": str(path), "width": 32, "height": 32, "labels": [number % 4]})
    gae = {"mosaics": None, "steps": 3, "masking": "reselect", "positive": "uniform"}
    gae |= {"score_classes": "predicted", "relative": "paper"}
    settings = {"gae": gae, "road": {"images": 5, "percents": [30, 70], "noise": 0.5}, "ties": "strict"}
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 6, 5, stride=2), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()]
    made, _ = case_of(
        pictures,
        [(number, number % 4, {}) for number in range(9)],
        np.zeros((9, 32, 32)),
        settings,
        Preprocessing(32, 32, fit="squash"),
        model=nn.Sequential(*layers, nn.Linear(6 * 7 * 7, 4, bias=False)).eval().requires_grad_(False),
        batch_size=4,
    )
    return made


@pytest.mark.filterwarnings("ignore")
def test_values_are_the_metrics_own_by_each_setting(case):
    methods = ["abslrp", "input_x_gradient", "random"]
    values = scored(case, methods, [*gae_settings(7, 2, [1], 2), *road_settings(7, 2)])
    assert set(values["metric"]) == {"gae_total", "gae_lc", "gae_c", "road_morf", "road_lerf"}
    counts = values.groupby(["metric", "method", "varied", "level"]).size()
    # Two mosaics of nine images, whose methods are scored on five.
    assert (counts["gae_total"] == 2).all() and (counts["road_morf"] == 5).all()
    by = values.set_index(["metric", "varied", "level", "method"]).sort_index()
    for metric in ("gae_total", "gae_lc", "gae_c"):
        own = (by.loc[(metric, *place)].reset_index() for place in (("seed", 7), ("steps", 2)))
        pd.testing.assert_frame_equal(*own)
    for seed, steps, varied, level in ((8, 2, "seed", 8), (7, 1, "steps", 1)):
        given = {**case.settings, "gae": {**case.settings["gae"], "steps": steps}}
        drawn = replace(case, seed=seed, settings=given, methods={m: find(m) for m in methods})
        rows = pd.concat([gae_rows.score(drawn, method, None) for method in methods])
        theirs = rows[(rows["metric"] == "gae_lc") & rows["value"].notna()].sort_values(["method", "image_id"])
        ours = by.loc[("gae_lc", varied, level)].reset_index().sort_values(["method", "image_id"])
        assert ours["image_id"].tolist() == theirs["image_id"].tolist()
        np.testing.assert_allclose(ours["value"], theirs["value"], atol=1e-6)
    # Predictions are right or wrong by the noise of each seed.
    noisy = {seed: by.loc[("road_morf", "seed", seed), "value"].to_numpy() for seed in (7, 8)}
    assert not np.array_equal(noisy[7], noisy[8])
    settled = {**case.settings, "road": {**case.settings["road"], "noise": 0}}
    still = scored(replace(case, settings=settled), methods, road_settings(7, 2))
    first, second = (still[still["level"] == seed]["value"].tolist() for seed in (7, 8))
    assert first == second


@pytest.mark.filterwarnings("ignore")
def test_neither_batches_nor_the_order_of_pairs_change_values(case):
    settings = [*gae_settings(7, 1, [], 2)[:1], *road_settings(7, 1)]
    keys = ["metric", "method", "image_id"]
    first = scored(case, METHODS[1:], settings).sort_values(keys, ignore_index=True)
    case.settings["road"]["images"] = None
    whole = replace(case, pairs=case.pairs.iloc[::-1].reset_index(drop=True), batch_size=7)
    second = scored(whole, METHODS[1:], settings)
    second = second[second["image_id"].isin(set(first["image_id"]))].sort_values(keys, ignore_index=True)
    joint = first.merge(second, on=["metric", "method", "varied", "level", "image_id"], suffixes=("", "_other"))
    assert len(joint) == len(first)
    np.testing.assert_allclose(joint["value"], joint["value_other"], atol=1e-5)
