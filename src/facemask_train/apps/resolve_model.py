"""Which model answers for a person's images, a checkpoint or an export, and from which confidence it counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facemask_train.core.errors import MissingError, UsageError
from facemask_train.core.files import digest_data, digest_file, read_json
from facemask_train.eval.eval_target import Model, find_model
from facemask_train.eval.thresholds import DEFAULT, Threshold, chosen
from facemask_train.model.detector import Detector
from facemask_train.train import runs

EXPORTED = "export.json"
"""What `fmask export` leaves beside the files that it made."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The model that answers: what it is called, its file, its digest, and its run where one made it."""

    name: str
    weights: Path
    digest: str
    run: Model | None

    def imgsz(self, asked: int | None) -> int | None:
        """The image size that is asked for, else the run's own; None where the file itself has to say."""
        own = self.run.imgsz() if self.run is not None and self.weights.suffix == ".pt" else None
        return asked or own


def find_asked(root: Path, run: str | None, weights: Path | None) -> Asked:
    """Return the model that is asked for: a run's best weights, any file, or the run that finished last.

    Unlike `find_model` it takes exports, and leaves no folder behind for weights that no run made.

    Raises:
        UsageError: a run and weights, or a run that no training made.
        MissingError: there is no such run, or no such file.
    """
    if weights is None:
        found = find_model(root, run, None)
        return Asked(found.folder.name, found.weights, found.digest, found)
    if run is not None:
        raise UsageError("a run and weights were both given: expected one of them", next_step="leave one out")
    if not weights.exists():
        raise MissingError(
            f"{weights}: no such file", next_step="check the path; fmask train and fmask export make one"
        )
    digest = _digest(weights)
    own = f"{weights.resolve().stem}-{digest[:8]}"
    behind = _run_behind(weights) or _evaluated(runs.run_folder(root, own), weights, digest)
    return Asked(own if behind is None else behind.folder.name, weights, digest, behind)


def _run_behind(weights: Path) -> Model | None:
    """Return the run whose best weights these are, or were exported from."""
    for folder in weights.resolve().parents[:4]:
        best = folder / "weights" / "best.pt"
        if (folder / runs.MARKER).is_file() and best.is_file():
            digest = digest_file(best)
            same = best.samefile(weights) if weights.suffix == ".pt" else _made_of(weights) in (None, digest)
            return Model(folder, runs.read_run(folder), best, digest) if same else None
    return None


def _made_of(weights: Path) -> str | None:
    """Return the digest of the checkpoint that an export was made of, where `fmask export` says it beside it."""
    for folder in weights.resolve().parents[:2]:
        said = read_json(folder / EXPORTED)
        if said is not None:
            return str((said.get("inputs") or {}).get("weights"))
    return None


def _evaluated(folder: Path, weights: Path, digest: str) -> Model | None:
    """Return what `fmask evaluate --weights` keeps of a checkpoint that no run made."""
    known = (folder / runs.MARKER).is_file()
    return Model(folder, runs.read_run(folder), weights, digest) if known else None


def _digest(weights: Path) -> str:
    """Return the digest of a file, or of an OpenVINO model's two."""
    if weights.is_file() and weights.suffix != ".xml":
        return digest_file(weights)
    folder, stem = (weights, "*") if weights.is_dir() else (weights.parent, weights.stem)
    parts = [path for kind in ("xml", "bin") for path in sorted(folder.glob(f"{stem}.{kind}"))]
    return digest_data([digest_file(path) for path in parts])


def threshold(asked: Asked, detector: Detector, confidence: float | None) -> Threshold:
    """Return the confidence from which a detection counts.

    The user's; else what the run's evaluation chose; else what an export says was chosen for its own image size.
    """
    if confidence is not None:
        return Threshold(confidence, "user")
    found = Threshold(DEFAULT, "default") if asked.run is None else chosen(asked.run, detector.imgsz)
    said = detector.backend.operating_point if detector.imgsz == detector.backend.imgsz else None
    return found if said is None or found.chosen == "val" else Threshold(said, "export")
