"""Every architecture of the papers traces, and its trace computes what the model does, in float64 on random weights."""

import copy
from collections import Counter
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from relmap.errors import InputError
from relmap.models.torchray import FullyConvolutionalResNet, FullyConvolutionalVGG, fitted, load_torchray
from relmap.network import Graph, trace
from relmap.network.affine import Dense
from relmap.network.vocabulary import OPERATIONS, Primitive
from relmap.propagation import Propagator, composites
from relmap.torchvision_shim import torchvision
from torch import nn

models = torchvision.models


def vgg(layers: str, batch_norm: bool = False) -> nn.Module:
    """torchvision's VGG with a sixteenth of the channels and a classifier to match."""
    channels = [value if value == "M" else value // 16 for value in models.vgg.cfgs[layers]]
    with torch.device("meta"):
        model = models.vgg.VGG(nn.Identity(), 10, init_weights=False)
    model.features = models.vgg.make_layers(channels, batch_norm)
    model.avgpool = nn.AdaptiveAvgPool2d((2, 2))
    for index, (inputs, outputs) in {0: (128, 48), 3: (48, 48), 6: (48, 10)}.items():
        model.classifier[index] = nn.Linear(inputs, outputs)
    return model


def alexnet() -> nn.Module:
    with torch.device("meta"):
        model = models.alexnet(num_classes=10)
    model.features = model.features.to_empty(device="cpu")
    for index, (inputs, outputs) in {1: (256 * 36, 64), 4: (64, 48), 6: (48, 10)}.items():
        model.classifier[index] = nn.Linear(inputs, outputs)
    for module in model.features:
        if isinstance(module, nn.Conv2d):
            module.reset_parameters()
    return model


def resnet(bottleneck: bool, *layers: int) -> nn.Module:
    block = models.resnet.Bottleneck if bottleneck else models.resnet.BasicBlock
    return models.ResNet(block, list(layers), num_classes=10, **({"width_per_group": 8} if bottleneck else {}))


def vit(patch: int, size: int = 224, layers: int = 12) -> nn.Module:
    model = models.VisionTransformer(size, patch, layers, 12, 48, 96, num_classes=10)
    nn.init.normal_(model.heads.head.weight)  # zero at first
    return model


def convnext() -> nn.Module:
    block = models.convnext.CNBlockConfig
    return models.ConvNeXt([block(8, 16, 2), block(16, None, 1)], layer_scale=0.3, num_classes=10)


def timm_model(name: str, **options) -> nn.Module:
    return pytest.importorskip("timm").create_model(name, num_classes=10, **options)


TIMM_VIT = {"depth": 2, "embed_dim": 48, "num_heads": 3}

# name: (constructor, height and width, kinds that are counted)
ARCHITECTURES = {
    "alexnet": (alexnet, (64, 64), {"conv": 5, "linear": 3}),
    "vgg11": (partial(vgg, "A"), (64, 64), {"conv": 8, "linear": 3}),
    "vgg16": (partial(vgg, "D"), (64, 96), {"conv": 13, "max_pool": 5}),
    "vgg19": (partial(vgg, "E"), (64, 64), {"conv": 16, "relu": 18}),
    "vgg11_bn": (partial(vgg, "A", True), (64, 64), {"conv": 8, "batch_norm": 8}),
    "vgg16_bn": (partial(vgg, "D", True), (64, 64), {"conv": 13, "batch_norm": 13}),
    "vgg19_bn": (partial(vgg, "E", True), (64, 64), {"conv": 16, "batch_norm": 16}),
    "resnet18": (partial(resnet, False, 2, 2, 2, 2), (48, 64), {"conv": 20, "add": 8}),
    "resnet50": (partial(resnet, True, 3, 4, 6, 3), (48, 64), {"conv": 53, "add": 16}),
    "resnet101": (partial(resnet, True, 3, 4, 23, 3), (48, 48), {"conv": 104, "add": 33}),
    "densenet121": (
        partial(models.DenseNet, 8, (6, 12, 24, 16), 16, num_classes=10),
        (32, 48),
        {"conv": 120, "batch_norm": 121, "concatenate": 62},
    ),
    "inception_v3": (
        partial(models.inception_v3, num_classes=10, init_weights=False, transform_input=True),
        (80, 80),
        {"conv": 94, "concatenate": 16, "scale": 3, "parameter": 3},
    ),
    "squeezenet1_0": (partial(models.squeezenet1_0, num_classes=10), (48, 48), {"conv": 26, "concatenate": 8}),
    "squeezenet1_1": (partial(models.squeezenet1_1, num_classes=10), (48, 48), {"conv": 26, "concatenate": 8}),
    "mobilenet_v2": (
        partial(models.mobilenet_v2, num_classes=10, width_mult=0.25),
        (48, 48),
        {"activation": 35, "add": 11},
    ),
    "efficientnet_b0": (partial(models.efficientnet_b0, num_classes=10), (32, 32), {"multiply": 16, "activation": 65}),
    "vit_b_16": (partial(vit, 16), (224, 224), {"linear": 73, "matmul": 24, "softmax": 12, "parameter": 2}),
    "vit_b_32": (partial(vit, 32), (224, 224), {"layer_norm": 25, "gelu": 12, "add": 25}),
    "vit_b_16 at 384": (partial(vit, 16, 384, 2), (384, 384), {"linear": 13}),
    "convnext": (convnext, (32, 64), {"scale": 3, "layer_norm": 6, "gelu": 3}),
    "torchray vgg16": (partial(FullyConvolutionalVGG, 20, 1 / 16), (230, 260), {"conv": 16, "linear": 0}),
    "torchray resnet50": (partial(FullyConvolutionalResNet, 20, (2, 1, 1, 1)), (50, 70), {"conv": 21, "add": 5}),
    "timm resnet50": (partial(timm_model, "resnet50"), (48, 48), {"conv": 53, "add": 16}),
    "timm vit": (
        partial(timm_model, "vit_base_patch16_224", **TIMM_VIT),
        (224, 224),
        {"linear": 13, "matmul": 4, "softmax": 2},
    ),
    "timm vit, its other parts": (
        partial(timm_model, "vit_base_patch16_224", **TIMM_VIT, qk_norm=True, init_values=0.3, global_pool="avg"),
        (224, 224),
        {"linear": 13, "layer_norm": 9, "scale": 4, "average_pool": 1},
    ),
    "timm vit, a gate": (  # an attention that is not recognised whole is traced through
        lambda: timm_model("vit_base_patch16_224", **TIMM_VIT, attn_layer=gated_attention()),
        (224, 224),
        {"linear": 11, "multiply": 2, "matmul": 4, "softmax": 2},
    ),
}


def gated_attention() -> type[nn.Module]:
    class Attention(pytest.importorskip("timm").layers.Attention):
        def __init__(self, *args, **options):
            super().__init__(*args, gated=True, **options)

    return Attention


def lively(model: nn.Module) -> nn.Module:
    """Batch norm statistics that are not the initial ones, biases that are not 0, in float64."""
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter.data.add_(torch.randn(parameter.shape, generator=generator), alpha=0.1)
    return model.double().eval()


def run(graph: Graph, tensor: torch.Tensor) -> torch.Tensor:
    values, shapes = {}, {}
    for operation in graph:
        inputs = [tensor] if operation.kind == "input" else [values[name] for name in operation.inputs]
        values[operation.name] = operation.bound(values, shapes).run(*inputs)
        shapes[operation.name] = values[operation.name].shape
    return values[graph.output.name]


def images(*size: int, count: int = 2) -> torch.Tensor:
    return torch.randn(count, 3, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("name", ARCHITECTURES)
@torch.no_grad()
def test_the_trace_is_the_model(name):
    construct, size, kinds = ARCHITECTURES[name]
    torch.manual_seed(0)
    model = lively(construct())
    graph = trace(model)
    for count in (2, 1):
        x = images(*size, count=count)
        torch.testing.assert_close(run(graph, x), model(x), rtol=1e-9, atol=1e-9)
    x = x.contiguous(memory_format=torch.channels_last)  # the format in which graphs run
    torch.testing.assert_close(run(graph, x), model(x), rtol=1e-9, atol=1e-9)
    counts = Counter(operation.kind for operation in graph)
    assert {kind: counts[kind] for kind in kinds} == kinds
    names = [operation.name for operation in graph]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "vit_b_32", "convnext", "timm vit"])
