"""Orders of methods: ranks, resampling, Friedman, Nemenyi, Kendall, trust; against slow statements and known tables."""

import zlib
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from relmap.catalogue.methods import Method
from relmap.catalogue.metrics import Column, Metric
from relmap.catalogue.rows import Rows
from relmap.errors import InputError
from relmap.evidence import leaderboard, rankings, trust
from relmap.evidence.layout import write_frame
from relmap.evidence.statistics import area_under, bootstrap_mean
from relmap.evidence.values import image_scores
from relmap.figures.leaderboard import agreement_figure, mean_ranks_figure, read_table
from relmap.report.leaderboard import gather
from scipy.stats import kendalltau, rankdata

NOTEBOOK = Path(__file__).resolve().parents[1] / "notebooks" / "engine" / "leaderboard.ipynb"
METHODS = ("a", "b", "c", "d")


def _low_levels(levels):
    return levels <= 3


METRICS = {
    metric.id: metric
    for metric in (
        Metric(
            "up",
            "Up",
            "x:y",
            (Column("up", "Up", "", "up"), Column("up_low", "", "", "up", _low_levels, counted=False)),
        ),
        Metric("down", "Down", "x:y", (Column("down", "Down", "", "down", higher_is_better=False),), drawn="noise"),
        Metric("classy", "Classy", "x:y", (Column("classy", "Classy", "", "classy", mean="classes"),)),
    )
}
ROWS = Rows(
    methods={
        **{m: Method(m, m.upper(), "", "x:y") for m in METHODS},
        "zero": Method("zero", "Zero", "", "x:y", control=True),
    },
    metrics=METRICS,
)


def score_rows(values, metric, levels=(np.nan,)):
    """Score rows of {method: (images, levels)}; image i has class i % 3."""
    return pd.DataFrame(
        {
            "image_id": f"i{image:02}",
            "target": image % 3,
            "method": method,
            "metric": metric,
            "level": level,
            "value": float(value),
        }
        for method, table in values.items()
        for image, row in enumerate(np.asarray(table, float).reshape(len(table), len(levels)))
        for level, value in zip(levels, row, strict=True)
    )


def drawn(seed, methods=(*METHODS, "zero"), images=24, levels=1, spread=1.0):
    generator = np.random.default_rng(seed)
    return {m: place * spread + generator.standard_normal((images, levels)) for place, m in enumerate(methods)}


def run_scores():
    """Two data sets, on one two networks; a network lacks method d, on another all levels count."""
    parts = []
    for number, (dataset, model) in enumerate((("one", "x"), ("one", "y"), ("two", "x"))):
        methods = (*METHODS[: 3 if model == "y" else 4], "zero")
        own = [
            score_rows(drawn(number, methods, levels=6), "up", range(1, 7)),
            score_rows(drawn(9 + number, methods), "down"),
        ]
        parts.append(image_scores(pd.concat(own), dataset, model, ROWS))
    return pd.concat(parts, ignore_index=True)


@pytest.fixture(scope="module")
def run():
    boards = rankings.boards(run_scores(), ROWS)
    return boards, rankings.resampled(boards, 200, seed=3)


def test_boards_keep_the_pairs_that_all_methods_have():
    values = drawn(0)
    values["b"][4] = values["c"][7] = np.nan
    scores = score_rows(values, "classy").assign(dataset="one", model="x", metric="classy")
    (board,) = rankings.boards(scores, ROWS)
    assert board.left_out == 2 and len(board.images) == 22 and not {"i04", "i07"} & set(board.images)
    kept = [image for image in range(24) if image not in (4, 7)]
    for place, method in enumerate(board.methods):
        expected = np.mean([np.mean([values[method][i] for i in kept if i % 3 == kind]) for kind in range(3)])
        assert board.means()[place] == pytest.approx(expected, abs=1e-12)
    assert board.methods == (*METHODS, "zero") and board.controls.tolist() == [False] * 4 + [True]
    shuffled = scores.sample(frac=1, random_state=1)
    (other,) = rankings.boards(shuffled, ROWS)
    assert np.array_equal(other.values, board.values) and other.images.tolist() == board.images.tolist()
    nothing = scores.assign(value=np.nan)
    assert rankings.boards(nothing, ROWS) == []
    unscored = pd.concat([scores, scores[scores["method"] == "a"].assign(method="d2", value=np.nan)])
    assert "d2" not in rankings.boards(unscored, ROWS)[0].methods, "a method without any value takes no pair away"


