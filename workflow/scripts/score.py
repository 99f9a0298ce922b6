"""Score some methods' maps of a data set and network by one metric or several."""

from relmap.catalogue.methods import Method
from relmap.catalogue.metrics import score_of
from relmap.data.images import Preprocessing
from relmap.data.manifest import read_manifest
from relmap.evidence.evaluation import open_stores, write_parquet
from relmap.job.device import choose_device
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.share import Share
from relmap.metrics.case import Case
from relmap.metrics.scoring import Asked, score_all
from relmap.models.card import load_model, read_card

with job(snakemake.log[0], snakemake.threads, snakemake.resources.get("gpu", 0)):
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
        read_parquet(files.targets),
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
    stores = open_stores(dict(zip(methods, files.stores, strict=True)), case.pairs)
    share = Share.parse(params.share)
    asked = [Asked(score_of(row["score"]), row["methods"], row["together"]) for row in params.metrics]
    for rows, path in zip(score_all(case, stores, asked, share=share), snakemake.output.scores, strict=True):
        write_parquet(rows, path)
