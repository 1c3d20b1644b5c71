"""What the published classes of a source mean; if nobody knows, a contact sheet that shows them."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from facemask_train.core.config import Source
from facemask_train.core.contact_sheet import Tile, TileSection, save_contact_sheet, square_window, tile_image
from facemask_train.core.drawing import open_upright
from facemask_train.core.errors import ClassMapError
from facemask_train.core.types import CLASSES, PublishedRow, SourceReading
from facemask_train.sources.source_record import source_folder

_TILE, _COLUMNS = (96, 96), 12  # pixels, tiles


def class_meanings(root: Path, name: str, source: Source, reading: SourceReading) -> Mapping[str, str]:
    """Return the meaning of each class name in the published rows.

    Raises:
        ClassMapError: the rows have ids without a class map, or the class map has none of their names.
    """
    by_id = bool(source.classes) and all(key.isdecimal() for key in source.classes)
    if by_id and reading.names:
        return {reading.names[int(key)]: to for key, to in source.classes.items() if int(key) < len(reading.names)}
    rows = [row for image in reading.images for row in image.rows if row.corners]
    known = reading.names is not None or by_id
    if known and (not rows or any(row.name in source.classes for row in rows)):
        return source.classes
    raise _unknown_classes(root, name, source, reading)


def _unknown_classes(root: Path, name: str, source: Source, reading: SourceReading) -> ClassMapError:
    """Save a contact sheet of the classes, and return the error that asks for a class map."""
    pairs = [(image.path, row) for image in reading.images for row in image.rows if row.corners]
    histogram = Counter(row.name for _, row in pairs)
    sheet = root / "data" / "class-maps" / f"{name}.jpg"
    _save_class_sheet(source_folder(root, name) / "files", pairs, sheet)
    counts = ", ".join(f"{key}: {histogram[key]} boxes" for key in sorted(histogram))
    example = ",".join(f"{key}:{CLASSES[i % len(CLASSES)]}" for i, key in enumerate(sorted(histogram)))
    have = "no names file" if reading.names is None else "names that are not in the class map"
    known = f"classes named {', '.join(source.classes)}" if source.classes else "a class map (classes: in sources.yaml)"
    return ClassMapError(
        f"{source_folder(root, name)}: expected {known}; found {have} ({counts})",
        next_step=f"look at {sheet}, then name the classes, for example: --class-map {name}={example}",
    )


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
