"""absLRP against the authors' numbers, against Algorithm 1 run literally, and the laws that it promises.

Vectors (``reference/abslrp``): the authors' code of the paper's time, their later code, and Eq. 12, all computed in
float64 and stored in float32; channel sums but for one map. The difference of two passes is a small
remainder (1e-4 to 7e-2 of 2), so that rounding the stored maps and float32 itself weigh more in it.
"""

from functools import cache

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles.abslrp import LiteralAbsLRP, equation_12, literal_vit
from oracles.abslrp import sign_wise as literal_sign_wise
from reference_nets import inputs, network, vectors
from relmap.errors import InputError
from relmap.explainers.abslrp import AbsLRP, AbsLRPEquation12, AbsLRPNormalised, AbsLRPPatches
from relmap.propagation import Propagator, starts
from relmap.torchvision_shim import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

F64, F32 = torch.float64, torch.float32


@cache
def propagator(architecture: str, dtype: torch.dtype = F64) -> Propagator:
    return Propagator(network(architecture, dtype))


def maps(explainer, dtype=F64, images: int = 8, *, targets=None) -> Tensor:
    """(N, ...) of the label's map of the first images."""
    pictures, labels = inputs(dtype)
    activations = explainer.walk.forward(pictures[:images])
    return explainer.read(activations, (labels[:1] if targets is None else targets)[:, :images])[0]


def error(ours: Tensor, theirs) -> float:
    """Largest relative L2 error of a map."""
    theirs = torch.as_tensor(theirs).double()
    ours = ours.double() if ours.dim() == theirs.dim() else ours.double().sum(1)
    return ((ours - theirs).flatten(1).norm(dim=1) / theirs.flatten(1).norm(dim=1)).max().item()


MAPS = [
    ("vgg16", "vgg16s_papertime", "onehot", AbsLRP, {"contrast": "none"}),
    ("vgg16", "vgg16s_papertime", "single_pass_N", AbsLRP, {}),
    ("vgg16", "vgg16s_papertime", "single_pass_1000", AbsLRP, {"classes": 1000}),
    ("vgg16", "vgg16s_eq12", "eq12_onehot", AbsLRPEquation12, {"contrast": "none"}),
    ("vgg16", "vgg16s_eq12", "eq12_contrast", AbsLRPEquation12, {}),
    ("resnet50", "resnet50s", "papertime_onehot", AbsLRP, {"contrast": "none"}),
    ("resnet50", "resnet50s", "papertime_single_pass_N", AbsLRP, {}),
]
DIFFERENCES = [
    ("vgg16", "vgg16s_papertime", "difference", AbsLRP),
    ("vgg16", "vgg16s_eq12", "eq12_difference", AbsLRPEquation12),
    ("resnet50", "resnet50s", "papertime_difference", AbsLRP),
]


@pytest.mark.parametrize(("architecture", "file", "name", "make", "parameters"), MAPS)
def test_authors_maps(architecture, file, name, make, parameters):
    theirs = vectors(f"abslrp/{file}.npz")[name]
    # The single pass through ResNet-50 cancels nearly all of both signs in its first layers: 4e-7 is left of storage.
    assert error(maps(make(propagator(architecture), **parameters), images=len(theirs)), theirs) < 1e-6
    ours = maps(make(propagator(architecture, F32), **parameters), F32, 2)
    assert error(ours, theirs[:2]) < 1e-4


@pytest.mark.parametrize(("architecture", "file", "name", "make"), DIFFERENCES)
def test_authors_difference(architecture, file, name, make):
    theirs = vectors(f"abslrp/{file}.npz")[name]
    ours = maps(make(propagator(architecture), contrast="difference"), images=len(theirs))
    assert error(ours, theirs) < 2e-5
    # Their own code in float32 is off by 1e-2 of the maximum.
    ours = maps(make(propagator(architecture, F32), contrast="difference"), F32, len(theirs))
    assert error(ours, theirs) < 1e-4


@pytest.mark.parametrize("make", [AbsLRP, AbsLRPEquation12])
def test_a_difference_along_a_chain_is_that_of_two_maps(make):
    """Up to what the 1e-9 in every sum takes from each of the two, of a remainder of 1e-4 of them."""
    explainer = make(propagator("vgg16"), contrast="difference")
    assert explainer.pairs and not make(propagator("resnet50"), contrast="difference").pairs
    images, targets = inputs()
    activations = explainer.walk.forward(images)
    apart = make(propagator("vgg16"), contrast="difference")
    apart.pairs, apart.walk = False, make(propagator("vgg16"), contrast="none").walk
    ours, theirs = (each.read(activations, targets) for each in (explainer, apart))
    for one, other in zip(ours, theirs, strict=True):
        assert error(one, other) < 2e-5


