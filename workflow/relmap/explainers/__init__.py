"""Explainers: what turns a model, images and targets into maps (N, H, W)."""

from relmap.explainers.baselines import BASELINES, Baselines, explain_baselines

__all__ = ["BASELINES", "Baselines", "explain_baselines"]
