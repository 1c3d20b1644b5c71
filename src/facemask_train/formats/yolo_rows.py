"""The rows of YOLO label files: a class, then a box, a polygon, or a box with a confidence or keypoints.

A row is parsed to its class and the four numbers of its box. What these mean is decided for all rows of a source
together (`box_readings`). A row that is not in the plain form, but can be read, says so in `repair`:

    confidence       a sixth column between 0 and 1, dropped
    polygon          three points or more; the box is the bounding box
    keypoints        a box with keypoints, dropped: as `kpt_shape` says, with visibility, or five points in the box
    decimal-comma    numbers such as `0,5`
    separators       columns separated by commas or semicolons
    class-name       the first column is the name of a class, not an id

A row that cannot be read has a cause:

    wrong-columns    the number of columns fits none of the forms above
    unknown-class    the id is not a whole number (`1.0` is one), or the names file has no such id
    not-a-number     a coordinate is text, NaN or infinite, or its corner is too large for a number
    no-image-size    the image cannot be read, so its size in pixels is not known
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from facemask_train.core.types import PublishedRow
from facemask_train.formats.box_readings import BoxReading, Values
from facemask_train.formats.pairing import number, quoted

ID = re.compile(r"0*([0-9]{1,9})(?:\.0*)?")
_DECIMAL_COMMA = re.compile(r"[+-]?[0-9]*,[0-9]+")

FACE_POINTS = 10
"""The columns of five points without visibility: eyes, nose and the corners of the mouth."""
_OFF_CENTER = 0.32  # of the extent of the points: a point on the edge of a convex shape is further off on some axis

CENTERS = BoxReading("centers", "fractions")
"""What the format defines: center and size, as fractions of the image."""


@dataclass(frozen=True, slots=True)
class ParsedRow:
    """A row with the four numbers of its box, or with the cause why it has none.

    `reading` is set where the form of the row decides what the numbers mean: the bounding box of a polygon is corners.
    """

    row: PublishedRow
    values: Values | None = None
    reading: BoxReading | None = None

    def placed(self, reading: BoxReading, size: tuple[int, int] | None) -> PublishedRow:
        """Return the row with its corners in pixels."""
        if self.values is None:
            return self.row
        if size is None:
            return replace(self.row, cause="no-image-size", detail="the image cannot be read", repair="")
        corners = (self.reading or reading).corners(self.values, size)
        if not all(map(math.isfinite, corners)):
            return replace(self.row, cause="not-a-number", detail=f"a corner out of range: {self._shown()}", repair="")
        repair = self.row.repair
        if self.reading is None and reading != CENTERS:
            repair = _joined(repair, f"box-as-{reading.layout}-in-{reading.unit}")
        return replace(self.row, corners=corners, repair=repair)

    def _shown(self) -> str:
        return quoted(" ".join(f"{value:g}" for value in self.values or ()))


def numbered(text: str) -> list[tuple[int, str]]:
    """Return the non-blank lines with their numbers. `str.splitlines` would also split at form feeds and the like."""
    lines = re.split(r"\r\n|\r|\n", text)
    return [(place, line) for place, line in enumerate(lines, start=1) if line.strip()]


def parse_row(line: str, row: PublishedRow, names: Sequence[str] | None, keypoints: int = 0) -> ParsedRow:
    """Parse one line. Never raises, whatever the text.

    Args:
        names: the class names by id, or None without a names file; the name of a row is then its id.
        keypoints: the number of keypoint columns (`kpt_shape` in the yaml of the source), 0 if there are none.
    """
    columns, repair = split(line)
    name = class_name(columns[0], names)
    if columns[0] == name and not ID.fullmatch(name):
        repair = _joined(repair, "class-name")
    values = [number(column) for column in columns[1:]]
    known = [value for value in values if value is not None]
    plain, numeric = len(values) == 4, len(known) == len(values)
    form, box = _box(known, keypoints) if numeric and not plain else ("", tuple(known))
    if not plain and not form:
        return _refused(row, name, "wrong-columns", f"expected 5 columns, found {len(columns)}")
    if not name:
        expected = "any whole number" if names is None else f"0 to {len(names) - 1}"
        detail = f"expected an id, {expected}, found {quoted(columns[0])}"
        return _refused(row, columns[0][:40], "unknown-class", detail)
    if not numeric:
        return _refused(row, name, "not-a-number", quoted(" ".join(columns[1:])))
    found = replace(row, name=name, repair=_joined(repair, form))
    a, b, c, d = box
    return ParsedRow(found, (a, b, c, d), BoxReading("corners", "fractions") if form.startswith("polygon") else None)


def split(line: str) -> tuple[list[str], str]:
    """Return the columns of a line, with a decimal point, and the repair that this took."""
    columns, repair = line.split(), ""
    if ";" in line:
        columns, repair = [part.strip() for part in line.split(";")], "separators"
    elif line.count(",") >= 4 and (len(columns) == 1 or all(column.endswith(",") for column in columns[:-1])):
        columns, repair = [part.strip() for part in line.split(",")], "separators"
    columns = [column for column in columns if column] or [""]
    if any(map(_DECIMAL_COMMA.fullmatch, columns[1:])):
        columns = [column.replace(",", ".") if _DECIMAL_COMMA.fullmatch(column) else column for column in columns]
        repair = _joined(repair, "decimal-comma")
    return columns, repair


def class_name(text: str, names: Sequence[str] | None) -> str:
    """Return the published name of an id (`01` and `1.0` are 1) or of a name; empty if there is no such class."""
    match = ID.fullmatch(text)
    if match is None:
        is_name = text in names if names is not None else number(text) is None
        return text if is_name else ""
    class_id = int(match[1])
    if names is None:
        return str(class_id)
    return names[class_id] if class_id < len(names) else ""


def _box(values: Sequence[float], keypoints: int) -> tuple[str, tuple[float, ...]]:
    """Return the form of a row that is more than a box, and its four numbers; an empty form if there is none."""
    if len(values) == 5 and 0 <= values[4] <= 1:
        return "confidence", tuple(values[:4])
    if keypoints and len(values) in (4 + keypoints, 5 + keypoints):
        return "keypoints", tuple(values[:4])
    if len(values) < 6:
        return "", ()
    if len(values) == 4 + FACE_POINTS and _are_face_points(values):
        return "keypoints", tuple(values[:4])
    if len(values) % 2 and (len(values) - 4) % 3 == 0 and {*values[6::3]} <= {0.0, 1.0, 2.0}:
        return "keypoints", tuple(values[:4])
    if len(values) % 2 and not 0 <= values[-1] <= 1:
        return "", ()
    points = values[:-1] if len(values) % 2 else values
    xs, ys = points[::2], points[1::2]
    form = "polygon" if len(values) % 2 == 0 else "polygon+confidence"
    return form, (min(xs), min(ys), max(xs), max(ys))


def _are_face_points(values: Sequence[float]) -> bool:
    """Return whether 14 values are a box and five points in it, and not a polygon of seven points.

    The first point of a polygon is on its edge, so it is far from the mean of the others; the center of a face is not.
    """
    for axis in (0, 1):
        center, side, points = values[axis], values[2 + axis], values[4 + axis :: 2]
        spread = max(points) - min(points)
        if max(abs(point - center) for point in points) > side / 2:
            return False
        if abs(sum(points) / len(points) - center) > _OFF_CENTER * spread:
            return False
    return True


def _joined(*words: str) -> str:
    return "+".join(filter(None, words))


def _refused(row: PublishedRow, name: str, cause: str, detail: str) -> ParsedRow:
    return ParsedRow(replace(row, name=name, cause=cause, detail=detail))


def has_class_names(parsed: Iterable[ParsedRow]) -> bool:
    """Return whether rows have the names of classes instead of ids."""
    return any("class-name" in one.row.repair.split("+") for one in parsed)
