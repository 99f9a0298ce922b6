"""Choose the images to evaluate, and write their targets and what the network says of them."""

from relmap.data.images import Preprocessing
from relmap.data.manifest import read_manifest
from relmap.evidence.evaluation import evaluation_rows, target_frame, write_parquet
from relmap.job.device import choose_device
from relmap.job.logs import job
from relmap.models.card import load_model
from relmap.models.sources import class_probabilities

with job(snakemake.log[0], snakemake.threads, snakemake.resources.gpu) as log:
    params = snakemake.params
    manifest = read_manifest(snakemake.input.manifest)
    model, card = load_model(snakemake.input.weights, choose_device(params.device))
    rows = evaluation_rows(manifest, params.max_images, params.seed)
    preprocessing = Preprocessing.from_dict(card.preprocessing)
    probabilities = class_probabilities(
        model, manifest, rows, preprocessing, params.batch_size, snakemake.threads, multi_label=card.multi_label
    )
    frame = target_frame(manifest, rows, probabilities.numpy(), params.target, card.multi_label)
    of_images = frame.drop_duplicates("image_id")["correct"]
    log.info("%d pairs of %d images, %.3f of which are correct", len(frame), len(of_images), of_images.mean())
    write_parquet(frame, snakemake.output.targets)
