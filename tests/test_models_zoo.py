"""The zoo against torchvision and against the reference networks' logits."""

from pathlib import Path

import numpy as np
import pytest
import relmap
import torch
from relmap.catalogue.models import MODELS
from relmap.errors import InputError
from relmap.explainers.cam import last_feature_map
from relmap.models.card import load_weights
from relmap.models.zoo import architecture_of, build, new_last_layer
from relmap.network.score_maps import pooled_scores
from relmap.propagation import Propagator
from relmap.torchvision_shim import torchvision
from torch import nn

# What is trained several times has the architecture of its row.
MADE = [name for name, row in MODELS.items() if row.maker and not row.training_of]
CONVOLUTIONAL = [name for name in MADE if not MODELS[name].one_size]  # tests/test_models_vit.py has the others
NETS = Path(__file__).parent / "reference" / "nets"


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_reference_logits(architecture):
    model = build(architecture, 10, 0.125, 64, device="meta")
    load_weights(model, NETS / f"{architecture}s.safetensors")
    inputs = torch.from_numpy(np.load(NETS / "inputs.npz")["normalised"])
    expected = np.load(NETS / "logits.npz")[f"{architecture}s"]
    with torch.no_grad():
        np.testing.assert_allclose(model.eval()(inputs).numpy(), expected, atol=1e-4)


OF_TORCHVISION = [name for name in MADE if hasattr(torchvision.models, name)]


@pytest.mark.parametrize("architecture", OF_TORCHVISION)
def test_full_width_is_torchvision(architecture):
    options = {"aux_logits": False, "init_weights": False} if architecture == "inception_v3" else {}
    with torch.device("meta"):
        theirs = getattr(torchvision.models, architecture)(**options)
    ours = build(architecture, 1000, device="meta")
    assert [(n, type(m)) for n, m in ours.named_modules()] == [(n, type(m)) for n, m in theirs.named_modules()]
    assert {n: v.shape for n, v in ours.state_dict().items()} == {n: v.shape for n, v in theirs.state_dict().items()}


@pytest.mark.parametrize("architecture", CONVOLUTIONAL)
@pytest.mark.parametrize(("width", "size"), [(0.125, 64), (0.25, 96), (0.3, 32)])
def test_narrow_networks_keep_the_layer_names(architecture, width, size):
    size = max(size, architecture_of(architecture).smallest)
    full = build(architecture, 1000, device="meta")
    narrow = build(architecture, 7, width, size)
    assert [(n, type(m)) for n, m in narrow.named_modules()] == [(n, type(m)) for n, m in full.named_modules()]
    with torch.no_grad():
        assert pooled_scores(narrow.eval()(torch.rand(2, 3, size, size))).shape == (2, 7)
    assert not any(getattr(module, "inplace", False) for module in narrow.modules())
    row = architecture_of(architecture)
    for name, conv in full.named_modules():
        # What a network adds to another has widths of its own.
        if isinstance(conv, nn.Conv2d) and not name.startswith((row.head, *row.fresh)):
            assert narrow.get_submodule(name).out_channels == max(1, round(conv.out_channels * width)), name


def test_branches_add_up_at_any_width():
    """0.3 of the sum is not the sum of 0.3 of each."""
    dense, inception = build("densenet121", 4, 0.3, 64), build("inception_v3", 4, 0.3, 75)
    assert dense.features.denseblock1.denselayer2.conv1.in_channels == 19 + 10  # round(19.2) + round(9.6)
    mixed = inception.Mixed_5b
    branches = (mixed.branch1x1, mixed.branch5x5_2, mixed.branch3x3dbl_3, mixed.branch_pool)
    assert inception.Mixed_5c.branch1x1.conv.in_channels == sum(each.conv.out_channels for each in branches) == 77


# Where AE and Grad-CAM start: AlexNet after its last pool, DenseNet before the final ReLU, Inception at Mixed_7c.
LAST_MAPS = {
    "abn_resnet50": "layer4.2.relu_2",
    "abn_resnet50_official": "layer4.2.relu_2",
    "vgg11": "features.19",
    "vgg16": "features.29",
    "vgg19": "features.35",
    "resnet18": "layer4.1.relu_1",
    "resnet50": "layer4.2.relu_2",
    "c3_resnet50": "layer4.2.relu_2",
    "resnet50_ram": "layer4.2.relu_2",
    "resnet101": "layer4.2.relu_2",
    "alexnet": "features.12",
    "densenet121": "features.norm5",
    "inception_v3": "Mixed_7c.cat_2",
    "torchray_vgg16": "features.29",
    "torchray_resnet50": "layer4.2.relu_2",
    "vgg16_sliding": "features.29",
    "torchray_vgg16_pooled": "features.29",
    "resnet50_squash": "layer4.2.relu_2",
    "densenet121_squash": "features.norm5",
    "inception_v3_squash": "Mixed_7c.cat_2",
    "vit_base_patch16": "encoder.layers.encoder_layer_4.add_1",
    "vit_base_patch32": "encoder.layers.encoder_layer_4.add_1",
    "vit_base_patch16_384": "encoder.layers.encoder_layer_4.add_1",
}


@pytest.mark.parametrize("architecture", MADE)
def test_narrow_networks_trace_and_have_maps(architecture):
    size = {"alexnet": 96, "inception_v3": 112, "inception_v3_squash": 112}.get(architecture, 64)
    model = build(architecture, 5, 0.125, size, seed=1).eval().requires_grad_(False)
    _lively(model)
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(0))
    propagator = Propagator(model)
    with torch.no_grad():
        torch.testing.assert_close(propagator.forward(images).logits, model(images), rtol=1e-4, atol=1e-4)
    assert last_feature_map(propagator.graph) == LAST_MAPS[architecture]
    for method in ("attribution_equilibrium", "grad_cam"):
        maps = relmap.explain(propagator, images, torch.tensor([[0, 1, 2, 3, 4]] * 2), method)
        assert maps.shape == (2, 5, size, size) and maps.isfinite().all() and maps.any(), method


def _lively(model: nn.Module) -> None:
    """The batch norms that start residual blocks at zero would leave them out."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=torch.Generator().manual_seed(2))


def test_dropout_is_present():
    assert sum(isinstance(m, nn.Dropout) for m in build("vgg16", 5, 0.125, 64).modules()) == 2


def test_seed_decides_the_weights():
    def first(seed):
        return build("resnet50", 5, 0.125, 64, seed=seed).conv1.weight

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50", "densenet121", "torchray_vgg16"])
def test_new_last_layer(architecture):
    model = build(architecture, 5, 0.125, 64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    new_last_layer(model, architecture, 9, seed=3)
    last = architecture_of(architecture).last
    assert len(model.get_submodule(last).weight) == 9
    rest = [name for name in before if not name.startswith(f"{last}.")]
    assert all(torch.equal(before[name], model.state_dict()[name]) for name in rest)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vgg17", 10), "vgg17.*resnet50, .*vgg16"),
        (("vgg16", 0), "classes"),
        (("vgg16", 10, 0.0), "width"),
        (("resnet50", 10, 0.125, 16), "input_size is 16.*at least 32"),
        (("inception_v3", 10, 0.125, 64), "input_size is 64.*at least 75"),
    ],
)
def test_impossible_requests(arguments, message):
    with pytest.raises(InputError, match=message):
        build(*arguments)
