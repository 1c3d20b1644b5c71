"""Records of evaluations with numbers that a test chooses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from facemask_train.core.types import CLASSES
from facemask_train.eval.measures.error_types import ERROR_TYPES, ErrorType
from facemask_train.eval.measures.metrics import METRICS
from facemask_train.eval.records.audit import EnsembleReference
from facemask_train.eval.records.metrics import (
    Bootstrap,
    CalibrationMetrics,
    ClassMetrics,
    Confusion,
    EvaluationInputs,
    Metrics,
    OperatingPoint,
    Rates,
    Validator,
    ValidatorScores,
)

INTERVAL = (0.5, 0.9)
_INTERVALS = dict.fromkeys(METRICS, INTERVAL)


def class_metrics(n: int = 80, images: int = 120) -> ClassMetrics:
    return ClassMetrics(0.8, 0.6, 0.75, 0.7, 0.72, _INTERVALS, n, images, too_few=False)


def rates(recall: float | None = 0.7) -> Rates:
    interval = None if recall is None else INTERVAL
    return Rates(0.75, recall, 0.72, {"precision": INTERVAL, "recall": interval, "f1": INTERVAL})


def operating_point(threshold: float = 0.4, chosen: Any = "val", **by_class: Rates) -> OperatingPoint:
    whole, per_class = rates(), {name: rates() for name in CLASSES} | by_class
    return OperatingPoint(whole.precision, whole.recall, whole.f1, whole.intervals, threshold, chosen, per_class)


def inputs(weights: str = "abc", imgsz: int = 96, ensemble: str = "v5", split: str = "test") -> EvaluationInputs:
    reference = EnsembleReference(ensemble, "0" * 64)
    return EvaluationInputs(weights, reference, split, imgsz, 16, 0.001, 0.7, 300, None, None, Metrics.VERSION)


def make_metrics(**changed: Any) -> Metrics:
    """Return the metrics of an evaluation on v5's test split, with some fields changed."""
    scores = ValidatorScores(0.75, 0.7, 0.8, 0.6)
    row = class_metrics()
    made = Metrics(
        run="r",
        ensemble="v5",
        split="test",
        model="YOLOv5n",
        classes=CLASSES,
        images=120,
        boxes=160,
        scenes=120,
        map50=0.8,
        map50_95=0.6,
        precision=0.75,
        recall=0.7,
        f1=row.f1,
        intervals=row.intervals,
        too_few=False,
        per_class=dict.fromkeys(CLASSES, row),
        bootstrap=Bootstrap(0.95, 1000, 0),
        validator=Validator(0.75, 0.7, 0.8, 0.6, dict.fromkeys(CLASSES, scores)),
        best_f1_confidence=0.4,
        match_iou=0.5,
        operating_point=operating_point(),
        confusion=Confusion(CLASSES, ((60, 5, 15), (4, 66, 10), (3, 2, 0))),
        errors={"missed": 25, "wrong class": 9, "false positive": 5},
        error_types={name: ErrorType(1, 0.01) for name in ERROR_TYPES},
        slices=(),
        cells=(),
        calibration=CalibrationMetrics(0.05, 100, 0.05, ()),
        label_errors=(),
        label_agreement=None,
        audit=None,
        images_digest="0" * 64,
        inputs=inputs(),
    )
    return replace(made, **changed)


def write_metrics(folder: Path, **changed: Any) -> Metrics:
    """Write the `metrics.json` of an evaluation's folder."""
    made = make_metrics(**changed)
    folder.mkdir(parents=True, exist_ok=True)
    made.save(folder)
    return made
