"""Drawing: colors, font, chart style, and boxes that stand out on any image."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.core.types import CLASSES, Corners

if TYPE_CHECKING:
    from PIL.Image import Image
    from PIL.ImageDraw import ImageDraw
    from PIL.ImageFont import FreeTypeFont

LABELED, DETECTED = "#00e0a0", "#ff9a1f"
GRAY, INK = "#6b7280", "#1f2937"
# One color for each class, in the order of `CLASSES`, with two to spare.
CLASS_COLORS = dict(zip(CLASSES, ("#2f8fff", "#ff8a1f", "#d64bc4", "#2fbf71"), strict=False))
# Colors that people with any color vision can distinguish (Okabe and Ito's set).
CHART_COLORS = dict(zip(CLASSES, ("#0072b2", "#d55e00", "#cc79a7", "#009e73"), strict=False))
_CHARTS: Any = {
    "font.size": 10.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRAY,
    "axes.labelcolor": INK,
    "axes.titlesize": 11.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "#e5e7eb",
    "xtick.color": GRAY,
    "ytick.color": GRAY,
    "text.color": INK,
    "legend.frameon": False,
}


@contextmanager
def chart_style() -> Iterator[None]:
    """Use the same style on every machine, and ignore the user's matplotlib settings."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_CHARTS)
        yield


def font(size: int, *, bold: bool = False) -> FreeTypeFont:
    """Return the font that ships with matplotlib, the same on every machine."""
    import matplotlib
    from PIL import ImageFont

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts", "ttf", name)), size)


def outline(draw: ImageDraw, corners: Corners, color: str, width: int) -> None:
    """Draw a box; a thick one gets a dark border."""
    x_min, y_min, x_max, y_max = map(round, corners)
    if width > 1:
        draw.rectangle((x_min - 1, y_min - 1, x_max + 1, y_max + 1), outline="black", width=width + 2)
    draw.rectangle((x_min, y_min, x_max, y_max), outline=color, width=width)


def tag(draw: ImageDraw, corners: Corners, text: str, color: str, size: int) -> None:
    """Write a text of `size` pixels on a filled background above a box, or inside its top if there is no room above."""
    letters = font(size)
    width, height = round(letters.getlength(text)) + size // 2, round(size * 1.35)
    left = max(0, min(round(corners[0]), draw.im.size[0] - width))
    top = round(corners[1]) - height
    top = top if top >= 0 else max(0, round(corners[1]))
    draw.rectangle((left, top, left + width, top + height), fill=color)
    draw.text((left + size // 4, top + height / 2), text, fill="black", font=letters, anchor="lm")


def open_upright(path: Path) -> Image:
    """Return an image as displayed, in RGB."""
    from PIL import Image, ImageOps

    with Image.open(path) as opened:
        return ImageOps.exif_transpose(opened).convert("RGB")
