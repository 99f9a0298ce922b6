"""Focus: the authors' numbers, the definition slowly, and how mosaics are drawn and put together."""

from pathlib import Path

import numpy as np
import pytest
import torch
from metric_cases import case_of, values_of
from relmap.catalogue.methods import Method
from relmap.errors import InputError
from relmap.evidence.values import image_scores
from relmap.explainers.base import Explainer
from relmap.metrics.focus import draw, focus, mosaics, score, tiles_of
from torch import nn

REFERENCE = Path(__file__).parent / "reference" / "metrics"


def test_their_scores():
    """Ten signed maps; the last-but-one rule differs: a map without a positive pixel has 0, as in Quantus, not NaN."""
    with np.load(REFERENCE / "focus.npz") as stored:
        inside = torch.from_numpy(stored["quadrant_labels"] == stored["target"][:, None])
        got = focus(torch.from_numpy(stored["heatmaps"]), inside).numpy()
        theirs, quantus = stored["focus"], stored["quantus_focus"]
        median, variance = stored["median"], stored["variance_ddof1"]
    known = np.isfinite(theirs)
    np.testing.assert_allclose(got[known], theirs[known], atol=1e-5)
    np.testing.assert_allclose(got, quantus, atol=1e-5)
    np.testing.assert_allclose([np.median(got[known]), got[known].var(ddof=1)], [median, variance], atol=1e-5)


def test_the_definition_slowly_and_controls():
    maps = torch.randn(6, 8, 12, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    inside = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [1, 0, 0, 1], [0, 1, 1, 0], [0, 1, 0, 1], [0, 0, 1, 1]]).bool()
    expected = []
    for own, tiles in zip(maps.numpy(), inside.numpy(), strict=True):
        total = within = 0.0
        for y in range(8):
            for x in range(12):
                total += max(own[y, x], 0)
                within += max(own[y, x], 0) * tiles[2 * (y >= 4) + (x >= 6)]
        expected.append(within / total)
    np.testing.assert_allclose(focus(maps, inside), expected, atol=1e-12)
    assert (focus(torch.full((6, 8, 12), 0.2), inside) == 0.5).all()
    assert (focus(-maps.abs(), inside) == 0).all()
    torch.testing.assert_close(focus(maps, inside) + focus(maps, ~inside), torch.ones(6, dtype=torch.float64))
    torch.testing.assert_close(focus(3 * maps, inside), focus(maps, inside))
    with pytest.raises(InputError, match="map 0 contains NaN"):
        focus(maps / 0 * 0, inside)
    with pytest.raises(ValueError, match="must be mosaics"):
        focus(maps[:, 1:], inside)


