"""Vision transformers: their sizes, their initial weights, and weights under timm's and Flax's names."""

import importlib

import numpy as np
import pytest
import torch
from relmap.catalogue.models import MODELS
from relmap.errors import InputError
from relmap.models import weights
from relmap.models.timm import as_torchvision, from_flax
from relmap.models.zoo import build
from relmap.torchvision_shim import torchvision
from safetensors.torch import save_file

SMALL = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 7}


def shapes(model):
    return {name: tuple(value.shape) for name, value in model.state_dict().items()}


@pytest.mark.parametrize(
    ("name", "maker", "size"),
    [
        ("vit_base_patch16", torchvision.models.vit_b_16, 224),
        ("vit_base_patch32", torchvision.models.vit_b_32, 224),
        ("vit_base_patch16_384", torchvision.models.vit_b_16, 384),
    ],
)
def test_full_width_is_torchvision_s(name, maker, size):
    with torch.device("meta"):
        theirs = maker(image_size=size)
    ours = build(name, 1000, 1.0, size, device="meta")
    assert shapes(ours) == shapes(theirs)
    assert MODELS[name].one_size


@pytest.mark.parametrize(
    ("name", "size", "patch"),
    [("vit_base_patch16", 64, 8), ("vit_base_patch32", 64, 16), ("vit_base_patch16_384", 96, 8)],
)
def test_narrow_sizes(name, size, patch):
    model = build(name, 5, 0.125, size)
    assert (model.patch_size, model.hidden_dim, model.mlp_dim) == (patch, 96, 384)
    assert len(model.encoder.layers) == 6
    assert {layer.num_heads for layer in model.encoder.layers} == {3}


@pytest.fixture(scope="module")
def narrow():
    return build("vit_base_patch16", 24, 0.125, 64, seed=3).requires_grad_(False)


def test_the_seed_decides(narrow):
    again, other = (build("vit_base_patch16", 24, 0.125, 64, seed=seed).state_dict() for seed in (3, 4))
    for name, value in narrow.state_dict().items():
        assert torch.equal(value, again[name])
    assert not torch.equal(other["heads.head.weight"], again["heads.head.weight"])


def test_initial_weights(narrow):
    """Torchvision's laws; a last layer that is not 0."""
    for layer in narrow.encoder.layers:
        attention = layer.self_attention
        for weight in (attention.in_proj_weight, attention.out_proj.weight, layer.mlp[0].weight, layer.mlp[3].weight):
            limit = (6 / sum(weight.shape)) ** 0.5
            assert 0.98 * limit < weight.abs().max() <= limit
        assert not attention.in_proj_bias.any()
        assert not layer.mlp[0].bias.any()
        assert torch.equal(layer.ln_1.weight, torch.ones(96))
    assert float(narrow.encoder.pos_embedding.std()) == pytest.approx(0.02, rel=0.05)
    assert float(narrow.heads.head.weight.std()) == pytest.approx(0.02, rel=0.05)
    assert float(narrow.conv_proj.weight.std()) == pytest.approx(192**-0.5, rel=0.05)


def timm_model(seed=0, **options):
    timm = importlib.import_module("timm")  # after relmap's torchvision
    torch.manual_seed(seed)
    model = timm.create_model("vit_base_patch16_224", pretrained=False, **{**SMALL, **options}).eval()
    for value in model.parameters():  # norms and biases, too
        value.data += 0.1 * torch.randn_like(value)
    return model


def ours_of(state):
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 3, "hidden_dim": 48, "mlp_dim": 192}
    model = torchvision.models.VisionTransformer(**sizes, num_classes=7).eval()
    model.load_state_dict(state)
    return model


@torch.no_grad()
def test_timm_s_weights_give_timm_s_logits():
    theirs, images = timm_model().double(), torch.randn(4, 3, 32, 32, dtype=torch.float64)
    ours = ours_of(as_torchvision(theirs.state_dict())).double()
    torch.testing.assert_close(ours(images), theirs(images), rtol=1e-9, atol=1e-9)
    single = ours_of(as_torchvision(theirs.float().state_dict()))
    torch.testing.assert_close(single(images.float()), theirs(images.float()), rtol=1e-5, atol=1e-5)


