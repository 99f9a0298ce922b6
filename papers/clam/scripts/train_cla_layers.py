"""Train the CLA-layers of one arm, from the output to the input; a job that was stopped goes on where it was."""

from dataclasses import asdict
from pathlib import Path

from relmap.job.logs import job
from relmap.job.subject import Subject, training_rows

from papers.clam.cla.chain import fingerprint, train_chain
from papers.clam.cla.plan import plan_layers
from papers.clam.cla.settings import ClamOptions
from papers.clam.cla.training import Source, refined_methods, training_seeds

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files = snakemake.params, snakemake.input
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    options = ClamOptions.from_config(params.settings)
    methods = refined_methods(subject.model)
    plan = plan_layers(methods["lrp"].walk, params.layers, subject.card.input_size, options)
    for settings in plan:
        log.info("%s", settings)
    rows = training_rows(subject.manifest, params.settings["train_images_per_class"], params.seed)
    source = Source(
        lambda what: subject.batches(rows, what=what), len(rows), subject.card.classes, Path(snakemake.resources.tmpdir)
    )
    seeds = training_seeds(params.seed, params.trainings)
    follows_from = {
        "options": asdict(options),
        "plan": [asdict(settings) for settings in plan],
        "rows": rows.tolist(),
        "seeds": seeds,
        "explainers": list(methods),
    }
    digest = fingerprint(follows_from, [files.manifest, files.weights])
    train_chain(snakemake.output.layers, digest, methods, source, plan, options, seeds, log.info)
