"""``relmap score``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from relmap.cli.progress import Progress
from relmap.cli.tables import aligned
from relmap.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

    from relmap.inspection.explanations import Explanation


@click.command()
@click.argument("maps", type=click.Path(path_type=Path))
@click.option(
    "--regions",
    type=click.Path(path_type=Path),
    metavar="CSV",
    help="Boxes or masks: image,x0,y0,x1,y1[,class] or image,mask[,class].",
)
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Of the network that was explained: insertion and deletion too.",
)
@click.option("--model", metavar="NAME", help="As of `relmap explain`; the one that was explained by default.")
@click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True)
@click.option("--batch-size", type=click.IntRange(min=1), default=32, show_default=True, help="Images at a time.")
@click.option(
    "--out", type=click.Path(path_type=Path), metavar="CSV", help="Write the scores of every map, a line each."
)
def score(
    maps: Path,
    regions: Path | None,
    weights: Path | None,
    model: str | None,
    device: str,
    batch_size: int,
    out: Path | None,
) -> None:
    """Score maps that `relmap explain --save` kept.

    With boxes or masks: the pointing game, and how much relevance lies in them. With the network: insertion and
    deletion, about 110 forward passes a map. What maps have that know nothing of the network stands below; a method
    should be better than these.

    \b
      relmap score maps.npz --regions boxes.csv
      relmap score maps.npz --weights resnet50.safetensors --out scores.csv
    """
    if regions is None and weights is None and model is None:
        raise click.UsageError("nothing to score by: give --regions CSV, --weights FILE, or both")
    from relmap.inspection.explanations import load

    explanation = load(maps)
    if not explanation.maps:
        raise InputError(f"{maps}: holds no maps: every method refused")
    parts = []
    if regions is not None:
        parts.append(_by_regions(explanation, regions))
    if weights is not None or model is not None:
        parts.append(_by_network(explanation, model, weights, device, batch_size))
    import pandas as pd

    scores = pd.concat(parts, ignore_index=True)
    click.echo(_table(scores), nl=False)
    if out is not None:
        from relmap.job.files import atomic_path
        from relmap.job.spreadsheet import without_formulas

        with atomic_path(out) as temporary:
            without_formulas(scores).to_csv(temporary, index=False)
        click.echo(f"scores: {out}")


def _by_regions(explanation: Explanation, path: Path) -> pd.DataFrame:
    from relmap.inspection.scores import read_regions, score_regions

    regions = read_regions(path, explanation)
    missing = int((~regions.known).sum())
    if regions.unknown:
        click.echo(
            f"{path}: {len(regions.unknown)} images are not in the explanation, such as {regions.unknown[0]}", err=True
        )
    if missing == regions.known.size:
        raise InputError(f"{path}: marks no object that the network saw, of a class that was explained")
    if missing:
        click.echo(
            f"{missing} of {regions.known.size} maps have no region that the network saw, and no score", err=True
        )
    return score_regions(explanation, regions)


def _by_network(
    explanation: Explanation, model: str | None, weights: Path | None, device: str, batch_size: int
) -> pd.DataFrame:
    from relmap.inspection.scores import score_network
    from relmap.job.device import choose_device
    from relmap.models.named import network_named

    network = network_named(model or explanation.model, weights).model.to(choose_device(device))
    with Progress("scoring", "methods") as progress:
        return score_network(explanation, network, batch_size, progress)


def _table(scores: pd.DataFrame) -> str:
    """A line a method, a column a metric: mean and 95 % interval over images."""
    from relmap.inspection.scores import LOWER_IS_BETTER, summary

    means = summary(scores)
    metrics = list(dict.fromkeys(means["metric"]))
    methods = list(dict.fromkeys(means["method"]))
    cells = {(row.method, row.metric): f"{row.mean:.3f} [{row.low:.3f}, {row.high:.3f}]" for row in means.itertuples()}
    heads = [f"{metric} (lower is better)" if metric in LOWER_IS_BETTER else metric for metric in metrics]
    lines = [("method", *heads)]
    lines += [(method, *(cells.get((method, metric), "") for metric in metrics)) for method in methods]
    images = int(means["images"].max())
    return f"{aligned(lines)}\nMeans and 95 % intervals over {images} image{'s' if images > 1 else ''}.\n"
