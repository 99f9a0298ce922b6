"""Maps that are none are refused, or their method says what is wrong with them."""

import warnings

import pytest
import relmap
import torch
from relmap.catalogue.methods import CATALOGUE
from relmap.errors import InputError, RelevanceWarning
from torch import Tensor, nn


def network(outputs: int = 4, **options) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, 8, 3, **options), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8, outputs)).eval()


def images() -> Tensor:
    return torch.randn(2, 3, 9, 9, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("method", ["sglrp", "sglrp_two_passes", "sglrp_agf", "agf", "clrp", "crap"])
def test_a_class_is_not_set_against_none(method):
    with pytest.raises(InputError, match=r"th(is|e) model has one output"):
        relmap.explain(network(1), images(), 0, method)


def test_one_output_is_explained_by_itself():
    maps = relmap.explain(network(1), images(), 0, "lrp_zero")
    assert maps.isfinite().all() and maps.any()


def test_maps_that_are_not_finite_are_refused_by_image():
    class Overflowing(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = network()

        def forward(self, x):
            return self.inner(x * 1e20) * 1e20

    x = images()
    x[1] *= 1e5
    with pytest.raises(InputError, match=r"'input_x_gradient': the map of image 1, target 0, holds NaN or infinity"):
        relmap.explain(Overflowing().eval(), x, [[0, 1], [0, 1]], "input_x_gradient", batch_size=1)


def test_empty_maps_are_told():
    model = network()
    model[0].weight.data.zero_()
    with pytest.warns(RelevanceWarning, match="'lrp_epsilon': 2 of 2 maps are 0 everywhere, first that of image 0"):
        relmap.explain(model, images(), 1, "lrp_epsilon")


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.conv, self.head = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x):
        x = self.stem(x).relu()
        return self.head((x + self.conv(x)).relu().mean((2, 3)))


@pytest.mark.parametrize("method", [row.id for row in CATALOGUE.values() if row.noisy_on])
def test_raps_noise_on_residual_networks_is_told(method):
    with pytest.warns(RelevanceWarning, match="what arrives is noise"):
        relmap.explain(Residual().eval(), images(), 1, method)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RelevanceWarning)
        relmap.explain(network(), images(), 1, method)


class Exploding(nn.Module):
    """A layer whose outputs are small differences of large inputs, behind a norm that passes relevance on."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.stem, self.norm, self.mix = nn.Conv2d(3, 8, 3), nn.LayerNorm([8, 7, 7]), nn.Conv2d(8, 8, 1, bias=False)
        self.head = nn.Linear(8, 4)
        self.norm.bias.data.fill_(1e5)
        self.mix.weight.data -= self.mix.weight.data.mean(1, keepdim=True)

    def forward(self, x):
        return self.head(self.mix(self.norm(self.stem(x))).relu().mean((2, 3)))


def test_an_explosion_is_told_with_the_layer_where_it_begins():
    model = Exploding().double().eval()
    with pytest.warns(RelevanceWarning, match=r"'lrp_epsilon': relevance has grown to .* begins at 'mix' \(conv\)"):
        relmap.explain(model, images().double(), 1, "lrp_epsilon")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RelevanceWarning)
        relmap.explain(network(), images(), 1, "lrp_epsilon")


@pytest.mark.parametrize("shape", [(9, 9, 3), (3, 9, 9), (2, 9, 9, 5), (2, 5, 9, 9)])
def test_advice_on_the_order_of_dimensions_is_right(shape):
    """What a refusal tells to do, done, is not refused for that again."""
    x = torch.randn(shape)
    with pytest.raises(InputError) as error:
        relmap.explain(network(), x, 1, "lrp_epsilon")
    message = str(error.value)
    if "images[None]" in message:
        x = x[None]
    elif "(2, 0, 1)[None]" in message:
        x = x.permute(2, 0, 1)[None]
    else:
        assert 3 not in (x.shape[1], x.shape[-1]) and "channels" in message
        return
    assert relmap.explain(network(), x, 1, "lrp_epsilon").shape == (1, 9, 9)
