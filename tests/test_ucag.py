"""UCAG: the authors' vectors, a plain loop over patches in float64, laws, what is shared, what is refused.

Vectors (KU-HJH/UCAG, Grad-CAM on the small VGG-16, 64 x 64): all arrays of ``ucag_vgg16s.npz``. ``crop34`` is our cut;
``crop35``, where theirs is not the image, is compared step by step.
"""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import relmap
import torch
import torch.nn.functional as F
from reference_nets import inputs, network, vectors
from relmap.catalogue.methods import CATALOGUE, Method, unfold_and_conquer
from relmap.errors import InputError, RelevanceWarning
from relmap.explainers.base import Explainer
from relmap.explainers.baselines import BaselineMap
from relmap.explainers.building import build
from relmap.explainers.unfold_and_conquer import Cut, UnfoldAndConquer, finished, fold, overlaps
from relmap.propagation import Propagator, Walk
from torch import Tensor, nn

CAMS = ("grad_cam", "grad_cam_pp", "xgrad_cam", "wgrad_cam", "full_grad", "full_grad_centred")
UNFOLDED = [row for row in CATALOGUE.values() if row.maker == "unfold_and_conquer:UnfoldAndConquer"]
INNER = [row.wraps for row in UNFOLDED if row.variant_of is None]


def resized(maps: Tensor, size: tuple[int, int], mode: str = "bilinear") -> Tensor:
    return F.interpolate(maps, size, mode=mode, align_corners=False)


def scaled(canvas: Tensor) -> Tensor:
    """ReLU, then from its minimum and maximum to [0, 1]."""
    canvas = canvas.relu()
    return (canvas - canvas.min()) / (canvas.max() - canvas.min())


def error(ours: Tensor, theirs: np.ndarray) -> float:
    """Largest difference as a share of the largest entry."""
    assert tuple(ours.shape) == theirs.shape
    return float((ours.double() - torch.from_numpy(theirs).double()).abs().max() / np.abs(theirs).max())


# The authors' vectors


@pytest.fixture(scope="module")
def theirs():
    return vectors("ucag/ucag_vgg16s.npz")


@pytest.fixture(scope="module")
def small():
    return Propagator(network("vgg16", torch.float32))


def signed(propagator: Propagator) -> BaselineMap:
    """Grad-CAM without its ReLU: with it UCAG stops before its last steps, at the canvas."""
    return BaselineMap(propagator, baseline="grad_cam").signed_activation_map()


def steps(images: Tensor, size: int, stride: int, side: int) -> Tensor:
    """Enlarged patches (36, C, side, side) of one image; those beyond its edge are cut off there."""
    crops = [images[..., y : y + size, x : x + size] for y in range(0, 6 * stride, stride) for x in
             range(0, 6 * stride, stride)]  # fmt: skip
    return torch.cat([resized(crop[None], (side, side), "bicubic") for crop in crops])


def partial(propagator: Propagator, patches: Tensor, label: int) -> tuple[Tensor, Tensor]:
    """Signed maps (36, h, w) at the layer, and the label's probabilities."""
    explainer = signed(propagator)
    activations = propagator.forward(patches, explainer.walks, explainer.keep)
    classes = torch.full((1, len(patches)), label)
    return explainer.read(activations, classes)[0], activations.logits.softmax(1)[:, label]


