"""Labelme: one JSON file per image with `shapes`; points in pixels from 0. X-AnyLabeling writes the same.

Rows are the shapes, in the file's order.

    shape_type              the box
    rectangle, mask         around its points
    polygon                 around its points, three or more (repair `polygon`)
    circle                  around the circle: its points are the center and one on its edge (repair `circle`)
    point, line, ...        none (cause `no-box`): the extent of the face is unknown

A row whose points cannot be read is `not-a-number`, one without a label `unknown-class`. A file that is not valid JSON
is `unreadable-annotation` for its image.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facemask_train.core.types import Annotation, Corners, PublishedRow, SourceReading
from facemask_train.formats.limits import refused_label_file, within_rows
from facemask_train.formats.media_types import suffix
from facemask_train.formats.pairing import (
    ImageAnnotation,
    Sizes,
    assemble,
    json_number,
    list_files,
    name_of,
    nothing_found,
    pair,
    quoted,
    text_of,
    valid_text,
)

_RECTANGLES = frozenset(["rectangle", "mask"])


def read(folder: Path, images: Sequence[str], sizes: Sizes) -> SourceReading:  # noqa: ARG001 - they are pixels already
    """Read every Labelme file of a folder.

    Raises:
        DataError: the folder has none.
    """
    files = [file for file in list_files(folder) if suffix(file) == ".json"]
    parsed = {file: _refused(folder, file) or parse((folder / file).read_bytes(), file) for file in files}
    found = [one for one in parsed.values() if one is not None]
    if all(one.cause in ("unreadable-annotation", "too-large") for one in found):
        raise nothing_found(folder, "Labelme annotations (a .json with `shapes` for each image)")
    owners = pair(images, {one.file: one.named for one in found})
    published, orphans = assemble(images, [(one, owners[one.file]) for one in found])
    return SourceReading(published, orphans)


def evidence(folder: Path, files: Sequence[str]) -> str | None:
    """Return the first file that only this layout has."""
    for file in files:
        if suffix(file) == ".json" and _refused(folder, file) is None:
            found = parse((folder / file).read_bytes(), file)
            if found is not None and not found.cause:
                return file
    return None


def _refused(folder: Path, file: str) -> ImageAnnotation | None:
    return refused_label_file(folder, file, "labelme_bytes")


def parse(data: bytes, file: str) -> ImageAnnotation | None:
    """Parse one JSON file; None if it is no Labelme file. Never raises, whatever the bytes."""
    try:
        document = json.loads(text_of(data))
    except (ValueError, RecursionError) as error:
        detail = f"{file}: not valid JSON: {error}"
        return ImageAnnotation(file, cause="unreadable-annotation", detail=detail)
    if not isinstance(document, dict) or not isinstance(document.get("shapes"), list):
        return None
    rows = tuple(_row(shape, PublishedRow(file, place)) for place, shape in enumerate(document["shapes"], start=1))
    named = name_of(valid_text(document.get("imagePath")).replace("\\", "/"))
    return within_rows(ImageAnnotation(file, rows, declared=_declared(document), named=named))


def _row(shape: Any, row: PublishedRow) -> PublishedRow:
    if not isinstance(shape, dict):
        return _refuse(row, "", "unreadable-annotation", f"expected an object, found {quoted(shape)}")
    name, kind = valid_text(shape.get("label")).strip(), shape.get("shape_type") or "polygon"
    if kind not in (*_RECTANGLES, "polygon", "circle"):
        return _refuse(row, name, "no-box", f"a {quoted(kind)} has no box")
    points = _points(shape.get("points"))
    least = 3 if kind == "polygon" else 2
    if points is None or len(points) < least:
        return _refuse(row, name, "not-a-number", f"expected {least} points, found {quoted(shape.get('points'))}")
    corners = _circle(points) if kind == "circle" else _around(points)
    if not all(map(math.isfinite, corners)):
        return _refuse(row, name, "not-a-number", f"a corner out of range: {quoted(shape.get('points'))}")
    if not name:
        return _refuse(row, name, "unknown-class", "no label")
    return PublishedRow(row.file, row.number, name, corners, repair="" if kind in _RECTANGLES else kind)


def _refuse(row: PublishedRow, name: str, cause: str, detail: str) -> PublishedRow:
    return PublishedRow(row.file, row.number, name, cause=cause, detail=detail)


def _points(value: Any) -> list[tuple[float, float]] | None:
    if not isinstance(value, list):
        return None
    points = []
    for point in value:
        x, y = (json_number(one) for one in point) if isinstance(point, list) and len(point) == 2 else (None, None)
        if x is None or y is None:
            return None
        points.append((x, y))
    return points


def _around(points: Sequence[tuple[float, float]]) -> Corners:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


def _circle(points: Sequence[tuple[float, float]]) -> Corners:
    (x, y), edge = points[0], points[1]
    radius = math.hypot(edge[0] - x, edge[1] - y)
    return x - radius, y - radius, x + radius, y + radius


def _declared(document: dict[str, Any]) -> tuple[int, int] | None:
    width, height = document.get("imageWidth"), document.get("imageHeight")
    return (width, height) if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0 else None


def to_json(filename: str, labels: Sequence[Annotation], *, width: int, height: int) -> str:
    """Write an image's labels as Labelme: what `read` reads back."""
    shapes = [_shape(label) for label in labels]
    about = {"imagePath": filename, "imageData": None, "imageHeight": height, "imageWidth": width}
    return json.dumps({"version": "5.5.0", "flags": {}, "shapes": shapes, **about}, indent=2) + "\n"


def _shape(label: Annotation) -> dict[str, object]:
    x_min, y_min, x_max, y_max = label.box.corners
    points = [[x_min, y_min], [x_max, y_max]]
    return {"label": label.name, "points": points, "group_id": None, "shape_type": "rectangle", "flags": {}}
