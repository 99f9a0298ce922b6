"""Networks written to disk and read back."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from relmap.data.images import Preprocessing
from relmap.errors import InputError
from relmap.models import ModelCard, build, load_model, save_model
from relmap.models.card import card_path, read_card

CARD = ModelCard(
    "resnet50", 4, 0.125, 64, Preprocessing(64, 64).to_dict(), "birds", ("a", "b", "c", "d"), {"test": 0.5}, "a test"
)


@pytest.fixture
def saved(tmp_path):
    model = build("resnet50", 4, 0.125, 64, seed=5)
    path = tmp_path / "models" / "net.safetensors"
    return model, path, save_model(model, path, CARD)


def test_round_trip(saved):
    model, path, card = saved
    loaded, read = load_model(path)
    assert read == card == read_card(path)
    assert read.class_names == CARD.class_names
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(loaded(images), model.eval()(images))
    assert not loaded.training
    assert sorted(p.name for p in path.parent.iterdir()) == ["net.json", "net.safetensors"]


def test_the_same_network_is_the_same_bytes(saved, tmp_path):
    model, path, _ = saved
    save_model(model, tmp_path / "again.safetensors", CARD)
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_altered_weights_are_refused(saved):
    _, path, _ = saved
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"net\.safetensors: checksum .* altered"):
        load_model(path)


def test_a_card_that_cannot_be_written_leaves_the_old_weights_with_their_card(saved):
    model, path, card = saved
    other = build("resnet50", 4, 0.125, 64, seed=6)
    with pytest.raises(InputError, match=r"net\.json: card: `accuracies\.test` is .*float32"):
        save_model(other, path, replace(CARD, accuracies={"test": np.float32(0.5)}))
    loaded, read = load_model(path)
    assert read == card and torch.equal(loaded.fc.weight, model.fc.weight)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"classes": 5}, r"fc\.bias: \(4,\) where the network has \(5,\)"),
        ({"width": 0.25}, "do not fit"),
        ({"architecture": "vgg16"}, "do not fit"),
        ({"architecture": "lenet"}, "unknown architecture 'lenet'"),
        ({"colour": "blue"}, "not a model card"),
    ],
)
def test_a_card_that_lies(saved, change, message):
    _, path, _ = saved
    content = json.loads(card_path(path).read_text())
    card_path(path).write_text(json.dumps({**content, **change}))
    with pytest.raises(InputError, match=message):
        load_model(path)


def test_missing_files(saved):
    _, path, _ = saved
    with pytest.raises(InputError, match=r"nothing\.safetensors: no such"):
        load_model(path.with_name("nothing.safetensors"))
    card_path(path).unlink()
    with pytest.raises(InputError, match=r"net\.json: no such"):
        load_model(path)