@pytest.mark.parametrize("image", range(8))
def test_patches_maps_and_confidence(theirs, small, image):
    pictures, label = inputs(torch.float32)[0][image], int(theirs["labels"][image])
    for crop in ("crop34", "crop35") if image < 3 else ("crop34",):
        size, stride, _, side = theirs[f"{crop}_geom"].tolist()
        if crop == "crop34":
            cut = Cut.of(64, 6, 0.555)
            assert (cut.size, cut.stride, cut.enlarged(2.6)) == (size, stride, side)
            method = UnfoldAndConquer(small, inner=signed(small))
            (patches, _), = method._patches(pictures[None], torch.tensor([[label]]), cut, cut)  # fmt: skip
        else:
            patches = steps(pictures, size, stride, side)
        if image == 0:
            assert error(patches[[0, 14, 35]], theirs[f"{crop}_img0_patches_0_14_35"]) < 1e-5
        flat = patches.flatten(1)
        stats = torch.stack([flat.mean(1), flat.std(1), flat.amin(1), flat.amax(1)], 1)
        assert error(stats, theirs[f"{crop}_img{image}_patch_stats"]) < 1e-5
        maps, probability = partial(small, patches, label)
        assert error(maps, theirs[f"{crop}_img{image}_partial"]) < 1e-5
        assert error(probability, theirs[f"{crop}_img{image}_prob"]) < 1e-5
        weight = (probability - probability.max()).exp()
        assert error(weight, theirs[f"{crop}_img{image}_weight"]) < 1e-5


def canvas_of(propagator: Propagator, **parameters) -> UnfoldAndConquer:
    return UnfoldAndConquer(propagator, inner=signed(propagator), **parameters)


def test_canvas_and_finished_map(theirs, small):
    images, labels = inputs(torch.float32)[0], torch.from_numpy(theirs["labels"])
    row = Method("canvas", "Canvas", "made up", canvas_of)
    found = 0
    for weights, key in (("confidence", "w"), ("uniform", "now")):
        for count, kind in (("overlaps", "noquirk"), ("plus_one", "official")):
            how = {"weights": weights, "count": count}
            raw = relmap.explain(small, images, labels, row, **how)
            maps = relmap.explain(small, images, labels, unfold_and_conquer(CATALOGUE["grad_cam"]), **how)
            for image, (one, shown) in enumerate(zip(raw, maps, strict=True)):
                for name, ours in (("canvas", one), ("norm", scaled(one)), ("final", shown)):
                    expected = theirs.get(f"crop34_img{image}_{key}_{name}_{kind}")
                    if expected is not None:
                        found += 1
                        assert error(ours, expected) < 1e-5, (image, key, name, kind)
    assert found == sum((name.startswith("crop34") and "_official" in name) or ("_noquirk" in name and "crop34" in name)
                        for name in theirs) == 51  # fmt: skip
    assert np.array_equal(overlaps(*[Cut.of(64, 6, 0.555)] * 2, images).numpy(), theirs["crop34_duplication"])


def test_variants_are_these_parameters(small):
    images = inputs(torch.float32)[0][:1]
    plain = CATALOGUE["ucag_grad_cam"]
    for suffix, how in (("unweighted", {"weights": "uniform"}), ("plus_one", {"count": "plus_one"})):
        variant = relmap.explain(small, images, 0, f"ucag_grad_cam_{suffix}")
        assert torch.equal(variant, relmap.explain(small, images, 0, plain, **how))
        assert not torch.allclose(variant, relmap.explain(small, images, 0, plain))


def test_where_their_canvas_is_not_the_image(theirs):
    """Sums, counts and last steps of ``crop35``, from their maps and weights; the canvas of 65 is shrunk to 64."""
    cut = Cut(35, 6, 6)
    count = overlaps(cut, cut, torch.ones(()))
    assert np.array_equal(count.numpy(), theirs["crop35_duplication"])
    for image in range(3):
        maps = torch.from_numpy(theirs[f"crop35_img{image}_partial"])
        for key, weight in (("w", torch.from_numpy(theirs[f"crop35_img{image}_weight"])), ("now", torch.ones(36))):
            parts = resized(maps[None], (35, 35)) * weight[:, None, None]
            for kind, divisor in (("noquirk", count), ("official", count + 1)):
                canvas = fold(parts, cut, cut)[0] / divisor
                shrunk = resized(canvas.relu()[None, None], (64, 64))[0, 0]
                found = {"canvas": canvas, "norm": scaled(shrunk), "final": finished(shrunk[None])[0]}
                for name, ours in found.items():
                    assert error(ours, theirs[f"crop35_img{image}_{key}_{name}_{kind}"]) < 1e-5, (image, key, name)


