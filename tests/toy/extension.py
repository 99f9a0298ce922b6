"""A method of one's own beside a paper's: its row, and where the run should make and score it."""

from relmap.catalogue.methods import Method

METHODS = [Method("occlusion", "Occlusion", "Zeiler and Fergus 2014", "occlusion.py:Occlusion", {"patch": 16})]


def wanted(config):
    return [(dataset, "vgg16", "occlusion") for dataset in ("cub200_2011", "imagenet")]
