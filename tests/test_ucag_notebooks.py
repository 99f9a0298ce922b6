"""UCAG's figures: from a results folder of made-up maps and scores, and their numbers against a slow statement."""

import json
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from ae_results import make_place
from relmap.errors import InputError

from papers.ucag.figures.names import GRAD_CAM, SHOWN, UCAG_GRAD_CAM, guided
from papers.ucag.figures.resolution import COSTS, GAMES, GUIDED, PLAIN, areas, by_enlargement

NOTEBOOKS = Path(__file__).resolve().parents[1] / "notebooks" / "ucag"
FIGURES = {"maps": [1, 4, 5], "resolution": [2]}
NETWORKS = ("resnet50_squash", "densenet121_squash", "inception_v3_squash")


def rows(pairs, method, metric, values, level=np.nan):
    return pairs[["image_id", "target"]].assign(method=method, metric=metric, level=level, value=values)


def write_scores(results, model, metric, parts):
    path = results / "scores" / "imagenet" / model / f"{metric}.parquet"
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.concat(parts, ignore_index=True).to_parquet(path)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    folder, random = tmp_path_factory.mktemp("ucag"), np.random.default_rng(0)
    for seed, model in enumerate(("vgg19", "resnet50_squash")):
        methods = [*SHOWN, *map(guided, SHOWN)][: None if seed else -1]  # one map is absent
        make_place(folder, "imagenet_segmentation", model, [[0], [1], [2], [3]], methods, "squash", seed)
    for seed, model in enumerate(NETWORKS, start=5):
        methods = [GRAD_CAM, UCAG_GRAD_CAM]
        pairs = make_place(folder, "imagenet", model, [[0], [1], [2], [3]], methods, "squash", seed)
    methods = [*PLAIN.values(), *GUIDED.values(), UCAG_GRAD_CAM]
    games = [
        rows(pairs, method, metric, random.random(len(pairs)), level)
        for method in methods
        for metric in GAMES
        for level in (0.0, 0.25, 1.0)
    ]
    write_scores(folder, NETWORKS[0], "deletion_insertion", games)
    costs = [rows(pairs, method, metric, float(1 + place)) for place, method in enumerate(methods) for metric in COSTS]
    write_scores(folder, NETWORKS[0], "operations", costs)
    return folder


@pytest.mark.parametrize("name", FIGURES)
def test_cells_draw_their_figures(name, results, monkeypatch):
    monkeypatch.setattr("relmap.figures.page.PNG_DPI", 50)
    monkeypatch.setattr("relmap.figures.style.PNG_DPI", 50)
    space: dict = {}
    for cell in nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4).cells:
        if cell.cell_type != "code":
            continue
        exec(compile(cell.source, name, "exec"), space)
        if "parameters" in cell.metadata.get("tags", []):
            space |= {"results": str(results), **({"draws": 50} if name == "resolution" else {})}
    for number in FIGURES[name]:
        stem = results / "figures" / f"ucag_figure{number:02}"
        assert stem.with_suffix(".png").read_bytes().startswith(b"\x89PNG")
        assert stem.with_suffix(".pdf").read_bytes().startswith(b"%PDF")
        words = json.loads(stem.with_suffix(".json").read_text())
        assert words["caption"] and words["selection"]


def test_every_figure_but_the_schematic_one_is_drawn_once():
    assert sorted(number for numbers in FIGURES.values() for number in numbers) == [1, 2, 4, 5]


def test_areas_are_those_of_the_trapezoid_rule():
    pairs = pd.DataFrame({"image_id": ["a", "b"], "target": [0, 1]})
    levels, values = [0.0, 0.25, 1.0], np.array([[1.0, 0.5, 0.1], [0.0, 0.5, 1.0]])
    scores = pd.concat(
        [rows(pairs, GRAD_CAM, "deletion_probability", values[:, i], level) for i, level in enumerate(levels)]
    )
    expected = [(1 + 0.5) / 2 * 0.25 + (0.5 + 0.1) / 2 * 0.75, 0.25 / 4 + (0.5 + 1) / 2 * 0.75]
    assert areas(scores.sample(frac=1, random_state=0)).set_index("image_id")["value"].loc[["a", "b"]].tolist() == (
        pytest.approx(expected, abs=1e-15)
    )
    with pytest.raises(InputError, match="all levels"):
        areas(scores.iloc[:-1])


def test_series_stand_at_their_enlargement():
    pairs = pd.DataFrame({"image_id": ["a", "b"], "target": [0, 1]})
    values = pd.concat(
        [rows(pairs, PLAIN[3], "map_memory", [1.0, 3.0]), rows(pairs, GUIDED[1], "map_memory", [5.0, 5.0])]
    )
    found = by_enlargement(values, draws=20).set_index("enlargement")
    assert found["mean"].to_dict() == {3: 2.0, 1: 5.0}
    assert found["series"].to_dict() == {3: "Grad-CAM, enlarged", 1: "UCAG"}
    with pytest.raises(InputError, match="enlargements"):
        by_enlargement(values[:0])
