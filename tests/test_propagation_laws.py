"""Laws that relevance obeys on any network: properties over random networks, images and starts, in float64."""

import copy

import pytest
import relmap
import torch
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from random_networks import BLOCKS, CLASSES, IMAGE, PLAIN, Network, lists, networks
from reference_nets import inputs, network
from relmap.catalogue.methods import ATTENTION, BRANCH, SIZES
from relmap.errors import InputError
from relmap.propagation import Propagator, composites, starts
from relmap.propagation.rules import AlphaBeta, Epsilon, Flat, Gamma, Pass, Share, ZBox
from torch import Tensor, nn
from trials import tried

BOX = ZBox(-6.0, 6.0)
COMPOSITES = {
    "a1b0": composites.alpha_beta(),
    "a1b0_box": composites.alpha_beta(first=BOX),
    "a1b0_pass": composites.alpha_beta(batch_norm="pass"),
    "a1b0_affine": composites.alpha_beta(batch_norm="alpha_beta"),
    "a2b1": composites.alpha_beta(2, 1),
    "a2b1_bias": composites.alpha_beta(2, 1, bias=True),
    "epsilon": composites.epsilon(0.1),
    "epsilon_no_bias": composites.epsilon(0.1, bias=False),
    "gamma_box": composites.epsilon_gamma_box(-6.0, 6.0),
    "plus_flat": composites.epsilon_plus_flat(),
    "flat": composites.Composite(composites.STRUCTURE | dict.fromkeys(("conv", "linear"), Flat())),
    "gradient": composites.gradient(),
    "excitation": composites.excitation_backprop(),
}
NOT_LINEAR = {"deconvnet": composites.gradient("deconvnet"), "guided": composites.gradient("guided")}
EACH = pytest.mark.parametrize(
    "composite", [*COMPOSITES.values(), *NOT_LINEAR.values()], ids=[*COMPOSITES, *NOT_LINEAR]
)
LINEAR = pytest.mark.parametrize("composite", COMPOSITES.values(), ids=COMPOSITES)
# Networks are small as they are: to shrink one that breaks a law takes longer than to understand it.
FEW = settings(max_examples=3, deadline=None, derandomize=True, phases=(Phase.explicit, Phase.generate))
MORE = settings(FEW, max_examples=15)
SEEDS = st.integers(0, 1000)