def test_a_change_against_a_method_is_no_number_of_its_own():
    change = Column("change", "Change", "", "up", against="a")
    rows = replace(ROWS, metrics={"up": replace(METRICS["up"], columns=(METRICS["up"].columns[0], change))})
    scores = image_scores(score_rows(drawn(0), "up"), "one", "x", rows)
    assert set(scores["metric"]) == {"up", "change"}
    assert [board.column.id for board in rankings.boards(scores, rows)] == ["up"]


def test_lower_is_better_turns_the_order(run):
    boards, _ = run
    board = next(board for board in boards if board.key == ("one", "x", "down"))
    assert rankings.ranks(board.means(), board.controls).tolist() == [1, 2, 3, 4, 5]
    assert board.sign == -1


def test_ranks_are_their_definition():
    generator = np.random.default_rng(1)
    means = generator.integers(0, 5, (50, 7)).astype(float)
    controls = np.array([False, True, False, False, False, True, False])
    found = rankings.ranks(means, controls)
    for row, own in zip(means, found, strict=True):
        assert own[~controls].tolist() == rankdata(-row[~controls]).tolist(), "controls move no method"
        for control in np.flatnonzero(controls):
            better, equal = (row[~controls] > row[control]).sum(), (row[~controls] == row[control]).sum()
            assert own[control] == 1 + better + equal / 2
    assert rankings.ranks(np.array([0.3, 0.1 + 0.2, 0.0]), np.zeros(3, bool)).tolist() == [1.5, 1.5, 3]
    assert np.isnan(rankings.ranks(np.array([1.0, np.nan]), np.zeros(2, bool))[1])
    assert rankings.rivals(controls).tolist() == [4, 5, 4, 4, 4, 5, 4]


def test_kendall_is_scipys():
    generator = np.random.default_rng(2)
    first, second = generator.integers(0, 4, (2, 40, 6)).astype(float)
    expected = [kendalltau(a, b).statistic for a, b in zip(first, second, strict=True)]
    np.testing.assert_allclose(rankings.kendall(first, second), expected, atol=1e-12)
    assert np.isnan(rankings.kendall(np.ones(4), np.arange(4.0)))


def test_resampled_means_are_those_of_drawn_images(run):
    """Against a slow bootstrap with the same draws, of pairs and of classes; one draw for all boards of a data set."""
    boards, samples = run
    ones = [(board, means) for board, means in zip(boards, samples, strict=True) if board.dataset == "one"]
    for (first, a), (second, b) in combinations(ones, 2):
        if first.column is second.column:
            both = [m for m in first.methods if m in second.methods]
            doubled = replace(
                second, values=first.values[:, [first.methods.index(m) for m in both]], methods=tuple(both)
            )
            again = rankings.resampled([first, doubled], 20, seed=3)
            assert np.array_equal(again[0][:, [first.methods.index(m) for m in both]], again[1])
            assert a.shape[0] == b.shape[0] == 200
    scores = score_rows(drawn(5), "classy").assign(dataset="one", model="x", metric="classy")
    (board,) = rankings.boards(scores, ROWS)
    names = np.unique(board.images)
    weights = (
        np.random.default_rng(0).multinomial(len(names), np.full(len(names), 1 / len(names)), size=30).astype(float)
    )
    weights[0] = 0
    weights[1, [i for i, name in enumerate(names) if int(name[1:]) % 3]] = 0  # one class alone
    found = rankings.means_of(rankings.totals(board, names), weights)
    assert np.isnan(found[0]).all()
    for row, own in zip(weights[1:], found[1:], strict=True):
        repeated = np.repeat(np.arange(len(names)), row.astype(int))
        classes = [[i for i in repeated if int(names[i][1:]) % 3 == kind] for kind in range(3)]
        for place in range(len(board.methods)):
            expected = np.mean([board.values[of_class, place].mean() for of_class in classes if of_class])
            assert own[place] == pytest.approx(expected, abs=1e-12)


