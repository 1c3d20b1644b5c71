"""Fine-tune a detector on an ensemble, in a run folder that fully describes itself, and resume interrupted runs."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.config import TrackerKind, TrainSettings
from facemask_train.core.dist_env import dist_env
from facemask_train.core.errors import DataError, UsageError
from facemask_train.core.files import locked, storage_errors
from facemask_train.core.types import Progress, no_progress
from facemask_train.dataset.card import EnsembleCard
from facemask_train.dataset.versions import find_ensemble, read_ensemble
from facemask_train.model.checkpoints import check_trainer_settings, resolve_weights
from facemask_train.model.ultralytics_compat import device_name, open_ultralytics
from facemask_train.model.validation import load_model
from facemask_train.training import runs
from facemask_train.training.parallel import distributed
from facemask_train.training.parallel.devices import check_devices
from facemask_train.training.parallel.launcher import launch, needs_launch
from facemask_train.training.parallel.rendezvous import share_errors
from facemask_train.training.plan import LoaderPlan, TrainPlan, plan_training, replan
from facemask_train.training.precision import read_machine
from facemask_train.training.run_loop import OpenRun, build_trainer, run_training
from facemask_train.training.runs import RunEvent, RunRecord, TrackedRun, TrainedOn

if TYPE_CHECKING:
    import pandas as pd

PROJECT = "facemask"
_RESERVED = ("model", "data", "project", "name", "save_dir", "resume", "exist_ok", "save", "fraction", "task", "mode")
_ALTERNATIVES = {
    "amp": "--precision",
    "time": "--epochs",
    "distill_model": "the package's own trainer",
    "quantize": "the package's own trainer",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run. `images_per_second` is the training throughput, validation not included."""

    run: str
    path: Path
    weights: Path
    epochs: int
    seconds: float
    images_per_second: float

    @property
    def folder(self) -> Path:
        """The run's folder, under the name that `load_model` looks for."""
        return self.path

    @property
    def table(self) -> pd.DataFrame:
        """The run's `results.csv`: a row for each epoch, indexed by epoch."""
        return runs.results_table(self.path)


@share_errors
def train(
    root: Path,
    settings: TrainSettings,
    *,
    data: str = "",
    name: str = "",
    tracker: TrackerKind = "wandb",
    command: str = "",
    progress: Progress = no_progress,
) -> Trained:
    """Train in a new folder under `runs/`.

    Args:
        data: an ensemble's name or path; empty for the latest.
        name: the run's name; if empty, it is made from the names of the ensemble and the weights.
        tracker: `wandb` or `none`.
        command: what the user typed, for `run.json`.

    Raises:
        MissingError: the ensemble or the weights do not exist.
        NetworkError: the weights cannot be downloaded.
        DataError: the ensemble has no training or validation images, or the weights are not a checkpoint.
        TrainingError: training stopped.
    """
    if needs_launch(settings.device):
        check_devices(settings.device, settings.batch)
        call = partial(train, root, settings, data=data, name=name, tracker=tracker, command=command)
        return launch(call, settings.device, progress)
    if not dist_env().is_main:
        return _follow(root)
    distributed.plan_processes(settings.device, settings.batch)  # raises if the devices do not fit
    ensemble = find_ensemble(root, data)
    card = read_ensemble(ensemble)
    _check_splits(ensemble, card)
    if name:
        runs.named_run(root, name)  # raises if the name is taken, before anything is downloaded
    plan = _make_plan(root, settings, progress)
    folder = runs.new_run(root, name, f"{card.name}-{Path(settings.weights).stem}")
    _log.info("training %s on %s (%s)", folder.name, card.name, ensemble)
    _log_loader(plan.loader, settings.loader)
    record = RunRecord(
        name=folder.name,
        kind="training",
        state="started",
        command=command,
        settings=settings,
        plan=plan,
        device=plan.machine.device,
        code=runs.code_version(),
        packages=runs.package_versions(),
        ensemble=TrainedOn(card.name, _relative(ensemble, root), card.hash, dict(card.splits.items())),
        tracker=TrackedRun(tracker, PROJECT),
        started=runs.now(),
    )
    with locked(folder), storage_errors(folder):
        runs.create_run(folder, record)
        run_training(root, OpenRun(folder, record), card, progress)
        return finished(folder)


