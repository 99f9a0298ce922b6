"""Files of pictures that strangers made, decoded within bounds: of format, of pixels, of shape and of values.

Orientation: an EXIF rotation is not applied. The annotations of CUB and ImageNet refer to the pixels as stored, and
torchvision's weights were trained on images decoded so; transposing would tear boxes and masks from their images.
"""

from __future__ import annotations

import os
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, UnidentifiedImageError

from relmap.data.members import member_of, member_size, read_member
from relmap.errors import InputError

# Pillow chooses by content: a PostScript file named .jpg would start Ghostscript.
FORMATS = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
# Pillow's own warning level: a larger picture is not a photograph but an accident or an attack on memory.
MAX_PIXELS = 89_478_485
# The longer side over the shorter: beyond it a picture is a line, and what resizing its shorter side makes is enormous.
MAX_ASPECT = 100
_BROKEN = (OSError, SyntaxError, ValueError, IndexError, TypeError, EOFError, struct.error, zlib.error)


def read_size(path: str | os.PathLike) -> tuple[int, int]:
    """(width, height) of an image as stored, from the header of its file, or of its array in a MATLAB file.

    Raises:
        InputError: absent, not an image, of another format than ``FORMATS``, too large or too long.
    """
    member = member_of(path)
    if member is not None:
        size = member_size(member)
        check_size(path, *size)
        return size
    with _opened(path) as image:
        return image.size


def decode(path: str | os.PathLike) -> Image.Image:
    """Decode a whole file, or an array in a MATLAB file, in its own mode and stored orientation.

    Raises:
        InputError: as :func:`read_size`, or corrupt or truncated.
    """
    member = member_of(path)
    if member is not None:
        check_size(path, *member_size(member))
        return Image.fromarray(read_member(member))
    with _opened(path) as image:
        image.load()
        return image


@contextmanager
def _opened(path: str | os.PathLike) -> Iterator[Image.Image]:
    try:
        with Image.open(path, formats=FORMATS) as image:
            check_size(path, *image.size)
            yield image
    except Image.DecompressionBombError as error:
        raise _too_large(path, "far more") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such image; restore it, or make the manifest again") from error
    except UnidentifiedImageError as error:
        raise InputError(
            f"{path}: corrupt or truncated image, or none of the formats {', '.join(FORMATS)}; restore it from the "
            "archive, convert it, or remove it"
        ) from error
    except _BROKEN as error:
        raise InputError(
            f"{path}: corrupt or truncated image ({error}); restore it from the archive, or remove it"
        ) from error


def check_size(path: str | os.PathLike, width: int, height: int) -> None:
    """Refuse a picture with too many pixels, or one that is little more than a line.

    Raises:
        InputError: it names the picture.
    """
    if width * height > MAX_PIXELS:
        raise _too_large(path, f"{width} x {height}, more")
    if max(width, height) > MAX_ASPECT * min(width, height):
        raise InputError(
            f"{path}: the image has {width} x {height} pixels, one side more than {MAX_ASPECT} times the other; cut or "
            "remove it"
        )


def check_resized(path: str | os.PathLike, width: int, height: int) -> None:
    """The same of what resizing makes of a picture.

    Raises:
        InputError: it names the picture.
    """
    if width * height > MAX_PIXELS:
        raise InputError(
            f"{path}: resized, the image has {width} x {height} pixels, more than the allowed {MAX_PIXELS}; cut or "
            "remove it, or lower the model's `resize`"
        )


def as_rgb(image: Image.Image, path: str | os.PathLike = "an image") -> Image.Image:
    """Any mode to 8-bit RGB: grey is repeated, CMYK and palettes converted, alpha dropped, 16 bits scaled to 8.

    Floating-point grey in [0, 1] is scaled by 255, other in [0, 255] taken as it is.

    Args:
        path: of the image, for the message.

    Raises:
        InputError: numbers of 32 bits whose range does not tell what is white.
    """
    if image.mode == "F":
        image = Image.fromarray(_of_floats(np.asarray(image), path))
    elif image.mode.startswith("I"):
        # Pillow's own conversion clips 16-bit values at 255 instead of scaling them.
        values = np.asarray(image).astype(np.int64)
        if image.mode == "I":
            _check_integers(values, image.format, path)
        image = Image.fromarray((values >> 8).astype(np.uint8))
    return image.convert("RGB")


def _of_floats(values: np.ndarray, path: str | os.PathLike) -> np.ndarray:
    if not np.isfinite(values).all() or values.min() < 0 or values.max() > 255:
        raise InputError(
            f"{path}: floating-point pixels from {np.min(values):g} to {np.max(values):g} do not tell what is black "
            "and white; scale them to [0, 1] or [0, 255], or save 8 bits"
        )
    return np.rint(values * 255 if values.max() <= 1 else values).astype(np.uint8)


def _check_integers(values: np.ndarray, kind: str | None, path: str | os.PathLike) -> None:
    """Of 32 bits those count that hold 16. Pillow gives Netpbm's 16 bits so, whatever is in them."""
    dark = kind != "PPM" and 0 < values.max() <= 255
    if values.min() < 0 or values.max() > 65535 or dark:
        raise InputError(
            f"{path}: 32-bit pixels from {values.min()} to {values.max()} do not tell what is black and white; save 8 "
            "or 16 bits"
        )


def _too_large(path: str | os.PathLike, size: str) -> InputError:
    return InputError(f"{path}: the image has {size} than the allowed {MAX_PIXELS} pixels; shrink or remove it")
