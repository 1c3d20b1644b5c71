"""What is evaluated and on what: a run's weights (or any), and one split of an ensemble."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facemask_train.core.config import read_yaml
from facemask_train.core.errors import DataError, MissingError, UsageError, nearest
from facemask_train.core.files import digest_file, locked, read_json, storage_errors
from facemask_train.core.types import CLASSES, SPLITS, Progress, no_progress
from facemask_train.dataset.card import EnsembleCard
from facemask_train.dataset.versions import find_ensemble, read_ensemble
from facemask_train.model import validation
from facemask_train.model.backends import DEFAULT_IMGSZ
from facemask_train.train import runs

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Model:
    """What is evaluated: a run's folder with its `run.json`, and the weights (their path and digest)."""

    folder: Path
    run: Mapping[str, Any]
    weights: Path
    digest: str

    def imgsz(self, asked: int | None = None) -> int:
        """The image size that is asked for, else the run's own."""
        return int(asked or self.run["settings"].get("imgsz") or DEFAULT_IMGSZ)


@dataclass(frozen=True, slots=True)
class Exam:
    """What it is evaluated on: an ensemble's folder, its card, and the split."""

    folder: Path
    card: EnsembleCard
    split: str

    @property
    def images(self) -> int:
        return self.card.splits[self.split]

    @property
    def boxes(self) -> int:
        return self.card.faces_in(self.split)

    def of(self, split: str) -> Exam | None:
        """Return another split of the same ensemble, or None where it has no faces."""
        exam = Exam(self.folder, self.card, split)
        return exam if exam.images and exam.boxes else None


@dataclass(frozen=True, slots=True)
class Setup:
    """How a model is asked: image size in pixels, batch, device (a GPU where it is empty), and who is told."""

    imgsz: int
    batch: int = 16
    device: str = ""
    progress: Progress = no_progress

    @property
    def options(self) -> dict[str, Any]:
        """All of it by name."""
        return {"imgsz": self.imgsz, "batch": self.batch, "device": self.device, "progress": self.progress}


# ---- what is evaluated ----


def find_model(root: Path, run: str | None, weights: Path | None) -> Model:
    """Return the model that is asked for: a run's best weights, any weights, or the run that finished last.

    Raises:
        UsageError: a run and weights, or a run that no training made.
        MissingError: there is no such run, or no such file.
    """
    if run is not None and weights is not None:
        raise UsageError("a run and weights were both given: expected one of them", next_step="leave one out")
    if weights is None:
        return _of_run(runs.run_folder(root, run) if run is not None else runs.last_run(root, "finished"))
    folder = _run_behind(root, weights)
    return _of_weights(root, weights) if folder is None else _of_run(folder)


def _run_behind(root: Path, weights: Path) -> Path | None:
    """Return the run whose best weights these are."""
    folder = root / "runs" / weights.resolve().parent.parent.name
    if weights.resolve() != (folder / "weights" / "best.pt").resolve() or not (folder / runs.MARKER).is_file():
        return None
    return folder


def _of_run(folder: Path) -> Model:
    about = runs.read_run(folder)
    if about["kind"] != "training":
        raise UsageError(f"{folder}: no training made this run", next_step="give its checkpoint with --weights")
    weights = folder / "weights" / "best.pt"
    if not weights.is_file():
        raise MissingError(
            f"{weights}: expected the best weights of run {folder.name}, found no such file",
            next_step=f"fmask train --resume --name {folder.name}, or give a checkpoint with --weights",
        )
    return Model(folder, about, weights, digest_file(weights))


def _of_weights(root: Path, weights: Path) -> Model:
    """Give weights that no run made a run folder that says so. A checkpoint that cannot be loaded leaves none."""
    if not weights.is_file():
        raise MissingError(f"{weights}: no such checkpoint", next_step="check the path; `fmask train` makes one")
    digest = digest_file(weights)
    folder = runs.run_folder(root, f"{weights.stem}-{digest[:8]}")
    with locked(folder), storage_errors(folder):
        about = read_json(folder / runs.MARKER)
        if about is None:
            _, checkpoint = validation.load_model(weights)
            about = _about_weights(folder.name, weights.name, digest, checkpoint.get("train_args") or {})
            folder.mkdir(parents=True, exist_ok=True)
            runs.write_run(folder, about)
    return Model(folder, about, weights, digest)


def _about_weights(name: str, file: str, digest: str, train_args: Mapping[str, Any]) -> dict[str, Any]:
    imgsz = train_args.get("imgsz")
    return {
        "name": name,
        "kind": "weights",
        "state": "finished",
        "note": "weights that were given to `fmask evaluate`; no run of this folder made them",
        "weights": {"file": file, "sha256": digest},
        "settings": {"weights": file, "imgsz": imgsz if isinstance(imgsz, int) else DEFAULT_IMGSZ},
    }


# ---- what it is evaluated on ----


def find_exam(root: Path, model: Model, data: str | None) -> Path:
    """Return the ensemble's folder: the one that is asked for, else the run's own, else the latest."""
    trained_on = model.run.get("ensemble")
    if data is not None or not trained_on:
        return find_ensemble(root, data or "")
    return find_ensemble(root, str(root / trained_on["path"]))


def open_exam(folder: Path, split: str) -> Exam:
    """Return one split of an ensemble, checked.

    Raises:
        UsageError: there is no such split.
        DataError: it has no images or faces, or the ensemble other classes.
    """
    if split not in SPLITS:
        raise UsageError(
            f"--split {split}: no such split{nearest(split, SPLITS)}", next_step=f"one of: {', '.join(SPLITS)}"
        )
    exam = Exam(folder, read_ensemble(folder), split)
    _check_names(folder / "data.yaml")
    if not exam.images or not exam.boxes:
        raise DataError(
            f"{folder}: expected images with faces in the {split} split; it has {exam.images} images with "
            f"{exam.boxes} faces",
            next_step="score another split (--split), or build an ensemble that has this one",
        )
    return exam


def _check_names(path: Path) -> None:
    names = read_yaml(path).get("names")
    found = list(names.values()) if isinstance(names, dict) else names
    if found != list(CLASSES):
        raise DataError(
            f"{path}: expected the class names {list(CLASSES)}, in this order; found {found}",
            next_step="make it a source in configs/sources.yaml, and build an ensemble from it",
        )


def warn_of_another_ensemble(model: Model, exam: Exam) -> None:
    """Log a warning where an ensemble was built anew after the model was trained on it."""
    trained_on = model.run.get("ensemble") or {}
    if trained_on.get("name") == exam.card.name and trained_on.get("hash") != exam.card.hash:
        _log.warning(
            "%s was built anew since run %s was trained on it: images that it was trained on may now be in %s",
            exam.card.name, model.folder.name, exam.split,
        )  # fmt: skip