@share_errors
def resume(
    root: Path, name: str = "", *, data: str = "", device: str | None = None, progress: Progress = no_progress
) -> Trained:
    """Resume an interrupted run after its last finished epoch.

    Args:
        name: the run; if empty, the unfinished run that was started last.
        data: the path of its ensemble, if that was moved.
        device: the device to continue on; None for the same as before.

    Raises:
        MissingError: the run or its ensemble does not exist.
        UsageError: the run is finished.
        DataError: the ensemble is not the one that the run was trained on.
    """
    if not dist_env().is_main:
        return _follow(root)
    folder = runs.run_folder(root, name) if name else runs.last_run(root, "started")
    record = _resumable(folder)
    run = OpenRun(folder, record)
    ensemble = find_ensemble(root, data or str(root / run.ensemble.path))
    card = read_ensemble(ensemble)
    if card.hash != run.ensemble.hash:
        raise DataError(
            f"{ensemble}: expected the ensemble {run.ensemble.hash[:12]} that {folder.name} was trained on,"
            f" found {card.hash[:12]}",
            next_step="give the right one with --data, or start a new run: fmask train",
        )
    assert record.settings is not None, "a run of training has settings"
    settings = record.settings if device is None else record.settings.model_copy(update={"device": device})
    if needs_launch(settings.device):
        check_devices(settings.device, run.plan.batch)
        call = partial(resume, root, folder.name, data=data, device=device)
        return launch(call, settings.device, progress)
    open_ultralytics()
    with locked(folder), storage_errors(folder):
        run.record = _adapt(run, settings, _relative(ensemble, root))
        run_training(root, run, card, progress)
        return finished(folder)


def _resumable(folder: Path) -> RunRecord:
    record = runs.read_run(folder)
    if record.state == "finished":
        raise UsageError(
            f"{folder}: this run is finished, there is nothing to resume",
            next_step=f"start a new one from it: fmask train --weights {folder / 'weights' / 'best.pt'}",
        )
    return record


def _make_plan(root: Path, settings: TrainSettings, progress: Progress) -> TrainPlan:
    """Check the settings, find the initial weights, and plan the training."""
    open_ultralytics()
    from ultralytics.utils import DEFAULT_CFG_DICT

    check_trainer_settings(settings.extra, _RESERVED, _ALTERNATIVES)
    processes = distributed.plan_processes(settings.device, settings.batch)
    own = processes[0].device
    machine = read_machine(own, device_name(own))
    # The plan is made before anything is downloaded, so that settings that do not fit are refused at once.
    plan = plan_training(settings, "", machine=machine, processes=processes, defaults=DEFAULT_CFG_DICT)
    weights = resolve_weights(root, settings.weights, progress=progress)
    if not weights.endswith((".yaml", ".yml")):
        load_model(Path(weights))  # raises if it is not a checkpoint, before the run exists
    return replace(plan, weights=weights)


def _log_loader(loader: LoaderPlan, requested: str) -> None:
    refused = requested == "device" != loader.kind
    _log.log(logging.WARNING if refused else logging.INFO, "loader: %s (%s)", loader.kind, loader.reason)


def _adapt(run: OpenRun, settings: TrainSettings, ensemble: str) -> RunRecord:
    """Return the record of a resumed run, adapted to where it continues; log what differs from before."""
    processes = distributed.plan_processes(settings.device, run.plan.batch)
    machine = read_machine(processes[0].device, device_name(processes[0].device))
    plan, changes = replan(run.plan, settings, machine=machine, processes=processes)
    if ensemble != run.ensemble.path:
        changes.append(f"ensemble {run.ensemble.path} -> {ensemble}")
    _log.info("resuming %s on %s", run.record.name, run.ensemble.name)
    events = run.record.events
    if changes:
        _log.warning(
            "not as before: %s; all state is kept, the weights may differ in the last bits", "; ".join(changes)
        )
        events = (*events, RunEvent("resumed elsewhere", time=runs.now(), details={"changes": changes}))
    return replace(
        run.record,
        settings=settings,
        plan=plan,
        device=machine.device,
        ensemble=replace(run.ensemble, path=ensemble),
        events=events,
    )


def finished(folder: Path) -> Trained:
    """Return a finished run from its record.

    Raises:
        DataError: the run is not finished.
    """
    record = runs.read_run(folder)
    if record.epochs is None or record.seconds is None or record.images_per_second is None:
        raise DataError(f"{folder}: this run is not finished", next_step=f"fmask train --resume --name {folder.name}")
    best = folder / "weights" / "best.pt"
    return Trained(record.name, folder, best, record.epochs, record.seconds, record.images_per_second)


def _follow(root: Path) -> Trained:
    """Train as the main process decides. That process finishes the run and reports the result."""
    folder = runs.run_folder(root, distributed.follow(root, build_trainer))
    return Trained(folder.name, folder, folder / "weights" / "best.pt", 0, 0.0, 0.0)


def _check_splits(ensemble: Path, card: EnsembleCard) -> None:
    empty = [split for split in ("train", "val") if not card.splits[split]]
    if empty:
        raise DataError(
            f"{ensemble}: expected images for {' and '.join(empty)}, found none",
            next_step="build an ensemble whose recipe has a share for both",
        )


def _relative(path: Path, root: Path) -> str:
    """Return a path relative to the root if it lies inside, so that the whole root can be moved."""
    resolved = path.resolve()
    return str(resolved.relative_to(root.resolve()) if resolved.is_relative_to(root.resolve()) else resolved)
