"""What the toy paper brings of its own: a data set, a network, a method and a metric, each in a file beside this one.

Snakemake reads this file at every start, so that it imports no torch; the makers are named by file and name.
"""

from relmap.catalogue.datasets import DataSet
from relmap.catalogue.methods import Method
from relmap.catalogue.metrics import BOXES, Column, Metric
from relmap.catalogue.models import Model

DATASETS = [
    DataSet("toy", "Toy shapes", "made up", "shapes.py:read_shapes", "shapes.py:render_shapes", has=(BOXES,)),
]

MODELS = [
    Model("toy_net", "Toy network", "made up", "network.py:three_layers", head="classifier", last="classifier"),
]

METHODS = [
    Method("toy_occlusion", "Occlusion", "Zeiler and Fergus 2014", "occlusion.py:Occlusion", {"patch": 8}),
]

METRICS = [
    Metric(
        "toy_inside",
        "Relevance in the box",
        "inside.py:score",
        (Column("toy_inside_share", "Share of positive relevance in the box", "made up", "toy_inside", head="inside"),),
        needs=(BOXES,),
    ),
]
