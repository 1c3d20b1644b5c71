"""Images of the validation split with their labels and detections, for the tracker and the eye."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.drawing import DETECTED, GREY, INK, LABELLED, font, open_upright, outline
from facemask_train.core.files import write_bytes
from facemask_train.core.types import Corners
from facemask_train.model.validation import ImageResult

if TYPE_CHECKING:
    from PIL.Image import Image

_TILE, _GAP, _COLUMNS, _ROWS, _HEADER = 300, 12, 4, 2, 44  # pixels, pixels, tiles across and down, pixels


def draw_batches(images: Sequence[ImageResult], ensemble: Path, confidence: float, folder: Path) -> list[Path]:
    """Write up to two sheets, `validation-1.jpg` and so on, and return their paths.

    Args:
        confidence: detections below it are not drawn.
    """
    size = _COLUMNS * _ROWS
    sheets = [images[start : start + size] for start in range(0, min(len(images), 2 * size), size)]
    paths = [folder / f"validation-{number}.jpg" for number in range(1, len(sheets) + 1)]
    for path, shown in zip(paths, sheets, strict=True):
        stream = io.BytesIO()
        _sheet(shown, ensemble, confidence).save(stream, "JPEG", quality=88)
        write_bytes(path, stream.getvalue())
    return paths


def _sheet(images: Sequence[ImageResult], ensemble: Path, confidence: float) -> Image:
    from PIL import Image, ImageDraw

    rows = -(-len(images) // _COLUMNS)
    sheet = Image.new("RGB", (_COLUMNS * (_TILE + _GAP) + _GAP, _HEADER + rows * (_TILE + _GAP)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((_GAP, 12), "labelled", fill=INK, font=font(16))
    draw.rectangle((_GAP + 78, 15, _GAP + 94, 29), outline=LABELLED, width=4)
    draw.text((_GAP + 120, 12), "detected", fill=INK, font=font(16))
    draw.rectangle((_GAP + 200, 15, _GAP + 216, 29), outline=DETECTED, width=4)
    draw.text((_GAP + 240, 14), f"above confidence {confidence:.2f}", fill=GREY, font=font(14))
    for index, image in enumerate(images):
        place = (_GAP + index % _COLUMNS * (_TILE + _GAP), _HEADER + index // _COLUMNS * (_TILE + _GAP))
        sheet.paste(_tile(image, ensemble, confidence), place)
    return sheet


def _tile(result: ImageResult, ensemble: Path, confidence: float) -> Image:
    from PIL import Image, ImageDraw

    image = open_upright(ensemble / result.image)
    scale = _TILE / max(image.size)
    tile = Image.new("RGB", (_TILE, _TILE), "#f3f4f6")
    tile.paste(image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale)))))
    draw = ImageDraw.Draw(tile)
    for label in result.labels:
        outline(draw, _scaled(label.box.corners, scale), LABELLED, 2)
    for found in result.detections:
        if found.confidence > confidence:
            corners = _scaled(found.corners, scale)
            outline(draw, corners, DETECTED, 1)
            text = f"{found.name} {found.confidence:.2f}"
            draw.text(
                (corners[0] + 2, corners[1] - 13),
                text,
                fill="white",
                font=font(11),
                stroke_width=2,
                stroke_fill="black",
            )
    return tile


def _scaled(corners: Corners, scale: float) -> Corners:
    x_min, y_min, x_max, y_max = corners
    return x_min * scale, y_min * scale, x_max * scale, y_max * scale
