"""ROAD and its imputation: the authors' arrays, a sparse direct solution in float64, and what must hold of any."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from metric_cases import case_of, values_of
from reference_nets import inputs, network
from relmap.errors import InputError
from relmap.evidence.values import image_scores
from relmap.metrics.imputation import SOLVERS, linear_imputation
from relmap.metrics.ranking import entry_ranks
from relmap.metrics.road import ORDERS, pixels_at, removed, road_predictions, score
from scipy.sparse import coo_matrix
from scipy.sparse.linalg import spsolve
from torch import nn

REFERENCE = Path(__file__).parent / "reference" / "metrics"
PERCENTS = [10, 30, 50, 70, 90]


@pytest.fixture(scope="module")
def theirs():
    with np.load(REFERENCE / "road.npz") as stored:
        return {name: stored[name] for name in stored}


@pytest.fixture(scope="module")
def pictures():
    """(8, 3, 64, 64) in [0, 1]."""
    return inputs(torch.float64)[0] * 0.25 + 0.5


def their_missing(theirs):
    """(3, 2, 5, 8, 64, 64): map, order, level, image."""
    kept = np.unpackbits(theirs["bitmask_keep"], axis=-1).reshape(*theirs["bitmask_keep"].shape[:4], 64, 64)
    return torch.from_numpy(kept == 0)


def their_importance(theirs):
    """(3, 8, 64, 64): min-max of the map and their noise that breaks ties."""
    maps = np.load(REFERENCE / "maps.npz")["maps"][:, theirs["map_index"]]
    low, high = (reduce(maps, axis=(2, 3), keepdims=True) for reduce in (np.min, np.max))
    scaled = (maps - low) / (high - low + np.float32(1e-5))
    return torch.from_numpy((scaled + 1e-4 * theirs["tiebreak_randn_f64"]).astype(np.float32)).transpose(0, 1)


def slowly(image, missing):
    """The definition, pixel by pixel, and a direct solution in float64: image (C, H, W), missing (H, W)."""
    height, width = missing.shape
    number = {tuple(place): k for k, place in enumerate(np.argwhere(missing))}
    entries, right = [], np.zeros((len(number), len(image)))
    for (y, x), k in number.items():
        for dy in (-1, 0, 1):
            for dx in (-1, 0, 1):
                there, weight = (y + dy, x + dx), 1 / 6 if abs(dy) + abs(dx) == 1 else 1 / 12
                if (dy, dx) == (0, 0) or not (0 <= there[0] < height and 0 <= there[1] < width):
                    continue
                entries.append((k, k, weight))
                if there in number:
                    entries.append((k, number[there], -weight))
                else:
                    right[k] += weight * image[:, there[0], there[1]]
    rows, columns, values = zip(*entries, strict=True)
    system = coo_matrix((values, (rows, columns)), (len(number), len(number))).tocsc()
    filled = image.copy()
    filled[:, missing] = spsolve(system, right).reshape(len(number), -1).T
    return filled


def holes(size, kind, share, seed=0):
    """(H, W) bool: ``share`` of the pixels, scattered, in blobs, or all but a corner."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(size, generator=generator)
    if kind == "blobs":
        values = F.interpolate(torch.randn(1, 1, 5, 5, generator=generator), size, mode="bicubic")[0, 0]
    if kind == "corner":
        values = torch.arange(size[0]).unsqueeze(1) + 1.01 * torch.arange(size[1])
    wanted = int(share * values.numel())
    return entry_ranks(values.unsqueeze(0))[0] < wanted


