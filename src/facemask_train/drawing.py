"""How fmask draws: its colours, its font, and boxes that stand out on any picture. Knows pixels alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.records import Corners

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

LABELLED, DETECTED = "#00e0a0", "#ff9a1f"
GREY, INK = "#6b7280", "#1f2937"


def font(size: int, *, bold: bool = False) -> FreeTypeFont:
    """Return the font that ships with matplotlib, the same on every machine."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)


def outline(draw: ImageDraw, corners: Corners, colour: str, width: int) -> None:
    """Draw a box; a thick one has a dark rim."""
    x_min, y_min, x_max, y_max = map(round, corners)
    if width > 1:
        draw.rectangle((x_min - 1, y_min - 1, x_max + 1, y_max + 1), outline="black", width=width + 2)
    draw.rectangle((x_min, y_min, x_max, y_max), outline=colour, width=width)


def open_upright(path: Path) -> Image:
    """Return a picture as displayed, in RGB."""
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        return ImageOps.exif_transpose(opened).convert("RGB")
