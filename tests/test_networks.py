"""The page of networks is what the command writes."""

from pathlib import Path

import pytest
import torch
from relmap.inspection.networks import METHODS, NETWORKS, Network, cells, leak, line
from relmap.propagation import Propagator, composites

PAGE = (Path(__file__).parents[1] / "docs" / "networks.md").read_text().splitlines()


def test_every_network_has_its_row():
    rows = [each.split(" | ")[0].strip("| ") for each in PAGE if each.startswith(("| torchvision", "| timm"))]
    assert rows == [f"{network.library} `{network.name}`" for network in NETWORKS]
    assert line(("network", "image", "traces", *METHODS)) in PAGE


@pytest.mark.parametrize(
    "name", ["torchvision alexnet", "torchvision squeezenet1_1", "timm lcnet_050", "timm tinynet_e"]
)
def test_rows_are_current(name):
    library, name = name.split()
    if library == "timm":
        pytest.importorskip("timm")
    (network,) = [each for each in NETWORKS if (each.library, each.name) == (library, name)]
    row, _ = cells(network)
    assert line(row) in PAGE


def test_leaks():
    network = Network("torchvision", "alexnet")
    model = network.model()
    propagator, image = Propagator(model), network.image(model)
    assert leak(propagator, image, "lrp_alpha1_beta0") < 0.1 < leak(propagator, image, "lrp_epsilon")


def timm_vgg():
    return pytest.importorskip("timm").models.vgg.VGG([4, "M", 4, "M", 4, "M"], num_classes=10).double().eval()


TRACED = [
    timm_vgg,
    Network("timm", "tf_efficientnet_b0"),
    Network("timm", "mobilevit_xxs"),
    Network("timm", "convnextv2_atto"),
    Network("timm", "poolformer_s12"),
    Network("timm", "edgenext_xx_small"),
    Network("torchvision", "swin_t"),
    Network("torchvision", "swin_v2_t"),
]


@pytest.mark.parametrize("network", TRACED, ids=lambda network: getattr(network, "name", "timm vgg"))
def test_the_trace_is_the_model(network):
    """Logits and gradients, of one image and of two, and LRP-epsilon runs."""
    if isinstance(network, Network) and network.library == "timm":
        pytest.importorskip("timm")
    model = network.model() if isinstance(network, Network) else network()
    propagator = Propagator(model, (3, 64, 64))
    gradient, epsilon = propagator.by(composites.gradient()), propagator.by(composites.epsilon())
    for count in (2, 1):
        x = torch.randn(count, 3, 64, 64, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
        activations, x = propagator.forward(x, [gradient, epsilon]), x.requires_grad_()
        logits = model(x)
        torch.testing.assert_close(activations.logits, logits.detach(), rtol=1e-9, atol=1e-9)
        start = torch.zeros(1, count, 10, dtype=torch.float64)
        start[..., 3] = 1
        (expected,) = torch.autograd.grad(logits[:, 3].sum(), x)
        found = gradient.propagate(activations, start).relevance[0]
        torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-9 * expected.abs().max().item())
        assert epsilon.propagate(activations, start).relevance.isfinite().all()