def test_equation_12_without_bias():
    theirs = vectors("abslrp/vgg16s_eq12.npz")["eq12_onehot_nobias"]
    without = {"contrast": "none", "bias": False}
    assert error(maps(AbsLRPEquation12(propagator("vgg16"), **without)), theirs) < 1e-6
    # h - b cancels: units whose h without bias is near 0 dominate the map, and float32 does not know them.
    ours = maps(AbsLRPEquation12(propagator("vgg16", F32), **without), F32)
    assert torch.nn.functional.cosine_similarity(ours.sum(1).flatten(1), torch.tensor(theirs).flatten(1)).min() > 0.99


@pytest.mark.parametrize(("file", "name"), [("papertime", "others"), ("eq12", "eq12_others")])
def test_authors_other_classes(file, name):
    make = {"papertime": AbsLRP, "eq12": AbsLRPEquation12}[file]
    walk = make(propagator("vgg16")).walk
    images, labels = inputs()
    activations = walk.forward(images)
    ours = walk.propagate(activations, starts.others(activations.logits, labels[0])[None]).relevance[0]
    assert error(ours, vectors(f"abslrp/vgg16s_{file}.npz")[name]) < 1e-6


def signed_sums(x: Tensor) -> np.ndarray:
    """(2, N): sums of the positive and of the negative part of (1, N, ...)."""
    return np.stack([part[0].flatten(1).sum(1).numpy() for part in (x.clamp(min=0), x.clamp(max=0))])


def sums_per_operation(explainer, start, images: int) -> dict[str, np.ndarray]:
    """Operation -> (4, N): signed sums of its output's relevance, then of its inputs' relevance."""
    walk, (pictures, labels) = explainer.walk, inputs()
    activations = walk.forward(pictures[:images])
    found = {}

    def observe(operation, relevance, parts):
        found[operation.name] = np.concatenate([signed_sums(relevance), sum(signed_sums(part) for part in parts)])

    begin = start(activations.logits, labels[0, :images])[None]
    walk.propagate(activations, begin, observe=observe)
    return found


def bottlenecks() -> list[str]:
    """Operations of a ResNet-50 in the order of the authors' backward pass: the shortcut before the branch."""
    names = ["fc", "avgpool"]
    for layer, blocks in zip((4, 3, 2, 1), (3, 6, 4, 3), strict=True):
        for block in reversed(range(blocks)):
            place = f"layer{layer}.{block}"
            names += [f"{place}.relu_2"]
            names += [f"{place}.downsample.1", f"{place}.downsample.0"] if block == 0 else []
            names += [f"{place}.{name}" for name in ("bn3", "conv3", "relu_1", "bn2", "conv2", "relu", "bn1", "conv1")]
    return [*names, "maxpool", "relu", "bn1", "conv1"]


@pytest.mark.parametrize(
    ("architecture", "start"),
    [
        ("vgg16", "onehot"),
        ("vgg16", "single_pass_N"),
        ("vgg16", "single_pass_1000"),
        ("resnet50", "onehot"),
        ("resnet50", "single_pass_N"),
    ],
)
def test_authors_sums_after_every_operation(architecture, start):
    stored = vectors({"vgg16": "abslrp/vgg16s_papertime.npz", "resnet50": "abslrp/resnet50s.npz"}[architecture])
    theirs = stored[f"op_sums_{start}"]

    def thousand(logits, targets):
        at = starts.one_hot(logits, targets)
        return at - (1 - at) / 1000

    begin = {"onehot": starts.one_hot, "single_pass_N": starts.contrast, "single_pass_1000": thousand}[start]
    # The law for both signs also where there is one: the sums are the same.
    found = sums_per_operation(AbsLRP(propagator(architecture)), begin, theirs.shape[2])
    if architecture == "vgg16":
        names = [name for name in found if name not in ("flatten", "avgpool")]
        theirs = theirs[stored["ops"] != "TimmSelectAdaptivePool2d"]  # their head pools one pixel
    else:
        names = bottlenecks()
    ours = np.stack([found[name] for name in names])
    # Every operation of theirs loses 1e-9 of each sign, stabilising its sum; ours loses it where it rescales.
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=2e-7)


