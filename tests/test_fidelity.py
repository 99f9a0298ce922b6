"""The graph is the model: as it was traced, as it is now, in any mode, type and thread."""

import threading

import pytest
import relmap
import relmap.torchvision_shim
import torch
from relmap.errors import InputError
from relmap.network import trace
from relmap.network.fidelity import fingerprint
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torchvision.models.resnet import BasicBlock
from torchvision.transforms import v2


def network(seed: int = 0, first: nn.Module | None = None) -> nn.Sequential:
    torch.manual_seed(seed)
    first = first or nn.Conv2d(3, 6, 3)
    return nn.Sequential(first, nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 4)).eval()


def images(count: int = 2) -> Tensor:
    return torch.randn(count, 3, 8, 8, generator=torch.Generator().manual_seed(1))


@pytest.mark.filterwarnings("ignore:.*weight_norm.*deprecated")
@pytest.mark.parametrize(
    "normalise",
    [
        nn.utils.weight_norm,
        nn.utils.spectral_norm,
        parametrizations.weight_norm,
        parametrizations.spectral_norm,
        lambda layer: prune.l1_unstructured(layer, "weight", 0.5),
    ],
    ids=["weight_norm", "spectral_norm", "weight_norm_parametrization", "spectral_norm_parametrization", "prune"],
)
def test_weights_that_are_made_before_a_forward_are_up_to_date(normalise):
    trained, loaded = (network(seed, normalise(nn.Conv2d(3, 6, 3))) for seed in (0, 1))
    trained(images())
    loaded.load_state_dict(trained.state_dict())  # and not run since
    state = {name: value.clone() for name, value in loaded.state_dict().items()}
    torch.testing.assert_close(relmap.Propagator(loaded).forward(images()).logits, trained(images()).detach())
    assert torch.equal(
        relmap.explain(loaded, images(), 1, "lrp_epsilon"), relmap.explain(trained, images(), 1, "lrp_epsilon")
    )
    assert all(torch.equal(value, state[name]) for name, value in loaded.state_dict().items())


class AsksForTensors(nn.Module):
    def forward(self, x):
        return x * 2 if isinstance(x, Tensor) else x


class Noisy(nn.Module):
    def forward(self, x):
        return x + torch.rand(())


@pytest.mark.parametrize(
    ("before", "culprit"),
    [
        (v2.Normalize([0.5, 0.4, 0.3], [0.2, 0.3, 0.25]), "'1.0' (conv)"),
        (AsksForTensors(), "'1.0' (conv)"),
        (Noisy(), "'1.0' (conv)"),
    ],
    ids=["isinstance of torchvision", "isinstance", "random"],
)
def test_what_tracing_does_not_see_is_named(before, culprit):
    model = nn.Sequential(before, network())
    with pytest.raises(InputError, match="do not compute what Sequential computes") as error:
        relmap.explain(model, images(), 1, "lrp_epsilon")
    assert culprit in str(error.value)


def test_hooks_that_change_outputs_are_named_and_others_are_welcome():
    model, seen = network(), []
    model[1].register_forward_hook(lambda module, inputs, output: seen.append(output))
    propagator = relmap.Propagator(model)
    before = relmap.explain(propagator, images(), 1, "lrp_epsilon")
    handle = model[0].register_forward_hook(lambda module, inputs, output: output * 2)
    with pytest.raises(
        InputError, match=r"first operation that differs is '0' \(conv\): hooks of its module change it"
    ):
        relmap.explain(propagator, images(), 1, "lrp_epsilon")
    handle.remove()
    assert torch.equal(before, relmap.explain(propagator, images(), 1, "lrp_epsilon"))


def edit(name):
    def data(model):
        model[0].weight.data.normal_()

    def one_filter(model):
        model[0].weight.data[2].zero_()

    def bias(model):
        model[4].bias.data[3] += 1

    def exchange(model):
        model[4].weight.data[[0, 1]] = model[4].weight.data[[1, 0]]

    def head(model):
        model[4] = nn.Linear(6, 4)

    def step(model):
        with torch.no_grad():
            model[0].weight.add_(0.1)

    def double(model):
        model.double()

    return {f.__name__: f for f in (data, one_filter, bias, exchange, head, step, double)}[name]


@pytest.mark.parametrize("name", ["data", "one_filter", "bias", "exchange", "head", "step", "double"])
def test_a_changed_model_is_refused(name):
    model = network()
    propagator = relmap.Propagator(model)
    relmap.explain(propagator, images(), 1, "lrp_epsilon")
    edit(name)(model)
    with pytest.raises(InputError, match="have changed since it was traced: build a new Propagator"):
        relmap.explain(propagator, images(), 1, "lrp_epsilon")


