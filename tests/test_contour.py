"""The contour choice: areas by OpenCV's definition, masks against vectors and slow definitions, maps by Eq. 3 and 4.

Vectors (``postproc_*``): opencv-python-headless 5.0.0.93 and scikit-image 0.26.0 on maps that were reduced by the
latter, whose smoothing is another reduction than the area's mean.
"""

import numpy as np
import pytest
import relmap
import scipy.ndimage
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from reference_nets import inputs, network, vectors
from relmap.catalogue.methods import Method
from relmap.errors import InputError, RelevanceWarning
from relmap.explainers.base import Explainer
from relmap.explainers.building import build
from relmap.explainers.components import (
    component_at,
    contour_areas,
    filled,
    labelled,
    largest_component,
    largest_contour,
    pixel_counts,
)
from relmap.explainers.contour import CHOICES, above_mean, chosen, contoured, masks, reduced
from relmap.explanation import compare
from relmap.propagation import Propagator

VECTORS = ("keio_flows_skip", "keio_latest", "c3_literal", "synthetic")
EIGHT, FOUR = np.ones((3, 3)), np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


def picture(text: str) -> torch.Tensor:
    """Rows of # and . as (1, h, w)."""
    return torch.tensor([[[sign == "#" for sign in row] for row in text.split()]])


# Areas as cv2.contourArea gives them of cv2.findContours(RETR_EXTERNAL, CHAIN_APPROX_NONE).
SHAPES = {
    "pixel": ("... .#. ...", 0),
    "line": ("##### .....", 0),
    "diagonal": ("#.. .#. ..#", 0),
    "square of 2": ("##. ##. ...", 1),
    "square of 4": ("#### #### #### ####", 9),
    "corner": ("#. ##", 0.5),
    "L": ("#.. #.. ###", 0.5),
    "thick L": ("##.. ##.. #### ####", 5.5),
    "diamond": (".#. ### .#.", 2),
    "hollow diamond": (".#. #.# .#.", 2),
    "ring": ("##### #...# #...# #...# #####", 16),
    "ring and dot": ("##### #...# #.#.# #...# #####", 16),
    "line beside a square": ("...## ##### ...##", 3),
    "two squares by a diagonal": ("##... ##... ..##. ..##. .....", 2),
    "figure of eight": ("##### #.#.# ##### #.#.# #####", 16),
}


@pytest.mark.parametrize(("text", "area"), SHAPES.values(), ids=SHAPES)
def test_areas_of_shapes(text, area):
    shape = picture(text)
    for turned in (shape, shape.mT, shape.flip(1), shape.flip(2), F.pad(shape, (2, 1, 3, 2))):
        assert contour_areas(labelled(filled(turned))).sum().item() == 2 * area
        assert shoelace(border(filled(turned)[0].numpy())) == area


def border(component: np.ndarray) -> list[tuple[int, int]]:
    """The outer border of one component, followed pixel by pixel around it (Suzuki and Abe 1985)."""
    inside = np.pad(component, 1)
    around = [(0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1), (-1, 0), (-1, 1)]  # clockwise from the east
    start = tuple(int(axis[0]) for axis in np.nonzero(inside))

    def following(at, came):
        for turn in range(1, 9):
            way = around[(came + turn) % 8]
            if inside[at[0] + way[0], at[1] + way[1]]:
                return (came + turn) % 8
        return None

    way = following(start, 4)
    if way is None:
        return [start]
    chain, at, first = [], start, way
    while True:
        chain.append(at)
        at = (at[0] + around[way][0], at[1] + around[way][1])
        way = following(at, (way + 4) % 8)
        if at == start and way == first:
            return chain


def shoelace(chain: list[tuple[int, int]]) -> float:
    y, x = np.array(chain).T
    return abs(float((x * np.roll(y, -1) - y * np.roll(x, -1)).sum())) / 2


