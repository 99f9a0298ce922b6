"""Retrieve a network of the Hugging Face Hub, verified: its weights, with what it sees of a picture beside them."""

import json

from relmap.job.logs import job
from relmap.models.hub import hub_network
from relmap.models.weights import save_seen

with job(snakemake.log[0]) as log:
    model, seen, origin, names = hub_network(snakemake.params.name, weights=snakemake.params.mirror)
    save_seen(snakemake.output.weights, model.state_dict(), seen, origin)
    log.info("%s: %d classes, sees %s", origin, len(names) or model.num_classes, json.dumps(seen.to_dict()))