def test_intervals_are_those_of_the_tables():
    """Given its draws, the bootstrap of a mean is ``bootstrap_mean``'s, and other data sets change no draw."""
    scores = run_scores()
    boards = rankings.boards(scores, ROWS)
    samples = rankings.resampled(boards, 4000, seed=0)
    low, high = rankings.limits(samples[0], 0.95)
    seed = [0, zlib.crc32(boards[0].dataset.encode())]
    expected = bootstrap_mean(boards[0].values[:, 0], resamples=4000, seed=seed, images=boards[0].images)
    assert (low[0], high[0]) == pytest.approx((expected.low, expected.high), rel=1e-13)
    alone = rankings.boards(scores[scores["dataset"] == "two"], ROWS)
    places = [place for place, board in enumerate(boards) if board.dataset == "two"]
    for place, own in zip(places, rankings.resampled(alone, 4000, seed=0), strict=True):
        assert np.array_equal(samples[place], own)
    holed = np.array([[1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    low, high = rankings.limits(holed, 0.5)
    assert (low[0], high[0]) == (1.5, 2.5) and np.isnan([low[1], high[1]]).all()


def test_standings(run):
    boards, samples = run
    table = leaderboard.standings(boards, samples, 0.95)
    assert list(table) == list(leaderboard.STANDINGS)
    own = table[(table["dataset"] == "one") & (table["model"] == "x") & (table["metric"] == "up")].set_index("method")
    assert own["rank"].to_dict() == {"d": 1, "c": 2, "b": 3, "a": 4, "zero": 1}
    assert (own["rank_low"] <= own["rank"]).all() and (own["rank"] <= own["rank_high"]).all()
    assert own["control"].to_dict() == {m: m == "zero" for m in own.index}
    raw = np.mean(drawn(0, levels=6)["c"])
    assert own.at["c", "mean"] == pytest.approx(raw) and (own["n_images"] == 24).all() and (own["n_methods"] == 4).all()
    down = table[(table["metric"] == "down") & (table["model"] == "y")].set_index("method")
    assert down.at["b", "mean"] == pytest.approx(np.mean(drawn(10, ("a", "b", "c", "zero"))["b"]))
    assert set(table.loc[~table["counted"], "metric"]) == {"up_low"}
    assert (table["mean_low"] <= table["mean"]).all() and (table["mean"] <= table["mean_high"]).all()
    assert table["chance"].isna().all(), "nobody knows it"


def test_standings_against_the_best_control(run):
    """Paired on the same images: an interval of differences, and positive where a method is better, whichever way."""
    boards, samples = run
    table = leaderboard.standings(boards, samples, 0.95)
    assert set(table["best_control"]) == {"zero"}
    signs = {board.key: board.sign for board in boards}
    for (*place, number), own in table.groupby(["dataset", "model", "metric"]):
        own = own.set_index("method")
        difference = own["mean"] - own.at["zero", "mean"]
        assert own["above_control"].to_numpy() == pytest.approx((signs[*place, number] * difference).to_numpy())
    assert (table["above_control_low"] <= table["above_control"]).all()
    assert (table["above_control"] <= table["above_control_high"]).all()
    assert (table.loc[table["method"] == "zero", ["above_control_low", "above_control_high"]] == 0).all(axis=None)
    known = replace(boards[0], column=replace(boards[0].column, chance=0.25), controls=np.zeros(5, dtype=bool))
    bare = leaderboard.standings([known], samples[:1], 0.95)
    assert (bare["chance"] == 0.25).all() and (bare["best_control"] == "").all() and bare["above_control"].isna().all()


def test_mean_ranks(run):
    boards, samples = run
    table = leaderboard.mean_ranks(boards, samples, 0.95)
    assert list(table) == list(leaderboard.RANKS) and list(dict.fromkeys(table["scope"])) == ["all", "down", "up"]
    own = table[table["scope"] == "all"].set_index("method")
    assert own["settings"].to_dict() == {"a": 6, "b": 6, "c": 6, "d": 4, "zero": 6}
    standing = leaderboard.standings(boards, samples, 0.95)
    counted = standing[standing["counted"]]
    for method, of_method in counted.groupby("method"):
        others = of_method["n_methods"] - (method != "zero")
        assert own.at[method, "rank"] == pytest.approx(of_method["rank"].mean())
        assert own.at[method, "place"] == pytest.approx(((of_method["rank"] - 1) / others).mean())
        assert own.at[method, "place_low"] <= own.at[method, "place"] <= own.at[method, "place_high"]
    # 3 methods x 6 settings beat 4 x 4; a control takes no part.
    assert set(own.index[own["block_rank"].notna()]) == {"a", "b", "c"} and own.at["a", "block_settings"] == 6
    assert own.loc[["a", "b", "c"], "block_rank"].tolist() == [2, 2, 2], "up and down are opposite here"
    up = table[(table["scope"] == "up") & table["block_rank"].notna()].set_index("method")
    assert up["block_rank"].to_dict() == {"c": 1, "b": 2, "a": 3} and up.at["a", "block_settings"] == 3
    # Friedman by hand: N = k = 3, mean ranks 1, 2, 3: 12 * 3 / 12 * 2 = 6, and p = exp(-3) with 2 degrees of freedom.
    assert up.at["a", "friedman"] == pytest.approx(6) and up.at["a", "friedman_p"] == pytest.approx(np.exp(-3))


def test_critical_difference_is_demsars():
    """Quantiles as in Demsar 2006, Table 5a, and his example: 4 classifiers on 14 data sets at .05, CD = 1.25."""
    table = {2: 1.960, 3: 2.343, 4: 2.569, 5: 2.728, 10: 3.164}
    for methods, quantile in table.items():
        found = leaderboard.critical_difference(methods, 1) / np.sqrt(methods * (methods + 1) / 6)
        assert found == pytest.approx(quantile, abs=1e-3)  # the table is cut off, not rounded
    assert leaderboard.critical_difference(4, 14) == pytest.approx(2.569 * np.sqrt(20 / 84), abs=5e-4)
    assert leaderboard.critical_difference(4, 14, 0.1) == pytest.approx(2.291 * np.sqrt(20 / 84), abs=5e-4)


def test_largest_block_is_the_best_of_all():
    generator = np.random.default_rng(4)
    for _ in range(20):
        sets = [frozenset(np.array(list("abcdef"))[generator.random(6) < 0.7].tolist()) for _ in range(5)]
        cells = 0
        for size in range(3, 7):
            for methods in combinations("abcdef", size):
                settings = sum(set(methods) <= own for own in sets)
                cells = max(cells, size * settings if settings > 1 else 0)
        methods, places = leaderboard.largest_block(sets)
        assert len(methods) * len(places) == cells
        assert all(set(methods) <= sets[place] for place in places)
    assert leaderboard.largest_block([frozenset("ab"), frozenset("ab")]) == ([], [])


def test_agreement(run):
    boards, samples = run
    table = leaderboard.agreement(boards, samples, 0.95)
    own = table[(table["dataset"] == "one") & (table["model"] == "x")].set_index(["first", "second"])
    by_key = {board.key: board for board in boards}
    for (first, second), row in own.iterrows():
        a, b = (by_key["one", "x", name].means()[:4] for name in (first, second))
        assert row["tau"] == pytest.approx(kendalltau(a, b).statistic) and row["methods"] == 4
        assert row["tau_low"] <= row["tau"] <= row["tau_high"]
    assert own.at[("down", "up"), "tau"] == -1, "up rewards d, down rewards a"
    means = table[table["dataset"] == "all"].set_index(["first", "second"])
    assert means.at[("down", "up"), "settings"] == 3 and means.at[("down", "up"), "methods"] == 3
    single = table[table["dataset"] != "all"].groupby(["first", "second"])["tau"].mean()
    for pair, row in means.iterrows():
        assert row["tau"] == pytest.approx(single[pair])


def test_trust(run):
    boards, samples = run
    rows = score_rows(drawn(0, levels=6), "up", range(1, 7))
    levels = trust.level_dependence(rows, "one", "x", ROWS)
    table = trust.metric_trust(boards, samples, 0.95, ROWS, levels, seed=1)
    own = table.set_index(["dataset", "model", "metric"]).loc[("one", "x", "up")]
    means = {m: np.mean(values) for m, values in drawn(0, levels=6).items()}
    assert own["best_method"] == "d" and own["best"] == pytest.approx(means["d"])
    assert own["median"] == pytest.approx((means["b"] + means["c"]) / 2) and own["zero"] == pytest.approx(means["zero"])
    assert own["beaten_by_controls"] == 1 and own["levels"] == 6 and own["drawn"] == ""
    down = table.set_index(["dataset", "model", "metric"]).loc[("one", "x", "down")]
    assert down["best_method"] == "a" and down["beaten_by_controls"] == 0 and down["drawn"] == "noise"
    board, sampled = next((b, s) for b, s in zip(boards, samples, strict=True) if b.key == ("one", "x", "up"))
    widths = []
    for i, j in combinations(range(4), 2):
        low, high = np.quantile(sampled[:, i] - sampled[:, j], [0.025, 0.975])
        widths.append((high - low) / 2)
    assert own["resolution"] == pytest.approx(np.median(widths))
    assert [own[f"images_{part}"] for part in trust.PARTS] == [3, 6, 12]
    assert own["tau_half"] == trust.split_tau(board, 12, trust.SPLITS, 1) == pytest.approx(1)
    assert own["images_for_stable_order"] == 3


def test_disjoint_sets_are_disjoint_and_of_one_size():
    ((first, second),) = trust._disjoint(11, 4, 25, seed=0)
    assert (first.sum(1) == 4).all() and (second.sum(1) == 4).all() and not (first * second).any()
    assert len(np.unique(first, axis=0)) > 20


def test_a_number_of_noise_has_no_stable_order():
    taus = []
    for seed in range(60):
        scores = score_rows(drawn(seed, spread=0.0), "down").assign(dataset="one", model="x", metric="down")
        (board,) = rankings.boards(scores, ROWS)
        taus.append([trust.split_tau(board, size, 60, 0) for size in (3, 12)])
    # What one run's images say by chance is in both sets; over runs it is nothing.
    assert np.abs(np.mean(taus, axis=0)).max() < 0.1
    assert np.isnan(trust.split_tau(board, 0, 10, 0))
    two = replace(board, methods=board.methods[:2], values=board.values[:, :2], controls=board.controls[:2])
    assert np.isnan(trust.split_tau(two, 4, 10, 0)) and np.isnan(trust.resolution(np.ones((5, 1)), 0.9))


def test_level_dependence_is_the_order_by_some_levels():
    values = drawn(8, levels=7, spread=0.05)
    rows = score_rows(values, "up", range(1, 8)).sample(frac=1, random_state=0)
    found = trust.level_dependence(rows, "one", "x", ROWS)
    assert found.keys() == {("one", "x", "up"), ("one", "x", "up_low")}
    own = found["one", "x", "up"]
    whole = [values[m].mean() for m in METHODS]
    for name, places in (("second", [0, 2, 4, 6]), ("third", [0, 3, 6])):
        some = [values[m][:, places].mean() for m in METHODS]
        assert own[f"tau_{name}_level"] == pytest.approx(kendalltau(whole, some).statistic)
    low = found["one", "x", "up_low"]
    assert low["levels"] == 3 and np.isnan(low["tau_third_level"])
    some = [[values[m][:, places].mean() for m in METHODS] for places in ([0, 1, 2], [0, 2])]
    assert low["tau_second_level"] == pytest.approx(kendalltau(*some).statistic)
    assert trust.level_dependence(score_rows(drawn(0), "down"), "one", "x", ROWS) == {}


def test_an_area_is_thinned_as_an_area():
    """By its levels, which are not even here: what is left out of a curve is drawn straight."""
    column = Column("curve", "Curve", "", "curve", over="area")
    rows = Rows(methods=ROWS.methods, metrics={"curve": Metric("curve", "Curve", "x:y", (column,))})
    levels, values = np.array([0, 0.1, 0.2, 0.7, 1.0]), drawn(3, levels=5, spread=0.05)
    own = trust.level_dependence(score_rows(values, "curve", levels).sample(frac=1, random_state=0), "one", "x", rows)
    whole = [area_under(values[m], levels).mean() for m in METHODS]
    for name, places in (("second", [0, 2, 4]), ("third", [1, 4])):
        some = [area_under(values[m][:, places], levels[places]).mean() for m in METHODS]
        assert own["one", "x", "curve"][f"tau_{name}_level"] == pytest.approx(kendalltau(whole, some).statistic)
    plain = [values[m].mean() for m in METHODS]
    assert not np.allclose(plain, whole), "a mean would be another number"


def test_nothing_scored_gives_empty_tables(tmp_path):
    assert list(leaderboard.standings([], [], 0.9)) == list(leaderboard.STANDINGS)
    assert list(leaderboard.mean_ranks([], [], 0.9)) == list(leaderboard.RANKS)
    assert list(leaderboard.agreement([], [], 0.9)) == list(leaderboard.AGREEMENT)
    assert trust.metric_trust([], [], 0.9, ROWS, {}).empty
    assert not [axes for axes in agreement_figure(leaderboard.agreement([], [], 0.9), []).axes if axes.texts]
    with pytest.raises(InputError, match="leaderboard"):
        read_table(tmp_path, "leaderboard")


@pytest.fixture(scope="module")
def results(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("leaderboard")
    boards, samples = run
    (folder / "tables").mkdir()
    ranks = leaderboard.mean_ranks(boards, samples, 0.95)
    ranks.insert(2, "label", ranks["method"].map(ROWS.label))
    tables = {
        "leaderboard": leaderboard.standings(boards, samples, 0.95),
        "leaderboard_ranks": ranks,
        "leaderboard_agreement": leaderboard.agreement(boards, samples, 0.95),
        "metric_trust": trust.metric_trust(boards, samples, 0.95, ROWS, {}),
    }
    for name, table in tables.items():
        write_frame(table, folder / "tables" / f"{name}.csv", name)
    return folder


def test_figures_show_the_tables(results):
    ranks = read_table(results, "leaderboard_ranks")
    left, right = mean_ranks_figure(ranks).axes
    own = ranks[ranks["scope"] == "all"].sort_values("place", kind="stable")
    names = [f"{row.label} ({row.settings})" for row in own.itertuples()]
    assert [label.get_text() for label in left.get_yticklabels()] == names
    dots = [line.get_xdata()[0] for line in left.lines if line.get_marker() == "o"]
    assert dots == pytest.approx(own["place"].tolist())
    bars = [line.get_xdata() for line in right.lines if line.get_marker() != "o"]
    difference = own["critical_difference"].dropna().iloc[0]
    assert [bar[1] - bar[0] for bar in bars] == pytest.approx([difference] * 3)
    table = read_table(results, "leaderboard_agreement")
    axes = agreement_figure(table, ["down", "up", "classy"]).axes[0]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["down", "up"], (
        "one that shares nothing is left out"
    )
    assert "\N{MINUS SIGN}1.00" in [text.get_text() for text in axes.texts]
    (picture,) = axes.images
    assert np.array_equal(picture.get_array().filled(np.nan), [[np.nan, -1], [-1, np.nan]], equal_nan=True)


def test_notebook_draws_both(results, monkeypatch):
    monkeypatch.setattr("relmap.figures.style.PNG_DPI", 60)
    space: dict = {}
    for cell in nbformat.read(NOTEBOOK, as_version=4).cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, "leaderboard", "exec"), space)
            if "parameters" in cell.metadata.get("tags", []):
                space["results"] = str(results)
    assert {path.stem for path in (results / "figures").glob("*.png")} == {"leaderboard_ranks", "leaderboard_agreement"}


def test_report_shows_what_counts(results):
    found = gather(results, ROWS)
    heads, lines = found["standings"]
    assert "counted" not in heads and {line[2].text for line in lines} == {"Up", "Down"}
    heads, lines = found["ranks"]
    assert heads[0] == "method" and len(lines) == 5
    assert gather(results / "nowhere", ROWS)["trust"] is None
