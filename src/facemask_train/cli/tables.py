"""Tables and line charts on a terminal; both adapt to its width."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions

_WIDE = 10_000  # columns in which every table fits


@dataclass(frozen=True, slots=True)
class Rows:
    """A table, or a paragraph for each row if the terminal is too narrow (a rich renderable)."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        from rich.text import Text

        made = _grid(self.title, self.columns, self.rows)
        if console.measure(made, options=options.update(max_width=_WIDE)).minimum <= options.max_width:
            yield made
            return
        yield from [Text(self.title)] if self.title else []
        for row in self.rows:
            cells = [cell.replace("\n", ", ") for cell in row]
            named = zip(self.columns, cells, strict=True)
            yield Text("  " + "; ".join(f"{name}: {cell}" if name else cell for name, cell in named))


def table(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    """Return a table for `Terminal.result`: the first column is text, the others numbers."""
    return Rows(title, columns, rows)


def _grid(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Any:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    made = Table(title=title or None, title_justify="left", box=box.SIMPLE_HEAD)
    for number, column in enumerate(columns):
        made.add_column(column, justify="right" if number else "left", overflow="fold")
    for row in rows:
        made.add_row(*map(Text, row))  # without rich's markup: a file can be called a[b].pt
    return made


@dataclass(frozen=True, slots=True)
class Fitted:
    """A table that leaves out the least important columns on a narrow terminal (a rich renderable).

    `columns` are (name, cells, rank): those of the highest rank are left out first, those of rank 0 never.
    """

    title: str
    columns: Sequence[tuple[str, Sequence[str], int]]

    def __rich_console__(self, console: Any, options: Any) -> Iterator[Any]:
        yield self.fitted(console, options.max_width)

    def fitted(self, console: Any, width: int) -> Any:
        """Return the widest table that fits, or the narrowest."""
        wide = console.options.update(max_width=_WIDE)
        for most in sorted({rank for _, _, rank in self.columns}, reverse=True):
            columns = [(name, cells) for name, cells, rank in self.columns if rank <= most]
            rows = list(zip(*(cells for _, cells in columns), strict=True))
            made = _grid(self.title, [name for name, _ in columns], rows)
            made.padding, made.pad_edge = (0, 1, 0, 0), False
            if console.measure(made, options=wide).maximum <= width:
                break
        return made


# ---- line charts ----

_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))  # the bits of a braille cell, by row and column
Dot = tuple[int, int]


def chart(values: Sequence[float], *, width: int, height: int, plain: bool = False) -> list[str]:
    """Return `height` lines of at most `width` characters: the values from left to right, and their range at the left.

    Values that are not finite leave a gap.

    Args:
        plain: asterisks, one dot a character; otherwise braille, two by four.
    """
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return ["no values".ljust(width)[:width].rstrip(), *[""] * (height - 1)]
    labels = [f"{edge:.3g}" for edge in (max(finite), min(finite))]
    margin = max(map(len, labels))
    across, down = (1, 1) if plain else (2, 4)
    columns = max(1, width - margin - 2)
    dots = _dots(values, columns * across, height * down)
    sides = [labels[0], *[""] * (height - 2), labels[1]] if height > 1 else labels[:1]
    bar = "|" if plain else "\u2502"
    cells = [_row(dots, row, columns, plain=plain) for row in range(height)]
    return [f"{side:>{margin}} {bar}{line}"[:width].rstrip() for side, line in zip(sides, cells, strict=True)]


def _dots(values: Sequence[float], columns: int, rows: int) -> set[Dot]:
    """Return the dots (column, row from the top) of a line through the values."""
    finite = [value for value in values if math.isfinite(value)]
    scale = max(map(abs, finite)) or 1.0  # divided first: the range of huge numbers would not be finite
    low, high = min(finite) / scale, max(finite) / scale

    def place(index: int) -> Dot:
        share = (values[index] / scale - low) / (high - low) if high > low else 0.5
        return round(index * (columns - 1) / max(1, len(values) - 1)), round((1 - share) * (rows - 1))

    points = [place(index) if math.isfinite(value) else None for index, value in enumerate(values)]
    dots = {point for point in points if point is not None}
    for one, other in pairwise(points):
        if one is not None and other is not None:
            dots.update(_between(one, other))
    return dots


def _between(one: Dot, other: Dot) -> Iterator[Dot]:
    across, down = other[0] - one[0], other[1] - one[1]
    steps = max(abs(across), abs(down), 1)
    return ((one[0] + round(across * step / steps), one[1] + round(down * step / steps)) for step in range(steps))


def _row(dots: set[Dot], row: int, columns: int, *, plain: bool) -> str:
    if plain:
        return "".join("*" if (column, row) in dots else " " for column in range(columns))
    bits = (
        sum(bit for y, pair in enumerate(_DOTS) for x, bit in enumerate(pair) if (2 * cell + x, 4 * row + y) in dots)
        for cell in range(columns)
    )
    return "".join(chr(0x2800 + found) if found else " " for found in bits)


@dataclass(frozen=True, slots=True)
class Charts:
    """Several charts by title, as many side by side as fit on the terminal (a rich renderable)."""

    shown: Sequence[tuple[str, Sequence[float]]]
    height: int = 6
    least: int = 34
    most: int = 60

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Any]:
        from rich.text import Text

        beside = max(1, min(len(self.shown), options.max_width // self.least))
        width = min(self.most, options.max_width // beside) - 2
        for start in range(0, len(self.shown), beside):
            blocks = [
                [title[:width], *chart(values, width=width, height=self.height, plain=options.ascii_only)]
                for title, values in self.shown[start : start + beside]
            ]
            for line in zip(*blocks, strict=True):
                yield Text("  ".join(part.ljust(width) for part in line).rstrip(), no_wrap=True)
            yield Text()
