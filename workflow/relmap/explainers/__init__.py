"""Explainers: what turns a model, images and targets into maps (N, H, W). Importing this package imports no torch."""
