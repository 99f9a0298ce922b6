"""The engine and the baselines against what public code computes on small trained networks.

Sources: zennit 0.5.1, facebookresearch/TorchRay@6a198ee, shirgur/AGFVisualization@64c0159,
JindongGu/Contrastive-LRP@751c263, wjNam/Relative_Attributing_Propagation@7fa9682, grad-cam 1.5.7, and formulas of SGLRP
and CLRP written out in float64 without any stabiliser ("literal"). Arrays are (8 images, 2 targets, h, w), summed over
channels.
"""

import copy
from dataclasses import replace
from functools import cache

import pytest
import relmap
import relmap.torchvision_shim
import torch
import zennit.attribution
import zennit.composites
import zennit.layer
import zennit.rules
import zennit.torchvision
import zennit.types
from reference_nets import inputs, logit_signs, network, vectors
from relmap.explainers.cam import grad_cam
from relmap.explainers.gradients import linear_approximation
from relmap.network import Graph, trace
from relmap.propagation import Propagator, composites, starts
from relmap.propagation.rules import AlphaBeta, Epsilon, Gamma, Share, ZBox
from torch import Tensor
from torch.nn.utils.fusion import fuse_conv_bn_eval

BOX = ZBox((-2.0,) * 3, (2.0,) * 3)
IMAGE_BOX = ZBox(None, None)
GU_BOX = ZBox((-2.1179,) * 3, (2.64,) * 3)
DTYPES = pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=["float64", "float32"])


@cache
def vgg(dtype: torch.dtype = torch.float64, negated: bool = False) -> torch.nn.Module:
    model = network("vgg16", dtype)
    if negated:
        model = copy.deepcopy(model)
        model.classifier[6].weight.neg_()
    return model


@cache
def graph(dtype: torch.dtype, negated: bool) -> Graph:
    return trace(vgg(dtype, negated))


def relevance(composite, start=starts.one_hot, *, dtype=torch.float64, stop="input", negated=False) -> Tensor:
    """Relevance of both targets, (N, 2, C, h, w); ``start`` maps (logits, targets) to (N, C).

    N is 8 in float64 and, to save time, 2 in float32.
    """
    images, targets = inputs(dtype)
    if dtype == torch.float32:
        images, targets = images[:2], targets[:, :2]
    propagator = Propagator(graph(dtype, negated)).by(composite)
    activations = propagator.forward(images)
    logits = vgg(dtype)(images)
    start = torch.stack([start(logits, t) for t in targets])
    return propagator.propagate(activations, start, stop=stop).relevance.transpose(0, 1)


def error(ours: Tensor, theirs) -> float:
    """Largest relative L2 error of a map, over as many images as ours has."""
    theirs = torch.as_tensor(theirs[: len(ours)]).double()
    return ((ours - theirs).flatten(2).norm(dim=2) / theirs.flatten(2).norm(dim=2)).max().item()


def unit(maps: Tensor) -> Tensor:
    maps = torch.as_tensor(maps).double()
    return maps / maps.flatten(2).abs().amax(2)[..., None, None]


def stabilised(composite: composites.Composite, epsilon: float = 1e-6) -> composites.Composite:
    """zennit's and other authors' alpha-beta rules add a constant to their denominators."""
    kinds = {k: replace(r, epsilon=epsilon) if isinstance(r, AlphaBeta) else r for k, r in composite.kinds.items()}
    return replace(composite, kinds=kinds)


def gamma(bias: bool) -> composites.Composite:
    rule = Gamma(0.25, bias=bias)
    return composites.Composite(composites.STRUCTURE | {"conv": rule, "linear": rule})


ZENNIT = {
    ("eps", "eps1e-6_bias"): composites.epsilon(1e-6),
    ("eps", "eps0.25_bias"): composites.epsilon(0.25),
    ("zplus", "zplus_bias"): composites.alpha_beta(bias=True),
    ("zplus", "zplus_nobias"): composites.alpha_beta(),
    ("alpha2beta1", "alpha2beta1_bias"): composites.alpha_beta(2, 1, bias=True),
    ("alpha2beta1", "alpha2beta1_nobias"): composites.alpha_beta(2, 1),
    ("zbox", "zplus_zbox_bias"): composites.alpha_beta(bias=True, first=BOX),
    ("zbox", "zplus_zbox_nobias"): composites.alpha_beta(first=BOX),
    ("gamma", "gamma0.25_bias"): gamma(True),
    ("gamma", "gamma0.25_nobias"): gamma(False),
    ("composites", "EpsilonPlus"): composites.epsilon_plus_flat(first_flat=False),
    ("composites", "EpsilonPlusFlat"): composites.epsilon_plus_flat(),
    ("composites", "EpsilonAlpha2Beta1"): composites.epsilon_alpha2_beta1(),
    ("composites", "EpsilonGammaBox"): composites.epsilon_gamma_box((-2.0,) * 3, (2.0,) * 3),
}


