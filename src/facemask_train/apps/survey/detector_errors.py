"""Measure a detector's errors on its reference set, from an evaluation of its run, with the survey's face rules."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facemask_train.apps.records.survey import ReferenceCounts, ReferenceDigest
from facemask_train.apps.resolve_model import ResolvedModel
from facemask_train.apps.survey.face_rules import MIN_FACE, FaceRules, classify_reference
from facemask_train.apps.survey.samples import MISSED, UNKNOWN, ReferenceFaces, check_reference
from facemask_train.core.errors import DataError, MissingError, UsageError
from facemask_train.core.files import digest_file
from facemask_train.core.types import CLASSES
from facemask_train.eval import detections_table
from facemask_train.eval.records.audit import ThresholdSource
from facemask_train.eval.records.metrics import Metrics, newest, read_evaluations
from facemask_train.model.backends import is_export
from facemask_train.model.detector import Detector
from facemask_train.training import runs


@dataclass(frozen=True, slots=True)
class ReferenceSet:
    """Where a detector's errors are measured, and when a face is classified.

    Attributes:
        data: an ensemble's name; the run's own, or the one evaluated last, if it is None.
        split: `test` or `val`.
        confidence: the threshold; the one that the evaluation chose if it is None.
        min_face: the smallest face that is classified, in pixels at the detector's input size.
    """

    data: str | None = None
    split: str = "test"
    confidence: float | None = None
    min_face: float = MIN_FACE


@dataclass(frozen=True, eq=False, slots=True)
class DetectorErrors:
    """How a detector classified the faces of its reference set.

    Attributes:
        digest: of the detections that the errors were measured on.
        rules: when a face was classified.
        confidence_chosen: who chose the threshold.
        faces: the outcome of each face.
        brightness: the mean luma (0 to 255) of each image.
    """

    ensemble: str
    split: str
    digest: str
    rules: FaceRules
    confidence_chosen: ThresholdSource
    faces: ReferenceFaces
    brightness: Sequence[float]

    @property
    def source(self) -> ReferenceDigest:
        return ReferenceDigest(self.ensemble, self.split, self.digest)

    def counts(self) -> ReferenceCounts:
        """Return the number of faces with each outcome."""
        import numpy as np

        faces = self.faces
        by_class = {
            name: tuple(np.bincount(faces.outcome[faces.label == index], minlength=MISSED + 1).tolist())
            for index, name in enumerate(CLASSES)
        }
        false_boxes = tuple(np.bincount(faces.false_boxes.outcome, minlength=UNKNOWN + 1).tolist())
        outcomes = (*CLASSES, "unknown", "missed")
        return ReferenceCounts(self.ensemble, self.split, faces.images, outcomes, by_class, false_boxes)


def find_detector_errors(
    root: Path, model: ResolvedModel, detector: Detector, reference: ReferenceSet
) -> DetectorErrors:
    """Return a detector's errors on its reference set.

    Raises:
        MissingError: there is no evaluation of these weights at this image size.
        UsageError: the split is not one to measure errors on, or the model does not report low-confidence boxes.
        DataError: the errors cannot be estimated from the reference set.
    """
    if reference.split not in ("test", "val"):
        raise UsageError(
            f"--split {reference.split}: expected test or val, because errors can only be measured on images that the "
            "model was not trained on",
            next_step="--split test",
        )
    folder, metrics = _evaluation(root, model, detector.imgsz, reference)
    point = metrics.operating_point
    chosen: ThresholdSource = "user" if reference.confidence is not None else point.chosen
    rules = FaceRules(reference.confidence or point.threshold, detector.imgsz, reference.min_face)
    if detector.backend.min_confidence > rules.min_confidence:
        raise UsageError(
            f"this export drops detections below confidence {detector.backend.min_confidence:g}, but those from "
            f"{rules.min_confidence:g} count as unknown faces",
            next_step="use the run's .pt, or an export without built-in suppression: fmask export --nms outside",
        )
    faces = classify_reference(detections_table.read_images(folder), rules)
    try:
        check_reference(faces)
    except DataError as error:
        step = "use an evaluation with faces of both classes (--data), or lower --confidence or --min-face"
        raise DataError(f"{folder}: {error}", next_step=step) from error
    digest = digest_file(folder / detections_table.DETECTIONS)
    return DetectorErrors(metrics.ensemble, reference.split, digest, rules, chosen, faces, _brightness(folder))


def _evaluation(root: Path, model: ResolvedModel, imgsz: int, reference: ReferenceSet) -> tuple[Path, Metrics]:
    """Return an evaluation of these weights at this size: on the requested ensemble, the run's own, or the last one."""
    run = model.run
    home = run.folder if run is not None else runs.run_folder(root, model.name)
    digest = run.digest if run is not None else model.digest
    own = run.run.ensemble.name if run is not None and run.run.ensemble else None
    found = {
        folder: metrics
        for folder, metrics in read_evaluations(home, split=reference.split).items()
        if (metrics.inputs.weights, metrics.inputs.imgsz) == (digest, imgsz)
        and reference.data in (None, metrics.ensemble)
        and (folder / detections_table.IMAGES).is_file()
    }
    chosen = newest({folder: metrics for folder, metrics in found.items() if metrics.ensemble == own} or found)
    if chosen is None:
        raise _not_evaluated(home, model, imgsz, reference)
    return chosen


def _not_evaluated(home: Path, model: ResolvedModel, imgsz: int, reference: ReferenceSet) -> MissingError:
    trained = model.run is not None and model.run.run.kind == "training"
    command = ["fmask evaluate", home.name if trained else f"--weights {shlex.quote(str(model.weights))}"]
    command += [f"--imgsz {imgsz}"] + ([f"--data {reference.data}"] if reference.data else [])
    command += [f"--split {reference.split}"] if reference.split != "test" else []
    step = " ".join(command)
    if model.run is None and is_export(model.weights):
        step = "leave the export in its run's folder, and evaluate that run at this image size"
    return MissingError(
        f"{home / 'evaluation'}: a survey needs an evaluation of these weights at {imgsz} px on the {reference.split} "
        f"split of {reference.data or 'an ensemble'}, which tells the detector's errors; found none",
        next_step=step,
    )


def _brightness(folder: Path) -> list[float]:
    import pyarrow.parquet as pq

    return list(pq.read_table(folder / detections_table.IMAGES, columns=["brightness"])["brightness"].to_pylist())