@given(
    seed=st.integers(0, 10_000),
    share=st.sampled_from([0.2, 0.4, 0.5, 0.6, 0.8]),
    size=st.tuples(*[st.integers(1, 15)] * 2),
)
@settings(max_examples=150, deadline=None, derandomize=True)
def test_components_against_their_slow_definitions(seed, share, size):
    foreground = np.random.default_rng(seed).random((3, *size)) < share
    ours = torch.from_numpy(foreground)
    labels, inside = labelled(ours), filled(ours)
    areas, counts = contour_areas(labelled(inside)), pixel_counts(labels)
    for one, picture in enumerate(foreground):
        found, number = scipy.ndimage.label(picture, EIGHT)
        assert np.array_equal(inside[one], scipy.ndimage.binary_fill_holes(picture, FOUR))
        by_pixels, by_area = [], []
        for component in (found == label for label in range(1, number + 1)):
            first = int(np.flatnonzero(component)[0])
            assert (labels[one].numpy()[component] == first).all()
            assert counts[one, first] == component.sum()
            by_pixels.append((component.sum(), -first, component))
            whole = scipy.ndimage.binary_fill_holes(component, FOUR)
            area = shoelace(border(whole))
            by_area.append((area, -first, whole))
            nested = not np.array_equal(whole & inside[one].numpy(), whole) or areas[one, first] == 0
            assert nested or areas[one, first] == 2 * area
        if not number:
            assert not largest_component(ours)[one].any()
            assert not largest_contour(ours)[one].any()
            continue
        assert np.array_equal(largest_component(ours)[one], max(by_pixels, key=lambda entry: entry[:2])[2])
        assert np.array_equal(largest_contour(ours)[one], max(by_area, key=lambda entry: entry[:2])[2])


def test_a_long_way_is_one_component():
    spiral = np.zeros((27, 27), bool)
    at, way = np.array([0, 0]), np.array([0, 1])
    for length in [26, 26, 26] + [n for n in range(24, 1, -2) for _ in range(2)]:
        for _ in range(length):
            spiral[tuple(at)] = True
            at = at + way
        way = np.array([way[1], -way[0]])
    spiral = torch.from_numpy(spiral)[None]
    assert torch.equal(labelled(spiral) == 0, spiral)
    assert pixel_counts(labelled(spiral))[0, 0] == spiral.sum()


def test_of_equals_the_first_in_raster_order():
    two = picture("......... ..##.##.. ..##.##.. ......... ##.......")
    left = picture("......... ..##..... ..##..... ......... .........")
    assert torch.equal(largest_contour(two), left)
    assert torch.equal(largest_component(two), left)
    lines = picture("...# ...# .... ####")  # both of area 0
    assert torch.equal(largest_contour(lines), picture("...# ...# .... ...."))
    assert torch.equal(largest_component(lines), picture(".... .... .... ####"))


