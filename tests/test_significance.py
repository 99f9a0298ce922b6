"""Wilcoxon's test behind the stars: against its definition, with ties, zeros and several classes an image."""

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from relmap.catalogue.papers import published, read_paper
from relmap.errors import InputError
from relmap.evidence.significance import COLUMNS, against_the_best, signed_rank_test, significance
from relmap.evidence.statistics import holm

ROOT = Path(__file__).parents[1]


def enumerated(differences):
    """Two-sided p from all patterns of signs: twice the share of rank sums that are at least as small."""
    differences = np.array([d for d in differences if d != 0])
    ranks = np.argsort(np.argsort(np.abs(differences))) + 1
    total = ranks.sum()
    seen = min(ranks[differences > 0].sum(), ranks[differences < 0].sum())
    sums = [sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in product((0, 1), repeat=len(ranks))]
    return np.mean([min(s, total - s) <= seen for s in sums])


def test_signed_rank_test_is_its_definition():
    generator = np.random.default_rng(0)
    for shift in (0.0, 0.4, 1.0):
        differences = generator.standard_normal(9) + shift
        assert signed_rank_test(differences) == pytest.approx(enumerated(differences), abs=1e-12)
        assert signed_rank_test(-differences) == signed_rank_test(differences)
        padded = np.concatenate([differences, [0, np.nan, 0]])
        assert signed_rank_test(padded) == signed_rank_test(differences), "zeros and unknown values are left out"
    assert signed_rank_test(np.arange(1.0, 7.0)) == pytest.approx(2 / 2**6)
    assert signed_rank_test(np.zeros(4)) == signed_rank_test(np.array([])) == 1.0


def series(values, images=None):
    images = range(len(values)) if images is None else images
    index = pd.MultiIndex.from_arrays(
        [[f"i{image}" for image in images], range(len(values))], names=["image_id", "target"]
    )
    return pd.Series(np.asarray(values, float), index)


def test_stars_join_the_best_and_what_cannot_be_told_from_it():
    base = np.arange(8.0)
    close = base + np.array([1, -2, 3, -4, 5, -6, 7, -8]) / 100
    values = {"far": series(base - np.arange(1, 9)), "close": series(close), "best": series(base + 0.001)}
    found = against_the_best(values, True, 0.05).set_index("method")
    assert found["best"].to_dict() == {"far": False, "close": False, "best": True}
    assert np.isnan(found.at["best", "p"]) and found.at["far", "p"] == pytest.approx(2 / 2**8)
    assert found.at["close", "p"] == pytest.approx(enumerated(base + 0.001 - close)) and found.at["close", "p"] > 0.05
    assert found["star"].to_dict() == {"far": False, "close": True, "best": True}
    adjusted = holm(found.loc[["far", "close"], "p"].to_numpy())
    assert found.loc[["far", "close"], "p_holm"].tolist() == adjusted.tolist()
    alone = against_the_best({key: values[key] for key in ("far", "best")}, True, 0.05)
    assert not alone["star"].any(), "a best method that stands alone has none"
    lower = against_the_best(values, False, 0.05).set_index("method")
    assert lower["best"].to_dict() == {"far": True, "close": False, "best": False}


def test_holm_stars_more():
    """A p below the level that the correction lifts above it: starred by Holm only."""
    first = np.arange(1, 8.0)
    values = {"best": series(first + 9), "a": series(first + 9 - [1, 2, 3, 4, 5, 7, -6]), "b": series(first)}
    values["a"].iloc[6] = values["best"].iloc[6] + 0.5
    found = against_the_best(values, True, 0.04).set_index("method")
    assert found.at["a", "p"] == pytest.approx(enumerated([1, 2, 3, 4, 5, 7, -0.5])) == 4 / 2**7
    assert found.at["b", "p"] == pytest.approx(2 / 2**7)
    assert not found["star"].any() and found["p_holm"].dropna().tolist() == pytest.approx([4 / 128, 4 / 128])
    strict = against_the_best(values, True, 0.03).set_index("method")
    assert strict["star"].to_dict() == strict["star_holm"].to_dict() | {"b": False}
    assert strict["star_holm"].to_dict() == {"best": True, "a": True, "b": True}


def test_the_classes_of_an_image_are_one_observation():
    images = [0, 0, 1, 1, 2, 3, 4, 5, 6]
    a = series([5, 4, 3, 5, 2, 5, 6, 7, 4], images)
    b = series([1, 6, 2, 2, 1, 1, 1, 1, 1], images)
    found = against_the_best({"a": a, "b": b}, True, 0.05).set_index("method")
    assert found.at["b", "p"] == signed_rank_test(np.array([1, 2, 1, 4, 5, 6, 3]))
    assert (found["n_images"] == 7).all()
    gap = b.copy()
    gap.iloc[4] = np.nan
    assert (against_the_best({"a": a, "b": gap}, True, 0.05)["n_images"] == 6).all()


def abslrp_folder(tmp_path, **significance_entry):
    source = ROOT / "papers" / "abslrp"
    content = yaml.safe_load((source / "paper.yaml").read_text())
    for path in source.glob("table*.csv"):
        (tmp_path / path.name).write_text(path.read_text())
    content["significance"] = significance_entry
    (tmp_path / "paper.yaml").write_text(yaml.safe_dump(content, allow_unicode=True))
    return tmp_path


def test_significance_of_a_papers_tables(tmp_path):
    paper = read_paper(abslrp_folder(tmp_path, tables=[3, 4], columns=["gae_total"]))
    assert paper.significance.level == 0.05 and paper.significance.tables == (3, 4)
    printed = {number: published(paper, number) for number in paper.significance.tables}
    methods = printed[3].query("metric == 'gae_total'")["method"].tolist()
    shift = {method: 0.0 for method in methods} | {"abslrp": 5.0, "clrp_zplus": 5.0}
    noise = np.random.default_rng(1).standard_normal((len(methods), 20)) / 10
    scores = pd.DataFrame(
        {"dataset": "imagenet", "model": "resnet50_ram", "method": method, "metric": "gae_total"}
        | {"image_id": f"i{image}", "target": 0, "value": shift[method] + noise[row, image]}
        for row, method in enumerate(methods)
        for image in range(20)
    )
    found = significance(printed, paper.significance.columns, 0.05, scores)
    assert list(found) == list(COLUMNS) and set(found["table"]) == {3}, "table 4's data set has no scores"
    assert set(found.loc[found["star"], "method"]) == {"abslrp", "clrp_zplus"}
    assert (found["star"] == found["published_star"]).all()
    assert significance(printed, ["gae_total"], 0.05, scores[scores["method"] == "abslrp"]).empty


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"tables": [99], "columns": ["gae_total"]}, "no table 99"),
        ({"tables": [3], "columns": ["gae_totl"]}, "gae_total"),
        ({"tables": [3], "columns": ["gae_total"], "level": 1.5}, "significance.level"),
        ({"tables": [3]}, "columns"),
    ],
)
def test_wrong_keys_are_refused(tmp_path, entry, words):
    with pytest.raises(InputError, match=words):
        read_paper(abslrp_folder(tmp_path, **entry))
