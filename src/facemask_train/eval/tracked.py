"""Sends an evaluation's numbers, images and pages to the run's own tracker run, or to one of the weights' own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.eval.eval_target import Model

if TYPE_CHECKING:
    from facemask_train.train.tracking.tracker import Report


def send(
    kind: str, model: Model, key: str, values: Mapping[str, Any], images: Sequence[Path], folder: Path
) -> Report | None:
    """Send values, images and all files of a finished folder; nothing where the run was not tracked.

    Args:
        key: what the values' and images' names begin with: `evaluation/v5-test`.
        values: by name, as they are to be called.
    """
    if "none" in (kind, (model.run.get("tracker") or {}).get("kind")):
        return None
    from facemask_train.train.tracking.tracker import close_tracker, open_tracker
    from facemask_train.train.train import PROJECT

    known = model.run.get("tracker") or {"project": PROJECT, "run_id": model.digest[:8]}
    tracker = open_tracker(
        kind,
        model.folder,
        project=known["project"],
        name=model.folder.name,
        config={key: {"weights": model.digest}},
        run_id=known["run_id"],
    )
    tracker.summary(values)
    tracker.images(key, images)
    files = {path.name: path for path in sorted(folder.iterdir())}
    name = f"{model.folder.name}-{key}".replace("/", "-")
    tracker.artifact(name, "evaluation", files, metadata={"weights": model.digest})
    return close_tracker(tracker)
