"""
What C3-LRP's rules ask of the config. No rules here.
"""

# Where its tables are: the networks of its model that the run has, and the metric of both rules of ties.
C3_DATASET, C3_MODEL, C3_METRIC = "cub200_2011", "c3_resnet50", "deletion_insertion_black"
C3_NETWORKS = [model for model in ROWS.trainings(C3_MODEL) if (C3_DATASET, model) in PAIRS]
# What is compared with Gradient x Input, and whose masks are counted: as it is before the contour step.
C3_PROPAGATIONS = ["c3_lrp", "c3_lrp_released", "input_x_gradient"]
# Methods of which `ties` says how many pixels are tied: all that have maps on these networks.
C3_METHODS = list(PLAN.methods.get((C3_DATASET, C3_NETWORKS[0]), ())) if C3_NETWORKS else []


def c3_files(pattern, methods=("",)):
    """Files of each network, and of each of some methods' maps."""
    return [
        pattern.format(dataset=C3_DATASET, model=model, method=method) for model in C3_NETWORKS for method in methods
    ]


if C3_NETWORKS:
    EXTRA_TABLES["c3lrp"] = [
        path for name in ("ties", "contour", "telescoping") for path in formats(f"c3lrp_{name}", "csv", "md")
    ]
    COMPUTED_TABLES["c3lrp"] = ["c3lrp_price"]