def test_the_gradient_through_the_graph_is_autograd_s(name):
    """Each operation's inputs and outputs are wired as the model's: what the engine pulls back is the true gradient."""
    construct, size, _ = ARCHITECTURES[name]
    torch.manual_seed(0)
    model = lively(construct())
    x = images(*size).requires_grad_()
    walk = Propagator(model).by(composites.gradient())
    start = torch.zeros(2, 2, 10, dtype=torch.float64)
    start[0, :, 3] = start[1, :, 4] = 1
    found = walk.propagate(walk.forward(x.detach()), start).relevance
    for each, target in zip(found, (3, 4), strict=True):
        (expected,) = torch.autograd.grad(model(x)[:, target].sum(), x)
        torch.testing.assert_close(each, expected, rtol=1e-8, atol=1e-9 * expected.abs().max().item())


def test_attention_is_named_below_its_module():
    graph = trace(vit(32, layers=1))
    path = "encoder.layers.encoder_layer_0.self_attention."
    parts = {name.removeprefix(path): graph[name] for name in map(lambda o: o.name, graph) if name.startswith(path)}
    assert " ".join(f"{name}:{part.kind}" for name, part in parts.items()) == (
        "query:linear query_heads:reshape key:linear key_heads:reshape value:linear value_heads:reshape "
        "scores:matmul softmax:softmax context:matmul merge:reshape out_proj:linear"
    )
    assert parts["scores"].inputs == (path + "query_heads", path + "key_heads")
    assert parts["context"].inputs == (path + "softmax", path + "value_heads")
    assert {"class_token", "encoder.pos_embedding"}.isdisjoint(graph.carriers())
    assert len(graph.carriers()) == len(graph.operations) - 2
    assert path + "softmax" in graph.non_negative() and path + "context" not in graph.non_negative()


