"""XML files in PASCAL VOC's schema, which ILSVRC took over with another first pixel."""

from __future__ import annotations

import math
import os
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse as parse_xml

from relmap.errors import InputError

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Annotation:
    """One XML file.

    Attributes:
        width, height: the declared size, 0 where absent.
        objects: (class, [x0, y0, x1, y1] in continuous edges, difficult).
        mended: boxes whose corners were put in order.
    """

    width: int
    height: int
    objects: tuple[tuple[str, Box, bool], ...]
    mended: int = 0

    @property
    def has_size(self) -> bool:
        """Whether a size is declared."""
        return min(self.width, self.height) > 0


def read_annotation(path: str | os.PathLike, first: int = 0, mend: bool = False) -> Annotation:
    """Parse a file.

    A box names its first and last column and row, both inside: [xmin, xmax] covers the edges from xmin - first to
    xmax + 1 - first.

    Args:
        first: number of the first column and row, 0 in ILSVRC and 1 in VOC.
        mend: put reversed corners in order.

    Raises:
        InputError: absent, not XML, with entities (an attack), no annotation, or without numbers, a class or a mark of
            difficulty where they belong.
    """
    try:
        tree = _without_namespaces(parse_xml(path).getroot())
        if tree.tag != "annotation":
            raise ValueError(f"it holds <{tree.tag}>, no <annotation>")
        size = tree.find("size")
        width, height = (0, 0) if size is None else (_whole(size.findtext(name, "0")) for name in ("width", "height"))
        objects, mended = [], 0
        for item in tree.iter("object"):
            name = item.findtext("name", "").strip()
            if not name:
                raise ValueError("an object has no name")
            box = item.find("bndbox")
            if box is None:
                raise ValueError(f"the object {name!r} has no bndbox")
            xmin, ymin, xmax, ymax = (_number(box, edge) for edge in ("xmin", "ymin", "xmax", "ymax"))
            if mend and (xmin > xmax or ymin > ymax):
                mended += 1
                (xmin, xmax), (ymin, ymax) = sorted((xmin, xmax)), sorted((ymin, ymax))
            difficult = _mark(item.findtext("difficult", "0").strip())
            edges = (xmin - first, ymin - first, xmax + 1 - first, ymax + 1 - first)
            objects.append((name, edges, difficult))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); restore it from the archive") from error
    except (ElementTree.ParseError, DefusedXmlException, ValueError, OverflowError) as error:
        raise InputError(f"{path}: not a readable box annotation ({error}); restore it from the archive") from error
    return Annotation(width, height, tuple(objects), mended)


def _without_namespaces(tree: ElementTree.Element) -> ElementTree.Element:
    """The tree with plain names: ``{http://...}object`` would be found by nobody, as if there were no objects."""
    for element in tree.iter():
        element.tag = element.tag.rpartition("}")[2]
    return tree


def _number(box: ElementTree.Element, edge: str) -> float:
    text = box.findtext(edge, "nothing")
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"{edge} is {text!r}, no number")
    return value


def _whole(text: str) -> int:
    """A side in pixels, 0 where nothing is declared."""
    value = float(text or 0)
    if value != int(value) or value < 0:
        raise ValueError(f"a side of {text} pixels")
    return int(value)


def _mark(text: str) -> bool:
    """0 or 1; whatever else would count as not difficult."""
    if text not in ("", "0", "1"):
        raise ValueError(f"difficult is {text!r}, not 0 or 1")
    return text == "1"


def scale_to_stored(
    annotation: Annotation,
    size: tuple[int, int],
    xml: str | os.PathLike | None,
    path: str | os.PathLike,
    exact: bool = False,
) -> tuple[float, float]:
    """Stored pixels of a declared one, along width and height; 1 where no size is declared.

    Args:
        size: width and height as stored.
        exact: one factor, to a pixel each side. Without it a tenth is allowed, for ILSVRC declares some sizes wrongly.

    Raises:
        InputError: the two sizes have different shapes.
    """
    if not annotation.has_size:
        return 1.0, 1.0
    width, height = annotation.width, annotation.height
    apart = abs(size[0] / width - size[1] / height) > 1 / width + 1 / height
    if abs(math.log(size[0] * height / (size[1] * width))) > 0.1 or (exact and apart):
        raise InputError(
            f"{xml}: declares {width} x {height} pixels, but {path} has {size[0]} x {size[1]}; they are not "
            "of the same picture: restore both from their archives"
        )
    return size[0] / width, size[1] / height
