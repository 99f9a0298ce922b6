"""Networks that concatenate their branches: DenseNet (Huang et al. 2017) and Inception-V3 (Szegedy et al. 2016)."""

from __future__ import annotations

from torch import nn

from relmap.models.narrow import narrow
from relmap.torchvision_shim import torchvision


def densenet121(classes: int, width: float, input_size: int) -> nn.Module:
    """DenseNet-121; ``width`` scales its growth rate, and with it all that is concatenated."""
    model = torchvision.models.densenet121(num_classes=classes)
    model.last_feature_map = "features.norm5"  # before the final ReLU, where Attribution Equilibrium's authors start
    if width != 1:
        narrow(model, width, input_size, "classifier")
    return model


def inception_v3(classes: int, width: float, input_size: int) -> nn.Module:
    """Inception-V3 without its auxiliary classifier, which serves training alone.

    It takes pictures normalised by mean and deviation 0.5 (the row says so): torchvision's ``transform_input`` brings
    others to that in the network itself, and is left out.
    """
    model = torchvision.models.inception_v3(
        num_classes=classes, aux_logits=False, transform_input=False, init_weights=False
    )
    if width != 1:
        narrow(model, width, input_size, "fc")
    return model
