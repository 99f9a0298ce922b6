"""The embedded default data: rendered birds in CUB-200-2011's format and rendered scenes in ILSVRC's."""

from relmap.data.render.cub_writer import render_cub
from relmap.data.render.imagenet_writer import render_imagenet

__all__ = ["render_cub", "render_imagenet"]
