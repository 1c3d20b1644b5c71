"""Contact sheets: one JPEG with a title and sections of image tiles. The only code that lays out tiles.

A caller prepares each tile's image (`tile_image` crops, scales and draws boxes), and `save_contact_sheet` arranges
the tiles. Does not decode files.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.drawing import DETECTED, GRAY, INK, LABELED, font, outline, tag
from facemask_train.core.files import write_bytes
from facemask_train.core.types import Corners

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw

GOOD, BAD = "#0f766e", "#b91c1c"
BOX_LEGEND = {"labeled": LABELED, "detected": DETECTED}
"""The legend of a sheet that shows annotations and detections."""

_BACKGROUND = "#f3f4f6"  # the background of a tile
_GAP, _MARGIN = 12, 20  # pixels between tiles, and around the sheet
_HEADER, _SECTION_HEADER = 84, 44  # pixels: the title and its note; a section's heading
_CAPTION, _NOTE = 20, 20  # pixels: the line below a tile, and the one below that
_QUALITY = 88

Window = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels of an image; may reach beyond its edges."""


@dataclass(frozen=True, slots=True)
class TileBox:
    """A box to draw: its corners in pixels of the original image, and a text above it if there is one."""

    corners: Corners
    color: str
    thick: bool = False
    text: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class Tile:
    """One image, the caption below it, and a note in gray below that."""

    image: Image
    caption: str = ""
    note: str = ""
    color: str = INK


@dataclass(frozen=True, eq=False, slots=True)
class TileSection:
    """A heading (none if empty) with a note in gray beside it, and the tiles below it."""

    title: str
    tiles: Sequence[Tile]
    note: str = ""

    def header(self) -> int:
        """Return the height of the heading in pixels."""
        return _SECTION_HEADER if self.title else 0

    def below(self) -> int:
        """Return the height in pixels of the text below each tile."""
        captions, notes = any(tile.caption for tile in self.tiles), any(tile.note for tile in self.tiles)
        return captions * _CAPTION + notes * _NOTE


def save_contact_sheet(
    path: Path,
    sections: Sequence[TileSection],
    *,
    title: str,
    note: str = "",
    legend: Mapping[str, str] | None = None,
    tile_size: tuple[int, int] = (196, 196),
    columns: int = 6,
) -> None:
    """Write a contact sheet as a JPEG: the sections one below the other, their tiles in rows.

    Args:
        note: a line in gray below the title.
        legend: the meaning of box colors, by name, such as `BOX_LEGEND`.
        tile_size: width and height of a tile in pixels; an image of another size is scaled to fit.

    Raises:
        OSError: the file cannot be written.
    """
    stream = io.BytesIO()
    _paint(sections, title, note, legend or {}, tile_size, columns).save(stream, "JPEG", quality=_QUALITY)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_bytes(path, stream.getvalue())


