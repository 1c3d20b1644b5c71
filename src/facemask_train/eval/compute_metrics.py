"""From the detections on a split to the record `Metrics`. Pure: reads no file and writes none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean

from facemask_train.core.boxes import CellCounts
from facemask_train.core.types import CLASSES
from facemask_train.eval.measures.bootstrap import LEVEL, RESAMPLES, SEED, Estimate, Interval, group_codes
from facemask_train.eval.measures.boxes_table import boxes_table
from facemask_train.eval.measures.calibration import calibration
from facemask_train.eval.measures.cells import ANY_SOURCE, cells
from facemask_train.eval.measures.error_types import ErrorType, error_types
from facemask_train.eval.measures.label_agreement import LabelAgreement
from facemask_train.eval.measures.label_errors import find_label_errors
from facemask_train.eval.measures.matching import ERROR_KINDS, MATCH_IOU, confusion_matrix, detection_errors
from facemask_train.eval.measures.metrics import (
    ALL,
    METRICS,
    Estimates,
    ScoredSplit,
    average_precisions,
    rates_at_confidence,
    score_split,
)
from facemask_train.eval.measures.slices import ImageTraits, Slice, slices
from facemask_train.eval.records import metrics as records
from facemask_train.eval.records.audit import Audit
from facemask_train.eval.records.metrics import EvaluationInputs, Metrics
from facemask_train.eval.thresholds import Threshold
from facemask_train.model.validation import Score, Validation

_DIGITS = 6
_MAX_LABEL_ERRORS = 100
_RATES = ("precision", "recall", "f1")
_SLICE_METRICS = ("map50", "precision", "recall")


@dataclass(frozen=True, eq=False, slots=True)
class Evaluated:
    """What the metrics are computed from.

    Attributes:
        traits: of each image, in the order of the validation's images.
        groups: the scene group of each image, in the same order.
        agreement: the label agreement of the ensemble's near-duplicates, if it is known.
        training_faces: by class and relative size, those of the run's training images; None if not known.
        images_digest: of the images and labels that were scored.
    """

    run: str
    validation: Validation
    threshold: Threshold
    traits: Sequence[ImageTraits]
    groups: Sequence[str]
    agreement: LabelAgreement | None
    audit: Audit | None
    training_faces: CellCounts | None
    images_digest: str
    inputs: EvaluationInputs


def compute_metrics(evaluated: Evaluated) -> Metrics:
    """Return all metrics of a scored split."""
    validation, confidence = evaluated.validation, evaluated.threshold.value
    split = score_split(boxes_table(validation.images), groups=group_codes(evaluated.groups))
    rates = rates_at_confidence(split, validation.confidence, chosen_here=True)
    rows = _class_metrics(validation, split, average_precisions(split), rates)
    overall = rows[ALL]
    errors = [one.kind for one in detection_errors(validation.images, confidence)]
    return Metrics(
        run=evaluated.run,
        ensemble=evaluated.inputs.ensemble.name,
        split=evaluated.inputs.split,
        model=validation.model,
        classes=CLASSES,
        images=len(validation.images),
        boxes=validation.mean.n,
        scenes=split.scenes,
        map50=overall.map50 or 0.0,
        map50_95=overall.map50_95 or 0.0,
        precision=overall.precision or 0.0,
        recall=overall.recall or 0.0,
        f1=overall.f1,
        intervals=overall.intervals,
        too_few=overall.too_few,
        per_class={name: rows[name] for name in CLASSES},
        bootstrap=records.Bootstrap(LEVEL, RESAMPLES, SEED),
        validator=_validator(validation),
        best_f1_confidence=round(validation.confidence, _DIGITS),
        match_iou=MATCH_IOU,
        operating_point=_operating_point(split, evaluated.threshold),
        confusion=_confusion(evaluated),
        errors={kind: errors.count(kind) for kind in ERROR_KINDS},
        error_types=_error_types(split, confidence),
        slices=tuple(_slice(one) for one in slices(split, evaluated.traits, confidence)),
        cells=tuple(_cells(split, evaluated)),
        calibration=_calibration(split),
        label_errors=tuple(find_label_errors(split, validation.images)[:_MAX_LABEL_ERRORS]),
        label_agreement=_label_agreement(evaluated.agreement),
        audit=evaluated.audit,
        images_digest=evaluated.images_digest,
        inputs=evaluated.inputs,
    )


# ---- the headline numbers ----


def _class_metrics(
    validation: Validation, split: ScoredSplit, precisions: Estimates, rates: Estimates
) -> dict[str, records.ClassMetrics]:
    """Return the metrics of each class and `ALL`.

    Average precision is COCO's. Precision and recall are the validator's, at the best F1 of these images, and F1 is
    that of each class's precision and recall.
    """
    rows = {}
    for name in (ALL, *CLASSES):
        score = validation.mean if name == ALL else validation.per_class[name]
        values = {
            "map50": _rounded(precisions[name]["map50"].value),
            "map50_95": _rounded(precisions[name]["map50_95"].value),
            "precision": _rounded(score.precision),
            "recall": _rounded(score.recall),
            "f1": _rounded(_f1(validation, CLASSES if name == ALL else (name,))),
        }
        intervals = _covering(values, {**precisions[name], **rates[name]})
        rows[name] = records.ClassMetrics(
            **values, intervals=intervals, n=score.n, images=score.images, too_few=split.too_few(name)
        )
    return rows


def _f1(validation: Validation, names: Iterable[str]) -> float | None:
    """Return F1 at the best-F1 confidence, averaged over classes."""
    values = []
    for score in (validation.per_class[name] for name in names):
        if score.precision is not None and score.recall is not None:
            total = score.precision + score.recall
            values.append(2 * score.precision * score.recall / total if total else 0.0)
    return fmean(values) if values else None


def _covering(values: Mapping[str, float | None], estimates: Mapping[str, Estimate]) -> records.Intervals:
    """Return intervals that include the numbers: the validator reads its own off curves, so they may differ a bit."""
    intervals: dict[str, Interval | None] = {}
    for key in METRICS:
        bounds, value = estimates[key].interval, values[key]
        intervals[key] = None
        if bounds is not None and value is not None:
            intervals[key] = (round(min(bounds[0], value), _DIGITS), round(max(bounds[1], value), _DIGITS))
    return intervals


def _validator(validation: Validation) -> records.Validator:
    def numbers(score: Score) -> tuple[float | None, float | None, float | None, float | None]:
        values = (score.precision, score.recall, score.map50, score.map50_95)
        precision, recall, map50, map50_95 = map(_rounded, values)
        return precision, recall, map50, map50_95

    per_class = {name: records.ValidatorScores(*numbers(score)) for name, score in validation.per_class.items()}
    return records.Validator(*numbers(validation.mean), per_class)


def _operating_point(split: ScoredSplit, threshold: Threshold) -> records.OperatingPoint:
    """Return precision, recall and F1 at a confidence that was not chosen on these images."""
    table = rates_at_confidence(split, threshold.value)

    def rates(name: str) -> records.Rates:
        precision, recall, f1 = (_rounded(table[name][key].value) for key in _RATES)
        return records.Rates(precision, recall, f1, _intervals(table[name]))

    overall = rates(ALL)
    return records.OperatingPoint(
        overall.precision,
        overall.recall,
        overall.f1,
        overall.intervals,
        threshold.value,
        threshold.chosen,
        {name: rates(name) for name in CLASSES},
    )


# ---- where the model fails ----


def _confusion(evaluated: Evaluated) -> records.Confusion:
    counts = confusion_matrix(evaluated.validation.images, evaluated.threshold.value)
    return records.Confusion(CLASSES, tuple(tuple(map(int, row)) for row in counts))


def _error_types(split: ScoredSplit, confidence: float) -> dict[str, ErrorType]:
    return {name: replace(one, cost=round(one.cost, _DIGITS)) for name, one in error_types(split, confidence).items()}


def _slice(one: Slice) -> records.SliceMetrics:
    estimates = {"map50": one.map50, "precision": one.precision, "recall": one.recall}
    map50, precision, recall = (_rounded(estimates[key].value) for key in _SLICE_METRICS)
    return records.SliceMetrics(
        one.by, one.name, one.images, one.n, one.too_few, map50, precision, recall, _intervals(estimates)
    )


def _cells(split: ScoredSplit, evaluated: Evaluated) -> Iterator[records.CellMetrics]:
    sources = [one.source or "unknown" for one in evaluated.traits]
    for one in cells(split, evaluated.validation.images, sources, evaluated.threshold.value):
        train = evaluated.training_faces if one.source == ANY_SOURCE else None
        yield records.CellMetrics(
            name=one.name,
            size=one.size,
            source=one.source,
            n=one.n,
            images=one.images,
            scenes=one.scenes,
            right=_rounded(one.right.value),
            interval=_rounded_interval(one.right.interval),
            wrong=one.wrong,
            missed=one.missed,
            too_few=one.too_few,
            train=None if train is None else train[one.name][one.size],
        )


def _calibration(split: ScoredSplit) -> records.CalibrationMetrics:
    found = calibration(split)
    bins = tuple(
        records.CalibrationBin(
            one.low,
            one.high,
            one.n,
            round(one.confidence, _DIGITS),
            _rounded(one.precision.value),
            _rounded_interval(one.precision.interval),
        )
        for one in found.bins
    )
    return records.CalibrationMetrics(_rounded(found.error), found.n, found.min_confidence, bins)


def _label_agreement(found: LabelAgreement | None) -> LabelAgreement | None:
    return None if found is None else replace(found, iou=_rounded(found.iou))


# ---- rounding ----


def _intervals(estimates: Mapping[str, Estimate]) -> dict[str, Interval | None]:
    return {key: _rounded_interval(estimate.interval) for key, estimate in estimates.items()}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), _DIGITS)


def _rounded_interval(interval: Interval | None) -> Interval | None:
    return None if interval is None else (round(interval[0], _DIGITS), round(interval[1], _DIGITS))
