"""Image classifiers of the Hugging Face Hub, ``hf:ORG/NAME`` or ``hf:ORG/NAME@REVISION``.

``timm``            a network of timm, by the architecture that its ``config.json`` names
``transformers``    ViT and ResNet, as timm's network of the same arithmetic; transformers itself is not needed

A repository's list of files (``/api/models/ORG/NAME/revision/REVISION``) has the commit, sizes and digests; the files
come from ``/ORG/NAME/resolve/COMMIT/`` and are verified before use. They and the list are kept below torch's folder of
downloads, so that a second use asks nobody. ``HF_ENDPOINT`` names another server of the same layout, as for Hugging
Face's own tools.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import requests
import torch
from torch import nn

from relmap.data.images import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from relmap.data.retrieve.download import Download, retrieve
from relmap.errors import InputError, suggestion
from relmap.job.files import read_json, write_json
from relmap.models.transformers_names import MADE, as_timm
from relmap.models.weights import read_state

ENDPOINT = "https://huggingface.co"
CONFIG, WEIGHTS, PROCESSOR = "config.json", "model.safetensors", "preprocessor_config.json"
_LISTING = "repository.json"
_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?")
_TIMEOUT = (15, 60)


@dataclass(frozen=True)
class Fetched:
    """Files of a repository on this machine.

    Attributes:
        config: of ``config.json``.
        weights: the file of weights.
        processor: of ``preprocessor_config.json``; empty where there is none.
        commit: of the repository, empty where nobody was asked.
    """

    config: Mapping[str, Any]
    weights: Path
    processor: Mapping[str, Any]
    commit: str


def hub_network(
    name: str, weights: str | os.PathLike | None = None
) -> tuple[nn.Module, Preprocessing, str, tuple[str, ...]]:
    """A network of the Hub with its weights, what it sees, where the weights came from, and names of its classes.

    Args:
        name: ``ORG/NAME``, with ``@REVISION`` for another than ``main``.
        weights: a folder with the repository's files, such as a clone of it, in place of the Hub.

    Raises:
        InputError: there is no such repository, it cannot be reached, or is no classifier that relmap can build.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            f"model hf:{name}: the Hub's names are ORG/NAME or ORG/NAME@REVISION, such as hf:timm/resnet18.a1_in1k"
        )
    if weights is not None and not Path(weights).is_dir():
        raise InputError(
            f"{weights}: no such folder; with hf:{name} weights are a folder that has {CONFIG} and {WEIGHTS}"
        )
    found = fetch(name, mirror=weights)
    state = read_state(found.weights, as_written=True)
    if "architecture" in found.config:
        model, preprocessing = _of_timm(name, found.config, state)
    else:
        model, preprocessing = _of_transformers(name, found, state)
    origin = f"hf:{name.partition('@')[0]}" + (f"@{found.commit[:12]}" if found.commit else "")
    return model, preprocessing, origin, _names(found.config, int(cast(Any, model).num_classes))


