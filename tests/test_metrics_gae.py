"""Global Attribution Evaluation: the authors' numbers, the equations one by one, and laws.

Vectors (``reference/abslrp/gae_vgg16s_*``): the authors' code of the paper's time on two mosaics, with the draw of the
positive image fixed; ``*_masked_at`` is the step that masks an element, 11 for none.
"""

from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
import torch
from metric_cases import case_of
from oracles.gae import global_attribution_evaluation, mosaic_of
from PIL import Image
from reference_nets import inputs, network, vectors
from relmap.catalogue.methods import Method, find
from relmap.data.images import Preprocessing
from relmap.errors import InputError
from relmap.evidence.values import image_scores
from relmap.explainers.base import Explainer
from relmap.explanation import explain
from relmap.metrics.gae import attribution, evaluate, output_changes, prepare, robustness, similarity, weighted_share
from relmap.metrics.gae_rows import PARTS, score
from relmap.metrics.gae_states import LERF, MORF, combined, shares, states
from relmap.metrics.mosaics import assembled, deal, draw_positives, score_maps
from torch import nn

F64, F32 = torch.float64, torch.float32
METHODS = [
    ("constant", {}),
    ("input_x_gradient", {}),
    ("grad_cam", {}),
    ("abslrp_difference", {}),
    ("abslrp", {"classes": 1000}),
]


@cache
def authors(number, dtype):
    stored = vectors(f"abslrp/gae_vgg16s_{number}.npz")
    model = network("vgg16", dtype)
    last = [module for module in model.modules() if isinstance(module, nn.Linear)][-1]
    last.weight *= float(stored["head_scale"])
    last.bias *= float(stored["head_scale"])
    images = inputs(dtype)[0][torch.from_numpy(stored["image_index"])][None]
    return stored, model, images, prepare(model, images, torch.from_numpy(stored["positive_index"])[None])


@pytest.mark.parametrize("dtype", [F64, F32])
@pytest.mark.parametrize("number", [0, 1])
def test_authors_states_and_mosaics(number, dtype):
    stored, _, images, trials = authors(number, dtype)
    for order, name in ((MORF, "morf"), (LERF, "lerf")):
        np.testing.assert_array_equal(trials.states.masked_at[order, 0], stored[f"{name}_masked_at"])
        np.testing.assert_allclose(trials.states.outputs[order, 0], stored[f"{name}_output"], atol=1e-5)
        impacts = trials.states.impacts[order, 0]
        np.testing.assert_allclose(impacts / impacts.sum(), stored[f"{name}_impact"], atol=1e-9)
        fraction = (trials.states.masked_at[order, 0] <= 10).double().mean()
        assert fraction == stored[f"{name}_fraction"][10]
    np.testing.assert_array_equal(trials.states.signs[0], stored["impact_sign"])
    np.testing.assert_array_equal(combined(trials.states.impacts)[0] >= 0, stored["impact_sign"] == 1)
    np.testing.assert_allclose(trials.score_maps[0], stored["score_map"], atol=1e-6)
    assert trials.targets.tolist() == [stored["target"]] and trials.classes[0].tolist() == stored["predicted"].tolist()
    assert torch.equal(trials.mosaics[0, :, :32, 32:], images[0, 1, :, ::2, ::2])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("dtype", [F64, F32])
@pytest.mark.parametrize(("place", "method", "parameters"), [(i, *given) for i, given in enumerate(METHODS)])
@pytest.mark.parametrize("number", [0, 1])
def test_authors_scores(number, place, method, parameters, dtype):
    stored, model, _, trials = authors(number, dtype)
    found = evaluate(model, trials, method, **parameters)
    code = evaluate(model, trials, method, "code", **parameters)
    for ours, theirs in (
        (found.similarities[MORF], "sim_morf"),
        (found.similarities[LERF], "sim_lerf"),
        (found.robustness, "LC_R_paper"),
        (code.robustness, "LC_R_code"),
        (found.faithfulness, "LC_F"),
        (found.contrastiveness_signed, "C_signed"),
        (found.c, "C"),
        (found.lc, "LC_paper"),
        (code.lc, "LC_code"),
        (found.total, "GAE_paper"),
        (code.total, "GAE_code"),
    ):
        np.testing.assert_allclose(ours[0], stored[theirs][place], atol=2e-6, err_msg=theirs)


