"""Pascal VOC: one XML file per image. The only place that knows VOC's origin.

Any folder structure will do (`common.pair`). Rows are `<object>` elements, in the file's order.

    cause                   of    because
    unreadable-annotation   both  the XML does not parse, or has a DOCTYPE; its rows are its `<object` tags, counted
    no-box                  row   no `<bndbox>`, or one that lacks a corner
    not-a-number            row   a corner is text, NaN or infinite
    unknown-class           row   no `<name>`
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from facemask_train.core.types import Annotation, Corners, PublishedRow, SourceReading
from facemask_train.formats.limits import is_small, refused_label_file, within_rows
from facemask_train.formats.media_types import suffix
from facemask_train.formats.pairing import (
    ImageAnnotation,
    Sizes,
    assemble,
    list_files,
    nothing_found,
    number,
    pair,
    quoted,
)

log = logging.getLogger(__name__)

# VOC counts pixels from 1. 1 comes off the maxima too, so a full-width box is written (1, W + 1), which source 1
# has, and which only this reading puts inside the image. Measured on the reduced archives of sources 1 and 2, over
# 538 images that they share (3,235 boxes): the median IoU with source 2's boxes is 0.872 as published, 0.907 with
# 1 off the minima alone, 0.944 with 1 off both; where the two copies have the same size in pixels it is exactly 1.
ORIGIN = 1

_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_ROOT = re.compile(rb"<annotation[\s/>]")
_OBJECT_TAG = re.compile(rb"<object(?=[\s/>]|$)")


def read(folder: Path, images: Sequence[str], sizes: Sizes) -> SourceReading:  # noqa: ARG001 - VOC is in pixels already
    """Read every XML file of a folder.

    Raises:
        DataError: the folder has no VOC annotation.
    """
    files = [file for file in list_files(folder) if suffix(file) == ".xml"]
    parsed = [refused_label_file(folder, file) or parse((folder / file).read_bytes(), file) for file in files]
    annotations = [within_rows(annotation) for annotation in parsed if annotation is not None]
    if not annotations:
        raise nothing_found(folder, "Pascal VOC annotations (.xml)")
    owners = pair(images, {annotation.file: annotation.named for annotation in annotations})
    published, orphans = assemble(images, [(annotation, owners[annotation.file]) for annotation in annotations])
    return SourceReading(published, orphans)


def evidence(folder: Path, files: Sequence[str]) -> str | None:
    """Return the first file that only this layout has."""
    small = (file for file in files if suffix(file) == ".xml" and is_small(folder / file))
    return next((file for file in small if _ROOT.search((folder / file).read_bytes().replace(b"\0", b""))), None)


def parse(data: bytes, file: str) -> ImageAnnotation | None:
    """Parse one XML file; None if it is not an annotation. Never raises, whatever the content."""
    try:
        root = _tree(data)
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: encodings expat does not know
        return _unreadable(data, file, str(error))
    objects = list(root.iter("object"))
    if root.tag != "annotation" and not objects:
        log.warning("%s: not read, its root is <%s> and not <annotation>", file, root.tag)
        return None
    rows = tuple(_row(item, file, place) for place, item in enumerate(objects, start=1))
    named = (root.findtext("filename") or "").strip().replace("\\", "/").rpartition("/")[2]
    return ImageAnnotation(file, rows, declared=_declared(root), named=named)


class _NoDoctype(ElementTree.TreeBuilder):
    """Refuses a DOCTYPE: it allows entities that read other files or grow without limit."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> None:  # noqa: ARG002
        raise ValueError("a DOCTYPE is refused")


def _tree(data: bytes) -> ElementTree.Element:
    # lstrip: a blank line before the declaration is a common slip that expat does not forgive.
    return ElementTree.fromstring(data.lstrip(), ElementTree.XMLParser(target=_NoDoctype()))


def _unreadable(data: bytes, file: str, detail: str) -> ImageAnnotation:
    count = len(_OBJECT_TAG.findall(data.replace(b"\0", b"")))  # without its NULs, UTF-16 reads as ASCII here
    rows = (PublishedRow(file, place, cause="unreadable-annotation", detail=detail) for place in range(1, count + 1))
    return ImageAnnotation(file, tuple(rows), cause="unreadable-annotation", detail=f"{file}: {detail}")


def _row(item: ElementTree.Element, file: str, place: int) -> PublishedRow:
    name = (item.findtext("name") or "").strip()
    texts = [(item.findtext(f"bndbox/{corner}") or "").strip() for corner in _CORNERS]
    missing = [f"<{corner}>" for corner, text in zip(_CORNERS, texts, strict=True) if not text]
    if missing:
        what = ", ".join(missing) if item.find("bndbox") is not None else "<bndbox>"
        return PublishedRow(file, place, name, cause="no-box", detail=f"no {what}")
    values = [number(text) for text in texts]
    if None in values:
        return PublishedRow(file, place, name, cause="not-a-number", detail=quoted(" ".join(texts)))
    if not name:
        return PublishedRow(file, place, cause="unknown-class", detail="no <name>")
    x_min, y_min, x_max, y_max = (value - ORIGIN for value in values if value is not None)
    repair = "corners-reordered" if x_min > x_max or y_min > y_max else ""
    corners = min(x_min, x_max), min(y_min, y_max), max(x_min, x_max), max(y_min, y_max)
    return PublishedRow(file, place, name, corners, repair=repair)


def _declared(root: ElementTree.Element) -> tuple[int, int] | None:
    width, height = (number((root.findtext(f"size/{side}") or "").strip()) for side in ("width", "height"))
    return (int(width), int(height)) if width and height and min(width, height) >= 1 else None


def to_xml(filename: str, labels: Sequence[Annotation], *, width: int, height: int) -> str:
    """Write an image's labels as VOC, 1-based: what `read` reads back."""
    root = ElementTree.Element("annotation")
    _put(root, "filename", filename)
    _put_all(ElementTree.SubElement(root, "size"), {"width": str(width), "height": str(height), "depth": "3"})
    for label in labels:
        item = ElementTree.SubElement(root, "object")
        _put(item, "name", label.name)
        _put_all(ElementTree.SubElement(item, "bndbox"), _published(label.box.corners))
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode") + "\n"


def _published(corners: Corners) -> dict[str, str]:
    return {tag: f"{value + ORIGIN:.12g}" for tag, value in zip(_CORNERS, corners, strict=True)}


def _put(parent: ElementTree.Element, tag: str, text: str) -> None:
    ElementTree.SubElement(parent, tag).text = text


def _put_all(parent: ElementTree.Element, texts: dict[str, str]) -> None:
    for tag, text in texts.items():
        _put(parent, tag, text)
