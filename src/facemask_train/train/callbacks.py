"""What happens while the trainer trains: checks, an estimate, progress, and a row for the tracker at each epoch."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.core.errors import DataError, FmaskError
from facemask_train.core.types import Progress
from facemask_train.dataset.card import EnsembleCard
from facemask_train.train.history.results import Epochs, read_rows
from facemask_train.train.runs import duration
from facemask_train.train.tracking.tracker import Tracker

if TYPE_CHECKING:
    from facemask_train.train.trainer import Trainer

_MEASURED = 4  # images a step, when the time on a CPU is estimated
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Pace:
    """How fast images go through training, epoch by epoch."""

    began: float = 0.0
    seconds: float = 0.0
    images: int = 0
    batch: int = 0


@dataclass(frozen=True, slots=True)
class Run:
    """What the callbacks of one training share."""

    folder: Path
    card: EnsembleCard
    tracker: Tracker
    progress: Progress
    pace: Pace = field(default_factory=Pace)


def log_row(tracker: Tracker, row: Mapping[str, float]) -> None:
    step = int(row["epoch"])
    tracker.log(step, {key.removesuffix("(B)"): value for key, value in row.items() if key not in ("epoch", "time")})


def callbacks(run: Run) -> dict[str, list[Any]]:
    """Return the trainer's callbacks by event, with fmask's own behind them."""
    from ultralytics.utils.callbacks import get_default_callbacks

    def bound(function: Callable[[Run, Trainer], None]) -> Callable[[Trainer], None]:
        return lambda trainer: _guarded(function, run, trainer)

    found: dict[str, list[Any]] = get_default_callbacks()
    mine: dict[str, list[Callable[[Run, Trainer], None]]] = {
        "on_pretrain_routine_end": [_check_loaders, _estimate],
        "on_train_start": [_go_on_counting],
        "on_train_epoch_start": [_start_clock],
        "on_train_batch_end": [_tell_progress],
        "on_train_epoch_end": [_stop_clock],
        "on_fit_epoch_end": [_tell_epoch],
    }
    for event, functions in mine.items():
        found[event] += map(bound, functions)
    return found


def _guarded(function: Callable[[Run, Trainer], None], run: Run, trainer: Trainer) -> None:
    """Call a callback: what fmask raises on purpose stops the training, anything else is told and forgotten."""
    try:
        function(run, trainer)
    except FmaskError:
        raise
    except Exception as error:  # noqa: BLE001 - a number that cannot be shown is not worth a run
        _log.warning("training goes on without %s: %s: %s", function.__name__, type(error).__name__, error)


def _check_loaders(run: Run, trainer: Trainer) -> None:
    """Refuse to train on other images or faces than the manifest has: the package drops what it cannot read."""
    for split, loader in (("train", trainer.train_loader), ("val", trainer.test_loader)):
        labels = loader.dataset.labels
        found = (len(labels), sum(len(label["cls"]) for label in labels))
        expected = (run.card.splits[split], run.card.faces_in(split))
        if found != expected:
            raise DataError(
                f"{trainer.args.data}: expected {expected[0]} images with {expected[1]} faces in {split},"
                f" the loader found {found[0]} with {found[1]}",
                next_step=f"build the ensemble again: remove its folder, then fmask build-dataset --version "
                f"{run.card.name}",
            )


def _estimate(run: Run, trainer: Trainer) -> None:
    if trainer.device.type != "cpu":
        return
    from facemask_train.train.trainer import seconds_per_image

    images = min(_MEASURED, trainer.batch_size)
    model: Any = getattr(trainer.model, "module", trainer.model)  # of several processes, this one measures alone
    each = seconds_per_image(model, trainer.args.imgsz, images, trainer.autocast())
    each /= max(1, trainer.world_size)
    left = trainer.epochs - trainer.start_epoch
    epoch = run.card.splits.train + run.card.splits.val / 3  # validation is a forward pass alone
    _log.info(
        "on this CPU an image takes %.0f ms a training step: about %s for %d epochs of %d images",
        each * 1000,
        duration(each * epoch * left),
        left,
        run.card.splits.train,
    )


def _go_on_counting(_: Run, trainer: Trainer) -> None:
    """Let the time of a resumed run's rows go on from its last row."""
    rows = read_rows(trainer.csv)
    trainer.train_time_start -= rows[-1]["time"] if rows else 0.0


def _start_clock(run: Run, _: Trainer) -> None:
    run.pace.began, run.pace.batch = time.monotonic(), 0


def _stop_clock(run: Run, trainer: Trainer) -> None:
    run.pace.seconds += time.monotonic() - run.pace.began
    run.pace.images += len(trainer.train_loader.dataset)


def _tell_progress(run: Run, trainer: Trainer) -> None:
    run.pace.batch += 1
    batches = len(trainer.train_loader)
    done = trainer.epoch * batches + run.pace.batch
    run.progress(f"train, epoch {trainer.epoch + 1} of {trainer.epochs}", done, batches * trainer.epochs)


def _tell_epoch(run: Run, trainer: Trainer) -> None:
    rows = read_rows(trainer.csv)
    row = rows[-1]
    log_row(run.tracker, row)
    extra = {"epochs": Epochs(tuple(rows), trainer.epochs)}
    if trainer.fitness is None:
        _log.info("epoch %d of %d: not validated (val_every)", int(row["epoch"]), trainer.epochs, extra=extra)
        return
    _log.info(
        "epoch %d of %d: mAP50 %.3f, mAP50-95 %.3f, precision %.3f, recall %.3f",
        int(row["epoch"]),
        trainer.epochs,
        *(row[f"metrics/{key}(B)"] for key in ("mAP50", "mAP50-95", "precision", "recall")),
        extra=extra,
    )
