"""How a detector erred on its test set, from the evaluation that a run keeps, by the rule that a survey judges by."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facemask_train.apps.resolve_model import Asked
from facemask_train.apps.survey.face_rules import MIN_FACE, Rule, measure
from facemask_train.apps.survey.prevalence import Measured, check
from facemask_train.core.errors import DataError, MissingError, UsageError
from facemask_train.core.files import digest_file, read_json
from facemask_train.core.types import CLASSES
from facemask_train.eval import detections_table
from facemask_train.model.backends import is_export
from facemask_train.model.detector import Detector
from facemask_train.train import runs


@dataclass(frozen=True, slots=True)
class Which:
    """On what a detector's errors were measured, and how faces are judged.

    Attributes:
        data: an ensemble's name; the run's own, or the one evaluated last, where it is None.
        confidence: the operating point; what the evaluation chose where it is None.
        min_face: of a face that is judged, in pixels as the detector sees it.
    """

    data: str | None = None
    split: str = "test"
    confidence: float | None = None
    min_face: float = MIN_FACE


@dataclass(frozen=True, eq=False, slots=True)
class Tested:
    """A detector on its test set.

    `rule` says how faces were judged, `chosen` who chose its confidence, `measured` what became of the faces, and
    `brightness` the mean luma (0 to 255) of each image. `digest` is of the detections that all this rests on.
    """

    ensemble: str
    split: str
    digest: str
    rule: Rule
    chosen: str
    measured: Measured
    brightness: Sequence[float]

    def told(self) -> dict[str, Any]:
        """Return what became of the test set's faces, as JSON holds it."""
        import numpy as np

        measured = self.measured
        answers = {
            name: np.bincount(measured.answer[measured.name == index], minlength=4).tolist()
            for index, name in enumerate(CLASSES)
        }
        return {
            "ensemble": self.ensemble,
            "split": self.split,
            "images": measured.images,
            "answers": [*CLASSES, "unknown", "missed"],
            **answers,
            "false": np.bincount(measured.false.answer, minlength=3).tolist(),
        }


def find_tested(root: Path, asked: Asked, detector: Detector, which: Which) -> Tested:
    """Return how the detector erred on the test set.

    Raises:
        MissingError: no evaluation of these weights at this image size is there.
        UsageError: the split is not one to measure on, or the model leaves out what would be unknown.
        DataError: the test set does not tell how it errs.
    """
    if which.split not in ("test", "val"):
        raise UsageError(
            f"--split {which.split}: how a detector errs is told by images that it was not trained on: test or val",
            next_step="--split test",
        )
    folder, said = _evaluation(root, asked, detector.imgsz, which)
    point = said["operating_point"]
    chosen = "user" if which.confidence is not None else str(point["chosen"])
    rule = Rule(which.confidence or float(point["threshold"]), detector.imgsz, which.min_face)
    if detector.backend.min_confidence > rule.faint:
        raise UsageError(
            f"this export drops detections below confidence {detector.backend.min_confidence:g}, and unsure faces "
            f"from {rule.faint:g} on count as unknown",
            next_step="give the run's .pt, or an export with suppression outside: fmask export --nms outside",
        )
    measured = measure(detections_table.read_images(folder), rule)
    try:
        check(measured)
    except DataError as error:
        step = "evaluate on a test set that has both (--data), or judge more of it (--confidence, --min-face)"
        raise DataError(f"{folder}: {error}", next_step=step) from error
    digest = digest_file(folder / detections_table.DETECTIONS)
    return Tested(said["ensemble"], which.split, digest, rule, chosen, measured, _brightness(folder))


def _evaluation(root: Path, asked: Asked, imgsz: int, which: Which) -> tuple[Path, dict[str, Any]]:
    """Return the evaluation of these weights at this size on the ensemble asked for, the run's own, or the last."""
    behind = asked.run
    home = behind.folder if behind is not None else runs.run_folder(root, asked.name)
    digest = behind.digest if behind is not None else asked.digest
    own = (behind.run.get("ensemble") or {}).get("name") if behind is not None else None
    found = []
    for path in sorted((home / "evaluation").glob(f"*-{which.split}/metrics.json")):
        said = read_json(path) or {}
        inputs = said.get("inputs") or {}
        same = (inputs.get("weights"), inputs.get("imgsz")) == (digest, imgsz)
        if same and which.data in (None, said["ensemble"]) and (path.parent / detections_table.IMAGES).is_file():
            found.append(((said["ensemble"] == own, path.stat().st_mtime_ns), path.parent, said))
    if not found:
        raise _not_evaluated(home, asked, imgsz, which)
    _, folder, said = max(found, key=lambda one: one[0])
    return folder, said


def _not_evaluated(home: Path, asked: Asked, imgsz: int, which: Which) -> MissingError:
    trained = asked.run is not None and asked.run.run["kind"] == "training"
    command = ["fmask evaluate", home.name if trained else f"--weights {shlex.quote(str(asked.weights))}"]
    command += [f"--imgsz {imgsz}"] + ([f"--data {which.data}"] if which.data else [])
    command += [f"--split {which.split}"] if which.split != "test" else []
    step = " ".join(command)
    if asked.run is None and is_export(asked.weights):
        step = "give an export where it was made, in the folder of its run, and evaluate that run at this size"
    return MissingError(
        f"{home / 'evaluation'}: a rate needs to know how these weights err, at {imgsz} px, on the {which.split} split "
        f"of {which.data or 'an ensemble'}; found no such evaluation",
        next_step=step,
    )


def _brightness(folder: Path) -> list[float]:
    import pyarrow.parquet as pq

    return list(pq.read_table(folder / detections_table.IMAGES, columns=["brightness"])["brightness"].to_pylist())
