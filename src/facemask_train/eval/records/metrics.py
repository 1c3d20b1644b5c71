"""`metrics.json`: everything that an evaluation measures. Each number has its 95 % interval and its n."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from facemask_train.core.records import Record, VersionError
from facemask_train.eval.measures.bootstrap import Estimate, Interval
from facemask_train.eval.measures.cells import ANY_SOURCE
from facemask_train.eval.measures.error_types import ErrorType
from facemask_train.eval.measures.label_agreement import LabelAgreement
from facemask_train.eval.measures.label_errors import LabelError
from facemask_train.eval.measures.matching import ErrorKind
from facemask_train.eval.measures.metrics import ALL, METRICS
from facemask_train.eval.records.audit import Audit, DetectionInputs, ThresholdSource

if TYPE_CHECKING:
    from pandas import DataFrame

_log = logging.getLogger(__name__)

Intervals = Mapping[str, Interval | None]
"""The interval of each metric, by its name."""


@dataclass(frozen=True, slots=True)
class Scores:
    """The metrics of a class, 0 to 1; None for a class without labeled faces.

    Average precision is COCO's; precision, recall and F1 are at the confidence with the best F1 on these images.
    """

    map50: float | None
    map50_95: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    intervals: Intervals

    def estimate(self, metric: str) -> Estimate:
        """Return a metric with its interval."""
        return Estimate(getattr(self, metric), self.intervals[metric])


@dataclass(frozen=True, slots=True)
class ClassMetrics(Scores):
    """The metrics of one class: `n` labeled faces on `images` images."""

    n: int
    images: int
    too_few: bool


@dataclass(frozen=True, slots=True)
class Rates:
    """Precision, recall and F1 at the operating point."""

    precision: float | None
    recall: float | None
    f1: float | None
    intervals: Intervals

    def estimate(self, metric: str) -> Estimate:
        """Return a metric with its interval."""
        return Estimate(getattr(self, metric), self.intervals[metric])


@dataclass(frozen=True, slots=True)
class OperatingPoint(Rates):
    """The rates at a confidence threshold that was not chosen on these images."""

    threshold: float
    chosen: ThresholdSource
    per_class: Mapping[str, Rates]


@dataclass(frozen=True, slots=True)
class ValidatorScores:
    """What the validator of the `ultralytics` package says, which integrates the curve differently."""

    precision: float | None
    recall: float | None
    map50: float | None
    map50_95: float | None


@dataclass(frozen=True, slots=True)
class Validator(ValidatorScores):
    """The validator's means over the classes, and each class."""

    per_class: Mapping[str, ValidatorScores]


@dataclass(frozen=True, slots=True)
class Bootstrap:
    """How the intervals were made."""

    level: float
    resamples: int
    seed: int
    over: str = "scene groups"


@dataclass(frozen=True, slots=True)
class Confusion:
    """The confusion matrix at the operating point."""

    classes: tuple[str, ...]
    counts: tuple[tuple[int, ...], ...]
    rows: str = "labeled class, then no face"
    columns: str = "detected class, then missed"


@dataclass(frozen=True, slots=True)
class SliceMetrics:
    """The metrics of one slice: `n` labeled faces on `images` images."""

    by: str
    name: str
    images: int
    n: int
    too_few: bool
    map50: float | None
    precision: float | None
    recall: float | None
    intervals: Intervals

    def estimate(self, metric: str) -> Estimate:
        """Return a metric with its interval."""
        return Estimate(getattr(self, metric), self.intervals[metric])


@dataclass(frozen=True, slots=True)
class CellMetrics:
    """The `n` labeled faces of one class and relative size in one source, or in all where `source` is empty.

    Attributes:
        right: the share that is found with the right class at the operating point; None where n is 0: not measured.
        wrong: how many are found with another class; `missed` are not found at all.
        train: how many faces of the class and size the run's training images show, augmented copies left out; None if
            that is not known, or for a single source.
    """

    name: str
    size: str
    source: str
    n: int
    images: int
    scenes: int
    right: float | None
    interval: Interval | None
    wrong: int
    missed: int
    too_few: bool
    train: int | None


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """The detections between two confidences: their mean confidence and their precision."""

    low: float
    high: float
    n: int
    confidence: float
    precision: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class CalibrationMetrics:
    """The expected calibration error over `n` detections, and the bins that it was computed from."""

    error: float | None
    n: int
    min_confidence: float
    bins: tuple[CalibrationBin, ...]


