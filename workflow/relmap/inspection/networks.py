r"""Which networks of torchvision and timm trace, and by which methods their maps keep the start's total.

.. math:: \text{leak} = \frac{|\sum_i R_i - \sum_j S_j|}{\sum_j |S_j|}

for relevance R at the image and the start S, in float64 on random weights (batch norms and biases are random, too):
what the rules do to a total does not depend on training. ``python -m relmap.inspection.networks docs/networks.md``
writes the page.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from relmap.errors import InputError
from relmap.explainers.base import SharedPass
from relmap.explainers.building import build
from relmap.network import Operation
from relmap.propagation import Propagator

METHODS = {
    "LRP-epsilon": "lrp_epsilon",
    "LRP-gamma": "lrp_gamma",
    "LRP-alpha1-beta0": "lrp_alpha1_beta0",
    "CLRP": "clrp",
    "SGLRP": "sglrp",
    "Excitation BP": "excitation_backprop",
    "absLRP": "abslrp",
    "Attribution Equilibrium": "attribution_equilibrium",
    "RAP": "rap",
    "Gradient": "input_x_gradient",
}
"""Column -> method, one of each family."""


@dataclass(frozen=True)
class Network:
    """A network of a library, and the height and width of the image that it is tried on (None: its own)."""

    library: str
    name: str
    side: int | None = 64

    def model(self) -> nn.Module:
        """With ten classes and random weights in float64, none of which is 0."""
        torch.manual_seed(0)
        model = self._made().double().eval()
        for name, value in (*model.named_parameters(), *model.named_buffers()):
            if name.endswith("running_var"):
                value.data.uniform_(0.5, 1.5)
            elif value.is_floating_point() and (value.dim() == 1 or not value.any()):
                value.data.add_(torch.randn_like(value), alpha=0.1)
        return model

    def _made(self) -> nn.Module:
        from relmap.torchvision_shim import torchvision  # timm imports it too

        if self.library == "timm":
            import timm

            return timm.create_model(self.name, pretrained=False, num_classes=10)
        more = {"init_weights": False} if self.name in ("inception_v3", "googlenet") else {}
        return torchvision.models.get_model(self.name, weights=None, num_classes=10, **more)

    def image(self, model: nn.Module) -> Tensor:
        size = (getattr(model, "pretrained_cfg", None) or {}).get("input_size", (3, 224, 224))
        size = size if self.side is None else (3, self.side, self.side)
        return torch.randn(1, *size, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def _named(library: str, names: str, side: int | None = 64) -> Iterator[Network]:
    return (Network(library, name, side) for name in names.split())


NETWORKS = (
    *_named("torchvision", "alexnet vgg11 vgg16 vgg16_bn resnet18 resnet50 resnext50_32x4d wide_resnet50_2"),
    *_named("torchvision", "densenet121 googlenet mobilenet_v2 mobilenet_v3_small mnasnet0_5 shufflenet_v2_x0_5"),
    *_named("torchvision", "squeezenet1_1 efficientnet_b0 efficientnet_v2_s regnet_x_400mf regnet_y_400mf"),
    *_named("torchvision", "convnext_tiny swin_t swin_v2_t"),
    *_named("torchvision", "inception_v3", 96),
    *_named("torchvision", "vit_b_32 maxvit_t", 224),
    *_named("timm", "vgg16 vgg11_bn resnet18 resnet50 resnetv2_50 seresnet50 ecaresnet26t skresnet18 resnest14d"),
    *_named("timm", "res2net50_26w_4s densenet121 dpn68 dla34 hrnet_w18_small vovnet39a cspresnet50 darknet53"),
    *_named("timm", "repvgg_a0 mobilenetv3_small_050 tf_mobilenetv3_small_075 mobilenetv4_conv_small mnasnet_small"),
    *_named("timm", "lcnet_050 tinynet_e ghostnet_050 rexnet_100 efficientnet_lite0 tf_efficientnet_b0"),
    *_named("timm", "tf_efficientnetv2_b0 regnety_002 nf_regnet_b0 convnext_atto convnextv2_atto focalnet_tiny_srf"),
    *_named("timm", "hgnet_tiny fastvit_t8 starnet_s1 inception_next_tiny mambaout_femto edgenext_xx_small"),
    *_named("timm", "poolformer_s12 mobilevit_xxs mobilevit_s mobilevitv2_050 pvt_v2_b0 xcit_nano_12_p16_224"),
    *_named("timm", "inception_v4 legacy_xception", 96),
    *_named("timm", "vit_tiny_patch16_224 deit_tiny_patch16_224 pit_xs_224 levit_128s coat_lite_tiny", None),
    *_named(
        "timm",
        "convit_tiny cait_xxs24_224 crossvit_tiny_240 mvitv2_tiny twins_svt_small swin_tiny_patch4_window7_224",
        None,
    ),
    *_named("timm", "swinv2_tiny_window8_256 tiny_vit_5m_224 efficientformer_l1 mixer_s32_224 resmlp_12_224", None),
)


def leak(propagator: Propagator, image: Tensor, method: str) -> float:
    """See the module's equation; for the class that the network predicts.

    Raises:
        InputError: the method refuses the network.
    """
    explainer = build(propagator, method)
    assert isinstance(explainer, SharedPass)
    walk, starts = explainer.walks[-1], []

    def observe(operation: Operation, relevance: Tensor, parts: tuple[Tensor, ...]) -> None:
        if not starts:
            starts.append(relevance)

    activations = propagator.forward(image, explainer.walks, explainer.keep)
    watched = replace(activations, observers={walk: observe})
    found = explainer.read(watched, activations.logits.argmax(1)[None]).double().sum()
    start = starts[0].double()
    return ((found - start.sum()).abs() / start.abs().sum()).item()


def cells(network: Network) -> tuple[list[str], list[str]]:
    """The network's row, and what was refused, in the words of the refusal."""
    model = network.model()
    image = network.image(model)
    heading = [f"{network.library} `{network.name}`", f"{image.shape[-2]} x {image.shape[-1]}"]
    try:
        propagator = Propagator(model, image.shape[1:])
    except InputError as error:
        return [*heading, "refused", *[""] * len(METHODS)], [f"{heading[0]}: {_first_line(error)}"]
    with torch.no_grad():
        agrees = torch.allclose(propagator.forward(image).logits, model(image), rtol=1e-8)
    row, refusals = [*heading, "yes" if agrees else "other logits"], []
    for label, method in METHODS.items():
        try:
            row.append(_shown(leak(propagator, image, method)))
        except InputError as error:
            row.append("refused")
            refusals.append(f"{heading[0]}, {label}: {_first_line(error)}")
    return row, refusals