def _paint(
    sections: Sequence[TileSection],
    title: str,
    note: str,
    legend: Mapping[str, str],
    tile_size: tuple[int, int],
    columns: int,
) -> Image:
    from PIL import Image, ImageDraw

    width, height = tile_size
    heights = [one.header() + -(-len(one.tiles) // columns) * (height + one.below() + _GAP) for one in sections]
    across = max(
        2 * _MARGIN + columns * (width + _GAP) - _GAP, 2 * _MARGIN + round(font(22, bold=True).getlength(title))
    )
    sheet = Image.new("RGB", (across, _HEADER + sum(heights) + _MARGIN), "white")
    pen = ImageDraw.Draw(sheet)
    pen.text((_MARGIN, 18), title, fill=INK, font=font(22, bold=True))
    pen.text((_MARGIN, 50), note, fill=GRAY, font=font(14))
    _paint_legend(pen, across, legend)
    top = _HEADER
    for section, section_height in zip(sections, heights, strict=True):
        _paint_section(sheet, pen, section, top, tile_size, columns)
        top += section_height
    return sheet


def _paint_legend(pen: ImageDraw, across: int, legend: Mapping[str, str]) -> None:
    x = across - _MARGIN
    for text, color in reversed(list(legend.items())):
        x -= round(pen.textlength(text, font=font(14)))
        pen.text((x, 50), text, fill=INK, font=font(14))
        outline(pen, (x - 23, 53, x - 9, 65), color, 3)
        x -= 48


def _paint_section(
    sheet: Image, pen: ImageDraw, section: TileSection, top: int, tile_size: tuple[int, int], columns: int
) -> None:
    width, height = tile_size
    if section.title:
        pen.text((_MARGIN, top + 14), section.title, fill=INK, font=font(15, bold=True))
        beside = _MARGIN + round(font(15, bold=True).getlength(section.title)) + 12
        pen.text((beside, top + 16), section.note, fill=GRAY, font=font(13))
    for (x, y), tile in zip(_positions(section, top, tile_size, columns), section.tiles, strict=True):
        image = tile.image if tile.image.size == tile_size else tile_image(tile.image, size=tile_size)
        sheet.paste(image, (x, y))
        pen.text((x, y + height + 4), shortened(tile.caption, width, 13), fill=tile.color, font=font(13))
        pen.text((x, y + height + 21), shortened(tile.note, width, 11), fill=GRAY, font=font(11))


def _positions(section: TileSection, top: int, tile_size: tuple[int, int], columns: int) -> Iterator[tuple[int, int]]:
    """Yield the top left corner of each tile of a section."""
    width, height = tile_size
    for index in range(len(section.tiles)):
        row, column = divmod(index, columns)
        yield (
            _MARGIN + column * (width + _GAP),
            top + section.header() + row * (height + section.below() + _GAP),
        )


def shortened(text: str, width: int, size: int) -> str:
    """Return a text that is at most `width` pixels wide, truncated with an ellipsis if necessary."""
    while font(size).getlength(text) > width:
        text = text.removesuffix("…")[:-1] + "…"
    return text


# ---- tiles ----


def tile_image(
    image: Image, boxes: Sequence[TileBox] = (), *, size: tuple[int, int] = (196, 196), window: Window | None = None
) -> Image:
    """Return a part of an image, scaled to fit a tile and centered in it, with boxes; later boxes are on top.

    Args:
        boxes: in pixels of the whole image.
        window: the part to show; the whole image if not given.
    """
    from PIL import Image, ImageDraw

    left, top, right, bottom = window or (0, 0, image.width, image.height)
    scale = min(size[0] / (right - left), size[1] / (bottom - top))
    shown = max(1, round((right - left) * scale)), max(1, round((bottom - top) * scale))
    part = image.crop((left, top, right, bottom)).convert("RGB").resize(shown, Image.Resampling.BICUBIC)
    pen = ImageDraw.Draw(part)
    for box in boxes:
        x_min, y_min, x_max, y_max = box.corners
        corners = ((x_min - left) * scale, (y_min - top) * scale, (x_max - left) * scale, (y_max - top) * scale)
        outline(pen, corners, box.color, 3 if box.thick else 1)
        if box.text:
            tag(pen, corners, box.text, box.color, 11)
    tile = Image.new("RGB", size, _BACKGROUND)
    tile.paste(part, ((size[0] - shown[0]) // 2, (size[1] - shown[1]) // 2))
    return tile


def square_window(
    boxes: Sequence[Corners], width: int, height: int, *, around: float = 2.0, smallest: float = 64.0
) -> Window:
    """Return a square around some boxes, moved inside the image if it fits.

    Args:
        width, height: of the image in pixels.
        around: the side of the square, as a multiple of the longer side of the area that the boxes cover.
        smallest: the smallest side in pixels.
    """
    x_min, y_min = (min(box[axis] for box in boxes) for axis in (0, 1))
    x_max, y_max = (max(box[axis] for box in boxes) for axis in (2, 3))
    side = round(max(smallest, around * max(x_max - x_min, y_max - y_min)))
    left = _inside((x_min + x_max - side) / 2, side, width)
    top = _inside((y_min + y_max - side) / 2, side, height)
    return left, top, left + side, top + side


def _inside(start: float, side: float, length: int) -> int:
    """Move a window into the image; center a window that is longer than the image."""
    return round((length - side) / 2 if side >= length else min(max(start, 0), length - side))