@pytest.mark.parametrize("number", [0, 1])
def test_authors_draw_by_softmax(number):
    stored, model, images, _ = authors(number, F64)
    cuts = np.cumsum(stored["sampling_probabilities"] / stored["sampling_probabilities"].sum())
    for quadrant, upper in enumerate(cuts):
        lower = cuts[quadrant - 1] if quadrant else 0.0
        if upper - lower > 1e-4:
            lot = np.array([(lower + upper) / 2])
            assert prepare(model, images, lot, steps=1).positive.tolist() == [quadrant]


def small_network():
    torch.manual_seed(3)
    layers = [nn.Conv2d(3, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 6, 3, stride=2), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(6 * 4 * 3, 5)).double().eval().requires_grad_(False)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["input_x_gradient", "lrp_alpha1_beta0", "saliency", "centre_gaussian", "random"])
@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"masking": "cumulative"},
        {"relative": "code", "steps": 4},
        {"relative": "magnitude"},
        {"steps": 1},
        {"labels": True},
    ],
    ids=str,
)
def test_restated_one_element_at_a_time(method, settings):
    model, generator = small_network(), torch.Generator().manual_seed(1)
    images = torch.randn(3, 4, 3, 9, 8, generator=generator, dtype=F64)
    positive = torch.tensor([2, 0, 3])
    labels = torch.tensor([[0, 1, 2, 3], [4, 4, 1, 0], [2, 2, 0, 1]]) if settings.get("labels") else None
    given = {key: value for key, value in settings.items() if key in ("masking", "steps")}
    relative = settings.get("relative", "paper")
    by_labels = {} if labels is None else {"labels": labels, "score_classes": "labels"}
    found = evaluate(model, prepare(model, images, positive, **given, **by_labels), method, relative)

    def one_map(image, target):
        return explain(model, image[None], target, method, by_channel=True)[0]

    for place in range(3):
        classes = None if labels is None else labels[place].tolist()
        expected = global_attribution_evaluation(
            model, one_map, images[place], int(positive[place]), classes=classes, relative=relative, **given
        )
        for part in PARTS:
            assert getattr(found, part)[place] == pytest.approx(expected[part], abs=1e-10), part


def test_a_negative_logit_turns_the_printed_change_round_and_no_other():
    """The same fall of the logit, from 2 to 1 and from -2 to -3, when the most relevant elements go."""
    positive, negative = (torch.tensor([[[start, start - 1.0]], [[start, start]]], dtype=F64) for start in (2.0, -2.0))
    assert output_changes(positive, "paper").tolist() == output_changes(positive, "magnitude").tolist() == [[0.5]]
    assert output_changes(negative, "paper").tolist() == [[-0.5]]
    assert output_changes(negative, "magnitude").tolist() == [[0.5]]


def test_a_common_shift_of_the_logits_keeps_the_sign_of_the_change():
    model = small_network()
    images, positive = torch.randn(2, 4, 3, 9, 8, generator=torch.Generator().manual_seed(1), dtype=F64), [2, 0]
    plain = prepare(model, images, torch.tensor(positive))
    with torch.no_grad():
        model[-1].bias -= 50
    shifted = prepare(model, images, torch.tensor(positive))
    assert (shifted.states.outputs < 0).all() and torch.equal(plain.targets, shifted.targets)
    changes = [output_changes(trials.states.outputs, "magnitude").sign() for trials in (plain, shifted)]
    # Which elements are masked follows from gradients times inputs: the bias has no part in it.
    assert torch.equal(*changes) and bool(changes[0].any())


