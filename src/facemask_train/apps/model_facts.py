"""What a model was trained on and how it errs, in words: from its run, its evaluation and its audit.

What was not measured is said to be not measured.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from facemask_train.core.types import CLASSES
from facemask_train.eval.eval_target import Model
from facemask_train.eval.records.audit import Audit, read_audits
from facemask_train.eval.records.metrics import Metrics, read_evaluations
from facemask_train.report import wording
from facemask_train.training.runs import RunRecord

NOT_MEASURED, NOT_HERE = "not measured", "not known here: no run lies beside these weights"
_SHOWN = {
    "test": "its test images",
    "val": "the images that its best epoch was chosen by",
    "train": "the very images that it was trained on",
}
Result = TypeVar("Result", Metrics, Audit)
PLAIN = {"mask": "with a mask", "no_mask": "without"}


@dataclass(frozen=True, slots=True)
class Statement:
    """A model's name, one sentence for the top of a page, what is known of it by question, and its limits."""

    model: str
    warning: str
    facts: tuple[tuple[str, str], ...]
    limits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Known:
    """What was measured of a model: the metrics of its newest evaluation (of the test split if any) and the audit."""

    metrics: Metrics | None
    audit: Audit | None


def known(model: Model | None) -> Known:
    """Return what was measured of these very weights; nothing where no run made them."""
    if model is None:
        return Known(None, None)
    metrics = _newest(read_evaluations(model.folder), model.digest)
    audit = _newest(read_audits(model.folder), model.digest)
    return Known(metrics, metrics.audit if metrics is not None and metrics.audit is not None else audit)


def _newest(found: Mapping[Path, Result], digest: str) -> Result | None:
    """Return the newest result of these weights, of the test split if there is one."""
    own = [
        (one.split == "test", (folder / one.FILE).stat().st_mtime_ns, str(folder), one)
        for folder, one in found.items()
        if one.inputs.weights == digest
    ]
    return max(own, key=lambda row: row[:3])[-1] if own else None


def statement(model: Model | None, found: Known, *, name: str = "") -> Statement:
    """Return what a person has to know before believing this model.

    Args:
        name: what it is called; as its run where left out.
    """
    run = None if model is None else model.run
    called = name or (model.folder.name if model is not None else "a model")
    shortcuts = wording.audit_summary(found.audit) if found.audit else f"{NOT_MEASURED} (`fmask audit`)"
    facts = (("Trained on", _trained_on(run)), *_scores(found.metrics), ("Shortcuts", shortcuts))
    unknown = (("What it was trained on, and how it errs", NOT_HERE),)
    return Statement(called, _warning(found.metrics), unknown if model is None else facts, _limits(run, found))


def _scores(metrics: Metrics | None) -> tuple[tuple[str, str], ...]:
    if metrics is None:
        return (("How often it errs", f"{NOT_MEASURED} (`fmask evaluate`)"),)
    return (
        ("Scored on", _scored_on(metrics)),
        ("Accuracy", _accuracy(metrics)),
        *((f"Faces {PLAIN[name]}", _errors(metrics, name)) for name in CLASSES),
        ("Boxes where no face is labelled", f"{metrics.errors['false positive']:,} on {metrics.images:,} images"),
        ("Small faces", _sizes(metrics)),
    )


def _trained_on(run: RunRecord | None) -> str:
    if run is None or run.ensemble is None:
        return "not known: no training of this project made these weights"
    ensemble = run.ensemble
    return (
        f"ensemble {ensemble.name} ({ensemble.hash[:12]}), {ensemble.images['train']:,} training images of "
        f"{run.imgsz} px, {run.epochs} epochs from {run.initial_weights}, finished {run.finished[:10]}"
    )


def _scored_on(metrics: Metrics) -> str:
    faces = ", ".join(f"{metrics.per_class[name].n:,} {PLAIN[name]}" for name in CLASSES)
    few = f"; {wording.TOO_FEW}, so every number here is rough" if metrics.too_few else ""
    return (
        f"{metrics.images:,} images with {metrics.boxes:,} faces ({faces}): the {metrics.split} part of "
        f"{metrics.ensemble}, at {metrics.inputs.imgsz} px; found are the answers above confidence "
        f"{metrics.operating_point.threshold:.2f}{few}"
    )


def _accuracy(metrics: Metrics) -> str:
    return ", ".join(
        f"{wording.METRIC_LABELS[key]} {wording.with_interval(metrics.overall.estimate(key))} %"
        for key in ("map50", "map50_95")
    )


def _errors(metrics: Metrics, name: str) -> str:
    """Return what became of a class's test faces at the operating point."""
    row = metrics.confusion.counts[CLASSES.index(name)]
    other = next(one for one in CLASSES if one != name)
    point = metrics.operating_point.per_class[name]
    if not sum(row):
        return f"{NOT_MEASURED}: none among the images scored"
    right, wrong, missed = row[CLASSES.index(name)], row[CLASSES.index(other)], row[len(CLASSES)]
    recall = wording.with_interval(point.estimate("recall"))
    return (
        f"of {sum(row):,}, {right:,} found as such (recall {recall} %), {wrong:,} taken for {_as(other)}, "
        f"{missed:,} missed"
    )


def _as(name: str) -> str:
    return "masked" if name == "mask" else "bare"


def _sizes(metrics: Metrics) -> str:
    rows = [one for one in metrics.slices if one.by == "face size" and one.recall is not None]
    return (
        "recall by the face's side: "
        + ", ".join(f"{one.name} {wording.percent(one.recall)} % of {one.n:,}" for one in rows)
        if rows
        else NOT_MEASURED
    )


def _warning(metrics: Metrics | None) -> str:
    if metrics is None:
        return "How often this model errs is not known: believe no count on this page."
    shares = []
    for name in CLASSES:
        recall = metrics.operating_point.per_class[name].recall
        if recall is not None:
            shares.append(f"{100 * recall:.0f} of 100 faces {PLAIN[name]}")
    shown = _SHOWN[metrics.split]
    return f"On {shown} this model finds and rightly names {' and '.join(shares)}. Yours may be harder."


def _limits(run: RunRecord | None, found: Known) -> tuple[str, ...]:
    like = "Its numbers hold for images like those it was scored on"
    if found.metrics is None:
        like = "It may find less in your images than in those that it was trained on"
    said = [
        "It knows two answers, mask and no mask: a mask worn under the nose gets one of them.",
        f"{like}. Other cameras, light, distances, people or masks: {NOT_MEASURED}.",
        "It recognises nobody, and is not made to decide anything about one person.",
    ]
    trained, scored = run.ensemble.hash if run and run.ensemble else None, found.metrics
    if scored is not None and trained != scored.inputs.ensemble.hash:
        said.insert(0, "It was scored on another ensemble than it was trained on: the two may share images.")
    return tuple(said)
