"""``hf:ORG/NAME`` against a local server that answers as the Hugging Face Hub does."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from relmap.data.images import Preprocessing
from relmap.errors import InputError
from relmap.inspection.explanations import Explanation
from relmap.models.hub import hub_network
from relmap.models.named import network_named
from relmap.torchvision_shim import torchvision  # noqa: F401  before timm
from safetensors.torch import save

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class Hub(BaseHTTPRequestHandler):
    """Serves ``server.repositories``, name -> file -> bytes; weights lie elsewhere, behind a redirect."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        server, url = self.server, urlsplit(self.path)
        server.asked.append(url.path)
        if url.path.startswith("/api/models/"):
            name, _, revision = url.path.removeprefix("/api/models/").partition("/revision/")
            files = server.repositories.get(name)
            if files is None or unquote(revision) not in ("main", "refs/pr/1"):
                self.answer(404, b'{"error":"Repository not found"}')
            else:
                assert parse_qs(url.query) == {"blobs": ["true"]}
                siblings = [sibling(file, content) for file, content in files.items()]
                self.answer(200, json.dumps({"id": name, "sha": COMMIT, "siblings": siblings}).encode())
            return
        name, _, rest = url.path[1:].partition("/resolve/")
        if name.startswith("cdn/"):
            self.answer(200, server.repositories[name.removeprefix("cdn/")]["model.safetensors"])
            return
        commit, _, file = rest.partition("/")
        assert commit == COMMIT
        if file == "model.safetensors":
            self.send_response(302)
            self.send_header("Location", f"/cdn/{name}")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        self.answer(200, server.swapped.get(file, server.repositories[name][file]))

    def answer(self, status, body):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def sibling(file, content):
    name = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
    entry = {"rfilename": file, "size": len(content), "blobId": name}
    if file.endswith(".safetensors"):
        entry["lfs"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 134}
    return entry


@pytest.fixture
def hub(tmp_path, monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.repositories, server.asked, server.swapped = {}, [], {}
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}/")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    yield server
    server.shutdown()
    server.server_close()


def of_timm(architecture="test_resnet", classes=5, **published):
    """A network of timm with random weights, and its repository as timm's own export writes it."""
    import timm

    torch.manual_seed(0)
    model = timm.create_model(architecture, num_classes=classes).eval()
    seen = {"input_size": [3, 64, 64], "mean": [0.5, 0.4, 0.3], "std": [0.2, 0.2, 0.1], "crop_pct": 0.9, **published}
    config = {
        "architecture": architecture,
        "num_classes": classes,
        "num_features": model.num_features,
        "pretrained_cfg": {"tag": "mine", "custom_load": False, "num_classes": classes, "new_key": 1, **seen},
        "label_names": [f"word {number}" for number in range(classes)],
    }
    files = {"config.json": json.dumps(config).encode(), "model.safetensors": save(model.state_dict())}
    return model, {"README.md": b"---\n---\n", **files}


def test_a_network_of_timm(hub, tmp_path):
    model, hub.repositories["timm/tiny.mine"] = of_timm()
    named = network_named("hf:timm/tiny.mine")
    images = torch.rand(2, 3, 64, 64)
    assert torch.equal(named.model(images), model(images))
    assert named.preprocessing == Preprocessing(71, 64, (0.5, 0.4, 0.3), (0.2, 0.2, 0.1))
    assert named.weights == f"hf:timm/tiny.mine@{COMMIT[:12]}" and named.class_names[1] == "word 1"
    assert not named.model.training and named.model.input_range[1][0] == pytest.approx(2.5)
    assert hub.asked[0] == "/api/models/timm/tiny.mine/revision/main"
    before = len(hub.asked)
    network_named("hf:timm/tiny.mine")
    assert len(hub.asked) == before, "a second use asks nobody"
    network_named("hf:timm/tiny.mine@refs/pr/1")
    assert hub.asked[before].endswith("/revision/refs%2Fpr%2F1")


def test_its_photographs_are_explained_by_the_names_of_its_classes(hub, tmp_path):
    _, hub.repositories["me/tiny"] = of_timm(crop_mode="squash")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 40, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    explained = Explanation.of("hf:me/tiny", tmp_path / "a.png", "word 3", ["saliency"])
    assert explained.targets.tolist() == [[3]] and explained["saliency"].shape == (1, 1, 64, 64)
    assert explained.preprocessing["fit"] == "squash" and explained.preprocessing["resize"] == 64


def test_a_folder_in_place_of_the_hub(hub, tmp_path):
    model, files = of_timm("test_vit", input_size=[3, 160, 160], fixed_input_size=True)
    for place in (tmp_path / "clone", tmp_path / "mirror" / "me" / "vit"):
        place.mkdir(parents=True)
        for name, content in files.items():
            (place / name).write_bytes(content)
    images = torch.rand(1, 3, 160, 160)
    for folder in ("clone", "mirror"):
        named = network_named("hf:me/vit", tmp_path / folder)
        assert torch.equal(named.model(images), model(images)) and named.weights == "hf:me/vit"
    assert hub.asked == []


