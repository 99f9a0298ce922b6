"""The embedded default data: rendered pictures in the formats of the true data sets, a writer each."""

from relmap.data.render.coco_writer import render_coco2014
from relmap.data.render.cub_writer import render_cub
from relmap.data.render.imagenet_segmentation_writer import render_imagenet_segmentation
from relmap.data.render.imagenet_writer import render_imagenet
from relmap.data.render.voc_writer import render_voc2007, render_voc2012

__all__ = [
    "render_coco2014",
    "render_cub",
    "render_imagenet",
    "render_imagenet_segmentation",
    "render_voc2007",
    "render_voc2012",
]
