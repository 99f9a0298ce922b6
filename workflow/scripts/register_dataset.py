"""Write the card of a data set that is not rendered: where it is and where it came from."""

from pathlib import Path

from relmap.data.retrieve.archive import check_unpacked
from relmap.errors import InputError
from relmap.job.files import write_json
from relmap.job.logs import job

with job(snakemake.log[0]):
    dataset, source, root = snakemake.wildcards.dataset, snakemake.params.source, Path(snakemake.params.root)
    if not root.is_dir():
        raise InputError(
            f"datasets.{dataset}.source is `{source}`, but there is no folder {root}; put the data there, correct "
            f"`datasets.{dataset}.path` or `data_root`, or set the source to `retrieve` or `render`"
        )
    check_unpacked(root)
    write_json(snakemake.output.card, {"dataset": dataset, "source": source, "root": str(root)})