def test_plain_grad_cam_and_logits(theirs, small):
    images, labels = inputs(torch.float32)[0], torch.from_numpy(theirs["labels"])
    explainer = signed(small)
    activations = small.forward(images, explainer.walks, explainer.keep)
    raw, maps = explainer.read(activations, labels[None])[0], relmap.explain(small, images, labels, "grad_cam")
    for image in theirs["images_used"]:
        assert error(activations.logits[image], theirs[f"img{image}_logits"]) < 1e-5
        assert error(raw[image], theirs[f"img{image}_gradcam_raw"]) < 1e-5
        assert error(scaled(maps[image]), theirs[f"img{image}_gradcam_norm"]) < 1e-5


# A plain loop over patches


def loop(propagator: Propagator, image: Tensor, target: int, inner: str, cuts: tuple[int, ...], alpha: float) -> Tensor:
    """UCAG (H, W) of one image (C, H, W), patch by patch; ``cuts``: size and stride of rows, then of columns."""
    height, width = image.shape[1:]
    h, u, w, v = cuts
    total, count = image.new_zeros(height, width), image.new_zeros(height, width)
    found = []
    for y in range(0, height - h + 1, u):
        for x in range(0, width - w + 1, v):
            patch = resized(image[None, :, y : y + h, x : x + w], (int(alpha * h), int(alpha * w)), "bicubic")
            score = propagator.model(patch)[0].softmax(0)[target].exp()
            found.append((y, x, score, one_map(propagator, patch, target, inner)))
            count[y : y + h, x : x + w] += 1
    assert count.min() == 1
    best = max(score for _, _, score, _ in found)
    for y, x, score, values in found:
        total[y : y + h, x : x + w] += score / best * resized(values[None, None], (h, w))[0, 0]
    total = total / count
    if inner not in CAMS:
        return total
    total = F.pad(scaled(total)[None, None], (2, 2, 2, 2), mode="reflect")
    kernel = torch.exp(-0.5 * (torch.arange(-2, 3, dtype=total.dtype) / 3) ** 2)
    kernel = kernel[:, None] * kernel / kernel.sum() ** 2
    return F.conv2d(total, kernel[None, None])[0, 0]


def one_map(propagator: Propagator, patch: Tensor, target: int, inner: str) -> Tensor:
    """The map of one patch: by autograd for class activation maps, at the layer and without ReLU."""
    if inner not in CAMS or inner.startswith("full_grad"):  # which has a statement of its own in test_full_grad.py
        return relmap.explain(propagator, patch, target, inner)[0]
    layer = "features.29" if hasattr(propagator.model, "features") else "layer4"
    kept = []
    handle = propagator.model.get_submodule(layer).register_forward_hook(lambda _, __, output: kept.append(output))
    with warnings.catch_warnings():
        logit = propagator.model(patch.clone().requires_grad_())[0, target]
        (g,) = torch.autograd.grad(logit, kept[0])
    handle.remove()
    a, g = kept[0].detach()[0], g[0]
    positive = g.clamp(min=0)
    alpha = positive**2 / (2 * positive**2 + a.sum((1, 2), keepdim=True) * positive**3 + 1e-6)
    weight = {
        "grad_cam": g.mean((1, 2)),
        "grad_cam_pp": (alpha * positive).sum((1, 2)),
        "xgrad_cam": (g * a).sum((1, 2)) / (a.sum((1, 2)) + 1e-6),
        "wgrad_cam": (g * a).mean((1, 2)),
    }[inner]
    return (weight[:, None, None] * a).sum(0)


@pytest.mark.filterwarnings("ignore::relmap.errors.RelevanceWarning")
@pytest.mark.parametrize(("architecture", "sides", "cuts"), [
    ("vgg16", (64, 64), (38, 26, 38, 26)), ("resnet50", (64, 86), (38, 26, 52, 34))])  # fmt: skip