@pytest.mark.parametrize("name", VECTORS)
def test_vectors(name):
    """All masks of all 32 maps; but whether a constant map is above its own mean hung on their rounding."""
    theirs = vectors(f"lrp/postproc_{name}.npz")
    mask = {
        key: torch.from_numpy(theirs[key]).bool() for key in ("binary28", "contour_area", "cc8_size", "cc8_maxvalue")
    }
    cells, binary = torch.from_numpy(theirs["reduced28"]).double(), mask["binary28"]
    assert torch.equal(largest_contour(binary), mask["contour_area"])
    assert torch.equal(largest_component(binary), mask["cc8_size"])
    assert torch.equal(component_at(binary, cells.flatten(1).argmax(1)), mask["cc8_maxvalue"])
    varied = cells.flatten(1).amax(1) > cells.flatten(1).amin(1)
    assert varied.sum() == 8 - (name == "synthetic")
    expected = torch.from_numpy(theirs["c3_mask"]).bool()
    assert torch.equal(above_mean(cells)[varied], binary[varied])
    assert torch.equal(CHOICES["contour_and_component"](cells)[varied], expected[varied])
    assert not CHOICES["contour_and_component"](cells)[~varied].any()
    # What is expanded: beyond the outermost cells' centres the two libraries go on differently.
    kept = torch.where(expected, cells, 0)[:, None]
    ours = F.interpolate(kept, (64, 64), mode="bilinear", align_corners=False)[:, 0, 2:-2, 2:-2]
    torch.testing.assert_close(ours.float(), torch.from_numpy(theirs["c3_out64"])[:, 2:-2, 2:-2], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("size", "side"), [((56, 84), 28), ((64, 80), 28), ((33, 29), 28), ((20, 40), 28), ((7, 9), 4)]
)
def test_a_cell_is_the_mean_over_its_area(size, side):
    maps = torch.randn(3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    rows, columns = (min(side, length) for length in size)
    fine = maps.repeat_interleave(rows, 1).repeat_interleave(columns, 2)  # whole parts of pixels in each cell
    expected = fine.unflatten(1, (rows, size[0])).unflatten(3, (columns, size[1])).mean((2, 4))
    torch.testing.assert_close(reduced(maps, side), expected, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(reduced(maps, side).mean((1, 2)), maps.mean((1, 2)))
    if size == (56, 84):
        torch.testing.assert_close(reduced(maps, side), F.adaptive_avg_pool2d(maps, side))


def by_hand(one: np.ndarray) -> torch.Tensor:
    """Eq. 3 and 4 of one map whose sides are multiples of 28, or 28 of theirs."""
    size = one.shape
    cells = np.repeat(np.repeat(one, 28, 0), 28, 1).reshape(28, size[0], 28, size[1]).mean((1, 3))
    labels, number = scipy.ndimage.label(cells > cells.mean(), EIGHT)
    components = [labels == label for label in range(1, number + 1)]
    whole = [scipy.ndimage.binary_fill_holes(component, FOUR) for component in components]
    both = max(whole, key=lambda each: shoelace(border(each))) & max(components, key=np.sum)
    kept = torch.from_numpy(np.where(both, cells, 0))[None, None]
    return F.interpolate(kept, size, mode="bilinear", align_corners=False)[0, 0]


@pytest.mark.parametrize("method", ["c3_lrp", "c3_lrp_released", "input_x_gradient"])
def test_by_name_it_is_the_definition_on_the_methods_map(method):
    images, targets = inputs()[0][:4], inputs()[1].T[:4]
    propagator = Propagator(network("resnet50"))
    found = compare(propagator, images, targets, [method, f"{method}_contour"])
    for one, ours in zip(found[method].flatten(0, 1), found[f"{method}_contour"].flatten(0, 1), strict=True):
        torch.testing.assert_close(ours, by_hand(one.numpy()), rtol=1e-10, atol=1e-12 * one.abs().max().item())


def test_c1c_keeps_the_component_with_the_highest_value():
    cells = torch.zeros(1, 28, 28, dtype=torch.float64)
    cells[0, 2:12, 2:12] = 1
    cells[0, 20, 20:22] = 3
    square, dot = cells.where(cells == 1, 0), cells.where(cells == 3, 0)
    assert torch.equal(chosen(cells[:, None], "highest")[:, 0], dot)
    assert torch.equal(chosen(cells[:, None])[:, 0], square)
    assert torch.equal(chosen(cells[:, None], "none")[:, 0], cells)
    images, targets = inputs()[0][:2], inputs()[1].T[:2]
    plain, ours = (relmap.explain(network("resnet50"), images, targets, name) for name in ("c3_lrp", "c3_lrp_c1c"))
    assert torch.equal(ours, chosen(plain, "highest"))


def test_where_the_and_matters():
    """The longest component encloses nothing, so that contour and component choose apart: nothing is left."""
    cells = torch.zeros(2, 28, 28, dtype=torch.float64)
    cells[:, 0, :] = 1
    cells[0, 10:14, 10:14] = 1
    cells[1, 20, :] = 1
    found = masks(cells)
    assert found.contour[0].sum() == 16
    assert found.component[0].sum() == 28
    assert [bool(both.any()) for both in found.contour & found.component] == [False, True]
    assert not chosen(cells[None])[0, 0].any()
    # A component within the greater contour's hole is left by the AND.
    cells = torch.zeros(1, 28, 28, dtype=torch.float64)
    cells[0, [0, 27], :] = cells[0, :, [0, 27]] = 1
    cells[0, 5:20, 5:20] = 1
    found = masks(cells)
    assert found.contour.all()
    assert torch.equal(found.contour & found.component, F.pad(torch.ones(1, 15, 15, dtype=torch.bool), (5, 8, 5, 8)))


@pytest.mark.parametrize("value", [0.3, -2.0, 0.0])
@pytest.mark.parametrize("size", [28, 64, 80])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("choice", sorted(CHOICES.keys() - {"none"}))
def test_of_a_constant_map_nothing_is_left(value, size, dtype, choice):
    assert not chosen(torch.full((2, 1, size, size), value, dtype=dtype), choice).any()


def test_maps_that_are_no_numbers_are_not_empty_ones():
    maps = torch.randn(3, 1, 56, 56)
    maps[1, 0, 3, 3], maps[2, 0, 3, 3] = torch.nan, torch.inf
    found = chosen(maps)
    assert found[0].isfinite().all()
    assert found[1:].isnan().all()

    class Wrong(Explainer):
        def __init__(self, model):
            pass

        def __call__(self, images, targets):
            return images.new_full((*targets.shape, *images.shape[2:]), torch.inf)

    model = network("vgg16")
    row = Method("own", "Own", "made up", lambda propagator: contoured(propagator, inner=Wrong(model)))
    with pytest.raises(InputError, match="NaN or infinity"):
        relmap.explain(model, inputs()[0][:1], 0, row)


@pytest.mark.parametrize("choice", CHOICES)
def test_each_map_by_itself_and_whatever_its_scale(choice):
    maps = torch.randn(5, 2, 64, 64, generator=torch.Generator().manual_seed(1))
    maps = F.avg_pool2d(maps, 5, 1, 2)
    together = chosen(maps, choice)
    assert torch.equal(together, torch.cat([chosen(one[None], choice) for one in maps]))
    assert torch.equal(together.flip(0), chosen(maps.flip(0), choice))
    assert torch.equal(4 * together, chosen(4 * maps, choice))
    assert together.dtype == maps.dtype


@pytest.mark.filterwarnings("ignore::relmap.errors.RelevanceWarning")
@pytest.mark.parametrize("inner", ["grad_cam", "saliency", "random", "smoothgrad", "lrp_alpha1_beta0"])
def test_around_any_method(inner):
    """One that shares a forward pass, one that runs the network itself, one that knows nothing of it."""
    images, targets = inputs()[0][:2], inputs()[1].T[:2]
    model = network("vgg16")
    row = Method("own", "Own", "made up", "contour:contoured", {"side": 16}, wraps=inner)
    ours = relmap.explain(model, images, targets, row)
    plain = relmap.explain(model, images, targets, inner)
    assert torch.equal(ours, chosen(plain, side=16))
    assert torch.equal(ours, build(model, row)(images, targets))
    channels = relmap.explain(model, images, targets, row, by_channel=True)
    torch.testing.assert_close(channels, build(model, row).by_channel(images, targets))
    if inner not in ("saliency", "smoothgrad"):  # whose maps are no sums of channels
        torch.testing.assert_close(channels.sum(2), ours)


def test_wrong_settings_are_named():
    model = network("vgg16")
    with pytest.raises(InputError, match="choice 'biggest'"):
        build(model, Method("own", "Own", "made up", "contour:contoured", {"choice": "biggest"}, wraps="saliency"))
    with pytest.raises(InputError, match="side is 0"):
        relmap.explain(model, inputs()[0][:1], 0, "input_x_gradient_contour", side=0)
    with pytest.raises(InputError, match="no contour"):
        row = Method("own", "Own", "made up", "contour:contoured", wraps="constant")
        build(model, row)(torch.rand(1, 3, 5, 5, 5), torch.zeros(1, 1, dtype=torch.long)[0])


def test_an_empty_map_is_said_to_be_one():
    row = Method("own", "Own", "made up", "contour:contoured", wraps="constant")
    with pytest.warns(RelevanceWarning, match="0 everywhere"):
        assert not relmap.explain(network("vgg16"), inputs()[0][:1], 0, row).any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_on_cuda_the_same_bits():
    maps = torch.randn(4, 2, 80, 80)
    for choice in CHOICES:
        cells = reduced(maps)
        assert torch.equal(reduced(maps.cuda()).cpu(), cells)
        inside = CHOICES[choice](cells.flatten(0, 1))
        assert torch.equal(CHOICES[choice](cells.flatten(0, 1).cuda()).cpu(), inside)
