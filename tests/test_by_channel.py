"""Maps before their channels are merged, as metrics take them that rank elements of the input."""

import pytest
import relmap
import torch
from reference_nets import inputs, network
from relmap.catalogue.methods import ATTENTION, BRANCH, CATALOGUE, Method
from relmap.errors import InputError
from relmap.explainers.base import Explainer
from relmap.propagation import Propagator
from trials import tried

MERGED_BY_MAXIMUM = {"saliency", "deconvnet", "guided_backprop", "smoothgrad"}


@pytest.fixture(scope="module")
def propagator():
    return Propagator(network("vgg16"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "method", [n for n, m in CATALOGUE.items() if not ({ATTENTION, BRANCH} & set(m.needs) or m.wraps)]
)
def test_merged_they_are_the_map(propagator, method):
    images, targets = inputs()[0][:2], inputs()[1].T[:2]
    merged = relmap.explain(propagator, images, targets, tried(method))
    found = relmap.explain(propagator, images, targets, tried(method), by_channel=True)
    assert found.shape in {(2, 2, channels, 64, 64) for channels in (1, 3)}
    expected = found.abs().amax(2) if method in MERGED_BY_MAXIMUM else found.sum(2)
    torch.testing.assert_close(merged, expected)


def test_input_times_gradient_is_the_product_of_each_element(propagator):
    images, targets = inputs()[0][:3], inputs()[1][0, :3]
    leaf = images.clone().requires_grad_(True)
    network("vgg16")(leaf).gather(1, targets[:, None]).sum().backward()
    found = relmap.explain(propagator, images, targets, "input_x_gradient", by_channel=True)
    torch.testing.assert_close(found, images * leaf.grad)
    found = relmap.explain(propagator, images, targets, "saliency", by_channel=True)
    torch.testing.assert_close(found, leaf.grad.abs())


class Blank(Explainer):
    """A user's own, of whatever shape."""

    def __init__(self, model, *, channels):
        self.channels = channels

    def __call__(self, images, targets):
        return images.new_ones(*targets.shape, *images.shape[2:])

    def by_channel(self, images, targets):
        return images.new_ones(*targets.shape, self.channels, *images.shape[2:])


@pytest.mark.parametrize("channels", [1, 3])
def test_a_method_of_ones_own(propagator, channels):
    own = Method("blank", "Blank", "made up", Blank, {"channels": channels})
    found = relmap.explain(propagator, inputs()[0], 0, own, by_channel=True)
    assert torch.equal(found, torch.ones(8, channels, 64, 64, dtype=torch.float64))


def test_other_channels_than_the_images_are_refused(propagator):
    own = Method("blank", "Blank", "made up", Blank, {"channels": 2})
    with pytest.raises(InputError, match=r"shape \(8, 1, 3, 64, 64\)"):
        relmap.explain(propagator, inputs()[0], 0, own, by_channel=True)