def test_mosaics():
    pictures = torch.arange(4.0).view(1, 4, 1, 1, 1) * torch.ones(1, 4, 2, 2, 4)
    whole = mosaics(pictures)
    assert whole.shape == (1, 2, 4, 8)
    assert whole[0, 0].tolist() == [[0] * 4 + [1] * 4] * 2 + [[2] * 4 + [3] * 4] * 2
    varied = torch.rand(2, 4, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    half = mosaics(varied, "half")
    assert half.shape == (2, 3, 4, 6)
    torch.testing.assert_close(half[1, 2, 3, 1], varied[1, 2, 2, 2:4, 2:4].mean())
    with pytest.raises(InputError, match="have no half"):
        mosaics(varied[..., 1:], "half")


def labelled():
    """Ids, labels and targets: five classes of three, a class of one, and pictures of two classes."""
    ids = [f"q{k:02}" for k in range(16)] + ["r0", "r0", "r1"]
    labels = [(k % 5,) for k in range(15)] + [(7,)] + [(0, 8), (0, 8), (8, 1)]
    return ids, labels, [own[0] for own in labels[:16]] + [0, 8, 1]


def test_draws():
    ids, labels, targets = labelled()
    chosen, of_target = draw(ids, labels, targets, 3, seed=0)
    for pair, (image, target) in enumerate(zip(ids, targets, strict=True)):
        if target == 7:
            assert (chosen[pair] == -1).all() and not of_target[pair].any(), "no other picture of its class"
            continue
        for tiles, counted in zip(chosen[pair], of_target[pair], strict=True):
            assert [target in labels[tile] for tile in tiles] == counted.tolist() and counted.sum() == 2
            assert len({ids[tile] for tile in tiles}) == 4 and image in {ids[tile] for tile in tiles[counted]}
            first, second = (labels[tile][0] for tile in tiles[~counted])
            assert first != second
    # Each order of the pairs gives each the same pictures; another seed others.
    named = np.array([*ids, "none"])[chosen]
    order = np.random.default_rng(0).permutation(len(ids))
    again, counted = draw(*([own[k] for k in order] for own in (ids, labels, targets)), 3, seed=0)
    np.testing.assert_array_equal(np.array([*(ids[k] for k in order), "none"])[again], named[order])
    np.testing.assert_array_equal(counted, of_target[order])
    assert (np.array([*ids, "none"])[draw(ids, labels, targets, 3, seed=1)[0]] != named).mean() > 0.5
    # Two classes are too few; a target that is not in the picture has no mosaic.
    assert (draw(ids[:2], [(0,), (0,)], [0, 0], 1, 0)[0] == -1).all()
    assert (draw(["a", "b", "c", "d"], [(0,), (0,), (1,), (1,)], [0, 0, 1, 1], 1, 0)[0] == -1).all()
    chosen, _ = draw(["a", "b", "c", "d"], [(0,), (0,), (1,), (2,)], [0, 1, 1, 2], 1, 0)
    assert (chosen >= 0).all((1, 2)).tolist() == [True, False, False, False]


def test_places_are_drawn_evenly():
    """Chi squared of the six pairs of places that count: 1,500 draws, 5 degrees of freedom, p = .001 at 20.5."""
    ids, labels, targets = labelled()
    _, of_target = draw(ids[:15], labels[:15], targets[:15], 100, seed=2)
    counts = np.unique(of_target.reshape(-1, 4) @ [1, 2, 4, 8], return_counts=True)[1]
    assert len(counts) == 6 and ((counts - 250) ** 2 / 250).sum() < 20.5


class Own(Explainer):
    """Where a picture is of the target's colour: pixels of class k are k."""

    def __init__(self, model):
        pass

    def __call__(self, images, targets):
        return (images[:, :1] == targets[..., None, None].to(images.dtype)).to(images.dtype) + 0.25


class Network(nn.Module):
    def __init__(self, side=None):
        super().__init__()
        self.side, self.last = side, nn.Linear(3, 9)

    def forward(self, x):
        if self.side is not None:
            torch._assert(x.shape[2] == self.side, f"Wrong image height! Expected {self.side}")
        return self.last(x.mean((2, 3)))


METHODS = {"own": Method("own", "", "", Own), "constant": Method("constant", "", "", "controls:Constant")}


def a_case(order, model, **settings):
    ids, labels, targets = labelled()
    first = {image: k for k, image in reversed(list(enumerate(ids)))}
    pictures = [{"width": 8, "height": 8, "labels": list(own)} for own in labels]
    pairs = [(first[ids[k]], targets[k], {}) for k in order]
    settings = {"focus": {"images": None, "mosaics": 2, "tiles": "auto", **settings}}
    maps = np.zeros((len(order), 8, 8))
    case, stored = case_of(pictures, pairs, maps, settings, model=model, methods=METHODS, seed=4)
    values = torch.tensor([float(labels[k][0]) for k in order])
    case.__dict__["images"] = values.view(-1, 1, 1, 1).expand(-1, 3, 8, 8).contiguous()
    return case, stored


@pytest.mark.parametrize("side", [None, 8])
def test_rows(side):
    """Of single classes: .25 and 1.25 a pixel, so 2.5 of 3 in the target's tiles; whatever the batch and the order."""
    found = []
    for order, batch_size in (
        (range(16), 64),
        (range(16), 1),
        (range(16), 5),
        (np.random.default_rng(0).permutation(16), 64),
    ):
        case, stored = a_case(list(order), Network(side))
        case.batch_size = batch_size
        rows = score(case, "own", stored)
        found.append(rows.sort_values(["image_id", "level"]).reset_index(drop=True))
        assert set(rows["tiles"]) == ({"full"} if side is None else {"half"})
    for rows in found[1:]:
        assert rows.equals(found[0])
    known = rows[rows["image_id"] != "p15"]
    assert rows[rows["image_id"] == "p15"]["value"].isna().all() and known["value"].to_list() == pytest.approx(
        [2.5 / 3] * 30
    )
    for row in known.itertuples():
        tiles = [row.mosaic_0, row.mosaic_1, row.mosaic_2, row.mosaic_3]
        assert row.image_id in [tiles[int(place)] for place in row.target_tiles]
        same = [int(tile[1:]) % 5 == row.target and tile != "p15" for tile in tiles]
        assert [str(place) in row.target_tiles for place in range(4)] == same
    constant = score(case, "constant", stored)
    assert (constant["value"].dropna() == 0.5).all()
    assert constant["value"].isna().equals(score(case, "own", stored)["value"].isna())
    means = image_scores(rows, "made", "net")
    assert np.isfinite(values_of(means, "focus")).sum() == 15


def test_tiles():
    image = torch.zeros(1, 3, 8, 8)
    assert [tiles_of(Network(side), tiles, image) for side, tiles in ((None, "auto"), (8, "auto"), (8, "full"))] == [
        "full",
        "half",
        "full",
    ]
    assert tiles_of(Network(), "half", image) == "half"
    with pytest.raises(InputError, match=r"evaluation.focus.tiles"):
        tiles_of(Network(), "whole", image)
    case, stored = a_case(list(range(16)), Network())
    with pytest.raises(InputError, match="no row of method other"):
        score(case, "other", stored)


def test_the_first_images_alone_have_mosaics_of_all():
    """What they draw and score is what they draw and score among all."""
    case, stored = a_case(list(range(16)), Network(None))
    some, _ = a_case(list(range(16)), Network(None), images=4)
    everything, few = score(case, "own", stored), score(some, "own", stored)
    answered = few["image_id"].isin([f"p{k}" for k in range(4)])
    assert few[answered].equals(everything[answered]) and few["value"].notna().equals(answered)