def test_a_loop_over_patches(architecture, sides, cuts):
    """In float64, 2 x 2 patches, a picture that is not square among them."""
    propagator = Propagator(network(architecture))
    image, target = resized(inputs()[0][:1], sides, "bicubic"), 0
    how = {"n": 2, "rho": 0.6, "alpha": 1.7}
    found = relmap.compare(propagator, image, target, {f"ucag_{inner}": how for inner in INNER})
    for inner in INNER:
        expected = loop(propagator, image[0], target, inner, cuts, 1.7)
        scale = expected.abs().max().item()
        assert scale > 0, inner
        torch.testing.assert_close(found[f"ucag_{inner}"][0], expected, rtol=0, atol=1e-9 * scale, msg=inner)


def test_a_loop_over_patches_as_in_the_paper():
    """n 6, rho .555, alpha 2.6: 86 is cut into 46 and 8."""
    propagator, image = Propagator(network("vgg16")), resized(inputs()[0][3:4], (64, 86), "bicubic")
    found = relmap.explain(propagator, image, 3, "ucag_grad_cam")[0]
    torch.testing.assert_close(
        found, loop(propagator, image[0], 3, "grad_cam", (34, 6, 46, 8), 2.6), rtol=0, atol=1e-10
    )


# Laws


def test_sides_are_covered_exactly():
    assert Cut.of(224, 6, 0.555) == Cut(124, 20, 6) and Cut.of(224, 6, 0.555).enlarged(2.6) == 322
    assert Cut(35, 6, 6).enlarged(2.6) == 91
    for n, rho in ((6, 0.555), (2, 0.6), (3, 0.5), (9, 0.3)):
        for side in range(24, 500):
            cut = Cut.of(side, n, rho)
            count = overlaps(cut, Cut(1, 1, 1), torch.ones(()))
            assert len(count) == side and count.min() == 1, (side, n, rho)
            assert abs(cut.size - rho * side) <= (n - 1) / 2 + 1e-9


@pytest.mark.filterwarnings("ignore::relmap.errors.RelevanceWarning")
@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_one_patch_is_the_plain_map(architecture):
    """To the bit; class activation maps before their ReLU, resized, and then finished."""
    propagator = Propagator(network(architecture, torch.float32))
    images, targets = inputs(torch.float32)[0][:2], inputs()[1][:, :2]
    whole = {"n": 1, "rho": 1.0, "alpha": 1.0}
    plain = relmap.compare(propagator, images, targets.T, INNER)
    found = relmap.compare(propagator, images, targets.T, {f"ucag_{inner}": whole for inner in INNER})
    for inner in INNER:
        if inner in CAMS:
            raw = build(propagator, inner).signed_activation_map()
            torch.testing.assert_close(found[f"ucag_{inner}"], finished(raw(images, targets.T)), rtol=0, atol=2e-6)
        else:
            assert torch.equal(found[f"ucag_{inner}"], plain[inner]), inner


@pytest.mark.filterwarnings("ignore::relmap.errors.RelevanceWarning")
@pytest.mark.parametrize("method", ["ucag_grad_cam", "ucag_clrp_two_passes", "ucag_agf"])
def test_neither_batch_nor_chunk_changes_a_map(method, small):
    images, targets = inputs(torch.float32)[0][:3], inputs()[1].T[:3]
    row, cuts = CATALOGUE[method], {"n": 3, "rho": 0.6, "alpha": 1.5}
    whole = relmap.explain(small, images, targets, row, **cuts)
    floor = whole.abs().amax((2, 3), keepdim=True)
    for how in ({"batch_size": 1}, {"at_once": 1}, {"at_once": 7}, {"at_once": 10_000}):
        again = relmap.explain(small, images, targets, row, **cuts, **how)
        # Convolutions of other batches round differently.
        assert ((again - whole).abs() / floor.clamp(min=1e-12)).max() < 2e-5, how
    alone = torch.stack([relmap.explain(small, images, column, row, **cuts) for column in targets.T], 1)
    assert ((alone - whole).abs() / floor.clamp(min=1e-12)).max() < 2e-5
    turned = relmap.explain(small, images.flip(0), targets.flip(0), row, **cuts)
    assert ((turned.flip(0) - whole).abs() / floor.clamp(min=1e-12)).max() < 2e-5


