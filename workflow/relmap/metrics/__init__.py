"""Metrics: pure, batched functions from maps and annotations to one value (or curve) per image."""