def test_their_order(theirs):
    """All masks of three maps, both orders and five levels, pixel by pixel."""
    expected, ranks = their_missing(theirs), [entry_ranks(one) for one in their_importance(theirs)]
    for place, own in enumerate(ranks):
        for order in (0, 1):
            for level, percent in enumerate(PERCENTS):
                wanted = torch.full((8,), pixels_at(percent, 64 * 64))
                got = removed(own, wanted, torch.full((8,), order == 1))
                assert torch.equal(got, expected[place, order, level])


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_their_imputed_pictures(theirs, pictures, dtype, solver):
    missing, levels = their_missing(theirs)[1], theirs["imputed_percent_index"].tolist()
    for order in (0, 1):
        for place, level in enumerate(levels):
            got = linear_imputation(pictures[:2].to(dtype), missing[order, level, :2], solver)
            assert got.dtype == dtype
            np.testing.assert_allclose(got, theirs["imputed_map2"][order, place], atol=5e-6)


def test_their_scores(theirs):
    """All accuracies and the probabilities behind them: three maps, both orders, five levels, eight images."""
    images, targets = inputs(torch.float32)
    model, missing = network("vgg16", torch.float32), their_missing(theirs)
    repeated = images.repeat(30, 1, 1, 1)
    filled = linear_imputation(repeated, missing.flatten(0, 3))
    with torch.no_grad():
        found = torch.cat([model(some) for some in filled.split(60)]).softmax(1)
    np.testing.assert_allclose(found.view(3, 2, 5, 8, 10), theirs["probs"], atol=1e-5)
    maps = their_importance(theirs)
    for place, own in enumerate(maps):
        got = road_predictions(model, images, own, PERCENTS, batch_size=50)
        right = (got == targets[0].view(-1, 1, 1)).double().mean(0)
        np.testing.assert_allclose(right, theirs["accuracy"][place], atol=1e-6)


