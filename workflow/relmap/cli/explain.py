"""``relmap explain``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from relmap.cli.progress import Progress
from relmap.cli.tables import aligned
from relmap.errors import InputError

if TYPE_CHECKING:
    from relmap.catalogue.methods import Method
    from relmap.data.images import Preprocessing
    from relmap.inspection.explanations import Explanation

_NETWORK = (
    click.option(
        "--model",
        default="resnet50",
        show_default=True,
        metavar="NAME",
        help="resnet50 and the like, timm:NAME, hf:ORG/NAME, package.module:factory, file.py:factory.",
    ),
    click.option(
        "--weights",
        type=click.Path(path_type=Path),
        metavar="FILE",
        help="Safetensors, or a state dict of torch; else torchvision's, timm's or the Hub's own are fetched.",
    ),
    click.option("--device", type=click.Choice(["auto", "cpu", "cuda"]), default="auto", show_default=True),
)


def network_options(command: Any) -> Any:
    """The options that name a network."""
    for option in reversed(_NETWORK):
        command = option(command)
    return command


@click.command()
@click.argument("photos", nargs=-1, required=True, type=click.Path(path_type=Path))
@network_options
@click.option("--methods", metavar="A,B,C", help="Ids of `relmap methods`; eight that suit the network by default.")
@click.option(
    "--class",
    "targets",
    multiple=True,
    metavar="NAME|N",
    help="Class to explain, else the predicted one; may be repeated.",
)
@click.option("--classes", type=click.Path(path_type=Path), metavar="FILE", help="Names of the classes, a line each.")
@click.option("--out", type=click.Path(path_type=Path), default="sheet.png", show_default=True, metavar="FILE")
@click.option("--save", type=click.Path(path_type=Path), metavar="FILE", help="Keep the maps: maps.npz or maps.zarr.")
@click.option(
    "--extension",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Python file with rows of methods.",
)
@click.option("--size", type=click.IntRange(min=1), metavar="PX", help="Side of what the network sees.")
@click.option("--resize", type=click.IntRange(min=1), metavar="PX", help="Shorter side before the centre is cut out.")
@click.option(
    "--whole", is_flag=True, help="Squash the whole photograph to a square instead of cutting the centre out."
)
@click.option("--mean", metavar="R,G,B", help="Of the network's training, in units of [0, 1]; ImageNet's by default.")
@click.option("--std", metavar="R,G,B", help="Likewise.")
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=4,
    show_default=True,
    help="Images at a time: memory, not results.",
)
@click.pass_context
def explain(
    ctx: click.Context,
    /,
    photos: Sequence[Path],
    model: str,
    weights: Path | None,
    device: str,
    methods: str | None,
    targets: Sequence[str],
    classes: Path | None,
    out: Path,
    save: Path | None,
    extension: Sequence[Path],
    batch_size: int,
    **seen: Any,
) -> None:
    """Explain photographs by several methods, side by side on one sheet.

    PHOTOS are files and folders.

    \b
    Eight methods, torchvision's ResNet-50 fetched from the internet:
      relmap explain photo.jpg
    Weights from a file, some methods, another class than the predicted one:
      relmap explain photo.jpg --weights resnet50.safetensors --methods abslrp,grad_cam --class tench
    A folder; keep the maps for Python (relmap.load) and for `relmap score`:
      relmap explain photos/ --weights resnet50.safetensors --save maps.npz
    A network and a method of your own:
      relmap explain photo.jpg --model net.py:make --size 96 --extension mine/rows.py --methods mine,abslrp
    """
    _check_names(out, save)
    from relmap.inspection.explaining import explanation_of

    rows = _methods(methods, extension)
    with Progress("explaining", "batches") as progress:
        explanation = explanation_of(
            model,
            photos,
            list(targets) or None,
            rows,
            weights=weights,
            class_names=classes,
            preprocessing=_preprocessing(**seen),
            device=device,
            batch_size=batch_size,
            progress=progress,
            strict=ctx.obj["debug"],
        )
    _tell(explanation)
    if save is not None:
        explanation.save(save)
        click.echo(f"maps: {save}")
    for path in write_sheets(explanation, out):
        click.echo(f"sheet: {path}")
    if not explanation.maps:
        raise InputError("every method refused; the lines above say why")


def _check_names(out: Path, save: Path | None) -> None:
    """Before anything is computed.

    Raises:
        InputError: a file could not be written under this name.
    """
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg", ".pdf"):
        raise InputError(f"{out}: a sheet is a .png, .jpg or .pdf; correct --out")
    if save is not None and save.suffix not in (".npz", ".zarr"):
        raise InputError(f"{save}: maps are kept as .npz or .zarr; correct --save")
    for path in (out, save):
        if path is not None and not path.parent.exists():
            raise InputError(f"{path.parent}: no such folder; make it first")


def _methods(names: str | None, extensions: Sequence[Path]) -> list[Method] | None:
    from relmap.catalogue.rows import load_rows
    from relmap.errors import suggestion

    known = load_rows(extensions).methods
    if names is None:
        return None
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in known:
            raise InputError(f"method {name!r} is unknown{suggestion(name, known)}; `relmap methods` lists them")
    return [known[name] for name in dict.fromkeys(chosen)]


def _preprocessing(
    size: int | None,
    resize: int | None,
    whole: bool,
    mean: str | None,
    std: str | None,
) -> Callable[[Preprocessing], Preprocessing] | None:
    """A change of what the network's own weights take; None for none."""
    if not (size or resize or whole or mean or std):
        return None
    colours: dict[str, Any] = {name: _three(name, text) for name, text in (("mean", mean), ("std", std)) if text}

    def changed(seen: Preprocessing) -> Preprocessing:
        crop = size or seen.crop
        wanted = resize or (seen.resize if size is None else round(crop * seen.resize / seen.crop))
        return replace(
            seen, resize=crop if whole else wanted, crop=crop, fit="squash" if whole else seen.fit, **colours
        )

    return changed


