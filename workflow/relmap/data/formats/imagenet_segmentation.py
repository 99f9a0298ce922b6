"""ImageNet-Segmentation (Guillaumin et al., IJCV 2014): 4,276 pictures with an object's mask each, real or rendered.

One file, ``gtsegs_ijcv.mat``, holds pictures and masks; paths of the manifest lead into it (``relmap.data.members``). A
picture's name is ImageNet's, such as ``n02084071_1``: its wnid is the class.
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from relmap.data.decoding import read_size
from relmap.data.listing import Exclusion
from relmap.data.manifest import Manifest, build_manifest
from relmap.data.members import Member, names_in
from relmap.data.threads import thread_map
from relmap.errors import InputError

DATASET = "imagenet_segmentation"
FILE = "gtsegs_ijcv.mat"
_PLACES = (FILE, f"archives/{FILE}")
_NAME = re.compile(r"(n\d{8})_\w+")


def read_imagenet_segmentation(
    root: str | os.PathLike,
    *,
    dataset: str = DATASET,
    classes: Mapping[str, str] | None = None,
    exclude: Collection[str] = (),
    require_training: bool = False,
    workers: int = 8,
) -> Manifest:
    """Read the file; all pictures are test images.

    Args:
        root: folder that holds ``gtsegs_ijcv.mat``, or ``archives`` with it.
        dataset: id that the manifest gets.
        classes: wnid -> words, in the order of a classifier's outputs.
        exclude: ids of images to leave out; nothing of theirs is read.
        require_training: refuse, for there is nothing to train on.
        workers: threads that read sizes.

    Raises:
        InputError: the file is missing or not as it should be, a picture's class is none of ``classes``, its mask has
            another size, or training is asked for.
    """
    root = Path(root)
    if require_training:
        raise InputError(
            f"{root}: ImageNet-Segmentation has no training images; leave out of the config what is trained on it"
        )
    if not classes:
        raise InputError(
            f"{root}: ImageNet-Segmentation does not say which output of a classifier is which class; name a file of "
            f"`n######## words` lines, `datasets.{dataset}.classes`"
        )
    place = next((place for place in _PLACES if (root / place).is_file()), None)
    if place is None:
        raise InputError(
            f"{root / FILE}: missing; its home, calvin-vision.net, is known to fail: get it elsewhere, put it into a "
            "folder and name that folder under `data_mirror`"
        )
    label_of = {wnid: label for label, wnid in enumerate(classes)}
    file = str(root / place)

    left_out = Exclusion(dataset, exclude)

    def row(item: tuple[int, str]) -> dict[str, Any]:
        with left_out.about(item[1]):
            return row_of(*item)

    def row_of(index: int, name: str) -> dict[str, Any]:
        found = _NAME.fullmatch(name)
        if found is None or found[1] not in label_of:
            raise InputError(
                f"{file}: picture {index} is {name!r}, whose class is none of the {len(label_of)} that the classifier "
                "knows; give the classes of the same ImageNet, or restore the file"
            )
        width, height = read_size(str(Member(file, index)))
        mask = read_size(str(Member(file, index, mask=True)))
        if mask != (width, height):
            raise InputError(
                f"{Member(file, index)}: has {width} x {height} pixels, its mask {mask[0]} x {mask[1]}; restore it"
            )
        return {
            "image_id": name,
            "path": str(Member(place, index)),
            "split": "test",
            "labels": [label_of[found[1]]],
            "mask_path": str(Member(place, index, mask=True)),
            "width": width,
            "height": height,
        }

    items = [(index, name) for index, name in enumerate(names_in(file)) if left_out.keeps(name)]
    left_out.check()
    rows = thread_map(row, items, workers)
    return build_manifest(
        dataset,
        root,
        rows,
        list(classes.values()),
        class_ids=list(classes),
        require_masks=True,
        require_training=False,
        workers=workers,
    )