class Attentive(nn.Module):
    """``torch.nn.MultiheadAttention`` in the ways in which people call it."""

    def __init__(self, call, **options):
        super().__init__()
        self.attention = nn.MultiheadAttention(12, 3, **options)
        self.embedding, self.head, self.call = nn.Embedding(20, 12), nn.Linear(12, 4), call

    def forward(self, ids):
        return self.head(self.call(self.attention, self.embedding(ids), ids == 0))


def _first_dimension(attention, x, padding):
    x = x.transpose(0, 1)
    return attention(x, x, x, key_padding_mask=padding)[0][0]


@pytest.mark.parametrize(
    ("call", "options"),
    [
        (lambda a, x, padding: a(x, x, x)[0][:, 0], {"batch_first": True}),
        (lambda a, x, padding: a(x, x, x, padding)[0][:, 0], {"batch_first": True, "bias": False}),
        (lambda a, x, padding: a(x, x, x, padding, need_weights=False)[0][:, 0], {"batch_first": True}),
        (_first_dimension, {}),
        (
            lambda a, x, padding: a(query=x[:, :1], key=x, value=x.tanh(), key_padding_mask=padding)[0].squeeze(1),
            {"batch_first": True},
        ),
        (
            lambda a, x, padding: a(x, x, x, attn_mask=torch.ones(5, 5, dtype=torch.bool).triu(1))[0].sum(1),
            {"batch_first": True},
        ),
        (
            lambda a, x, padding: a(x, x, x, attn_mask=torch.linspace(-1, 1, 2 * 3 * 25).reshape(6, 5, 5))[0][:, 1],
            {"batch_first": True},
        ),
        (lambda a, x, padding: (a(x, x, x)[1] @ x)[:, 0], {"batch_first": True}),
        (lambda a, x, padding: a(x, x[..., :7], x[..., :5])[0][:, 0], {"batch_first": True, "kdim": 7, "vdim": 5}),
        (lambda a, x, padding: F.scaled_dot_product_attention(x, x, x, is_causal=True)[:, 1], {}),
        (lambda a, x, padding: F.scaled_dot_product_attention(x, x, x, ~padding[:, None], scale=0.2)[:, 1], {}),
    ],
)
@torch.no_grad()
def test_multihead_attention(call, options):
    torch.manual_seed(0)
    model = Attentive(call, **options).eval()
    ids = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 10, 0, 0]])
    graph = trace(model)
    torch.testing.assert_close(run(graph, ids), model(ids), rtol=1e-5, atol=1e-6)
    assert not any(operation.name in graph.carriers() for operation in graph if operation.kind == "mask")


