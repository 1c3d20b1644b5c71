"""Shows what each class of a source looks like, so that a person can say what it means. Knows no model."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.drawing import open_upright
from facemask_train.core.files import write_bytes
from facemask_train.core.types import PublishedRow

if TYPE_CHECKING:
    from PIL.Image import Image

_TILE = 96  # pixels
_COLUMNS = 12


def class_sheet(folder: Path, rows: Iterable[tuple[str, PublishedRow]], target: Path) -> None:
    """Draw a contact sheet of crops, one band for each published class, so that a person can name them.

    Args:
        rows: (image path, annotation row with corners) pairs; the first readable crops of each class are drawn.
    """
    import io

    from PIL import Image, ImageDraw

    by_class: dict[str, list[tuple[str, PublishedRow]]] = {}
    for path, row in rows:
        by_class.setdefault(row.name, []).append((path, row))
    sheet = Image.new("RGB", (_COLUMNS * _TILE, max(1, len(by_class)) * (_TILE + 24)), "white")
    draw = ImageDraw.Draw(sheet)
    for band, name in enumerate(sorted(by_class)):
        top = band * (_TILE + 24)
        draw.text((4, top + 6), f"class {name!r}: {len(by_class[name])} boxes", fill="black")
        for column, crop in enumerate(_crops(folder, by_class[name])):
            sheet.paste(crop, (column * _TILE, top + 24))
    stream = io.BytesIO()
    sheet.save(stream, "JPEG", quality=90)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(target, stream.getvalue())


def _crops(folder: Path, rows: Sequence[tuple[str, PublishedRow]]) -> list[Image]:
    """Return the largest of a sample of boxes, as square tiles with a little of what is around them."""
    step = max(1, len(rows) // (8 * _COLUMNS))
    largest = sorted(rows[::step], key=lambda pair: -_shorter_side(pair[1]))[:_COLUMNS]
    return [_crop(folder / path, row) for path, row in largest]


def _shorter_side(row: PublishedRow) -> float:
    return min(row.corners[2] - row.corners[0], row.corners[3] - row.corners[1]) if row.corners else 0


def _crop(path: Path, row: PublishedRow) -> Image:
    image = open_upright(path)
    x_min, y_min, x_max, y_max = row.corners or (0.0, 0.0, *map(float, image.size))
    half = max(8.0, 0.65 * max(x_max - x_min, y_max - y_min))
    x, y = (x_min + x_max) / 2, (y_min + y_max) / 2
    return image.crop((round(x - half), round(y - half), round(x + half), round(y + half))).resize((_TILE, _TILE))
