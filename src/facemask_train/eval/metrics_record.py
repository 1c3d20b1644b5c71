"""From a scored split to all that `metrics.json` says of it. Pure: it reads nothing and writes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from facemask_train.core.types import CLASSES, ImageResult
from facemask_train.eval.measures.bootstrap import LEVEL, RESAMPLES, SEED
from facemask_train.eval.measures.calibration import BINS, FROM, calibration
from facemask_train.eval.measures.error_types import mistakes
from facemask_train.eval.measures.label_agreement import Agreement
from facemask_train.eval.measures.label_errors import suspects
from facemask_train.eval.measures.matching import KINDS, MATCH_IOU, confusion, misses
from facemask_train.eval.measures.metrics import (
    NUMBERS,
    Number,
    Sample,
    Table,
    at_confidence,
    average_precisions,
)
from facemask_train.eval.measures.slices import Traits, slices
from facemask_train.eval.thresholds import Threshold
from facemask_train.model.validation import Score, Validation

_DIGITS = 6
_MOST_SUSPECTS = 100


def numbers(scored: Validation, sample: Sample) -> dict[str, Any]:
    """Return the headline numbers, for all and per class, with their intervals.

    Average precision is COCO's; precision and recall are the validator's, at the best F1 of these images, and F1 is
    that of each class's precision and recall. `validator` holds its own average precision beside.
    """
    table = _joined(average_precisions(sample), at_confidence(sample, scored.confidence, chosen_here=True))
    values = {name: _values(scored, table, name) for name in ("all", *CLASSES)}
    return {
        **values["all"],
        "per_class": {
            name: {**values[name], "n": score.n, "images": score.images, "few": sample.few(name)}
            for name, score in scored.per_class.items()
        },
        "few": sample.few("all"),
        "intervals": {
            **_intervals(table["all"], values["all"]),
            "per_class": {name: _intervals(table[name], values[name]) for name in CLASSES},
        },
        "bootstrap": {"level": LEVEL, "resamples": RESAMPLES, "over": "images", "seed": SEED},
        "validator": {**_score(scored.mean), "per_class": {n: _score(s) for n, s in scored.per_class.items()}},
        "confidence": round(scored.confidence, _DIGITS),
        "match_iou": MATCH_IOU,
    }


def _joined(one: Table, other: Table) -> Table:
    return {name: {**one[name], **other[name]} for name in one}


def _values(scored: Validation, table: Table, name: str) -> dict[str, float | None]:
    score = scored.mean if name == "all" else scored.per_class[name]
    own = {key: table[name][key].value for key in ("map50", "map50_95")}
    return {
        key: rounded(value)
        for key, value in {**own, "precision": score.precision, "recall": score.recall, "f1": _f1(scored, name)}.items()
    }


def _f1(scored: Validation, name: str) -> float | None:
    """Return F1 at the best-F1 confidence; for all, the mean over the classes."""
    classes = CLASSES if name == "all" else (name,)
    found = []
    for score in (scored.per_class[one] for one in classes):
        if score.precision is not None and score.recall is not None:
            total = score.precision + score.recall
            found.append(2 * score.precision * score.recall / total if total else 0.0)
    return sum(found) / len(found) if found else None


def _score(score: Score) -> dict[str, float | None]:
    return {key: rounded(value) for key, value in asdict(score).items() if key not in ("n", "images")}


def _intervals(row: Mapping[str, Number], values: Mapping[str, float | None]) -> dict[str, list[float] | None]:
    """Return intervals that hold the number beside them: the validator's are read off curves, so they may differ."""
    found = {}
    for key in NUMBERS:
        bounds, value = row[key].interval, values[key]
        found[key] = None if bounds is None or value is None else [min(bounds[0], value), max(bounds[1], value)]
    return {key: None if bounds is None else [round(x, _DIGITS) for x in bounds] for key, bounds in found.items()}


def operating_point(sample: Sample, threshold: Threshold) -> dict[str, Any]:
    """Return precision, recall and F1 where the user works: at a confidence that was not chosen on these images."""
    table = at_confidence(sample, threshold.value)

    def row(name: str) -> dict[str, Any]:
        values = {key: rounded(number.value) for key, number in table[name].items()}
        return {**values, "intervals": {key: interval(number) for key, number in table[name].items()}}

    named = {name: row(name) for name in CLASSES}
    return {"threshold": threshold.value, "chosen": threshold.chosen, **row("all"), "per_class": named}


def interval(number: Number) -> list[float] | None:
    return None if number.interval is None else [round(x, _DIGITS) for x in number.interval]


def rounded(value: float | None) -> float | None:
    return None if value is None else round(float(value), _DIGITS)


def anatomy(
    sample: Sample, images: Sequence[ImageResult], traits: Sequence[Traits], confidence: float
) -> dict[str, Any]:
    """Return where it fails: the confusion matrix, misses, mistakes, slices, calibration and suspected labels.

    Args:
        confidence: the threshold above which a detection counts.
    """
    found = misses(images, confidence)
    return {
        "confusion": {
            "rows": "as labelled, then nothing labelled",
            "columns": "as detected, then nothing detected",
            "classes": list(CLASSES),
            "counts": confusion(images, confidence).tolist(),
        },
        "misses": {kind: sum(miss.kind == kind for miss in found) for kind in KINDS},
        "mistakes": {
            name: {"count": one.count, "cost": rounded(one.cost)} for name, one in mistakes(sample, confidence).items()
        },
        "slices": [
            {
                "by": one.by, "name": one.name, "images": one.images, "n": one.n, "few": one.few,
                **{key: rounded(getattr(one, key).value) for key in ("map50", "precision", "recall")},
                "intervals": {key: interval(getattr(one, key)) for key in ("map50", "precision", "recall")},
            }
            for one in slices(sample, traits, confidence)
        ],
        "calibration": _calibration(sample),
        "suspects": [asdict(one) for one in suspects(sample, images)[:_MOST_SUSPECTS]],
    }  # fmt: skip


def _calibration(sample: Sample) -> dict[str, Any]:
    found = calibration(sample)
    return {
        "error": rounded(found.error),
        "n": found.n,
        "from": FROM,
        "bins_of": 1 / BINS,
        "bins": [
            {
                "low": one.low, "high": one.high, "n": one.n, "confidence": rounded(one.confidence),
                "right": rounded(one.right.value), "interval": interval(one.right),
            }
            for one in found.bins
        ],
    }  # fmt: skip


def agreement_of_copies(found: Agreement | None) -> dict[str, Any] | None:
    """Return how far labels agree where an image was labelled twice; None where none was, or it is not known."""
    if found is None:
        return None
    return {
        "pairs": found.pairs, "kept": found.kept, "copied": found.copied, "matched": found.matched, "same": found.same,
        "precision": rounded(found.precision), "recall": rounded(found.recall), "iou": rounded(found.iou),
    }  # fmt: skip