@pytest.mark.parametrize("options", [{"add_bias_kv": True}, {"add_zero_attn": True}])
def test_attention_that_is_not_supported_is_named(options):
    model = Attentive(lambda a, x, padding: a(x, x, x)[0][:, 0], batch_first=True, **options)
    with pytest.raises(InputError, match="layer 'attention'"):
        trace(model)


class Encoder(nn.Module):
    def __init__(self, **options):
        super().__init__()
        layer = nn.TransformerEncoderLayer(12, 3, 20, batch_first=True, **options)
        norm = nn.LayerNorm(12) if options else None
        self.encoder = nn.TransformerEncoder(layer, 2, norm, enable_nested_tensor=False)
        self.embedding, self.head = nn.Embedding(20, 12), nn.Linear(12, 4)

    def forward(self, ids):
        return self.head(self.encoder(self.embedding(ids), src_key_padding_mask=ids == 0)[:, 0])


@pytest.mark.parametrize("options", [{}, {"norm_first": True, "activation": F.gelu}, {"activation": nn.SiLU()}])
@torch.no_grad()
def test_torch_s_transformer_encoder(options):
    torch.manual_seed(0)
    model = lively(Encoder(**options))
    ids = torch.tensor([[3, 4, 5, 6, 7], [8, 9, 10, 0, 0]])
    graph = trace(model)
    torch.testing.assert_close(run(graph, ids), model(ids), rtol=1e-9, atol=1e-9)
    assert graph["encoder.layers.1.self_attn.query"].kind == graph["encoder.layers.0.linear2"].kind == "linear"


