"""What the published classes of a source mean; if nobody knows, a contact sheet that shows them."""

from __future__ import annotations

import logging
import re
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from facemask_train.core.config import Source
from facemask_train.core.contact_sheet import Tile, TileSection, save_contact_sheet, square_window, tile_image
from facemask_train.core.drawing import open_upright
from facemask_train.core.errors import ClassMapError
from facemask_train.core.types import PublishedRow, SourceReading
from facemask_train.sources.source_record import source_folder

_log = logging.getLogger(__name__)
_TILE, _COLUMNS = (96, 96), 12  # pixels, tiles


def class_meanings(root: Path, name: str, source: Source, reading: SourceReading) -> Mapping[str, str]:
    """Return the meaning of each class name in the published rows.

    Raises:
        ClassMapError: the rows have ids without a class map, or the class map does not cover all their names.
    """
    by_id = bool(source.classes) and all(key.isdecimal() for key in source.classes)
    meanings = source.classes
    if by_id and reading.names:
        meanings = {reading.names[int(key)]: to for key, to in meanings.items() if int(key) < len(reading.names)}
    rows = [row for image in reading.images for row in image.rows if row.corners]
    if (reading.names is not None or by_id) and all(row.name in meanings for row in rows):
        return meanings
    raise _unknown_classes(root, name, source, reading)


def _unknown_classes(root: Path, name: str, source: Source, reading: SourceReading) -> ClassMapError:
    """Save a contact sheet of the classes, and return the error that asks for a class map."""
    pairs = [(image.path, row) for image in reading.images for row in image.rows if row.corners]
    histogram = Counter(row.name for _, row in pairs)
    sheet = _sheet_path(root, name)
    _save_class_sheet(source_folder(root, name) / "files", pairs, sheet)
    counts = ", ".join(f"{key}: {histogram[key]} boxes{_similar(key, source.classes)}" for key in sorted(histogram))
    example = ",".join(f"{key}:{source.classes.get(key, '?')}" for key in sorted(histogram))
    missing = [key for key in sorted(histogram) if key not in source.classes]
    have = "no names file" if reading.names is None else f"no meaning for {', '.join(missing)}"
    known = f"classes named {', '.join(source.classes)}" if source.classes else "a class map (classes: in sources.yaml)"
    return ClassMapError(
        f"{source_folder(root, name)}: expected {known}; found {have} ({counts})",
        next_step=f"look at {sheet}, then say what each class means instead of ?:"
        f" --class-map {shlex.quote(f'{name}={example}')} (mask, no_mask, worn_incorrectly, or ignore for no face)",
    )


def _similar(name: str, classes: Mapping[str, str]) -> str:
    """Suggest the class of the map that differs from a name only in case, blanks, dashes or underscores."""
    if name in classes:
        return ""
    known = {re.sub(r"[\s_-]+", "", one).casefold(): one for one in classes}
    found = known.get(re.sub(r"[\s_-]+", "", name).casefold())
    return f" (did you mean '{found}'?)" if found else ""


def show_classes(root: Path, name: str, rows: Mapping[str, Sequence[PublishedRow]]) -> None:
    """Save a contact sheet of a source's classes when it is first built: only a person can see that two are exchanged.

    Args:
        rows: the rows of usable labels, by image path.
    """
    sheet = _sheet_path(root, name)
    pairs = [(path, row) for path, found in rows.items() for row in found]
    if sheet.exists() or not pairs:
        return
    _save_class_sheet(source_folder(root, name) / "files", pairs, sheet)
    _log.warning("%s: look at %s to check that each class means what the class map says", name, sheet)


def _sheet_path(root: Path, name: str) -> Path:
    return root / "data" / "class-maps" / f"{name}.jpg"


def _save_class_sheet(folder: Path, rows: Iterable[tuple[str, PublishedRow]], target: Path) -> None:
    """Save a contact sheet of crops with one section for each published class.

    Args:
        folder: the source's files.
        rows: (image path, annotation row with corners) pairs.
        target: the JPEG to write.
    """
    by_class: dict[str, list[tuple[str, PublishedRow]]] = defaultdict(list)
    for path, row in rows:
        by_class[row.name].append((path, row))
    sections = [
        TileSection(f"class {name!r}: {len(found)} boxes", [_crop(folder / path, row) for path, row in _largest(found)])
        for name, found in sorted(by_class.items())
    ]
    save_contact_sheet(
        target, sections, title="Published classes", note=folder.parent.name, tile_size=_TILE, columns=_COLUMNS
    )


def _largest(rows: Sequence[tuple[str, PublishedRow]]) -> list[tuple[str, PublishedRow]]:
    """Return the rows with the largest boxes of a sample: reading every image would take too long."""
    step = max(1, len(rows) // (8 * _COLUMNS))
    return sorted(rows[::step], key=lambda pair: -_shorter_side(pair[1]))[:_COLUMNS]


def _shorter_side(row: PublishedRow) -> float:
    return min(row.corners[2] - row.corners[0], row.corners[3] - row.corners[1]) if row.corners else 0


def _crop(path: Path, row: PublishedRow) -> Tile:
    image = open_upright(path)
    window = square_window([row.corners], *image.size, around=1.3, smallest=16) if row.corners else None
    return Tile(tile_image(image, size=_TILE, window=window))
