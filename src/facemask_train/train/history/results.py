"""What a run's `results.csv` holds: a row for each finished epoch, with losses, rates and metrics. Knows no torch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facemask_train.core.errors import DataError
from facemask_train.core.files import write_bytes

FILE = "results.csv"
LOSSES = ("box", "cls", "dfl")
Row = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Epochs:
    """What training has to show when an epoch is over: all rows so far, and how many epochs were asked for.

    It goes with that epoch's log record, as its `epochs`: so it reaches whatever the log reaches.
    """

    rows: tuple[Row, ...]
    asked: int


def read_rows(path: Path) -> list[dict[str, float]]:
    """Return the rows of a `results.csv`; a last line that a kill cut short is left out.

    Raises:
        DataError: a cell is no number, or there is no column of epochs.
    """
    if not path.exists():
        return []
    try:
        text = path.read_text(encoding="utf-8")
        lines = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
        header, *rows = lines or [["epoch"]]
        found = [dict(zip(header, map(float, row), strict=True)) for row in rows if len(row) == len(header)]
        if "epoch" not in header:
            raise ValueError("no column is named epoch")
    except (ValueError, csv.Error) as error:
        raise DataError(
            f"{path}: expected a table of numbers, a row for each epoch, found something else ({error})",
            next_step=f"remove the file, then: fmask train --resume --name {path.parent.name}",
        ) from error
    return found


def keep_rows(path: Path, epochs: int) -> None:
    """Cut `results.csv` back to its first `epochs` rows: those that the checkpoint knows of."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    if epochs:
        write_bytes(path, "".join(f"{line}\n" for line in lines[: epochs + 1]).encode())
    else:
        path.unlink()  # a kill may have cut even its header short


def metric(row: Row, name: str, kind: str = "") -> float:
    """Return a metric of an epoch, for all classes or for one `kind`; NaN where it was not measured."""
    return row.get(f"class/{kind}/{name}" if kind else f"metrics/{name}(B)", math.nan)


def best_row(rows: Sequence[Row]) -> Row | None:
    """Return the epoch whose weights are `best.pt`: the best mAP50-95, the last among equals; None without any."""
    measured = [row for row in rows if math.isfinite(metric(row, "mAP50-95"))]
    return max(reversed(measured), key=lambda row: metric(row, "mAP50-95"), default=None)


def seconds_each(rows: Sequence[Row]) -> list[float]:
    """Return how long each epoch took; the table itself counts from the start."""
    ends = [row.get("time", math.nan) for row in rows]
    return [end - begun for begun, end in zip([0.0, *ends], ends, strict=False)]


def kinds(rows: Sequence[Row]) -> list[str]:
    """Return the names of the classes that have columns of their own."""
    keys = (key.split("/") for key in (rows[0] if rows else {}))
    return list(dict.fromkeys(parts[1] for parts in keys if parts[0] == "class" and len(parts) == 3))