@pytest.mark.parametrize("start", ["onehot", "others"])
def test_sums_of_equation_12(start):
    theirs = vectors("abslrp/vgg16s_eq12.npz")[f"layer_sums_{start}"]
    begin = {"onehot": starts.one_hot, "others": starts.others}[start]
    explainer = AbsLRPEquation12(propagator("vgg16"))
    found = sums_per_operation(explainer, begin, 8)
    layers = [found[name] for name in found if explainer.walk.graph[name].affine is not None]
    ours = np.stack([[p + n, p - n, q + m, q - m] for p, n, q, m in layers])
    np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_smallest_outputs():
    theirs = vectors("abslrp/vgg16s_eq12.npz")["min_abs_h"]
    walk = AbsLRPEquation12(propagator("vgg16")).walk
    activations = walk.forward(inputs()[0])
    layers = [operation.name for operation in walk.graph if operation.affine is not None]
    ours = [activations.outputs[name].abs().flatten(1).amin(1).numpy() for name in reversed(layers)]
    np.testing.assert_allclose(np.stack(ours), theirs, rtol=1e-5)


QUIRKS = {"max_pool": "winner_times_activation", "drop_negative_logits": True}


def test_later_code_on_vgg():
    stored = vectors("abslrp/vgg16s_main.npz")
    model = propagator("vgg16")
    assert error(maps(AbsLRPNormalised(model, contrast="none", **QUIRKS)), stored["positive"]) < 1e-6
    assert error(maps(AbsLRPNormalised(model, **QUIRKS)), stored["contrastive"]) < 1e-6
    walk = AbsLRPNormalised(model, **QUIRKS).walk
    images, labels = inputs()
    activations = walk.forward(images)
    start = starts.others(activations.logits, labels[0]) / 9 * (activations.logits > 0)
    assert error(walk.propagate(activations, start[None]).relevance[0], stored["negative"]) < 1e-6
    ours = maps(AbsLRPNormalised(propagator("vgg16", F32), contrast="none", **QUIRKS), F32, 2)
    assert error(ours, stored["positive"][:2]) < 1e-4
    # Without either quirk it is another map.
    assert error(maps(AbsLRPNormalised(model, contrast="none")), stored["positive"]) > 1e-2


def test_later_code_on_resnet_up_to_its_graph_leak():
    # Their shortcut's relevance holds the branch's gradient; without that cosines are 0.99 and 0.88 (their README).
    stored = vectors("abslrp/resnet50s.npz")
    model = propagator("resnet50")
    for contrast, name, least in (("none", "main_positive", 0.989), ("difference", "main_contrastive", 0.88)):
        ours = maps(AbsLRPNormalised(model, contrast=contrast), images=4).sum(1).flatten(1)
        theirs = torch.tensor(stored[name]).double().flatten(1)
        assert torch.nn.functional.cosine_similarity(ours, theirs).min() > least


@pytest.mark.parametrize("law", [literal_sign_wise, equation_12], ids=["sign_wise", "equation_12"])
@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_algorithm_1_run_literally(architecture, law):
    images, labels = inputs()
    images, labels = images[:2], labels[0, :2]
    theirs = LiteralAbsLRP(network(architecture), law)(images, lambda logits: starts.contrast(logits, labels))
    make = AbsLRP if law is literal_sign_wise else AbsLRPEquation12
    assert error(maps(make(propagator(architecture)), images=2), theirs) < 1e-6


@cache
def literal_transformer(branches: tuple[str, ...] = ("q", "k", "v"), count: int = 8) -> tuple[Tensor, Tensor]:
    """Image by image from 1 and -1/N at the label: relevance of the inputs and of the patch embedding."""
    images, labels = inputs()
    results = [
        literal_vit(
            network("vit"), images[i : i + 1], lambda z, i=i: starts.contrast(z, labels[0, i : i + 1]), branches
        )
        for i in range(count)
    ]
    return tuple(torch.cat(parts) for parts in zip(*results, strict=True))


def test_vision_transformer_each_image_by_itself():
    theirs, _ = literal_transformer()
    assert error(maps(AbsLRP(propagator("vit"))), theirs) < 1e-6
    assert error(maps(AbsLRP(propagator("vit", F32)), F32), theirs) < 1e-4


def test_vision_transformer_other_starts():
    images, labels = inputs()
    for contrast, begin in (("none", starts.one_hot), ("none", starts.others)):
        theirs = literal_vit(network("vit"), images[2:3], lambda z, begin=begin: begin(z, labels[0, 2:3]))[0]
        walk = AbsLRP(propagator("vit"), contrast=contrast).walk
        activations = walk.forward(images[:4])
        start = begin(activations.logits, labels[0, :4])[None]
        assert error(walk.propagate(activations, start).relevance[0, 2:3], theirs) < 1e-6


