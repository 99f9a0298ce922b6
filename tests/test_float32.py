"""What float32 keeps: every stored map by its method's id, and every method against itself in float64.

Relative L2 error per map below 1e-4, but for what the READMEs of the vectors call ill-conditioned.
"""

import pytest
import relmap
import torch
from random_networks import CLASSES, IMAGE, Network
from reference_nets import inputs, logit_signs, network, vectors
from relmap.catalogue.methods import ATTENTION, BRANCH
from relmap.propagation import Propagator, composites, starts
from relmap.propagation.rules import AlphaBeta, ZBox
from relmap.propagation.rules.base import total, with_total
from relmap.propagation.rules.precision import InDouble
from test_propagation_laws import draw
from torch import Tensor
from trials import tried

BOX = {"low": (-2.0,) * 3, "high": (2.0,) * 3}
ONE = {"start": "one_hot"}
SAME = {"first": "same"}
ZENNIT = {"first": "same", "epsilon": 1e-6, "residual": "signed", **ONE}
NAM = ("map_label_sum", "map_other_sum")
# How theirs becomes ours: AS it is; TURNED where their start is a negative logit; each map divided by its maximum.
AS, TURNED, SCALED = "as", "turned", "scaled"

# (file, arrays) -> (method, parameters, how)
MAPS = {
    ("lrp/zennit_vgg16s_eps", "eps1e-6_bias_sum"): ("lrp_epsilon", ONE, AS),
    ("lrp/zennit_vgg16s_eps", "eps0.25_bias_sum"): ("lrp_epsilon", {"epsilon": 0.25, **ONE}, AS),
    ("lrp/zennit_vgg16s_zplus", "zplus_bias_sum"): ("lrp_alpha1_beta0", {"bias": True, **ZENNIT}, AS),
    ("lrp/zennit_vgg16s_zplus", "zplus_nobias_sum"): ("lrp_alpha1_beta0", ZENNIT, AS),
    ("lrp/zennit_vgg16s_alpha2beta1", "alpha2beta1_bias_sum"): ("lrp_alpha2_beta1", {"bias": True, **ZENNIT}, AS),
    ("lrp/zennit_vgg16s_alpha2beta1", "alpha2beta1_nobias_sum"): ("lrp_alpha2_beta1", ZENNIT, AS),
    ("lrp/zennit_vgg16s_zbox", "zplus_zbox_bias_sum"): (
        *("lrp_alpha1_beta0", {**ZENNIT, "bias": True, "first": "z_box", **BOX}, AS),
    ),
    ("lrp/zennit_vgg16s_zbox", "zplus_zbox_nobias_sum"): (
        *("lrp_alpha1_beta0", {**ZENNIT, "first": "z_box", **BOX}, AS),
    ),
    ("lrp/zennit_vgg16s_gamma", "gamma0.25_bias_sum"): ("lrp_gamma", ONE, AS),
    ("lrp/zennit_vgg16s_composites", "EpsilonPlus_sum"): ("lrp_epsilon_plus", ONE, AS),
    ("lrp/zennit_vgg16s_composites", "EpsilonPlusFlat_sum"): ("lrp_epsilon_plus_flat", ONE, AS),
    ("lrp/zennit_vgg16s_composites", "EpsilonAlpha2Beta1_sum"): ("lrp_epsilon_alpha2_beta1", ONE, AS),
    ("lrp/zennit_vgg16s_composites", "EpsilonGammaBox_sum"): ("lrp_epsilon_gamma_box", {**BOX, **ONE}, AS),
    **{
        (f"lrp/sglrp_clrp_literal_vgg16s_{file}", f"{array}_sum"): (method, first | more, how)
        for file, first in (("zbox", BOX), ("zplus", SAME))
        for array, method, more, how in (
            ("lrp_unit", "lrp_alpha1_beta0", ONE, AS),
            ("clrp_onepass", "clrp", {}, TURNED),
            ("sglrp_onepass", "sglrp", {}, SCALED),
            ("clrp_twopass_rescaled", "clrp_two_passes", {}, TURNED),
            ("sglrp_twopass_rescaled", "sglrp_two_passes", {}, AS),
        )
    },
    ("lrp/clrp_sglrp_agf_vgg16s", "lrp_a1_sum"): ("lrp_alpha1_beta0", {}, TURNED),
    ("lrp/clrp_sglrp_agf_vgg16s", "lrp_a2_sum"): ("lrp_alpha2_beta1", {}, TURNED),
    ("lrp/clrp_sglrp_agf_vgg16s", "clrp_sum"): ("clrp_two_passes", {}, TURNED),
    ("lrp/sglrp_agf_vgg16s", "sglrp_sum"): ("sglrp_agf", {}, AS),
    **{
        (f"lrp/c3lrp_literal_resnet50s_{name}", "map_sum"): ("c3_lrp_literal", {**parameters, **ONE}, AS)
        for name, parameters in (
            ("eps1e-5", {}),
            ("eps1e-9", {"epsilon": 1e-9}),
            ("eps1e-5_relu_eq1", {"relu": "equation_1"}),
            ("eps1e-5_bnid", {"batch_norm": "pass"}),
        )
    },
    ("lrp/c3lrp_literal_resnet50s_eps1e-5_signed", "map_sum"): ("c3_lrp", ONE, AS),
    ("lrp/keio_resnet50s", "flows_skip"): ("c3_lrp_released", {}, AS),
    ("lrp/keio_resnet50s", "simple"): ("c3_lrp_released_simple", {}, AS),
    ("lrp/keio_resnet50s", "flows_skip_simple"): ("c3_lrp_released_flows_skip_simple", {}, AS),
    ("lrp/keio_resnet50s", "latest"): ("c3_lrp_released_latest", {}, AS),
    ("lrp/keio_vgg16s", "latest"): ("c3_lrp_released", {}, AS),
    ("lrp/torchray_grad_vgg16s", "gradient_sal"): ("saliency", {}, AS),
    ("lrp/torchray_grad_vgg16s", "deconvnet_sal"): ("deconvnet", {}, AS),
    ("lrp/torchray_grad_vgg16s", "guided_sal"): ("guided_backprop", {}, AS),
    ("lrp/torchray_lin_cam_vgg16s", "linear_approx__input"): ("input_x_gradient", {}, AS),
    ("nam/vgg16s_lrp_a1b0", NAM): ("lrp_alpha1_beta0_rap", {}, TURNED),
    ("nam/vgg16s_lrp_a2b1", NAM): ("lrp_alpha2_beta1_rap", {}, TURNED),
    ("nam/vgg16s_rap", NAM): ("rap", {"start": "logit"}, AS),
    ("nam/vgg16s_rap_logit_init", NAM): ("rap_logit_init", {"start": "logit"}, AS),
    ("nam/vgg16s_clrp", NAM): ("clrp_two_passes", {}, TURNED),
    ("nam/vgg16s_sglrp", NAM): ("sglrp_agf", {}, AS),
    ("nam/vgg16s_rsp", NAM): ("rsp", {}, AS),
    ("nam/vgg16s_agf", NAM): ("agf", {}, AS),
    ("nam/resnet50s_agf", NAM): ("agf", {}, AS),
    ("abslrp/vgg16s_papertime", "onehot"): ("abslrp_target", {}, AS),
    ("abslrp/vgg16s_papertime", "single_pass_N"): ("abslrp", {}, AS),
    ("abslrp/vgg16s_papertime", "single_pass_1000"): ("abslrp", {"classes": 1000}, AS),
    ("abslrp/vgg16s_papertime", "difference"): ("abslrp_difference", {}, AS),
    ("abslrp/vgg16s_eq12", "eq12_onehot"): ("abslrp_eq12", {"contrast": "none"}, AS),
    ("abslrp/vgg16s_eq12", "eq12_difference"): ("abslrp_eq12", {"contrast": "difference"}, AS),
    ("abslrp/resnet50s", "papertime_difference"): ("abslrp_difference", {}, AS),
    ("abslrp/vgg16s_eq12", "eq12_contrast"): ("abslrp_eq12", {}, AS),
    ("abslrp/resnet50s", "papertime_onehot"): ("abslrp_target", {}, AS),
    ("abslrp/resnet50s", "papertime_single_pass_N"): ("abslrp", {}, AS),
}