def test_replaced_modules_without_weights_and_numbers_of_modules_are_compared_again():
    model = network()
    propagator = relmap.Propagator(model)
    relmap.explain(propagator, images(), 1, "lrp_epsilon")
    model[1] = nn.Tanh()
    with pytest.raises(InputError, match="first operation that differs is '1'"):
        relmap.explain(propagator, images(), 1, "lrp_epsilon")


@pytest.mark.parametrize("size", [(300, 700), (64, 5000), (5000, 64)])
def test_a_fingerprint_of_a_large_matrix_sees_every_row_and_column(size):
    layer = nn.Linear(*size)
    before = fingerprint(layer).values
    for dim in (0, 1):
        for index in range(0, layer.weight.shape[dim], 37):
            line = layer.weight.data.select(dim, index)
            kept = line.clone()
            line.zero_()
            assert fingerprint(layer).values != before
            line.copy_(kept)
    assert fingerprint(layer).values == before


def test_the_layout_of_weights_does_not_matter_to_a_fingerprint():
    model = network().to(memory_format=torch.channels_last)
    assert fingerprint(model).values == fingerprint(model).values
    model[0].weight.data[0, 0, 0, 0] += 1
    assert fingerprint(model).values != fingerprint(network().to(memory_format=torch.channels_last)).values


class Waiting(nn.Module):
    """A model whose forward waits until it is let go."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.inside, self.go = layer, threading.Event(), threading.Event()

    def forward(self, x):
        self.inside.set()
        assert self.go.wait(30)
        return self.layer(x)


def test_threads_trace_and_run_models_at_the_same_time():
    other, x, call = nn.Linear(4, 3), torch.randn(1, 4), nn.Module.__call__
    models, found, errors = [Waiting(nn.Linear(4, 2)) for _ in range(2)], {}, []

    def work(model):
        try:
            found[model] = trace(model)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(model,)) for model in models]
    for thread, model in zip(threads, models, strict=True):
        thread.start()
        assert model.inside.wait(30)
    expected = other(x)  # while both are inside
    models[0].inside.clear()
    for model in models:
        model.go.set()
    for thread in threads:
        thread.join(30)
    assert not errors and nn.Module.__call__ is call
    assert torch.equal(other(x), expected)
    assert [[o.name for o in found[model]] for model in models] == [["input", "layer"]] * 2


class Failing(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer, self.drop = nn.Linear(3, 2), nn.Dropout()

    def forward(self, x):
        assert not self.training
        raise ValueError("no")


def test_the_models_mode_is_never_touched():
    model = Failing()
    model.drop.eval()
    with pytest.raises(ValueError, match="no"):
        trace(model)
    assert model.training and not model.drop.training
    kept = network().train()
    relmap.explain(kept, images(), 1, "lrp_epsilon")
    assert all(module.training for module in kept.modules())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("method", ["lrp_epsilon", "lrp_alpha1_beta0", "abslrp", "abslrp_normalised", "clrp"])
def test_half_precision_is_computed_in_float32(method, dtype):
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AvgPool2d(2), BasicBlock(8, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    model = nn.Sequential(*layers, nn.Linear(8, 4)).to(dtype).eval()
    x = torch.randn(2, 3, 24, 24).to(dtype)
    maps = relmap.explain(model, x, 1, method)
    assert next(model.parameters()).dtype == dtype
    expected = relmap.explain(model.float(), x.float(), 1, method)
    torch.testing.assert_close(maps.float(), expected, rtol=1e-5, atol=1e-6 * expected.abs().max().item())


def test_autocast_of_the_caller_changes_nothing():
    model, x = network(), images()
    expected = relmap.explain(model, x, 1, "lrp_epsilon")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(relmap.explain(model, x, 1, "lrp_epsilon"), expected)


class Branching(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3, 2)

    def forward(self, x):
        if x.shape[2] > 4:
            x = nn.functional.avg_pool2d(x, 2)
        return self.head(x.mean((2, 3)))


@pytest.mark.parametrize("size", [4, 8])
def test_a_path_that_depends_on_the_size_is_that_of_the_images(size):
    model, x = Branching().double(), torch.randn(2, 3, size, size).double()
    pools = [o.kind for o in relmap.Propagator(model, size=(3, size, size)).graph].count("average_pool")
    assert pools == (2 if size == 8 else 1)
    maps, gradients = (relmap.explain(model, x, 1, method) for method in ("lrp_zero", "input_x_gradient"))
    torch.testing.assert_close(maps, gradients)


def test_another_size_than_the_traced_one_is_refused_by_its_line():
    propagator = relmap.Propagator(Branching())
    with pytest.raises(InputError, match=r"test_fidelity\.py, line \d+: 'if x\.shape\[2\] > 4:'"):
        propagator.forward(torch.randn(1, 3, 4, 4))