def draw(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def images(seed: int, count: int = 2) -> Tensor:
    return draw(seed, count, *IMAGE)


def close(a: Tensor, b: Tensor, tolerance: float = 1e-9) -> None:
    """Equal to a part of b's largest entry: rounding of large parts that cancel is no error."""
    torch.testing.assert_close(a, b, rtol=1e-8, atol=tolerance * max(1.0, b.abs().max().item()))


def walk_of(net: nn.Module, composite):
    return Propagator(net).by(composite)


# Every network


@given(net=networks(), seed=SEEDS)
@settings(MORE, max_examples=25)
def test_a_traced_network_computes_what_the_model_does(net, seed):
    x = images(seed)
    propagator = Propagator(net)
    close(propagator.forward(x).logits, net(x.clone()).detach())


@given(net=networks(), seed=SEEDS)
@MORE
def test_the_gradient_is_autograds(net, seed):
    x, start = images(seed, 3).requires_grad_(), draw(seed + 1, 1, 3, CLASSES)
    walk = walk_of(net, composites.gradient())
    (expected,) = torch.autograd.grad((net(x * 1) * start[0]).sum(), x)  # x * 1: in-place ReLUs must not meet a leaf
    close(walk.propagate(walk.forward(x), start).relevance[0], expected)


class _Altered(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, guided):
        ctx.guided = guided
        ctx.save_for_backward(x)
        return x.clamp(min=0)

    @staticmethod
    def backward(ctx, r):
        (x,) = ctx.saved_tensors
        return r.clamp(min=0) * ((x > 0) if ctx.guided else 1), None


@pytest.mark.parametrize("mode", ["deconvnet", "guided"])
@given(blocks=lists(), net_seed=SEEDS, seed=SEEDS)
@MORE
def test_deconvnet_and_guided_are_autograd_with_other_relus(mode, blocks, net_seed, seed):
    x, start = images(seed, 3).requires_grad_(), draw(seed + 1, 1, 3, CLASSES)
    net = Network(blocks, net_seed, inplace=True)
    walk = walk_of(net, composites.gradient(mode))
    result = walk.propagate(walk.forward(x), start).relevance[0]
    for module in [module for module in net.modules() if isinstance(module, nn.ReLU)]:
        module.forward = lambda x: _Altered.apply(x, mode == "guided")
    (expected,) = torch.autograd.grad((net(x) * start[0]).sum(), x)
    close(result, expected)


@given(net=networks(), seed=SEEDS)
@settings(MORE, max_examples=30)
def test_lrp_0_is_input_times_gradient(net, seed):
    """Of a logit of a ReLU network, wherever its batch norms stand; average pools and sums share by signed inputs."""
    x = images(seed, 3).requires_grad_()
    walk = walk_of(net, composites.epsilon(0.0))
    activations = walk.forward(x)
    start = starts.logit(activations.logits, torch.tensor([0, 3, 1]))
    (gradient,) = torch.autograd.grad((net(x * 1) * (start != 0)).sum(), x)
    close(walk.propagate(activations, start[None]).relevance[0], x.detach() * gradient, 1e-7)


@given(seed=SEEDS)
@MORE
def test_a_batch_norm_is_an_affine_layer(seed):
    """LRP-epsilon and gamma of a norm that nothing takes in: those of the 1 x 1 convolution that computes the same."""
    norm = nn.BatchNorm2d(3).double().eval()
    for value in (norm.running_mean, norm.weight.data, norm.bias.data):
        value.copy_(draw(seed, 3))
    layer = nn.Conv2d(3, 3, 1, groups=3).double()
    scale = norm.weight / torch.sqrt(norm.running_var + norm.eps)
    layer.weight.data, layer.bias.data = (
        scale.detach().view(3, 1, 1, 1),
        (norm.bias - norm.running_mean * scale).detach(),
    )
    rest = nn.Sequential(nn.ReLU(), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(4 * 8 * 7, CLASSES)).double()
    x, start = images(seed), draw(seed + 1, 1, 2, CLASSES)
    for composite in (
        composites.epsilon(0.1),
        composites.epsilon(0.0),
        composites.epsilon(0.1, bias=False),
        composites.gamma(),
        composites.gamma(bias=False),
    ):
        walks = [walk_of(nn.Sequential(each, *rest), composite) for each in (norm, layer)]
        close(*[walk.propagate(walk.forward(x), start).relevance for walk in walks])


@given(net=networks([name for name in PLAIN if name != "shared"], bias=False), seed=SEEDS)
@MORE
def test_lrp_0_conserves_relevance_in_networks_without_bias(net, seed):
    walk = walk_of(net, composites.epsilon(0.0))
    activations = walk.forward(images(seed, 3))
    start = draw(seed + 1, 2, 3, CLASSES) * activations.logits
    close(walk.propagate(activations, start).relevance.sum((2, 3, 4)), start.sum(2), 1e-7)


@given(net=networks(PLAIN, bias=False), seed=SEEDS, box=st.booleans())
@settings(MORE, max_examples=25)
def test_z_plus_conserves_relevance_in_networks_without_bias(net, seed, box):
    """Without biases a unit that is active has positive input, so no denominator on relevance's way is 0."""
    walk = walk_of(net, composites.alpha_beta(first=BOX if box else None))
    activations = walk.forward(images(seed, 3), keep=["flatten"])
    positive = activations.outputs["flatten"] @ net.linear.weight.clamp(min=0).T
    assume((positive > 0).all())
    start = draw(seed + 1, 2, 3, CLASSES)
    result = walk.propagate(activations, start, capture=["flatten", "stem.relu"])
    for relevance in (result.relevance, *result.captured.values()):  # cuts that all relevance crosses
        close(relevance.flatten(2).sum(2), start.sum(2))


@given(
    net=networks(("conv", "grouped", "depthwise", "max", "ceil", "concatenated", "rows", "shared", "twice")), seed=SEEDS
)
@MORE
def test_flat_conserves_relevance_whatever_the_network_computes(net, seed):
    walk = walk_of(net, COMPOSITES["flat"])
    start = draw(seed + 1, 2, 3, CLASSES)
    for x in (images(seed, 3), torch.zeros(3, *IMAGE, dtype=torch.float64)):
        close(walk.propagate(walk.forward(x), start).relevance.sum((2, 3, 4)), start.sum(2))


# Each operation by itself: what its rule must keep of the relevance that it gets, from sums of contributions


def kept_share(rule, operation, xs: list[Tensor]) -> Tensor | float:
    """Which part of each output's relevance its rule hands on, from z+ and z- of float64 convolutions of their own."""
    affine = operation.affine

    def z(own: str, other: str) -> Tensor:
        (x,) = xs
        return affine.apply(x.clamp(min=0), affine.weights(own)) + affine.apply(x.clamp(max=0), affine.weights(other))

    match rule:
        case AlphaBeta(bias=False):
            up, down = z("positive", "negative"), z("negative", "positive")
            return rule.alpha * (up > 0) - rule.beta * (down < 0)
        case AlphaBeta():
            up, down = z("positive", "negative"), z("negative", "positive")
            b = torch.zeros(len(affine.weight)).double() if affine.bias is None else affine.bias
            upper = affine.add_bias(up, b.clamp(min=0)) + rule.epsilon
            lower = affine.add_bias(down, b.clamp(max=0)) - rule.epsilon
            return rule.alpha * (up / torch.where(upper == 0, 1, upper)) - rule.beta * (
                down / torch.where(lower == 0, 1, lower)
            )
        case Epsilon():
            own = affine.apply(xs[0], affine.weights("own"))
            whole = own if affine.bias is None or not rule.bias else affine.add_bias(own, affine.bias)
            whole = whole + rule.epsilon * torch.where(whole < 0, -1, 1)
            return own / torch.where(whole == 0, 1, whole)
        case Share():
            part = {"signed": lambda x: x, "positive": torch.relu, "absolute": torch.abs}[rule.part]
            own = operation.run(*map(part, xs))
            whole = own + rule.epsilon * torch.where(own < 0, -1, 1)
            return own / torch.where(whole == 0, 1, whole)
        case ZBox() | Gamma():
            return None
        case _:
            return 1.0


@pytest.mark.parametrize("name", [name for name in COMPOSITES if name != "gradient"])
@given(net=networks(), seed=SEEDS)
@FEW
def test_every_operation_keeps_the_relevance_that_its_rule_promises(name, net, seed):
    walk = walk_of(net, COMPOSITES[name])
    names = [operation.name for operation in walk.graph]
    activations = walk.forward(images(seed), keep=names)
    seen = []

    def observe(operation, relevance: Tensor, parts: tuple[Tensor, ...]) -> None:
        step = walk.steps[operation.name]
        share = kept_share(step.rule, step.operation, [activations.outputs[name] for name in operation.inputs])
        seen.append(operation.name)
        if share is not None:
            size = relevance.abs().flatten(2).sum(2) + sum(part.abs().flatten(2).sum(2) for part in parts)
            gap = sum(part.flatten(2).sum(2) for part in parts) - (relevance * share).flatten(2).sum(2)
            assert (gap.abs() <= 1e-8 * size + 1e-12).all(), (operation.name, step.rule, gap, size)

    walk.propagate(activations, draw(seed + 1, 2, 2, CLASSES), observe=observe)
    assert seen == [name for name in reversed(names) if name != "input"]
    assert Pass() not in (walk.steps["linear"].rule, walk.steps["stem.layers.0"].rule)


# Starts


@LINEAR
@given(net=networks(), seed=SEEDS, a=st.floats(-3, 3), b=st.floats(-3, 3))
@FEW
def test_linear_in_the_start(composite, net, seed, a, b):
    walk = walk_of(net, composite)
    activations = walk.forward(images(seed))
    first, second = draw(seed + 1, 1, 2, CLASSES), draw(seed + 2, 1, 2, CLASSES)
    maps = [walk.propagate(activations, start).relevance for start in (first, second, a * first + b * second)]
    scale = max(value.abs().max().item() for value in maps)
    assert (a * maps[0] + b * maps[1] - maps[2]).abs().max() <= 1e-8 * scale


@EACH
@given(net=networks(), seed=SEEDS)
@FEW
def test_stacked_starts_are_separate_passes(composite, net, seed):
    walk = walk_of(net, composite)
    activations = walk.forward(images(seed))
    start = draw(seed + 1, 4, 2, CLASSES)
    start[2] = start[0]
    together = walk.propagate(activations, start).relevance
    close(together, torch.cat([walk.propagate(activations, one[None]).relevance for one in start]))
    assert torch.equal(together[2], together[0])
    same = walk.propagate(activations, start[:1].expand(3, -1, -1)).relevance  # one start, read three times
    close(same, together[:1].expand_as(same))


@pytest.mark.parametrize("start", [starts.clrp, starts.sglrp])
@given(net=networks(), seed=SEEDS)
@FEW
def test_one_contrastive_pass_is_the_difference_of_two(start, net, seed):
    walk = walk_of(net, composites.alpha_beta())
    activations = walk.forward(images(seed, 3))
    targets = torch.tensor([0, 3, 1])
    whole = start(activations.logits, targets)
    at = starts.one_hot(activations.logits, targets)
    one, target, others = (
        walk.propagate(activations, s[None]).relevance for s in (whole, whole * at, -whole * (1 - at))
    )
    scale = max(target.abs().max().item(), others.abs().max().item())
    assert (one - (target - others)).abs().max() <= 1e-10 * scale


@given(seed=SEEDS)
@FEW
def test_contrastive_starts(seed):
    logits, targets = draw(seed, 3, 4), torch.tensor([0, 3, 1])
    rows, y = torch.arange(3), logits.softmax(1)
    clrp, sglrp = starts.clrp(logits, targets), starts.sglrp(logits, targets)
    close(clrp.sum(1), torch.zeros(3, dtype=torch.float64))
    close(clrp[rows, targets], logits[rows, targets].abs())
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
    torch.testing.assert_close(start.sum(1), torch.zeros(2).double(), atol=1e-15, rtol=0)


@pytest.mark.parametrize("name", starts.STARTS)
def test_a_network_with_one_class_has_every_start(name):
    start = starts.STARTS[name](draw(0, 3, 1), torch.zeros(3, dtype=torch.long))
    assert start.shape == (3, 1) and start.isfinite().all()


# Batches


@EACH
@given(net=networks(), seed=SEEDS)
@FEW
def test_an_image_alone_gives_the_map_it_gives_in_a_batch(composite, net, seed):
    walk = walk_of(net, composite)
    x, start = images(seed, 4), draw(seed + 1, 1, 4, CLASSES)
    x[1] = 0
    together = walk.propagate(walk.forward(x), start).relevance
    order = [2, 0, 3, 1]
    shuffled = walk.propagate(walk.forward(x[order]), start[:, order]).relevance
    close(shuffled, together[:, order])
    for i in range(4):
        alone = walk.propagate(walk.forward(x[i : i + 1]), start[:, i : i + 1]).relevance
        close(alone, together[:, i : i + 1])


@EACH
@given(net=networks(), seed=SEEDS)
@FEW
def test_a_broken_image_breaks_no_other(composite, net, seed):
    walk = walk_of(net, composite)
    x, start = images(seed, 3), draw(seed + 1, 2, 3, CLASSES)
    sound = walk.propagate(walk.forward(x), start).relevance[:, [0, 2]]
    x[1] = torch.nan
    close(walk.propagate(walk.forward(x), start).relevance[:, [0, 2]], sound)


@EACH
def test_nothing_gives_nothing(composite):
    """No images, or no starts."""
    walk = walk_of(Network(tuple(BLOCKS), 1), composite)
    for n, k in ((0, 2), (2, 0)):
        result = walk.propagate(walk.forward(images(0, n)), torch.zeros(k, n, CLASSES, dtype=torch.float64))
        assert result.relevance.shape == (k, n, *IMAGE)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_batches_do_not_matter_on_trained_networks(architecture, dtype):
    walk = walk_of(network(architecture, dtype), composites.alpha_beta())
    x, targets = inputs(dtype)

    def maps(rows):
        activations = walk.forward(x[rows])
        return walk.propagate(activations, starts.one_hot(activations.logits, targets[0, rows])[None]).relevance[0]

    together, alone = maps(slice(0, 4)), torch.cat([maps(slice(i, i + 1)) for i in range(4)])
    scale = together.flatten(1).abs().amax(1)
    assert ((alone - together).flatten(1).abs().amax(1) / scale).max() < (1e-4 if dtype == torch.float32 else 1e-12)


# How a model is written


@EACH
@given(blocks=lists(), net_seed=SEEDS, seed=SEEDS)
@FEW
def test_in_place_activations_change_nothing(composite, blocks, net_seed, seed):
    x, start = images(seed), draw(seed + 1, 1, 2, CLASSES)
    maps = []
    for inplace in (True, False):
        walk = walk_of(Network(blocks, net_seed, True, inplace), composite)
        maps.append(walk.propagate(walk.forward(x), start).relevance)
    assert torch.equal(*maps)


class Aliased(nn.Module):
    """What an in-place ReLU leaves in a tensor that is read again."""

    def __init__(self, inplace: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.relu = nn.Conv2d(3, 4, 3).double(), nn.ReLU(inplace)
        self.linear = nn.Linear(4, CLASSES).double()

    def forward(self, x):
        x = self.conv(x)
        y = self.relu(x)
        z = x + y if self.relu.inplace else y + y
        return self.linear(z.mean((2, 3)))


@EACH
def test_a_tensor_that_was_overwritten_is_the_new_one(composite):
    x, start = images(0), draw(1, 1, 2, CLASSES)
    maps = []
    for inplace in (True, False):
        walk = walk_of(Aliased(inplace), composite)
        activations = walk.forward(x)
        close(activations.logits, Aliased(inplace)(x).detach())
        maps.append(walk.propagate(activations, start).relevance)
    close(*maps)


@EACH
@given(blocks=lists(("shared", "shared_norm", "max", "residual")), net_seed=SEEDS, seed=SEEDS)
@FEW
def test_a_layer_used_twice_is_two_equal_layers(composite, blocks, net_seed, seed):
    x, start = images(seed), draw(seed + 1, 1, 2, CLASSES)
    net = Network(("shared_norm", *blocks), net_seed)
    twin = copy.deepcopy(net)
    for index, block in enumerate(twin.blocks):
        if type(block).__name__ == "Shared":
            twin.blocks[index] = nn.Sequential(block.layers, nn.ReLU(), copy.deepcopy(block.layers), nn.ReLU())
    maps = [
        walk.propagate(walk.forward(x), start).relevance for walk in (walk_of(net, composite), walk_of(twin, composite))
    ]
    close(*maps)


class NormOfTokens(nn.Module):
    """A batch norm along the tokens of a linear layer's output; as many tokens as features."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.linear, self.norm = nn.Conv2d(3, 4, 1), nn.Linear(90, 4), nn.BatchNorm1d(4)
        self.head = nn.Linear(16, CLASSES)
        self.norm.running_mean.normal_()
        self.norm.running_var.uniform_(0.5, 2)
        nn.init.normal_(self.norm.weight)
        self.double().eval()

    def forward(self, x):
        return self.head(self.norm(self.linear(self.conv(x).flatten(2))).relu().flatten(1))


def test_a_norm_along_another_dimension_is_not_folded():
    """The channels of a batch norm are dimension 1, those of a linear layer the last one."""
    x, net = images(0).requires_grad_(), NormOfTokens()
    walk = walk_of(net, composites.epsilon(0.0))
    activations = walk.forward(x)
    close(activations.logits, net(x).detach())
    with pytest.raises(InputError, match="normalises another dimension"):
        walk.propagate(activations, torch.ones(1, *activations.logits.shape).double())
    unfolded = walk_of(net, composites.gradient())
    unfolded.propagate(unfolded.forward(x), torch.ones(1, *activations.logits.shape).double())


@EACH
@pytest.mark.parametrize("training", [True, False])
def test_the_users_model_images_and_start_stay_as_they_are(composite, training):
    net = Network(tuple(BLOCKS), 3, inplace=True).train(training)
    net.blocks[0].eval()
    state = copy.deepcopy(net.state_dict())
    modules = {name: (id(module), module.training) for name, module in net.named_modules()}
    parameters = {name: (id(p), p.data_ptr(), p.requires_grad) for name, p in net.named_parameters()}
    hooks = [len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks) for m in net.modules()]
    x, start = images(0), draw(1, 2, 2, CLASSES)
    given_images, given_start = x.clone(), start.clone()

    walk = walk_of(net, composite)
    walk.propagate(walk.forward(x), start, capture=["flatten"], transforms={"blocks.0.relu": lambda r: r * 2})

    assert torch.equal(x, given_images) and torch.equal(start, given_start)
    assert {name: (id(module), module.training) for name, module in net.named_modules()} == modules
    assert {name: (id(p), p.data_ptr(), p.requires_grad) for name, p in net.named_parameters()} == parameters
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())
    assert hooks == [len(m._forward_hooks) + len(m._backward_hooks) + len(m._forward_pre_hooks) for m in net.modules()]
    assert all(p.grad is None for p in net.parameters()) and net.stem.relu.inplace


@EACH
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_the_callers_gradient_mode_does_not_matter(composite, mode):
    walk = walk_of(Network(tuple(BLOCKS), 3), composite)
    x, start = images(0).requires_grad_(), draw(1, 1, 2, CLASSES)
    expected = walk.propagate(walk.forward(x), start).relevance
    with mode():
        result = walk.propagate(walk.forward(x), start).relevance
    assert torch.equal(result, expected) and not result.requires_grad
    with mode():
        fresh = walk_of(Network(tuple(BLOCKS), 3), composite)
        assert torch.equal(fresh.propagate(fresh.forward(images(0)), draw(1, 1, 2, CLASSES)).relevance, expected)


# What a caller may ask for on the way


@EACH
@given(net=networks(), seed=SEEDS)
@FEW
def test_stopping_capturing_and_observing_change_nothing(composite, net, seed):
    """Relevance that was handed out stays as it was then, and so does what the forward pass kept."""
    walk = walk_of(net, composite)
    activations = walk.forward(images(seed))
    kept = {name: value.clone() for name, value in activations.outputs.items()}
    start = draw(seed + 1, 2, 2, CLASSES)
    plain = walk.propagate(activations, start).relevance
    names = [operation.name for operation in walk.graph]
    seen = {}

    def observe(operation, relevance, parts):
        assert operation.name not in seen and len(parts) == len(operation.inputs)
        seen[operation.name] = relevance, relevance.clone(), parts, [part.clone() for part in parts]

    whole = walk.propagate(activations, start, capture=names, observe=observe)
    assert set(whole.captured) == set(names)
    assert torch.equal(whole.relevance, plain)
    assert torch.equal(whole.captured["input"], plain)
    assert torch.equal(whole.captured["linear"], start)
    assert all(torch.equal(kept[name], value) for name, value in activations.outputs.items())
    for name, (relevance, then, parts, parts_then) in seen.items():
        assert torch.equal(relevance, then) and torch.equal(whole.captured[name], then), name
        assert all(torch.equal(now, once) for now, once in zip(parts, parts_then, strict=True)), name
    for name in names:
        early = walk.propagate(activations, start, stop=name)
        assert torch.equal(early.relevance, whole.captured[name])
        assert early.relevance.shape[1:] == activations.shapes[name]


@EACH
@given(blocks=lists(), net_seed=SEEDS, seed=SEEDS)
@FEW
def test_a_pass_can_start_where_another_stopped(composite, blocks, net_seed, seed):
    walk = walk_of(Network(blocks, net_seed), composite)
    activations = walk.forward(images(seed))
    whole = walk.propagate(activations, draw(seed + 1, 2, 2, CLASSES), capture=["stem.relu", "flatten"])
    for name, relevance in whole.captured.items():
        assert torch.equal(walk.propagate(activations, relevance, at=name).relevance, whole.relevance)


@given(net=networks(), seed=SEEDS)
@FEW
def test_methods_on_one_forward_pass_are_methods_alone(net, seed):
    propagator = Propagator(net)
    walks = {name: propagator.by(composite) for name, composite in (COMPOSITES | NOT_LINEAR).items()}
    x, start = images(seed), draw(seed + 1, 2, 2, CLASSES)
    shared = propagator.forward(x, walks.values())
    together = {name: walk.propagate(shared, start).relevance for name, walk in walks.items()}
    for name, composite in (COMPOSITES | NOT_LINEAR).items():
        alone = walk_of(net, composite)
        assert torch.equal(alone.propagate(alone.forward(x), start).relevance, together[name]), name
        assert torch.equal(walks[name].propagate(shared, start).relevance, together[name]), name


TRUNK = ("residual", "max", "concatenated")


@EACH
@given(
    seed=SEEDS, layer=st.sampled_from(["stem.layers.0", "blocks.0.add", "blocks.1", "blocks.2.relu", "blocks.2.cat"])
)
@FEW
def test_transforms_change_what_travels_on(composite, seed, layer):
    walk = walk_of(Network(TRUNK, seed), composite)
    activations = walk.forward(images(seed))
    start = draw(seed + 1, 2, 2, CLASSES)
    plain = walk.propagate(activations, start, capture=[layer])
    seen = []

    def double(relevance: Tensor) -> Tensor:
        seen.append(relevance.clone())
        return relevance * 2

    changed = walk.propagate(activations, start, capture=[layer], transforms={layer: double})
    # It is called once, with all relevance that arrives (the pool feeds two), and capture sees its result.
    assert len(seen) == 1 and torch.equal(seen[0], plain.captured[layer])
    assert torch.equal(changed.captured[layer], plain.captured[layer] * 2)
    removed = walk.propagate(activations, start, transforms={layer: torch.zeros_like})
    if layer != "blocks.2.relu":  # all others see all relevance
        close(changed.relevance, plain.relevance * 2)
        assert not removed.relevance.any()
    stopped = walk.propagate(activations, start, stop=layer, transforms={layer: double})
    assert torch.equal(stopped.relevance, plain.captured[layer] * 2)


def test_transforms_compose_from_the_output_to_the_input():
    walk = walk_of(Network(TRUNK, 1), composites.alpha_beta())
    activations = walk.forward(images(1))
    start, mask = draw(2, 1, 2, CLASSES), draw(3, 1, 2, 1, *IMAGE[1:]).abs()
    order = []

    def named(name, function):
        return lambda r: (order.append(name), function(r))[1]

    transforms = {"stem.relu": named("stem.relu", lambda r: r * mask), "blocks.1": named("blocks.1", lambda r: r * 3)}
    result = walk.propagate(activations, start, transforms=transforms, capture=["stem.relu"])
    plain = walk.propagate(activations, start, stop="stem.relu").relevance
    assert order == ["blocks.1", "stem.relu"]
    close(result.captured["stem.relu"], plain * 3 * mask)


def test_forward_until_and_keep():
    net = Network(("norm", "residual"), 1)
    walk = walk_of(net, composites.gradient())
    x = images(1)
    whole = walk.forward(x, keep=["blocks.0.layers.0", "blocks.0.layers.1"])
    close(whole.logits, net(x).detach())
    expected = net.blocks[0].layers(net.stem(x)).detach()
    close(whole.outputs["blocks.0.layers.1"], expected)
    until = walk.forward(x, keep=["blocks.0.layers.0"], until="blocks.0.layers.1")
    assert set(until.outputs) == {"blocks.0.layers.0"} and until.logits.shape == expected.shape
    close(until.logits, expected)
    assert not whole.logits.requires_grad


def test_errors_name_the_culprit():
    propagator = Propagator(network("vgg16"))
    walk = propagator.by(composites.alpha_beta())
    activations = walk.forward(inputs()[0][:2])
    start = torch.zeros(1, 2, 10, dtype=torch.float64)
    message = r"layer 'features\.99' does not exist in this model; it has: features\.0, features\.1, .*classifier\.6"
    for options in (
        {"stop": "features.99"},
        {"at": "features.99"},
        {"capture": ["features.99"]},
        {"transforms": {"features.99": abs}},
    ):
        with pytest.raises(InputError, match=message):
            walk.propagate(activations, start, **options)
    with pytest.raises(InputError, match=message):
        walk.forward(inputs()[0][:2], keep=["features.99"])
    with pytest.raises(InputError, match=message):
        walk.forward(inputs()[0][:2], until="features.99")
    for shape in ((2, 10), (1, 3, 10), (1, 2, 9), (1, 2, 10, 1)):
        with pytest.raises(InputError, match=r"the start has shape .*, expected \('K', 2, 10\)"):
            walk.propagate(activations, torch.zeros(shape))
    with pytest.raises(InputError, match=r"did not keep 'classifier\.\d', which this method needs: give its walk"):
        walk.propagate(propagator.forward(inputs()[0][:2]), start)
    with pytest.raises(InputError, match="batch_norm 'fuse' is unknown; choose one of fold, pass, alpha_beta"):
        composites.alpha_beta(batch_norm="fuse")
    with pytest.raises(InputError, match=r"no relevance reaches 'classifier\.6'"):
        walk.propagate(activations, activations.outputs["features.29"][None], at="features.29", stop="classifier.6")


# Every method of the catalogue

# The networks here have no attention, and a last linear layer of all positions: not what the methods left out are made
# for, which are tested on transformers and the reference networks. Wrappers' laws are in test_ucag.py, test_contour.py.
METHODS = [
    method.id
    for method in relmap.methods()
    if not method.wraps and not {ATTENTION, BRANCH, SIZES}.intersection(method.needs)
]
NETWORKS = {
    "plain": ("conv", "max", "norm", "average", "conv"),
    "residual": ("residual_norm", "max", "residual_norm"),
    "branched": ("concatenated", "ceil", "shared", "norm"),
    "gated": ("gate", "norm"),
}
TARGETS = torch.tensor([[0, 3], [1, 1], [2, 0], [3, 1]])


def maps_by(method: str, name: str, x: Tensor, targets: Tensor, *, inplace: bool = False, size: int = 16) -> Tensor:
    """Maps (N, K, H, W), in float64."""
    propagator = Propagator(Network(NETWORKS[name], 11, True, inplace))
    return relmap.explain(propagator, x, targets, tried(method), batch_size=size)


def same(maps: Tensor, others: Tensor, tolerance: float = 1e-9, floor: float = 0.0) -> None:
    """Equal to a part of each map's largest entry: neither has to do with the other maps of the batch."""
    assert maps.isfinite().all()
    scale = others.abs().amax((-2, -1), keepdim=True)
    assert ((maps - others).abs() <= tolerance * scale + floor).all()


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("method", METHODS)
def test_maps_of_a_method_do_not_depend_on_the_batch(method, name):
    x = images(4, 4)
    x[3] *= 30  # what a batch is normalised by, this image has
    together = maps_by(method, name, x, TARGETS)
    same(maps_by(method, name, x, TARGETS, size=1), together)
    order = torch.tensor([3, 1, 0, 2])
    same(maps_by(method, name, x[order], TARGETS[order]), together[order])
    assert together.shape == (4, 2, *IMAGE[1:]) and together.any()


@pytest.mark.parametrize("name", ["residual", "branched"])
@pytest.mark.parametrize("method", METHODS)
def test_maps_of_several_targets_are_maps_of_each(method, name):
    x = images(5, 4)
    together = maps_by(method, name, x, TARGETS)
    # A difference of two maps of unit mass that cancel is rounding, widened by the divisors' epsilon.
    floor = 1e-7 if method in {"abslrp_normalised", "abslrp_normalised_resnet"} else 0.0
    same(torch.stack([maps_by(method, name, x, targets) for targets in TARGETS.T], 1), together, floor=floor)


@pytest.mark.parametrize("name", ["plain", "residual"])
@pytest.mark.parametrize("method", METHODS)
def test_maps_of_a_method_are_those_of_a_model_with_in_place_activations(method, name):
    x = images(6, 4)
    same(maps_by(method, name, x, TARGETS, inplace=True), maps_by(method, name, x, TARGETS), 1e-12)


@pytest.mark.parametrize("name", ["residual"])
def test_methods_share_a_forward_pass_without_touching_each_other(name):
    x, net = images(7, 2), Network(NETWORKS[name], 11)
    alone = {}
    for method in METHODS:
        try:
            alone[method] = relmap.explain(net, x, TARGETS[:2], tried(method))
        except InputError:
            continue
    assert len(alone) > 10
    for order in (list(alone), list(alone)[::-1]):
        together = relmap.compare(net, x, TARGETS[:2], list(map(tried, order)))
        for method, maps in together.items():
            same(maps, alone[method], 1e-12)
