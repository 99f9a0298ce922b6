"""Train and measure variants of CLAM, on birds that the tables do not show."""

import pandas as pd
from relmap.evidence.evaluation import rows_of
from relmap.evidence.tables import write_frame
from relmap.job.logs import job
from relmap.job.subject import Subject, training_rows, unseen_rows

from papers.clam.ablation import Chain, hold, lift_of, pointing_of, variant_rows
from papers.clam.cla.settings import ClamOptions
from papers.clam.cla.training import EXPLAINERS, lrp_walk

with job(snakemake.log[0], snakemake.threads) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest[0], files.weights[0], params.device, params.batch_size, snakemake.threads)
    propagator = lrp_walk(subject.model)
    training = list(subject.batches(training_rows(subject.manifest, params.images_per_class, params.seed)))
    evaluated = rows_of(subject.manifest, pd.read_parquet(files.targets)["image_id"])
    held = hold(subject, unseen_rows(subject.manifest, evaluated, params.birds, params.seed))
    explainers = list(EXPLAINERS)
    base = pointing_of(propagator, held, explainers)
    chain = Chain(propagator, training, params.layers, explainers, subject.card.classes, params.seed)
    rows = []
    default, control = {"name": "default", "set": {}}, {"name": "untrained", "set": {}}
    for variant in [default, *params.variants, control]:
        options = ClamOptions.from_config({**params.settings, **variant["set"]})
        layers = chain.untrained(options) if variant is control else chain.train(options)
        refined = pointing_of(propagator, held, explainers, layers, options)
        lifts = lift_of(propagator, held, explainers, layers)
        rows += variant_rows(variant["name"], variant["set"], base, refined, lifts, explainers, params.seed)
        log.info("%s", rows[-len(explainers) :])
    caption = f"CLAM's open choices: {len(params.layers)} CLA-layers, {len(base[0])} birds outside the tables"
    write_frame(pd.DataFrame(rows), snakemake.output.csv, caption)
