"""Train and measure variants of CLAM, on birds that the tables do not show."""

import pandas as pd
from relmap.clam.ablation import hold, lift_of, measure_variant, pointing_of, untrained_chain, variant_rows
from relmap.clam.settings import ClamOptions
from relmap.clam.training import EXPLAINERS
from relmap.evaluation import rows_of
from relmap.explainers.lrp import lrp_propagator
from relmap.logs import job
from relmap.subject import Subject, training_rows, unseen_rows
from relmap.tables import write_frame

with job(snakemake.log[0], snakemake.threads) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    propagator = lrp_propagator(subject.model, subject.preprocessing, **params.explainers)
    training = list(subject.batches(training_rows(subject.manifest, params.images_per_class, params.seed)))
    evaluated = rows_of(subject.manifest, pd.read_parquet(files.predictions)["image_id"])
    held = hold(subject, unseen_rows(subject.manifest, evaluated, params.birds, params.seed))
    base = pointing_of(propagator, held, list(EXPLAINERS))
    chain = (propagator, training, params.layers, list(EXPLAINERS), subject.card.classes)
    rows = []
    for variant in [{"name": "default", "set": {}}, *params.variants]:
        options = ClamOptions.from_config({**params.settings, **variant["set"]})
        refined, lifts = measure_variant(*chain, options, params.seed, held)
        rows += variant_rows(variant["name"], variant["set"], base, refined, lifts, list(EXPLAINERS), params.seed)
        log.info("%s", rows[-len(EXPLAINERS) :])
    options = ClamOptions.from_config(params.settings)
    control = untrained_chain(*chain, options, params.seed)
    refined = pointing_of(propagator, held, list(EXPLAINERS), control, options)
    lifts = lift_of(propagator, held, list(EXPLAINERS), control)
    rows += variant_rows("untrained", {}, base, refined, lifts, list(EXPLAINERS), params.seed)
    caption = f"CLAM's open choices: {len(params.layers)} CLA-layers, {len(base[0])} birds outside the tables"
    write_frame(pd.DataFrame(rows), snakemake.output.csv, caption)
