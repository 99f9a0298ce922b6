"""Global Attribution Evaluation and ROAD by other seeds, and by other numbers of steps."""

from relmap.evidence.frames import write_computed
from relmap.inspection.comparison import spread_over_classes
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.subject import Subject
from relmap.metrics.case import Case

from papers.abslrp.variation import SEED, STEPS, gae_settings, road_settings, scored, summary, variation

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files, settings = snakemake.params, snakemake.input, snakemake.params.settings
    metrics = {"ties": params.evaluation["ties"]} | {name: dict(params.evaluation[name]) for name in ("gae", "road")}
    metrics["gae"]["mosaics"], metrics["road"]["images"] = None, settings["road_images"]
    subject = Subject.open(files.manifest, files.weights, params.device, params.batch_size, snakemake.threads)
    case = Case(
        subject.manifest,
        spread_over_classes(read_parquet(files.targets), settings["images"], params.seed),
        subject.preprocessing,
        metrics,
        subject.model,
        subject.device,
        params.batch_size,
        snakemake.threads,
    )
    own_steps = metrics["gae"]["steps"]
    tried = gae_settings(params.seed, settings["seeds"], settings["steps"], own_steps)
    tried += road_settings(params.seed, settings["seeds"])
    own = {SEED: params.seed, STEPS: own_steps}
    values = scored(case, params.methods, tried)
    bootstrap = {name: params.evaluation[name] for name in ("confidence", "resamples")}
    table = variation(values, own, seed=params.seed, **bootstrap)
    write_computed(table, snakemake.output.table, "GAE and ROAD by other seeds and other numbers of steps")
    write_computed(summary(table, own), snakemake.output.summary, "How far chance and steps move GAE and ROAD")
    log.info("%d images, %d settings", case.pairs["image_id"].nunique(), len(tried))
