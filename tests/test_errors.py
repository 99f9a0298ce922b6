"""A misspelt word gets the word that was meant."""

import pytest
import relmap
import torch
from relmap.catalogue.methods import CATALOGUE, find
from relmap.errors import InputError, nearest, suggestion
from relmap.evidence.claims import read_claims
from relmap.models import build
from torch import nn


def misspelt(word):
    """A letter left out, one doubled, one changed, two exchanged."""
    middle = len(word) // 2
    yield word[:middle] + word[middle + 1 :]
    yield word[:middle] + word[middle] + word[middle:]
    yield word[:-1] + "x"
    yield word[: middle - 1] + word[middle] + word[middle - 1] + word[middle + 1 :]


@pytest.mark.parametrize("method", CATALOGUE)
def test_every_method_is_found_again(method):
    for word in misspelt(method):
        if word in CATALOGUE:
            continue
        with pytest.raises(
            InputError, match=rf"method '{word}' is unknown; did you mean '\w+'\?; choose one of constant"
        ):
            find(word)
        assert method in nearest(word, CATALOGUE, 3)


@pytest.mark.parametrize(
    ("word", "meant"),
    [("LRP-Epsilon", "lrp_epsilon"), ("Grad CAM", "grad_cam"), ("lrp_epsilom", "lrp_epsilon"), ("gradcam", "grad_cam")],
)
def test_how_a_paper_writes_a_name_is_near(word, meant):
    with pytest.raises(InputError, match=f"did you mean {meant!r}"):
        relmap.explain(nn.Linear(2, 2), torch.zeros(1, 2), 1, word)


def test_a_word_like_none_gets_no_suggestion():
    assert suggestion("zzzz", CATALOGUE) == ""
    assert suggestion("", ["a"]) == ""


@pytest.mark.parametrize(
    ("method", "wrong", "meant"),
    [("lrp_epsilon", "epsilom", "epsilon"), ("lrp_gamma", "Gamma", "gamma"), ("abslrp", "contrasts", "contrast")],
)
def test_a_parameter(method, wrong, meant):
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 3))
    with pytest.raises(InputError, match=rf"{method}.*{wrong}'; it takes .*; did you mean '{meant}'\?"):
        relmap.explain(model, torch.zeros(1, 3, 2, 2), 1, method, **{wrong: 1})


def test_a_layer_of_a_small_and_of_a_large_network():
    small = relmap.Propagator(nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4, 2)))
    with pytest.raises(InputError, match=r"it has: 0, 1, 2, 3$"):
        small.graph["fc"]
    large = relmap.Propagator(build("resnet50", 4, 0.0625, 32))
    with pytest.raises(InputError) as error:
        large.graph["layer3_2.conv2"]
    message = str(error.value)
    assert "'layer3.2.conv2'" in message and "relmap.Propagator(model).graph" in message and len(message) < 400
    with pytest.raises(InputError, match=r"the likest of its \d+ are '"):
        large.graph["zzz"]


def test_a_metric_of_a_claim(tmp_path):
    path = tmp_path / "claims.yaml"
    path.write_text(CLAIM)
    with pytest.raises(InputError, match=r"unknown metrics \['mean_iuo'\]; did you mean 'mean_iou'\?"):
        read_claims(path, ["lrp_epsilon", "abslrp"])


CLAIM = """
- id: one
  text: a claim
  source: Table 1
  table: 1
  quantifier: all
  comparisons:
    - datasets: [cub200_2011]
      models: [vgg16]
      metrics: [mean_iuo]
      pairs: [[abslrp, lrp_epsilon]]
      relation: above
"""
