"""The look of every HTML page that fmask writes: a page is its sections, a section its blocks.

A page is one file that opens from disk: its images and its style are in it, it asks the network for nothing and runs
no script. It is readable on a phone and on a wide screen, by day and by night. All text is escaped, so a file name may
hold anything. The same input gives the same bytes. Knows nothing of what the pages are about.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.core.files import storage_errors, write_bytes

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from PIL.Image import Image

SERIES = ("#2f8fff", "#ff8a1f", "#d94fc6", "#7b8794")
"""The colours of the first, second, ... series of a chart: told apart by colour-blind eyes too, on white and black."""

_TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One number that a reader should see first, and what it is of."""

    value: str
    label: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """An image in the page itself, as a data URI; sizes in pixels."""

    uri: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True, slots=True)
class Shown:
    """An image of a grid with its caption; where there is none, `gone` says why. `mark` stands before the caption."""

    image: EmbeddedImage | None
    caption: str
    mark: str = ""
    gone: str = "not to be had"
    shape: float = 1.5  # width : height where there is no image

    @property
    def ratio(self) -> str:
        """Return width : height, the share of a row that the image gets; extremes are held in."""
        found = self.image.width / self.image.height if self.image else self.shape
        return f"{min(4.0, max(0.4, found)):.3f}"


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images that belong side by side, under a title of their own."""

    title: str
    aside: str
    items: tuple[Shown, ...]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page, with a place in its list of contents."""

    title: str
    parts: tuple[Markup, ...]
    lede: str = ""

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-") or "section"


def page(
    title: str,
    sections: Iterable[Section],
    *,
    kicker: str = "fmask",
    lede: str = "",
    opening: Sequence[Markup] = (),
    footer: str = "",
) -> bytes:
    """Return a page.

    Args:
        kicker: a word or two above the title: what kind of page this is.
        opening: blocks between the title and the first section.
    """
    template = _environment().get_template("page.html")
    text = template.render(
        title=title, sections=list(sections), kicker=kicker, lede=lede, opening=opening, footer=footer, series=SERIES
    )
    return text.encode("utf-8", "replace")  # a file name that is no UTF-8 has lone surrogates


def write(path: Path, content: bytes) -> None:
    """Write a page, whole or not at all, and the folder that it is in.

    Raises:
        StorageError: it cannot be written.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)


# ---- blocks ----


def heading(text: str) -> Markup:
    """Return a heading inside a section."""
    return _block("heading", text)


def paragraph(text: str) -> Markup:
    return _block("paragraph", text)


def small(text: str) -> Markup:
    """Return a paragraph that explains, in small print."""
    return _block("small", text)


def key_figures(figures: Iterable[KeyFigure]) -> Markup:
    return _block("key_figures", list(figures))


def notes(lines: Iterable[str]) -> Markup:
    """Return what a reader should not miss."""
    return _block("notes", list(lines))


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], caption: str = "") -> Markup:
    """Return a table: the first column is text, the others numbers."""
    return _block("table", list(columns), [list(row) for row in rows], caption)


def legend(names: Sequence[str]) -> Markup:
    """Return which colour of `SERIES` is which."""
    return _block("legend", list(names))


def bars(rows: Sequence[tuple[str, Sequence[float]]], names: Sequence[str], caption: str = "") -> Markup:
    """Return horizontal bars, one for each row, stacked of one part for each of `names`."""
    longest = max((sum(values) for _, values in rows), default=0) or 1
    drawn = [
        {
            "name": name,
            "width": f"{100 * sum(values) / longest:.2f}",
            "shares": [f"{100 * value / (sum(values) or 1):.2f}" for value in values],
            "told": " + ".join(f"{value:,}" for value in values),
        }
        for name, values in rows
    ]
    return _block("bars", drawn, list(names), caption)


def histogram(
    ticks: Sequence[str], series: Sequence[tuple[str, Sequence[int]]], *, axis: str, caption: str = ""
) -> Markup:
    """Return upright columns, stacked, with the numbers to open below.

    Args:
        ticks: what stands under each column.
        series: by name, a value for each tick.
        axis: what the ticks are, with their unit.
    """
    names = [name for name, _ in series]
    stacks = list(zip(*(values for _, values in series), strict=True)) or [() for _ in ticks]
    highest = max(map(sum, stacks), default=0) or 1
    columns = [
        {
            "tick": tick,
            "count": f"{sum(stack):,}" if sum(stack) else "",
            "values": stack,
            "height": _height(stack, highest),
        }
        for tick, stack in zip(ticks, stacks, strict=True)
    ]
    numbers = {
        "columns": [axis, *names],
        "rows": [[tick, *(f"{value:,}" for value in stack)] for tick, stack in zip(ticks, stacks, strict=True)],
    }
    return _block("histogram", columns, names, caption, axis, numbers)


def _height(stack: Sequence[int], highest: int) -> str:
    return f"{88 * sum(stack) / highest:.2f}"  # percent; the rest is for the number above


def figure(image: EmbeddedImage, caption: str) -> Markup:
    """Return one image over the whole width."""
    return _block("figure", image, caption)


def grid(items: Iterable[Shown], *, height: int = 150) -> Markup:
    """Return captioned images in rows, each in its own shape, about `height` pixels high."""
    return _block("grid", list(items), height)


def sets(items: Iterable[ImageSet], *, height: int = 150) -> Markup:
    """Return sets of images, each framed."""
    return _block("sets", list(items), height)


def pair(*parts: Markup) -> Markup:
    """Return blocks beside each other where there is room, and else below each other."""
    from markupsafe import Markup

    return Markup('<div class="pair">{}</div>').format(
        Markup("").join(Markup("<div>{}</div>").format(p) for p in parts)
    )


def embed(image: Image, alt: str, *, quality: int = 80) -> EmbeddedImage:
    """Return an image as the page holds it, a JPEG of this quality."""
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=quality, optimize=True)
    uri = "data:image/jpeg;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
    return EmbeddedImage(uri, image.width, image.height, alt)


def macro(template: str, name: str, *arguments: Any) -> Markup:
    """Return what a macro of a template makes of its arguments, all text escaped."""
    made: Markup = getattr(_environment().get_template(template).module, name)(*arguments)
    return made


def _block(name: str, *arguments: Any) -> Markup:
    return macro("blocks.html", name, *arguments)


@cache
def _environment() -> Environment:
    return environment(_TEMPLATES)


def environment(folder: Path, *, escaped: bool = True) -> Environment:
    """Return what fills the templates of a folder: pages of HTML, or (not `escaped`) text as it stands."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not escaped,
    )
