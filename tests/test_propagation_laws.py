"""Laws that relevance obeys on any network: properties over random networks, images and starts."""

import copy

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from reference_nets import inputs, network
from relmap.errors import InputError
from relmap.propagation import Propagator, composites, starts
from relmap.propagation.rules import ZBox
from torch import Tensor, nn

COMPOSITES = {
    "a1b0": composites.alpha_beta(),
    "a1b0_box": composites.alpha_beta(first=ZBox((-3.0,) * 3, (3.0,) * 3)),
    "a1b0_pass": composites.alpha_beta(batch_norm="pass"),
    "a1b0_affine": composites.alpha_beta(batch_norm="alpha_beta"),
    "a2b1": composites.alpha_beta(2, 1, bias=True),
    "epsilon": composites.epsilon(0.1),
    "gamma_box": composites.epsilon_gamma_box((-3.0,) * 3, (3.0,) * 3),
    "plus_flat": composites.epsilon_plus_flat(),
    "gradient": composites.gradient(),
    "excitation": composites.excitation_backprop(),
}
LINEAR = pytest.mark.parametrize("composite", COMPOSITES.values(), ids=COMPOSITES)
FEW = settings(max_examples=5, deadline=None, derandomize=True)


class Net(nn.Module):
    """A small network with a residual addition and a concatenation; images are (N, 3, 9, 9), logits (N, 4)."""

    def __init__(self, seed: int, pool: str, bias: bool, norm: bool, inplace: bool) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.conv1 = nn.Conv2d(3, 4, 3, stride=2, padding=1, bias=bias)
        self.norm = nn.BatchNorm2d(4) if norm else nn.Identity()
        self.conv2 = nn.Conv2d(4, 4, 3, padding=1, groups=2, bias=bias)
        self.conv3 = nn.Conv2d(8, 5, 1, bias=bias)
        pools = {"max": nn.MaxPool2d(3, 2, 1), "ceil": nn.MaxPool2d(2, ceil_mode=True), "average": nn.AvgPool2d(2)}
        self.pool, self.average = pools[pool], nn.AdaptiveAvgPool2d(2)
        self.linear = nn.Linear(20, 4, bias=bias)
        self.relu = nn.ReLU(inplace=inplace)
        if norm:
            self.norm.running_mean.normal_(0, 0.3)
            self.norm.running_var.uniform_(0.5, 2)
            nn.init.normal_(self.norm.weight)
        self.double().eval()

    def forward(self, x):
        x = self.pool(self.relu(self.norm(self.conv1(x))))
        y = self.relu(self.conv2(x))
        y += x
        z = self.relu(self.conv3(torch.cat([x, self.relu(y)], 1)))
        return self.linear(torch.flatten(self.average(z), 1))


def nets(bias: bool | None = None, norm: bool | None = None, inplace: bool | None = None):
    def flag(value):
        return st.booleans() if value is None else st.just(value)

    pools = st.sampled_from(["max", "ceil", "average"])
    return st.builds(Net, st.integers(0, 1000), pools, flag(bias), flag(norm), flag(inplace))


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def close(a: Tensor, b: Tensor) -> None:
    torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-9 * max(1.0, b.abs().max().item()))


SEEDS = st.integers(0, 1000)


@given(net=nets(bias=False, norm=False), seed=SEEDS)
@settings(FEW, max_examples=30)
def test_z_plus_conserves_relevance_in_networks_without_bias(net, seed):
    """Without biases a unit that is active has positive input, so no denominator on relevance's way is 0."""
    images = draw(seed, 3, 3, 9, 9)
    capture = ["conv1", "relu", "pool", "add", "cat", "conv3", "average"]
    for first in (None, ZBox((-4.0,) * 3, (4.0,) * 3)):
        propagator = Propagator(net, composites.alpha_beta(first=first))
        activations = propagator.forward(images, keep=["flatten"])
        positive = activations.outputs["flatten"] @ net.linear.weight.clamp(min=0).T
        assume((positive > 0).all())
        start = draw(seed + 1, 2, 3, 4)
        result = propagator.propagate(activations, start, capture=capture)
        totals = start.sum(2)
        close(result.relevance.sum((2, 3, 4)), totals)
        for name in ("conv1", "relu", "conv3", "average"):  # cuts through the network that all relevance crosses
            close(result.captured[name].sum((2, 3, 4)), totals)


@LINEAR
@given(net=nets(), seed=SEEDS, a=st.floats(-3, 3), b=st.floats(-3, 3))
@FEW
def test_linear_in_the_start(composite, net, seed, a, b):
    propagator = Propagator(net, composite)
    activations = propagator.forward(draw(seed, 2, 3, 9, 9))
    first, second = draw(seed + 1, 1, 2, 4), draw(seed + 2, 1, 2, 4)
    maps = [propagator.propagate(activations, start).relevance for start in (first, second, a * first + b * second)]
    close(a * maps[0] + b * maps[1], maps[2])


