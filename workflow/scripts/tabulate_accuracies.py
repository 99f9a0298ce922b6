"""Accuracies of the classifiers by split, and of the images evaluated; mean average precision of several labels."""

from pathlib import Path

import pandas as pd
from relmap.evidence.layout import write_frame
from relmap.job.files import read_json
from relmap.job.logs import job
from relmap.job.parquet import read_parquet

with job(snakemake.log[0]):
    rows, name = [], "mean_average_precision"
    for path, targets in zip(snakemake.input.cards, snakemake.input.targets, strict=True):
        card, seen = read_json(path), read_parquet(targets).drop_duplicates("image_id")
        rows.append(
            {
                "dataset": card["dataset"],
                "model": Path(path).stem,
                "classes": card["classes"],
                "width": card["width"],
                "input_size": card["input_size"],
                **{f"accuracy_{split}": card["accuracies"].get(split) for split in ("train", "test")},
                **{f"{name}_{split}": card["accuracies"].get(f"{name}_{split}") for split in ("train", "test")},
                "accuracy_evaluated": seen["correct"].mean(),
                "images_evaluated": len(seen),
                "weights": card["origin"],
            }
        )
    write_frame(pd.DataFrame(rows), snakemake.output.csv, "Accuracies of the classifiers")
