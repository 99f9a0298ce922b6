"""Every method: id, citation, what it needs, what makes it. One id is one map everywhere.

Pure data: a method's module is imported when the method is built. Adding a method is one file with its ``Explainer``
and one row here. One of your own needs no row here, wherever an id is asked for its row will do::

    relmap.explain(model, images, method=Method("mine", "Mine", "myself", MyExplainer))
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from relmap.errors import InputError, suggestion

if TYPE_CHECKING:
    from relmap.explainers.base import Explainer

BOUNDS = "bounds"
FEATURE_MAP = "feature map"
BLOCKS = "residual blocks"
ATTENTION = "attention"
BRANCH = "attention branch"
ARTIFACTS = "artifacts"
PIXELS = "pixels"
SIZES = "sizes"

NEEDS = {
    BOUNDS: "takes low and high, the range of valid inputs, a number or one per channel (else each image's own)",
    FEATURE_MAP: "a convolutional network with a last feature map",
    BLOCKS: "made for networks of residual blocks",
    ATTENTION: "a network with attention",
    BRANCH: "a network with an attention branch (Fukui et al. 2019), which it names as its attention_map",
    ARTIFACTS: "takes artifacts, files that a paper's rules make",
    SIZES: "a network that takes images of other sizes than its own",
    PIXELS: "an input of real numbers, such as pictures; no token ids",
}


@dataclass(frozen=True)
class Method:
    """A method.

    Attributes:
        id: its name everywhere.
        label: its name in figures.
        citation: where it comes from, with the reading where there are several.
        maker: ``module:attribute`` below ``relmap.explainers``, ``file.py:attribute``, or the class itself. It is
            called with a ``Propagator`` of the model, or with the model where its first parameter has that name.
        parameters: of the maker, fixed by the id.
        needs: keys of ``NEEDS``.
        signed: whether its maps have two signs.
        contrastive: whether it sets the target against the other classes.
        variant_of: the method that it is another reading of.
        training_of: the method that it is a further training of, which differs in the seed alone: tables and claims
            take that one's numbers over all its trainings.
        wraps: the method whose explainer its own maker takes as ``inner``; the row of one that the catalogue lacks.
        arm: of a method that takes artifacts, which: methods of one arm take the same ones, and are made in one job.
        places: the pairs of data set and model that a run can make it for; None for all.
        noisy_on: keys of ``NEEDS``: networks on which its maps are known to be noise, which ``explain`` says.
        control: whether it knows nothing of the trained network: what a metric gives it, it gives for nothing.
        trial: free parameters for a first look by a method that otherwise runs the network hundreds of times or more:
            tests and comparisons of cost take them, no table does.
    """

    id: str
    label: str
    citation: str
    maker: str | Callable[..., Explainer]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    needs: tuple[str, ...] = ()
    signed: bool = True
    contrastive: bool = False
    variant_of: str | None = None
    training_of: str | None = None
    wraps: str | Method | None = None
    arm: str | None = None
    places: tuple[tuple[str, str], ...] | None = None
    noisy_on: tuple[str, ...] = ()
    control: bool = False
    trial: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values but the places, for a job's parameters. A row that names a class has none."""
        lists = {name: list(getattr(self, name)) for name in ("needs", "noisy_on")}
        wraps = self.wraps.to_dict() if isinstance(self.wraps, Method) else self.wraps
        values = {**asdict(self), "parameters": dict(self.parameters), "trial": dict(self.trial), **lists}
        values["wraps"] = wraps
        return {key: value for key, value in values.items() if key != "places"}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Method:
        """Inverse of ``to_dict``."""
        lists = {name: tuple(values[name]) for name in ("needs", "noisy_on")}
        wraps = values["wraps"]
        return cls(**{**values, **lists, "wraps": cls.from_dict(wraps) if isinstance(wraps, Mapping) else wraps})

    def __hash__(self) -> int:
        return hash(self.id)


_BACH = "Bach et al. 2015"
_MONTAVON = "Montavon et al. 2019"

# Batch norms as layers of their own, from 1 at the target: CLAM's reading of the three methods that it refines.
_NORMS = {"batch_norm": "alpha_beta"}

# How many times an image or a patch is enlarged, in ids.
_TIMES = {1: "once", 2: "twice", 3: "thrice", 4: "fourfold", 5: "fivefold"}