@dataclass(frozen=True, slots=True)
class EvaluationInputs(DetectionInputs):
    """Everything that determines an evaluation's result.

    Attributes:
        threshold: the confidence that the user fixed, or None if it is chosen on val.
        audit: the version of the audit, or None without one.
        version: of the evaluation.
    """

    threshold: float | None
    audit: int | None
    version: int


@dataclass(frozen=True, slots=True)
class Metrics(Record):
    """The result of an evaluation. The scores are means over the classes with labeled faces.

    Attributes:
        classes: the class names, in the order of their ids.
        boxes: the number of labeled faces.
        scenes: the number of scene groups, which are resampled as a whole; at most one for each image.
        best_f1_confidence: where precision, recall and F1 are taken.
        errors: the number of errors of each kind at the operating point.
        error_types: how many errors of each type there are, and what they cost (TIDE).
        cells: every class and relative size, over all sources first, then source by source, also those without a face.
        label_errors: labels that are probably wrong, the most suspicious first.
        label_agreement: None if no image was labeled twice, or it is not known.
        audit: None if the evaluation was made without one.
        images_digest: of the images and labels that were scored.
    """

    FILE: ClassVar[str] = "metrics.json"
    VERSION: ClassVar[int] = 5
    MAKE: ClassVar[str] = "fmask evaluate"

    run: str
    ensemble: str
    split: str
    model: str
    classes: tuple[str, ...]
    images: int
    boxes: int
    scenes: int
    map50: float
    map50_95: float
    precision: float
    recall: float
    f1: float | None
    intervals: Intervals
    too_few: bool
    per_class: Mapping[str, ClassMetrics]
    bootstrap: Bootstrap
    validator: Validator
    best_f1_confidence: float
    match_iou: float
    operating_point: OperatingPoint
    confusion: Confusion
    errors: Mapping[ErrorKind, int]
    error_types: Mapping[str, ErrorType]
    slices: tuple[SliceMetrics, ...]
    cells: tuple[CellMetrics, ...]
    calibration: CalibrationMetrics
    label_errors: tuple[LabelError, ...]
    label_agreement: LabelAgreement | None
    audit: Audit | None
    images_digest: str
    inputs: EvaluationInputs

    @property
    def overall(self) -> ClassMetrics:
        """The means over the classes as a row like those of `per_class`."""
        scores = (self.map50, self.map50_95, self.precision, self.recall, self.f1)
        return ClassMetrics(*scores, self.intervals, self.boxes, self.images, self.too_few)

    def row(self, name: str) -> ClassMetrics:
        """Return the metrics of a class, or of `all`."""
        return self.overall if name == ALL else self.per_class[name]

    @property
    def pooled_cells(self) -> tuple[CellMetrics, ...]:
        """The cells over all sources."""
        return tuple(one for one in self.cells if one.source == ANY_SOURCE)

    @property
    def table(self) -> DataFrame:
        """Return the metrics as a table: value, low, high and n (labeled faces) by class and metric."""
        import pandas as pd

        rows = []
        for name in (ALL, *self.classes):
            for metric in METRICS:
                estimate, n = self.row(name).estimate(metric), self.row(name).n
                rows.append((name, metric, estimate.value, *(estimate.interval or (None, None)), n))
        columns = ["class", "metric", "value", "low", "high", "n"]
        return pd.DataFrame(rows, columns=columns).set_index(["class", "metric"])


def read_evaluations(run: Path, *, split: str = "") -> dict[Path, Metrics]:
    """Return the evaluations of a run by their folders, sorted; those of another version are left out with a warning.

    Args:
        run: the run's folder.
        split: only evaluations on this split; on any if empty.

    Raises:
        DataError: a file is damaged.
    """
    found = {}
    for path in sorted((run / "evaluation").glob(f"[!.]*/{Metrics.FILE}")):
        try:
            metrics = Metrics.load(path.parent)
        except VersionError as error:
            _log.warning("%s; it is ignored: %s", error, error.next_step)
            continue
        if split in ("", metrics.split):
            found[path.parent] = metrics
    return found


def newest(evaluations: Mapping[Path, Metrics]) -> tuple[Path, Metrics] | None:
    """Return the evaluation that was written last, or None."""
    return max(evaluations.items(), key=lambda one: (one[0] / Metrics.FILE).stat().st_mtime_ns, default=None)
