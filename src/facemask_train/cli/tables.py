"""Tables on a terminal: one, and one that leaves columns out where there is no room for all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_WIDE = 10_000  # columns that any table fits in


@dataclass(frozen=True, slots=True)
class Rows:
    """A table; where the terminal is too narrow for its words, a paragraph for each row (a rich renderable)."""

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
        made.add_row(*map(Text, row))  # not as rich's markup: a file may be called a[b].pt
    return made


@dataclass(frozen=True, slots=True)
class Fitted:
    """A table that leaves out what is needed least where the terminal is narrow (a rich renderable).

    `columns` are (name, cells, rank): those of the highest rank go first, those of rank 0 stay.
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
