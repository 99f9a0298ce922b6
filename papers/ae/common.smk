"""
What AE's rules ask of the config. No rules here.
"""

from papers.ae.rows import GRID_METHODS, GRIDS

# The data set that grids are made of, whose classes the network on them tells apart, and the network of the examples.
GRID_BASE = "imagenet"
EXAMPLE_MODEL = "vgg16"
GRID_MODEL = "vgg16_sliding"
# Networks that must be sure of a grid's images, of those that the run has.
GRID_JUDGES = [model for model in config["ae"]["grids"]["models"] if model in MODELS]


def of_base(folder, suffix, models):
    """Files of some models on that data set."""
    return [f"<results>/{folder}/{GRID_BASE}/{model}.{suffix}" for model in models]


def grid_maps(suffix):
    """Files of the maps that Figure 9 compares."""
    return [f"<results>/maps/{GRIDS}/{GRID_MODEL}/{method}.{suffix}" for method in GRID_METHODS]


# Its examples look at that network of that data set.
if (GRID_BASE, EXAMPLE_MODEL) in PAIRS:
    COMPUTED_TABLES["ae"] = ["ae_watermark", "ae_edges", "ae_scattered"]
