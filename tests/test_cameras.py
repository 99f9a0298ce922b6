"""CAMERAS: the authors' code on VGG, and a statement image by image, size by size, through autograd."""

import pytest
import relmap
import torch
import torch.nn.functional as F
from reference_nets import inputs, network, vectors
from relmap.errors import InputError
from relmap.explainers import cameras
from relmap.explainers.cameras import CAMERAS, SCALES
from relmap.propagation import Propagator
from torch import Tensor, nn

SCALES_OF_VECTORS = (1, 1.5, 2)


@pytest.fixture(scope="module")
def propagators():
    return {name: Propagator(network(name)) for name in ("vgg16", "resnet50")}


def test_by_the_authors_code(propagators):
    """VisMIL/CAMERAS with a class of interest: all sizes count."""
    images, targets = inputs()
    theirs = torch.from_numpy(vectors("lrp/cameras_vgg16s.npz")["CAMERAS"]).double()
    ours = relmap.explain(propagators["vgg16"], images, targets.T, "cameras_ucag", scales=SCALES_OF_VECTORS)
    assert (ours - theirs).abs().max() < 1e-7
    assert theirs.flatten(2).amax(2).min() == 1


def one(model: nn.Module, layer: nn.Module, image: Tensor, target: int, scales: tuple, agreeing: bool) -> Tensor:
    features, gradients, predicted = [], [], []
    for scale in scales:
        size = tuple(round(scale * side) for side in image.shape[1:])
        shown = image[None] if scale == 1 else F.interpolate(image[None], size, mode="bicubic", align_corners=False)
        kept = []
        handle = layer.register_forward_hook(lambda _, __, output, kept=kept: kept.append(output))
        logits = model(shown.requires_grad_(True) if not shown.requires_grad else shown)
        handle.remove()
        gradients.append(torch.autograd.grad(logits[0, target], kept[0])[0])
        features.append(kept[0].detach())
        predicted.append(int(logits.argmax()))
    chosen = [
        index
        for index in range(len(scales))
        if not agreeing or predicted[0] != target or predicted[index] == predicted[0]
    ]
    large = [
        sum(F.interpolate(values[index], image.shape[1:], mode="bilinear") for index in chosen) / len(chosen)
        for values in (features, gradients)
    ]
    map = (large[0] * large[1]).sum((0, 1)).clamp(min=0)
    span = map.max() - map.min()  # where nothing is positive, the authors divide by 0
    return (map - map.min()) / span if span > 0 else map


@pytest.mark.parametrize(("name", "layer"), [("vgg16", "features.29"), ("resnet50", "layer4")])
@pytest.mark.parametrize(("method", "agreeing"), [("cameras", True), ("cameras_ucag", False)])
def test_by_its_definition(propagators, name, layer, method, agreeing):
    images, targets = inputs()
    images = images[:4, :, :64, :56]
    found = relmap.explain(propagators[name], images, targets.T[:4], method, scales=SCALES_OF_VECTORS)
    model = network(name)
    for module in model.modules():
        if isinstance(module, nn.ReLU):
            module.inplace = False
    for n in range(4):
        for k in range(2):
            target = int(targets[k, n])
            expected = one(model, model.get_submodule(layer), images[n], target, SCALES_OF_VECTORS, agreeing)
            torch.testing.assert_close(found[n, k], expected, rtol=0, atol=1e-9)


def test_sizes_of_another_prediction_are_left_out(propagators):
    """On the reference images some sizes do predict another class, and none of it changes other targets' maps."""
    images, targets = inputs()
    given = {"scales": SCALES_OF_VECTORS}
    own, every = (
        relmap.explain(propagators["vgg16"], images, targets.T, method, **given)
        for method in ("cameras", "cameras_ucag")
    )
    changed = (own - every).abs().flatten(2).amax(2) > 1e-3
    assert 0 < changed[:, 0].sum() < 8 and not changed[:, 1].any()


def test_channels_in_turns_and_images_by_size_give_the_same(propagators, monkeypatch):
    images, targets = inputs()
    given = {"scales": (1, 2), "batch_size": 8}
    whole = relmap.explain(propagators["vgg16"], images, targets.T, "cameras", **given)
    monkeypatch.setattr(cameras, "ENTRIES", 1)
    torch.testing.assert_close(relmap.explain(propagators["vgg16"], images, targets.T, "cameras", **given), whole)
    alone = relmap.explain(propagators["vgg16"], images, targets.T, "cameras", scales=(1, 2), batch_size=1)
    torch.testing.assert_close(alone, whole, rtol=0, atol=1e-10)


def test_sizes_are_the_authors():
    assert [round(scale * 224) for scale in SCALES] == [224, 324, 424, 524, 624, 724, 824, 924]


def test_an_empty_map_stays_empty():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)
    ).double()
    nn.init.constant_(model[4].weight, -1.0)
    with pytest.warns(UserWarning, match="0 everywhere"):
        maps = relmap.explain(model, inputs()[0][:2], 0, "cameras", scales=(1, 1.5))
    assert (maps == 0).all()


@pytest.mark.parametrize("scales", [(), (1.5, 2), (1, 0)])
def test_scales_begin_with_the_image(propagators, scales):
    with pytest.raises(InputError, match="the first is 1"):
        CAMERAS(propagators["vgg16"], scales=scales)


def test_a_network_of_one_size_is_refused():
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(4 * 31 * 31, 2)
    ).double()
    with pytest.raises(InputError, match="does not take images of 92 x 92 pixels"):
        relmap.explain(model, inputs()[0][:1], 0, "cameras", scales=(1, 1.4375))
