"""Fine-tune a detector on an ensemble, in a run folder that says all about itself, and go on after a kill."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

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
from facemask_train.train import runs
from facemask_train.train.parallel import distributed
from facemask_train.train.parallel.devices import check_devices
from facemask_train.train.parallel.launcher import launch, must_launch
from facemask_train.train.parallel.rendezvous import together
from facemask_train.train.plan import choose_loader
from facemask_train.train.precision import Machine, Step, choose, read_machine, recall, to_json
from facemask_train.train.run_loop import batch_of, carry_out, trainer_of

PROJECT = "facemask"
_OWN = ("model", "data", "project", "name", "save_dir", "resume", "exist_ok", "save", "fraction", "task", "mode")
_NOT_HERE = {
    "amp": "--precision",
    "time": "--epochs",
    "distill_model": "the package's own trainer",
    "quantize": "the package's own trainer",
}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished run. `images_per_second` counts training alone, without validation."""

    run: str
    path: Path
    weights: Path
    epochs: int
    seconds: float
    images_per_second: float


@together
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
        data: an ensemble's name or path; the latest one where empty.
        name: the run's name; made from the ensemble's and the weights' where empty.
        tracker: `wandb` or `none`.
        command: what the user typed, for `run.json`.

    Raises:
        MissingError: no ensemble, or no such weights.
        NetworkError: the weights cannot be downloaded.
        DataError: the ensemble cannot be trained on as it is, or the weights are no checkpoint.
        TrainingError: training stopped.
    """
    if must_launch(settings.device):
        check_devices(settings.device, settings.batch)
        call = partial(train, root, settings, data=data, name=name, tracker=tracker, command=command)
        return launch(call, settings.device, progress)
    if not dist_env().is_main:
        return _followed(root)
    devices = distributed.describe(settings.device, settings.batch)
    ensemble = find_ensemble(root, data)
    card = read_ensemble(ensemble)
    _check_card(ensemble, card)
    open_ultralytics()
    check_trainer_settings(settings.extra, _OWN, _NOT_HERE)
    own = devices["ranks"][0]["device"]
    machine = read_machine(own, device_name(own))
    step = choose(settings, machine)
    if name:
        runs.named_run(root, name)  # before anything is downloaded
    start = resolve_weights(root, settings.weights, progress=progress)
    if not start.endswith((".yaml", ".yml")):
        load_model(Path(start))  # what is no checkpoint is refused before there is a run
    folder = runs.new_run(root, name, f"{card.name}-{Path(settings.weights).stem}")
    _log.info("training %s on %s (%s)", folder.name, card.name, ensemble)
    about = {
        "name": folder.name,
        "kind": "training",
        "state": "started",
        "command": command,
        **_how(settings, start, machine, step),
        "ensemble": _trained_on(card, ensemble, root),
        "tracker": {"kind": tracker, "project": PROJECT, "run_id": ""},
        "started": runs.now(),
    }
    about["chosen"]["devices"] = devices
    with locked(folder), storage_errors(folder):
        runs.open_run(folder, about)
        carry_out(root, folder, about, card, step, progress)
        return finished(folder)


@together
def resume(
    root: Path, name: str = "", *, data: str = "", device: str | None = None, progress: Progress = no_progress
) -> Trained:
    """Go on with a run that was cut, from its last finished epoch.

    Args:
        name: the run; the one that was started last, of those not finished, where empty.
        data: where its ensemble is now, if the folder was moved.

    Raises:
        MissingError: no such run, or its ensemble is gone.
        UsageError: the run is finished.
        DataError: the ensemble is not the one that the run was trained on.
    """
    if not dist_env().is_main:
        return _followed(root)
    folder = runs.run_folder(root, name) if name else runs.last_run(root, "started")
    about = runs.read_run(folder)
    if about["state"] == "finished":
        raise UsageError(
            f"{folder}: this run is finished, there is nothing to resume",
            next_step=f"start a new one from it: fmask train --weights {folder / 'weights' / 'best.pt'}",
        )
    ensemble = find_ensemble(root, data or str(root / about["ensemble"]["path"]))
    card = read_ensemble(ensemble)
    if card.hash != about["ensemble"]["hash"]:
        raise DataError(
            f"{ensemble}: expected the ensemble {about['ensemble']['hash'][:12]} that {folder.name} was trained on,"
            f" found {card.hash[:12]}",
            next_step="name the right one with --data, or start a new run: fmask train",
        )
    wanted = about["settings"]["device"] if device is None else device
    if must_launch(wanted):
        check_devices(wanted, batch_of(about))
        return launch(partial(resume, root, folder.name, data=data, device=device), wanted, progress)
    open_ultralytics()
    with locked(folder), storage_errors(folder):
        step = _adapt(about, _relative(ensemble, root), wanted)
        carry_out(root, folder, about, card, step, progress)
        return finished(folder)


def _how(settings: TrainSettings, start: str, machine: Machine, step: Step) -> dict[str, Any]:
    """Return what `run.json` says of how it is trained: what was asked, with which code, and what was chosen."""
    return {
        "settings": settings.model_dump(mode="json"),
        "start": start,
        "seed": settings.seed,
        "code": runs.code_version(),
        "packages": runs.package_versions(),
        "device": machine.device,
        "chosen": to_json(step, machine) | {"loader": _loader(settings, gpu=machine.cuda)},
        "events": [],
    }


def _trained_on(card: EnsembleCard, ensemble: Path, root: Path) -> dict[str, Any]:
    return {
        "name": card.name,
        "path": _relative(ensemble, root),
        "hash": card.hash,
        "images": dict(card.splits.items()),
    }


def _adapt(about: dict[str, Any], ensemble: str, wanted: str) -> Step:
    """Change a run's records to where it goes on now, tell what is different, and return how a step is run."""
    devices = distributed.describe(wanted, batch_of(about))
    own = devices["ranks"][0]["device"]
    machine = read_machine(own, device_name(own))
    about["settings"]["device"] = wanted
    before = about.get("chosen", {})
    step, changes = recall(TrainSettings.model_validate(about["settings"]), machine, before)
    if ensemble != about["ensemble"]["path"]:
        changes.append(f"ensemble {about['ensemble']['path']} -> {ensemble}")
    processes = before.get("devices", {}).get("processes", 1)
    if processes != devices["processes"]:
        changes.append(f"processes {processes} -> {devices['processes']}")
    about["ensemble"]["path"], about["device"] = ensemble, machine.device
    about["chosen"] = {**before, **to_json(step, machine), "devices": devices}  # the loader stays
    _log.info("resuming %s on %s", about["name"], about["ensemble"]["name"])
    if changes:
        _log.warning(
            "not as before: %s; all state is kept, the weights may differ in the last bits", "; ".join(changes)
        )
        about.setdefault("events", []).append({"event": "resumed elsewhere", "changes": changes})
    return step


