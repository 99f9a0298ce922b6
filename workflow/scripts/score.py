"""Score some methods' maps of a data set and network by one metric."""

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
    model, card = load_model(files.weights[0], device) if files.weights else (None, read_card(files.card))
    case = Case(
        read_manifest(files.manifest),
        pd.read_parquet(files.targets),
        Preprocessing.from_dict(card.preprocessing),
        params.settings,
        model,
        device,
        params.batch_size,
        snakemake.threads,
        params.seed,
        {row["id"]: Method.from_dict(row) for row in params.rows},
    )
    score, stores = score_of(params.score), dict(zip(params.methods, files.stores, strict=True))
    found = tqdm(method_maps(stores), total=len(stores), unit="method")
    parts = [score(group, method, maps) for method, maps in found for group in case.groups()]
    write_parquet(pd.concat(parts, ignore_index=True), snakemake.output.scores)