def propagator(file: str, dtype: torch.dtype) -> Propagator:
    return Propagator(network("resnet50" if "resnet50s" in file else "vgg16", dtype))


def errors(ours: Tensor, theirs: Tensor) -> Tensor:
    """Relative L2 error of each map (N, K, H, W): (N, K)."""
    ours, theirs = ours.double().flatten(2), theirs.double().flatten(2)
    return (ours - theirs).norm(dim=2) / theirs.norm(dim=2)


def stored(file: str, arrays: str | tuple[str, ...], how: str) -> Tensor:
    """Their maps (N, K, H, W) in our signs."""
    found = vectors(f"{file}.npz")
    parts = [torch.as_tensor(found[name]) for name in ([arrays] if isinstance(arrays, str) else arrays)]
    theirs = torch.stack(parts, 1) if len(parts) > 1 else parts[0]
    theirs = theirs.sum(1, keepdim=True) if file.endswith("papertime") and theirs.shape[1] == 3 else theirs
    theirs = theirs[:, None] if theirs.dim() == 3 else theirs
    return theirs * logit_signs("vgg16")[..., None, None] if how == TURNED else theirs


@pytest.mark.parametrize(("file", "arrays"), MAPS)
def test_every_stored_map_by_its_methods_id(file, arrays):
    method, parameters, how = MAPS[file, arrays]
    theirs = stored(file, arrays, how)
    count, targets_per_image = theirs.shape[:2]
    images, targets = inputs(torch.float32)
    targets = targets.T[:count, :targets_per_image]
    ours = relmap.explain(propagator(file, torch.float32), images[:count], targets, method, **parameters)
    assert ours.dtype == torch.float32
    if how == SCALED:
        ours, theirs = (maps / maps.abs().amax((2, 3), keepdim=True) for maps in (ours, theirs))
    assert errors(ours, theirs).max() < 1e-4


