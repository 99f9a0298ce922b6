"""Excitation backpropagation and its contrastive form at any layer.

Vectors: facebookresearch/TorchRay@6a198ee on VGG-16; on ResNet an oracle of its conventions.
"""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from oracles.excitation import excitation_resnet
from reference_nets import inputs, network, vectors
from relmap.errors import InputError
from relmap.explainers.excitation import (
    NEGATED,
    ContrastiveExcitationBackprop,
    ExcitationBackprop,
    excitation_layer,
    torchray_excitation,
)
from relmap.network import trace
from relmap.propagation import Propagator, composites
from relmap.propagation.rules import AlphaBeta, Epsilon
from relmap.propagation.rules.precision import Difference, InDouble
from relmap.torchvision_shim import torchvision
from torch import Tensor, nn

DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])
METHODS = {"eb": ExcitationBackprop, "ceb": ContrastiveExcitationBackprop}
BOTH = pytest.mark.parametrize("method", METHODS)


@cache
def propagator(architecture: str, dtype: torch.dtype = torch.float64) -> Propagator:
    return Propagator(network(architecture, dtype))


def explain(explainer, images: Tensor, targets: Tensor, model: Propagator) -> Tensor:
    return explainer.read(model.forward(images, explainer.walks, explainer.keep), targets)


def error(ours: Tensor, theirs) -> float:
    """Largest relative L2 error over the maps, ours (2, 8, ...) and theirs (8, 2, ...)."""
    ours, theirs = ours.double().transpose(0, 1).flatten(2), torch.as_tensor(theirs).double().flatten(2)
    return ((ours - theirs).norm(dim=2) / theirs.norm(dim=2)).max().item()


@DTYPES
@BOTH
@pytest.mark.parametrize("layer", [4, 16, 23, 30])
def test_torchray(method, layer, dtype):
    model, (images, targets) = propagator("vgg16", dtype), inputs(dtype)
    ours = explain(METHODS[method](model, layer=f"features.{layer}"), images, targets, model)
    theirs = vectors("lrp/torchray_eb_vgg16s.npz")[f"{method}__features_{layer}"]
    assert error(ours, theirs) < (1e-6 if dtype == torch.float64 else 1e-4)


def test_default_layer_is_torchrays():
    model, (images, targets) = propagator("vgg16"), inputs()
    for explainer in METHODS.values():
        named = explain(explainer(model, layer="features.23"), images, targets, model)
        torch.testing.assert_close(explain(explainer(model), images, targets, model), named)


@BOTH
@pytest.mark.parametrize("layer", ["layer4", "layer3", "layer2", "layer1", "maxpool", "input"])
@pytest.mark.parametrize("additions", ["share", "copy"])
def test_resnet(method, layer, additions):
    """TorchRay's conventions for skip connections, with its patch and without, and batch norms."""
    model, (images, targets) = propagator("resnet50"), inputs()
    ours = explain(METHODS[method](model, layer=layer, additions=additions), images, targets, model)
    net = network("resnet50")
    for classes, maps in zip(targets, ours, strict=True):
        start = F.one_hot(classes, 10).double()
        found = excitation_resnet(net, images, start, contrastive=method == "ceb", copy=additions == "copy")
        expected = found[layer].sum(1)
        expected = expected.clamp(min=0) if method == "ceb" else expected
        torch.testing.assert_close(maps, expected, rtol=1e-8, atol=1e-10 * expected.abs().max().item())


CHOICES = {
    "vgg11": "features.15",
    "vgg16": "features.23",
    "vgg16_bn": "features.33",
    "vgg19": "features.27",
    "resnet18": "layer3.1.relu_1",
    "resnet50": "layer3.5.relu_2",
    "resnet101": "layer3.22.relu_2",
    "alexnet": "features.5",
    "densenet121": "features.transition3.pool",
    "inception_v3": "Mixed_6e.cat",
}


