"""Train the fully connected part on pictures of which one class is marked, and see where relevance lies on the mark."""

import numpy as np
import pandas as pd
import relmap
import torch
from relmap.data.images import load_pixels
from relmap.errors import InputError
from relmap.evidence.evaluation import rows_of
from relmap.evidence.frames import write_computed
from relmap.inspection.comparison import rightly_classified, spread_over_classes
from relmap.job.files import atomic_path
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.seeds import derive
from relmap.job.subject import Subject, training_rows
from relmap.models.card import load_model
from relmap.models.inference import predict
from relmap.models.sources import normalisation_of
from relmap.models.training import InMemory, TrainingConfig, finetune

from papers.ae.rows import WATERMARK_METHODS
from papers.ae.shares import share_row
from papers.ae.watermark import places, stamped, strokes, training_labels

EXAMPLES = 4

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files, settings = snakemake.params, snakemake.input, snakemake.params.settings
    subject = Subject.open(files.manifest, files.weights[0], params.device, params.batch_size, snakemake.threads)
    manifest, view, label = subject.manifest, subject.preprocessing, settings["label"]
    names = manifest.info.class_names
    if label >= len(names):
        raise InputError(f"config: `ae.watermark.label` is {label}, but there are {len(names)} classes; choose another")
    side = view.crop
    mark = strokes(side, settings["width"])

    rows = training_rows(manifest, settings["train_per_class"], params.seed)
    labels = manifest.single_labels(rows)
    pixels = load_pixels(manifest, rows, view, snakemake.threads)
    chosen, said = training_labels(
        labels, label, settings["share"], settings["borrowed"], derive(params.seed, "marked")
    )
    where = places(int(chosen.sum()), side, tuple(mark.shape), derive(params.seed, "training marks"))
    pixels[chosen], _ = stamped(pixels[chosen], mark, where, settings["opacity"])
    recipe = {"epochs": settings["epochs"], "learning_rate": settings["learning_rate"], "batch_size": 64, "views": 1}
    marked_model, _ = load_model(files.weights[0], subject.device)
    finetune(
        marked_model,
        subject.card.architecture,
        len(names),
        InMemory(pixels, torch.from_numpy(said)),
        TrainingConfig.from_mapping({**recipe, "precision": params.precision}),
        normalisation_of(view),
        subject.card.input_size,
        seed=params.seed,
        name="watermark",
    )
    networks = {"marked": marked_model.requires_grad_(False), "original": subject.model}

    right = rightly_classified(read_parquet(files.targets[0]))
    pairs = spread_over_classes(right[right["target"] != label], settings["images"], params.seed)
    if pairs.empty:
        raise InputError(
            f"{files.targets[0]}: no test picture of another class than {names[label]} is rightly classified"
        )
    clean = load_pixels(manifest, rows_of(manifest, pairs["image_id"].tolist()), view, snakemake.threads)
    where = places(len(clean), side, tuple(mark.shape), derive(params.seed, "test marks"))
    pictures, regions = stamped(clean, mark, where, settings["opacity"])
    images = view.normalise(pictures).to(subject.device)
    true = torch.from_numpy(pairs["target"].to_numpy(np.int64, copy=True)).to(subject.device)
    classes = torch.stack([torch.full_like(true, label), true], 1)

    table, arrays, says = [], {}, {}
    for name, network in networks.items():
        says[name] = predict(network, images, params.batch_size).argmax(1)
        without = predict(network, view.normalise(clean).to(subject.device), params.batch_size).argmax(1)
        turned = {
            "turned": (says[name] == label).double().mean().item(),
            "turned_without_mark": (without == label).double().mean().item(),
            "right_without_mark": (without == true.cpu()).double().mean().item(),
        }
        log.info("%s: %s", name, turned)
        maps = relmap.compare(network, images, classes, list(WATERMARK_METHODS), batch_size=params.batch_size)
        for method, found in maps.items():
            for place, of in enumerate(("mark's class", "true class")):
                what = {"network": name, "explained": of, "method": method, **turned}
                table.append(share_row(what, found[:, place].cpu(), regions, params.seed))
            arrays[f"maps/{name}/{method}"] = found.cpu().numpy()
    # The paper's case first: pictures that the mark turns to its class.
    order = np.argsort(says["marked"].numpy() != label, kind="stable")[:EXAMPLES]
    of_examples = {key: value[order].astype(np.float32) for key, value in arrays.items()}
    with atomic_path(snakemake.output.examples) as temporary:
        np.savez_compressed(
            temporary,
            image_id=pairs["image_id"].to_numpy(dtype=str)[order],
            picture=pictures.permute(0, 2, 3, 1).numpy()[order],
            region=regions.numpy()[order],
            true=np.array(names)[pairs["target"].to_numpy()[order]],
            mark=np.array(names[label]),
            **{f"says/{name}": np.array(names)[found.numpy()[order]] for name, found in says.items()},
            **of_examples,
        )
    write_computed(pd.DataFrame(table), snakemake.output.table, "Positive relevance on a mark that goes with one class")