def finished(folder: Path) -> Trained:
    """Return what a finished run's `run.json` says."""
    about = runs.read_run(folder)
    best = folder / "weights" / "best.pt"
    return Trained(about["name"], folder, best, about["epochs"], about["seconds"], about["images_per_second"])


def _followed(root: Path) -> Trained:
    """Train as another process says; that one closes the books, and tells how it went."""
    folder = runs.run_folder(root, distributed.follow(root, trainer_of))
    return Trained(folder.name, folder, folder / "weights" / "best.pt", 0, 0.0, 0.0)


def _check_card(ensemble: Path, card: EnsembleCard) -> None:
    empty = [split for split in ("train", "val") if not card.splits[split]]
    if empty:
        raise DataError(
            f"{ensemble}: expected images for {' and '.join(empty)}, found none",
            next_step="build one whose recipe has a share for both",
        )


def _loader(settings: TrainSettings, *, gpu: bool) -> dict[str, str]:
    """Return which loader was chosen, and why; a resumed run keeps to it."""
    from ultralytics.utils import DEFAULT_CFG_DICT

    args = {**DEFAULT_CFG_DICT, "augmentations": [], **settings.extra}
    chosen = choose_loader(settings.loader, args, gpu=gpu)
    refused = settings.loader == "device" != chosen.value
    _log.log(logging.WARNING if refused else logging.INFO, "loader: %s (%s)", chosen.value, chosen.reason)
    return {"is": chosen.value, "why": chosen.reason}


def _relative(path: Path, root: Path) -> str:
    """Return a path relative to the root where it lies inside, so that the whole folder can be moved."""
    resolved = path.resolve()
    return str(resolved.relative_to(root.resolve()) if resolved.is_relative_to(root.resolve()) else resolved)