@LINEAR
@given(net=nets(), seed=SEEDS)
@FEW
def test_stacked_starts_are_separate_passes(composite, net, seed):
    propagator = Propagator(net, composite)
    activations = propagator.forward(draw(seed, 2, 3, 9, 9))
    start = draw(seed + 1, 4, 2, 4)
    together = propagator.propagate(activations, start).relevance
    close(together, torch.cat([propagator.propagate(activations, one[None]).relevance for one in start]))


@LINEAR
@given(net=nets(), seed=SEEDS)
@FEW
def test_an_image_alone_gives_the_map_it_gives_in_a_batch(composite, net, seed):
    propagator = Propagator(net, composite)
    images, start = draw(seed, 4, 3, 9, 9), draw(seed + 1, 1, 4, 4)
    together = propagator.propagate(propagator.forward(images), start).relevance
    order = [2, 0, 3, 1]
    shuffled = propagator.propagate(propagator.forward(images[order]), start[:, order]).relevance
    close(shuffled, together[:, order])
    for i in range(4):
        alone = propagator.propagate(propagator.forward(images[i : i + 1]), start[:, i : i + 1]).relevance
        close(alone, together[:, i : i + 1])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_batches_do_not_matter_on_trained_networks(architecture, dtype):
    propagator = Propagator(network(architecture, dtype), composites.alpha_beta())
    images, targets = inputs(dtype)

    def maps(rows):
        activations = propagator.forward(images[rows])
        return propagator.propagate(activations, starts.one_hot(activations.logits, targets[0, rows])[None]).relevance[
            0
        ]

    together, alone = maps(slice(0, 4)), torch.cat([maps(slice(i, i + 1)) for i in range(4)])
    scale = together.flatten(1).abs().amax(1)
    assert ((alone - together).flatten(1).abs().amax(1) / scale).max() < (1e-4 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("start", [starts.clrp, starts.sglrp])
@given(net=nets(), seed=SEEDS)
@FEW
def test_one_contrastive_pass_is_the_difference_of_two(start, net, seed):
    propagator = Propagator(net, composites.alpha_beta())
    activations = propagator.forward(draw(seed, 3, 3, 9, 9))
    targets = torch.tensor([0, 3, 1])
    whole = start(activations.logits, targets)
    at = starts.one_hot(activations.logits, targets)
    one, target, others = (
        propagator.propagate(activations, s[None]).relevance for s in (whole, whole * at, -whole * (1 - at))
    )
    close(one, target - others)


@given(seed=SEEDS)
@FEW
def test_contrastive_starts(seed):
    logits, targets = draw(seed, 3, 4), torch.tensor([0, 3, 1])
    rows, y = torch.arange(3), logits.softmax(1)
    clrp, sglrp = starts.clrp(logits, targets), starts.sglrp(logits, targets)
    close(clrp.sum(1), torch.zeros(3, dtype=torch.float64))
    close(clrp[rows, targets], logits[rows, targets])
    paper = -y[rows, targets][:, None] * y
    paper[rows, targets] += y[rows, targets]
    close(sglrp * (y * (1 - y))[rows, targets][:, None], paper)


@given(seed=SEEDS)
@FEW
def test_a_certain_network_still_has_an_sglrp_start(seed):
    logits = draw(seed, 2, 5).float()
    logits[:, 1] += 80  # 1 - y is 0 in float32
    start = starts.sglrp(logits, torch.tensor([1, 1]))
    assert start.isfinite().all() and (start[:, 1] == 1).all()
    torch.testing.assert_close(start.sum(1), torch.zeros(2), atol=1e-6, rtol=0)


@LINEAR
@given(seed=SEEDS, pool=st.sampled_from(["max", "ceil", "average"]), norm=st.booleans())
@FEW
def test_in_place_activations_change_nothing(composite, seed, pool, norm):
    images, start = draw(seed, 2, 3, 9, 9), draw(seed + 1, 1, 2, 4)
    maps = []
    for inplace in (True, False):
        propagator = Propagator(Net(seed, pool, True, norm, inplace), composite)
        maps.append(propagator.propagate(propagator.forward(images), start).relevance)
    assert torch.equal(*maps)


@pytest.mark.parametrize("training", [True, False])
@LINEAR
def test_the_users_model_images_and_start_stay_as_they_are(composite, training):
    net = Net(3, "max", bias=True, norm=True, inplace=True).train(training)
    net.conv2.eval()
    state = copy.deepcopy(net.state_dict())
    modules = {name: (id(module), module.training) for name, module in net.named_modules()}
    parameters = {name: (id(p), p.data_ptr(), p.requires_grad) for name, p in net.named_parameters()}
    hooks = [len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks) for m in net.modules()]
    images, start = draw(0, 2, 3, 9, 9), draw(1, 2, 2, 4)
    given_images, given_start = images.clone(), start.clone()

    propagator = Propagator(net, composite)
    propagator.propagate(propagator.forward(images), start, capture=["conv2"], transforms={"conv3": lambda r: r * 2})

    assert torch.equal(images, given_images) and torch.equal(start, given_start)
    assert {name: (id(module), module.training) for name, module in net.named_modules()} == modules
    assert {name: (id(p), p.data_ptr(), p.requires_grad) for name, p in net.named_parameters()} == parameters
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert hooks == [len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks) for m in net.modules()]
    assert all(p.grad is None for p in net.parameters()) and net.relu.inplace


