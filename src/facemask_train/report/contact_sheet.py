"""Pages of crops: bands of tiles with captions, as one JPEG. Knows images and boxes, no scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.drawing import DETECTED, GREY, INK, LABELLED, font, outline
from facemask_train.core.types import Corners

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

_GAP, _MARGIN, _CAPTION, _HEADING, _HEADER = 12, 20, 40, 44, 84  # pixels
GOOD, BAD = "#0f766e", "#b91c1c"


@dataclass(frozen=True, eq=False, slots=True)
class Tile:
    """One square crop, what stands below it, and a note in grey under that."""

    image: Image
    caption: str
    note: str = ""
    colour: str = INK


@dataclass(frozen=True, eq=False, slots=True)
class Band:
    """A heading and its tiles."""

    title: str
    tiles: Sequence[Tile]


def draw_gallery(
    bands: Sequence[Band], title: str, note: str, path: Path, *, side: int = 196, columns: int = 6, boxes: bool = False
) -> None:
    """Draw bands of tiles below each other as a JPEG.

    Args:
        side: a tile's width and height in pixels.
        boxes: explain the colours of labelled and detected boxes.
    """
    from PIL import Image, ImageDraw

    width = 2 * _MARGIN + columns * (side + _GAP) - _GAP
    heights = [_HEADING + -(-len(band.tiles) // columns) * (side + _CAPTION + _GAP) for band in bands]
    page = Image.new("RGB", (width, _HEADER + sum(heights) + _MARGIN), "white")
    draw = ImageDraw.Draw(page)
    draw.text((_MARGIN, 18), title, fill=INK, font=font(22, bold=True))
    draw.text((_MARGIN, 50), note, fill=GREY, font=font(14))
    if boxes:
        _key(draw, width)
    top = _HEADER
    for band, height in zip(bands, heights, strict=True):
        draw.text((_MARGIN, top + 14), band.title, fill=INK, font=font(15, bold=True))
        for index, tile in enumerate(band.tiles):
            x = _MARGIN + index % columns * (side + _GAP)
            y = top + _HEADING + index // columns * (side + _CAPTION + _GAP)
            page.paste(tile.image.resize((side, side)), (x, y))
            draw.text((x, y + side + 4), shortened(draw, tile.caption, side, 13), fill=tile.colour, font=font(13))
            draw.text((x, y + side + 21), shortened(draw, tile.note, side, 11), fill=GREY, font=font(11))
        top += height
    page.save(path, "JPEG", quality=88)


def _key(draw: ImageDraw, width: int) -> None:
    x = width - _MARGIN
    for colour, text in ((DETECTED, "detected"), (LABELLED, "labelled")):
        x -= round(draw.textlength(text, font=font(14)))
        draw.text((x, 50), text, fill=INK, font=font(14))
        draw.rectangle((x - 24, 52, x - 8, 66), outline=INK, width=5)
        draw.rectangle((x - 23, 53, x - 9, 65), outline=colour, width=3)
        x -= 48


def shortened(draw: ImageDraw, text: str, width: int, size: int) -> str:
    """Return a text that is no wider than so many pixels, an ellipsis at its end where it was cut."""
    while draw.textlength(text, font=font(size)) > width:
        text = text.removesuffix("…")[:-1] + "…"
    return text


def window(boxes: Sequence[Corners], width: int, height: int, *, around: float = 2.0) -> tuple[int, int, int, int]:
    """Return the square around some boxes: `around` times as long as they are, 64 px or more, inside the image."""
    x_min, y_min = (min(box[axis] for box in boxes) for axis in (0, 1))
    x_max, y_max = (max(box[axis] for box in boxes) for axis in (2, 3))
    side = round(max(64.0, around * max(x_max - x_min, y_max - y_min)))
    left = _inside((x_min + x_max - side) / 2, side, width)
    top = _inside((y_min + y_max - side) / 2, side, height)
    return left, top, left + side, top + side


def _inside(start: float, side: float, length: int) -> int:
    """Move a window into the image; one that is longer than the image is centred on it."""
    return round((length - side) / 2 if side >= length else min(max(start, 0), length - side))


def crop(
    image: Image, around: tuple[int, int, int, int], boxes: Sequence[tuple[Corners, str, bool]], side: int = 196
) -> Image:
    """Return a square crop with boxes on it, later ones on top.

    Args:
        around: the crop's corners in the image's pixels.
        boxes: corners in the image's pixels, colour, and whether the line is thick.
    """
    from PIL import Image, ImageDraw

    tile = image.crop(around).resize((side, side), Image.Resampling.BICUBIC)
    draw, scale = ImageDraw.Draw(tile), side / (around[2] - around[0])
    for (x_min, y_min, x_max, y_max), colour, thick in boxes:
        placed = ((x_min - around[0]) * scale, (y_min - around[1]) * scale)
        ended = ((x_max - around[0]) * scale, (y_max - around[1]) * scale)
        outline(draw, (*placed, *ended), colour, 3 if thick else 1)
    return tile