@DTYPES
@pytest.mark.parametrize(("file", "setting"), ZENNIT)
def test_zennit(file, setting, dtype):
    ours = relevance(stabilised(ZENNIT[file, setting]), dtype=dtype).sum(2)
    assert error(ours, vectors(f"lrp/zennit_vgg16s_{file}.npz")[f"{setting}_sum"]) < 1e-4


def test_zennit_epsilon_without_bias_is_ill_conditioned_but_alike():
    theirs = vectors("lrp/zennit_vgg16s_eps.npz")["eps1e-6_nobias_sum"]
    assert error(relevance(composites.epsilon(1e-6, bias=False)).sum(2), theirs) < 1e-2


@DTYPES
@pytest.mark.parametrize(("file", "first"), [("zbox", BOX), ("zplus", None)], ids=["zbox", "zplus"])
@pytest.mark.parametrize("setting", ["lrp_unit", "clrp_onepass", "sglrp_onepass"])
def test_literal_contrastive(file, first, setting, dtype):
    start = {"lrp": starts.one_hot, "clrp": starts.clrp, "sglrp": starts.sglrp}[setting.split("_")[0]]
    ours = relevance(composites.alpha_beta(first=first), start, dtype=dtype).sum(2)
    theirs = vectors(f"lrp/sglrp_clrp_literal_vgg16s_{file}.npz")[f"{setting}_sum"]
    if start is starts.sglrp:  # ours is divided by y_t (1 - y_t)
        ours, theirs = unit(ours), unit(theirs)
    if start is starts.clrp:  # theirs is from z_t, ours from |z_t|
        theirs = theirs * logit_signs("vgg16")[..., None, None].numpy()
    assert error(ours, theirs) < 1e-4


@pytest.mark.parametrize(("file", "first"), [("zbox", BOX), ("zplus", None)], ids=["zbox", "zplus"])
@pytest.mark.parametrize("name", ["clrp", "sglrp"])
def test_literal_two_passes_rescaled(file, first, name):
    """The variant that rescales the other classes' relevance to the target's sum."""
    start = {"clrp": starts.clrp, "sglrp": starts.sglrp}[name]
    composite = composites.alpha_beta(first=first)
    at = relevance(composite, lambda z, t: start(z, t) * starts.one_hot(z, t)).sum(2)
    others = relevance(composite, lambda z, t: -start(z, t) * (1 - starts.one_hot(z, t))).sum(2)
    ours = at - others * (at.sum((2, 3)) / others.sum((2, 3)))[..., None, None]
    theirs = vectors(f"lrp/sglrp_clrp_literal_vgg16s_{file}.npz")[f"{name}_twopass_rescaled_sum"]
    if name == "clrp":
        theirs = theirs * logit_signs("vgg16")[..., None, None].numpy()
    assert error(unit(ours), unit(theirs)) < 1e-4


def _others(logits: Tensor, targets: Tensor) -> Tensor:
    at = starts.one_hot(logits, targets)
    return (1 - at) * (logits * at).sum(1, keepdim=True) / (logits.shape[1] - 1)


def _sglrp_target(logits: Tensor, targets: Tensor) -> Tensor:
    y = starts.probability(logits, targets)
    return torch.where(y > 0, y * (1 - y) + 1e-8, 0)


def _sglrp_others(logits: Tensor, targets: Tensor) -> Tensor:
    y = logits.softmax(1)
    return y * y.gather(1, targets[:, None]) * (1 - starts.one_hot(logits, targets))


AGF = {
    ("clrp_sglrp_agf", "lrp_a1"): ((1, 0), starts.logit),
    ("clrp_sglrp_agf", "lrp_a2"): ((2, 1), starts.logit),
    ("clrp_sglrp_agf", "clrp_others"): ((1, 0), _others),
    ("sglrp_agf", "sglrp_target"): ((1, 0), _sglrp_target),
    ("sglrp_agf", "sglrp_others"): ((1, 0), _sglrp_others),
}


@pytest.mark.parametrize(("file", "setting"), AGF)
def test_agf(file, setting):
    (alpha, beta), start = AGF[file, setting]
    ours = relevance(composites.alpha_beta(alpha, beta, first=IMAGE_BOX), start).sum(2)
    assert error(ours, vectors(f"lrp/{file}_vgg16s.npz")[f"{setting}_sum"]) < 1e-4


