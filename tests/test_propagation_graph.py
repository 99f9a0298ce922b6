"""Tracing torchvision's networks: same logits, sensible names, folded batch norms, and clear refusals."""

import operator
from collections import Counter
from functools import cache

import pytest
import relmap
import torch
import torch.nn.functional as F
from reference_nets import network
from relmap.errors import InputError
from relmap.explainers.cam import last_feature_map
from relmap.explainers.excitation import excitation_layer
from relmap.network import Graph, trace
from relmap.propagation import Propagator, composites
from relmap.torchvision_shim import torchvision
from torch import nn

SIZES = {"vgg16": 32, "resnet50": 32, "densenet121": 32, "alexnet": 64, "inception_v3": 80, "squeezenet1_1": 32}
KINDS = {
    "vgg16": {"conv": 13, "linear": 3, "relu": 15, "max_pool": 5, "average_pool": 1, "reshape": 1},
    "resnet50": {"conv": 53, "batch_norm": 53, "relu": 49, "add": 16, "max_pool": 1, "average_pool": 1},
    "densenet121": {"conv": 120, "batch_norm": 121, "concatenate": 62, "average_pool": 4},
    "alexnet": {"conv": 5, "linear": 3, "relu": 7, "max_pool": 3},
    "inception_v3": {"conv": 94, "batch_norm": 94, "concatenate": 15, "average_pool": 10, "max_pool": 4},
    "squeezenet1_1": {"conv": 26, "relu": 26, "concatenate": 8, "max_pool": 3, "linear": 0},
}


@cache
def torchvision_network(name: str) -> nn.Module:
    """Full topology with random weights and batch norm statistics that are not the initial ones."""
    if name == "vgg16":  # its 138 million weights take long to draw; the narrow one has the same topology
        return network("vgg16", torch.float32)
    torch.manual_seed(0)
    options = {"init_weights": False} if name == "inception_v3" else {}
    model = getattr(torchvision.models, name)(num_classes=10, **options)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 1.5)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.1)
    return model.eval()


def run(graph: Graph, images: torch.Tensor) -> torch.Tensor:
    values, shapes = {}, {}
    for operation in graph:
        arguments = [images] if operation.kind == "input" else [values[name] for name in operation.inputs]
        values[operation.name] = operation.bound(values, shapes).run(*arguments)
        shapes[operation.name] = values[operation.name].shape
    return values[graph.output.name]


def run_folded(graph: Graph, images: torch.Tensor) -> torch.Tensor:
    """The same, with the folded layers in place of the pairs."""
    values = {}
    for operation in graph:
        arguments = [images] if operation.kind == "input" else [values[name] for name in operation.inputs]
        before = graph.folded(operation.inputs[0]) if operation.kind == "batch_norm" else None
        whole = graph.folded(operation.name)
        values[operation.name] = arguments[0] if before else (whole[0] if whole else operation).run(*arguments)
    return values[graph.output.name]