@LINEAR
@given(net=nets(norm=False), seed=SEEDS)
@FEW
def test_stop_and_capture(composite, net, seed):
    propagator = Propagator(net, composite)
    activations = propagator.forward(draw(seed, 2, 3, 9, 9))
    start = draw(seed + 1, 2, 2, 4)
    names = [operation.name for operation in propagator.graph]
    whole = propagator.propagate(activations, start, capture=names)
    assert set(whole.captured) == set(names)
    assert torch.equal(whole.captured["input"], whole.relevance)
    assert torch.equal(whole.captured["linear"], start)
    for name in names:
        early = propagator.propagate(activations, start, stop=name)
        assert torch.equal(early.relevance, whole.captured[name])
        assert early.relevance.shape[1:] == activations.shapes[name]


@LINEAR
@given(net=nets(norm=False), seed=SEEDS, layer=st.sampled_from(["conv1", "pool", "conv2", "add", "cat", "average"]))
@FEW
def test_transforms_change_what_travels_on(composite, net, seed, layer):
    propagator = Propagator(net, composite)
    activations = propagator.forward(draw(seed, 2, 3, 9, 9))
    start = draw(seed + 1, 2, 2, 4)
    plain = propagator.propagate(activations, start, capture=[layer])
    seen = []

    def double(relevance: Tensor) -> Tensor:
        seen.append(relevance.clone())
        return relevance * 2

    changed = propagator.propagate(activations, start, capture=[layer], transforms={layer: double})
    # It is called once, with all relevance that arrives (the pool feeds three), and capture sees its result.
    assert len(seen) == 1 and torch.equal(seen[0], plain.captured[layer])
    assert torch.equal(changed.captured[layer], plain.captured[layer] * 2)
    if layer not in ("conv2", "add"):  # these two see only a part of the relevance
        close(changed.relevance, plain.relevance * 2)
    removed = propagator.propagate(activations, start, transforms={layer: torch.zeros_like})
    if layer not in ("conv2", "add"):
        assert not removed.relevance.any()
    stopped = propagator.propagate(activations, start, stop=layer, transforms={layer: double})
    assert torch.equal(stopped.relevance, plain.captured[layer] * 2)


def test_transforms_compose_from_the_output_to_the_input():
    propagator = Propagator(Net(1, "max", True, False, False), composites.alpha_beta())
    activations = propagator.forward(draw(1, 2, 3, 9, 9))
    start, mask = draw(2, 1, 2, 4), draw(3, 1, 2, 1, 5, 5).abs()
    order = []

    def named(name, function):
        return lambda r: (order.append(name), function(r))[1]

    transforms = {"conv1": named("conv1", lambda r: r * mask), "conv3": named("conv3", lambda r: r * 3)}
    result = propagator.propagate(activations, start, transforms=transforms, capture=["conv1"])
    plain = propagator.propagate(activations, start, stop="conv1").relevance
    assert order == ["conv3", "conv1"]
    close(result.captured["conv1"], plain * 3 * mask)


def test_forward_until_and_keep():
    net = Net(1, "max", True, True, False)
    propagator = Propagator(net, composites.gradient())
    images = draw(1, 2, 3, 9, 9)
    whole = propagator.forward(images, keep=["conv2", "norm"])
    close(whole.logits, net(images).detach())
    close(whole.outputs["conv2"], net.conv2(net.pool(net.norm(net.conv1(images)).relu())).detach())
    until = propagator.forward(images, keep=["norm"], until="conv2")
    assert set(until.outputs) == {"norm"} and torch.equal(until.logits, whole.outputs["conv2"])
    assert not whole.logits.requires_grad


def test_errors_name_the_culprit():
    propagator = Propagator(network("vgg16"), composites.alpha_beta())
    activations = propagator.forward(inputs()[0][:2])
    start = torch.zeros(1, 2, 10, dtype=torch.float64)
    message = r"layer 'features\.99' does not exist in this model; it has: features\.0, features\.1, .*classifier\.6"
    for options in ({"stop": "features.99"}, {"capture": ["features.99"]}, {"transforms": {"features.99": abs}}):
        with pytest.raises(InputError, match=message):
            propagator.propagate(activations, start, **options)
    with pytest.raises(InputError, match=message):
        propagator.forward(inputs()[0][:2], keep=["features.99"])
    with pytest.raises(InputError, match=message):
        propagator.forward(inputs()[0][:2], until="features.99")
    for shape in ((2, 10), (1, 3, 10), (1, 2, 9), (1, 2, 10, 1)):
        with pytest.raises(InputError, match=r"the start has shape .*, expected \('K', 2, 10\)"):
            propagator.propagate(activations, torch.zeros(shape))
    with pytest.raises(InputError, match="batch_norm 'fuse' is unknown; choose one of fold, pass, alpha_beta"):
        composites.alpha_beta(batch_norm="fuse")
