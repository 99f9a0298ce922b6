"""Score some methods' maps of a data set and network by one metric or several."""

import pandas as pd
from relmap.catalogue.methods import Method
from relmap.catalogue.metrics import score_of
from relmap.data.images import Preprocessing
from relmap.data.manifest import read_manifest
from relmap.evidence.evaluation import method_maps, write_parquet
from relmap.job.device import choose_device
from relmap.job.logs import job
from relmap.metrics.case import Case
from relmap.models.card import load_model, read_card
from tqdm import tqdm

with job(snakemake.log[0], snakemake.threads):
    params, files = snakemake.params, snakemake.input
    device = choose_device(params.device)
    weights = files.get("weights")
    model, card = load_model(weights, device) if weights else (None, read_card(files.card))
    methods = {row["id"]: Method.from_dict(row) for row in params.methods}
    given, files_left = {}, list(files.get("artifacts", []))
    for of_arm, count, settings in params.arms:
        own, files_left = files_left[:count], files_left[count:]
        given |= {method: {"artifacts": own, "settings": settings} for method in of_arm}
    case = Case(
        read_manifest(files.manifest),
        pd.read_parquet(files.targets),
        Preprocessing.from_dict(card.preprocessing),
        {key: value for metric in params.metrics for key, value in metric["settings"].items()},
        model,
        device,
        params.batch_size,
        snakemake.threads,
        params.seed,
        methods,
        given,
    )
    stores = dict(zip(methods, files.stores, strict=True))
    rows = [[] for _ in params.metrics]
    for method, maps in tqdm(method_maps(stores), total=len(stores), unit="method"):
        for found, metric in zip(rows, params.metrics, strict=True):
            if method in metric["methods"]:
                found += [score_of(metric["score"])(group, method, maps) for group in case.groups()]
    for found, path in zip(rows, snakemake.output.scores, strict=True):
        write_parquet(pd.concat(found, ignore_index=True), path)
