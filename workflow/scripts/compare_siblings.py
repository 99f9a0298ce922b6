"""Birds whose class hangs on one part, and what each method's map of the bird makes of its class and its sibling's."""

import torch
from relmap.evidence.evaluation import rows_of
from relmap.evidence.siblings import write_siblings
from relmap.explanation import compare
from relmap.inspection.comparison import admitted, surest
from relmap.inspection.siblings import clearest
from relmap.job.logs import job
from relmap.job.parquet import read_parquet
from relmap.job.subject import Subject
from relmap.propagation import Propagator

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params, files = snakemake.params, snakemake.input
    for manifest, weights, targets, path in zip(
        files.manifests, files.weights, files.targets, snakemake.output.siblings, strict=True
    ):
        subject = Subject.open(manifest, weights, params.device, params.batch_size, snakemake.threads)
        candidates = surest(read_parquet(targets), params.pictures)["image_id"].tolist()
        found = clearest(subject, rows_of(subject.manifest, candidates), params.images)
        propagator = Propagator(subject.model)
        given = {method: params.explainers.get(method, {}) for method in admitted(propagator.graph, params.methods)}
        pictures = torch.from_numpy(found.pictures).permute(0, 3, 1, 2)
        images = subject.preprocessing.normalise(pictures).to(subject.device)
        # A network that knows no bird has none to show.
        maps = dict.fromkeys(given, torch.empty(0, 2, *images.shape[2:]))
        if found.parts:
            maps = compare(propagator, images, torch.from_numpy(found.targets).to(subject.device), given)
        write_siblings(found, {method: one.float().cpu().numpy() for method, one in maps.items()}, path)
        log.info("%s: %d birds, %d methods", path, len(found.parts), len(maps))
