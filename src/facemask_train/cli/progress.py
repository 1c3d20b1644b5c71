"""Live output on a terminal: a progress bar with the time left, and above it the table of training epochs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from rich.console import Console, RenderableType
from rich.progress import BarColumn, MofNCompleteColumn, Progress, Task, TextColumn, TimeRemainingColumn
from rich.table import Column
from rich.text import Text

from facemask_train.cli.tables import Fitted
from facemask_train.training.history.results import LOSSES, EpochHistory, Row, best_row, epoch_seconds, metric

_NARROW = 64  # columns; on a narrower terminal, the bar has no counts
_AROUND = 6  # lines for the table's header, the bar, and some earlier output
_STEADY_SECONDS = 900.0  # the pace is averaged over this time, so that a validation hardly changes the time left


class Live(Progress):
    """A bar for one kind of work at a time. Once there are epochs, their table is shown too; it stays after the bar."""

    def __init__(self, console: Console) -> None:
        what = TextColumn("{task.description}", table_column=Column(no_wrap=True), markup=False)
        bar = BarColumn(bar_width=None, table_column=Column(max_width=40))
        self._all = (what, bar, MofNCompleteColumn(), _TimeLeft())
        self.epochs: EpochHistory | None = None
        self.screen = console
        super().__init__(*self._all, console=console, transient=True, speed_estimate_period=_STEADY_SECONDS)

    def move(self, what: str, done: int, total: int) -> None:
        """Show the progress. If only the description changes while the total stays the same, the pace is kept."""
        if not self.tasks:
            self.add_task(what, total=total)
        task = self.tasks[0]
        if task.total != total or done < task.completed:
            self.reset(task.id, total=total)
        self.update(task.id, description=what, completed=done)

    def show(self, epochs: EpochHistory) -> None:
        """Show the finished epochs."""
        self.epochs = epochs
        self.refresh()

    def stop(self) -> None:
        """Remove the bar, and keep the table."""
        super().stop()
        if self.epochs is not None:
            self.screen.print(self._table(self.epochs))
            self.epochs = None

    def get_renderables(self) -> Iterable[RenderableType]:
        if self.epochs is not None:
            yield self._table(self.epochs)
        self.columns = self._all if self.screen.width >= _NARROW else (*self._all[:2], self._all[-1])
        yield self.make_tasks_table(self.tasks)

    def _table(self, epochs: EpochHistory) -> Fitted:
        return epochs_table(epochs, max(1, self.screen.height - _AROUND))


class _TimeLeft(TimeRemainingColumn):
    def get_table_column(self) -> Column:
        return Column(no_wrap=True)

    def render(self, task: Task) -> Text:
        return Text.assemble(super().render(task), (" left", "progress.remaining"))


def epochs_table(epochs: EpochHistory, most: int) -> Fitted:
    """Return a table of at most `most` epochs: the last ones, and the best, which is marked."""
    best = best_row(epochs.rows)
    shown = _shown(epochs.rows, best, most)
    lengths = dict(zip((row["epoch"] for row in epochs.rows), epoch_seconds(epochs.rows), strict=True))

    def numbers(key: str, places: int) -> list[str]:
        return [_number(row.get(key, math.nan), places) for row in shown]

    return Fitted(
        "",
        [
            ("epoch", [f"{row['epoch']:>{len(str(epochs.total))}.0f}/{epochs.total}" for row in shown], 0),
            *((loss, numbers(f"train/{loss}_loss", 3), 2) for loss in LOSSES),
            *((name, [_number(metric(row, name), 3) for row in shown], 0) for name in ("mAP50", "mAP50-95")),
            *((name, [_number(metric(row, name), 3) for row in shown], 1) for name in ("precision", "recall")),
            ("rate", numbers("lr/pg0", 5), 4),
            ("sec", [_number(lengths[row["epoch"]], 1) for row in shown], 3),
            ("", ["best" if row is best else "" for row in shown], 0),
        ],
    )


def _shown(rows: Sequence[Row], best: Row | None, most: int) -> list[Row]:
    last = list(rows[-most:])
    if best is None or any(row is best for row in last):
        return last
    return [best, *last[1:]] if most > 1 else last


def _number(value: float, places: int) -> str:
    return f"{value:.{places}f}" if math.isfinite(value) else "-"