@pytest.mark.parametrize("name", ["clrp", "sglrp"])
def test_agf_contrast(name):
    starts_of = {"clrp": (starts.logit, _others), "sglrp": (_sglrp_target, _sglrp_others)}[name]
    composite = composites.alpha_beta(first=IMAGE_BOX)
    at, others = (relevance(composite, start).sum(2) for start in starts_of)
    ours = at - others * (at.sum((2, 3)) / others.sum((2, 3)))[..., None, None]
    file = {"clrp": "clrp_sglrp_agf", "sglrp": "sglrp_agf"}[name]
    assert error(ours, vectors(f"lrp/{file}_vgg16s.npz")[f"{name}_sum"]) < 1e-4
    theirs = vectors(f"nam/vgg16s_{name}.npz")  # the same code, in another run of one image at a time
    assert error(ours, torch.stack([torch.as_tensor(theirs[f"map_{t}_sum"]) for t in ("label", "other")], 1)) < 1e-4


def _gu() -> dict[str, Tensor]:
    composite = composites.alpha_beta(first=GU_BOX)

    def others(logits, targets):
        return logits.abs() * (1 - starts.one_hot(logits, targets))

    maps = {
        "lrp_target": relevance(composite, lambda z, t: starts.logit(z, t).abs()).sum(2),
        "contrast_type1": relevance(composite, others).sum(2),
        "contrast_type2": relevance(composite, lambda z, t: starts.logit(z, t).abs(), negated=True).sum(2),
    }
    target, *contrasts = (m / m.sum((2, 3), keepdim=True) for m in maps.values())
    return maps | {f"clrp{i}_diff": target - contrast for i, contrast in enumerate(contrasts, 1)}


def test_gu():
    theirs = vectors("lrp/clrp_gu_vgg16s.npz")
    maps = _gu()
    errors = {name: error(ours, theirs[f"{name}_sum"]) for name, ours in maps.items()}
    # Theirs is float32 throughout: of differences of maps that are alike see tests/test_contrastive.py.
    assert max(error for name, error in errors.items() if not name.endswith("_diff")) < 1e-6, errors


@pytest.mark.parametrize(("name", "alpha", "beta"), [("lrp_a1b0", 1, 0), ("lrp_a2b1", 2, 1)])
def test_nam_alpha_beta(name, alpha, beta):
    theirs = vectors(f"nam/vgg16s_{name}.npz")
    composite = composites.alpha_beta(alpha, beta, first=IMAGE_BOX)
    ours = relevance(composite, starts.logit).sum(2)
    assert error(ours, torch.stack([torch.as_tensor(theirs[f"map_{t}_sum"]) for t in ("label", "other")], 1)) < 1e-4
    for layer, before in (("features_28", "features.27"), ("features_14", "features.13")):
        inner = relevance(composite, starts.logit, stop=before)[:2, :1]
        assert error(inner, theirs[f"rel_at_input_of_{layer}"][:, None]) < 1e-4


@DTYPES
def test_torchray_gradients(dtype):
    theirs = vectors("lrp/torchray_grad_vgg16s.npz")
    images, targets = inputs(dtype)
    maps = relmap.compare(vgg(dtype), images, targets.T, ["saliency", "deconvnet", "guided_backprop"])
    for method, setting in (("saliency", "gradient"), ("deconvnet", "deconvnet"), ("guided_backprop", "guided")):
        ours = maps[method]
        assert error(ours, theirs[f"{setting}_sal"]) < 1e-4, method


@pytest.mark.parametrize("layer", ["features.29", "features.23", "input"])
def test_torchray_linear_approximation_and_grad_cam(layer):
    theirs = vectors("lrp/torchray_lin_cam_vgg16s.npz")
    images, targets = inputs()
    propagator = Propagator(vgg()).by(composites.gradient())
    activations = propagator.forward(images, keep=[layer])
    start = torch.stack([starts.one_hot(activations.logits, t) for t in targets])
    gradients = propagator.propagate(activations, start, stop=layer).relevance
    features = activations.outputs[layer]
    for name, read in (("linear_approx", linear_approximation), ("grad_cam", grad_cam)):
        key = f"{name}__{layer.replace('.', '_')}"
        if key not in theirs:
            continue
        ours = torch.stack([read(features, g) for g in gradients], 1)
        expected = torch.as_tensor(theirs[key]).double()
        assert (ours - expected).abs().max() < 1e-5 * expected.abs().max(), key  # Grad-CAM maps can be all zero


