"""Finds out which layout a source's folder has, by looking at its files alone.

Layouts that are not read are recognized, so that a person knows which export to choose.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from facemask_train.core.errors import DataError
from facemask_train.formats import coco, cvat, labelme, voc, yolo
from facemask_train.formats.limits import read_json_file
from facemask_train.formats.media_types import suffix
from facemask_train.formats.pairing import list_files, text_of

EVIDENCE = {
    "voc": voc.evidence,
    "yolo": yolo.evidence,
    "coco": coco.evidence,
    "cvat": cvat.evidence,
    "labelme": labelme.evidence,
}
_HEAD = 4096  # bytes
_LOOKED_FOR = (
    "an .xml with <annotation> (voc) or <annotations> (cvat), a .txt of label rows (yolo), a .json with images and"
    " annotations (coco) or shapes (labelme)"
)


def probe(folder: Path) -> str:
    """Return the one layout that a folder shows evidence of.

    Raises:
        DataError: it shows none, or several.
    """
    files = list_files(folder)
    found, broken = _evidence(folder, files)
    if len(found) == 1:
        return next(iter(found))
    if not found and broken:
        raise broken[0]
    if not found and (error := not_read(folder, files)):
        raise error
    if found:
        seen = ", ".join(f"{layout} ({file})" for layout, file in found.items())
        problem = f"expected one layout, found {seen}"
    else:
        problem = f"expected {_LOOKED_FOR}, found {_kinds(files)}"
    raise DataError(
        f"{folder}: {problem}",
        next_step=f"set `format:` of this source in configs/sources.yaml to one of: {', '.join(EVIDENCE)}",
    )


def instead(folder: Path, layout: str) -> DataError | None:
    """Return the error for a folder that has no annotations of `layout`, but of another one; None if of none."""
    files = list_files(folder)
    found, _ = _evidence(folder, files)
    found.pop(layout, None)
    if not found:
        return not_read(folder, files)
    other, file = next(iter(found.items()))
    return DataError(
        f"{folder}: expected annotations in the format {layout}, found {other} ({file})",
        next_step=f"set `format: {other}` of this source in configs/sources.yaml",
    )


def _evidence(folder: Path, files: Sequence[str]) -> tuple[dict[str, str], list[DataError]]:
    """Return the layouts that a folder shows evidence of, and the errors of files that could not be looked at."""
    found: dict[str, str] = {}
    broken: list[DataError] = []
    for layout, look in EVIDENCE.items():
        try:
            file = look(folder, files)
        except DataError as error:
            broken.append(error)
            continue
        if file:
            found[layout] = file
    return found, broken


def _kinds(files: Sequence[str]) -> str:
    counts = Counter(suffix(file) or "no extension" for file in files)
    return ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items())) or "no files"


# ---- layouts that are recognized, but not read ----


def not_read(folder: Path, files: Sequence[str]) -> DataError | None:
    """Return the error for a folder in a layout that is known, but not read; None if it has none."""
    for file in files:
        if suffix(file) == ".csv" and (separator := _table_of_boxes(folder / file)):
            return DataError(
                f"{folder}: expected annotations in a format that is read ({', '.join(EVIDENCE)}),"
                f" found a table of boxes, separated by {separator} ({file})",
                next_step="convert it to COCO or YOLO, which its tool may export too, and fetch the source again",
            )
        if suffix(file) != ".json":
            continue
        try:
            content = json.loads(text_of(read_json_file(folder / file)))
        except (DataError, ValueError, RecursionError):
            continue
        for tool, (is_from, export) in _TOOLS.items():
            if is_from(content):
                return DataError(
                    f"{folder}: expected annotations in a format that is read ({', '.join(EVIDENCE)}),"
                    f" found {tool}'s own JSON ({file})",
                    next_step=f"export it from {tool} again, as {export}, and fetch the source again",
                )
    return None


def _table_of_boxes(path: Path) -> str:
    """Return the separator of a table with a box in each row, as a word; an empty string if it is no such table."""
    with path.open("rb") as stream:
        head = text_of(stream.read(_HEAD)).splitlines()[:1]
    for sign, word in {",": "commas", ";": "semicolons", "\t": "tabs"}.items():
        columns = {column.strip(' "').lower() for column in "".join(head).split(sign)}
        if {"xmin", "ymin", "xmax", "ymax"} <= columns or {"x_min", "y_min", "x_max", "y_max"} <= columns:
            return word
    return ""


def _is_label_studio(content: Any) -> bool:
    tasks = content if isinstance(content, list) else [content]
    first = tasks[0] if tasks and isinstance(tasks[0], dict) else {}
    results = first.get("annotations") or first.get("completions")
    full = isinstance(results, list) and any(isinstance(one, dict) and "result" in one for one in results)
    return full or ("annotation_id" in first and "annotator" in first)  # the second is its JSON-MIN


def _is_supervisely(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    image = isinstance(content.get("objects"), list) and isinstance(content.get("size"), dict)
    classes = content.get("classes")
    meta = isinstance(classes, list) and all(
        isinstance(one, dict) and "title" in one and "shape" in one for one in classes
    )
    return image or (meta and bool(classes))


def _is_via(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    images = content.get("_via_img_metadata", content)
    first = next(iter(images.values()), None) if isinstance(images, dict) else None
    return isinstance(first, dict) and "regions" in first and "filename" in first


def _is_create_ml(content: Any) -> bool:
    first = content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else {}
    boxes = first.get("annotations")
    return isinstance(boxes, list) and any(isinstance(one, dict) and "coordinates" in one for one in boxes)


_TOOLS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "Label Studio": (_is_label_studio, "`YOLO with Images` or `COCO with Images`"),
    "Supervisely": (_is_supervisely, "`COCO` or `YOLO`, by the app of that name in its Ecosystem"),
    "VGG Image Annotator": (_is_via, "`Export Annotations (COCO format)`"),
    "Create ML": (_is_create_ml, "`COCO` or `YOLO`; Roboflow, for one, converts it"),
}
