"""Sensitivity-n: set by set, exact for a linear network, and 0 of maps that say nothing."""

import numpy as np
import torch
from metric_cases import case_of, values_of
from relmap.metrics.sensitivity_n import score, subsets
from torch import nn

SHARES = [0.02, 0.3, 0.8]
PICTURES = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(0))
MAPS = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(1))


def net():
    torch.manual_seed(2)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3))


def a_case(order, maps, model, images=None):
    pictures = [{"width": 8, "height": 8, "labels": [0]} for _ in range(4)]
    settings = {"sensitivity_n": {"images": images, "subsets": 12, "shares": SHARES}}
    case, stored = case_of(pictures, [(k, k % 3, {}) for k in order], maps[order], settings, model=model, seed=7)
    case.__dict__["images"] = PICTURES[order]
    return case, stored


def test_restated_slowly_and_independent_of_batch_and_order():
    model, expected = net(), np.zeros((4, 3))
    for k in range(4):
        sets = subsets(7, f"p{k}", SHARES, 12, (8, 8))
        for column, share in enumerate(SHARES):
            sums, changes = [], []
            for chosen in sets[column]:
                assert int(chosen.sum()) == max(1, round(share * 64))
                picture = PICTURES[k].clone()
                total = 0.0
                for row, place in chosen.nonzero().tolist():
                    total += float(MAPS[k, row, place])
                    picture[:, row, place] = 0
                sums.append(total)
                changes.append((model(PICTURES[k][None])[0, k % 3] - model(picture[None])[0, k % 3]).item())
            expected[k, column] = np.corrcoef(sums, changes)[0, 1]
    for order, batch_size in (([0, 1, 2, 3], 64), ([0, 1, 2, 3], 1), ([2, 0, 3, 1], 5)):
        case, stored = a_case(order, MAPS.numpy(), model)
        case.batch_size = batch_size
        rows = score(case, "any", stored)
        assert rows["level"].tolist() == SHARES * 4
        np.testing.assert_allclose(np.reshape(values_of(rows, "sensitivity_n"), (4, 3)), expected[order], atol=1e-5)


def test_what_a_linear_network_adds_up_has_1():
    torch.manual_seed(3)
    model = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    weights = model[1].weight.detach().view(3, 3, 8, 8)
    exact = torch.stack([(PICTURES[k] * weights[k % 3]).sum(0) for k in range(4)])
    for maps, value in ((exact, 1.0), (-exact, -1.0), (torch.ones_like(exact), 0.0)):
        case, stored = a_case([0, 1, 2, 3], maps.numpy(), model)
        np.testing.assert_allclose(values_of(score(case, "any", stored), "sensitivity_n"), [value] * 12, atol=1e-5)
    blind = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    blind[1].weight.data.zero_()
    case, stored = a_case([0, 1], MAPS.numpy(), blind)
    assert values_of(score(case, "any", stored), "sensitivity_n") == [0.0] * 6


def test_sets_are_an_image_s_own_and_lie_within_each_other():
    sets = subsets(7, "p0", SHARES, 12, (8, 8))
    assert torch.equal(sets, subsets(7, "p0", SHARES, 12, (8, 8)))
    assert not torch.equal(sets, subsets(7, "p1", SHARES, 12, (8, 8)))
    assert bool((sets[0] <= sets[1]).all()) and bool((sets[1] <= sets[2]).all())


def test_of_no_image_there_are_no_rows():
    case, stored = a_case([0], MAPS.numpy(), net())
    assert score(case.where("image_id in []"), "any", stored).empty
