"""Which model answers for a person's pictures, a checkpoint or an export, and from which confidence it counts."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facemask_train.errors import MissingError, UsageError
from facemask_train.evaluation.subject import Model, find_model
from facemask_train.evaluation.threshold import DEFAULT, Threshold, chosen
from facemask_train.folders import digest_data, digest_file
from facemask_train.training import runs


@dataclass(frozen=True, slots=True)
class Asked:
    """The model that answers: what it is called, its file, its digest, and its run where one made it."""

    name: str
    weights: Path
    digest: str
    run: Model | None

    def imgsz(self, asked: int | None) -> int | None:
        """The picture size that is asked for, else the run's own; None where the file itself has to say."""
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
    behind = _run_behind(weights)
    digest = _digest(weights)
    name = behind.folder.name if behind is not None else f"{weights.resolve().stem}-{digest[:8]}"
    return Asked(name, weights, digest, behind)


def _run_behind(weights: Path) -> Model | None:
    """Return the run whose best weights these are, or were exported from."""
    for folder in weights.resolve().parents[:4]:
        best = folder / "weights" / "best.pt"
        if (folder / runs.MARKER).is_file() and best.is_file():
            same = weights.suffix != ".pt" or best.samefile(weights)
            return Model(folder, runs.read_run(folder), best, digest_file(best)) if same else None
    return None


def _digest(weights: Path) -> str:
    """Return the digest of a file, or of an OpenVINO model's two."""
    if weights.is_file() and weights.suffix != ".xml":
        return digest_file(weights)
    folder, stem = (weights, "*") if weights.is_dir() else (weights.parent, weights.stem)
    parts = [path for kind in ("xml", "bin") for path in sorted(folder.glob(f"{stem}.{kind}"))]
    return digest_data([digest_file(path) for path in parts])


def threshold(asked: Asked, imgsz: int, confidence: float | None) -> Threshold:
    """Return the confidence from which a detection counts: the user's, else what the run's evaluation chose."""
    if confidence is not None:
        return Threshold(confidence, "user")
    return Threshold(DEFAULT, "default") if asked.run is None else chosen(asked.run, imgsz)