def test_cumulative_masks_exactly_the_shares():
    model, images = small_network(), torch.randn(2, 3, 9, 8, dtype=F64, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([0, 3])
    found = states(model, images, targets, masking="cumulative").masked_at
    for step, share in enumerate(shares(10), start=1):
        assert (found <= step).sum((2, 3, 4)).unique().tolist() == [int(share * 216 + 1e-9)]
    reselected = states(model, images, targets)
    assert (reselected.masked_at[MORF] <= 10).all(), "black"
    assert not reselected.fresh[MORF, :, 6:].any() and reselected.fresh[LERF].all()
    at_black = model(torch.zeros_like(images)).gather(1, targets[:, None])[:, 0]
    torch.testing.assert_close(reselected.outputs[MORF, :, 10], at_black)


class Given(Explainer):
    """A function of images as a method."""

    def __init__(self, model, *, of):
        self.of = of

    def __call__(self, pictures, targets):
        return self.of(pictures)[:, None].expand(*targets.shape, *pictures.shape[2:])


def given(of):
    return Method("given", "Given", "made up", Given, {"of": of})


@pytest.fixture(scope="module")
def eight():
    """Two mosaics of the reference network's images."""
    model, (images, _) = network("vgg16", F32), inputs(F32)
    images = images.view(2, 4, *images.shape[1:])
    return model, images, prepare(model, images, torch.tensor([1, 2]))


def test_constant_maps_score_nothing(eight):
    model, _, trials = eight
    for value in (1.0, 1e-20, 1e20):
        found = evaluate(model, trials, given(lambda x, value=value: torch.full_like(x[:, 0], value)))
        assert torch.equal(found.robustness, torch.full((2,), -1.0, dtype=F64))
        assert torch.equal(found.similarities, torch.ones(2, 2, 10, dtype=F64))
        assert torch.equal(found.total, torch.zeros(2, dtype=F64))
        shares_of_sign = trials.states.signs.double().mean((1, 2, 3))
        torch.testing.assert_close(found.faithfulness, shares_of_sign)
        torch.testing.assert_close(found.contrastiveness_signed, trials.score_maps.mean((1, 2)))


@pytest.mark.parametrize("value", [0.0, -1.0])
@pytest.mark.filterwarnings("ignore")
def test_maps_without_positive_part_score_nothing(eight, value):
    model, _, trials = eight
    found = evaluate(model, trials, given(lambda x: torch.full_like(x[:, 0], value)))
    for part in ("total", "c", "lc", "faithfulness", "contrastiveness_signed"):
        assert torch.equal(getattr(found, part), torch.zeros(2, dtype=F64)), part


@pytest.mark.filterwarnings("ignore")
def test_black_inputs_are_like_nothing(eight):
    """Where MoRF has masked everything, a map that is 0 there has similarity 0, no NaN."""
    model, _, trials = eight
    found = evaluate(model, trials, "input_x_gradient")
    black = (trials.states.masked_at[MORF].flatten(1)[:, :, None] <= torch.arange(1, 11)).all(1)
    assert black[:, -1].all() and torch.equal(found.similarities[MORF][black], torch.zeros(int(black.sum()), dtype=F64))
    assert all(bool(getattr(found, part).isfinite().all()) for part in PARTS)


def test_relevance_where_the_score_map_is_one_is_contrastive(eight):
    model, _, trials = eight
    inside = torch.zeros(64, 64)
    inside[:32, 32:] = 1  # the first mosaic's positive quadrant
    found = evaluate(model, trials, given(lambda x: inside.expand(len(x), 64, 64)))
    assert found.c[0] == pytest.approx(1)
    assert found.contrastiveness_signed[1] == pytest.approx(float(trials.score_maps[1, :32, 32:].mean()))


def test_equal_classes_count_as_the_positive():
    logits = torch.tensor([[2.0, 1.0, -3.0]], dtype=F64)
    found = score_maps(logits, torch.tensor([[0, 1, 0, 2]]), torch.tensor([0]), (8, 8))[0]
    corners = [found[0, 0], found[0, 7], found[7, 0], found[7, 7]]
    np.testing.assert_allclose(corners, [1, 2 * np.exp(-1) - 1, 1, 2 * np.exp(-5) - 1])
    assert (found[3:5] == 1).all() and (found[:, 3:5] == 1).all()
    by_labels = score_maps(logits, torch.tensor([[1, 0, 1, 1]]), torch.tensor([0]), (8, 8))[0]
    assert by_labels[0, 7] == pytest.approx(2 * np.e - 1), "more than 1: a class that the network holds likelier"


@pytest.mark.parametrize("size", [(8, 6), (9, 7), (2, 3)])
def test_mosaics_of_any_size(size):
    images = torch.randn(2, 4, 3, *size)
    found = assembled(images)
    for ours, four in zip(found, images, strict=True):
        assert torch.equal(ours, mosaic_of(four))


def test_deal_is_of_ids_and_seed_alone():
    ids = [f"image {number}" for number in range(23)]
    dealt, lots = deal(ids, 0)
    assert dealt.shape == (5, 4) and len(set(dealt.ravel())) == 20 and ((lots >= 0) & (lots < 1)).all()
    turned = np.random.default_rng(0).permutation(23)
    again, same = deal([ids[place] for place in turned], 0)
    np.testing.assert_array_equal(turned[again], dealt)
    np.testing.assert_array_equal(same, lots)
    assert (deal(ids, 1)[0] != dealt).any()
    few, fewer = deal(ids, 0, 2)
    np.testing.assert_array_equal(few, dealt[:2])
    np.testing.assert_array_equal(fewer, lots[:2])


def test_draws_are_uniform_or_by_probability():
    lots = np.linspace(0, 1, 4000, endpoint=False)
    assert np.bincount(draw_positives(lots)).tolist() == [1000] * 4
    weights = torch.tensor([0.1, 0.0, 0.3, 0.1]).expand(4000, 4)
    np.testing.assert_allclose(np.bincount(draw_positives(lots, weights)) / 4000, [0.2, 0, 0.6, 0.2], atol=1e-3)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("method", ["input_x_gradient", "abslrp", "random"])
def test_batches_change_nothing(eight, method):
    model, images, trials = eight
    expected = evaluate(model, trials, method, batch_size=64)
    for batch_size in (1, 3, 16):
        again = prepare(model, images, torch.tensor([1, 2]), batch_size=batch_size)
        assert torch.equal(again.states.masked_at, trials.states.masked_at)
        assert torch.equal(again.states.signs, trials.states.signs)
        found = evaluate(model, again, method, batch_size=batch_size)
        for part in PARTS:
            torch.testing.assert_close(getattr(found, part), getattr(expected, part), atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore")
def test_a_mosaic_alone_is_the_same(eight):
    model, images, trials = eight
    expected = evaluate(model, trials, "abslrp").total
    alone = [evaluate(model, prepare(model, images[i : i + 1], [q]), "abslrp").total for i, q in ((0, 1), (1, 2))]
    torch.testing.assert_close(torch.cat(alone), expected, atol=1e-5, rtol=0)


def test_maps_that_are_no_numbers_are_refused(eight):
    model, _, trials = eight
    with pytest.raises(InputError, match="NaN"):
        evaluate(model, trials, given(lambda x: torch.where(x[:, 0] == 0, torch.nan, 1.0)))


def test_parts_restated():
    maps = torch.tensor([[[[3.0, -1.0], [1.5, 0.0]]]])
    np.testing.assert_allclose(attribution(maps)[0, 0], [[1, 0], [0.5, 0]])
    other = torch.tensor([[[[1.0, 1.0], [0.0, 0.0]]]])
    assert similarity(attribution(maps), other).tolist() == [1 - 1.5 / 3.5]
    outputs = torch.tensor([[[-2.0, -1.0, 0.0]], [[-2.0, -2.0, -1.0]]], dtype=F64)
    np.testing.assert_allclose(output_changes(outputs), [[0.5, 0.5]])
    np.testing.assert_allclose(output_changes(outputs, "code"), [[1 / 3, 1 - 1 / 3]])
    similarities = torch.tensor([[[0.5, 0.0]], [[0.75, 0.5]]], dtype=F64)
    np.testing.assert_allclose(robustness(output_changes(outputs), similarities), [1 - 2 * 0.25 / 1.75])
    weights = torch.tensor([[[[1, -1], [-1, 1]]]]).expand(1, 3, 2, 2)
    assert weighted_share(attribution(maps), weights).tolist() == [(1 - 0.5) / 1.5]


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"masking": "twice"}, "masking"),
        ({"steps": 0}, "steps"),
        ({"score_classes": "all"}, "score_classes"),
        ({"score_classes": "labels"}, "none are given"),
    ],
)
def test_settings_that_are_none(settings, match):
    with pytest.raises(InputError, match=match):
        prepare(small_network(), torch.zeros(1, 4, 3, 9, 8), [0], **settings)


