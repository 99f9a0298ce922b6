"""Published weights: the file's name vouches for its content."""

import hashlib
import re
import runpy
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from relmap.catalogue.models import MODELS
from relmap.data.images import Preprocessing
from relmap.data.retrieve.download import read_table
from relmap.errors import InputError
from relmap.models import load_model, weights
from relmap.models.sources import preprocessing_of
from relmap.models.weights import load_own
from relmap.models.zoo import build
from relmap.torchvision_shim import torchvision
from safetensors.torch import save_file


@pytest.fixture
def narrow(monkeypatch):
    """The same code on a network small enough for a test."""
    monkeypatch.setattr(weights, "build", lambda name, classes, device: build(name, classes, 0.125, 64, device=device))
    return build("resnet50", 10, 0.125, 64, seed=3).eval()


def published(folder, content, name="resnet50"):
    plain = folder / f"{name}.pth"
    torch.save(content, plain)
    with open(plain, "rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return plain.rename(folder / f"{name}-{digest[:8]}.pth")


def as_distributed(name, state):
    """What the file holds: DenseNet's has names with a dot, Inception's the classifier that served training."""
    if name == "densenet121":
        state = {re.sub(r"(denselayer\d+\.(?:norm|conv))([12]\.)", r"\1.\2", key): v for key, v in state.items()}
        assert "features.denseblock1.denselayer1.norm.1.running_mean" in state
    assert name != "inception_v3" or any(key.startswith("AuxLogits") for key in state)
    return {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}


@pytest.mark.parametrize("name", ["alexnet", "resnet18", "densenet121", "inception_v3"])
def test_torchvision_s_files_at_full_width(name, tmp_path):
    """Random weights in the files' form give torchvision's logits, of pictures that are normalised as the row says."""
    torch.manual_seed(0)
    options = {"init_weights": False, "transform_input": True} if name == "inception_v3" else {}
    theirs = getattr(torchvision.models, name)(num_classes=10, **options).eval()
    row = MODELS[name]
    path = published(tmp_path, as_distributed(name, theirs.state_dict()), row.published.get("", name))
    ours = weights.load_published(path, name, 10)
    pixels = (torch.rand(2, 3, 128, 128) * 255).byte()
    with torch.no_grad():
        expected = theirs(Preprocessing(128, 128).normalise(pixels))
        found = ours(preprocessing_of(row.seen, 128, 128).normalise(pixels))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


def test_every_published_model_has_a_file_in_the_table():
    table = list(read_table(Path(__file__).parents[1] / "resources" / "downloads.csv").values())
    for name, row in MODELS.items():
        if not row.maker or name == "vgg16_sliding" or row.trainings or row.training_of or row.form_of or row.fresh:
            continue
        own = "torchray" if row.initial else "torchvision"
        for key, stem in row.published.items() or [("", name)]:
            publisher = "timm" if key == "timm" else own
            file = re.compile(re.escape(stem) + r"(-[0-9a-f]{8})?\.(pth|pth\.tar|safetensors)")
            found = [each for each in table if each.dataset == f"{publisher}_models" and file.fullmatch(each.name)]
            assert len(found) == 1, stem


@pytest.mark.parametrize("counters", [True, False])
def test_reads_files_with_and_without_batch_counters(narrow, tmp_path, counters):
    state = {n: v for n, v in narrow.state_dict().items() if counters or not n.endswith("num_batches_tracked")}
    model = weights.load_published(published(tmp_path, state), "resnet50", 10)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(model(images), narrow(images))
    assert not model.training


def test_a_damaged_file(narrow, tmp_path):
    path = published(tmp_path, narrow.state_dict())
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"resnet50-.*checksum begins with"):
        weights.load_published(path, "resnet50", 10)


@pytest.mark.parametrize(
    ("content", "message"),
    [({"fc.weight": torch.zeros(2)}, "do not fit"), ([1, 2], "no state dict"), ({"epoch": 3}, "no state dict")],
)
def test_other_content(narrow, tmp_path, content, message):
    with pytest.raises(InputError, match=message):
        weights.load_published(published(tmp_path, content), "resnet50", 10)


def test_not_torch_at_all(tmp_path):
    content = b"<html>404 Not Found</html>"
    path = tmp_path / f"vgg16-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match="not a file of weights"):
        weights.load_published(path, "vgg16")


def test_renamed_or_missing(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        weights.load_published(tmp_path / "vgg16-397923af.pth", "vgg16")
    (tmp_path / "vgg16.pth").write_bytes(b"x")
    with pytest.raises(InputError, match="does not end in a checksum"):
        weights.load_published(tmp_path / "vgg16.pth", "vgg16")


ROWS = """
import timm
from relmap.catalogue.models import HALVES, Model

def tiny(classes, width, input_size):
    return timm.create_model("test_vit", num_classes=classes, img_size=input_size)

MODELS = [Model("tiny_vit", "Tiny ViT", "timm", tiny, head="head", last="head", one_size=True, seen=HALVES)]
"""


def test_a_row_of_one_s_own_with_timm_s_network_and_names(tmp_path):
    import timm

    torch.manual_seed(0)
    model = timm.create_model("test_vit", num_classes=3, img_size=32).eval()
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "rows.py").write_text(ROWS)
    images = torch.rand(1, 3, 32, 32)
    loaded = load_own(tmp_path / "model.safetensors", f"{tmp_path / 'rows.py'}:tiny_vit", 32)
    assert torch.equal(loaded(images), model(images))


def test_weights_that_only_lend_their_layers_need_no_pictures(tmp_path):
    """The workflow's script without a manifest: the card says how many outputs, and claims no accuracy."""
    lent = build("resnet18", 1000, 1.0, 224, seed=3)
    file = published(tmp_path, lent.state_dict(), "resnet18")
    log, outputs = tmp_path / "log.txt", {name: str(tmp_path / name) for name in ("history", "m.safetensors")}
    given = {
        "log": [str(log)],
        "threads": 1,
        "resources": SimpleNamespace(gpu=0),
        "wildcards": SimpleNamespace(dataset="imagenet", model="resnet18"),
        "input": SimpleNamespace(published=file, manifest=[]),
        "output": SimpleNamespace(history=outputs["history"], weights=outputs["m.safetensors"]),
        "params": SimpleNamespace(
            model={
                "architecture": "resnet18",
                "input_size": 224,
                "resize": 256,
                "width": 1.0,
                "weights": "torchvision",
                "seen": dict(MODELS["resnet18"].seen),
            },
            device="cpu",
            batch_size=8,
            multi_label=False,
        ),
    }
    runpy.run_path(
        str(Path(__file__).parents[1] / "workflow/scripts/convert_weights.py"), {"snakemake": SimpleNamespace(**given)}
    )
    model, card = load_model(outputs["m.safetensors"])
    assert (card.classes, card.dataset, card.class_names, card.accuracies) == (1000, "imagenet", (), {})
    assert torch.equal(model.fc.weight, lent.fc.weight)
    assert "not measured: the run shows nothing of imagenet" in log.read_text()
