"""COCO: JSON files with `images`, `annotations` and `categories`; boxes are x, y, width, height in pixels from 0.

Several files (one per split) are read as one source. An image is found by its `file_name`: beside the JSON, in an
`images/` folder, in the folder of the split that the JSON's own name says, or else anywhere, if its name is there
once. Rows are entries of `annotations`; a row's number is its place in that list, from 1.

    cause                   of   because
    unreadable-annotation   row  the entry is no JSON object
    no-box                  row  no `bbox`, and no polygon in `segmentation`
    wrong-columns           row  `bbox` does not have four values
    not-a-number            row  a value is not a number, or not finite
    unknown-class           row  `categories` has no such id
    crowd                   row  `iscrowd`: the box is around a group, not around one face

Ids and numbers may be texts. Without a `bbox`, the box is the bounding box of the polygons (repair `polygon`). If the
boxes of a source are throughout not as COCO defines them, but corners for example, they are read as what they are
(`box_readings`).
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from facemask_train.core.errors import DataError
from facemask_train.core.types import CLASSES, Annotation, Corners, PublishedImage, PublishedRow, SourceReading
from facemask_train.formats.box_readings import FITS_BY_DEFAULT, AmbiguousBoxesError, BoxReading, choose
from facemask_train.formats.limits import read_json_file, within_rows
from facemask_train.formats.media_types import suffix
from facemask_train.formats.pairing import (
    ImageAnnotation,
    Sizes,
    assemble,
    find_images,
    json_number,
    list_files,
    nothing_found,
    quoted,
    valid_text,
)

TOP_LEFT, CORNERS = BoxReading("top-left", "pixels"), BoxReading("corners", "pixels")
_SAME_AREA = 0.02  # relative difference
_WHOLE = re.compile(r"([+-]?[0-9]{1,18})(?:\.0*)?")
_PARTS = ("images", "annotations", "categories")


def read(folder: Path, images: Sequence[str], sizes: Sizes) -> SourceReading:
    """Read every COCO file of a folder.

    Raises:
        DataError: a JSON file does not parse, gives one id two meanings, or there is no COCO file at all.
    """
    files = [file for file in list_files(folder) if suffix(file) == ".json"]
    documents = {file: data for file in files if (data := _document(folder / file))}
    if not documents:
        raise nothing_found(folder, f"COCO annotations (a .json with {', '.join(_PARTS)})")
    annotations = [one for file, data in documents.items() for one in _annotations(data, file, folder / file)]
    owners = find_images([(one.file, one.named) for one in annotations], images)
    published, orphans = assemble(images, [(one, owners[one.file, one.named]) for one in annotations])
    return SourceReading(_as_read(folder, documents.values(), published, sizes), orphans)


def _as_read(
    folder: Path, documents: Iterable[Mapping[str, Any]], images: tuple[PublishedImage, ...], sizes: Sizes
) -> tuple[PublishedImage, ...]:
    """Return the images with their boxes as the source means them, which may not be as COCO defines them.

    Raises:
        DataError: the boxes are not COCO's, and several other readings fit.
    """
    named = [
        (image.path, _values(row.corners))
        for image in images
        if image.path in sizes
        for row in image.rows
        if row.corners and not row.repair
    ]
    boxes = [(values, sizes[path]) for path, values in named]
    found = (CORNERS,) if _areas_say_corners(documents) else choose(boxes, TOP_LEFT)
    if len(found) > 1:
        raise AmbiguousBoxesError(folder, TOP_LEFT, found, named)
    if found[0] == TOP_LEFT:
        return images
    return tuple(
        replace(image, rows=tuple(_again(row, found[0], sizes[image.path]) for row in image.rows))
        if image.path in sizes
        else image
        for image in images
    )


def _again(row: PublishedRow, reading: BoxReading, size: tuple[int, int]) -> PublishedRow:
    if row.corners is None or row.repair:
        return row
    repair = f"box-as-{reading.layout}-in-{reading.unit}"
    return replace(row, corners=reading.corners(_values(row.corners), size), repair=repair)


def _values(corners: Corners) -> Corners:
    """Return the four numbers of a `bbox` again."""
    x, y, x_max, y_max = corners
    return x, y, x_max - x, y_max - y


def _areas_say_corners(documents: Iterable[Mapping[str, Any]]) -> bool:
    """Return whether the areas that annotations state are those of corners, nearly throughout."""
    sized = corners = 0
    for document in documents:
        for entry in document["annotations"]:
            values = _numbers(entry.get("bbox")) if isinstance(entry, dict) else None
            area = json_number(entry.get("area")) if values else None
            if values and area and not entry.get("segmentation"):
                a, b, c, d = values
                sized += 1
                corners += abs((c - a) * (d - b) - area) < _SAME_AREA * area <= abs(c * d - area)
    return sized > 1 and corners >= FITS_BY_DEFAULT * sized


def evidence(folder: Path, files: Sequence[str]) -> str | None:
    """Return the first file that only this layout has."""
    return next((file for file in files if suffix(file) == ".json" and _document(folder / file)), None)


def _document(path: Path) -> dict[str, Any]:
    """Return a COCO file's content, or an empty mapping where a JSON file is something else."""
    try:
        data = json.loads(read_json_file(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: not valid JSON: {error}", next_step="fix the file, or remove it") from error
    is_coco = isinstance(data, dict) and all(isinstance(data.get(part), list) for part in _PARTS)
    return data if is_coco else {}


def _annotations(data: Mapping[str, Any], file: str, path: Path) -> list[ImageAnnotation]:
    """Return the annotations of each image that a COCO file lists, then the rows of images that it does not list."""
    images = _by_id(data["images"], "file_name", path)
    names = {key: valid_text(entry.get("name")) for key, entry in _by_id(data["categories"], "name", path).items()}
    rows: dict[str, list[PublishedRow]] = {_file_name(image): [] for image in images.values()}
    lost: list[PublishedRow] = []
    for place, entry in enumerate(data["annotations"], start=1):
        image = images.get(_id(entry, "image_id"))
        (lost if image is None else rows[_file_name(image)]).append(_row(entry, PublishedRow(file, place), names))
    sizes = {_file_name(image): _declared(image) for image in images.values()}
    listed = [
        within_rows(ImageAnnotation(file, tuple(found), declared=sizes[name], named=name))
        for name, found in rows.items()
    ]
    return [*listed, ImageAnnotation(file, tuple(lost), detail="`images` has no such id")] if lost else listed


def _by_id(entries: Sequence[Any], key: str, path: Path) -> dict[int | str | None, dict[str, Any]]:
    found: dict[int | str | None, dict[str, Any]] = {}
    for entry in entries:
        known = _id(entry, "id")
        if known is not None and found.setdefault(known, entry).get(key) != entry.get(key):
            raise DataError(
                f"{path}: expected one {key} for id {known!r}, "
                f"found {quoted(found[known].get(key))} and {quoted(entry.get(key))}",
                next_step="fix the file: give each entry an id of its own",
            )
    return found


def _id(entry: Any, key: str) -> int | str | None:
    """Return an id; `1`, `1.0` and `"1"` are equal."""
    value = entry.get(key) if isinstance(entry, dict) else None
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and (match := _WHOLE.fullmatch(value.strip())):
        return int(match[1])
    return value if isinstance(value, int | str) else None


def _file_name(image: Mapping[str, Any]) -> str:
    return valid_text(image.get("file_name")).replace("\\", "/")


def _declared(image: Mapping[str, Any]) -> tuple[int, int] | None:
    width, height = image.get("width"), image.get("height")
    return (width, height) if isinstance(width, int) and isinstance(height, int) and min(width, height) > 0 else None


def _row(entry: Any, row: PublishedRow, names: Mapping[int | str | None, str]) -> PublishedRow:
    if not isinstance(entry, dict):
        return _refused(row, "", "unreadable-annotation", f"expected an object, found {quoted(entry)}")
    name, bbox = names.get(_id(entry, "category_id"), ""), entry.get("bbox")
    if not name:
        return _refused(row, "", "unknown-class", f"no category has the id {quoted(entry.get('category_id'))}")
    if entry.get("iscrowd"):
        return _refused(row, name, "crowd", "iscrowd is set")
    if bbox is None or bbox == []:
        return _from_polygons(entry, replace(row, name=name))
    if not isinstance(bbox, list) or len(bbox) != 4:
        return _refused(row, name, "wrong-columns", f"expected x, y, width, height, found {quoted(bbox)}")
    corners = _corners(_numbers(bbox))
    return (
        PublishedRow(row.file, row.number, name, corners)
        if corners
        else _refused(row, name, "not-a-number", quoted(bbox))
    )


def _from_polygons(entry: Mapping[str, Any], row: PublishedRow) -> PublishedRow:
    """Return the bounding box of an entry's `segmentation`, where that is a list of polygons."""
    polygons = entry.get("segmentation")
    if not isinstance(polygons, list) or not polygons:
        return _refused(row, row.name, "no-box", "no bbox, and no polygon in `segmentation`")
    flat = [value for polygon in polygons for value in (polygon if isinstance(polygon, list) else [polygon])]
    numbers = [json_number(value) for value in flat]
    if len(numbers) < 6 or len(numbers) % 2 or None in numbers:
        return _refused(row, row.name, "no-box", f"no bbox, and no polygon in `segmentation`: {quoted(polygons)}")
    xs, ys = ([value for value in numbers[start::2] if value is not None] for start in (0, 1))
    return replace(row, corners=(min(xs), min(ys), max(xs), max(ys)), repair="polygon")


def _refused(row: PublishedRow, name: str, cause: str, detail: str) -> PublishedRow:
    return PublishedRow(row.file, row.number, name, cause=cause, detail=detail)


def _numbers(bbox: Any) -> Corners | None:
    if not isinstance(bbox, list) or len(bbox) != 4:
        return None
    a, b, c, d = map(json_number, bbox)
    return None if a is None or b is None or c is None or d is None else (a, b, c, d)


def _corners(values: Corners | None) -> Corners | None:
    if values is None:
        return None
    x, y, width, height = values
    corners = (x, y, x + width, y + height)
    return corners if all(map(math.isfinite, corners)) else None


def to_json(
    labeled: Mapping[str, tuple[int, int, Sequence[Annotation]]], scores: Mapping[str, Sequence[float]] | None = None
) -> str:
    """Write images (path -> width, height, labels) as COCO: what `read` reads back. Ids are those of `CLASSES`.

    Args:
        scores: path -> the confidence of each of its labels, where they are a detector's.
    """
    boxes: list[dict[str, object]] = []
    images = []
    for image_id, (path, (width, height, labels)) in enumerate(sorted(labeled.items()), start=1):
        images.append({"id": image_id, "file_name": path, "width": width, "height": height})
        own = [_entry(label, image_id, len(boxes) + place) for place, label in enumerate(labels, start=1)]
        if scores is not None:
            own = [{**entry, "score": score} for entry, score in zip(own, scores[path], strict=True)]
        boxes += own
    categories = [{"id": class_id, "name": name} for class_id, name in enumerate(CLASSES)]
    return json.dumps({"images": images, "annotations": boxes, "categories": categories}, indent=1) + "\n"


def _entry(label: Annotation, image_id: int, entry_id: int) -> dict[str, object]:
    box = label.box
    return {
        "id": entry_id,
        "image_id": image_id,
        "category_id": label.class_id,
        "bbox": [box.x_min, box.y_min, box.width, box.height],
        "area": box.area,
        "iscrowd": 0,
    }