def test_equal_confidence_is_none():
    """A network whose probabilities are 1 on all patches; otherwise a sure patch counts at most e times as much."""
    one = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 1)).double()
    image = inputs()[0][:2]
    with_weights, without = (
        relmap.explain(one.eval(), image, 0, unfold_and_conquer(CATALOGUE["lrp_epsilon"]), weights=weights)
        for weights in ("confidence", "uniform")
    )
    assert torch.equal(with_weights, without) and with_weights.any()


def test_around_a_constant_map_is_the_confidence_of_patches():
    """Restated: at each pixel the mean weight of the patches that hold it. It is what a map that says nothing gets."""
    model, (images, targets) = network("vgg16"), inputs()
    images, targets = images[:2], targets[:, :2].T
    found = relmap.explain(model, images, targets, "ucag_constant")
    for image, classes, maps in zip(images, targets, found, strict=True):
        for target, own in zip(classes.tolist(), maps, strict=True):
            total, count, weights = torch.zeros(64, 64).double(), torch.zeros(64, 64).double(), {}
            for y in range(0, 31, 6):
                for x in range(0, 31, 6):
                    patch = resized(image[None, :, y : y + 34, x : x + 34], (88, 88), "bicubic")
                    weights[y, x] = model(patch)[0].softmax(0)[target].exp()
            for (y, x), weight in weights.items():
                total[y : y + 34, x : x + 34] += weight / max(weights.values())
                count[y : y + 34, x : x + 34] += 1
            torch.testing.assert_close(own, total / count, rtol=1e-12, atol=0)
    assert found.flatten(2).std(2).min() > 0


def test_confidence_weighs_each_patch_and_target():
    """Two patches that do not overlap, so that each half of the map has one weight."""
    propagator, (images, targets) = Propagator(network("vgg16")), inputs()
    row, how = unfold_and_conquer(CATALOGUE["input_x_gradient"]), {"n": 2, "rho": 0.5, "alpha": 2.0}
    ratio = relmap.explain(propagator, images, targets.T, row, **how)
    ratio = ratio / relmap.explain(propagator, images, targets.T, row, weights="uniform", **how)
    quarters = [ratio[..., y : y + 32, x : x + 32] for y in (0, 32) for x in (0, 32)]
    patches = [resized(images[..., y : y + 32, x : x + 32], (64, 64), "bicubic") for y in (0, 32) for x in (0, 32)]
    scores = torch.stack([network("vgg16")(patch).softmax(1).gather(1, targets.T).exp() for patch in patches])
    for quarter, score in zip(quarters, scores / scores.amax(0), strict=True):
        middle = quarter.flatten(2).nanmedian(2).values
        torch.testing.assert_close(middle, score, rtol=1e-9, atol=0)
        assert score.min() >= 1 / np.e and not torch.allclose(score, torch.ones_like(score))


def test_without_a_positive_value_a_map_is_0(small):
    canvas = -torch.rand(2, 1, 8, 8)
    canvas[1, 0, 3, 4] = 2.0
    maps = finished(canvas)
    assert not maps[0].any() and maps[1].any() and maps.isfinite().all()

    class Never(BaselineMap):
        def read(self, activations, targets):
            return -super().read(activations, targets).abs()

        def signed_activation_map(self):
            return self

    row = Method("never", "Never", "made up", Never, {"baseline": "grad_cam"})
    with pytest.warns(RelevanceWarning, match="0 everywhere"):
        assert not relmap.explain(small, inputs(torch.float32)[0][:1], 0, unfold_and_conquer(row)).any()


