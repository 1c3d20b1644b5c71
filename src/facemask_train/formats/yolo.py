"""YOLO text labels: `id x_center y_center width height`, as fractions of the image.

Reads labels beside the images, in a parallel `labels/` tree, and the layouts of darknet (`obj.names`, `obj.data`) and
Roboflow, wherever they are in the folder (`pairing.pair`). Rows are the non-blank lines of label files; the number of a
row is its line, from 1. `yolo_rows` lists the forms of a row that are read, and the causes of those that are not.

A `.txt` file is a label file if there is an image of its stem, if it is in a `labels` folder, or if all its non-blank
lines have five columns or more, the first an integer. For files that are usually something else (`classes.txt`,
`train.txt`, `README.txt`, ...) only the last applies.
"""

from __future__ import annotations

import logging
import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath

import yaml

from facemask_train.core.errors import DataError
from facemask_train.core.types import CLASSES, Annotation, Box, PublishedRow, SourceReading
from facemask_train.formats.box_readings import AmbiguousBoxesError, BoxReading, choose
from facemask_train.formats.limits import check_names_count, read_names_file, refused_label_file
from facemask_train.formats.media_types import suffix
from facemask_train.formats.pairing import (
    Claim,
    ImageAnnotation,
    Sizes,
    assemble,
    list_files,
    nothing_found,
    pair,
    quoted,
    text_of,
)
from facemask_train.formats.yolo_rows import (
    CENTERS,
    FACE_POINTS,
    ID,
    ParsedRow,
    has_class_names,
    numbered,
    parse_row,
    split,
)

log = logging.getLogger(__name__)

# Corners are written on a grid of 1e-7 of the image: within 0.0005 px on 10,000 px. A grid of this width is also
# coarse enough that center -/+ half the width stays inside [0, 1] when a tool computes in float32.
_GRID = 10**7

_NAMES_ENTRY = re.compile(r"^\s*names\s*=\s*(.+?)\s*$", re.MULTILINE)
_NO_LABELS = frozenset(["classes", "labels", "train", "valid", "val", "test", "readme", "names", "obj", "data"])


def read(folder: Path, images: Sequence[str], sizes: Sizes) -> SourceReading:
    """Read all label files of a folder.

    Raises:
        DataError: the folder has no label file, its names files are invalid or contradict each other, or its boxes can
            be read in two ways.
    """
    files = list_files(folder)
    names = read_names(folder, files)
    texts = [file for file in files if suffix(file) == ".txt"]
    owners = pair(images, dict.fromkeys(texts, ""))
    refused = {file: refusal for file in texts if (refusal := refused_label_file(folder, file))}
    usable = {file: found for file, found in owners.items() if file not in refused}
    keypoints = _keypoint_columns(folder, files)
    parsed = _parsed(folder, usable, names, keypoints)
    if not keypoints and _mostly_face_points(parsed):  # the faces in profile too, whose points are off the center
        parsed = _parsed(folder, usable, names, FACE_POINTS)
    if not parsed and not refused:
        raise nothing_found(folder, "YOLO label files (.txt)")
    reading = _reading(folder, parsed, owners, sizes)
    claims = [_claim(file, rows, owners[file], sizes, reading) for file, rows in parsed.items()]
    claims += [(refusal, owners[file]) for file, refusal in refused.items() if owners[file]]
    for file, refusal in refused.items():
        if not owners[file]:
            log.warning("%s: not read, no image has this name (%s)", file, refusal.detail)
    published, orphans = assemble(images, claims)
    by_name = names is None and has_class_names(row for rows in parsed.values() for row in rows)
    return SourceReading(published, orphans, () if by_name else names)


def evidence(folder: Path, files: Sequence[str]) -> str | None:
    """Return the first file that only this layout has."""
    texts = (file for file in files if suffix(file) == ".txt" and refused_label_file(folder, file) is None)
    return next((file for file in texts if _all_rows(text_of((folder / file).read_bytes()))), None)


def _mostly_face_points(parsed: Mapping[str, Sequence[ParsedRow]]) -> bool:
    """Return whether more rows are boxes with keypoints than polygons."""
    forms = Counter(form for rows in parsed.values() for one in rows for form in one.row.repair.split("+"))
    return forms["keypoints"] > forms["polygon"]


def _parsed(
    folder: Path, owners: Mapping[str, Sequence[str]], names: Sequence[str] | None, keypoints: int
) -> dict[str, list[ParsedRow]]:
    """Return the rows of each label file; other text files are left out."""
    parsed = {}
    for file, images in owners.items():
        text = text_of((folder / file).read_bytes())
        if _is_label_file(file, text, owned=bool(images)):
            parsed[file] = parsed_rows(text, file, names, keypoints)
        elif not _usually_something_else(file):
            log.warning("%s: not read, no image has this name and its lines are no labels", file)
    return parsed


def _reading(
    folder: Path, parsed: Mapping[str, Sequence[ParsedRow]], owners: Mapping[str, Sequence[str]], sizes: Sizes
) -> BoxReading:
    """Return what the four numbers of the boxes mean, throughout the source.

    Raises:
        DataError: they are not YOLO's, and several other readings fit.
    """
    named = [
        (owners[file][0], one.values)
        for file, rows in parsed.items()
        if owners[file] and owners[file][0] in sizes
        for one in rows
        if one.values is not None and one.reading is None
    ]
    found = choose([(values, sizes[path]) for path, values in named], CENTERS)
    if len(found) == 1:
        return found[0]
    raise AmbiguousBoxesError(folder, CENTERS, found, named)


