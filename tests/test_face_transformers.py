"""The face on transformers: pictures by a vision transformer, sentences by a BERT classifier."""

import pytest
import relmap
import torch
from reference_nets import inputs, network
from relmap.catalogue.methods import ATTENTION, BLOCKS, BRANCH, CATALOGUE, FEATURE_MAP, PIXELS
from relmap.models.text import BertClassifier, BertSettings
from trials import tried

METHODS = [
    name
    for name, row in CATALOGUE.items()
    if not {BLOCKS, BRANCH, FEATURE_MAP}.intersection(row.needs) and not row.wraps
]
PADDED = 6


@pytest.fixture(scope="module")
def bert():
    torch.manual_seed(0)
    settings = BertSettings(classes=3, vocabulary=50, width=24, layers=2, heads=3, hidden=48, positions=16)
    return BertClassifier(settings).double().eval().requires_grad_(False)


@pytest.fixture(scope="module")
def sentences():
    ids = torch.randint(1, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    ids[1, PADDED:] = 0
    return ids


@pytest.fixture(scope="module")
def vision():
    return relmap.Propagator(network("vit"))


@pytest.mark.parametrize("method", METHODS)
def test_pictures(method, vision):
    images, targets = inputs()
    images, targets = images[:2], targets[:, :2].T
    maps = relmap.explain(vision, images, targets, tried(method))
    assert maps.shape == (2, 2, 64, 64) and maps.isfinite().all() and maps.abs().sum() > 0
    alone = relmap.explain(vision, images[1:], targets[1:], tried(method))
    torch.testing.assert_close(maps[1:], alone, rtol=1e-5, atol=1e-8 * maps.abs().max().item())


# Patches and pixels are of pictures; controls know nothing of the network, so nothing of padding.
TEXTUAL = [
    name
    for name in METHODS
    if name != "abslrp_patches"
    and PIXELS not in CATALOGUE[name].needs
    and not CATALOGUE[name].maker.startswith("controls:")
]


@pytest.mark.parametrize("method", TEXTUAL)
def test_sentences(method, bert, sentences):
    maps = relmap.explain(bert, sentences, 1, method)
    assert maps.shape == sentences.shape and maps.isfinite().all() and maps.abs().sum() > 0
    assert (maps[1, PADDED:] == 0).all()  # nobody looks at padding
    shorter = relmap.explain(bert, sentences[1:2, :PADDED], 1, method)
    torch.testing.assert_close(maps[1:2, :PADDED], shorter, rtol=1e-5, atol=1e-8 * maps.abs().max().item())


def test_gradients_of_tokens_are_autograds(bert, sentences):
    layer = bert.bert.embeddings.word_embeddings
    kept = {}

    def keep(module, arguments, output):
        kept["e"] = output.detach().requires_grad_()
        return kept["e"]

    hook = layer.register_forward_hook(keep)
    bert(sentences)[:, 1].sum().backward()
    hook.remove()
    gradient = kept["e"].grad
    torch.testing.assert_close(relmap.explain(bert, sentences, 1, "saliency"), gradient.abs().amax(2))
    product = (kept["e"].detach() * gradient).sum(2)
    torch.testing.assert_close(relmap.explain(bert, sentences, 1, "input_x_gradient"), product)


def test_patches_are_for_images_cut_into_patches(bert, sentences):
    with pytest.raises(relmap.InputError, match="first layer cuts the image into patches"):
        relmap.explain(bert, sentences, 1, "abslrp_patches")


@pytest.mark.parametrize("method", ["attention_last_layer", "attention_rollout", "tibav"])
def test_maps_of_attention_are_of_patches(method, bert, sentences):
    with pytest.raises(relmap.InputError, match="shows an image's patches"):
        relmap.explain(bert, sentences, 1, method)


def test_methods_of_attention_say_what_they_need():
    for method in (name for name, row in CATALOGUE.items() if ATTENTION in row.needs):
        with pytest.raises(relmap.InputError):
            relmap.explain(network("vgg16"), inputs()[0][:1], 0, method)
