"""Orders of pixels with their two rules of ties, and ranks that ties share."""

import numpy as np
import pytest
import torch
from relmap.errors import InputError
from relmap.metrics import ranking
from relmap.metrics.lerf import lerf_predictions, removal_steps
from relmap.metrics.ranking import average_ranks, entry_ranks, taken
from torch import nn


def tied_maps():
    return torch.randint(-2, 3, (30, 5, 6), generator=torch.Generator().manual_seed(0)).float()


@pytest.mark.parametrize("descending", [True, False])
def test_restated_slowly(descending):
    """For every number n: strict chooses n pixels, in a stable order; at once all at or beyond the n-th value."""
    maps = tied_maps()
    strict, at_once = (entry_ranks(maps, ties, descending).flatten(1) for ties in ("strict", "at_once"))
    for relevance, one, all_of_tie in zip(maps.flatten(1).numpy(), strict, at_once, strict=True):
        signed = -relevance if descending else relevance
        order = np.argsort(signed, kind="stable")
        for n in range(31):
            assert set(np.flatnonzero(one < n)) == set(order[:n])
            expected = signed <= signed[order[n - 1]] if n else np.zeros(30, dtype=bool)
            np.testing.assert_array_equal(all_of_tie < n, expected)


@pytest.mark.parametrize("pixels", [1, 1 << 20])
def test_how_many_are_taken(monkeypatch, pixels):
    """As many as have a rank below the number wanted; at once they are the first so many of the strict order."""
    monkeypatch.setattr(ranking, "_PIXELS_PER_SORT", pixels)
    maps, counts = tied_maps(), torch.arange(31)
    strict = entry_ranks(maps).flatten(1)
    for ties in ranking.TIES:
        ranks = entry_ranks(maps, ties).flatten(1)
        found = taken(maps, counts, ties)
        assert torch.equal(found, (ranks[:, None] < counts[:, None]).sum(2))
        assert torch.equal(strict[:, None] < found[..., None], ranks[:, None] < counts[:, None])
        assert torch.equal(taken(maps, counts[[7, 0, 30]], ties, strict.view(maps.shape)), found[:, [7, 0, 30]])
    assert taken(torch.ones(1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1]), "at_once").tolist() == [[0, 4]]
    assert taken(torch.tensor([[0.0, -0.0, 1.0]]), torch.tensor([2]), "at_once").tolist() == [[3]]


def test_by_hand():
    relevance = torch.tensor([[[2.0, 1, 2], [0, 1, -0.0]]])
    assert entry_ranks(relevance)[0].tolist() == [[0, 2, 1], [4, 3, 5]]
    assert entry_ranks(relevance, "at_once")[0].tolist() == [[0, 2, 0], [4, 2, 4]]
    assert average_ranks(relevance)[0].tolist() == [[5.5, 3.5, 5.5], [1.5, 3.5, 1.5]]


def test_independent_of_chunks(monkeypatch):
    together = [entry_ranks(tied_maps(), ties) for ties in ranking.TIES]
    monkeypatch.setattr(ranking, "_PIXELS_PER_SORT", 1)
    for ties, ranks in zip(ranking.TIES, together, strict=True):
        assert torch.equal(entry_ranks(tied_maps(), ties), ranks)


def test_least_relevant_first_with_ties_at_once():
    """A constant map loses everything at the first step; without ties the rules agree."""
    assert (removal_steps(torch.zeros(1, 4, 4), 2, "at_once") == 1).all()
    distinct = torch.randn(3, 4, 4, generator=torch.Generator().manual_seed(0))
    assert torch.equal(removal_steps(distinct, 2, "at_once"), removal_steps(distinct, 2))
    images = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(1)) + 1
    seen = []

    class Keep(nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return x.flatten(1)

    lerf_predictions(Keep(), images, torch.zeros(1, 4, 4), 2, 3, ties="at_once")
    assert (torch.cat(seen) == 0).all()


def test_other_rules_are_refused():
    with pytest.raises(InputError, match=r"evaluation\.ties"):
        entry_ranks(tied_maps(), "random")
    with pytest.raises(InputError, match=r"evaluation\.ties"):
        taken(tied_maps(), torch.tensor([1]), "random")
    with pytest.raises(InputError, match="map 0 contains NaN"):
        average_ranks(torch.full((1, 2, 2), torch.nan))
