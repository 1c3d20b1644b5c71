"""Draw a run's `curves.png`: losses, learning rate, metrics and time by epoch. Reads `results.csv` only."""

from __future__ import annotations

import io
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.drawing import CHART_COLORS, GRAY, chart_style
from facemask_train.core.files import write_bytes
from facemask_train.training.history.results import (
    LOSSES,
    RESULTS,
    Row,
    best_row,
    class_names,
    epoch_seconds,
    metric,
    read_rows,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FILE = "curves.png"
_FIRST, _SECOND, _BEST = "#0072b2", "#d55e00", "#009e73"  # from the same palette as the classes' colors
_OTHERS = ("#cc79a7", "#56b4e9", "#e69f00")
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of a panel: its name for the legend (or empty), its value at each epoch, color and style."""

    name: str
    values: Sequence[float]
    color: str = _FIRST
    style: str = "-"


def draw(folder: Path) -> list[Path]:
    """Draw a run's curves into its folder, and return the path of the image.

    Errors are logged, and no image is drawn: a drawing is not worth losing a run.
    """
    try:
        rows = read_rows(folder / RESULTS)
        if not rows:
            return []
        write_bytes(folder / FILE, png(folder.name, rows))
    except Exception as error:  # noqa: BLE001 - see above
        _log.warning("%s is left out: %s: %s", folder / FILE, type(error).__name__, error)
        return []
    return [folder / FILE]


def png(name: str, rows: Sequence[Row]) -> bytes:
    """Return the curves of a run with at least one row, as a PNG."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    best, stream = best_row(rows), io.BytesIO()
    with chart_style():
        figure = Figure(figsize=(16, 7.4), dpi=100, layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))
        figure.suptitle(f"{name}\n", x=0.008, ha="left", fontsize=15, fontweight="bold")
        figure.text(0.008, 0.938, _headline(rows, best), va="top", fontsize=10.5, color=GRAY)
        panels = _panels(rows)
        for axes, (title, lines) in zip(figure.subplots(2, 4).flat, panels.items(), strict=True):
            _panel(axes, title, [row["epoch"] for row in rows], lines)
            _mark(axes, best)
        figure.savefig(stream, metadata={"Software": None})
    return stream.getvalue()


def _headline(rows: Sequence[Row], best: Row | None) -> str:
    epochs = f"{len(rows)} epoch{'' if len(rows) == 1 else 's'}"
    if best is None:
        return f"{epochs}; none was validated"
    names = {"mAP50": "mAP 0.5", "mAP50-95": "mAP 0.5:0.95", "precision": "precision", "recall": "recall"}
    numbers = ", ".join(f"{label} {100 * metric(best, key):.1f}" for key, label in names.items())
    return f"{epochs}; the best, epoch {best['epoch']:.0f} (green), on the validation split, in percent: {numbers}"


def _panels(rows: Sequence[Row]) -> dict[str, list[_Line]]:
    """Return the titles and lines of the panels, in reading order."""

    def column(key: str) -> list[float]:
        return [row.get(key, math.nan) for row in rows]

    def scores(name: str, class_name: str = "") -> list[float]:
        return [100 * metric(row, name, class_name) for row in rows]

    losses = {
        f"Loss: {loss}": [
            _Line("train", column(f"train/{loss}_loss")),
            _Line("val", column(f"val/{loss}_loss"), _SECOND),
        ]
        for loss in LOSSES
    }
    classes = [
        _Line(kind if key == "mAP50" else "", scores(key, kind), color, style)
        for kind, color in _colored(class_names(rows)).items()
        for key, style in (("mAP50", "-"), ("mAP50-95", "--"))
    ]
    return losses | {
        "Learning rate": [_Line("", column("lr/pg0"))],
        "mAP, %": [_Line("0.5", scores("mAP50")), _Line("0.5:0.95", scores("mAP50-95"), _FIRST, "--")],
        "Precision and recall, %": [
            _Line("precision", scores("precision")),
            _Line("recall", scores("recall"), _SECOND),
        ],
        "AP 0.5 (dashed: 0.5:0.95), %": classes,
        "Seconds an epoch": [_Line("", epoch_seconds(rows))],
    }


def _colored(names: Sequence[str]) -> dict[str, str]:
    return {name: CHART_COLORS.get(name, _OTHERS[number % len(_OTHERS)]) for number, name in enumerate(names)}


def _panel(axes: Axes, title: str, epochs: Sequence[float], lines: Sequence[_Line]) -> None:
    from matplotlib.ticker import MaxNLocator

    for line in lines:
        points = [
            (x, y) for x, y in zip(epochs, line.values, strict=True) if math.isfinite(y)
        ]  # epochs that were not validated have none
        marker = "o" if len(points) == 1 else ""
        x, y = zip(*points, strict=True) if points else ((), ())
        axes.plot(x, y, line.style, marker=marker, color=line.color, linewidth=1.8, label=line.name)
    named = [line for line in lines if line.name]
    axes.set_title(title, pad=22)
    if named:
        axes.legend(ncols=2, fontsize=8, loc="lower left", bbox_to_anchor=(-0.03, 1.0), borderpad=0, handlelength=1.6)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=7))
    values = [value for line in lines for value in line.values if math.isfinite(value)]
    if title.endswith("%"):
        axes.set_ylim(0, 100)
    elif values and min(values) >= 0:
        axes.set_ylim(0, 1.05 * max(values) or 1)
    room = max(0.02 * (epochs[-1] - epochs[0]), 0.2)
    axes.set_xlim(epochs[0] - room, epochs[-1] + room)
    axes.set_xlabel("epoch", labelpad=1)


def _mark(axes: Axes, best: Row | None) -> None:
    """Mark the best epoch with a vertical line."""
    if best is not None:
        axes.axvline(best["epoch"], color=_BEST, linewidth=1.2, alpha=0.8, zorder=1)