def _first_line(error: InputError) -> str:
    return str(error).split(";")[0].splitlines()[0]


EXPLODED = 1e3
"""Totals that have grown so much are rounding, another on each processor: the page says only that they explode."""


def _shown(value: float) -> str:
    if value >= EXPLODED:
        return "explodes"
    return "0" if value < 1e-5 else f"{value:.0e}" if value >= 10 or value < 0.01 else f"{value:.1g}"


def line(row: Iterable[str]) -> str:
    return f"| {' | '.join(row)} |"


HEAD = """# Networks

Which networks of torchvision and timm trace, one of each family, and whether a method's maps keep the total that they
start from: the part of the start's absolute sum by which the total at the image differs (0: conserved; random weights
in float64, with random biases and batch norms). Biases in denominators (LRP-epsilon, LRP-gamma) take a share by design,
and where relevance passes denominators near 0, behind norms that no layer before them takes in, LRP-epsilon's totals
explode: there a rule with positive shares is the better choice. RAP and alpha-beta are made for inputs that are not
negative: behind SiLU, GELU and norms RAP's totals explode and alpha-beta's shrink. CLRP and SGLRP start from a total
of 0. Gradient x Input promises no total. Attribution Equilibrium brings its total to -1 at each convolution, whatever
the sign of its start. Excitation BP is read at an inner layer. `make networks` writes this page (half an hour).
"""


def page(networks: Iterable[Network] = NETWORKS) -> str:
    lines, refusals = [line(("network", "image", "traces", *METHODS)), line(["---"] * (len(METHODS) + 3))], []
    for network in networks:
        row, refused = cells(network)
        lines.append(line(row))
        refusals += refused
        print(lines[-1], file=sys.stderr, flush=True)
    said = ["## Refused", "", *[f"- {each}" for each in refusals]] if refusals else []
    return "\n".join([HEAD, *lines, "", *said, ""]).rstrip("\n") + "\n"


if __name__ == "__main__":
    text = page()
    Path(sys.argv[1]).write_text(text)