@pytest.mark.parametrize(("branch", "kept"), [("values", ("v",)), ("attention", ("q", "k"))])
def test_ablation_of_one_branch_of_attention(branch, kept):
    theirs, _ = literal_transformer(kept, 2)
    ours = maps(AbsLRP(propagator("vit"), branch=branch), images=2)
    assert error(ours, theirs) < 1e-6
    assert error(ours, literal_transformer()[0][:2]) > 1e-2


def test_ablation_patches():
    _, embedded = literal_transformer()
    theirs = embedded.sum(1).repeat_interleave(8, 1).repeat_interleave(8, 2) / 64
    ours = maps(AbsLRPPatches(propagator("vit")))
    assert ours.shape == (8, 64, 64)
    assert error(ours, theirs) < 1e-6


def test_ablations_need_their_architecture():
    with pytest.raises(InputError, match="self-attention"):
        AbsLRP(propagator("vgg16"), branch="values")
    with pytest.raises(InputError, match="patches"):
        AbsLRPPatches(propagator("resnet50"))
    with pytest.raises(InputError, match="contrast 'both' is unknown"):
        AbsLRP(propagator("vgg16"), contrast="both")


class Block(nn.Module):
    """Everything that two signs meet on their way: signed inputs, overlapping pools, joins, concatenation, shuffles."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, stride=2, padding=1, groups=2)
        self.norm = nn.BatchNorm2d(8)
        self.side = nn.Conv2d(4, 8, 1, stride=2, bias=False)
        self.pool, self.mean = nn.MaxPool2d(3, 2, 1, ceil_mode=True), nn.AvgPool2d(3, 2, 1, ceil_mode=True)
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.norm(self.conv(x)) + self.side(x))
        x = torch.cat([self.pool(x), self.mean(x)], 1)
        return self.head(x.mean((2, 3)))


@cache
def block(dtype: torch.dtype = F64) -> Propagator:
    torch.manual_seed(0)
    model = Block()
    for parameter in model.norm.parameters():
        nn.init.normal_(parameter)
    nn.init.normal_(model.norm.running_mean)
    return Propagator(model.to(dtype).eval().requires_grad_(False))


SEEDS = st.integers(0, 2**31 - 1)


def random_case(seed: int, starts_per_image: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(3, 4, 11, 11, generator=generator, dtype=F64)
    return images, torch.randn(starts_per_image, 3, 5, generator=generator, dtype=F64)


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_each_sign_keeps_its_sum_at_every_operation(seed):
    images, start = random_case(seed)
    walk = AbsLRP(block()).walk
    activations = walk.forward(images)

    def observe(operation, relevance, parts):
        up, down = (part.flatten(2).sum(2) for part in (relevance.clamp(min=0), relevance.clamp(max=0)))
        after = sum(part.flatten(2).sum(2) for part in parts)
        # A sign that meets no positive contribution in the whole operation is lost; else it is whole, less what the
        # stabiliser takes of small sums.
        possible = torch.stack([up + down, up, down, torch.zeros_like(up)])
        assert torch.isclose(possible, after, rtol=1e-3, atol=1e-3).any(0).all(), operation.name
        kept.append(torch.isclose(possible[0], after, rtol=1e-6, atol=1e-7))

    kept: list[Tensor] = []
    for part in (start.clamp(min=0), start.clamp(max=0), start):
        walk.propagate(activations, part, observe=observe)
    assert torch.stack(kept).double().mean() > 0.9


def test_signs_travel_apart_through_one_operation():
    images, start = random_case(0)
    walk = AbsLRP(block()).walk
    activations = walk.forward(images, keep=["mean"])
    whole, positive, negative = (
        walk.propagate(activations, part, stop="mean").relevance
        for part in (start, start.clamp(min=0), start.clamp(max=0))
    )
    assert (positive >= 0).all() and (negative <= 0).all()
    torch.testing.assert_close(whole, positive + negative)


@settings(max_examples=20, deadline=None)
@given(SEEDS, st.floats(-2, 2), st.floats(-2, 2))
def test_equation_12_is_linear(seed, a, b):
    images, (first, second) = random_case(seed)
    walk = AbsLRPEquation12(block()).walk
    activations = walk.forward(images)
    both = walk.propagate(activations, torch.stack([first, second, a * first + b * second])).relevance
    # The combination may cancel: compared with the sum of the absolute values.
    scale = (a * both[0]).abs() + (b * both[1]).abs()
    assert ((both[2] - (a * both[0] + b * both[1])).abs() <= 1e-9 * scale.amax((1, 2, 3), keepdim=True) + 1e-300).all()


@settings(max_examples=20, deadline=None)
@given(SEEDS)
def test_one_contrastive_pass_of_equation_12_is_the_difference_of_two(seed):
    images, _ = random_case(seed)
    walk = AbsLRPEquation12(block()).walk
    activations = walk.forward(images)
    targets = torch.arange(3)
    p, q, contrast = (
        walk.propagate(activations, start(activations.logits, targets)[None]).relevance[0]
        for start in (starts.one_hot, starts.others, starts.contrast)
    )
    torch.testing.assert_close(contrast, p - q / 5, rtol=1e-9, atol=1e-9 * (p.abs().max() + q.abs().max()).item())


@settings(max_examples=10, deadline=None)
@given(SEEDS)
def test_relevance_of_one_sign_is_the_same_by_the_cheaper_law(seed):
    images, start = random_case(seed)
    results = []
    for contrast in ("none", "single_pass"):
        walk = AbsLRP(block(), contrast=contrast).walk
        results.append(walk.propagate(walk.forward(images), start.abs()).relevance)
    torch.testing.assert_close(results[0], results[1], rtol=1e-6, atol=1e-7)


METHODS = [
    (AbsLRP, {}),
    (AbsLRP, {"contrast": "difference"}),
    (AbsLRP, {"contrast": "none"}),
    (AbsLRPEquation12, {}),
    (AbsLRPNormalised, {}),
]


@pytest.mark.parametrize("architecture", ["vgg16", "resnet50", "vit"])
@pytest.mark.parametrize(("make", "parameters"), METHODS)
def test_no_map_depends_on_its_batch_or_the_other_targets(architecture, make, parameters):
    images, targets = inputs()
    explainer = make(propagator(architecture), **parameters)
    alone = explainer.read(explainer.walk.forward(images[1:2]), targets[:1, 1:2])[0, 0]
    among = explainer.read(explainer.walk.forward(images[:3]), targets[:, :3])[0, 1]
    assert among.isfinite().all()
    # Another batch, another order of additions; the difference of two near-equal maps has fewer digits.
    assert error(among[None], alone[None]) < 1e-8


@pytest.mark.parametrize("architecture", ["densenet121", "inception_v3", "squeezenet1_1"])
def test_other_architectures(architecture):
    torch.manual_seed(0)
    extra = {"init_weights": False} if architecture == "inception_v3" else {}
    model = getattr(torchvision.models, architecture)(weights=None, num_classes=4, **extra).eval()
    explainer = AbsLRP(Propagator(model))
    result = explainer.read(explainer.walk.forward(torch.randn(1, 3, 96, 96)), torch.tensor([[1], [2]]))
    assert result.shape == (2, 1, 3, 96, 96)
    assert result.isfinite().all() and (result != 0).any()


def test_relevance_given_at_inner_units_that_are_off_goes_nowhere():
    walk = AbsLRP(propagator("vgg16")).walk
    activations = walk.forward(inputs()[0][:2])
    off = (activations.outputs["features.29"] == 0).double()[None]
    assert off.sum() > 0
    assert (walk.propagate(activations, off, at="features.29").relevance == 0).all()


@pytest.mark.parametrize(("contrast", "cost"), [("single_pass", 2), ("none", 1)])
def test_cost_in_forward_passes(contrast, cost):
    """A start of two signs costs 2 + K, one of one sign 1 + K; the first layer, of signed inputs, up to K more."""
    torch.manual_seed(0)
    model = torchvision.models.vgg11(weights=None, num_classes=10).eval()
    image, targets = torch.randn(1, 3, 64, 64), torch.tensor([[1], [2], [3]])
    with FlopCounterMode(display=False) as plain, torch.no_grad():
        model(image)
    explainer = AbsLRP(Propagator(model), contrast=contrast)
    explainer.walk.forward(image)  # the first also compares the graph with the model
    with FlopCounterMode(display=False) as counted:
        explainer.read(explainer.walk.forward(image), targets)
    assert counted.get_total_flops() / plain.get_total_flops() < (cost + 3) * 1.02


class Causal(nn.Module):
    """Attention in which a token sees only those before it; the first token's output is read."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.qkv, self.head = nn.Linear(6, 8), nn.Linear(8, 24), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.embed(x)).chunk(3, -1)
        return self.head(nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)[:, 0])


def test_masked_attention_carries_relevance_only_where_it_looks():
    torch.manual_seed(0)
    explainer = AbsLRP(Propagator(Causal().double().eval().requires_grad_(False)))
    result = explainer.read(explainer.walk.forward(torch.randn(3, 4, 6, dtype=F64)), torch.tensor([[0, 1, 2]]))
    assert result.isfinite().all() and (result[:, :, 0] != 0).any()
    assert (result[:, :, 1:] == 0).all()