_ROWS: dict[str, Method] = {
    method.id: method
    for method in (
        # Controls: what a metric gives these it gives for nothing
        Method("constant", "Constant", "control: 1 everywhere", "controls:Constant", signed=False, control=True),
        Method("random", "Random", "control: uniform noise", "controls:Random", signed=False, control=True),
        Method(
            "random_normal",
            "Random, normal",
            "control: normal noise, as absLRP's authors draw it",
            "controls:Random",
            {"law": "normal"},
            variant_of="random",
            control=True,
        ),
        Method(
            "centre_gaussian",
            "Centre",
            "control: a Gaussian at the centre",
            "controls:CentreGaussian",
            signed=False,
            control=True,
        ),
        Method(
            "centre_square",
            "Centre square",
            "control: 1 in the middle quarter of either side, 0 elsewhere",
            "controls:CentreSquare",
            signed=False,
            control=True,
        ),
        Method(
            "edges",
            "Edges",
            "control: edges of the picture by Sobel's filter",
            "controls:Edges",
            {},
            (PIXELS,),
            signed=False,
            control=True,
        ),
        Method(
            "random_network",
            "Input x Gradient, random network",
            "control: Input x Gradient of the network with random weights, Adebayo et al. 2018",
            "controls:RandomNetwork",
            {"explainer": "input_x_gradient"},
            control=True,
        ),
        # Gradients
        Method(
            "saliency",
            "Saliency",
            "Simonyan et al. 2013",
            "baselines:BaselineMap",
            {"baseline": "gradient"},
            signed=False,
        ),
        Method(
            "input_x_gradient",
            "Input x Gradient",
            "Shrikumar et al. 2016",
            "baselines:BaselineMap",
            {"baseline": "linear_approximation"},
        ),
        Method(
            "integrated_gradients",
            "Integrated Gradients",
            "Sundararajan et al. 2017, from 0 in normalised space, 20 steps, as in GridPG",
            "integrated_gradients:IntegratedGradients",
            {},
            (PIXELS,),
        ),
        Method(
            "smoothgrad",
            "SmoothGrad",
            "Smilkov et al. 2017, 20 draws, noise of 0.15 of the image's range, absolute after the mean",
            "smoothgrad:SmoothGrad",
            {},
            (PIXELS,),
            signed=False,
        ),
        Method(
            "deeplift",
            "DeepLIFT",
            "Shrikumar et al. 2017, Rescale, from 0 in normalised space",
            "deeplift:DeepLIFT",
            {},
            (PIXELS,),
        ),
        Method(
            "deconvnet",
            "DeconvNet",
            "Zeiler and Fergus 2014",
            "baselines:BaselineMap",
            {"baseline": "deconvnet"},
            signed=False,
        ),
        Method(
            "guided_backprop",
            "Guided Backprop",
            "Springenberg et al. 2014",
            "baselines:BaselineMap",
            {"baseline": "guided_backprop"},
            signed=False,
        ),
        Method(
            "guided_backprop_smoothed",
            "Guided Backprop, smoothed",
            "Springenberg et al. 2014, as TorchRay's pointing game runs it",
            "baselines:BaselineMap",
            {"baseline": "guided_backprop", "smooth": 0.02},
            (PIXELS,),
            signed=False,
            variant_of="guided_backprop",
        ),
        Method(
            "grad_cam",
            "Grad-CAM",
            "Selvaraju et al. 2017",
            "baselines:BaselineMap",
            {"baseline": "grad_cam"},
            (FEATURE_MAP,),
            signed=False,
        ),
        Method(
            "grad_cam_pp",
            "Grad-CAM++",
            "Chattopadhay et al. 2018, as in pytorch-grad-cam",
            "baselines:BaselineMap",
            {"baseline": "grad_cam_pp"},
            (FEATURE_MAP,),
            signed=False,
        ),
        Method(
            "hires_cam",
            "HiResCAM",
            "Draelos and Carin 2020",
            "baselines:BaselineMap",
            {"baseline": "hires_cam"},
            (FEATURE_MAP,),
            signed=False,
        ),
        Method(
            "layer_cam",
            "LayerCAM",
            "Jiang et al. 2021",
            "baselines:BaselineMap",
            {"baseline": "layer_cam"},
            (FEATURE_MAP,),
            signed=False,
        ),
        Method(
            "xgrad_cam",
            "XGrad-CAM",
            "Fu et al. 2020",
            "baselines:BaselineMap",
            {"baseline": "xgrad_cam"},
            (FEATURE_MAP,),
            signed=False,
        ),
        Method(
            "wgrad_cam",
            "WGrad-CAM",
            "Zhang, Rao and Yang 2021, read as XGrad-CAM without its division: no code is public",
            "baselines:BaselineMap",
            {"baseline": "wgrad_cam"},
            (FEATURE_MAP,),
            signed=False,
        ),
        Method(
            "norm_grad",
            "NormGrad",
            "Rebuffi et al. 2020, at the last map of the resolution before the last",
            "baselines:BaselineMap",
            {"baseline": "norm_grad"},
            (FEATURE_MAP,),
            signed=False,
        ),
        Method(
            "finer_cam",
            "Finer-CAM",
            "Zhang et al. 2025, Grad-CAM against the three classes whose logits are nearest",
            "finer_cam:FinerCAM",
            {},
            (FEATURE_MAP,),
            signed=False,
            contrastive=True,
        ),
        Method(
            "guided_grad_cam",
            "Guided Grad-CAM",
            "Selvaraju et al. 2017, signed",
            "baselines:GuidedGradCAM",
            {},
            (FEATURE_MAP,),
        ),
        # LRP
        Method("lrp_zero", "LRP-0", _BACH, "plain_lrp:LRPEpsilon", {"epsilon": 0.0}),
        Method("lrp_epsilon", "LRP-epsilon", _BACH, "plain_lrp:LRPEpsilon"),
        Method("lrp_gamma", "LRP-gamma", _MONTAVON, "plain_lrp:LRPGamma"),
        Method("lrp_alpha1_beta0", "LRP-alpha1-beta0", _BACH, "plain_lrp:LRPAlphaBeta", {}, (BOUNDS,)),
        Method(
            "lrp_alpha2_beta1",
            "LRP-alpha2-beta1",
            _BACH,
            "plain_lrp:LRPAlphaBeta",
            {"alpha": 2.0, "beta": 1.0},
            (BOUNDS,),
        ),
        Method(
            "lrp_epsilon_plus_flat",
            "LRP epsilon-plus-flat",
            f"{_MONTAVON}, as in zennit",
            "plain_lrp:LRPComposite",
            {"preset": "epsilon_plus_flat"},
        ),
        Method(
            "lrp_epsilon_plus_box",
            "LRP epsilon-plus-box",
            f"{_MONTAVON}, as AE's composite: epsilon in linear layers, z+ in convolutions, z-box first",
            "plain_lrp:LRPComposite",
            {"preset": "epsilon_plus_box"},
            (BOUNDS,),
            variant_of="lrp_epsilon_plus_flat",
        ),
        Method(
            "lrp_epsilon_gamma_box",
            "LRP epsilon-gamma-box",
            _MONTAVON,
            "plain_lrp:LRPComposite",
            {"preset": "epsilon_gamma_box"},
            (BOUNDS,),
        ),
        Method(
            "lrp_epsilon_plus",
            "LRP epsilon-plus",
            "Montavon et al. 2019, as in zennit, no flat rule",
            "plain_lrp:LRPComposite",
            {"preset": "epsilon_plus"},
            variant_of="lrp_epsilon_plus_flat",
        ),
        Method(
            "lrp_epsilon_alpha2_beta1",
            "LRP epsilon-alpha2beta1",
            "Kohlbrenner et al. 2020, no flat rule",
            "plain_lrp:LRPComposite",
            {"preset": "epsilon_alpha2_beta1"},
            variant_of="lrp_epsilon_alpha2_beta1_flat",
        ),
        Method(
            "lrp_epsilon_alpha2_beta1_flat",
            "LRP epsilon-alpha2beta1-flat",
            "Kohlbrenner et al. 2020",
            "plain_lrp:LRPComposite",
            {"preset": "epsilon_alpha2_beta1_flat"},
        ),
        Method(
            "lrp_epsilon_torchlrp",
            "LRP-epsilon, TorchLRP",
            "fhvilshoj/TorchLRP: epsilon 0.1 in every layer, from 1",
            "plain_lrp:LRPEpsilon",
            {"epsilon": 0.1, "start": "sign"},
            variant_of="lrp_epsilon",
        ),
        Method(
            "lrp_alpha1_beta0_torchlrp",
            "LRP-alpha1-beta0, TorchLRP",
            "fhvilshoj/TorchLRP: the first layer like the others, from 1",
            "plain_lrp:LRPAlphaBeta",
            {"first": "same", "start": "one_hot"},
            variant_of="lrp_alpha1_beta0",
        ),
        Method(
            "lrp_alpha2_beta1_torchlrp",
            "LRP-alpha2-beta1, TorchLRP",
            "fhvilshoj/TorchLRP: the first layer like the others, from 1",
            "plain_lrp:LRPAlphaBeta",
            {"alpha": 2.0, "beta": 1.0, "first": "same", "start": "one_hot"},
            variant_of="lrp_alpha2_beta1",
        ),
        Method(
            "lrp_alpha1_beta0_norms",
            "LRP-alpha1-beta0, norms as layers",
            "Bach et al. 2015, from 1, as CLAM reads it: batch norms are layers",
            "plain_lrp:LRPAlphaBeta",
            {"start": "one_hot", **_NORMS},
            (BOUNDS,),
            variant_of="lrp_alpha1_beta0",
        ),
        Method(
            "clrp_norms",
            "CLRP, norms as layers",
            "Gu et al. 2018, one pass: batch norms are layers",
            "plain_lrp:LRPAlphaBeta",
            {"start": "clrp", **_NORMS},
            (BOUNDS,),
            contrastive=True,
            variant_of="clrp",
        ),
        Method(
            "sglrp_norms",
            "SGLRP, norms as layers",
            "Iwana et al. 2019, one pass: batch norms are layers",
            "plain_lrp:LRPAlphaBeta",
            {"start": "sglrp", **_NORMS},
            (BOUNDS,),
            contrastive=True,
            variant_of="sglrp",
        ),
        Method(
            "clrp_two_passes_norms",
            "CLRP, two passes, norms as layers",
            "Gu et al. 2018, the others rescaled to the target's total, as CLAM reads it: batch norms are layers",
            "contrastive:TwoPasses",
            {**_NORMS},
            (BOUNDS,),
            contrastive=True,
            variant_of="clrp",
        ),
        Method(
            "sglrp_two_passes_norms",
            "SGLRP, two passes, norms as layers",
            "Iwana et al. 2019, the others rescaled to the target's total, as CLAM reads it: batch norms are layers",
            "contrastive:TwoPasses",
            {"reading": "sglrp", **_NORMS},
            (BOUNDS,),
            contrastive=True,
            variant_of="sglrp",
        ),
        Method(
            "clrp",
            "CLRP",
            "Gu et al. 2018, one pass, as SGLRP's authors read it",
            "plain_lrp:LRPAlphaBeta",
            {"start": "clrp"},
            (BOUNDS,),
            contrastive=True,
        ),
        Method(
            "clrp_zplus",
            "CLRP, z+ everywhere",
            "Gu et al. 2018, one pass, the first layer like the others, as absLRP's authors run it",
            "plain_lrp:LRPAlphaBeta",
            {"start": "clrp", "first": "same"},
            contrastive=True,
            variant_of="clrp",
        ),
        Method(
            "sglrp",
            "SGLRP",
            "Iwana et al. 2019",
            "plain_lrp:LRPAlphaBeta",
            {"start": "sglrp"},
            (BOUNDS,),
            contrastive=True,
        ),
        Method(
            "clrp_two_passes",
            "CLRP, two passes",
            "Gu et al. 2018, the others rescaled to the target's total (shirgur/AGFVisualization)",
            "contrastive:TwoPasses",
            {},
            (BOUNDS,),
            contrastive=True,
            variant_of="clrp",
        ),
        Method(
            "clrp_gu",
            "CLRP, Gu's code",
            "JindongGu/Contrastive-LRP",
            "contrastive:GuCLRP",
            {},
            (),
            contrastive=True,
            variant_of="clrp",
        ),
        Method(
            "sglrp_two_passes",
            "SGLRP, two passes",
            "Iwana et al. 2019, the others rescaled to the target's total (shirgur/AGFVisualization)",
            "contrastive:TwoPasses",
            {"reading": "sglrp"},
            (BOUNDS,),
            contrastive=True,
            variant_of="sglrp",
        ),
        Method(
            "lrp_alpha1_beta0_rap",
            "LRP-alpha1-beta0, RAP's code",
            "wjNam/Relative_Attributing_Propagation: batch norms passed, signed residual shares",
            "rap:AlphaBetaOfRAP",
            {"alpha": 1.0, "beta": 0.0},
            (BOUNDS,),
            variant_of="lrp_alpha1_beta0",
        ),
        Method(
            "lrp_alpha1_beta0_rap_centred",
            "LRP-alpha1-beta0, RAP's code, less its mean",
            "Gur et al. 2021: what AGF's segmentation protocol does to LRP's maps",
            "centred:centred",
            variant_of="lrp_alpha1_beta0_rap",
            wraps="lrp_alpha1_beta0_rap",
        ),
        Method(
            "lrp_alpha2_beta1_rap",
            "LRP-alpha2-beta1, RAP's code",
            "wjNam/Relative_Attributing_Propagation: batch norms passed, signed residual shares",
            "rap:AlphaBetaOfRAP",
            {"alpha": 2.0, "beta": 1.0},
            (BOUNDS,),
            variant_of="lrp_alpha2_beta1",
        ),
        Method(
            "clrp_gu_negated",
            "CLRP, Gu's code, type 2",
            "JindongGu/Contrastive-LRP, the last layer's weights negated",
            "contrastive:GuNegatedCLRP",
            {},
            (),
            contrastive=True,
            variant_of="clrp",
        ),
        Method(
            "sglrp_agf",
            "SGLRP, AGF's code",
            "shirgur/AGFVisualization: two passes, 1e-8 added to the start",
            "contrastive:TwoPasses",
            {"reading": "sglrp_agf"},
            (BOUNDS,),
            contrastive=True,
            variant_of="sglrp",
        ),
        Method(
            "excitation_backprop",
            "Excitation Backprop",
            "Zhang et al. 2018",
            "excitation:ExcitationBackprop",
            {},
            (FEATURE_MAP,),
            signed=False,
        ),
        Method(
            "contrastive_excitation_backprop",
            "Contrastive EB",
            "Zhang et al. 2018",
            "excitation:ContrastiveExcitationBackprop",
            {},
            (FEATURE_MAP,),
            signed=False,
            contrastive=True,
        ),
        Method(
            "relevance_cam",
            "Relevance-CAM",
            "Lee et al. 2021",
            "relevance_cam:RelevanceCAM",
            {},
            (FEATURE_MAP,),
            contrastive=True,
        ),
        # Attribution Equilibrium and its predecessors
        Method(
            "attribution_equilibrium",
            "AE",
            "Nam and Lee, Attribution Equilibrium",
            "equilibrium:AttributionEquilibrium",
            {},
            (FEATURE_MAP, BOUNDS),
            contrastive=True,
        ),
        Method(
            "attribution_equilibrium_printed",
            "AE, Eq. 6 as printed",
            "Nam and Lee, Attribution Equilibrium",
            "equilibrium:AttributionEquilibrium",
            {"total": "printed"},
            (FEATURE_MAP, BOUNDS),
            contrastive=True,
            variant_of="attribution_equilibrium",
        ),
        Method(
            "attribution_equilibrium_released",
            "AE, released",
            "wjNam/Attribution-Equilibrium: half the relevance to the main branch, doubled; no skip",
            "equilibrium:AttributionEquilibrium",
            {"residual": "authors", "low": None, "high": None},
            (FEATURE_MAP,),
            contrastive=True,
            variant_of="attribution_equilibrium",
        ),
        Method(
            "rap",
            "RAP",
            "Nam et al. 2020",
            "rap:RelativeAttributingPropagation",
            {},
            (BOUNDS,),
            noisy_on=(BLOCKS,),
        ),
        Method(
            "rap_logit_init",
            "RAP, AGF's copy",
            "Nam et al. 2020, as in shirgur/AGFVisualization",
            "rap:RAPLogitInit",
            {},
            (BOUNDS,),
            variant_of="rap",
            noisy_on=(BLOCKS,),
        ),
        Method(
            "crap",
            "cRAP",
            "Nam et al. 2020, made contrastive as in Gu et al. 2018",
            "rap:ContrastiveRAP",
            {},
            (BOUNDS,),
            contrastive=True,
            noisy_on=(BLOCKS,),
        ),
        Method(
            "rsp",
            "RSP",
            "Nam et al. 2021",
            "rsp:RelativeSectionalPropagation",
            {},
            (FEATURE_MAP, BOUNDS),
            contrastive=True,
        ),
        Method(
            "agf",
            "AGF",
            "Gur et al. 2021",
            "agf:AttributionGuidedFactorization",
            {},
            (FEATURE_MAP, BOUNDS),
            contrastive=True,
        ),
        # absLRP
        Method(
            "abslrp",
            "absLRP",
            "Vukadin et al. 2024, from 1 and -1/N, each sign restored",
            "abslrp:AbsLRP",
            {},
            (),
            contrastive=True,
        ),
        Method(
            "abslrp_difference",
            "absLRP, difference",
            "Vukadin et al. 2024, two passes subtracted",
            "abslrp:AbsLRP",
            {"contrast": "difference"},
            (),
            contrastive=True,
            variant_of="abslrp",
        ),
        Method(
            "abslrp_target",
            "absLRP, target alone",
            "Vukadin et al. 2024, without contrast",
            "abslrp:AbsLRP",
            {"contrast": "none"},
            (),
            variant_of="abslrp",
        ),
        Method(
            "abslrp_eq12",
            "absLRP, Eq. 12",
            "Vukadin et al. 2024, Eq. 12 as printed",
            "abslrp:AbsLRPEquation12",
            {},
            (),
            contrastive=True,
            variant_of="abslrp",
        ),
        Method(
            "abslrp_normalised",
            "absLRP, normalised",
            "davor10105/relative-absolute-magnitude-propagation, later code",
            "abslrp:AbsLRPNormalised",
            {},
            (),
            contrastive=True,
            variant_of="abslrp",
        ),
        Method(
            "abslrp_eq12_without_bias",
            "absLRP, Eq. 12 without bias",
            "Vukadin et al. 2024, Eq. 12, no bias in the denominators",
            "abslrp:AbsLRPEquation12",
            {"bias": False},
            (),
            contrastive=True,
            variant_of="abslrp",
        ),
        Method(
            "abslrp_normalised_vgg",
            "absLRP, normalised, with its quirks",
            "davor10105/relative-absolute-magnitude-propagation, later code as it treats VGG",
            "abslrp:AbsLRPNormalised",
            {"max_pool": "winner_times_activation", "drop_negative_logits": True},
            (),
            contrastive=True,
            variant_of="abslrp",
        ),
        Method(
            "abslrp_normalised_resnet",
            "absLRP, normalised, with its graph leak",
            "davor10105/relative-absolute-magnitude-propagation, later code as it treats ResNet",
            "abslrp:AbsLRPNormalisedLeaking",
            {},
            (),
            contrastive=True,
            variant_of="abslrp",
        ),
        Method(
            "abslrp_patches",
            "absLRP, patches",
            "Vukadin et al. 2024, Table 10, patch relevance",
            "abslrp:AbsLRPPatches",
            {},
            (ATTENTION,),
            contrastive=True,
            variant_of="abslrp",
        ),
        Method(
            "abslrp_values",
            "absLRP, values",
            "Vukadin et al. 2024, Table 10, value relevance",
            "abslrp:AbsLRP",
            {"branch": "values"},
            (ATTENTION,),
            contrastive=True,
            variant_of="abslrp",
        ),
        Method(
            "abslrp_queries_keys",
            "absLRP, queries and keys",
            "Vukadin et al. 2024, Table 10, query and key relevance",
            "abslrp:AbsLRP",
            {"branch": "attention"},
            (ATTENTION,),
            contrastive=True,
            variant_of="abslrp",
        ),
        # The network run again and again
        Method(
            "rise",
            "RISE",
            "Petsiuk et al. 2018, as in TorchRay: 8,000 masks of 7 x 7 cells, sigmoid scores",
            "rise:RISE",
            {},
            (PIXELS,),
            signed=False,
            trial={"masks": 24},
        ),
        Method(
            "rise_softmax",
            "RISE, softmax",
            "Petsiuk et al. 2018, TorchRay's masks, softmax scores as in the paper",
            "rise:RISE",
            {"score": "softmax"},
            (PIXELS,),
            signed=False,
            variant_of="rise",
            trial={"masks": 24},
        ),
        Method(
            "rise_keio",
            "RISE, 9 x 9 cells",
            "Petsiuk et al. 2018, as in keio-smilab24/LRP-for-ResNet: 5,000 masks of 9 x 9 cells",
            "rise:KeioRISE",
            {},
            (PIXELS,),
            signed=False,
            variant_of="rise",
            trial={"masks": 24},
        ),
        Method(
            "extremal_perturbation",
            "Extremal perturbation",
            "Fong et al. 2019, as TorchRay's pointing game on VOC runs it: areas 0.025, 0.05, 0.1, 0.2",
            "extremal_perturbation:ExtremalPerturbation",
            {},
            (PIXELS,),
            signed=False,
            trial={"iterations": 2},
        ),
        Method(
            "extremal_perturbation_coco",
            "Extremal perturbation, COCO's areas",
            "Fong et al. 2019, as TorchRay's pointing game on COCO runs it: areas 0.018, 0.025, 0.05, 0.1",
            "extremal_perturbation:ExtremalPerturbation",
            {"areas": [0.018, 0.025, 0.05, 0.1]},
            (PIXELS,),
            signed=False,
            variant_of="extremal_perturbation",
            trial={"iterations": 2},
        ),
        Method(
            "score_cam",
            "Score-CAM",
            "Wang et al. 2020, Algorithm 1: softmax over the channels, a forward pass for each",
            "score_cam:ScoreCAM",
            {},
            (FEATURE_MAP, PIXELS),
            signed=False,
            trial={"channels": 4},
        ),
        Method(
            "lime",
            "LIME",
            "Ribeiro et al. 2016, as its code explains images: 1,000 samples, 49 superpixels of SLIC",
            "surrogate:LIME",
            {},
            (PIXELS,),
            trial={"samples": 24, "side": 4},
        ),
        Method(
            "kernel_shap",
            "KernelSHAP",
            "Lundberg and Lee 2017, 2,000 coalitions of 7 x 7 cells, against the mean colour",
            "surrogate:KernelSHAP",
            {},
            (PIXELS,),
            trial={"samples": 24, "side": 4},
        ),
        Method(
            "cameras",
            "CAMERAS",
            "Jalwana et al. 2021, sizes of the same prediction",
            "cameras:CAMERAS",
            {},
            (FEATURE_MAP, PIXELS, SIZES),
            signed=False,
            trial={"scales": [1, 1.5]},
        ),
        Method(
            "cameras_ucag",
            "CAMERAS, all sizes",
            "Jalwana et al. 2021, as in KU-HJH/UCAG: all sizes count",
            "cameras:CAMERAS",
            {"agreeing": False},
            (FEATURE_MAP, PIXELS, SIZES),
            signed=False,
            variant_of="cameras",
            trial={"scales": [1, 1.5]},
        ),
        Method(
            "full_grad",
            "FullGrad",
            "Srinivas and Fleuret 2019",
            "full_grad:FullGrad",
            {},
            (FEATURE_MAP,),
            signed=False,
        ),
        Method(
            "full_grad_centred",
            "FullGrad, less its mean",
            "Gur et al. 2021: what AGF's segmentation protocol does to FullGrad's maps",
            "centred:centred",
            needs=(PIXELS,),
            variant_of="full_grad",
            wraps="full_grad",
        ),
        Method(
            "lrp_epsilon_captum",
            "LRP, captum",
            "captum 0.9, default rules, on a network whose sums it does not see, as torchvision's ResNets",
            "captum_lrp:CaptumLRP",
            {},
            variant_of="lrp_epsilon",
            noisy_on=(BLOCKS,),
        ),
        Method(
            "lrp_epsilon_captum_sums",
            "LRP, captum, sums as modules",
            "captum 0.9, default rules, sums as its Addition_Module",
            "captum_lrp:CaptumLRP",
            {"sums": "shared"},
            variant_of="lrp_epsilon",
        ),
        # Attention
        Method(
            "attention_last_layer",
            "Attention, last layer",
            "mean over the heads, the class token's row",
            "attention:LastLayerAttention",
            {},
            (ATTENTION, PIXELS),
            signed=False,
        ),
        Method(
            "attention_rollout",
            "Rollout",
            "Abnar and Zuidema 2020, mean over the heads, from the first layer",
            "attention:AttentionRollout",
            {},
            (ATTENTION, PIXELS),
            signed=False,
        ),
        Method(
            "tibav",
            "TIBAV",
            "Chefer et al. 2021, from the first layer, as their code's default",
            "attention:TIBAV",
            {},
            (ATTENTION, PIXELS),
            signed=False,
        ),
        Method(
            "tibav_start1",
            "TIBAV, from the second layer",
            "Chefer et al. 2021, as their code's segmentation has it",
            "attention:TIBAV",
            {"start_layer": 1},
            (ATTENTION, PIXELS),
            signed=False,
            variant_of="tibav",
        ),
        Method(
            "legrad",
            "LeGrad",
            "Bousselham et al. 2024, from the first layer, not rescaled",
            "legrad:LeGrad",
            {},
            (ATTENTION, PIXELS),
            signed=False,
        ),
        Method(
            "attn_lrp",
            "AttnLRP",
            "Achtibat et al. 2024, gamma 0.05 in linear layers, 0.25 in convolutions",
            "attn_lrp:AttnLRP",
            {},
            (ATTENTION,),
        ),
        Method(
            "attention_branch_network",
            "ABN",
            "Fukui et al. 2019, the network's own attention",
            "branch_attention:BranchAttention",
            {},
            (BRANCH, PIXELS),
            signed=False,
        ),
        # C3-LRP
        Method("c3_lrp", "C3-LRP", "Otsuki et al. 2024, Eq. 1 and 2", "c3:C3LRP", {}, (BLOCKS,)),
        Method(
            "c3_lrp_literal",
            "C3-LRP, epsilon as printed",
            "Otsuki et al. 2024, Eq. 1 and 2",
            "c3:C3LRP",
            {"signed": False},
            (BLOCKS,),
            variant_of="c3_lrp",
        ),
        Method(
            "c3_lrp_released", "C3-LRP, released", "keio-smilab24/LRP-for-ResNet", "c3:ReleasedC3LRP", {}, (BLOCKS,)
        ),
        Method(
            "c3_lrp_released_simple",
            "C3-LRP, released, simple",
            "keio-smilab24/LRP-for-ResNet, mode simple",
            "c3:ReleasedC3LRP",
            {"mode": "simple"},
            (BLOCKS,),
            variant_of="c3_lrp_released",
        ),
        Method(
            "c3_lrp_released_flows_skip_simple",
            "C3-LRP, released, halves",
            "keio-smilab24/LRP-for-ResNet, mode flows_skip_simple",
            "c3:ReleasedC3LRP",
            {"mode": "flows_skip_simple"},
            (BLOCKS,),
            variant_of="c3_lrp_released",
        ),
        Method(
            "c3_lrp_released_latest",
            "C3-LRP, released, latest",
            "keio-smilab24/LRP-for-ResNet, mode latest",
            "c3:ReleasedC3LRP",
            {"mode": "latest"},
            (BLOCKS,),
            variant_of="c3_lrp_released",
        ),
        # Its contour choice, around its maps and others, and C1C in its place
        *(
            Method(
                f"{inner}_{name}",
                f"{inner_label} with {label}",
                f"{cited}, {choice}",
                "contour:contoured",
                parameters,
                (*blocks, PIXELS),
                variant_of=f"{inner}_contour" if name != "contour" else None,
                wraps=inner,
            )
            for inner, inner_label, cited, blocks in (
                ("c3_lrp", "C3-LRP", "Otsuki et al. 2024", (BLOCKS,)),
                ("c3_lrp_released", "C3-LRP, released,", "keio-smilab24/LRP-for-ResNet", (BLOCKS,)),
                ("input_x_gradient", "Input x Gradient", "Shrikumar et al. 2016", ()),
            )
            for name, label, choice, parameters in (
                ("contour", "contour", "the choice of Otsuki et al. 2024, Eq. 3 and 4", {}),
                ("c1c", "C1C", "the choice of Iida et al. 2023", {"choice": "highest"}),
            )
        ),
        *(
            Method(
                f"grad_cam_{word}",
                f"Grad-CAM, {factor} x",
                "Hong et al. 2023, Figure 2: the image enlarged",
                "enlarged:Enlarged",
                {"factor": factor},
                (FEATURE_MAP, PIXELS),
                signed=False,
                variant_of="grad_cam",
                wraps="grad_cam",
            )
            for factor, word in _TIMES.items()
            if factor > 1
        ),
    )
}


