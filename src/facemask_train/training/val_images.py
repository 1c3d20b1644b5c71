"""Contact sheets of validation images with their annotations and detections, for the tracker."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from facemask_train.core.contact_sheet import BOX_LEGEND, Tile, TileBox, TileSection, save_contact_sheet, tile_image
from facemask_train.core.drawing import DETECTED, LABELED, open_upright
from facemask_train.core.types import ImageResult

_TILE, _COLUMNS, _ROWS = (300, 300), 4, 2  # pixels, tiles across, tiles down


def draw_batches(images: Sequence[ImageResult], ensemble: Path, confidence: float, folder: Path) -> list[Path]:
    """Write up to two sheets, `validation-1.jpg` and `validation-2.jpg`, and return their paths.

    Args:
        ensemble: the folder that the images' paths are relative to.
        confidence: detections at or below it are not drawn.
    """
    size = _COLUMNS * _ROWS
    sheets = [images[start : start + size] for start in range(0, min(len(images), 2 * size), size)]
    paths = [folder / f"validation-{number}.jpg" for number in range(1, len(sheets) + 1)]
    for path, shown in zip(paths, sheets, strict=True):
        save_contact_sheet(
            path,
            [TileSection("", [_tile(image, ensemble, confidence) for image in shown])],
            title="Validation images",
            note=f"detections above confidence {confidence:.2f}",
            legend=BOX_LEGEND,
            tile_size=_TILE,
            columns=_COLUMNS,
        )
    return paths


def _tile(result: ImageResult, ensemble: Path, confidence: float) -> Tile:
    labeled = [TileBox(label.box.corners, LABELED, thick=True) for label in result.labels]
    detected = [
        TileBox(found.corners, DETECTED, text=f"{found.name} {found.confidence:.2f}")
        for found in result.detections
        if found.confidence > confidence
    ]
    return Tile(tile_image(open_upright(ensemble / result.image), [*labeled, *detected], size=_TILE))
