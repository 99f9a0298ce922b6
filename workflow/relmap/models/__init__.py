"""Classifiers: torchvision's topologies at any width, their files, and their training."""

from relmap.models.card import ModelCard, load_model, save_model
from relmap.models.zoo import build

__all__ = ["ModelCard", "build", "load_model", "save_model"]