def test_their_noise(theirs, pictures):
    missing, draws = their_missing(theirs)[1, 0, 2, 0], torch.from_numpy(theirs["noisy_example_draws"])
    noise = torch.zeros(3, 64, 64)
    noise[:, missing] = 0.01 * draws  # channel by channel, in raster order
    seen = []

    class Keep(nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return x.mean((2, 3))

    ranks = their_importance(theirs)[1, :1]
    road_predictions(Keep(), pictures[:1].float(), ranks, [50], lambda image, level: noise)
    np.testing.assert_allclose(seen[0][0], theirs["noisy_example_img0_map2_morf50"], atol=1e-5)


@pytest.mark.parametrize("solver", SOLVERS)
@pytest.mark.parametrize("size", [(64, 64), (37, 52), (9, 80), (7, 7), (3, 5), (65, 33)])
def test_the_definition_slowly(size, solver):
    """Exact to 1e-6 of the greatest value, whatever the shape of the picture and of its holes, in both precisions."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randn(9, 2, *size, dtype=torch.float64, generator=generator)
    kinds = [(kind, share) for kind in ("noise", "blobs", "corner") for share in (0.1, 0.5, 0.9)]
    missing = torch.stack([holes(size, kind, share) for kind, share in kinds])
    expected = [slowly(image.numpy(), own.numpy()) for image, own in zip(images, missing, strict=True)]
    for dtype in (torch.float64, torch.float32):
        got = linear_imputation(images.to(dtype), missing, solver)
        np.testing.assert_allclose(got, expected, atol=1e-5)
        known = ~missing.unsqueeze(1).expand_as(got)
        assert torch.equal(got[known], images.to(dtype)[known])


@pytest.mark.parametrize("kind", ["noise", "blobs", "corner"])
def test_a_photographs_size(kind):
    """224 x 224 pixels, 90 % of them missing, in the worst case all but a corner."""
    image = torch.rand(1, 3, 224, 224, generator=torch.Generator().manual_seed(2))
    missing = holes((224, 224), kind, 0.9)
    expected = slowly(image[0].double().numpy(), missing.numpy())
    for solver in SOLVERS:
        np.testing.assert_allclose(linear_imputation(image, missing[None], solver)[0], expected, atol=5e-6)


@pytest.mark.parametrize("solver", SOLVERS)
def test_laws_of_imputation(solver):
    def imputed(images, missing):
        return linear_imputation(images, missing, solver)

    generator = torch.Generator().manual_seed(3)
    images = torch.randn(6, 3, 24, 20, generator=generator)
    missing = torch.stack(
        [holes((24, 20), "noise", share, seed) for seed, share in enumerate((0, 0.2, 0.5, 0.9, 1, 0.99))]
    )
    got = imputed(images, missing)
    assert torch.equal(got[0], images[0]) and (got[4] == 0).all(), "nothing to impute, nothing to impute from"
    # Between the known pixels' extremes; affine; blind to what stood at the missing pixels.
    known = images.masked_fill(missing.unsqueeze(1), torch.nan).flatten(2)
    for place in (1, 2, 3, 5):
        low, high = np.nanmin(known[place], 1), np.nanmax(known[place], 1)
        flat = got[place].flatten(1).numpy()
        assert (flat.min(1) >= low - 1e-5).all() and (flat.max(1) <= high + 1e-5).all()
    some = [1, 2, 3, 5]
    torch.testing.assert_close(imputed(2 * images - 1, missing)[some], 2 * got[some] - 1, atol=1e-5, rtol=0)
    changed = images.masked_fill(missing.unsqueeze(1), 7.0)
    torch.testing.assert_close(imputed(changed, missing), got, atol=1e-5, rtol=0)
    constant = torch.full_like(images, 0.3)
    torch.testing.assert_close(imputed(constant, missing)[some], constant[some], atol=1e-5, rtol=0)
    # One by one and in another order.
    for place in range(6):
        alone = imputed(images[place : place + 1], missing[place : place + 1])
        torch.testing.assert_close(alone[0], got[place], atol=1e-5, rtol=0)
    torch.testing.assert_close(imputed(images.flip(0), missing.flip(0)), got.flip(0), atol=1e-5, rtol=0)
    assert imputed(images[:0], missing[:0]).shape == (0, 3, 24, 20)
    with pytest.raises(ValueError, match="must be bool and fit"):
        imputed(images, missing.float())
    with pytest.raises(ValueError, match="NaN"):
        imputed(images / 0, missing)


class Brightness(nn.Module):
    """Two classes: whether a picture is bright. It remembers what it saw."""

    def __init__(self):
        super().__init__()
        self.seen = []

    def forward(self, x):
        self.seen.append(x.clone(memory_format=torch.contiguous_format))
        mean = x.mean((1, 2, 3))
        return torch.stack([-mean, mean], 1)


SETTINGS = {"road": {"images": None, "percents": [10, 50, 90], "noise": 0.01}, "ties": "strict"}


def a_case(maps, order=range(4), **given):
    pictures = [{"width": 16, "height": 16, "labels": [k % 2]} for k in range(4)]
    case, stored = case_of(pictures, [(k, k % 2, {}) for k in order], maps[list(order)], SETTINGS, **given)
    generator = torch.Generator().manual_seed(4)
    case.__dict__["images"] = torch.randn(4, 3, 16, 16, generator=generator)[list(order)]
    return case, stored


def test_rows_are_independent_of_batch_and_order():
    """What the network sees, noise and all, follows from the picture and the level."""
    maps, found = np.random.default_rng(5).random((4, 16, 16)), []
    for batch_size, order in ((64, range(4)), (1, range(4)), (7, range(4)), (5, [2, 0, 3, 1])):
        model = Brightness()
        case, stored = a_case(maps, order, model=model, batch_size=batch_size, seed=3)
        rows = score(case, "some", stored)
        keyed = rows.sort_values(["metric", "image_id", "level"]).reset_index(drop=True)
        seen = torch.cat(model.seen).unflatten(0, (4, -1))
        found.append((keyed, seen[torch.tensor(list(order)).argsort()]))
    for keyed, seen in found[1:]:
        assert keyed.equals(found[0][0])
        torch.testing.assert_close(seen, found[0][1], atol=2e-6, rtol=0)
    keyed, seen = found[0]
    assert set(keyed["metric"]) == set(ORDERS) and sorted(set(keyed["level"])) == [10, 50, 90]
    means = image_scores(keyed, "made", "net")
    assert sorted(set(means["metric"])) == ["road_lerf", "road_morf"]
    assert (
        values_of(means, "road_morf")
        == keyed[keyed["metric"] == "road_morf"].groupby("image_id")["value"].mean().tolist()
    )
    # The noise: .01 in [0, 1], so .01 / std here; the same in both orders, another at each level, of each picture.
    case, stored = a_case(maps, model=(quiet := Brightness()), seed=3)
    case.settings = {**SETTINGS, "road": {**SETTINGS["road"], "noise": 0}}
    score(case, "some", stored)
    noise = seen - torch.cat(quiet.seen).unflatten(0, (4, -1))
    std = torch.tensor(case.preprocessing.std)
    ranks = entry_ranks(torch.from_numpy(maps))
    for level, percent in enumerate((10, 50, 90)):
        missing = ranks < pixels_at(percent, 256)
        for order, own in ((0, missing), (1, ~missing)):
            here = noise[:, 2 * level + order].movedim(1, -1)
            assert (here[~own] == 0).all()
            spread = here[own].std(0) * std
            assert ((spread - 0.01).abs() < 4 * 0.01 / (2 * len(here[own])) ** 0.5).all()
    assert (noise[0, 2] - noise[0, 3]).abs().max() > 0 and not torch.equal(noise[0, 0], noise[1, 0])


def test_controls():
    """A map that finds the bright square makes MoRF fall and LeRF stay; ties come one by one, or whole."""
    images = torch.full((1, 3, 20, 20), -0.1)
    images[..., 4:8, 4:8] = 6.0
    maps = torch.zeros(1, 20, 20)
    maps[:, 4:8, 4:8] = 1
    model = Brightness()
    assert road_predictions(model, images, maps, [4, 8]).tolist() == [[[0, 0], [1, 1]]]
    assert road_predictions(model, images, -maps, [50, 90]).tolist() == [[[1, 1], [0, 0]]]
    # Strict ties of a constant map: the first n pixels in raster order. At once: all go, and the mean, 0, is left.
    model.seen.clear()
    road_predictions(model, images + 1, maps * 0, [25], ties="strict")
    same = (model.seen[0] == images + 1).all(1).flatten(1)
    assert same[0, 100:].all() and same[1, :100].all()
    model.seen.clear()
    road_predictions(model, images + 1, maps * 0, [25], ties="at_once")
    assert (model.seen[0][0] == 0).all() and torch.equal(model.seen[0][1], (images + 1)[0])
    for percent in (0, 100, -3):
        with pytest.raises(InputError, match="between 0 and 100"):
            road_predictions(model, images, maps, [percent])
    with pytest.raises(InputError, match="ties"):
        road_predictions(model, images, maps, [50], ties="none")
    with pytest.raises(InputError, match="map 0 contains NaN"):
        road_predictions(model, images, maps / 0, [50])
    with pytest.raises(ValueError, match="do not fit"):
        road_predictions(model, images, maps[:, :5], [50])
    assert [pixels_at(p, 4096) for p in (10, 70, 90)] == [409, 2867, 3686] and pixels_at(29, 100) == 29


def test_the_first_images_alone_are_scored():
    """What they score is what they score among all."""
    maps = np.random.default_rng(6).random((4, 16, 16))
    case, stored = a_case(maps, model=Brightness(), seed=3)
    everything = score(case, "some", stored)
    case.settings = {**SETTINGS, "road": {**SETTINGS["road"], "images": 2}}
    part = case.of_first_images(2)
    part.__dict__["images"] = case.images[:2]
    rows = score(case, "some", stored)
    assert set(rows["image_id"]) == {"p0", "p1"}
    assert rows.equals(everything[everything["image_id"].isin(["p0", "p1"])].reset_index(drop=True))
