"""YOLO text labels: `id x_centre y_centre width height`, normalised. The only place that knows normalised centres.

Reads labels beside the images, in a parallel `labels/` tree, darknet's (`obj.names`, `obj.data`) and Roboflow's
layouts, wherever they lie in the folder (`common.pair`). Rows are the non-blank lines of label files; a row's number
is its line, from 1.

A `.txt` file is a label file where an image of its stem is found, or it lies under a `labels` folder, or all its
non-blank lines have five columns or more, the first an integer. Of the files that are usually something else
(`classes.txt`, `train.txt`, `README.txt`, ...) only the last holds.

    cause             of   because
    wrong-columns     row  not five columns: a confidence, a polygon, half a line
    unknown-class     row  the id is no whole number (`1.0` is one), or the names file has no such id
    not-a-number      row  a coordinate is text, NaN or infinite, or its corner is too large for a number
    no-image-size   row  the image cannot be read, so its size in pixels is not known
"""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import yaml

from facemask_train.core.errors import DataError
from facemask_train.core.types import CLASSES, Annotation, Box, PublishedRow, SourceReading
from facemask_train.formats.pairing import (
    Claim,
    ImageAnnotation,
    Sizes,
    assemble,
    list_files,
    number,
    pair,
    quoted,
    suffix,
    text_of,
)

log = logging.getLogger(__name__)

# Corners are written on a grid of 1e-7 of the image: within 0.0005 px on 10,000 px. A grid of this width is also
# coarse enough that centre -/+ half the width stays inside [0, 1] when a tool computes in float32.
_GRID = 10**7

_ID = re.compile(r"0*([0-9]{1,9})(?:\.0*)?")
_NAMES_ENTRY = re.compile(r"^\s*names\s*=\s*(.+?)\s*$", re.MULTILINE)
_NO_LABELS = frozenset(["classes", "train", "valid", "val", "test", "readme", "names", "obj", "data"])


def read(folder: Path, images: Sequence[str], sizes: Sizes) -> SourceReading:
    """Read every label file of a folder.

    Raises:
        DataError: the folder holds no label file at all, or names files that cannot be read or contradict each other.
    """
    files = list_files(folder)
    names = read_names(folder, files)
    texts = [file for file in files if suffix(file) == ".txt"]
    claims = _claims(folder, pair(images, dict.fromkeys(texts, "")), sizes, names)
    if not claims:
        raise DataError(
            f"{folder}: expected YOLO label files (.txt), found none",
            next_step="check `format:` of this source in configs/sources.yaml; `probe` finds out by itself",
        )
    published, orphans = assemble(images, claims)
    return SourceReading(published, orphans, names)


def evidence(folder: Path, files: Sequence[str]) -> str | None:
    """Return the first file that only this layout has."""
    texts = (file for file in files if suffix(file) == ".txt")
    return next((file for file in texts if _all_rows(text_of((folder / file).read_bytes()))), None)


def _claims(
    folder: Path, owners: Mapping[str, Sequence[str]], sizes: Sizes, names: Sequence[str] | None
) -> list[Claim]:
    claims: list[Claim] = []
    for file, images in owners.items():
        text = text_of((folder / file).read_bytes())
        if _is_label_file(file, text, owned=bool(images)):
            size = sizes.get(images[0]) if images else None
            claims.append((ImageAnnotation(file, rows(text, file, names=names, size=size)), images))
        elif not _usually_something_else(file):
            log.warning("%s: not read, no image has this name and its lines are no labels", file)
    return claims


def _is_label_file(file: str, text: str, *, owned: bool) -> bool:
    if _all_rows(text):
        return True
    return (owned or "labels" in file.split("/")[:-1]) and not _usually_something_else(file)


def _all_rows(text: str) -> bool:
    found = [line.split() for _, line in _numbered(text)]
    return bool(found) and all(len(columns) >= 5 and _ID.fullmatch(columns[0]) for columns in found)


def _usually_something_else(file: str) -> bool:
    stem = PurePosixPath(file).stem.lower()
    return stem in _NO_LABELS or stem.startswith("readme")


def _numbered(text: str) -> list[tuple[int, str]]:
    """Return the non-blank lines with their numbers. `str.splitlines` would also split at form feeds and the like."""
    lines = re.split(r"\r\n|\r|\n", text)
    return [(place, line) for place, line in enumerate(lines, start=1) if line.strip()]


def rows(
    text: str, file: str, *, names: Sequence[str] | None, size: tuple[int, int] | None
) -> tuple[PublishedRow, ...]:
    """Parse a label file into one row per non-blank line. Never raises, whatever the text.

    Args:
        names: the class names by id, or None where there is no names file; a row's name is then its id.
        size: the image's width and height in pixels, or None where they are not known.
    """
    return tuple(_row(line.split(), PublishedRow(file, place), names, size) for place, line in _numbered(text))


def _row(
    columns: Sequence[str], row: PublishedRow, names: Sequence[str] | None, size: tuple[int, int] | None
) -> PublishedRow:
    name = _class_name(columns[0], names)
    values = [number(column) for column in columns[1:]]
    if len(columns) != 5:
        return _refused(row, name, "wrong-columns", f"expected 5 columns, found {len(columns)}")
    if not name:
        known = "any whole number" if names is None else f"0 to {len(names) - 1}"
        return _refused(row, columns[0][:40], "unknown-class", f"expected an id, {known}, found {quoted(columns[0])}")
    if None in values:
        return _refused(row, name, "not-a-number", quoted(" ".join(columns[1:])))
    if size is None:
        return _refused(row, name, "no-image-size", "the image cannot be read")
    x, y, w, h = (value for value in values if value is not None)
    width, height = size
    corners = ((x - w / 2) * width, (y - h / 2) * height, (x + w / 2) * width, (y + h / 2) * height)
    if not all(map(math.isfinite, corners)):
        return _refused(row, name, "not-a-number", f"a corner out of range: {quoted(' '.join(columns[1:]))}")
    return PublishedRow(row.file, row.number, name, corners)