def test_other_networks_keep_their_names():
    state = torchvision.models.resnet18(num_classes=3).state_dict()
    assert as_torchvision(state).keys() == state.keys()


def flax_arrays(width=48, heads=3, depth=2, classes=7, patch=8, tokens=17):
    """Random arrays with the names and shapes of Google's files."""
    draw = np.random.default_rng(0)

    def array(*shape):
        return draw.normal(0, 0.2, shape).astype(np.float32)

    found = {
        "cls": array(1, 1, width),
        "embedding/kernel": array(patch, patch, 3, width),
        "embedding/bias": array(width),
        "Transformer/posembed_input/pos_embedding": array(1, tokens, width),
        "Transformer/encoder_norm/scale": array(width),
        "Transformer/encoder_norm/bias": array(width),
        "head/kernel": array(width, classes),
        "head/bias": array(classes),
    }
    for block in range(depth):
        here, part = f"Transformer/encoderblock_{block}", width // heads
        for norm in ("LayerNorm_0", "LayerNorm_2"):
            found |= {f"{here}/{norm}/scale": array(width), f"{here}/{norm}/bias": array(width)}
        for name in ("query", "key", "value"):
            found[f"{here}/MultiHeadDotProductAttention_1/{name}/kernel"] = array(width, heads, part)
            found[f"{here}/MultiHeadDotProductAttention_1/{name}/bias"] = array(heads, part)
        found[f"{here}/MultiHeadDotProductAttention_1/out/kernel"] = array(heads, part, width)
        found[f"{here}/MultiHeadDotProductAttention_1/out/bias"] = array(width)
        for name, inputs, outputs in (("Dense_0", width, 4 * width), ("Dense_1", 4 * width, width)):
            found[f"{here}/MlpBlock_3/{name}/kernel"] = array(inputs, outputs)
            found[f"{here}/MlpBlock_3/{name}/bias"] = array(outputs)
    return found


@torch.no_grad()
def test_google_s_files_as_timm_reads_them(tmp_path):
    arrays = flax_arrays()
    np.savez(tmp_path / "weights.npz", **arrays)
    theirs = timm_model()
    theirs.load_pretrained(str(tmp_path / "weights.npz"))
    state = from_flax(arrays)
    assert state.keys() == theirs.state_dict().keys()
    for name, value in theirs.state_dict().items():
        assert torch.equal(state[name], value), name


@pytest.fixture
def files(tmp_path, monkeypatch):
    """Weights of a small network in the three forms, and the logits that they must give."""
    monkeypatch.setattr(
        weights,
        "build",
        lambda name, classes, device, input_size=224: ours_of_size(classes, device, input_size),
    )
    arrays = flax_arrays()
    np.savez(tmp_path / "google.npz", **arrays)
    state = from_flax(arrays)
    save_file(state, tmp_path / "timm.safetensors")
    torch.save({"state_dict": state}, tmp_path / "timm.pth")
    images = torch.randn(2, 3, 32, 32)
    return tmp_path, images, ours_of(as_torchvision(state))(images).detach()


def ours_of_size(classes, device, size):
    sizes = {"patch_size": 8, "num_layers": 2, "num_heads": 3, "hidden_dim": 48, "mlp_dim": 192}
    with torch.device(device):
        return torchvision.models.VisionTransformer(image_size=size, **sizes, num_classes=classes)


@pytest.mark.parametrize("name", ["google.npz", "timm.safetensors", "timm.pth"])
def test_files_of_weights(files, name):
    folder, images, expected = files
    model = weights.load_own(folder / name, "vit_base_patch16", 32)
    torch.testing.assert_close(model(images), expected, rtol=1e-5, atol=1e-6)
    with pytest.raises(InputError, match="do not fit the network"):
        weights.load_own(folder / name, "vit_base_patch16", 64)  # other positions


def test_npz_is_read_without_pickle(tmp_path):
    np.savez(tmp_path / "evil.npz", **{"embedding/bias": np.array([{}], dtype=object)})
    with pytest.raises(InputError, match="not a file of weights"):
        weights.load_own(tmp_path / "evil.npz", "vit_base_patch16")
    np.savez(tmp_path / "other.npz", a=np.zeros(2))
    with pytest.raises(InputError, match="not a file of weights"):
        weights.load_own(tmp_path / "other.npz", "vit_base_patch16")
