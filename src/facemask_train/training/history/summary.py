"""Summaries of runs: state, data, metrics and evaluations, read from their folders. Never changes a file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.files import is_locked, read_json
from facemask_train.training import runs
from facemask_train.training.history.results import RESULTS, Row, best_row, metric, read_rows
from facemask_train.training.runs import RunRecord
from facemask_train.training.tracking.tracker import METRICS

SCORES = "metrics.json"
SHOWN_METRICS = ("map50", "map50_95", "precision", "recall")


@dataclass(frozen=True, slots=True)
class RunScore:
    """The main numbers of one evaluation, as far as its `metrics.json` has them.

    Attributes:
        metrics: `map50`, `map50_95`, `precision` and `recall`, 0 to 1.
        intervals: the lower and upper end of each metric's interval.
    """

    ensemble: str
    split: str
    images: int | None
    boxes: int | None
    metrics: Mapping[str, float | None]
    intervals: Mapping[str, tuple[float, float]]

    @classmethod
    def of(cls, found: Mapping[str, object]) -> RunScore:
        """Read the content of a `metrics.json` of any version of fmask."""
        bounds = found.get("intervals")
        return cls(
            str(found.get("ensemble") or ""),
            str(found.get("split") or ""),
            _count(found.get("images")),
            _count(found.get("boxes")),
            {name: _finite(found.get(name)) for name in SHOWN_METRICS},
            dict(_intervals(bounds if isinstance(bounds, Mapping) else {})),
        )

    def to_json(self) -> dict[str, object]:
        head = {"ensemble": self.ensemble, "split": self.split, "images": self.images, "boxes": self.boxes}
        intervals = {name: list(self.intervals[name]) if name in self.intervals else None for name in SHOWN_METRICS}
        return head | dict(self.metrics) | {"intervals": intervals}


@dataclass(frozen=True, slots=True)
class RunSummary:
    """What the folder of a run contains.

    Attributes:
        state: `finished`, `running`, `interrupted` (started, and no process works on it), `weights` (a checkpoint that
            no training here made), or `damaged` (`run.json` cannot be read).
        record: `run.json`, or None if it cannot be read.
        rows: `results.csv`.
        scores: the main numbers of each evaluation.
        problems: the errors of all files that could not be read.
    """

    path: Path
    state: str
    record: RunRecord | None
    rows: tuple[Row, ...]
    scores: tuple[RunScore, ...]
    problems: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def weights(self) -> str:
        """The file name of the initial weights, or of the given checkpoint."""
        if self.record is None:
            return ""
        return self.record.weights.file if self.record.weights else self.record.initial_weights

    @property
    def epochs(self) -> int:
        return len(self.rows) or (self.record.epochs if self.record else None) or 0

    @property
    def planned_epochs(self) -> int | None:
        plan = self.record.plan if self.record else None
        if plan is not None:
            return plan.epochs
        settings = self.record.settings if self.record else None
        return None if settings is None else settings.epochs

    @property
    def best(self) -> dict[str, float | None]:
        """The four metrics of the best epoch on val, from `run.json`, else from `results.csv`."""
        row, stored = best_row(self.rows) or {}, self.record.best if self.record else {}
        scored = {name: _finite(stored.get(f"metrics/{name}")) for name in METRICS}
        return {name: _finite(metric(row, name)) if value is None else value for name, value in scored.items()}

    @property
    def seconds(self) -> float | None:
        stored = self.record.seconds if self.record else None
        return _finite(self.rows[-1].get("time")) if stored is None and self.rows else stored

    @property
    def when(self) -> str:
        """When the run was finished, or else started: ISO 8601, in UTC."""
        return (self.record.finished or self.record.started) if self.record else ""


def list_runs(root: Path) -> list[RunSummary]:
    """Return all runs, the newest first. Those without a date come last."""
    found = [read_summary(folder) for folder in runs.all_runs(root)]
    return sorted(found, key=lambda run: run.when, reverse=True)


def find_run(root: Path, name: str) -> RunSummary:
    """Return a run by name; if the name is empty, the newest.

    Raises:
        MissingError: there is no run (of this name); the message names the closest one.
    """
    if not name:
        found = list_runs(root)
        return found[0] if found else read_summary(runs.last_run(root, "finished"))
    folder = runs.run_folder(root, name)
    if not (folder / runs.MARKER).exists():
        runs.read_run(folder)  # raises
    return read_summary(folder)


def read_summary(folder: Path) -> RunSummary:
    """Return the summary of a run. Files that cannot be read are listed in `problems`."""
    problems: list[str] = []
    record: RunRecord | None = None
    rows: tuple[Row, ...] = ()
    try:
        record = RunRecord.load(folder)
    except (DataError, MissingError, OSError) as error:
        problems.append(str(error))
    try:
        rows = tuple(read_rows(folder / RESULTS))
    except (DataError, OSError) as error:
        problems.append(str(error))
    scores = [_read_scores(path, problems) for path in sorted(folder.glob(f"evaluation/[!.]*/{SCORES}"))]
    state = "damaged" if record is None else _state(folder, record)
    return RunSummary(folder, state, record, rows, tuple(one for one in scores if one is not None), tuple(problems))


def _read_scores(path: Path, problems: list[str]) -> RunScore | None:
    try:
        found = read_json(path)
    except (DataError, OSError) as error:
        problems.append(str(error))
        return None
    return RunScore.of(found) if found else None


def _state(folder: Path, record: RunRecord) -> str:
    if record.kind == "weights":
        return "weights"
    if record.state == "finished":
        return "finished"
    return "running" if is_locked(folder) else "interrupted"


def _finite(value: object) -> float | None:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if real and math.isfinite(value) else None  # type: ignore[arg-type]


def _count(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _intervals(found: Mapping[str, object]) -> Iterator[tuple[str, tuple[float, float]]]:
    """Yield the intervals of the metrics that have one, by name."""
    for name in SHOWN_METRICS:
        ends = found.get(name)
        low, high = map(_finite, ends) if isinstance(ends, Sequence) and len(ends) == 2 else (None, None)
        if low is not None and high is not None:
            yield name, (low, high)


# ---- as JSON ----


def to_json(run: RunSummary) -> dict[str, object]:
    """Return a summary as JSON values, with full precision."""
    best, record = best_row(run.rows), run.record
    ensemble = record.ensemble if record else None
    return {
        "name": run.name,
        "path": str(run.path),
        "state": run.state,
        "ensemble": {"name": ensemble.name if ensemble else None, "hash": ensemble.hash if ensemble else None},
        "weights": run.weights,
        "epochs": run.epochs,
        "planned_epochs": run.planned_epochs,
        "best": run.best,
        "best_epoch": None if best is None else int(best["epoch"]),
        "evaluations": [one.to_json() for one in run.scores],
        "device": (record.device if record else "") or None,
        "seconds": run.seconds,
        "started": (record.started if record else "") or None,
        "finished": (record.finished if record else "") or None,
        "problems": list(run.problems),
    }


def full_json(run: RunSummary) -> dict[str, object]:
    """Return the summary, `run.json` as `record`, and the table of epochs as `rows`."""
    rows = [{key: _finite(value) for key, value in row.items()} for row in run.rows]
    return to_json(run) | {"record": run.record.to_json() if run.record else None, "rows": rows}
