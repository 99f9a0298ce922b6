"""Plots: pure functions from arrays and frames to matplotlib figures. Nothing here imports torch."""
