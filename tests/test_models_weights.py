"""Published weights: the file's name vouches for its content."""

import hashlib

import pytest
import torch
from relmap.errors import InputError
from relmap.models import weights
from relmap.models.zoo import build


@pytest.fixture
def narrow(monkeypatch):
    """The same code on a network small enough for a test."""
    monkeypatch.setattr(weights, "build", lambda name, classes, device: build(name, classes, 0.125, 64, device=device))
    return build("resnet50", 10, 0.125, 64, seed=3).eval()


def published(folder, content):
    plain = folder / "resnet50.pth"
    torch.save(content, plain)
    digest = hashlib.sha256(plain.read_bytes()).hexdigest()
    return plain.rename(folder / f"resnet50-{digest[:8]}.pth")


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
