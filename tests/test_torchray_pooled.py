"""TorchRay's VGG-16 behind an adaptive pool: the same layers, another form."""

import torch
from relmap.models import build
from relmap.models.transfer import transferred


def test_the_pooled_form_is_the_fully_convolutional_one_at_its_own_size():
    lent = build("torchray_vgg16", 5, 0.125, 64, seed=3).eval()
    pooled = transferred(lent, "torchray_vgg16_pooled", 5, 0.125, 64, keep_last=True)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(pooled(images), lent(images)[:, :, 0, 0])


def test_the_pooled_form_gives_one_score_a_class_at_any_size():
    """An image of another size is its feature map, pooled to the window, through the same layers."""
    lent = build("torchray_vgg16", 5, 0.125, 64, seed=3).eval()
    pooled = transferred(lent, "torchray_vgg16_pooled", 5, 0.125, 64, keep_last=True)
    images = torch.randn(2, 3, 96, 128, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = lent.features(images)
        assert features.shape[2:] == (3, 4)
        rows = torch.stack([features[:, :, 0:2].mean(2), features[:, :, 1:3].mean(2)], 2)
        windows = torch.stack([rows[..., 0:2].mean(3), rows[..., 2:4].mean(3)], 3)
        assert torch.allclose(pooled(images), lent.classifier(windows).flatten(1), atol=1e-6)
