"""The HTML pages of fmask: a page consists of sections, a section of blocks. The only renderer and style sheet.

A page is one file that opens from disk: images and styles are embedded, nothing is loaded from the network, and there
are no scripts; only the page of `labeling.py`, which a server on this machine answers, has one. A page is readable on a
phone and on a wide screen, in the light and the dark theme. All text is escaped,
so a file name may contain anything. Equal input gives equal bytes. Does not know what the pages are about.
"""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.files import storage_errors, write_bytes
from facemask_train.report import charts

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup
    from PIL.Image import Image

SERIES = ("#1f7ae0", "#d96500", "#c43fb0", "#6f7b88")
"""The colors of the series of a chart, as in `charts.css`: distinct for color-blind readers, on white and on black."""

TEMPLATES = Path(__file__).parent / "templates"


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """A number that a reader should see first, what it is, and a detail below it."""

    value: str
    label: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class EmbeddedImage:
    """An image as a data URI; sizes in pixels."""

    uri: str
    width: int
    height: int
    alt: str


@dataclass(frozen=True, slots=True)
class GridImage:
    """An image of a grid with its caption.

    Attributes:
        image: None if it cannot be shown; then `missing` says why.
        mark: a bold text before the caption.
        shape: width / height to leave free where there is no image.
    """

    image: EmbeddedImage | None
    caption: str
    mark: str = ""
    missing: str = "not available"
    shape: float = 1.5

    @property
    def ratio(self) -> str:
        """Return width / height, the share of a row that the image gets, within bounds."""
        found = self.image.width / self.image.height if self.image else self.shape
        return f"{min(4.0, max(0.4, found)):.3f}"


@dataclass(frozen=True, slots=True)
class ImageSet:
    """Images that belong side by side, with a title, a remark beside it, and a text."""

    title: str
    aside: str
    items: tuple[GridImage, ...]
    text: str = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table.

    Attributes:
        detail: a smaller text below the text.
        flag: a warning beside the text.
        chart: a chart beside the text.
        shade: 0 to 1, how strongly the cell is tinted; None for no tint.
    """

    text: str
    detail: str = ""
    flag: str = ""
    chart: Markup | None = None
    shade: float | None = None


@dataclass(frozen=True, slots=True)
class Row:
    """A row of a table; `kind` is empty, `total` (bold), `muted` (gray) or `group` (a heading within the table)."""

    cells: tuple[Cell, ...]
    kind: str = ""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of a page, with an entry in the page's navigation."""

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
    nonce: str = "",
) -> bytes:
    """Return a page.

    Args:
        kicker: a few words above the title: the kind of page.
        lede: a sentence below the title.
        opening: blocks between the title and the first section.
        nonce: only for a page that a local server answers: allows scripts with it, and requests to that server.
    """
    template = _environment().get_template("page.html")
    text = template.render(
        title=title, sections=list(sections), kicker=kicker, lede=lede, opening=opening, footer=footer, nonce=nonce
    )
    return text.encode("utf-8", "replace")  # a file name that is not UTF-8 has lone surrogates


def write(path: Path, content: bytes) -> None:
    """Write a page, completely or not at all, and create its folder.

    Raises:
        StorageError: it cannot be written.
    """
    with storage_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, content)


# ---- text ----


def heading(text: str) -> Markup:
    """Return a heading inside a section."""
    return _block("heading", text)


def paragraph(text: str) -> Markup:
    """Return a paragraph."""
    return _block("paragraph", text)


def lead(text: str) -> Markup:
    """Return a paragraph in larger type, for the one sentence that matters most."""
    return _block("lead", text)


def small(text: str) -> Markup:
    """Return an explanation in small print."""
    return _block("small", text)


def bullets(lines: Iterable[str]) -> Markup:
    """Return a list."""
    return _block("bullets", list(lines))


def notes(lines: Iterable[str], title: str = "") -> Markup:
    """Return a box with what a reader must not miss."""
    return _block("notes", list(lines), title)


def key_figures(figures: Iterable[KeyFigure]) -> Markup:
    """Return the numbers that a reader should see first."""
    return _block("key_figures", list(figures))


# ---- tables ----


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str | Cell] | Row], caption: str = "", *, text_columns: int = 1
) -> Markup:
    """Return a table; cells may be plain text.

    Args:
        text_columns: how many of the first columns contain text; the others contain numbers.
    """
    return _block("table", list(columns), [_row(row) for row in rows], caption, text_columns)


