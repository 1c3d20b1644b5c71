"""Train a run's remaining epochs, then finish it: score the best weights, draw images, update the record."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.records import to_json
from facemask_train.core.types import Progress
from facemask_train.dataset.card import EnsembleCard
from facemask_train.dataset.versions import DATA_YAML, write_trusted_yaml
from facemask_train.model.validation import Validation, validate
from facemask_train.training import runs
from facemask_train.training.callbacks import CallbackContext, Callbacks, log_row, make_callbacks
from facemask_train.training.history import curves
from facemask_train.training.history.results import RESULTS, keep_rows, read_rows
from facemask_train.training.parallel import distributed
from facemask_train.training.parallel.distributed import Assignment
from facemask_train.training.plan import TrainPlan, trainer_overrides
from facemask_train.training.runs import RunEvent, RunRecord, TrackedRun, TrainedOn
from facemask_train.training.tracking.tracker import close_tracker, open_tracker
from facemask_train.training.val_images import draw_batches

if TYPE_CHECKING:
    from facemask_train.training.loop import Note
    from facemask_train.training.trainer import Trainer

_SCORES = {"precision": "precision", "recall": "recall", "mAP50": "map50", "mAP50-95": "map50_95"}
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class OpenRun:
    """A run that is being trained: its folder, and its record, which `update` replaces and saves."""

    folder: Path
    record: RunRecord

    @property
    def plan(self) -> TrainPlan:
        assert self.record.plan is not None, "a training run has a plan"
        return self.record.plan

    @property
    def ensemble(self) -> TrainedOn:
        assert self.record.ensemble is not None, "a training run has an ensemble"
        return self.record.ensemble

    @property
    def tracker(self) -> TrackedRun:
        assert self.record.tracker is not None, "a training run has a tracker"
        return self.record.tracker

    def update(self, **changes: object) -> None:
        self.record = replace(self.record, **changes)  # type: ignore[arg-type]
        self.record.save(self.folder)

    def note(self, event: RunEvent) -> None:
        """Add an event to the record. One that changed the batch changes the plan too."""
        plan = self.plan if event.batch is None else replace(self.plan, batch=event.batch)
        self.update(events=(*self.record.events, replace(event, time=runs.now())), plan=plan)


def run_training(root: Path, run: OpenRun, card: EnsembleCard, progress: Progress) -> None:
    """Train from the initial weights or the last checkpoint, score the best weights, and finish the run."""
    record = run.record
    config = {
        "settings": None if record.settings is None else record.settings.model_dump(mode="json"),
        "seed": run.plan.seed,
        "ensemble": to_json(run.ensemble),
        "code": None if record.code is None else to_json(record.code),
        "packages": dict(record.packages),
        "device": record.device,
    }
    known = run.tracker
    tracker = open_tracker(
        known.kind, run.folder, project=known.project, name=run.folder.name, config=config, run_id=known.run_id
    )
    run.update(tracker=replace(known, run_id=tracker.run_id))
    context = CallbackContext(run.folder, card, tracker, progress)
    _log.info("%s (all choices and their reasons are in %s)", run.plan.step.describe(), runs.MARKER)
    exit_code = 1
    try:
        ensemble = root / run.ensemble.path
        _log_ensemble(context, ensemble)
        _train(root, run, context)
        _finish(run, context, ensemble / DATA_YAML)
        exit_code = 0
    finally:
        close_tracker(tracker, exit_code)


def _log_ensemble(context: CallbackContext, ensemble: Path) -> None:
    """Log the ensemble as the run's input in the tracker."""
    names = ("ensemble.json", "data.yaml", "manifest.parquet", "groups.parquet", "issues.parquet")
    files = {name: ensemble / name for name in names if (ensemble / name).is_file()}
    card = context.card
    metadata = {"hash": card.hash, "splits": to_json(card.splits), "faces": card.faces}
    context.tracker.artifact(f"ensemble-{card.name}", "dataset", files, metadata=metadata, used=True)


def _train(root: Path, run: OpenRun, context: CallbackContext) -> None:
    """Train the remaining epochs; with several processes, record the digests of their parameters."""
    from facemask_train.training.state import newest

    data = write_trusted_yaml(root / run.ensemble.path, run.folder / DATA_YAML, ("train", "val"))
    table, found = run.folder / RESULTS, newest(run.folder / "weights")
    checkpoint, stopped = "", False
    if found is None:
        table.unlink(missing_ok=True)  # otherwise each of several processes would remove it
    else:
        last, state = found
        checkpoint, stopped = str(last), bool(state["stopped"])
        keep_rows(table, state["epoch"] + 1)
        for row in read_rows(table):
            log_row(context.tracker, row)
    assignment = Assignment(
        root=str(root.resolve()),
        run=run.folder.name,
        started=run.record.started,
        project=run.tracker.project,
        plan=run.plan,
        data=str(data.resolve()),
        checkpoint=checkpoint,
        train=not stopped,
    )
    distributed.announce(assignment)
    if assignment.train:
        callbacks = make_callbacks(context)
        distributed.fit(
            lambda: build_trainer(assignment, run.plan.device, callbacks=callbacks, note=run.note), run.folder
        )
    digests = distributed.detach_main_process(trained=assignment.train)
    if digests:
        run.update(parameters=digests)


def build_trainer(
    assignment: Assignment, device: str, *, callbacks: Callbacks | None = None, note: Note = lambda _event: None
) -> Trainer:
    """Return the trainer of one process.

    Args:
        note: called with each event that belongs in the run's record.
    """
    from facemask_train.training.trainer import Trainer

    overrides = trainer_overrides(
        assignment.plan,
        data=assignment.data,
        save_dir=str(Path(assignment.root) / "runs" / assignment.run),
        project=assignment.project,
        device=device,
        checkpoint=assignment.checkpoint,
    )
    return Trainer(plan=assignment.plan, note=note, overrides=overrides, _callbacks=callbacks)


def _finish(run: OpenRun, context: CallbackContext, data: Path) -> None:
    """Score the best weights on the validation split, log them to the tracker, and complete the record."""
    best, plan, tracker = run.folder / "weights" / "best.pt", run.plan, context.tracker
    batch = 2 * plan.batch // len(plan.processes)  # as in the trainer's own validation, so that the padding is equal
    scored = validate(best, data, "val", imgsz=plan.imgsz, batch=batch, device=plan.device, progress=context.progress)
    rows = read_rows(run.folder / RESULTS)
    scores = {f"metrics/{key}": getattr(scored.mean, field) for key, field in _SCORES.items()}
    tracker.summary({f"best/{key}": value for key, value in scores.items()})
    tracker.images("validation", _draw_validation(scored, data.parent, run.folder), step=len(rows))
    tracker.images("curves", curves.draw(run.folder), step=len(rows))
    tracker.artifact(f"{run.folder.name}-best", "model", {"best.pt": best}, aliases=("best",), metadata=scores)
    run.update(
        epochs=len(rows),
        seconds=round(rows[-1]["time"], 1),
        images_per_second=context.throughput.images_per_second,
        best=scores,
        state="finished",
        finished=runs.now(),
    )


def _draw_validation(scored: Validation, ensemble: Path, folder: Path) -> list[Path]:
    """Draw the contact sheets of the validation images. If that fails, the run is finished without them."""
    try:
        return draw_batches(scored.images, ensemble, scored.confidence, folder)
    except OSError:  # a full disk must stop the run
        raise
    except Exception as error:  # noqa: BLE001 - a drawing is not worth losing a run
        _log.warning("the validation images are left out: %s: %s", type(error).__name__, error)
        return []