def test_another_change_than_the_two_is_refused():
    with pytest.raises(InputError, match="relative"):
        output_changes(torch.ones(2, 1, 3), "half")


SETTINGS = {
    "mosaics": None,
    "steps": 3,
    "masking": "reselect",
    "positive": "uniform",
    "score_classes": "predicted",
    "relative": "paper",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Ten pictures on disk, two pairs of the third, and a network."""
    root = tmp_path_factory.mktemp("pictures")
    generator = np.random.default_rng(0)
    for number in range(10):
        Image.fromarray(generator.integers(0, 256, (9, 8, 3), dtype=np.uint8)).save(root / f"p{number}.png")
    pictures = [
        {"width": 8, "height": 9, "labels": [number % 5], "path": str(root / f"p{number}.png")} for number in range(10)
    ]
    pairs = [(number, number % 5, {}) for number in range(10)]
    pairs.insert(3, (2, 4, {}))

    def case(settings=SETTINGS, order=None, **given):
        chosen = pairs if order is None else [pairs[place] for place in order]
        seen = Preprocessing(9, 9, fit="squash")
        return case_of(
            pictures,
            chosen,
            np.zeros((len(chosen), 9, 9), np.float32),
            {"gae": settings},
            seen,
            model=network_of_squares(),
            methods={name: find(name) for name in ("input_x_gradient", "constant")},
            **given,
        )

    return case


def network_of_squares():
    torch.manual_seed(5)
    layers = [nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Flatten(), nn.Linear(6 * 49, 5)]
    return nn.Sequential(*layers).eval().requires_grad_(False)


@pytest.mark.filterwarnings("ignore")
def test_rows_of_a_run(run):
    case, maps = run()
    rows = pd.concat([score(case, method, maps) for method in ("input_x_gradient", "constant")], ignore_index=True)
    assert rows["metric"].unique().tolist() == [f"gae_{part}" for part in PARTS]
    known = rows[rows["value"].notna()]
    assert len(known) == 2 * 6 * 2, "two mosaics of ten images, two methods"
    one = known[known["metric"] == "gae_total"]
    for _, row in one.iterrows():
        drawn = [row[f"mosaic_{place}"] for place in range(4)]
        assert drawn[row["quadrant"]] == row["image_id"]
        images = torch.stack([case.images[case.pairs["image_id"].tolist().index(name)] for name in drawn])
        trials = prepare(case.model, images[None], [row["quadrant"]], steps=3)
        assert trials.targets.tolist() == [row["explained"]]
        found = evaluate(case.model, trials, row["method"])
        assert row["value"] == pytest.approx(float(found.total[0]), abs=1e-6)
    assert known.groupby("method")["mosaic_0"].nunique().tolist() == [2, 2]
    scores = image_scores(rows, "made", "net")
    assert scores.groupby("metric").size().to_dict() == dict.fromkeys(
        [f"gae_{part}" for part in (*PARTS, "total_change")], 22
    )


@pytest.mark.filterwarnings("ignore")
def test_rows_do_not_depend_on_the_order_of_pairs(run):
    key = ["metric", "image_id", "target"]
    case, maps = run()
    first = score(case, "input_x_gradient", maps).sort_values(key, ignore_index=True)
    case, maps = run(order=np.random.default_rng(1).permutation(11).tolist(), batch_size=3)
    again = score(case, "input_x_gradient", maps).sort_values(key, ignore_index=True)
    pd.testing.assert_frame_equal(again, first, atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore")
def test_methods_share_what_does_not_depend_on_them(run, monkeypatch):
    case, maps = run()
    prepared = []
    monkeypatch.setattr(
        "relmap.metrics.gae_rows.prepare", lambda *args, **kw: prepared.append(prepare(*args, **kw)) or prepared[-1]
    )
    first, second = (score(case, method, maps) for method in ("constant", "input_x_gradient"))
    assert len(prepared) == 1
    pd.testing.assert_frame_equal(
        first.filter(regex="mosaic|quadrant|explained"), second.filter(regex="mosaic|quadrant|explained")
    )


@pytest.mark.filterwarnings("ignore")
def test_the_value_stands_at_the_pair_that_is_explained(run):
    """Where the predicted class is a pair of the image, there; else at the image's first."""
    case, maps = run()
    rows = score(case, "constant", maps)
    known = rows[rows["value"].notna() & (rows["metric"] == "gae_c")]
    targets = case.pairs.groupby("image_id")["target"].apply(list)
    for _, row in known.iterrows():
        own = targets[row["image_id"]]
        assert row["target"] == (row["explained"] if row["explained"] in own else min(own))


def test_fewer_than_four_images_have_no_answer(run):
    case, maps = run(order=[0, 1, 2, 3])
    rows = score(case, "constant", maps)
    assert len(rows) == 24 and rows["value"].isna().all() and rows["explained"].isna().all()


@pytest.mark.filterwarnings("ignore")
def test_settings_reach_the_metric(run):
    def total(**changed):
        case, maps = run({**SETTINGS, **changed})
        rows = score(case, "input_x_gradient", maps)
        return rows.loc[rows["value"].notna(), ["metric", "value"]]

    assert len(total(mosaics=1)) == 6
    for changed in ({"masking": "cumulative"}, {"steps": 5}, {"score_classes": "labels"}, {"relative": "code"}):
        assert not np.allclose(total(**changed)["value"], total()["value"]), changed
    assert len(total(positive="softmax")) == 12


def test_a_method_without_a_row_is_refused(run):
    case, maps = run()
    with pytest.raises(InputError, match="no row of method abslrp"):
        score(replace(case, methods={}), "abslrp", maps)