def _refused(row: PublishedRow, name: str, cause: str, detail: str) -> PublishedRow:
    return PublishedRow(row.file, row.number, name, cause=cause, detail=detail)


def _class_name(text: str, names: Sequence[str] | None) -> str:
    """Return the published name of an id (`01` and `1.0` are 1), or an empty string where there is none."""
    match = _ID.fullmatch(text)
    if match is None:
        return ""
    class_id = int(match[1])
    if names is None:
        return str(class_id)
    return names[class_id] if class_id < len(names) else ""


def read_names(folder: Path, files: Sequence[str]) -> tuple[str, ...] | None:
    """Return the class names by id, from every names file of a folder; None where there is none.

    Names files are `names` in a yaml, `classes.txt`, `*.names`, `*.labels`, and what `names =` in a `*.data` names.

    Raises:
        DataError: a names file cannot be read, or two of them contradict each other.
    """
    found = {file: names for file in files if (names := _names_in(folder, file, files))}
    if len(set(found.values())) > 1:
        said = "; ".join(f"{file} says {', '.join(names)}" for file, names in found.items())
        raise DataError(
            f"{folder}: the names files contradict each other: {said}",
            next_step="remove the wrong one from the folder, so that each id has one name",
        )
    return next(iter(found.values()), None)


def _names_in(folder: Path, file: str, files: Sequence[str]) -> tuple[str, ...]:
    path, kind = folder / file, suffix(file)
    if kind in (".yaml", ".yml"):
        return _yaml_names(path)
    if kind in (".names", ".labels") or path.name.lower() == "classes.txt":
        return _listed_names(path)
    if kind == ".data" and (entry := _NAMES_ENTRY.search(text_of(path.read_bytes()))):
        # The path inside is relative to where darknet once ran; only the file's name still means something.
        name = entry[1].replace("\\", "/").rpartition("/")[2]
        named = [other for other in files if PurePosixPath(other).name == name]
        return _listed_names(folder / named[0]) if named else ()
    return ()


def _listed_names(path: Path) -> tuple[str, ...]:
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text_of(path.read_bytes()).rstrip())]
    if lines != [""] and "" in lines:
        raise DataError(
            f"{path}: expected one class name per line, found line {lines.index('') + 1} blank",
            next_step="remove the blank line if it is no class; it would shift every id after it",
        )
    return tuple(filter(None, lines))


def _yaml_names(path: Path) -> tuple[str, ...]:
    try:
        # The base loader leaves every scalar a text: a class called `no` stays `no`.
        data = yaml.load(text_of(path.read_bytes()), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        raise DataError(f"{path}: not valid yaml: {error}", next_step="fix the file, or remove it") from error
    names = data.get("names") if isinstance(data, dict) else None
    if isinstance(names, dict):
        names = [names.get(str(class_id)) for class_id in range(len(names))]
    if not isinstance(names, list):
        return ()
    if not all(isinstance(name, str) for name in names):
        raise DataError(
            f"{path}: expected `names` to name each id from 0, found {quoted(data['names'])}",
            next_step="fix the file: a list of names, or a mapping from each id to its name",
        )
    return tuple(names)


def lines(labels: Sequence[Annotation], width: int, height: int) -> str:
    """Write labels as fmask's own label file: ids of `records.CLASSES`, a line end after each, empty for none.

    Raises:
        ValueError: a box is not inside the image.
    """
    return "".join(f"{label.class_id} {_normalised(label.box, width, height)}\n" for label in labels)


def _normalised(box: Box, width: int, height: int) -> str:
    if box.x_min < 0 or box.y_min < 0 or box.x_max > width or box.y_max > height:
        raise ValueError(f"a box must lie inside its image of {width} x {height} px, found {box.corners}")
    left, right = _on_grid(box.x_min / width, box.x_max / width)
    top, bottom = _on_grid(box.y_min / height, box.y_max / height)
    values = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    # One digit more than the grid has holds the halves, so that in decimals centre -/+ half the width is a corner
    # on the grid, exactly: rounding centre and width each on its own is what puts a corner at -0.0000005.
    return " ".join(f"{value / _GRID:.8f}" for value in values)


def _on_grid(low: float, high: float) -> tuple[int, int]:
    """Round two corners in 0..1 to the grid, at least one step apart."""
    first, last = round(low * _GRID), round(high * _GRID)
    if first < last:
        return first, last
    first = min(math.floor(low * _GRID), _GRID - 1)
    return first, first + 1


def labels_from(text: str, width: int, height: int) -> tuple[Annotation, ...]:
    """Read back what `lines` wrote.

    Raises:
        DataError: a line is not as fmask writes it.
    """
    return tuple(map(_label, rows(text, "", names=CLASSES, size=(width, height))))


def _label(row: PublishedRow) -> Annotation:
    next_step = "build the ensemble again: fmask build-dataset"
    if row.corners is None:
        raise DataError(f"line {row.number}: {row.cause}: {row.detail}", next_step=next_step)
    try:
        return Annotation(row.name, Box(*row.corners))
    except ValueError as error:
        raise DataError(f"line {row.number}: {error}", next_step=next_step) from error