# What float32 cannot hold, by their READMEs: RAP's signed shares and captum's copies on a ResNet; differences of maps
# that are nearly equal; outputs near 0 that a left-out bias brings forth.
ILL_CONDITIONED = {
    "vgg16": {"abslrp_normalised", "abslrp_normalised_vgg", "abslrp_normalised_resnet"} | {"abslrp_eq12_without_bias"},
    "resnet50": {"rap", "rap_logit_init", "crap", "abslrp_normalised", "abslrp_normalised_vgg"}
    | {"abslrp_normalised_resnet", "abslrp_eq12_without_bias", "lrp_epsilon_captum"},
}
METHODS = [method.id for method in relmap.methods() if not ({ATTENTION, BRANCH} & set(method.needs) or method.wraps)]


@pytest.mark.parametrize("architecture", ILL_CONDITIONED)
@pytest.mark.parametrize("method", [method for method in METHODS if method not in ("constant", "random")])
def test_float32_against_float64(architecture, method):
    maps = []
    for dtype in (torch.float64, torch.float32):
        images, targets = inputs(dtype)
        maps.append(relmap.explain(Propagator(network(architecture, dtype)), images, targets.T, tried(method)))
    if method in ILL_CONDITIONED[architecture]:
        alike = torch.nn.functional.cosine_similarity(*(part.double().flatten(2) for part in maps), dim=2)
        assert alike.min() > 0.99
    elif method in ("integrated_gradients", "smoothgrad"):
        # Their points are many, and where one lies at a ReLU's kink rounding decides whether it is open.
        found = errors(maps[1], maps[0])
        assert found.median() < 1e-6 and found.max() < 5e-3
    elif method.startswith("extremal_perturbation"):
        # The order of pixels whose masks are nearly equal is rounding's, and decides their part in the area's cost.
        assert errors(maps[1], maps[0]).max() < 1e-3
    elif method == "finer_cam":
        # What is left of a difference of classes that is cut off nearly everywhere is rounding's.
        sizes = maps[0].flatten(2).norm(dim=2)
        assert errors(maps[1], maps[0])[sizes > 1e-3 * sizes.max()].max() < 1e-4
    else:
        found = maps[0].flatten(2).norm(dim=2) > 0  # Grad-CAM's may be empty
        assert found.any() and errors(maps[1], maps[0])[found].max() < 1e-4