def test_files_that_are_not_those_of_the_list(hub, tmp_path):
    _, hub.repositories["me/tiny"] = of_timm()
    hub.swapped["config.json"] = bytes(reversed(hub.repositories["me/tiny"]["config.json"]))
    with pytest.raises(InputError, match=r"config\.json: its content is not what me/tiny lists; delete .* run again"):
        network_named("hf:me/tiny")


@pytest.mark.parametrize(
    ("name", "change", "words"),
    [
        ("tiny", {}, "the Hub's names are ORG/NAME"),
        ("me/absent", {}, r"answers 404: there is no such repository"),
        ("me/tiny", {"model.safetensors": None}, r"the repository has no model\.safetensors"),
        ("me/tiny", {"model.safetensors": None, "model.safetensors.index.json": b"{}"}, "split into several"),
        ("me/tiny", {"config.json": {"architecture": "tset_resnet"}}, "none of timm .* did you mean 'test_resnet"),
        ("me/tiny", {"config.json": {"num_classes": 7}}, "cannot build it as test_resnet"),
        ("me/tiny", {"config.json": {"model_args": {"nonsense": 1}}}, "cannot build it as test_resnet"),
        (
            "me/tiny",
            {"config.json": {"architecture": None, "model_type": "bert"}},
            "builds timm's, and of transformers",
        ),
    ],
)
def test_errors_are_one_line(hub, name, change, words):
    _, files = of_timm()
    for file, content in change.items():
        if isinstance(content, dict):
            kept = {key: value for key, value in (json.loads(files[file]) | content).items() if value is not None}
            content = json.dumps(kept).encode()
        files[file] = content
    hub.repositories["me/tiny"] = {file: content for file, content in files.items() if content is not None}
    with pytest.raises(InputError, match=words) as caught:
        network_named(f"hf:{name}")
    assert "\n" not in str(caught.value)


def test_without_internet_one_line_says_where_files_go(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(
        InputError, match=r"cannot be reached .* put config\.json and model\.safetensors into"
    ) as caught:
        network_named("hf:me/tiny")
    folder = tmp_path / "hub" / "huggingface" / "me" / "tiny" / "main"
    assert f"into {folder}," in str(caught.value)
    model, files = of_timm()
    folder.mkdir(parents=True)
    for name in ("config.json", "model.safetensors"):
        (folder / name).write_bytes(files[name])
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(network_named("hf:me/tiny").model(images), model(images))


# Classifiers of transformers, by a literal forward pass under its names


def drawn(shapes):
    draw = torch.Generator().manual_seed(1)
    return {name: 0.3 * torch.randn(shape, generator=draw) for name, shape in shapes.items()}


def vit_weights(width=12, inner=20, patch=8, tokens=17, classes=4, blocks=2):
    shapes = {"vit.embeddings.cls_token": (1, 1, width), "vit.embeddings.position_embeddings": (1, tokens, width)}
    linear = {"vit.embeddings.patch_embeddings.projection": (width, 3, patch, patch), "classifier": (classes, width)}
    norms = ["vit.layernorm"]
    for block in range(blocks):
        here = f"vit.encoder.layer.{block}"
        linear |= {f"{here}.attention.attention.{part}": (width, width) for part in ("query", "key", "value")}
        linear |= {f"{here}.attention.output.dense": (width, width)}
        linear |= {f"{here}.intermediate.dense": (inner, width), f"{here}.output.dense": (width, inner)}
        norms += [f"{here}.layernorm_before", f"{here}.layernorm_after"]
    for name, shape in [*linear.items(), *((name, (width,)) for name in norms)]:
        shapes |= {f"{name}.weight": shape, f"{name}.bias": shape[:1]}
    return drawn(shapes)


def vit_forward(state, images, heads=3, blocks=2, epsilon=1e-3):
    def linear(name, x):
        return F.linear(x, state[f"{name}.weight"], state[f"{name}.bias"])

    def norm(name, x):
        return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], epsilon)

    place = "vit.embeddings.patch_embeddings.projection"
    x = F.conv2d(images, state[f"{place}.weight"], state[f"{place}.bias"], stride=8).flatten(2).mT
    x = torch.cat([state["vit.embeddings.cls_token"].expand(len(x), -1, -1), x], 1)
    x = x + state["vit.embeddings.position_embeddings"]
    for block in range(blocks):
        here = f"vit.encoder.layer.{block}"
        y = norm(f"{here}.layernorm_before", x)
        query, key, value = (
            linear(f"{here}.attention.attention.{part}", y).unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in ("query", "key", "value")
        )
        weights = (query @ key.mT / query.shape[-1] ** 0.5).softmax(-1)
        x = x + linear(f"{here}.attention.output.dense", (weights @ value).transpose(1, 2).flatten(2))
        y = F.gelu(linear(f"{here}.intermediate.dense", norm(f"{here}.layernorm_after", x)))
        x = x + linear(f"{here}.output.dense", y)
    return linear("classifier", norm("vit.layernorm", x)[:, 0])


