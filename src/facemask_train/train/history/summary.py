"""What was trained here: each run with its state, data, numbers and evaluations. Reads files, and changes none."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facemask_train.core.errors import DataError
from facemask_train.core.files import held, read_json
from facemask_train.train import runs
from facemask_train.train.history import results
from facemask_train.train.history.results import Row, best_row, metric
from facemask_train.train.tracking.tracker import METRICS

SCORES = "metrics.json"


@dataclass(frozen=True, slots=True)
class Past:
    """A run as its folder tells it.

    `state` is `finished`, `running`, `cut` (begun, and no process is at it), `weights` (no training made it),
    `damaged` (its `run.json` cannot be read), or what `run.json` says otherwise. `about` is `run.json`, `rows`
    `results.csv`, `scores` each evaluation's `metrics.json`; what cannot be read is empty, and told in `problems`.
    """

    path: Path
    state: str
    about: Mapping[str, Any]
    rows: tuple[Row, ...]
    scores: tuple[Mapping[str, Any], ...]
    problems: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.path.name

    def part(self, key: str) -> Mapping[str, Any]:
        """Return a mapping of `run.json`, empty where it is none."""
        found = self.about.get(key)
        return found if isinstance(found, Mapping) else {}

    @property
    def weights(self) -> str:
        """The name of what the run started from."""
        return str(self.part("settings").get("weights") or "").replace("\\", "/").rpartition("/")[2]

    @property
    def epochs(self) -> int:
        return len(self.rows) or _whole(self.about.get("epochs")) or 0

    @property
    def asked(self) -> int | None:
        return _whole(self.part("settings").get("epochs"))

    @property
    def best(self) -> dict[str, float | None]:
        """The four metrics of the best epoch on the validation split: as `run.json` has them, else `results.csv`."""
        row, said = best_row(self.rows) or {}, self.part("best")
        scored = {name: _number(said.get(f"metrics/{name}")) for name in METRICS}
        return {name: _number(metric(row, name)) if value is None else value for name, value in scored.items()}

    @property
    def seconds(self) -> float | None:
        found = _number(self.about.get("seconds"))
        return _number(self.rows[-1].get("time")) if found is None and self.rows else found

    @property
    def when(self) -> str:
        """When it was finished, or else started: ISO 8601, in UTC."""
        return str(self.about.get("finished") or self.about.get("started") or "")


def all_past(root: Path) -> list[Past]:
    """Return all runs, the newest first; those without a date come last."""
    found = [read_past(folder) for folder in runs.all_runs(root)]
    return sorted(found, key=lambda past: past.when, reverse=True)


def find_past(root: Path, name: str) -> Past:
    """Return a run by name, or the newest where it is empty.

    Raises:
        MissingError: there is none (of this name); the nearest is named.
    """
    if not name:
        everything = all_past(root)
        return everything[0] if everything else read_past(runs.last_run(root, "finished"))
    folder = runs.run_folder(root, name)
    if not (folder / runs.MARKER).exists():
        runs.read_run(folder)
    return read_past(folder)


def read_past(folder: Path) -> Past:
    """Return what a run's folder tells, whatever is wrong with it."""
    problems: list[str] = []
    about = _read(folder / runs.MARKER, problems)
    state = _state(folder, about) if about else "damaged"
    try:
        rows = tuple(results.read_rows(folder / results.FILE))
    except (DataError, OSError) as error:
        rows = ()
        problems.append(str(error))
    scores = [_read(path, problems) for path in sorted(folder.glob(f"evaluation/[!.]*/{SCORES}"))]
    return Past(folder, state, about, rows, tuple(one for one in scores if one), tuple(problems))


def _read(path: Path, problems: list[str]) -> Mapping[str, Any]:
    try:
        return read_json(path) or {}
    except (DataError, OSError) as error:
        problems.append(str(error))
        return {}


def _state(folder: Path, about: Mapping[str, Any]) -> str:
    if about.get("kind") == "weights":
        return "weights"
    if about.get("state") != "started":
        return str(about.get("state") or "damaged")
    return "running" if held(folder) else "cut"


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _number(value: Any) -> float | None:
    real = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if real and math.isfinite(value) else None


# ---- as JSON ----


def to_json(past: Past) -> dict[str, Any]:
    """Return a run with full values."""
    best = best_row(past.rows)
    return {
        "name": past.name,
        "path": str(past.path),
        "state": past.state,
        "ensemble": {key: past.part("ensemble").get(key) for key in ("name", "hash")},
        "weights": past.weights,
        "epochs": past.epochs,
        "epochs_asked": past.asked,
        "best": past.best,
        "best_epoch": None if best is None else int(best["epoch"]),
        "evaluations": [score_json(one) for one in past.scores],
        "device": past.about.get("device"),
        "seconds": past.seconds,
        "started": past.about.get("started"),
        "finished": past.about.get("finished"),
        "problems": list(past.problems),
    }


def score_json(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return the head of an evaluation: on what, and the numbers with their intervals."""
    head = {key: found.get(key) for key in ("ensemble", "split", "images", "boxes")}
    names = ("map50", "map50_95", "precision", "recall")
    bounds = found.get("intervals")
    intervals = {key: bounds.get(key) for key in names} if isinstance(bounds, Mapping) else {}
    return head | {key: _number(found.get(key)) for key in names} | {"intervals": intervals}


def whole_json(past: Past) -> dict[str, Any]:
    """Return all that is known of a run: `to_json`, `run.json` as `about`, and the table of epochs."""
    rows = [{key: _number(value) for key, value in row.items()} for row in past.rows]
    return to_json(past) | {"about": dict(past.about), "rows": rows}
