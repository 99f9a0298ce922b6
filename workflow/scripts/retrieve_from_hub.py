"""Retrieve a network of the Hugging Face Hub, verified: its weights, with what it sees of a picture beside them."""

import json
from pathlib import Path

from relmap.job.logs import job
from relmap.models.hub import hub_network
from relmap.models.weights import save_seen

with job(snakemake.log[0]) as log:
    name, mirror = snakemake.params.name, snakemake.params.mirror
    # As for other files, what a mirror lacks is retrieved; only what lies under the repository's own name is of it.
    own = Path(mirror or "", name.partition("@")[0])
    model, seen, origin, names = hub_network(name, weights=own if mirror and own.is_dir() else None)
    save_seen(snakemake.output.weights, model.state_dict(), seen, origin)
    log.info("%s: %d classes, sees %s", origin, len(names) or model.num_classes, json.dumps(seen.to_dict()))