def unfold_and_conquer(inner: Method, suffix: str = "", note: str = "", **parameters: Any) -> Method:
    """Unfold and Conquer (UCAG) of a method, ``ucag_<id><suffix>``.

    Args:
        inner: the row of the method that explains the patches; one of your own will do.
        suffix, note: what the parameters change, in the id, and in label and citation.
        parameters: of the maker that the id fixes.
    """
    return Method(
        f"ucag_{inner.id}{suffix}",
        f"{inner.label}, UCAG{note}",
        f"Hong et al., UCAG, of {inner.citation}{note}",
        "unfold_and_conquer:UnfoldAndConquer",
        parameters,
        (*(need for need in inner.needs if need not in (BOUNDS, PIXELS)), PIXELS),
        signed=inner.signed,
        contrastive=inner.contrastive,
        variant_of=f"ucag_{inner.id}" if suffix else None,
        wraps=inner.id if _ROWS.get(inner.id) == inner else inner,
        arm=inner.arm,
        places=inner.places,
        noisy_on=inner.noisy_on,
    )


_UNFOLDED = (
    *("grad_cam", "grad_cam_pp", "xgrad_cam", "wgrad_cam", "full_grad", "full_grad_centred"),
    *("lrp_alpha1_beta0_rap", "lrp_alpha1_beta0_rap_centred", "clrp_two_passes", "sglrp_agf"),
    *("rap_logit_init", "rsp", "agf", "attribution_equilibrium", "abslrp"),
    "constant",  # what the confidence of patches says alone
)
_UNFOLDED_ROWS = (
    *(unfold_and_conquer(_ROWS[name]) for name in _UNFOLDED),
    unfold_and_conquer(_ROWS["grad_cam"], "_unweighted", ", all patches alike", weights="uniform"),
    unfold_and_conquer(_ROWS["grad_cam"], "_plus_one", ", divided by the count plus one", count="plus_one"),
    *(unfold_and_conquer(_ROWS["grad_cam"], f"_{word}", f", patches {n} x", alpha=n) for n, word in _TIMES.items()),
)
CATALOGUE: dict[str, Method] = _ROWS | {row.id: row for row in _UNFOLDED_ROWS}


def find(method: str | Method) -> Method:
    """The method of this id; a row is itself.

    Raises:
        InputError: there is none.
    """
    if isinstance(method, Method):
        return method
    if method not in CATALOGUE:
        raise InputError(
            f"method {method!r} is unknown{suggestion(method, CATALOGUE)}; choose one of {', '.join(CATALOGUE)}"
        )
    return CATALOGUE[method]