@pytest.mark.filterwarnings("ignore::relmap.errors.RelevanceWarning")
def test_channels_add_up_to_the_map(small):
    images, targets = inputs(torch.float32)[0][:2], inputs()[1].T[:2]
    for method, channels in (("ucag_rap_logit_init", 3), ("ucag_grad_cam", 1)):
        merged = relmap.explain(small, images, targets, method, n=2, rho=0.6)
        found = relmap.explain(small, images, targets, method, n=2, rho=0.6, by_channel=True)
        assert found.shape == (2, 2, channels, 64, 64)
        torch.testing.assert_close(found.sum(2), merged, rtol=1e-4, atol=1e-5 * merged.abs().max().item())


# What is shared, and what it wraps


def test_methods_of_a_job_share_patches_and_passes(monkeypatch):
    images, targets = inputs(torch.float32)[0][:2], inputs()[1][0, :2]
    propagator = Propagator(network("resnet50", torch.float32))
    methods = ["ucag_grad_cam", "ucag_grad_cam_plus_one", "ucag_wgrad_cam", "ucag_lrp_alpha1_beta0_rap"]
    alone = {method: relmap.explain(propagator, images, targets, method) for method in methods}
    forward, backward = [], []
    propagate = Walk.propagate
    original = Propagator.forward
    monkeypatch.setattr(Propagator, "forward", lambda *a, **k: forward.append(len(a[1])) or original(*a, **k))
    monkeypatch.setattr(Walk, "propagate", lambda *a, **k: backward.append(1) or propagate(*a, **k))
    together = relmap.compare(propagator, images, targets, methods)
    assert forward == [2, 72], "the images, and their patches once for all methods"
    assert len(backward) == 2, "one for all class activation maps"
    for method, maps in together.items():
        assert torch.equal(maps, alone[method]), method
    forward.clear()
    relmap.compare(propagator, images, targets, {method: {"at_once": 36} for method in methods[:2]})
    assert forward == [2, 36, 36], "memory is bounded by patches at once"
    forward.clear()
    relmap.compare(propagator, images, targets, {methods[0]: {}, methods[1]: {"alpha": 1.0}})
    assert forward == [2, 72, 72], "other patches"


class Brightness(Explainer):
    """Somebody's own, not even of the network."""

    def __init__(self, model, *, factor=1.0):
        self.factor = factor

    def __call__(self, images, targets):
        return self.factor * images.sum(1, keepdim=True).expand(-1, targets.shape[1], -1, -1)


@pytest.mark.filterwarnings("ignore::relmap.errors.RelevanceWarning")
@pytest.mark.parametrize(
    "row",
    [
        *(CATALOGUE[name] for name in ("integrated_gradients", "smoothgrad", "deeplift", "edges", "relevance_cam")),
        *(CATALOGUE[name] for name in ("contrastive_excitation_backprop", "crap", "norm_grad", "ucag_grad_cam")),
        Method("brightness", "Brightness", "myself", Brightness),
    ],
    ids=lambda row: row.id,
)
def test_any_method_can_be_wrapped(row, small):
    images, targets = inputs(torch.float32)[0][:2], inputs()[1].T[:2]
    how = {"n": 2, "rho": 0.6, "alpha": 1.5}
    maps = relmap.explain(small, images, targets, unfold_and_conquer(row), **how)
    assert maps.shape == (2, 2, 64, 64) and maps.isfinite().all() and maps.any()
    one = relmap.explain(small, images[1:], targets[1:, :1], unfold_and_conquer(row), **how)
    torch.testing.assert_close(maps[1:, :1], one, rtol=1e-3, atol=1e-4 * one.abs().max().item())


def test_a_mean_of_copies_is_the_picture(small):
    """Brightness knows no context: its patches, put together, are the picture but for two resizings."""
    smooth = resized(torch.randn(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)), (64, 64), "bicubic")
    row = unfold_and_conquer(Method("brightness", "Brightness", "myself", Brightness))
    maps = relmap.explain(small, smooth, 0, row, weights="uniform", factor=2.0)
    expected = 2 * smooth.sum(1)
    assert (maps - expected).abs().max() < 0.02 * expected.abs().max()