def _claim(file: str, rows: Sequence[ParsedRow], images: Sequence[str], sizes: Sizes, reading: BoxReading) -> Claim:
    size = sizes.get(images[0]) if images else None
    return ImageAnnotation(file, tuple(one.placed(reading, size) for one in rows)), images


def _keypoint_columns(folder: Path, files: Sequence[str]) -> int:
    """Return how many columns of a row are keypoints: the product of `kpt_shape` in a yaml file."""
    for file in files:
        if suffix(file) in (".yaml", ".yml"):
            shape = _yaml(folder / file).get("kpt_shape")
            if isinstance(shape, list) and len(shape) == 2 and all(str(one).isdecimal() for one in shape):
                return int(shape[0]) * int(shape[1])
    return 0


def _is_label_file(file: str, text: str, *, owned: bool) -> bool:
    if _all_rows(text):
        return True
    return (owned or "labels" in file.split("/")[:-1]) and not _usually_something_else(file)


def _all_rows(text: str) -> bool:
    found = [split(line)[0] for _, line in numbered(text)]
    return bool(found) and all(len(columns) >= 5 and ID.fullmatch(columns[0]) for columns in found)


def _usually_something_else(file: str) -> bool:
    stem = PurePosixPath(file).stem.lower()
    return stem in _NO_LABELS or stem.startswith("readme")


def rows(
    text: str, file: str, *, names: Sequence[str] | None, size: tuple[int, int] | None
) -> tuple[PublishedRow, ...]:
    """Parse a label file of the plain form into one row per non-blank line. Never raises, whatever the text.

    Args:
        names: the class names by id, or None without a names file; the name of a row is then its id.
        size: the width and height of the image in pixels, or None if they are not known.
    """
    return tuple(one.placed(CENTERS, size) for one in parsed_rows(text, file, names))


def parsed_rows(text: str, file: str, names: Sequence[str] | None, keypoints: int = 0) -> list[ParsedRow]:
    """Parse a label file into one row per non-blank line, before it is known what the numbers of a box mean."""
    return [parse_row(line, PublishedRow(file, place), names, keypoints) for place, line in numbered(text)]


def read_names(folder: Path, files: Sequence[str]) -> tuple[str, ...] | None:
    """Return the class names by id, from every names file of a folder; None where there is none.

    Names files are `names` in a yaml, `classes.txt`, `*.names`, `*.labels`, and what `names =` in a `*.data` names.

    Raises:
        DataError: a names file cannot be read, or two of them contradict each other.
    """
    found = {file: names for file in files if (names := _names_in(folder, file, files))}
    if len(set(found.values())) > 1:
        listed = "; ".join(f"{file} says {', '.join(names)}" for file, names in found.items())
        raise DataError(
            f"{folder}: the names files contradict each other: {listed}",
            next_step="remove the wrong one from the folder, so that each id has one name",
        )
    return next(iter(found.values()), None)


def _names_in(folder: Path, file: str, files: Sequence[str]) -> tuple[str, ...]:
    path, kind = folder / file, suffix(file)
    if kind in (".yaml", ".yml"):
        return _yaml_names(path)
    if kind in (".names", ".labels") or path.name.lower() in ("classes.txt", "labels.txt"):
        return _listed_names(path)
    if kind == ".data" and (entry := _NAMES_ENTRY.search(text_of(read_names_file(path)))):
        # The path inside is relative to where darknet once ran; only the file's name still means something.
        name = entry[1].replace("\\", "/").rpartition("/")[2]
        named = [other for other in files if PurePosixPath(other).name == name]
        return _listed_names(folder / named[0]) if named else ()
    return ()


def _listed_names(path: Path) -> tuple[str, ...]:
    lines = [line.strip() for line in re.split(r"\r\n|\r|\n", text_of(read_names_file(path)).rstrip())]
    check_names_count(path, len(lines))
    if lines != [""] and "" in lines:
        raise DataError(
            f"{path}: expected one class name per line, found line {lines.index('') + 1} blank",
            next_step="remove the blank line if it is no class; it would shift every id after it",
        )
    return tuple(filter(None, lines))


def _yaml(path: Path) -> dict[str, object]:
    """Return the mapping in a yaml file, all scalars as text; empty if it is not a mapping.

    Raises:
        DataError: it is not valid yaml.
    """
    try:
        # The base loader leaves every scalar a text: a class called `no` stays `no`.
        data = yaml.load(text_of(read_names_file(path)), Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError, OverflowError) as error:
        raise DataError(f"{path}: not valid yaml: {error}", next_step="fix the file, or remove it") from error
    return data if isinstance(data, dict) else {}


def _yaml_names(path: Path) -> tuple[str, ...]:
    data = _yaml(path)
    names = data.get("names")
    if isinstance(names, (dict, list)):
        check_names_count(path, len(names))
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
    return "".join(f"{label.class_id} {_normalized(label.box, width, height)}\n" for label in labels)


def _normalized(box: Box, width: int, height: int) -> str:
    if box.x_min < 0 or box.y_min < 0 or box.x_max > width or box.y_max > height:
        raise ValueError(f"a box must lie inside its image of {width} x {height} px, found {box.corners}")
    left, right = _on_grid(box.x_min / width, box.x_max / width)
    top, bottom = _on_grid(box.y_min / height, box.y_max / height)
    values = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    # One digit more than the grid has holds the halves, so that in decimals center -/+ half the width is a corner
    # on the grid, exactly: rounding center and width each on its own is what puts a corner at -0.0000005.
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