def test_grad_cam_library():
    theirs = torch.as_tensor(vectors("lrp/cams_raw_vgg16s.npz")["GradCAM"]).double()
    images, targets = inputs()
    propagator = Propagator(vgg()).by(composites.gradient())
    activations = propagator.forward(images, keep=["features.29"])
    start = torch.stack([starts.one_hot(activations.logits, t) for t in targets])
    gradient = propagator.propagate(activations, start, stop="features.29").relevance
    features = activations.outputs["features.29"]
    raw = (features * gradient.mean((3, 4), keepdim=True)).sum(2).transpose(0, 1)
    assert error(raw, theirs) < 1e-4


@pytest.mark.parametrize("layer", ["features.4", "features.16", "features.23", "features.30"])
def test_torchray_excitation_backprop(layer):
    theirs = vectors("lrp/torchray_eb_vgg16s.npz")
    ours = relevance(composites.excitation_backprop(), stop=layer).sum(2)
    assert error(ours, theirs[f"eb__{layer.replace('.', '_')}"]) < 1e-4


@pytest.mark.parametrize("layer", ["features.4", "features.16", "features.23", "features.30"])
def test_torchray_contrastive_excitation_backprop(layer):
    """The relevance of the negated last layer, subtracted in mid-propagation at classifier.4."""
    composite = composites.excitation_backprop()
    contrast = relevance(composite, stop="classifier.4", negated=True).transpose(0, 1)
    images, targets = inputs()
    propagator = Propagator(vgg()).by(composite)
    activations = propagator.forward(images)
    start = torch.stack([starts.one_hot(activations.logits, t) for t in targets])
    result = propagator.propagate(activations, start, stop=layer, transforms={"classifier.4": lambda r: r - contrast})
    theirs = vectors("lrp/torchray_eb_vgg16s.npz")[f"ceb__{layer.replace('.', '_')}"]
    assert error(result.relevance.sum(2).relu().transpose(0, 1), theirs) < 1e-4


def folded_resnet() -> torch.nn.Module:
    """The small ResNet with its batch norms merged by hand; zennit's own merging leaves an epsilon behind."""
    model = network("resnet50")
    pairs = [(model, "conv1", "bn1")]
    for block in (b for stage in (model.layer1, model.layer2, model.layer3, model.layer4) for b in stage):
        pairs += [(block, f"conv{i}", f"bn{i}") for i in (1, 2, 3)]
        pairs += [(block.downsample, "0", "1")] if block.downsample is not None else []
    for parent, conv_name, norm_name in pairs:
        setattr(parent, conv_name, fuse_conv_bn_eval(getattr(parent, conv_name), getattr(parent, norm_name)))
        setattr(parent, norm_name, torch.nn.Identity())
    return model.requires_grad_(False)


LIVE = {
    "epsilon": (zennit.rules.Epsilon(0.25), Epsilon(0.25)),
    "z_plus": (zennit.rules.ZPlus(), AlphaBeta(1, 0, bias=True, epsilon=1e-6)),
    "z_plus_nobias": (zennit.rules.ZPlus(zero_params="bias"), AlphaBeta(epsilon=1e-6)),
    "alpha2_beta1": (zennit.rules.AlphaBeta(2, 1), AlphaBeta(2, 1, bias=True, epsilon=1e-6)),
    "gamma": (zennit.rules.Gamma(0.25), Gamma(0.25)),
}


@pytest.mark.parametrize("name", LIVE)
def test_zennit_live_on_resnet(name):
    """No vectors are stored for ResNet; zennit itself runs beside the engine, with its signed shares at additions."""
    theirs, rule = LIVE[name]
    share = Share("signed", epsilon=1e-6)
    kinds = {"conv": rule, "linear": rule, "add": share, "average_pool": share}
    composite = composites.Composite(composites.STRUCTURE | kinds)
    images, targets = inputs()
    propagator = Propagator(network("resnet50")).by(composite)
    activations = propagator.forward(images[:2])
    start = starts.one_hot(activations.logits, targets[0, :2])
    ours = propagator.propagate(activations, start[None]).relevance.sum(2)

    types = zennit.types
    layers = [(types.Activation, zennit.rules.Pass()), (types.Linear, theirs)]
    layers += [((types.AvgPool, zennit.layer.Sum), zennit.rules.Norm())]
    peer = zennit.composites.LayerMapComposite(layers, canonizers=[zennit.torchvision.ResNetBottleneckCanonizer()])
    with zennit.attribution.Gradient(folded_resnet(), peer) as attribute:
        logits, expected = attribute(images[:2].clone().requires_grad_(), start)
    torch.testing.assert_close(activations.logits, logits, rtol=1e-9, atol=1e-9)
    assert error(ours, expected.sum(1)[None]) < 1e-6