VIT = {
    "architectures": ["ViTForImageClassification"],
    "model_type": "vit",
    "hidden_act": "gelu",
    "hidden_size": 12,
    "intermediate_size": 20,
    "num_hidden_layers": 2,
    "num_attention_heads": 3,
    "image_size": 32,
    "patch_size": 8,
    "layer_norm_eps": 1e-3,
    "id2label": {"0": "tench", "1": "crane", "2": "coast", "3": "cat"},
}


def test_a_vision_transformer_of_transformers(hub):
    state = vit_weights()
    processor = {
        "do_resize": True,
        "size": {"height": 32, "width": 32},
        "image_mean": [0.5] * 3,
        "image_std": [0.5] * 3,
    }
    hub.repositories["me/vit"] = {
        "config.json": json.dumps(VIT).encode(),
        "preprocessor_config.json": json.dumps(processor).encode(),
        "model.safetensors": save(state),
    }
    named = network_named("hf:me/vit")
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(2))
    torch.testing.assert_close(named.model(images), vit_forward(state, images), rtol=1e-4, atol=1e-5)
    assert named.class_names == ("tench", "crane", "coast", "cat")
    assert named.preprocessing == Preprocessing(32, 32, (0.5,) * 3, (0.5,) * 3, "squash")


def resnet_weights(depths=(1, 2, 1, 1), classes=4):
    shapes, norms = {"classifier.1.weight": (classes, 512), "classifier.1.bias": (classes,)}, {}

    def place(name, out, into, side):
        shapes[f"{name}.convolution.weight"] = (out, into, side, side)
        norms[f"{name}.normalization"] = out

    place("resnet.embedder.embedder", 64, 3, 7)
    for stage, depth in enumerate(depths):
        width = 64 * 2**stage
        for layer in range(depth):
            here, into = f"resnet.encoder.stages.{stage}.layers.{layer}", width if layer or not stage else width // 2
            place(f"{here}.layer.0", width, into, 3)
            place(f"{here}.layer.1", width, width, 3)
            if into != width:
                place(f"{here}.shortcut", width, into, 1)
    state = {name: 0.1 * value for name, value in drawn(shapes).items()}
    for name, width in norms.items():
        drawn_here = drawn({f"{name}.{part}": (width,) for part in ("weight", "bias", "running_mean", "running_var")})
        state |= {key: value.abs() + 0.5 if key.endswith("var") else value for key, value in drawn_here.items()}
    return state


def resnet_forward(state, x, depths=(1, 2, 1, 1)):
    def normed(name, x, stride, padding):
        x = F.conv2d(x, state[f"{name}.convolution.weight"], stride=stride, padding=padding)
        parts = (state[f"{name}.normalization.{part}"] for part in ("running_mean", "running_var", "weight", "bias"))
        return F.batch_norm(x, *parts)

    x = F.max_pool2d(normed("resnet.embedder.embedder", x, 2, 3).relu(), 3, 2, 1)
    for stage, depth in enumerate(depths):
        for layer in range(depth):
            here, stride = f"resnet.encoder.stages.{stage}.layers.{layer}", 2 if stage and not layer else 1
            y = normed(f"{here}.layer.1", normed(f"{here}.layer.0", x, stride, 1).relu(), 1, 1)
            x = normed(f"{here}.shortcut", x, stride, 0) if stride == 2 else x
            x = (x + y).relu()
    return F.linear(x.mean((2, 3)), state["classifier.1.weight"], state["classifier.1.bias"])


RESNET = {
    "architectures": ["ResNetForImageClassification"],
    "model_type": "resnet",
    "hidden_act": "relu",
    "embedding_size": 64,
    "hidden_sizes": [64, 128, 256, 512],
    "depths": [1, 2, 1, 1],
    "layer_type": "basic",
    "downsample_in_first_stage": False,
}


def test_a_residual_network_of_transformers(tmp_path):
    state = resnet_weights()
    (tmp_path / "config.json").write_text(json.dumps(RESNET))
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"size": {"shortest_edge": 56}, "crop_pct": 0.875}))
    (tmp_path / "model.safetensors").write_bytes(save(state))
    model, preprocessing, _, names = hub_network("me/resnet", tmp_path)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    torch.testing.assert_close(model.eval()(images), resnet_forward(state, images), rtol=1e-4, atol=1e-5)
    assert preprocessing == Preprocessing(64, 56) and names == ()
    (tmp_path / "config.json").write_text(json.dumps(RESNET | {"downsample_in_first_stage": True}))
    with pytest.raises(InputError, match="downsample_in_first_stage is True; relmap builds resnet with False alone"):
        hub_network("me/resnet", tmp_path)
