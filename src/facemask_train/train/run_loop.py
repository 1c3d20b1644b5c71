"""A run's course: the epochs that are still to be run, and the books closed: scores, images, the tracker."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.core.records import to_json
from facemask_train.core.types import Progress
from facemask_train.dataset.card import EnsembleCard
from facemask_train.dataset.versions import DATA_YAML, write_trusted_yaml
from facemask_train.model.validation import Validation, validate
from facemask_train.train import runs
from facemask_train.train.callbacks import Run, callbacks, log_row
from facemask_train.train.history import curves
from facemask_train.train.history.results import keep_rows, read_rows
from facemask_train.train.parallel import distributed
from facemask_train.train.precision import Step, from_json
from facemask_train.train.tracking.tracker import close_tracker, open_tracker
from facemask_train.train.val_images import draw_batches

if TYPE_CHECKING:
    from facemask_train.train.trainer import Trainer

_SCORES = {"precision": "precision", "recall": "recall", "mAP50": "map50", "mAP50-95": "map50_95"}
_log = logging.getLogger(__name__)


def carry_out(
    root: Path, folder: Path, about: dict[str, Any], card: EnsembleCard, step: Step, progress: Progress
) -> None:
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
        close_tracker(tracker, exit_code)
    runs.write_run(folder, about | {"state": "finished", "finished": runs.now(), **result})


def _lineage(run: Run, ensemble: Path) -> None:
    """Say in the tracker what the run is made from."""
    names = ("ensemble.json", "data.yaml", "manifest.parquet", "groups.parquet", "issues.parquet")
    files = {name: ensemble / name for name in names if (ensemble / name).is_file()}
    about = {"hash": run.card.hash, "splits": to_json(run.card.splits), "faces": run.card.faces}
    run.tracker.artifact(f"ensemble-{run.card.name}", "dataset", files, metadata=about, used=True)


def _fit(root: Path, run: Run, about: dict[str, Any]) -> dict[str, Any]:
    """Run the epochs that are still to be run, and return what `run.json` says of how the processes ended."""
    from facemask_train.train.state import newest

    data = write_trusted_yaml(root / about["ensemble"]["path"], run.folder / DATA_YAML, ("train", "val"))
    overrides = _overrides(run.folder, about, data)
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

    distributed.fit(lambda: trainer_of(asked, about["chosen"], callbacks(run), note), run.folder)
    return distributed.apart(trained=True)


def trainer_of(
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
    from facemask_train.train.trainer import Trainer

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


def batch_of(about: Mapping[str, Any]) -> int:
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
        "batch": batch_of(about),
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
    batch = 2 * batch_of(about) // devices["processes"]  # the trainer's own validation batch: the same padding
    device = _own(about)["device"]
    scored = validate(best, data, "val", imgsz=settings["imgsz"], batch=batch, device=device, progress=run.progress)
    rows = read_rows(run.folder / "results.csv")
    scores = {f"metrics/{key}": getattr(scored.mean, field) for key, field in _SCORES.items()}
    run.tracker.summary({f"best/{key}": value for key, value in scores.items()})
    run.tracker.images("validation", _drawn(scored, data.parent, run.folder), step=len(rows))
    run.tracker.images("curves", curves.draw(run.folder), step=len(rows))
    run.tracker.artifact(f"{run.folder.name}-best", "model", {"best.pt": best}, aliases=("best",), metadata=scores)
    return {
        "epochs": len(rows),
        "seconds": round(rows[-1]["time"], 1),
        "images_per_second": round(run.pace.images / run.pace.seconds, 2) if run.pace.seconds else 0.0,
        "best": scores,
    }


def _drawn(scored: Validation, ensemble: Path, folder: Path) -> list[Path]:
    """Draw the sheets of the validation; where that fails, the run is finished without them."""
    try:
        return draw_batches(scored.images, ensemble, scored.confidence, folder)
    except OSError:  # a full disk is named as such
        raise
    except Exception as error:  # noqa: BLE001 - no image is worth a run
        _log.warning("the images of the validation are left out: %s: %s", type(error).__name__, error)
        return []