def test_gamma_without_bias_is_as_good_as_zennits():
    """Denominators come near 0 where the bias alone gives an output its sign; the activations' rounding is in both."""
    images, targets = inputs(torch.float32)
    theirs = torch.as_tensor(vectors("lrp/zennit_vgg16s_gamma.npz")["gamma0.25_nobias_sum"])
    ours = relmap.explain(
        propagator("vgg16s", torch.float32), images, targets.T, "lrp_gamma", bias=False, start="one_hot"
    )
    zennits = 4.4e-3  # its own run in float32, largest error of a label's map; 4.5e-3 of another's
    assert errors(ours, theirs).max() < 1.1 * zennits
    assert errors(ours, theirs).median() < 2e-5


@pytest.mark.parametrize("start", [starts.contrast, starts.clrp, starts.sglrp])
@pytest.mark.parametrize("architecture", ["vgg16", "resnet50"])
def test_the_total_of_a_contrast_reaches_the_input(architecture, start):
    """Where rounding would leave a false one of 1e-7 of what stands at the class layer, 1e-4 of the map and more."""
    images, targets = inputs(torch.float32)
    composite = composites.with_class_layer(composites.alpha_beta(first=ZBox(None, None)), InDouble(AlphaBeta()))
    walk = Propagator(network(architecture, torch.float32)).by(composite)
    activations = walk.forward(images)
    begin = starts.stacked(start, activations.logits, targets)
    assert begin.dtype == torch.float64
    kept, lost = (walk.propagate(activations, s).relevance for s in (begin, begin.float()))
    exact = Propagator(network(architecture)).by(composites.alpha_beta(first=ZBox(None, None)))
    double = exact.propagate(exact.forward(inputs()[0]), begin).relevance
    mass = double.abs().flatten(2).sum(2)
    wrong, wrong_before = (((total(maps) - total(double)).abs() / mass).max() for maps in (kept, lost))
    assert wrong < 2e-5 and wrong < wrong_before


@pytest.mark.parametrize("alpha", [1, 2])
@pytest.mark.parametrize("seed", range(3))
def test_alpha_beta_before_additions(alpha, seed):
    """No ReLU stands between a block's last layer and its addition, so that its output is no bound of what cancels."""
    blocks = ("residual_norm", "residual", "residual_norm", "residual")
    maps = []
    for dtype in (torch.float64, torch.float32):
        net = Network(blocks, seed, True).to(dtype)
        x, start = draw(seed, 2, *IMAGE).to(dtype), draw(seed + 1, 1, 2, CLASSES).abs().to(dtype)
        walk = Propagator(net).by(composites.alpha_beta(alpha, alpha - 1))
        maps.append(walk.propagate(walk.forward(x), start).relevance[0])
    assert errors(maps[1], maps[0]).max() < 2e-5


def test_with_total():
    relevance = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    due = torch.tensor([[0.0, 1.0, -2.0], [1e-9, 3.0, 0.5]], dtype=torch.float64)
    result = with_total(relevance, due)
    torch.testing.assert_close(total(result), due, rtol=1e-12, atol=1e-12)
    share = (result - relevance.double()) / relevance.abs().double()
    assert (share.flatten(2).amax(2) - share.flatten(2).amin(2)).abs().max() < 1e-12
    assert not with_total(torch.zeros(1, 1, 3), torch.zeros(1, 1).double()).any()