class AnySize(nn.Module):
    """Arguments made of shapes."""

    def __init__(self):
        super().__init__()
        self.conv, self.linear = nn.Conv2d(3, 6, 3, stride=2), nn.Linear(6, 5)
        self.token = nn.Parameter(torch.ones(1, 1, 6))

    def forward(self, x):
        x = self.conv(x)
        batch, channels, height, width = x.shape
        torch._assert(height > 1, "too low")
        tokens = x.view(batch, channels, height * width).permute(0, 2, 1)
        half = tokens[:, : (height * width) // 2]
        token = self.token.expand(x.size(0), -1, -1) * 2
        ramp = torch.arange(half.shape[1], device=x.device, dtype=x.dtype)[:, None]
        joined = torch.cat([token, half + ramp], dim=1)
        return self.linear(joined.sum(dim=1) / (joined.shape[1] - 1))


@torch.no_grad()
def test_one_trace_for_every_size():
    torch.manual_seed(0)
    model = AnySize().double().eval()
    graph = trace(model)
    for count, size in ((1, (9, 9)), (3, (12, 17)), (2, (8, 31))):
        torch.testing.assert_close(run(graph, images(*size, count=count)), model(images(*size, count=count)))
    assert "token" in [operation.name for operation in graph]
    assert all(graph[name].kind != "parameter" for name in graph.carriers())


class InPlace(nn.Module):
    """Reads tensors after they were overwritten, by a module, a function, a method and an operator."""

    def __init__(self, in_place: bool):
        super().__init__()
        self.conv, self.relu, self.in_place = nn.Conv2d(3, 4, 1), nn.ReLU(inplace=in_place), in_place
        self.shift, self.head = nn.Parameter(torch.randn(4, 1, 1)), nn.Linear(4, 2)

    def forward(self, x):
        x = self.conv(x)
        y = self.relu(x)
        if not self.in_place:
            z = F.relu(y - 0.3)
            return self.head((y + (y + (z * 2 + self.shift))).mean((2, 3)))
        z = x - 0.3  # x is y by now
        F.relu(z, inplace=True)
        z.mul_(2)
        z += self.shift
        return self.head((x + (y + z)).mean((2, 3)))


def test_in_place_functions():
    torch.manual_seed(0)
    changing, pure = InPlace(True).double(), InPlace(False).double()
    pure.load_state_dict(changing.state_dict())
    x = images(5, 5)
    expected = pure(x)
    torch.testing.assert_close(changing(x.clone()), expected)
    before = copy.deepcopy(changing.state_dict())
    for model in (changing, pure):
        torch.testing.assert_close(run(trace(model), x), expected)
    maps = []
    for model in (changing, pure):
        walk = Propagator(model).by(composites.alpha_beta())
        activations = walk.forward(x)
        maps.append(walk.propagate(activations, torch.ones(1, 2, 2, dtype=x.dtype)).relevance)
    torch.testing.assert_close(*maps)
    assert all(torch.equal(before[name], value) for name, value in changing.state_dict().items())


@pytest.mark.parametrize("name", ["vgg11_bn", "densenet121", "vit_b_32", "mobilenet_v2"])
def test_tracing_and_running_change_nothing(name):
    torch.manual_seed(0)
    model = ARCHITECTURES[name][0]().train()
    calls = []
    for module in model.modules():
        module.register_forward_hook(lambda *_: calls.append("forward"))
        module.register_forward_pre_hook(lambda *_: calls.append("before"))
    next(iter(model.children())).eval()

    def picture():
        modules = dict(model.named_modules())
        return (
            {
                path: (id(module), type(module), module.training, module.extra_repr())
                for path, module in modules.items()
            },
            {path: sorted(vars(module)) for path, module in modules.items()},
            {path: (id(p), p._version, p.requires_grad, p.grad) for path, p in model.named_parameters()},
            {path: (id(b), b._version) for path, b in model.named_buffers()},
            torch.get_rng_state().sum(),
            torch.is_grad_enabled(),
        )

    before, values = picture(), copy.deepcopy(model.state_dict())
    graph = trace(model)
    x = images(*ARCHITECTURES[name][1]).float()
    y = x.clone()
    first = run(graph, y)
    torch.testing.assert_close(run(graph, y), first, rtol=0, atol=0)  # evaluated: no dropout, no batch statistics
    assert torch.equal(x, y) and not first.requires_grad
    assert picture() == before and not calls
    assert all(torch.equal(values[path], value) for path, value in model.state_dict().items())


class Doubling(nn.Module):
    def forward(self, x):
        return torch.special.erf(2 * x)


class Tied(nn.Linear):
    def forward(self, x):
        return F.linear(x, self.weight + self.weight.T)


def test_a_user_s_own_operations(monkeypatch):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 6), Doubling(), Tied(6, 6), nn.Linear(6, 2)).double().eval()
    with pytest.raises(InputError, match=r"operation 'special_erf'.* in 1: .*vocabulary.OPERATIONS\[function\] = kind"):
        trace(model)
    x = torch.randn(3, 6, dtype=torch.float64)
    monkeypatch.setitem(OPERATIONS, torch.special.erf, "activation")
    graph = trace(model)
    assert [operation.kind for operation in graph] == ["input", "linear", "scale", "activation", "linear", "linear"]
    torch.testing.assert_close(run(graph, x), model(x).detach())
    monkeypatch.setitem(OPERATIONS, Doubling, "activation")
    affine = Primitive.of(Dense(model[2].weight.detach() * 2, None), "linear")
    monkeypatch.setitem(OPERATIONS, Tied, lambda module: affine)
    graph = trace(model)
    assert [(operation.name, operation.kind) for operation in graph][1:] == [
        ("0", "linear"),
        ("1", "activation"),
        ("2", "linear"),
        ("3", "linear"),
    ]
    assert graph["2"].affine is affine.affine


def test_a_module_that_is_used_again():
    torch.manual_seed(0)
    shared, block = nn.Linear(6, 6), nn.Sequential(nn.Linear(6, 6), nn.ReLU())
    model = nn.Sequential(shared, block, shared, block, nn.Linear(6, 2)).double()
    graph = trace(model)
    assert [operation.name for operation in graph] == ["input", "0", "1.0", "1.1", "0_1", "1.0_1", "1.1_1", "4"]
    assert graph["0"].affine is graph["0_1"].affine  # its derived weights are made once
    x = torch.randn(3, 6, dtype=torch.float64)
    torch.testing.assert_close(run(graph, x), model(x).detach())


