"""Uploads the results of an evaluation or audit to the tracker run of the model's training, or to one of their own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.eval.eval_target import Model
from facemask_train.eval.gate import audit_values
from facemask_train.eval.records.audit import Audit
from facemask_train.eval.records.metrics import Metrics

if TYPE_CHECKING:
    from facemask_train.training.tracking.tracker import Report

_OWN_NAMES = ("precision", "recall", "map50", "map50_95")  # in the order of the tracker's METRICS


def upload(
    kind: str, model: Model, key: str, values: Mapping[str, float | None], images: Sequence[Path], folder: Path
) -> Report | None:
    """Upload values, images and all files of a finished folder; nothing if the run was not tracked.

    Args:
        key: the prefix of the values and images: `evaluation/v5-test`.
        values: by their names at the tracker.
    """
    if "none" in (kind, model.run.tracker.kind if model.run.tracker else ""):
        return None
    from facemask_train.training.runs import TrackedRun
    from facemask_train.training.tracking.tracker import close_tracker, open_tracker
    from facemask_train.training.train import PROJECT

    known = model.run.tracker or TrackedRun(kind, PROJECT, model.digest[:8])
    tracker = open_tracker(
        kind,
        model.folder,
        project=known.project,
        name=model.folder.name,
        config={key: {"weights": model.digest}},
        run_id=known.run_id,
    )
    tracker.summary(values)
    tracker.images(key, images)
    files = {path.name: path for path in sorted(folder.iterdir())}
    name = f"{model.folder.name}-{key}".replace("/", "-")
    tracker.artifact(name, "evaluation", files, metadata={"weights": model.digest})
    return close_tracker(tracker)


def tracked_metrics(key: str, metrics: Metrics) -> dict[str, float | None]:
    """Return the metrics under the names that training uses: `evaluation/v5-test/class/mask/recall`, ..."""
    from facemask_train.training.tracking.tracker import METRICS, metric_values

    names = dict(zip(METRICS, _OWN_NAMES, strict=True))
    overall = {name: metrics.overall.estimate(own) for name, own in names.items()}
    rows = {
        label: {name: row.estimate(own).value for name, own in names.items()}
        for label, row in metrics.per_class.items()
    }
    means = {name: estimate.value for name, estimate in overall.items()}
    values = {f"{key}/{name}": value for name, value in metric_values(means, rows).items()}
    for name, estimate in overall.items():
        low, high = estimate.interval or (None, None)
        values |= {f"{key}/metrics/{name}/low": low, f"{key}/metrics/{name}/high": high}
    return values


def tracked_rates(key: str, audit: Audit) -> dict[str, float | None]:
    """Return the rates of an audit under their names at the tracker."""
    values: dict[str, float | None] = {}
    for name, one in audit_values(audit).items():
        values[f"{key}/{name}"] = one.value
        if one.interval is not None:
            values |= {f"{key}/{name}/low": one.interval[0], f"{key}/{name}/high": one.interval[1]}
    return values