@pytest.mark.parametrize("name", SIZES)
@torch.no_grad()
def test_logits_and_kinds(name):
    model = torchvision_network(name)
    size = 64 if name == "vgg16" else SIZES[name]
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    logits = model(images)
    graph = trace(model)
    torch.testing.assert_close(run(graph, images), logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(run_folded(graph, images), logits, rtol=1e-4, atol=1e-4)
    counts = Counter(operation.kind for operation in graph)
    assert {kind: counts[kind] for kind in KINDS[name]} == KINDS[name]
    names = [operation.name for operation in graph]
    assert len(set(names)) == len(names)
    # DenseNet normalises before it convolves: half of its batch norms have no convolution before them.
    folds = [graph.folded(operation.name) for operation in graph if operation.kind in ("conv", "linear")]
    norms = {fold[1] for fold in folds if fold is not None}
    assert counts["batch_norm"] - len(norms) == (62 if name == "densenet121" else 0)


@pytest.mark.parametrize("name", SIZES)
def test_relevance_reaches_the_input(name):
    model = torchvision_network(name)
    size = 64 if name == "vgg16" else SIZES[name]
    images = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    propagator = Propagator(model).by(composites.alpha_beta())
    activations = propagator.forward(images)
    torch.testing.assert_close(activations.logits, model(images).detach(), rtol=1e-4, atol=1e-4)
    result = propagator.propagate(activations, torch.ones(1, *activations.logits.shape))
    assert result.relevance.shape == (1, *images.shape)
    assert result.relevance.isfinite().all() and result.relevance.abs().sum() > 0


def test_names_are_the_modules_paths():
    graph = trace(network("resnet50"))
    names = [operation.name for operation in graph]
    modules = dict(network("resnet50").named_modules())
    assert all(name in modules for name in names if graph[name].kind in ("conv", "linear", "batch_norm", "max_pool"))
    block = " ".join(name.removeprefix("layer1.1.") for name in names if name.startswith("layer1.1."))
    assert block == "conv1 bn1 relu conv2 bn2 relu_1 conv3 bn3 add relu_2"
    assert graph["layer1.1.add"].inputs == ("layer1.1.bn3", "layer1.0.relu_2")
    assert graph["layer1.0.add"].inputs == ("layer1.0.bn3", "layer1.0.downsample.1")
    whole, norm = graph.folded("layer1.0.downsample.0")
    assert (whole.name, norm) == ("layer1.0.downsample.0", "layer1.0.downsample.1")
    assert graph.folded("fc") is None and graph.folded("relu") is None
    assert graph.folded("conv1") is graph.folded("conv1")  # so that derived weights are made once


@pytest.mark.parametrize(
    ("architecture", "layer", "expected"),
    [
        ("vgg16", "features.28", "features.29"),
        ("vgg16", "features.29", "features.29"),
        ("vgg16", "features.30", "features.30"),
        ("vgg16", "classifier.0", "classifier.1"),
        ("vgg16", "classifier.6", "classifier.6"),
        ("resnet50", "conv1", "relu"),
        ("resnet50", "layer1.0.conv2", "layer1.0.relu_1"),
        ("resnet50", "layer1.0", "layer1.0.relu_2"),
        ("resnet50", "layer1.0.conv3", "layer1.0.bn3"),
        ("resnet50", "layer4", "layer4.2.relu_2"),
    ],
)
def test_activation_of(architecture, layer, expected):
    assert trace(network(architecture)).activation_of(layer) == expected


@pytest.mark.parametrize(
    ("name", "last", "excitation"),
    [
        ("vgg16", "features.29", "features.23"),
        ("resnet50", "layer4.2.relu_2", "layer3.5.relu_2"),
        ("densenet121", "relu", "features.transition3.pool"),
        ("alexnet", "features.11", "features.5"),
        ("inception_v3", "Mixed_7c.cat_2", "Mixed_6e.cat"),
        ("squeezenet1_1", "classifier.2", "features.8"),
    ],
)
def test_layers_of_the_baselines(name, last, excitation):
    graph = trace(torchvision_network(name))
    assert last_feature_map(graph) == last
    assert excitation_layer(graph) == excitation


def test_first_affine_and_non_negative():
    graph = trace(network("resnet50"))
    assert graph.first_affine() == {"conv1"}
    assert {"relu", "maxpool", "layer4.2.relu_2", "avgpool", "flatten"} <= graph.non_negative()
    assert not {"input", "bn1", "layer1.0.add", "fc"} & graph.non_negative()


def test_activations_beside_relu():
    layers = [nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU6(), nn.Conv2d(4, 4, 1), nn.GELU(), nn.Conv2d(4, 4, 1)]
    graph = trace(nn.Sequential(*layers, nn.Tanh(), nn.Softmax(1), nn.AvgPool2d(2)))
    found = [graph.activation_of(name) for name in ("0", "3", "5")]
    assert found == ["2", "4", "6"]
    assert graph.non_negative() == {"2", "7", "8"}
    assert graph.carriers() == {operation.name for operation in graph}


class Functional(nn.Module):
    """Every function that tracing knows, in the ways in which people call them."""

    def __init__(self, tail):
        super().__init__()
        self.conv, self.linear, self.tail = nn.Conv2d(3, 4, 3, padding=1), nn.Linear(8, 5), tail

    def forward(self, x):
        x = self.tail(F.relu(self.conv(x), inplace=True))
        return self.linear(F.dropout(torch.flatten(x, start_dim=1), training=self.training))


@pytest.mark.parametrize(
    ("tail", "kinds"),
    [
        (lambda x: F.adaptive_avg_pool2d(F.max_pool2d(x, 3, stride=2), (2, 1)), "max_pool average_pool"),
        (
            lambda x: F.adaptive_avg_pool2d(F.max_pool2d(x, kernel_size=2, ceil_mode=True), output_size=(1, 2)),
            "max_pool",
        ),
        (lambda x: torch.max_pool2d(x, (3, 6), 3), "max_pool"),
        (lambda x: F.avg_pool2d(x, (3, 6)), "average_pool"),
        (lambda x: F.avg_pool2d(x, kernel_size=3, stride=(3, 6), padding=0), "average_pool"),
        (lambda x: F.avg_pool2d(x + x.relu(), (3, 6)), "add relu average_pool"),
        (lambda x: F.avg_pool2d(x + x, (3, 6)), "add average_pool"),
        (lambda x: F.avg_pool2d(operator.iadd(torch.relu(x), x), (3, 6)), "add relu average_pool"),
        (lambda x: F.avg_pool2d(torch.cat([x, x], dim=2), (6, 6)), "concatenate average_pool"),
        (lambda x: F.avg_pool2d(torch.cat((x, x), 1), (6, 6)), "concatenate average_pool"),
        (lambda x: torch.stack((x, x), 1).flatten(1, 2).mean((2, 3)), "concatenate reshape average_pool"),
        (lambda x: F.avg_pool2d(2 * x - 1, (3, 6)), "scale add parameter"),
        (lambda x: F.avg_pool2d((1 - x) / 4, (3, 6)), "scale add parameter"),
        (lambda x: F.avg_pool2d(-x * x.sigmoid(), (3, 6)), "scale multiply activation"),
        (lambda x: F.avg_pool2d(x + torch.arange(6.0), (3, 6)), "add parameter"),
        (lambda x: F.avg_pool2d(x.masked_fill(x < 0.2, 0.0), (3, 6)), "mask scale"),
        (lambda x: F.avg_pool2d(F.softmax(x.masked_fill(x < 0.2, -1e9), -1), (3, 6)), "mask add softmax"),
        (lambda x: (x * (x > 0.1)).sum((2, 3)).repeat(1, 2), "mask scale average_pool"),
        (lambda x: x.sum(2).sum(-1, keepdim=True)[..., 0].repeat(1, 2) / (x > 0).sum((1, 2, 3))[:, None], "mask"),
        (lambda x: (x.flatten(2) @ x.flatten(2).transpose(1, 2))[:, :2].reshape(x.size(0), -1), "matmul reshape"),
        (lambda x: (x.flatten(2) @ torch.ones(36, 2)).view(x.shape[0], -1), "linear reshape"),
        (lambda x: x.chunk(2, 1)[1].mean((2, 3)).repeat_interleave(4, 1), "reshape average_pool"),
        (lambda x: torch.cat(x.unbind(1)[:2], 1).mean(2)[:, :8], "concatenate average_pool"),
        (lambda x: (x.view(*x.shape[:2], -1) / x.shape[-1] ** 0.5)[..., :2].contiguous(), "scale reshape"),
        (lambda x: F.pad(x, (1, 1)).roll(2, -1).unflatten(1, (2, 2)).mean((-1, -2)).repeat(1, 1, 2), "reshape"),
        (lambda x: x.clamp(0, 1).clamp(min=0).mean((2, 3)).repeat(1, 2).to(x.dtype), "activation relu"),
        (lambda x: F.avg_pool2d(x.new_zeros(()) + x.expand_as(x), (3, 6)), "add reshape"),
    ],
)
@torch.no_grad()
def test_functions(tail, kinds):
    model = Functional(tail).eval()
    images = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    graph = trace(model)
    torch.testing.assert_close(run(graph, images), model(images))
    torch.testing.assert_close(run(graph, images[:1]), model(images[:1]))
    assert set(kinds.split()) <= {operation.kind for operation in graph}


class Branching(nn.Module):
    """Takes two paths, by a value or by a size."""

    def __init__(self, by_size: bool = False):
        super().__init__()
        self.head, self.by_size = nn.Linear(3, 2), by_size

    def forward(self, x):
        if x.shape[2] > 40 if self.by_size else x.sum() > 4:
            x = F.avg_pool2d(x, 2) * x.shape[-1]
        x = x + torch.zeros((x.shape[0], 1, 1, 1)) + sum(1 for _ in range(x.shape[2] // 40))
        return self.head(x.mean((2, 3)))


def test_a_branch_is_named_by_its_line():
    with pytest.raises(InputError, match=r"test_propagation_graph\.py, line \d+: 'if x\.shape\[2\] > 40"):
        trace(Branching())


def test_a_path_is_that_of_a_size():
    """The number of images is no size: one trace serves all. Other sizes that take the path are served too."""
    torch.manual_seed(0)
    model = Branching(by_size=True)
    for size, others in (((3, 90, 8), ((3, 99, 5), (3, 41, 8))), ((3, 20, 8), ((3, 39, 9),))):
        propagator = Propagator(model, size)
        for each in (size, *others[:1]):
            for count in (1, 3):
                x = torch.randn(count, *each)
                torch.testing.assert_close(propagator.forward(x).logits, model(x).detach())
    with pytest.raises(InputError, match=r"images of \(3, 44, 8\) the model takes another path .*size=\(3, 44, 8\)"):
        propagator.forward(torch.zeros(1, 3, 44, 8))
    assert relmap.explain(model, torch.randn(2, 3, 20, 8), 1, "lrp_epsilon").shape == (2, 20, 8)
    propagator = Propagator(model)  # 224 x 224
    with pytest.raises(InputError, match="takes another path"):
        propagator.forward(torch.zeros(1, 3, 20, 8))


class Overwriting(nn.Module):
    """Writes to parts: of constants, of what it made of sizes, of the image's own."""

    def __init__(self, carrying: bool = False):
        super().__init__()
        self.conv, self.carrying = nn.Conv2d(3, 4, 1), carrying
        self.bias = nn.Parameter(torch.randn(4))

    def forward(self, x):
        x = self.conv(x)
        bias = self.bias.clone()
        bias[1:3].zero_()
        bias[:1][0] += 2
        mask = x.new_zeros(x.shape[2:])
        mask[:2, 1:] = 1
        mask[0, :1].fill_(3)
        if self.carrying:
            x[:, 1].mul_(2)
        return (x + bias[:, None, None] + mask).mean((2, 3))


def test_parts_that_are_overwritten():
    torch.manual_seed(0)
    model, x = Overwriting(), torch.randn(2, 3, 5, 4)
    before = model.bias.clone()
    graph = trace(model)
    torch.testing.assert_close(Propagator(graph).forward(x).logits, model(x).detach())
    assert torch.equal(model.bias, before)
    carrying = Overwriting(carrying=True)
    torch.testing.assert_close(Propagator(carrying).forward(x).logits, carrying(x).detach())


def test_sums_and_norms_of_a_users_model():
    """What pulls back as a view of one number, and what cannot be asked for its layout."""

    class Summing(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.head = nn.Conv2d(3, 4, 3), nn.Linear(4, 2)

        def forward(self, x):
            return self.head(self.conv(x).relu().sum((2, 3)))

    images = torch.randn(2, 3, 6, 6)
    for method in ("abslrp", "lrp_alpha1_beta0", "rap"):
        assert relmap.explain(Summing(), images, 0, method).isfinite().all()


def test_rows_have_a_map_of_their_features():
    model, rows = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 2)), torch.randn(3, 5)
    for method in ("saliency", "input_x_gradient", "lrp_epsilon"):
        assert relmap.explain(model, rows, 1, method).shape == rows.shape


@pytest.mark.parametrize(
    ("method", "parameters", "message"),
    [
        ("lrp_epsilon", {"epsilon": -1.0}, "epsilon is -1.0"),
        ("lrp_gamma", {"gamma": -1.0}, "gamma is -1.0"),
        ("lrp_alpha1_beta0", {"alpha": 3.0}, "must be 1"),
        ("lrp_alpha1_beta0", {"low": (1.0,) * 3, "high": (0.0,) * 3}, "is not below high"),
        (
            "lrp_alpha1_beta0",
            {"low": (0.0,) * 2, "high": (1.0,) * 2},
            "low and high are for 2 channels, the images have 3",
        ),
    ],
)
def test_parameters_that_make_no_sense_are_refused(method, parameters, message):
    with pytest.raises(InputError, match=message):
        relmap.explain(network("vgg16", torch.float32), torch.zeros(1, 3, 64, 64), 0, method, **parameters)
