"""Read `results.csv`: a row for each finished epoch, with losses, learning rates and metrics. Does not import torch."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facemask_train.core.errors import DataError
from facemask_train.core.files import write_bytes

RESULTS = "results.csv"
LOSSES = ("box", "cls", "dfl")
Row = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class EpochHistory:
    """The rows of all finished epochs, and the planned number of epochs.

    The log record of each epoch carries it as its attribute `epochs`, for whatever shows the log.
    """

    rows: tuple[Row, ...]
    total: int


def read_rows(path: Path) -> list[dict[str, float]]:
    """Return the rows of a `results.csv`, without a last line that was written incompletely.

    Raises:
        DataError: a cell is not a number, or there is no column `epoch`.
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
            f"{path}: expected a table of numbers with a row for each epoch, found something else ({error})",
            next_step=f"remove the file, then: fmask train --resume --name {path.parent.name}",
        ) from error
    return found


def keep_rows(path: Path, epochs: int) -> None:
    """Truncate `results.csv` to its first `epochs` rows: those of the checkpoint."""
    if not path.exists():
        return
    lines = path.read_text(encoding="utf-8").splitlines()
    if epochs:
        write_bytes(path, "".join(f"{line}\n" for line in lines[: epochs + 1]).encode())
    else:
        path.unlink()  # even its header may be incomplete


def metric(row: Row, name: str, class_name: str = "") -> float:
    """Return a metric of an epoch, for all classes or one class; NaN if it was not measured."""
    return row.get(f"class/{class_name}/{name}" if class_name else f"metrics/{name}(B)", math.nan)


def best_row(rows: Sequence[Row]) -> Row | None:
    """Return the epoch of `best.pt`: the highest mAP50-95, the last among equals; None if none was validated."""
    measured = [row for row in rows if math.isfinite(metric(row, "mAP50-95"))]
    return max(reversed(measured), key=lambda row: metric(row, "mAP50-95"), default=None)


def epoch_seconds(rows: Sequence[Row]) -> list[float]:
    """Return the duration of each epoch. The table itself has the time since the start."""
    ends = [row.get("time", math.nan) for row in rows]
    return [end - begun for begun, end in zip([0.0, *ends], ends, strict=False)]


def class_names(rows: Sequence[Row]) -> list[str]:
    """Return the names of the classes that have their own columns."""
    keys = (key.split("/") for key in (rows[0] if rows else {}))
    return list(dict.fromkeys(parts[1] for parts in keys if parts[0] == "class" and len(parts) == 3))
