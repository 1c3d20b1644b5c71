"""Fine-tune a detector on an ensemble, in a run folder that says all about itself, and go on after a kill."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.config import TrackerKind, TrainSettings
from facemask_train.detect import Validation, load_model, validate
from facemask_train.engine import device_name, open_ultralytics
from facemask_train.ensemble.versions import find_ensemble, read_ensemble
from facemask_train.errors import DataError, UsageError
from facemask_train.folders import locked, storage_errors
from facemask_train.ranks import place
from facemask_train.records import Progress, no_progress
from facemask_train.training import curves, distributed, runs
from facemask_train.training.checkpoints import check_extra, resolve
from facemask_train.training.choices import choose_loader
from facemask_train.training.hooks import Run, callbacks, log_row
from facemask_train.training.launch import launch, must_launch
from facemask_train.training.pictures import draw_batches
from facemask_train.training.results import keep_rows, read_rows
from facemask_train.training.step import Step, choose, from_json, read_machine, recall, to_json
from facemask_train.training.tracking import open_tracker

if TYPE_CHECKING:
    from facemask_train.training.trainer import Trainer

PROJECT = "facemask"
_OWN = ("model", "data", "project", "name", "save_dir", "resume", "exist_ok", "save", "fraction", "task", "mode")
_NOT_HERE = {
    "amp": "--precision",
    "time": "--epochs",
    "distill_model": "the package's own trainer",
    "quantize": "the package's own trainer",
}
_SCORES = {"precision": "precision", "recall": "recall", "mAP50": "map50", "mAP50-95": "map50_95"}
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


@distributed.together
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
        distributed.check_devices(settings.device, settings.batch)
        call = partial(train, root, settings, data=data, name=name, tracker=tracker, command=command)
        return launch(call, settings.device, progress)
    if not place().leads:
        return _followed(root)
    devices = distributed.describe(settings.device, settings.batch)
    ensemble = find_ensemble(root, data)
    card = read_ensemble(ensemble)
    _check_card(ensemble, card)
    open_ultralytics()
    check_extra(settings.extra, _OWN, _NOT_HERE)
    own = devices["ranks"][0]["device"]
    machine = read_machine(own, device_name(own))
    step = choose(settings, machine)
    if name:
        runs.named_run(root, name)  # before anything is downloaded
    start = resolve(root, settings.weights, progress=progress)
    if not start.endswith((".yaml", ".yml")):
        load_model(Path(start))  # what is no checkpoint is refused before there is a run
    folder = runs.new_run(root, name, f"{card['name']}-{Path(settings.weights).stem}")
    _log.info("training %s on %s (%s)", folder.name, card["name"], ensemble)
    about: dict[str, Any] = {
        "name": folder.name,
        "kind": "training",
        "state": "started",
        "command": command,
        "settings": settings.model_dump(mode="json"),
        "start": start,
        "seed": settings.seed,
        "code": runs.code_version(),
        "packages": runs.package_versions(),
        "device": machine.device,
        "chosen": to_json(step, machine) | {"loader": _loader(settings, gpu=machine.cuda), "devices": devices},
        "events": [],
        "ensemble": {
            "name": card["name"],
            "path": _relative(ensemble, root),
            "hash": card["hash"],
            "images": card["splits"],
        },
        "tracker": {"kind": tracker, "project": PROJECT, "run_id": ""},
        "started": runs.now(),
    }
    with locked(folder), storage_errors(folder):
        runs.open_run(folder, about)
        return _carry_out(root, folder, about, card, step, progress)


@distributed.together
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
    if not place().leads:
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
    if card["hash"] != about["ensemble"]["hash"]:
        raise DataError(
            f"{ensemble}: expected the ensemble {about['ensemble']['hash'][:12]} that {folder.name} was trained on,"
            f" found {card['hash'][:12]}",
            next_step="name the right one with --data, or start a new run: fmask train",
        )
    wanted = about["settings"]["device"] if device is None else device
    if must_launch(wanted):
        distributed.check_devices(wanted, _batch(about))
        return launch(partial(resume, root, folder.name, data=data, device=device), wanted, progress)
    open_ultralytics()
    with locked(folder), storage_errors(folder):
        step = _adapt(about, _relative(ensemble, root), wanted)
        return _carry_out(root, folder, about, card, step, progress)


def _adapt(about: dict[str, Any], ensemble: str, wanted: str) -> Step:
    """Change a run's records to where it goes on now, tell what is different, and return how a step is run."""
    devices = distributed.describe(wanted, _batch(about))
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
    folder = runs.run_folder(root, distributed.follow(root, _trainer))
    return Trained(folder.name, folder, folder / "weights" / "best.pt", 0, 0.0, 0.0)


