"""Find the model to use (a run's best weights, a checkpoint or an export) and its confidence threshold."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facemask_train.core.errors import MissingError, UsageError
from facemask_train.core.files import digest_data, digest_file, read_json
from facemask_train.eval.eval_target import Model, find_model
from facemask_train.eval.thresholds import DEFAULT_CONFIDENCE, Threshold, stored_threshold
from facemask_train.model.detector import Detector
from facemask_train.training import runs

EXPORT_MARKER = "export.json"
"""The file that `fmask export` writes beside its models."""


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model that was found.

    Attributes:
        name: its run's name, or one made of the file's name and digest.
        weights: the checkpoint, or the export's file or folder.
        digest: sha256 of the weights.
        run: the run that trained or evaluated these weights, None if there is none.
    """

    name: str
    weights: Path
    digest: str
    run: Model | None

    def imgsz(self, requested: int | None) -> int | None:
        """Return the input size in pixels: the requested one, or the run's; None if the file itself decides."""
        own = self.run.imgsz() if self.run is not None and self.weights.suffix == ".pt" else None
        return requested or own


def resolve_model(root: Path, run: str | None, weights: Path | None) -> ResolvedModel:
    """Return a run's best weights, any weights, or the best weights of the last finished run.

    Unlike `find_model` it accepts exports, and makes no run folder for weights without a run.

    Raises:
        UsageError: both a run and weights were given, or the run is not a training run.
        MissingError: there is no such run or file.
    """
    if weights is None:
        found = find_model(root, run, None)
        return ResolvedModel(found.folder.name, found.weights, found.digest, found)
    if run is not None:
        raise UsageError("both a run and weights were given; expected one of them", next_step="leave one out")
    if not weights.exists():
        raise MissingError(
            f"{weights}: no such file", next_step="check the path; fmask train and fmask export write weights"
        )
    digest = digest_weights(weights)
    own_name = f"{weights.resolve().stem}-{digest[:8]}"
    source = _training_run(weights) or _evaluated_run(runs.run_folder(root, own_name), weights, digest)
    return ResolvedModel(own_name if source is None else source.folder.name, weights, digest, source)


def _training_run(weights: Path) -> Model | None:
    """Return the run whose best weights these are, or were exported from."""
    for folder in weights.resolve().parents[:4]:
        best = folder / "weights" / "best.pt"
        if (folder / runs.MARKER).is_file() and best.is_file():
            digest = digest_file(best)
            same = best.samefile(weights) if weights.suffix == ".pt" else _exported_from(weights) in (None, digest)
            return Model(folder, runs.read_run(folder), best, digest) if same else None
    return None


def _exported_from(weights: Path) -> str | None:
    """Return the digest of the checkpoint that an export was made from, where `export.json` beside it has it.

    The file is not loaded as a record, so that exports of older versions of fmask keep their run.
    """
    for folder in weights.resolve().parents[:2]:
        data = read_json(folder / EXPORT_MARKER)
        if data is not None:
            return str((data.get("inputs") or {}).get("weights"))
    return None


def _evaluated_run(folder: Path, weights: Path, digest: str) -> Model | None:
    """Return the run folder that `fmask evaluate --weights` made for a checkpoint without a run."""
    known = (folder / runs.MARKER).is_file()
    return Model(folder, runs.read_run(folder), weights, digest) if known else None


def digest_weights(weights: Path) -> str:
    """Return the digest of a file, or of an OpenVINO model's two files."""
    if weights.is_file() and weights.suffix != ".xml":
        return digest_file(weights)
    folder, stem = (weights, "*") if weights.is_dir() else (weights.parent, weights.stem)
    parts = [path for kind in ("xml", "bin") for path in sorted(folder.glob(f"{stem}.{kind}"))]
    return digest_data([digest_file(path) for path in parts])


def find_threshold(model: ResolvedModel, detector: Detector, confidence: float | None) -> Threshold:
    """Return the confidence above which a detection counts.

    That is the user's; else the one that the run's evaluation chose; else the one stored in an export, if it is used at
    the image size that it was chosen at.
    """
    if confidence is not None:
        return Threshold(confidence, "user")
    found = (
        Threshold(DEFAULT_CONFIDENCE, "default") if model.run is None else stored_threshold(model.run, detector.imgsz)
    )
    stored = detector.backend.operating_point if detector.imgsz == detector.backend.imgsz else None
    return found if stored is None or found.chosen == "val" else Threshold(stored, "export")
