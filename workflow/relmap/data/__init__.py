"""Datasets: true on-disk formats, their manifests, image access, retrieval and rendering."""
