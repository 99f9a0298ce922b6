"""The zoo against torchvision and against the reference networks' logits."""

from pathlib import Path

import numpy as np
import pytest
import torch
from relmap.catalogue.models import MODELS
from relmap.errors import InputError
from relmap.models.card import load_weights
from relmap.models.zoo import architecture_of, build, new_last_layer
from relmap.torchvision_shim import torchvision
from torch import nn

MADE = [name for name, row in MODELS.items() if row.maker]
NETS = Path(__file__).parent / "reference" / "nets"


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_reference_logits(architecture):
    model = build(architecture, 10, 0.125, 64, device="meta")
    load_weights(model, NETS / f"{architecture}s.safetensors")
    inputs = torch.from_numpy(np.load(NETS / "inputs.npz")["normalised"])
    expected = np.load(NETS / "logits.npz")[f"{architecture}s"]
    with torch.no_grad():
        np.testing.assert_allclose(model.eval()(inputs).numpy(), expected, atol=1e-4)


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_full_width_is_torchvision(architecture):
    with torch.device("meta"):
        theirs = getattr(torchvision.models, architecture)()
    ours = build(architecture, 1000, device="meta")
    assert [(n, type(m)) for n, m in ours.named_modules()] == [(n, type(m)) for n, m in theirs.named_modules()]
    assert {n: v.shape for n, v in ours.state_dict().items()} == {n: v.shape for n, v in theirs.state_dict().items()}


@pytest.mark.parametrize("architecture", MADE)
@pytest.mark.parametrize(("width", "size"), [(0.125, 64), (0.25, 96), (0.3, 32)])
def test_narrow_networks_keep_the_layer_names(architecture, width, size):
    full = build(architecture, 1000, device="meta")
    narrow = build(architecture, 7, width, size)
    assert [n for n, _ in narrow.named_modules()] == [n for n, _ in full.named_modules()]
    with torch.no_grad():
        assert narrow.eval()(torch.rand(2, 3, size, size)).shape == (2, 7)
    assert not any(getattr(module, "inplace", False) for module in narrow.modules())


def test_dropout_is_present():
    assert sum(isinstance(m, nn.Dropout) for m in build("vgg16", 5, 0.125, 64).modules()) == 2


def test_seed_decides_the_weights():
    def first(seed):
        return build("resnet50", 5, 0.125, 64, seed=seed).conv1.weight

    assert torch.equal(first(1), first(1))
    assert not torch.equal(first(1), first(2))


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_new_last_layer(architecture):
    model = build(architecture, 5, 0.125, 64)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    new_last_layer(model, architecture, 9, seed=3)
    last = architecture_of(architecture).last
    assert model.get_submodule(last).out_features == 9
    rest = [name for name in before if not name.startswith(f"{last}.")]
    assert all(torch.equal(before[name], model.state_dict()[name]) for name in rest)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("vgg17", 10), "vgg17.*resnet50, vgg16"),
        (("vgg16", 0), "classes"),
        (("vgg16", 10, 0.0), "width"),
        (("resnet50", 10, 0.125, 16), "input_size"),
    ],
)
def test_impossible_requests(arguments, message):
    with pytest.raises(InputError, match=message):
        build(*arguments)