@pytest.mark.parametrize("name", CHOICES)
def test_layers_of_torchvisions_networks(name):
    weights = {"init_weights": False} if name == "inception_v3" else {}
    with torch.device("meta"):
        graph = trace(getattr(torchvision.models, name)(**weights))
    assert excitation_layer(graph) == CHOICES[name]


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
@BOTH
def test_images_and_targets_by_themselves(architecture, method):
    model, (images, targets) = propagator(architecture), inputs()
    explainer = METHODS[method](model)
    together = explain(explainer, images, targets, model)
    apart = torch.stack(
        [
            torch.cat([explain(explainer, images[i : i + 1], t[None, i : i + 1], model)[0] for i in range(2)])
            for t in targets
        ]
    )
    torch.testing.assert_close(together[:, :2], apart)


def test_the_negated_last_layer_is_that_of_a_negated_model():
    """Alpha-beta with alpha 0 and beta -1 is z+ of the negated weights; the model is not copied or changed."""
    model, (images, targets) = propagator("vgg16"), inputs()
    copy = network("vgg16")
    copy.classifier[6].weight.neg_()
    start, composite = F.one_hot(targets, 10).double(), torchray_excitation()
    ours, theirs = (
        walk.propagate(walk.forward(images), start, stop="features.23").relevance
        for walk in (model.by(composites.with_class_layer(composite, NEGATED)), Propagator(copy).by(composite))
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("at", ["classifier.4", "classifier.1", "features.30"])
def test_it_does_not_matter_where_the_contrast_is_taken(at):
    model, (images, targets) = propagator("vgg16"), inputs()
    composite, start = torchray_excitation(), F.one_hot(targets, 10).double()
    plus, minus = model.by(composite), model.by(composites.with_class_layer(composite, NEGATED))
    activations = model.forward(images, [plus, minus])
    parts = [walk.propagate(activations, start, stop=at).relevance for walk in (plus, minus)]
    later = plus.propagate(activations, parts[0] - parts[1], at=at, stop="features.4").relevance.sum(2).clamp(min=0)
    ours = explain(ContrastiveExcitationBackprop(model, layer="features.4"), images, targets, model)
    torch.testing.assert_close(ours, later, rtol=1e-7, atol=1e-9 * ours.abs().max().item())


def test_unknown_choices_are_named():
    with pytest.raises(InputError, match="additions 'half'"):
        ExcitationBackprop(propagator("vgg16"), additions="half")


@pytest.mark.parametrize("rule", [AlphaBeta(), AlphaBeta(2, 1, bias=True), Epsilon(0.1)])
def test_a_rule_in_double(rule):
    """The same rule; what float32 gives and takes is float32, what is in between is not rounded."""
    torch.manual_seed(2)
    model = nn.Sequential(nn.ReLU(), nn.Linear(50, 40))
    images, start = torch.randn(3, 50), torch.randn(2, 3, 40)
    composite = composites.Composite(composites.STRUCTURE | {"linear": rule})
    exact = composites.Composite(composites.STRUCTURE | {"linear": InDouble(rule)})
    ours, single = (
        walk.propagate(walk.forward(images), start, stop="0").relevance
        for walk in map(Propagator(model).by, (exact, composite))
    )
    walk = Propagator(model.double()).by(composite)
    expected = walk.propagate(walk.forward(images.double()), start.double(), stop="0").relevance
    assert ours.dtype == torch.float32
    torch.testing.assert_close(single.double(), expected, rtol=1e-3, atol=1e-5)
    torch.testing.assert_close(ours.double(), expected, rtol=1e-5, atol=1e-6)


def test_a_difference_of_rules():
    model, (images, _) = propagator("vgg16"), inputs()
    start = torch.randn(2, 8, 10, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    composite = composites.alpha_beta()
    rules = [AlphaBeta(2, 1), Epsilon(0.1, bias=False), Difference(AlphaBeta(2, 1), Epsilon(0.1, bias=False))]
    walks = [model.by(composites.with_class_layer(composite, rule)) for rule in rules]
    activations = model.forward(images, walks)
    one, other, both = (walk.propagate(activations, start, stop="classifier.4").relevance for walk in walks)
    torch.testing.assert_close(both, one - other)
