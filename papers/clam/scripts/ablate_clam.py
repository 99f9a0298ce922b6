"""Train and measure variants of CLAM, on birds that the tables do not show."""

import pandas as pd
from relmap.evidence.evaluation import rows_of
from relmap.evidence.frames import write_computed
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.subject import Subject, training_rows, unseen_rows

from papers.clam.ablation import Chain, check_variants, hold, lift_of, pointing_of, variant_rows
from papers.clam.cla.settings import ClamOptions, changed
from papers.clam.cla.training import Source, refined_methods

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest[0], files.weights[0], params.device, params.batch_size, snakemake.threads)
    methods = refined_methods(subject.model)
    chosen = training_rows(subject.manifest, params.images_per_class, params.seed)
    images = list(subject.batches(chosen))
    source = Source(lambda what: images, len(chosen), subject.card.classes)
    evaluated = rows_of(subject.manifest, read_parquet(files.targets)["image_id"])
    held = hold(subject, unseen_rows(subject.manifest, evaluated, params.birds, params.seed))
    base = pointing_of(methods, held)
    chain = Chain(methods, source, params.layers, subject.card.input_size, params.seed)
    rows = []
    changes = {"default": {}, **{variant["name"]: variant["set"] for variant in params.variants}}
    variants = {name: ClamOptions.from_config(changed(params.settings, values)) for name, values in changes.items()}
    check_variants(chain, variants)
    trained = {name: chain.train(options) for name, options in variants.items()}
    trained["untrained"] = chain.untrained(variants["default"])
    for name, layers in trained.items():
        refined = pointing_of(methods, held, layers, variants.get(name, variants["default"]))
        lifts = lift_of(methods["lrp"].propagator, held, list(methods), layers)
        rows += variant_rows(name, changes.get(name, {}), base, refined, lifts, list(methods), params.seed)
        log.info("%s", rows[-len(methods) :])
    caption = f"CLAM's open choices: {len(params.layers)} CLA-layers, {len(base[0])} birds outside the tables"
    write_computed(pd.DataFrame(rows), snakemake.output.table, caption)
