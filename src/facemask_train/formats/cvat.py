"""CVAT for images: one XML file with an `<image>` for each image; corners in pixels from 0.

Rows are the shapes of an image, in the file's order; `<tag>`, which describes the whole image, is none.

    shape                       the box
    box                         its corners; if it is rotated, the bounding box of the rotated one (repair `rotated`)
    polygon                     the bounding box (repair `polygon`)
    ellipse, mask               the bounding box (repair `ellipse`, `mask`)
    polyline, points, ...       none (cause `no-box`): the extent of the face is unknown

A row whose numbers cannot be read is `not-a-number`, one without a label `unknown-class`. CVAT for video describes the
frames of a video, which are not files, so it is refused with the export to choose.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast
from xml.etree import ElementTree

from facemask_train.core.errors import DataError
from facemask_train.core.types import Annotation, Corners, PublishedRow, SourceReading
from facemask_train.formats.limits import read_json_file, within_rows
from facemask_train.formats.media_types import suffix
from facemask_train.formats.pairing import (
    ImageAnnotation,
    Sizes,
    assemble,
    find_images,
    list_files,
    nothing_found,
    number,
    quoted,
)

_BOX = ("xtl", "ytl", "xbr", "ybr")
_SHAPES = frozenset(["box", "polygon", "polyline", "points", "ellipse", "mask", "cuboid", "skeleton"])
_SNIFFED = 64 * 1024  # bytes
_CHUNK = 1024**2


def read(folder: Path, images: Sequence[str], sizes: Sizes) -> SourceReading:  # noqa: ARG001 - CVAT is in pixels already
    """Read every CVAT file of a folder.

    Raises:
        DataError: the folder has no such file, or one that is not valid XML or describes a video.
    """
    files = [file for file in list_files(folder) if suffix(file) == ".xml" and _is_cvat(folder / file)]
    if not files:
        raise nothing_found(folder, "CVAT annotations (an .xml with <annotations>)")
    found = [one for file in files for one in parse(read_json_file(folder / file), file, folder / file)]
    owners = find_images([(one.file, one.named) for one in found], images)
    published, orphans = assemble(images, [(one, owners[one.file, one.named]) for one in found])
    return SourceReading(published, orphans)


def evidence(folder: Path, files: Sequence[str]) -> str | None:
    """Return the first file that only this layout has."""
    return next((file for file in files if suffix(file) == ".xml" and _is_cvat(folder / file)), None)


def _is_cvat(path: Path) -> bool:
    with path.open("rb") as stream:
        return b"<annotations" in stream.read(_SNIFFED).replace(b"\0", b"")


def parse(data: bytes, file: str, path: Path) -> list[ImageAnnotation]:
    """Parse one CVAT file.

    Args:
        path: the file, for messages.

    Raises:
        DataError: it is not valid XML, has a DOCTYPE, or describes a video.
    """
    try:
        return list(_images(data, file, path))
    except (ElementTree.ParseError, ValueError, LookupError) as error:  # the last two: encodings expat does not know
        raise DataError(f"{path}: not valid XML: {error}", next_step="fix the file, or remove it") from error


def _images(data: bytes, file: str, path: Path) -> Iterator[ImageAnnotation]:
    """Yield the annotation of each image. Elements are dropped once they are read, since a file may hold millions."""
    count = 0
    for element in _elements(data):
        if element.tag == "track":
            raise DataError(
                f"{path}: expected CVAT for images, found CVAT for video (<track>)",
                next_step="export the task again as `CVAT for images 1.1`, with images, and fetch the source again",
            )
        shapes = [shape for shape in element if shape.tag in _SHAPES]
        rows = tuple(_row(shape, PublishedRow(file, count + place)) for place, shape in enumerate(shapes, start=1))
        count += len(rows)
        name = element.get("name", "").replace("\\", "/")
        yield within_rows(ImageAnnotation(file, rows, declared=_declared(element), named=name))


def _elements(data: bytes) -> Iterator[ElementTree.Element]:
    """Yield each `<image>` and `<track>` of a file, whole."""
    if b"<!DOCTYPE" in data[:_SNIFFED].replace(b"\0", b""):  # the door to entities that grow without end
        raise ValueError("a DOCTYPE is refused")
    parser: ElementTree.XMLPullParser[ElementTree.Element] = ElementTree.XMLPullParser(("start", "end"))
    root: ElementTree.Element | None = None
    data = data.lstrip()  # a blank line before the declaration is a common slip that expat does not forgive
    for start in range(0, len(data), _CHUNK):
        parser.feed(data[start : start + _CHUNK])
        for event, element in cast("Iterator[tuple[str, ElementTree.Element]]", parser.read_events()):
            root = element if root is None else root
            if event == "end" and element.tag in ("image", "track"):
                yield element
                root.clear()
    parser.close()


def _row(shape: ElementTree.Element, row: PublishedRow) -> PublishedRow:
    name = shape.get("label", "").strip()
    row = replace(row, name=name)
    values, repair = _corners(shape)
    if not repair and values is None and shape.tag != "box":
        return replace(row, cause="no-box", detail=f"a <{shape.tag}> has no box")
    if values is None or not all(map(math.isfinite, values)):
        return replace(row, cause="not-a-number", detail=quoted(dict(shape.attrib)))
    if not name:
        return replace(row, cause="unknown-class", detail="no label")
    x_min, y_min, x_max, y_max = values
    if x_min > x_max or y_min > y_max:
        repair = "corners-reordered"
        values = min(x_min, x_max), min(y_min, y_max), max(x_min, x_max), max(y_min, y_max)
    return replace(row, corners=values, repair=repair)


def _corners(shape: ElementTree.Element) -> tuple[Corners | None, str]:
    """Return the box of a shape, None if its numbers cannot be read, and what it was made from."""
    match shape.tag:
        case "box":
            box, turn = _numbers(shape, _BOX), number(shape.get("rotation", "0"))
            if box is None or turn is None:
                return None, ""
            return (_rotated(box, turn), "rotated") if turn % 360 else (box, "")
        case "polygon":
            return _around(shape.get("points", "")), "polygon"
        case "ellipse":
            values = _numbers(shape, ("cx", "cy", "rx", "ry"))
            if values is None:
                return None, "ellipse"
            x, y, across, down = values
            return (x - across, y - down, x + across, y + down), "ellipse"
        case "mask":
            values = _numbers(shape, ("left", "top", "width", "height"))
            if values is None:
                return None, "mask"
            x, y, width, height = values
            return (x, y, x + width, y + height), "mask"
        case _:
            return None, ""


def _numbers(shape: ElementTree.Element, keys: Sequence[str]) -> Corners | None:
    a, b, c, d = (number(shape.get(key, "").strip()) for key in keys)
    return None if a is None or b is None or c is None or d is None else (a, b, c, d)


def _around(points: str) -> Corners | None:
    """Return the bounding box of `x,y;x,y;...`, three points or more."""
    pairs = [[number(value.strip()) for value in point.split(",")] for point in points.split(";") if point.strip()]
    if len(pairs) < 3 or any(len(pair) != 2 or None in pair for pair in pairs):
        return None
    xs, ys = ([pair[axis] or 0.0 for pair in pairs] for axis in (0, 1))
    return min(xs), min(ys), max(xs), max(ys)


def _rotated(box: Corners, degrees: float) -> Corners:
    """Return the bounding box of a box that is turned around its center."""
    x_min, y_min, x_max, y_max = box
    cos, sin = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    width, height = x_max - x_min, y_max - y_min
    across, down = (width * cos + height * sin) / 2, (width * sin + height * cos) / 2
    x, y = (x_min + x_max) / 2, (y_min + y_max) / 2
    return x - across, y - down, x + across, y + down


def _declared(image: ElementTree.Element) -> tuple[int, int] | None:
    width, height = (number(image.get(side, "").strip()) for side in ("width", "height"))
    return (int(width), int(height)) if width and height and min(width, height) >= 1 else None


def to_xml(labeled: Mapping[str, tuple[int, int, Sequence[Annotation]]]) -> str:
    """Write images (path -> width, height, labels) as CVAT for images: what `read` reads back."""
    root = ElementTree.Element("annotations")
    ElementTree.SubElement(root, "version").text = "1.1"
    for image_id, (path, (width, height, labels)) in enumerate(sorted(labeled.items())):
        about = {"id": str(image_id), "name": path, "width": str(width), "height": str(height)}
        image = ElementTree.SubElement(root, "image", about)
        for label in labels:
            corners = {key: f"{value:.12g}" for key, value in zip(_BOX, label.box.corners, strict=True)}
            ElementTree.SubElement(image, "box", {"label": label.name, "occluded": "0", **corners})
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
