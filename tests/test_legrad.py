"""LeGrad: each layer's attention by autograd, one image at a time; on timm's and torchvision's transformers."""

import pytest
import relmap
import torch
from oracles.tibav import Trace
from reference_nets import inputs, network
from relmap.errors import InputError
from relmap.explainers.legrad import LeGrad
from relmap.models.timm import as_torchvision
from relmap.propagation import Propagator
from relmap.torchvision_shim import torchvision
from torch import Tensor


def legrad(model, image: Tensor, target: int, start_layer: int = 0) -> Tensor:
    """The map of the patches (8, 8) of torchvision's vision transformer."""
    trace, total, layers = Trace.__new__(Trace), 0.0, list(model.encoder.layers)
    x = torch.cat([model.class_token, model._process_input(image[None])], 1) + model.encoder.pos_embedding
    x, trace.blocks = x[0], []
    for layer in layers:
        x = trace.block(layer, x)
    for layer in range(start_layer, len(layers)):
        met = trace.blocks[layer]
        formed = met["middle"] + met["branch_2"]  # what the block gives
        score = model.heads.head(model.encoder.ln(formed.mean(0)))[target]
        (gradient,) = torch.autograd.grad(score, [met["weights"]], retain_graph=True)
        heads, tokens = gradient.shape[:2]
        for head in range(heads):
            for row in range(tokens):
                total = total + gradient[head, row].clamp(min=0) / (heads * tokens)
    return (total / (len(layers) - start_layer))[1:].view(8, 8)


@pytest.mark.parametrize("start_layer", [0, 2])
def test_layer_by_layer(start_layer):
    model, (images, targets) = network("vit"), inputs()
    explainer = LeGrad(Propagator(model), start_layer=start_layer)
    activations = explainer.propagator.forward(images[:2], explainer.walks, explainer.keep)
    found = explainer.read(activations, targets[:, :2])
    for i in range(2):
        for k in range(2):
            expected = legrad(model, images[i], int(targets[k, i]), start_layer)
            torch.testing.assert_close(found[k, i], expected, rtol=1e-9, atol=1e-14)
    assert found.min() >= 0 and found.amax((2, 3)).min() > 0


def test_neither_batch_size_nor_order_counts():
    images, targets = inputs()
    propagator = Propagator(network("vit"))
    whole = relmap.explain(propagator, images, targets.T, "legrad")
    turned = relmap.explain(propagator, images.flip(0), targets.T.flip(0), "legrad", batch_size=3).flip(0)
    torch.testing.assert_close(turned, whole, rtol=1e-9, atol=1e-14)


def test_timm_s_transformer_has_torchvision_s_maps_and_may_have_no_class_token():
    import timm

    options = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 5}
    torch.manual_seed(0)
    theirs = timm.create_model("vit_base_patch16_224", **options).double().eval()
    for value in theirs.parameters():
        value.data += 0.1 * torch.randn_like(value)
    sizes = {"image_size": 32, "patch_size": 8, "num_layers": 2, "num_heads": 3, "hidden_dim": 48, "mlp_dim": 192}
    ours = torchvision.models.VisionTransformer(**sizes, num_classes=5).double().eval()
    ours.load_state_dict(as_torchvision(theirs.state_dict()))
    images = torch.randn(2, 3, 32, 32, dtype=torch.float64)
    maps = [relmap.explain(model, images, [1, 3], "legrad") for model in (theirs, ours)]
    torch.testing.assert_close(*maps, rtol=1e-7, atol=1e-12)
    pooled = timm.create_model("vit_base_patch16_224", global_pool="avg", class_token=False, **options).double().eval()
    assert relmap.explain(pooled, images, [1, 3], "legrad").flatten(1).amax(1).min() > 0


def test_networks_without_attention_are_refused():
    with pytest.raises(InputError, match="self-attention"):
        relmap.explain(network("vgg16"), inputs()[0][:1], 0, "legrad")
    with pytest.raises(InputError, match="start_layer is 4"):
        LeGrad(Propagator(network("vit")), start_layer=4)
