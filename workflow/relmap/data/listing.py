"""What the lists and annotations of a data set name: files inside it, and images that a config may leave out."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import PurePosixPath

from relmap.errors import InputError

# Of the file systems that data lie on; what is longer is an error of each call that asks for it.
_LONGEST_NAME, _LONGEST_PATH = 255, 3000


def inside(path: str, source: object) -> str:
    """A path below a data set's folder, as a list or an annotation names it.

    Args:
        path: relative, with slashes.
        source: the file that names it, for the message.

    Returns:
        ``path``.

    Raises:
        InputError: it is empty, absolute, too long or no text, has ``..`` or a zero byte.
    """
    reason = _why_not(path)
    if reason:
        raise InputError(
            f"{source}: names the file {path[:200]!r}, which is {reason}; restore what names it from its archive, or "
            "correct it"
        )
    return path


def _why_not(path: str) -> str:
    """Why a path cannot be one of a data set's; nothing where it can."""
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        return "not inside the data set"
    # Lists and tables have a line a name, and terminals take some of them for orders.
    if any(unicodedata.category(each) in ("Cc", "Zl", "Zp") for each in path):
        return "of more than letters: a line break or another control character; rename the file"
    try:
        path.encode()  # tables hold text
        longest = max(len(os.fsencode(part)) for part in parts)
    except UnicodeEncodeError:
        return "no text that a file's name can be"
    if longest > _LONGEST_NAME or len(os.fsencode(path)) > _LONGEST_PATH:
        return f"longer than a name ({_LONGEST_NAME} bytes) or a path ({_LONGEST_PATH}) can be"
    return ""


class Exclusion:
    """Images that a config leaves out of a data set, ``datasets.<id>.exclude``.

    Args:
        dataset: its id.
        images: ids of images.
    """

    def __init__(self, dataset: str, images: Collection[str] = ()) -> None:
        self.dataset, self.images = dataset, frozenset(images)
        self._met: set[str] = set()

    def keeps(self, image_id: str) -> bool:
        """Whether an image stays."""
        if image_id not in self.images:
            return True
        self._met.add(image_id)
        return False

    def check(self) -> None:
        """Call it when :meth:`keeps` was asked of all images.

        Raises:
            InputError: an image that is to be left out is none of the data set's.
        """
        unknown = sorted(self.images - self._met)
        if unknown:
            raise InputError(
                f"config: `datasets.{self.dataset}.exclude`: the data set has no image {unknown[0]!r} ({len(unknown)} "
                "such ids); correct it: an id is what the manifest calls `image_id`, a name without its suffix"
            )

    def about(self, image_id: str) -> AbstractContextManager[None]:
        """As :func:`about` of this data set."""
        return about(self.dataset, image_id)


@contextmanager
def about(dataset: str, image_id: str) -> Iterator[None]:
    """Let errors of the block, which are about one image, say how to go on without it."""
    try:
        yield
    except InputError as error:
        if ".exclude: " in str(error):
            raise
        raise InputError(
            f"{error}; or leave it out: `datasets.{dataset}.exclude: [{json.dumps(image_id, ensure_ascii=False)}]`"
        ) from error