def group(title: str) -> Row:
    """Return a heading within a table."""
    return Row((Cell(title),), "group")


def _row(row: Sequence[str | Cell] | Row) -> Row:
    if isinstance(row, Row):
        return row
    return Row(tuple(cell if isinstance(cell, Cell) else Cell(cell) for cell in row))


# ---- charts ----


def legend(names: Sequence[str]) -> Markup:
    """Return the legend of the series 1, 2, ..."""
    return _block("legend", list(names))


def bars(rows: Sequence[tuple[str, Sequence[float]]], names: Sequence[str], caption: str = "") -> Markup:
    """Return horizontal bars, one for each row, stacked of one part for each of `names`."""
    longest = max((sum(values) for _, values in rows), default=0) or 1
    drawn = [
        (name, charts.stacked_bar(values, longest), " + ".join(f"{value:,}" for value in values))
        for name, values in rows
    ]
    return _block("bars", drawn, list(names), caption)


def histogram(
    ticks: Sequence[str], series: Sequence[tuple[str, Sequence[int]]], *, axis: str, caption: str = ""
) -> Markup:
    """Return a histogram with its numbers in a table that opens below it.

    Args:
        ticks: the text below each column.
        series: by name, a value for each tick.
        axis: what the ticks are, with their unit.
    """
    names = [name for name, _ in series]
    rows = [(tick, *(f"{values[number]:,}" for _, values in series)) for number, tick in enumerate(ticks)]
    chart = charts.histogram(ticks, series, axis=axis)
    return _block("histogram", chart, names, caption, table((axis, *names), rows))


def chart(title: str, drawn: Markup, caption: str = "") -> Markup:
    """Return a chart with a title above and a caption below it."""
    return _block("chart", title, drawn, caption)


def columns(*parts: Markup) -> Markup:
    """Return blocks side by side where there is room, and below each other where there is not."""
    return _block("columns", list(parts))


pair = columns


def scrolling(content: Markup) -> Markup:
    """Return a wide block that scrolls sideways on a narrow screen."""
    return _block("scrolling", content)


# ---- images ----


def figure(image: EmbeddedImage, caption: str = "") -> Markup:
    """Return one image over the whole width; a wide contact sheet scrolls sideways on a narrow screen."""
    return _block("figure", image, caption)


def grid(items: Iterable[GridImage], *, height: int = 150) -> Markup:
    """Return captioned images in rows, each in its own shape, about `height` pixels high."""
    return _block("grid", list(items), height)


def sets(items: Iterable[ImageSet], *, height: int = 150) -> Markup:
    """Return sets of images, each with a frame."""
    return _block("sets", list(items), height)


def embed(image: Image, alt: str, *, quality: int = 80) -> EmbeddedImage:
    """Return an image as the page contains it: a JPEG of this quality."""
    stream = io.BytesIO()
    image.convert("RGB").save(stream, "JPEG", quality=quality, optimize=True)
    return EmbeddedImage(_data_uri("jpeg", stream.getvalue()), image.width, image.height, alt)


def embed_file(path: Path, alt: str) -> EmbeddedImage:
    """Return an image file as the page contains it, with its bytes unchanged."""
    from PIL import Image

    with Image.open(path) as opened:
        width, height, kind = opened.width, opened.height, str(opened.format).lower()
    return EmbeddedImage(_data_uri(kind, path.read_bytes()), width, height, alt)


def _data_uri(kind: str, content: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(content).decode('ascii')}"


# ---- templates ----


def macro(template: str, name: str, *arguments: object) -> Markup:
    """Return the output of a template's macro, with all text escaped."""
    made: Markup = getattr(_environment().get_template(template).module, name)(*arguments)
    return made


def _block(name: str, *arguments: object) -> Markup:
    return macro("blocks.html", name, *arguments)


def labeling(questions: Markup, count: int, nonce: str) -> Markup:
    """Return the block in which questions are answered; the questions are JSON."""
    from markupsafe import Markup

    template = _environment().get_template("labeling.html")
    return Markup(template.render(questions=questions, count=count, nonce=nonce))


@cache
def _environment() -> Environment:
    return environment(TEMPLATES)


def environment(folder: Path, *, escaped: bool = True) -> Environment:
    """Return the environment for the templates of a folder: HTML, or plain text if not `escaped`."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=escaped,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=not escaped,
    )
