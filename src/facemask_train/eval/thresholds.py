"""The confidence threshold above which a detection counts: chosen on the validation split, never on scored images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from facemask_train.eval.eval_target import EvalSplit, InferenceOptions, Model
from facemask_train.eval.records.audit import DetectionInputs, EnsembleReference, ThresholdSource
from facemask_train.eval.records.metrics import Metrics, newest, read_evaluations
from facemask_train.model import validation

DEFAULT_CONFIDENCE = 0.25
"""The threshold where none can be chosen: the default of the `ultralytics` package for predictions."""

_EXPLANATIONS = {
    "val": "chosen on val",
    "export": "chosen on val when the model was exported",
    "user": "set by you",
    "default": "the package's default: no evaluation chose one",
}


@dataclass(frozen=True, slots=True)
class Threshold:
    """A confidence threshold, and who chose it."""

    value: float
    chosen: ThresholdSource

    @property
    def why(self) -> str:
        """Who chose it, in words."""
        return _EXPLANATIONS[self.chosen]


def detection_inputs(model: Model, split: EvalSplit, options: InferenceOptions) -> DetectionInputs:
    """Return everything that determines the detections of a model on a split."""
    return DetectionInputs(
        weights=model.digest,
        ensemble=EnsembleReference(split.card.name, split.card.hash),
        split=split.split,
        imgsz=options.imgsz,
        batch=options.batch,
        lowest_confidence=validation.CONFIDENCE,
        suppression_iou=validation.IOU,
        detections_per_image=validation.MAX_DETECTIONS,
    )


def choose_threshold(model: Model, split: EvalSplit, options: InferenceOptions, given: float | None) -> Threshold:
    """Return the user's threshold, or the one with the best mean F1 on the ensemble's validation split.

    The validation split is scored for it, unless an evaluation of this model on this ensemble has chosen one already.
    """
    if given is not None:
        return Threshold(given, "user")
    known = _chosen_before(model, detection_inputs(model, split, options))
    if known is not None:
        return known
    val = split.of("val")
    if val is None:
        return Threshold(DEFAULT_CONFIDENCE, "default")
    scored = validation.validate(
        model.weights,
        val.folder / "data.yaml",
        "val",
        imgsz=options.imgsz,
        batch=options.batch,
        device=options.device,
        progress=options.progress,
    )
    return Threshold(round(scored.confidence, 6), "val")


def stored_threshold(model: Model, imgsz: int) -> Threshold:
    """Return the threshold that an evaluation of these weights at this image size chose on val, or the default.

    Of several evaluations, the one on the ensemble that the run was trained on, or else the newest.
    """
    own = model.run.ensemble.name if model.run.ensemble else None
    found = {
        folder: metrics
        for folder, metrics in read_evaluations(model.folder).items()
        if metrics.operating_point.chosen == "val"
        and (metrics.inputs.weights, metrics.inputs.imgsz) == (model.digest, imgsz)
    }
    chosen = newest(_of_ensemble(found, own) or found)
    if chosen is None:
        return Threshold(DEFAULT_CONFIDENCE, "default")
    return Threshold(chosen[1].operating_point.threshold, "val")


def _of_ensemble(evaluations: dict[Path, Metrics], name: str | None) -> dict[Path, Metrics]:
    return {folder: metrics for folder, metrics in evaluations.items() if metrics.ensemble == name}


def _chosen_before(model: Model, inputs: DetectionInputs) -> Threshold | None:
    """Return the threshold that an evaluation of this model on any split of this ensemble chose on val."""
    for metrics in read_evaluations(model.folder).values():
        if metrics.operating_point.chosen == "val" and metrics.inputs.same_detector(inputs):
            return Threshold(metrics.operating_point.threshold, "val")
    return None