def _three(name: str, text: str) -> tuple[float, ...]:
    try:
        values = tuple(float(part) for part in text.split(","))
    except ValueError:
        values = ()
    if len(values) != 3:
        raise click.BadParameter(f"{text!r} is not three numbers such as 0.485,0.456,0.406", param_hint=f"--{name}")
    return values


def _tell(explanation: Explanation) -> None:
    """What is predicted, and a line a method."""
    from relmap.figures.contact import shown_leak, shown_share

    for image, name in enumerate(explanation.images):
        sure = zip(explanation.predicted[image, :3], explanation.probabilities[image, :3], strict=True)
        predicted = ", ".join(f"{explanation.class_name(int(number))} {shown_share(share)}" for number, share in sure)
        explained = ", ".join(explanation.class_name(int(number)) for number in explanation.targets[image])
        click.echo(f"{name}: {predicted}; explained: {explained}")
    lines = [("method", "", "seconds", "leak")]
    for method in explanation.methods.values():
        leak = "" if method.leak is None else shown_leak(float(method.leak.max()))
        lines.append((method.id, method.label, f"{method.seconds:.2f}", "refused" if method.maps is None else leak))
    click.echo(f"\n{aligned(lines, right=(2, 3))}")
    for method in explanation.methods.values():
        for line in method.said:
            click.echo(f"{method.id}: {line}")


def write_sheets(explanation: Explanation, out: Path) -> list[Path]:
    """The sheets of an explanation, ``sheet.png`` and, where there are more rows than one has, ``sheet_2.png``, ..."""
    from relmap.figures.contact import ROWS, contact_sheet, rows_of
    from relmap.figures.style import PNG_DPI, as_picture
    from relmap.job.files import atomic_path

    written = []
    for number, first in enumerate(range(0, len(rows_of(explanation)), ROWS), start=1):
        path = out if number == 1 else out.with_stem(f"{out.stem}_{number}")
        figure = contact_sheet(explanation, first)
        with atomic_path(path) as temporary:
            if path.suffix.lower() == ".pdf":
                figure.savefig(temporary)
            else:
                as_picture(figure).save(temporary, dpi=(PNG_DPI, PNG_DPI))
        written.append(path)
    return written