def test_parameters_reach_what_is_wrapped(small):
    images = inputs(torch.float32)[0][:1]
    row = unfold_and_conquer(CATALOGUE["lrp_epsilon"])
    whole = {"n": 1, "rho": 1.0, "alpha": 1.0}
    found = relmap.explain(small, images, 0, row, epsilon=0.25, **whole)
    assert torch.equal(found, relmap.explain(small, images, 0, "lrp_epsilon", epsilon=0.25))
    fixed = replace(row, parameters={"epsilon": 0.25})
    assert torch.equal(found, relmap.explain(small, images, 0, fixed, **whole))
    with pytest.raises(InputError, match=r"fixes 'epsilon' to 0\.25"):
        relmap.explain(small, images, 0, fixed, epsilon=1.0)
    with pytest.raises(InputError, match=r"'epsilom'; it takes n, rho, .*epsilon"):
        relmap.explain(small, images, 0, row, epsilom=0.25)


def test_rows_survive_a_job():
    own = Method("own", "Own", "myself", "occlusion.py:Occlusion", {"patch": 8})
    for row in (*UNFOLDED, unfold_and_conquer(own), unfold_and_conquer(unfold_and_conquer(own))):
        assert Method.from_dict(row.to_dict()) == row


def test_a_box_holds_the_enlarged_patches(small):
    """Enlargement overshoots, which a first layer that takes the range of valid inputs would refuse."""
    images = inputs(torch.float32)[0][:2]
    low, high = images.amin().item(), images.amax().item()
    row = unfold_and_conquer(CATALOGUE["lrp_alpha1_beta0"])
    cut, targets = Cut.of(64, 6, 0.555), torch.zeros(2, 1, dtype=torch.long)
    bounded, free = build(small, row, low=low, high=high), build(small, "ucag_grad_cam")
    assert bounded.inputs != free.inputs
    ((clamped, _),), ((patches, _),) = (method._patches(images, targets, cut, cut) for method in (bounded, free))
    assert patches.max() > high and torch.equal(clamped, patches.clamp(low, high))
    maps = relmap.explain(small, images, 0, row, low=low, high=high)
    assert maps.isfinite().all() and maps.any()


def test_networks_of_one_size_get_patches_of_it():
    model = network("vit", torch.float32)
    images, row = inputs(torch.float32)[0][:2], unfold_and_conquer(CATALOGUE["input_x_gradient"])
    with pytest.raises(InputError, match=r"does not take patches of 88 x 88.*alpha=None"):
        relmap.explain(model, images, 0, row)
    assert relmap.explain(model, images, 0, row, alpha=None).any()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"n": 0}, "n is 0; give a whole number"),
        ({"n": 2.0}, "n is 2.0; give a whole number"),
        ({"rho": 0.0}, "rho is 0.0; give a share"),
        ({"rho": 1.5}, "rho is 1.5"),
        ({"alpha": 0}, "alpha is 0; give a positive number"),
        ({"at_once": 0}, "at_once is 0"),
        ({"count": "one"}, "count is 'one'; choose one of overlaps, plus_one"),
        ({"weights": "probability"}, "weights is 'probability'; choose one of confidence, uniform"),
        ({"n": 1}, "n=1 and rho=0.555 do not go together"),
        ({"rho": 1}, "n=6 and rho=1 do not go together"),
        ({"n": 2, "rho": 0.3}, "2 patches of the share 0.3 do not cover a side of 64 pixels"),
        ({"n": 200}, "200 patches of the share 0.555 do not cover"),
    ],
)
def test_errors_say_how_to_mend_them(small, given, message):
    with pytest.raises(InputError, match=message):
        relmap.explain(small, inputs(torch.float32)[0][:1], 0, "ucag_grad_cam", **given)


def test_what_has_no_two_sides_is_refused():
    model = nn.Sequential(nn.Conv1d(2, 3, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(3, 2)).eval()
    with pytest.raises(InputError, match=r"UCAG cuts pictures \(N, C, H, W\)"):
        relmap.explain(model, torch.randn(1, 2, 40), 0, unfold_and_conquer(CATALOGUE["lrp_epsilon"]))
