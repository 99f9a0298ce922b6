"""How time, memory, disk and files of a run grow with its images: 96 to 20,000 pictures of 16 x 16, a narrow network.

    python benchmarks/growth.py [--images 96,500,2000,8000,20000] [--into docs]

Each number of images is a process of its own. It reads a folder of pictures with boxes into a manifest, explains each
picture by six methods, and scores the maps by pointing, by the functions that the workflow's jobs call.
Written are ``growth.csv`` and ``images/growth.png``. The exponent b of cost ~ n^b is that of the last three numbers of
images, by least squares; 1 is linear. Memory is the peak of the process after the stage, with what Python and torch
take anyway.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from PIL import Image
from relmap.catalogue.methods import CATALOGUE
from relmap.catalogue.metrics import METRICS, metric_settings, score_of
from relmap.data.formats.annotated_folder import read_with_boxes
from relmap.data.images import Preprocessing, sizes_seen
from relmap.data.manifest import read_manifest, write_manifest
from relmap.evidence.evaluation import open_stores, rows_of, target_frame
from relmap.evidence.maps import writing_maps
from relmap.figures.style import PAGE_WIDTH, as_picture, relmap_style
from relmap.inspection.attribution import blocks_of, explain_pairs
from relmap.job.config import load
from relmap.job.subject import Subject
from relmap.metrics.case import Case
from relmap.metrics.scoring import Asked, score_all
from torch import nn

METHODS = ("saliency", "input_x_gradient", "guided_backprop", "grad_cam", "lrp_epsilon", "lrp_alpha1_beta0")
SCORED = "pointing"
SIDE, CLASSES = 16, 4
STAGES = ("manifest", "explain", "score")


def pictures(root: Path, count: int) -> None:
    """A folder a class, and a box for each picture."""
    rng, lines = np.random.default_rng(0), ["image,x0,y0,x1,y1"]
    for place in range(count):
        folder = root / f"c{place % CLASSES}"
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)).save(folder / f"p{place:06}.png")
        lines.append(f"c{place % CLASSES}/p{place:06}.png,2,2,12,12")
    (root / "boxes.csv").write_text("\n".join(lines) + "\n")


def measure(count: int) -> dict[str, float]:
    """Seconds, megabytes and files of one number of images."""
    found: dict[str, float] = {"images": count}
    torch.set_num_threads(1)
    torch.manual_seed(0)
    body = [nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(8, 16, 3, padding=1), nn.ReLU()]
    model = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, CLASSES)).eval()
    view = Preprocessing(SIDE, SIDE)

    def done(stage: str, begin: float) -> None:
        found[f"{stage}_seconds"] = time.perf_counter() - begin
        found[f"{stage}_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        pictures(folder / "data", count)
        begin = time.perf_counter()
        read = read_with_boxes(folder / "data", dataset="growth", require_training=False)
        write_manifest(read.frame, folder / "growth.parquet", read.info, read.states)
        manifest = read_manifest(folder / "growth.parquet")
        done("manifest", begin)

        begin = time.perf_counter()
        subject = Subject(manifest, model, None, view, torch.device("cpu"), 64, 1)
        rows = manifest.rows("test")
        frame = target_frame(manifest, rows, np.full((len(rows), CLASSES), 1 / CLASSES))
        ids, targets = frame["image_id"].tolist(), frame["target"].to_numpy(copy=True)
        places, stores = rows_of(manifest, ids), {m: folder / "maps" / f"{m}.zarr" for m in METHODS}
        sizes = sizes_seen(manifest, places, view)
        with ExitStack() as stack:
            keep = {}
            for method, store in stores.items():
                writing = writing_maps(store, (SIDE, SIDE), ids, targets, {"method": method}, sizes=sizes)
                keep[method] = stack.enter_context(writing).append
            blocks = blocks_of(ids, len(METHODS), (SIDE, SIDE), 64)
            given = {CATALOGUE[method]: {} for method in METHODS}
            explain_pairs(subject, ids, places, targets, (SIDE, SIDE), blocks, given, keep)
        done("explain", begin)

        files = [path for path in (folder / "maps").rglob("*") if path.is_file()]
        found["disk_mb"], found["files"] = sum(path.stat().st_size for path in files) / 2**20, len(files)

        begin = time.perf_counter()
        evaluation = load({})["evaluation"]
        settings = metric_settings(METRICS[SCORED], evaluation)
        case = Case(manifest, frame, view, settings)
        asked = [Asked(score_of(METRICS[SCORED].score), METHODS)]
        score_all(case, open_stores(stores, frame), asked)
        done("score", begin)
    return found


def exponents(table: pd.DataFrame) -> dict[str, float]:
    """Of each cost, by least squares over the last three numbers of images."""
    end = np.log(table.iloc[-3:])
    return {name: float(np.polyfit(end["images"], end[name], 1)[0]) for name in table.columns.drop("images")}


def drawn(table: pd.DataFrame) -> Figure:
    """Three panels: time, memory, disk and files."""
    slopes = exponents(table)
    panels = {
        "Seconds": [f"{stage}_seconds" for stage in STAGES],
        "Peak memory (MB)": [f"{stage}_mb" for stage in STAGES],
        "Maps of six methods": ["disk_mb", "files"],
    }
    with relmap_style():
        figure = Figure(figsize=(PAGE_WIDTH, 2.5), layout="constrained")
        for axes, (title, columns) in zip(figure.subplots(1, 3), panels.items(), strict=True):
            for column, marker in zip(columns, "os^", strict=False):
                name = column.removesuffix("_seconds").removesuffix("_mb")
                text = {"disk": "disk (MB)"}.get(name, name)
                axes.plot(
                    table["images"], table[column], marker=marker, markersize=3, label=f"{text}: {slopes[column]:.2f}"
                )
            axes.set(xscale="log", yscale="log", xlabel="Images", title=title)
            axes.legend(title="exponent, last three", title_fontsize=6)
    return figure


def main() -> None:
    """Measure, write, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", default="96,500,2000,8000,20000")
    parser.add_argument("--into", type=Path, default=Path("docs"))
    parser.add_argument("--one", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(measure(given.one)))
        return
    rows = []
    for count in given.images.split(","):
        run = subprocess.run([sys.executable, __file__, "--one", count], capture_output=True, text=True, check=True)
        rows.append(json.loads(run.stdout.splitlines()[-1]))
        print({name: round(value, 2) for name, value in rows[-1].items()}, flush=True)
    table = pd.DataFrame(rows)
    table.round(3).to_csv(given.into / "growth.csv", index=False)
    as_picture(drawn(table)).save(given.into / "images" / "growth.png")
    print({name: round(value, 2) for name, value in exponents(table).items()})


if __name__ == "__main__":
    main()
