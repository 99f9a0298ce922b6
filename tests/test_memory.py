"""What a traced model keeps: a bounded number of derived weights, and nothing once nobody holds it."""

import contextlib
import gc
import weakref
from concurrent.futures import ThreadPoolExecutor

import pytest
import relmap
import relmap.torchvision_shim
import torch
import torchvision
from relmap.catalogue.methods import CATALOGUE, FEATURE_MAP
from relmap.errors import InputError
from relmap.models import build
from relmap.network.affine import DERIVED, KEPT
from relmap.propagation import composites, starts
from torch import nn
from trials import tried


def plain():
    body = [
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 6, 3, bias=False),
        nn.ReLU(),
    ]
    return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4))


def transformer():
    return torchvision.models.VisionTransformer(16, 8, 1, 2, 8, 16, num_classes=4)


MODELS = {"plain": plain, "residual": lambda: build("resnet50", 4, 0.0625, 32), "transformer": transformer}


@pytest.fixture(params=MODELS)
def model(request):
    torch.manual_seed(0)
    return MODELS[request.param]().eval()


def images(model):
    size = 16 if isinstance(model, torchvision.models.VisionTransformer) else 32
    return torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))


def derived(propagator):
    """By layer, the weights that are kept for it, folded with its batch norm and not."""
    graph = propagator.graph
    affines = {operation.name: operation.affine for operation in graph if operation.affine is not None}
    affines |= {f"folded {name}": fold[0].affine for name in list(affines) if (fold := graph.folded(name)) is not None}
    return {name: list(affine._derived.values()) for name, affine in affines.items()}


def test_values_of_a_parameter_do_not_add_up(model):
    propagator, x = relmap.Propagator(model), images(model)
    gammas = [0.05 * i for i in range(1, 3 * KEPT)]
    maps = [relmap.explain(propagator, x, 1, "lrp_gamma", gamma=gamma) for gamma in gammas]
    for name, tensors in derived(propagator).items():
        assert len(tensors) <= KEPT, name
    assert max(map(len, derived(propagator).values())) > 1, "some are"
    for gamma, expected in zip(gammas[::5], maps[::5], strict=True):
        assert torch.equal(relmap.explain(propagator, x, 1, "lrp_gamma", gamma=gamma), expected)
        torch.testing.assert_close(relmap.explain(model, x, 1, "lrp_gamma", gamma=gamma), expected)


def test_what_is_used_is_kept():
    affine = relmap.Propagator(plain().eval()).graph["0"].affine
    own = affine.weights("own")
    for gamma in range(3 * KEPT):
        favoured = affine.favouring("positive", gamma)
        assert affine.favouring("positive", gamma) is favoured
        assert affine.weights("own") is own
    assert affine.favouring("positive", 0) is not favoured
    assert torch.equal(affine.favouring("positive", 2.0), affine.weight + 2 * affine.weight.clamp(min=0))
    for name, derive in DERIVED.items():
        assert torch.equal(affine.weights(name), derive(affine.weight))
    assert len(affine._derived) == KEPT


def test_threads_may_share_a_propagator():
    torch.manual_seed(0)
    model = plain().eval()
    propagator, x = relmap.Propagator(model), images(model)
    gammas = [0.1 * (i % 7 + 1) for i in range(40)]
    expected = {gamma: relmap.explain(model, x, 1, "lrp_gamma", gamma=gamma) for gamma in gammas}
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda gamma: relmap.explain(propagator, x, 1, "lrp_gamma", gamma=gamma), gammas))
    for gamma, maps in zip(gammas, found, strict=True):
        torch.testing.assert_close(maps, expected[gamma])
    assert all(len(tensors) <= KEPT for tensors in derived(propagator).values())


@pytest.fixture
def no_collection():
    """Only references count: what is in a cycle stays."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()
    gc.collect()


@pytest.mark.usefixtures("no_collection")
def test_nothing_is_left_of_a_model_that_nobody_holds(model):
    x, left = images(model), {}
    tokens = isinstance(model, torchvision.models.VisionTransformer)
    unfit = {FEATURE_MAP} if tokens else set()
    for method in (row.id for row in CATALOGUE.values() if unfit.isdisjoint(row.needs) and not row.wraps):
        propagator = relmap.Propagator(model)
        with contextlib.suppress(InputError):  # made for other networks
            relmap.explain(propagator, x, 1, tried(method))
        left[method] = [weakref.ref(tensor) for tensors in derived(propagator).values() for tensor in tensors]
        left[method] += [weakref.ref(propagator), weakref.ref(propagator.graph)]
        del propagator
    own = {id(tensor) for tensor in model.parameters()}
    alive = {
        method
        for method, references in left.items()
        if any((r := ref()) is not None and id(r) not in own for ref in references)
    }
    assert not alive
    parameters = [weakref.ref(tensor) for tensor in model.state_dict(keep_vars=True).values()]
    assert all(ref() is not None for ref in parameters)


@pytest.mark.usefixtures("no_collection")
@pytest.mark.parametrize("kind", MODELS)
def test_a_traced_models_tensors_go_with_it(kind):
    model = MODELS[kind]().eval()
    model.spare = torch.zeros(7)  # neither parameter nor buffer
    references = [weakref.ref(tensor) for tensor in (*model.parameters(), *model.buffers(), model.spare)]
    propagator = relmap.Propagator(model)
    walk = propagator.by(composites.epsilon())
    activations = walk.forward(images(model), keep=[walk.graph.output.name])
    start = starts.one_hot(activations.logits, torch.tensor([1, 2]))[None]
    result = walk.propagate(activations, start)
    references += [weakref.ref(tensor) for tensor in (*activations.outputs.values(), result.relevance)]
    del activations, result, start
    assert all(ref() is None for ref in references[-3:])
    del propagator, walk, model
    assert not [ref for ref in references if ref() is not None]


@pytest.mark.usefixtures("no_collection")
def test_a_model_that_cannot_be_traced_is_not_kept_either():
    class Branching(nn.Module):
        def __init__(self):
            super().__init__()
            self.head = nn.Linear(3, 4)

        def forward(self, x):
            return self.head(x) if x.sum() > 0 else self.head(-x)

    model = Branching()
    reference = weakref.ref(model.head.weight)
    with contextlib.suppress(InputError):
        relmap.Propagator(model)
    del model
    assert reference() is None
