"""The trainer's callbacks: check the loaders, estimate the duration, report progress, and log each epoch."""

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
from facemask_train.training.history.results import EpochHistory, read_rows
from facemask_train.training.runs import duration
from facemask_train.training.tracking.tracker import Tracker

if TYPE_CHECKING:
    from facemask_train.training.trainer import Trainer

_MEASURED = 4  # images per step when the duration on a CPU is estimated
_log = logging.getLogger(__name__)


@dataclass(slots=True)
class Throughput:
    """Counts the images that went through training, and the time that they took."""

    epoch_start: float = 0.0
    seconds: float = 0.0
    images: int = 0
    batch: int = 0

    @property
    def images_per_second(self) -> float:
        return round(self.images / self.seconds, 2) if self.seconds else 0.0


@dataclass(frozen=True, slots=True)
class CallbackContext:
    """What the callbacks of one training share."""

    folder: Path
    card: EnsembleCard
    tracker: Tracker
    progress: Progress
    throughput: Throughput = field(default_factory=Throughput)


Callback = Callable[[CallbackContext, "Trainer"], None]
Callbacks = dict[str, list[Callable[["Trainer"], None]]]


def log_row(tracker: Tracker, row: Mapping[str, float]) -> None:
    """Log a row of `results.csv` to the tracker."""
    step = int(row["epoch"])
    tracker.log(step, {key.removesuffix("(B)"): value for key, value in row.items() if key not in ("epoch", "time")})


def make_callbacks(context: CallbackContext) -> Callbacks:
    """Return the trainer's callbacks by event: the package's own, then fmask's."""
    from ultralytics.utils.callbacks import get_default_callbacks

    def bind(function: Callback) -> Callable[[Trainer], None]:
        return lambda trainer: _guarded(function, context, trainer)

    callbacks: Callbacks = get_default_callbacks()
    own: dict[str, list[Callback]] = {
        "on_pretrain_routine_end": [_check_loaders, _estimate_duration],
        "on_train_start": [_continue_clock],
        "on_train_epoch_start": [_start_epoch],
        "on_train_batch_end": [_report_progress],
        "on_train_epoch_end": [_stop_epoch],
        "on_fit_epoch_end": [_log_epoch],
    }
    for event, functions in own.items():
        callbacks[event] += map(bind, functions)
    return callbacks


def _guarded(function: Callback, context: CallbackContext, trainer: Trainer) -> None:
    """Call a callback. fmask's own errors stop the training, any other is logged."""
    try:
        function(context, trainer)
    except FmaskError:
        raise
    except Exception as error:  # noqa: BLE001 - a number that cannot be shown is not worth losing a run
        _log.warning("training continues without %s: %s: %s", function.__name__, type(error).__name__, error)


def _check_loaders(context: CallbackContext, trainer: Trainer) -> None:
    """Refuse to train if the loaders lack images or faces of the ensemble: the package drops what it cannot read."""
    for split, loader in (("train", trainer.train_loader), ("val", trainer.test_loader)):
        labels = loader.dataset.labels
        found = (len(labels), sum(len(label["cls"]) for label in labels))
        expected = (context.card.splits[split], context.card.faces_in(split))
        if found != expected:
            raise DataError(
                f"{trainer.args.data}: expected {expected[0]} images with {expected[1]} faces in {split},"
                f" the loader found {found[0]} with {found[1]}",
                next_step=f"build the ensemble again: remove its folder, then fmask build-dataset --version "
                f"{context.card.name}",
            )


def _estimate_duration(context: CallbackContext, trainer: Trainer) -> None:
    if trainer.device.type != "cpu":
        return
    from facemask_train.training.trainer import seconds_per_image

    images = min(_MEASURED, trainer.batch_size)
    model: Any = getattr(trainer.model, "module", trainer.model)  # unwrapped: only this process measures
    each = seconds_per_image(model, trainer.args.imgsz, images, trainer.autocast())
    each /= max(1, trainer.world_size)
    left = trainer.epochs - trainer.start_epoch
    epoch = context.card.splits.train + context.card.splits.val / 3  # validation is only a forward pass
    _log.info(
        "on this CPU a training step takes %.0f ms per image: about %s for %d epochs of %d images",
        each * 1000,
        duration(each * epoch * left),
        left,
        context.card.splits.train,
    )


def _continue_clock(_: CallbackContext, trainer: Trainer) -> None:
    """Let the column `time` of a resumed run continue from its last row."""
    rows = read_rows(trainer.csv)
    trainer.train_time_start -= rows[-1]["time"] if rows else 0.0


def _start_epoch(context: CallbackContext, _: Trainer) -> None:
    context.throughput.epoch_start, context.throughput.batch = time.monotonic(), 0


def _stop_epoch(context: CallbackContext, trainer: Trainer) -> None:
    context.throughput.seconds += time.monotonic() - context.throughput.epoch_start
    context.throughput.images += len(trainer.train_loader.dataset)


def _report_progress(context: CallbackContext, trainer: Trainer) -> None:
    context.throughput.batch += 1
    batches = len(trainer.train_loader)
    done = trainer.epoch * batches + context.throughput.batch
    context.progress(f"train, epoch {trainer.epoch + 1} of {trainer.epochs}", done, batches * trainer.epochs)


def _log_epoch(context: CallbackContext, trainer: Trainer) -> None:
    rows = read_rows(trainer.csv)
    row = rows[-1]
    log_row(context.tracker, row)
    extra = {"epochs": EpochHistory(tuple(rows), trainer.epochs)}
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
