"""What a run found, kept beside the code: its claims and tables, with what makes them again. No torch.

``python -m relmap.evidence.keep results/<run>`` writes ``docs/evidence/<run>``, whole or not at all. Nothing there is
written by hand: its config is what the run's differs in from the default one, so that the command in its README makes
the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from relmap.errors import InputError
from relmap.evidence.status import REPOSITORY, as_text, papers_of, run_config, status_of
from relmap.job.config import defaults, dump
from relmap.job.files import atomic_path, read_json, sha256_file
from relmap.job.spreadsheet import without_formulas

KEPT = REPOSITORY / "docs" / "evidence"
SUMS = "SHA256SUMS"
STATUS = "status.csv"


def differences(config: Mapping[str, Any], base: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a config that differ from another's, section by section; lists are compared whole."""
    found = {}
    for key, value in config.items():
        if isinstance(value, Mapping) and isinstance(base.get(key), Mapping):
            if inner := differences(value, base[key]):
                found[key] = inner
        elif key not in base or value != base[key]:
            found[key] = value
    return found


def keep(results: str | os.PathLike, kept: str | os.PathLike = KEPT) -> Path:
    """Write the folder of a finished run.

    Args:
        results: the run's folder.
        kept: where its own is written, by the run's name.

    Returns:
        The folder.

    Raises:
        InputError: the run is not finished, or was made by files that no commit has.
    """
    results = Path(results)
    for name in ("config.yaml", "provenance.json", "index.html"):
        if not (results / name).is_file():
            raise InputError(f"{results / name}: no such file; finish the run before it is kept")
    provenance, config = read_json(results / "provenance.json"), run_config(results)
    source = provenance["source"]
    if not source.get("commit") or source["modified"]:
        raise InputError(f"{results}: made by files that no commit has; commit them and run again")
    papers = papers_of(config)
    folder = Path(kept) / config["run"]
    with atomic_path(folder) as temporary:
        tables = Path(temporary) / "tables"
        tables.mkdir(parents=True)
        names = [
            path.name
            for paper in papers
            for path in sorted((results / "tables").glob(f"{paper.id}_*"))
            if path.suffix in (".csv", ".md")
        ]
        for name in names:
            shutil.copyfile(results / "tables" / name, tables / name)
        (Path(temporary) / "config.yaml").write_text(dump(differences(config, defaults())))
        shutil.copyfile(results / "provenance.json", Path(temporary) / "provenance.json")
        statuses = status_of(results, config, papers)
        text = as_text(statuses)
        of_run = {paper.id for paper in papers}
        counts = pd.DataFrame(vars(status) for status in statuses if status.id in of_run).drop(columns="lacking")
        without_formulas(counts).to_csv(Path(temporary) / STATUS, index=False)
        (Path(temporary) / "README.md").write_text(_readme(config["run"], provenance, text, names))
        files = sorted(path for path in Path(temporary).rglob("*") if path.is_file())
        lines = [f"{sha256_file(path)}  {path.relative_to(temporary)}\n" for path in files]
        (Path(temporary) / SUMS).write_text("".join(lines))
    return folder


def _readme(run: str, provenance: Mapping[str, Any], status: str, names: Sequence[str]) -> str:
    rules = provenance["rules"]
    hours = sum(rule["seconds"] for rule in rules.values()) / 3600
    jobs = sum(rule["jobs"] for rule in rules.values())
    machine = provenance["machine"]
    where = ", ".join([f"{machine['cores']} cores", *machine["gpus"]])
    tables = "".join(f"- [{name}](tables/{name})\n" for name in names if name.endswith(".md"))
    versions = json.dumps(provenance["versions"], sort_keys=True)
    return f"""# The run `{run}`

Written by `python -m relmap.evidence.keep results/{run}`; `{SUMS}` has the hash of every file. Commit
`{provenance["source"]["commit"]}`, {jobs} jobs of {hours:.1f} hours in all, on {where}, with {versions}. The same run:

```bash
git checkout {provenance["source"]["commit"]}
.venv/bin/snakemake --cores all --configfile docs/evidence/{run}/config.yaml
```

({provenance["source"]["commit"][:10]} has no such file yet; copy it from here.)

```text
{status}```

{tables}"""


def main(arguments: Sequence[str] | None = None) -> None:
    """Keep a finished run's claims and tables in docs/evidence."""
    parser = argparse.ArgumentParser(prog="python -m relmap.evidence.keep", description=main.__doc__)
    parser.add_argument("results", type=Path, help="the run's folder")
    sys.path.append(str(REPOSITORY))  # files of papers import one another, as in the workflow's jobs
    try:
        folder = keep(parser.parse_args(arguments).results)
    except InputError as error:
        sys.exit(f"error: {error}")
    print(folder.relative_to(REPOSITORY))


if __name__ == "__main__":
    main()