def fetch(name: str, mirror: str | os.PathLike | None = None) -> Fetched:
    """The files of a repository, below torch's folder of downloads, verified.

    Args:
        name: as of ``hub_network``.
        mirror: a folder that has the files, under their names or under ``ORG/NAME/``, in place of the Hub.

    Raises:
        InputError: they are not to be had, or not those of the list.
    """
    repository, _, revision = name.partition("@")
    folder = Path(torch.hub.get_dir(), "huggingface", *repository.split("/"), quote(revision or "main", safe=""))
    kept, listing = folder / _LISTING, None
    if mirror is not None:
        folder, listing = Path(mirror), {}
        folder = next((each for each in (folder / repository, folder) if (each / CONFIG).is_file()), folder)
    elif kept.is_file():
        listing = read_json(kept)
    elif (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file():
        listing = {}  # put there by hand
    else:
        listing = _ask(repository, revision or "main", folder)
        folder.mkdir(parents=True, exist_ok=True)
        write_json(kept, listing)
    files = listing.get("files")
    if files is None:
        files = {each: {} for each in (CONFIG, WEIGHTS, PROCESSOR) if (folder / each).is_file()}
    for needed in (CONFIG, WEIGHTS):
        if needed not in files:
            split = any(each.endswith(".index.json") for each in files)
            more = "; its weights are split into several files, which relmap does not read" if split else ""
            raise InputError(f"model hf:{name}: {folder if not listing else 'the repository'} has no {needed}{more}")
    paths = {
        each: folder / each
        if mirror is not None
        else _retrieved(repository, listing.get("commit", ""), each, files[each], folder)
        for each in (CONFIG, WEIGHTS, PROCESSOR)
        if each in files
    }
    processor = read_json(paths[PROCESSOR]) if PROCESSOR in paths else {}
    return Fetched(read_json(paths[CONFIG]), paths[WEIGHTS], processor, listing.get("commit", ""))


def _endpoint() -> str:
    return os.environ.get("HF_ENDPOINT", ENDPOINT).rstrip("/")


def _ask(repository: str, revision: str, folder: Path) -> dict[str, Any]:
    """The commit of a revision, and size and digest of its files."""
    url = f"{_endpoint()}/api/models/{repository}/revision/{revision.replace('/', '%2F')}"
    try:
        reply = requests.get(url, params={"blobs": "true"}, timeout=_TIMEOUT)
    except requests.RequestException as error:
        raise InputError(
            f"model hf:{repository}: {_endpoint()} cannot be reached ({type(error).__name__}); put {CONFIG} and "
            f"{WEIGHTS} into {folder}, or name a folder that has them with --weights FOLDER"
        ) from error
    if reply.status_code in (401, 403, 404):
        raise InputError(
            f"model hf:{repository}: {url} answers {reply.status_code}: there is no such repository or revision, or "
            "it needs an account; correct the name, or fetch its files and name their folder with --weights FOLDER"
        )
    try:
        reply.raise_for_status()
        found = reply.json()
        return {
            "commit": found["sha"],
            "files": {
                each["rfilename"]: {
                    "size": (each.get("lfs") or each).get("size"),
                    "sha256": (each.get("lfs") or {}).get("sha256", ""),
                    "git": "" if each.get("lfs") else each.get("blobId", ""),
                }
                for each in found["siblings"]
            },
        }
    except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(
            f"model hf:{repository}: {url} does not answer as the Hub does (status {reply.status_code}); "
            "correct HF_ENDPOINT, or try again later"
        ) from error


def _retrieved(repository: str, commit: str, file: str, known: Mapping[str, Any], folder: Path) -> Path:
    """One file, verified by what is known of it: a SHA-256, or Git's name of small files' content."""
    url = f"{_endpoint()}/{repository}/resolve/{commit or 'main'}/{file}"
    entry = Download(file, repository, url, known.get("size"), sha256=known.get("sha256", ""))
    path = retrieve(file, folder, {file: entry}, attempts=3)
    git = known.get("git", "")
    if git and _git_name(path) != git:
        raise InputError(f"{path}: its content is not what {repository} lists; delete {folder} and run again")
    return path


def _git_name(path: Path) -> str:
    content = path.read_bytes()
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


def _of_timm(name: str, config: Mapping[str, Any], state: dict[str, torch.Tensor]) -> tuple[nn.Module, Preprocessing]:
    import timm
    from timm.models import PretrainedCfg

    architecture = config["architecture"]
    if architecture not in timm.list_models():
        raise InputError(
            f"model hf:{name}: its architecture {architecture!r} is none of timm {timm.__version__}"
            f"{suggestion(architecture, timm.list_models())}"
        )
    # Older repositories have it all on one level.
    published = config.get("pretrained_cfg", config)
    known = {key: value for key, value in published.items() if key in PretrainedCfg.__dataclass_fields__}
    classes = config.get("num_classes", published.get("num_classes", 1000))
    own = {"architecture": architecture, "num_classes": classes, "state_dict": state, "custom_load": False}
    elsewhere = ("hf_hub_id", "url", "file", "source", "label_offset")
    pooled = {"global_pool": config["global_pool"]} if config.get("global_pool") else {}
    try:
        model: Any = timm.create_model(
            architecture,
            pretrained=True,
            num_classes=classes,
            pretrained_cfg={**known, **{key: None for key in elsewhere if key in known}, **own},
            **{**pooled, **config.get("model_args", {})},
        )
    except (RuntimeError, TypeError, KeyError) as error:
        raise InputError(
            f"model hf:{name}: timm {timm.__version__} cannot build it as {architecture} "
            f"({' '.join(str(error).split())[:200]})"
        ) from error
    model.pretrained_cfg.pop("state_dict", None)
    return model, timm_preprocessing(name, timm.data.resolve_model_data_config(model))


def timm_preprocessing(name: str, seen: Mapping[str, Any]) -> Preprocessing:
    """What a network of timm sees, from its data config. Pictures are resized bilinearly whatever that says."""
    channels, height, width = seen["input_size"]
    if channels != 3 or height != width:
        raise InputError(
            f"model {name}: its input is {channels} x {height} x {width}; relmap reads square colour pictures"
        )
    squashed = seen.get("crop_mode") == "squash"
    resize = width if squashed else max(width, int(width / seen["crop_pct"]))
    return Preprocessing(resize, width, tuple(seen["mean"]), tuple(seen["std"]), "squash" if squashed else "crop")


def _of_transformers(name: str, found: Fetched, state: dict[str, torch.Tensor]) -> tuple[nn.Module, Preprocessing]:
    kind, architectures = found.config.get("model_type"), found.config.get("architectures") or [""]
    if kind not in MADE or not architectures[0].endswith("ForImageClassification"):
        raise InputError(
            f"model hf:{name}: {architectures[0] or kind or CONFIG} is not a classifier of images that relmap builds; "
            f"it builds timm's, and of transformers {' and '.join(MADE)}"
        )
    try:
        model, renamed = as_timm(found.config, state)
        # Files older than the counter of batch norm lack it; it is of no account in evaluation.
        counters = {key: value for key, value in model.state_dict().items() if key.endswith("num_batches_tracked")}
        model.load_state_dict({**counters, **renamed})
    except (KeyError, RuntimeError) as error:
        raise InputError(
            f"model hf:{name}: weights and {CONFIG} do not belong together ({' '.join(str(error).split())[:200]})"
        ) from error
    return model, _processed(found.config, found.processor)


def _processed(config: Mapping[str, Any], processor: Mapping[str, Any]) -> Preprocessing:
    """What a preprocessor of transformers lets a network see: a crop where it crops, else the picture squashed."""
    size, crop = processor.get("size", config.get("image_size", 224)), processor.get("crop_size")
    shortest = isinstance(size, Mapping) and "shortest_edge" in size
    side = _side(size)
    normalised = processor.get("do_normalize", True)
    mean = processor.get("image_mean", IMAGENET_MEAN) if normalised else (0, 0, 0)
    std = processor.get("image_std", IMAGENET_STD) if normalised else (1, 1, 1)
    if processor.get("do_center_crop") and crop is not None:
        return Preprocessing(max(side, _side(crop)), _side(crop), tuple(mean), tuple(std))
    if processor.get("crop_pct") or (shortest and side < 384):
        return Preprocessing(int(side / processor.get("crop_pct", 224 / 256)), side, tuple(mean), tuple(std))
    return Preprocessing(side, side, tuple(mean), tuple(std), "squash")


def _side(size: int | Mapping[str, int]) -> int:
    return (
        int(size["shortest_edge"] if "shortest_edge" in size else size["height"]) if isinstance(size, Mapping) else size
    )


def _names(config: Mapping[str, Any], classes: int) -> tuple[str, ...]:
    """Names of the classes in the order of the outputs; none where the repository has not got all of them."""
    labels = config.get("label_names") or config.get("id2label") or ()
    if isinstance(labels, Mapping):
        labels = [labels.get(str(number), "") for number in range(classes)]
    told = config.get("label_descriptions") or {}
    named = tuple(str(told.get(label, label)) for label in labels)
    unknown = len(named) != classes or not all(named) or named[0] == "LABEL_0"
    return () if unknown else named
