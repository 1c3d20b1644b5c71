"""The target of an evaluation: a model (the weights of a run, or any checkpoint) and one split of an ensemble."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

from facemask_train.core.config import read_yaml
from facemask_train.core.errors import DataError, MissingError, UsageError, nearest
from facemask_train.core.files import digest_file, locked, storage_errors
from facemask_train.core.types import CLASSES, SPLITS, Progress, no_progress
from facemask_train.dataset.card import EnsembleCard
from facemask_train.dataset.versions import find_ensemble, read_ensemble
from facemask_train.model import validation
from facemask_train.model.backends import DEFAULT_IMGSZ
from facemask_train.training import runs
from facemask_train.training.runs import GivenWeights, RunRecord

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Model:
    """A model: the folder of its run with the `run.json`, and the weights with their sha256."""

    folder: Path
    run: RunRecord
    weights: Path
    digest: str

    def imgsz(self, requested: int | None = None) -> int:
        """Return the requested image size in pixels, or the run's own."""
        return requested or self.run.imgsz or DEFAULT_IMGSZ


@dataclass(frozen=True, slots=True)
class EvalSplit:
    """One split of an ensemble: the ensemble's folder and card, and the name of the split."""

    folder: Path
    card: EnsembleCard
    split: str

    @property
    def images(self) -> int:
        return self.card.splits[self.split]

    @property
    def boxes(self) -> int:
        return self.card.faces_in(self.split)

    def of(self, split: str) -> EvalSplit | None:
        """Return another split of the same ensemble, or None if it has no faces."""
        other = EvalSplit(self.folder, self.card, split)
        return other if other.images and other.boxes else None


@dataclass(frozen=True, slots=True)
class InferenceOptions:
    """How a model is run: image size in pixels, batch size, device (a GPU if there is one, where it is empty)."""

    imgsz: int
    batch: int = 16
    device: str = ""
    progress: Progress = no_progress


# ---- the model ----


def find_model(root: Path, run: str | None, weights: Path | None) -> Model:
    """Return the best weights of a run, any checkpoint, or the best weights of the run that finished last.

    Raises:
        UsageError: a run and weights are both given, or the run was not made by training.
        MissingError: there is no such run or file.
    """
    if run is not None and weights is not None:
        raise UsageError("expected a run or weights, found both", next_step="leave one of them out")
    if weights is None:
        return _of_run(runs.run_folder(root, run) if run is not None else runs.last_run(root, "finished"))
    folder = _run_behind(root, weights)
    return _of_weights(root, weights) if folder is None else _of_run(folder)


def _run_behind(root: Path, weights: Path) -> Path | None:
    """Return the folder of the run whose best weights these are, if there is one."""
    folder = root / "runs" / weights.resolve().parent.parent.name
    if weights.resolve() != (folder / "weights" / "best.pt").resolve() or not (folder / runs.MARKER).is_file():
        return None
    return folder


def _of_run(folder: Path) -> Model:
    record = runs.read_run(folder)
    if record.kind != "training":
        raise UsageError(f"{folder}: this run was not made by training", next_step="give its checkpoint with --weights")
    weights = folder / "weights" / "best.pt"
    if not weights.is_file():
        raise MissingError(
            f"{weights}: expected the best weights of run {folder.name}, found no such file",
            next_step=f"fmask train --resume --name {folder.name}, or give a checkpoint with --weights",
        )
    return Model(folder, record, weights, digest_file(weights))


def _of_weights(root: Path, weights: Path) -> Model:
    """Make a run folder for weights that no run made; a checkpoint that cannot be loaded gets none."""
    if not weights.is_file():
        raise MissingError(f"{weights}: no such checkpoint", next_step="check the path; `fmask train` makes one")
    digest = digest_file(weights)
    folder = runs.run_folder(root, f"{weights.stem}-{digest[:8]}")
    with locked(folder), storage_errors(folder):
        if (folder / runs.MARKER).exists():
            record = runs.read_run(folder)
        else:
            _, checkpoint = validation.load_model(weights)
            imgsz = (checkpoint.get("train_args") or {}).get("imgsz")
            given = GivenWeights(weights.name, digest, imgsz if isinstance(imgsz, int) else DEFAULT_IMGSZ)
            record = RunRecord(folder.name, kind="weights", state="finished", weights=given)
            folder.mkdir(parents=True, exist_ok=True)
            record.save(folder)
    return Model(folder, record, weights, digest)


# ---- the split ----


def find_eval_ensemble(root: Path, model: Model, data: str | None) -> Path:
    """Return the folder of the requested ensemble, or the run's own, or the newest."""
    trained_on = model.run.ensemble
    if data is not None or trained_on is None:
        return find_ensemble(root, data or "")
    return find_ensemble(root, str(root / trained_on.path))


def open_eval_split(folder: Path, split: str) -> EvalSplit:
    """Return one split of an ensemble after checking it.

    Raises:
        UsageError: there is no such split.
        DataError: the split has no images or faces, or the ensemble has other classes.
    """
    if split not in SPLITS:
        raise UsageError(
            f"--split {split}: no such split{nearest(split, SPLITS)}", next_step=f"one of: {', '.join(SPLITS)}"
        )
    opened = EvalSplit(folder, read_ensemble(folder), split)
    _check_names(folder / "data.yaml")
    if not opened.images or not opened.boxes:
        raise DataError(
            f"{folder}: expected images with faces in the {split} split; it has {opened.images} images with "
            f"{opened.boxes} faces",
            next_step="evaluate another split (--split), or build an ensemble that has this one",
        )
    return opened


def _check_names(path: Path) -> None:
    names = read_yaml(path).get("names")
    found = list(names.values()) if isinstance(names, dict) else names
    if found != list(CLASSES):
        raise DataError(
            f"{path}: expected the class names {list(CLASSES)}, in this order; found {found}",
            next_step="add it as a source to configs/sources.yaml and build an ensemble from it",
        )


def warn_if_rebuilt(model: Model, target: EvalSplit) -> None:
    """Log a warning if the ensemble was rebuilt after the model was trained on it."""
    trained_on = model.run.ensemble
    if trained_on is not None and trained_on.name == target.card.name and trained_on.hash != target.card.hash:
        _log.warning(
            "%s was rebuilt after run %s was trained on it: images that it was trained on may now be in %s",
            target.card.name,
            model.folder.name,
            target.split,
        )