def test_affine_layers_of_tokens():
    affine = Dense.of(nn.Linear(5, 4).double())
    x, s = torch.randn(2, 7, 5, dtype=torch.float64), torch.randn(3, 2, 7, 4, dtype=torch.float64)
    z = affine.apply(x, affine.weights("own"))
    torch.testing.assert_close(affine.add_bias(z, affine.bias), affine.forward(x))
    back = affine.transpose(s, affine.weights("own"), x.shape)
    torch.testing.assert_close((back * x).sum((1, 2, 3)), (s * z).sum((1, 2, 3)))


def test_terms_of_norms():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Flatten(), nn.LayerNorm(36), nn.Linear(36, 2))
    graph = trace(lively(model))
    x = torch.randn(2, 4, 3, 3, dtype=torch.float64)
    mean, std, gain, shift = (graph["1"].settings[key].view(-1, 1, 1) for key in ("mean", "std", "gain", "shift"))
    torch.testing.assert_close(graph["1"].run(x), (x - mean) / std * gain + shift)
    assert graph["1"].settings["mean"].data_ptr() != model[1].running_mean.data_ptr()
    terms = graph["3"].settings
    assert terms["normalized_shape"] == (36,) and terms["eps"] == 1e-5
    assert torch.equal(terms["weight"], model[3].weight) and torch.equal(terms["bias"], model[3].bias)


def _distributed(model: nn.Module) -> dict[str, torch.Tensor]:
    """What a file for this network would hold: Caffe's names, BGR, linear weights as matrices."""
    state = {}
    for name, value in model.state_dict().items():
        if name.endswith("num_batches_tracked"):
            continue
        if name.endswith("weight") and name.startswith(("classifier", "fc")):
            value = value.flatten(1)
        if name in ("features.0.weight", "conv1.weight"):
            value = value[:, [2, 1, 0]]
        layer, _, parameter = name.rpartition(".")
        if isinstance(model, FullyConvolutionalVGG):
            layer = {"classifier.3": "classifier.2", "classifier.6": "classifier.4"}.get(layer, layer)
        elif "bn" in layer or layer.endswith("downsample.1"):
            layer += ".0" if parameter.startswith("running") else ".1"
        state[f"{layer}.{parameter}"] = value
    return state


@pytest.mark.parametrize(
    "construct", [partial(FullyConvolutionalVGG, 20, 1 / 16), partial(FullyConvolutionalResNet, 20, (1, 2, 1, 1))]
)
def test_torchray_s_names(construct):
    torch.manual_seed(0)
    model = construct()
    stored = _distributed(model)
    assert "classifier.4.bias" in stored or {"layer1.0.bn1.0.running_mean", "layer2.0.downsample.1.1.bias"} <= set(
        stored
    )
    fresh = construct()
    fresh.load_state_dict(fitted(stored, fresh))
    assert all(torch.equal(value, fresh.state_dict()[name]) for name, value in model.state_dict().items())


def test_torchray_s_networks_see_more_than_one_window():
    model = FullyConvolutionalVGG(20, 1 / 16).eval()
    assert model(torch.zeros(1, 3, 224, 224)).shape == (1, 20, 1, 1)
    assert model(torch.zeros(1, 3, 256, 320)).shape == (1, 20, 2, 4)
    with pytest.raises(InputError, match="not a name of TorchRay's files"):
        load_torchray("vgg16-397923af.pth")
    with pytest.raises(InputError, match="no such file"):
        load_torchray("nowhere/vgg16_voc-b050e8c3.pth.tar")


def test_torchray_s_file(tmp_path):
    from relmap.job.files import sha256_file

    torch.manual_seed(0)
    model = FullyConvolutionalResNet(20)
    path = tmp_path / "weights"
    torch.save(_distributed(model), path)
    named = tmp_path / f"resnet50_voc-{sha256_file(path)[:8]}.pth.tar"
    path.rename(named)
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(load_torchray(named)(x), model.eval()(x).detach())
    with pytest.raises(InputError, match="delete it and download again"):
        load_torchray(named.rename(tmp_path / "resnet50_voc-00000000.pth.tar"))
