"""
What AE's rules ask of the config. No rules here.
"""

# The data set that grids are made of, whose classes the network on them tells apart, and the network of the examples.
GRID_BASE = "imagenet"
EXAMPLE_MODEL = "vgg16"


def of_base(folder, suffix, models):
    """Files of some models on that data set."""
    return [f"<results>/{folder}/{GRID_BASE}/{model}.{suffix}" for model in models]
