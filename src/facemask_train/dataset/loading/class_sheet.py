"""A contact sheet of a source's published classes, so that a person can say what each one means."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from facemask_train.core.contact_sheet import Tile, TileSection, save_contact_sheet, square_window, tile_image
from facemask_train.core.drawing import open_upright
from facemask_train.core.types import PublishedRow

_TILE, _COLUMNS = (96, 96), 12  # pixels, tiles


def save_class_sheet(folder: Path, rows: Iterable[tuple[str, PublishedRow]], target: Path) -> None:
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