def _check_card(ensemble: Path, card: Mapping[str, Any]) -> None:
    empty = [split for split in ("train", "val") if not card["splits"][split]]
    if empty:
        raise DataError(
            f"{ensemble}: expected pictures for {' and '.join(empty)}, found none",
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


def _carry_out(
    root: Path, folder: Path, about: dict[str, Any], card: Mapping[str, Any], step: Step, progress: Progress
) -> Trained:
    """Train from the start or the last checkpoint, score the best weights, and close the books."""
    tracker = open_tracker(
        about["tracker"]["kind"],
        folder,
        project=about["tracker"]["project"],
        name=folder.name,
        config={key: about[key] for key in ("settings", "seed", "ensemble", "code", "packages", "device")},
        run_id=about["tracker"]["run_id"],
    )
    about["tracker"]["run_id"] = tracker.run_id
    runs.write_run(folder, about)
    run = Run(folder, card, tracker, progress)
    _log.info("%s (what was chosen and why is in %s)", step.told(), runs.MARKER)
    exit_code = 1
    try:
        _lineage(run, root / about["ensemble"]["path"])
        about["chosen"]["devices"] |= _fit(root, run, about)
        result = _close(run, about, root / about["ensemble"]["path"] / "data.yaml")
        exit_code = 0
    finally:
        report = tracker.finish(exit_code)
        for line in report.unsent:
            _log.warning("W&B: %s", line)
        if report.sync:
            _log.info("W&B: kept offline; to send it: %s", report.sync)
    runs.write_run(folder, about | {"state": "finished", "finished": runs.now(), **result})
    return finished(folder)


def _lineage(run: Run, ensemble: Path) -> None:
    """Say in the tracker what the run is made from."""
    names = ("ensemble.json", "data.yaml", "manifest.parquet", "groups.parquet", "problems.parquet")
    files = {name: ensemble / name for name in names if (ensemble / name).is_file()}
    about = {key: run.card[key] for key in ("hash", "splits", "faces")}
    run.tracker.artifact(f"ensemble-{run.card['name']}", "dataset", files, metadata=about, used=True)


def _fit(root: Path, run: Run, about: dict[str, Any]) -> dict[str, Any]:
    """Run the epochs that are still to be run, and return what `run.json` says of how the processes ended."""
    from facemask_train.training.state import newest

    overrides = _overrides(run.folder, about, root / about["ensemble"]["path"] / "data.yaml")
    tell = partial(distributed.announce, root, run.folder, about["settings"]["device"], about["chosen"])
    table = run.folder / "results.csv"
    found = newest(run.folder / "weights")
    if found is not None:
        last, state = found
        keep_rows(table, state["epoch"] + 1)
        for row in read_rows(table):
            log_row(run.tracker, row)
        if state["stopped"]:
            tell(None)
            return distributed.apart(trained=False)
        # `augmentations` too: a checkpoint does not keep it, and the package would put in its own
        taken = ("data", "device", "save_dir", "workers", "batch", "augmentations")
        overrides = {key: overrides[key] for key in taken}
        overrides |= {"model": str(last), "resume": str(last)}
    else:
        table.unlink(missing_ok=True)  # of several processes each would remove it
    asked = {"overrides": overrides, "val_every": about["settings"].get("val_every", 1)}
    tell(asked)

    def note(event: dict[str, Any]) -> None:
        about.setdefault("events", []).append({"time": runs.now(), **event})
        runs.write_run(run.folder, about)

    distributed.fit(lambda: _trainer(asked, about["chosen"], callbacks(run), note), run.folder)
    return distributed.apart(trained=True)


def _trainer(
    asked: Mapping[str, Any],
    chosen: Mapping[str, Any],
    hooks: dict[str, list[Any]] | None = None,
    note: Callable[[dict[str, Any]], None] = lambda _event: None,
) -> Trainer:
    """Return the trainer of one process.

    Args:
        asked: the package's `overrides`, and `val_every`.
        chosen: as `run.json` has it.
        note: called with each event that the run's records should have.
    """
    from facemask_train.training.trainer import Trainer

    trainer = Trainer(
        overrides=dict(asked["overrides"]),
        _callbacks=hooks,
        step=from_json(chosen),
        note=note,
        val_every=asked["val_every"],
    )
    trainer.loader = chosen.get("loader", {"is": "stock"})["is"]
    return trainer


def _own(about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the device and the share of the batch of the process that closes the books."""
    return dict(about["chosen"]["devices"]["ranks"][0])


def _batch(about: Mapping[str, Any]) -> int:
    """Return the batch that a run trains with: what was asked for, or what memory allowed."""
    smaller = [event["batch"] for event in about.get("events", []) if event["event"] == "out of memory"]
    return int(min([about["settings"]["batch"], *smaller]))


def _overrides(folder: Path, about: Mapping[str, Any], data: Path) -> dict[str, Any]:
    settings = about["settings"]
    direct = ("epochs", "patience", "imgsz", "seed", "workers", "optimizer", "lr0")
    return {
        "plots": False,
        "verbose": False,
        "augmentations": [],  # or else they depend on whether albumentations happens to be installed
        **{key: settings[key] for key in direct},
        "batch": _batch(about),
        "device": _own(about)["device"],
        **settings["extra"],
        "model": about["start"],
        "data": str(data.resolve()),
        "save_dir": str(folder.resolve()),  # a relative one may end up elsewhere, and its name be counted up
        "project": about["tracker"]["project"],
    }


def _close(run: Run, about: Mapping[str, Any], data: Path) -> dict[str, Any]:
    """Score the best weights on the validation split, hand them to the tracker, and sum the run up."""
    best = run.folder / "weights" / "best.pt"
    settings = about["settings"]
    devices = about["chosen"]["devices"]
    batch = 2 * _batch(about) // devices["processes"]  # the trainer's own validation batch: the same padding
    device = _own(about)["device"]
    scored = validate(best, data, "val", imgsz=settings["imgsz"], batch=batch, device=device, progress=run.progress)
    rows = read_rows(run.folder / "results.csv")
    scores = {f"metrics/{key}": getattr(scored.mean, field) for key, field in _SCORES.items()}
    run.tracker.summary({f"best/{key}": value for key, value in scores.items()})
    run.tracker.pictures("validation", _drawn(scored, data.parent, run.folder), step=len(rows))
    run.tracker.pictures("curves", curves.draw(run.folder), step=len(rows))
    run.tracker.artifact(f"{run.folder.name}-best", "model", {"best.pt": best}, aliases=("best",), metadata=scores)
    return {
        "epochs": len(rows),
        "seconds": round(rows[-1]["time"], 1),
        "images_per_second": round(run.pace.pictures / run.pace.seconds, 2) if run.pace.seconds else 0.0,
        "best": scores,
    }


def _drawn(scored: Validation, ensemble: Path, folder: Path) -> list[Path]:
    """Draw the sheets of the validation; where that fails, the run is finished without them."""
    try:
        return draw_batches(scored.pictures, ensemble, scored.confidence, folder)
    except OSError:  # a full disk is named as such
        raise
    except Exception as error:  # noqa: BLE001 - no picture is worth a run
        _log.warning("the pictures of the validation are left out: %s: %s", type(error).__name__, error)
        return []
