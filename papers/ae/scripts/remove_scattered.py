"""Remove each method's most relevant pixels, or insert them before the blurred picture, and ask the network."""

import numpy as np
import pandas as pd
import relmap
import torch
from relmap.data.images import load_pixels
from relmap.errors import InputError
from relmap.evidence.evaluation import rows_of
from relmap.evidence.frames import write_computed
from relmap.evidence.statistics import bootstrap_mean
from relmap.inspection.comparison import rightly_classified, spread_over_classes
from relmap.job.files import atomic_path
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.subject import Subject

from papers.ae.rows import SCATTERED_METHODS
from papers.ae.scattered import classes_of, fragmentation, inserted, removed, top_pixels

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files, settings = snakemake.params, snakemake.input, snakemake.params.settings
    subject = Subject.open(files.manifest, files.weights[0], params.device, params.batch_size, snakemake.threads)
    manifest, view = subject.manifest, subject.preprocessing
    right = rightly_classified(read_parquet(files.targets[0]))
    pairs = spread_over_classes(right, settings["images"], params.seed)
    if pairs.empty:
        raise InputError(f"{files.targets[0]}: no picture is rightly classified; train the network longer")
    pixels = load_pixels(manifest, rows_of(manifest, pairs["image_id"].tolist()), view, snakemake.threads)
    images = view.normalise(pixels).to(subject.device)
    true = torch.from_numpy(pairs["target"].to_numpy(np.int64, copy=True))
    names = np.array(manifest.info.class_names)
    maps = relmap.compare(
        subject.model, images, true.to(subject.device), list(SCATTERED_METHODS), batch_size=params.batch_size
    )
    table, arrays, kept = [], {}, {}
    for method, found in maps.items():
        chosen = top_pixels(found, settings["share"], params.ties)
        altered = {
            "removed": removed(images, chosen),
            "inserted": inserted(images, chosen, params.blur["kernel"], params.blur["sigma"]),
        }
        row = {"method": method, "share": settings["share"], "border": fragmentation(chosen).mean().item()}
        for name, pictures in altered.items():
            says = classes_of(subject.model, pictures, params.batch_size)
            interval = bootstrap_mean((says == true).double().numpy(), seed=params.seed)
            row |= {f"{name}_accuracy": interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
            arrays[f"{name}/{method}"] = (
                (255 * view.denormalise(pictures)).round().byte().permute(0, 2, 3, 1).cpu().numpy()
            )
            arrays[f"says_{name}/{method}"] = names[says.numpy()]
            kept[name, method] = (says == true).numpy()
        arrays[f"maps/{method}"] = found.cpu().numpy().astype(np.float32)
        arrays[f"chosen/{method}"] = chosen.cpu().numpy()
        table.append({**row, "n_images": len(true)})
        log.info("%s", row)
    # The paper's example: AE's pixels may go, random ones not.
    telling = kept["removed", "attribution_equilibrium"].astype(int) - kept["removed", "random"]
    order = np.argsort(-telling, kind="stable")[:1]
    with atomic_path(snakemake.output.examples) as temporary:
        np.savez_compressed(
            temporary,
            image_id=pairs["image_id"].to_numpy(dtype=str)[order],
            picture=pixels.permute(0, 2, 3, 1).numpy()[order],
            true=names[true.numpy()[order]],
            **{name: values[order] for name, values in arrays.items()},
        )
    write_computed(
        pd.DataFrame(table), snakemake.output.table, "Accuracy without the most relevant pixels, and of these alone"
    )
