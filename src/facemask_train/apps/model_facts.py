"""Facts about a model in sentences: its training data, its errors and its limits, also what was not measured."""

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

NOT_MEASURED, NO_RUN = "not measured", "not known: these weights are not in the folder of a run"
_SPLITS = {
    "test": "its test images",
    "val": "the images that its best epoch was selected on",
    "train": "the images that it was trained on",
}
Result = TypeVar("Result", Metrics, Audit)
PLAIN = {"mask": "with a mask", "no_mask": "without"}
_ADJECTIVES = {"mask": "masked", "no_mask": "bare"}


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What a person should know before trusting a model.

    Attributes:
        model: its name.
        warning: one sentence for the top of a page.
        facts: pairs of a topic and what is known about it.
        limits: sentences.
    """

    model: str
    warning: str
    facts: tuple[tuple[str, str], ...]
    limits: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Measurements:
    """A model's newest evaluation (on the test split, if there is one) and its newest audit."""

    metrics: Metrics | None
    audit: Audit | None


def find_measurements(model: Model | None) -> Measurements:
    """Return what was measured of exactly these weights; nothing for weights without a run."""
    if model is None:
        return Measurements(None, None)
    metrics = _newest(read_evaluations(model.folder), model.digest)
    audit = _newest(read_audits(model.folder), model.digest)
    return Measurements(metrics, metrics.audit if metrics is not None and metrics.audit is not None else audit)


def _newest(found: Mapping[Path, Result], digest: str) -> Result | None:
    """Return the newest result of these weights, on the test split if there is one."""
    own = [
        (one.split == "test", (folder / one.FILE).stat().st_mtime_ns, str(folder), one)
        for folder, one in found.items()
        if one.inputs.weights == digest
    ]
    return max(own, key=lambda row: row[:3])[-1] if own else None


def model_facts(model: Model | None, measured: Measurements, *, name: str = "") -> ModelFacts:
    """Return the facts about a model.

    Args:
        model: its run; None for weights without one.
        name: how to call it; its run's name where it is empty.
    """
    run = None if model is None else model.run
    title = name or (model.folder.name if model is not None else "a model")
    shortcuts = wording.audit_summary(measured.audit) if measured.audit else f"{NOT_MEASURED} (`fmask audit`)"
    facts = (("Trained on", _trained_on(run)), *_scores(measured.metrics), ("Shortcuts", shortcuts))
    unknown = (("Training data and errors", NO_RUN),)
    return ModelFacts(title, _warning(measured.metrics), unknown if model is None else facts, _limits(run, measured))


def _plain(name: str) -> str:
    return PLAIN.get(name, f"labeled {name}")


def _scores(metrics: Metrics | None) -> tuple[tuple[str, str], ...]:
    if metrics is None:
        return (("Errors", f"{NOT_MEASURED} (`fmask evaluate`)"),)
    return (
        ("Evaluated on", _evaluated_on(metrics)),
        ("Accuracy", _accuracy(metrics)),
        *((f"Faces {_plain(name)}", _errors(metrics, name)) for name in CLASSES),
        ("Boxes without a labeled face", f"{metrics.errors['false positive']:,} on {metrics.images:,} images"),
        ("Small faces", _sizes(metrics)),
    )


def _trained_on(run: RunRecord | None) -> str:
    if run is None or run.ensemble is None:
        return "not known: fmask did not train these weights"
    ensemble = run.ensemble
    return (
        f"ensemble {ensemble.name} ({ensemble.hash[:12]}), {ensemble.images['train']:,} training images at "
        f"{run.imgsz} px, {run.epochs} epochs from {run.initial_weights}, finished {run.finished[:10]}"
    )


def _evaluated_on(metrics: Metrics) -> str:
    faces = ", ".join(f"{metrics.per_class[name].n:,} {_plain(name)}" for name in CLASSES)
    few = f"; {wording.TOO_FEW}, so all numbers here are rough" if metrics.too_few else ""
    return (
        f"{metrics.images:,} images with {metrics.boxes:,} faces ({faces}): the {metrics.split} split of "
        f"{metrics.ensemble}, at {metrics.inputs.imgsz} px, with confidence threshold "
        f"{metrics.operating_point.threshold:.2f}{few}"
    )


def _accuracy(metrics: Metrics) -> str:
    return ", ".join(
        f"{wording.METRIC_LABELS[key]} {wording.with_interval(metrics.overall.estimate(key))} %"
        for key in ("map50", "map50_95")
    )


def _errors(metrics: Metrics, name: str) -> str:
    """Return how many faces of a class were found, misclassified and missed at the confidence threshold."""
    row = metrics.confusion.counts[CLASSES.index(name)]
    if not sum(row):
        return f"{NOT_MEASURED}: there are none in these images"
    recall = wording.with_interval(metrics.operating_point.per_class[name].estimate("recall"))
    wrong = ", ".join(
        f"{row[index]:,} classified as {_ADJECTIVES.get(other, other)}"
        for index, other in enumerate(CLASSES)
        if other != name
    )
    found, missed = row[CLASSES.index(name)], row[len(CLASSES)]
    return f"of {sum(row):,}, {found:,} found with the right class (recall {recall} %), {wrong}, {missed:,} missed"


def _sizes(metrics: Metrics) -> str:
    rows = [one for one in metrics.slices if one.by == "face size" and one.recall is not None]
    if not rows:
        return NOT_MEASURED
    return "recall by size: " + ", ".join(f"{one.name} {wording.percent(one.recall)} % of {one.n:,}" for one in rows)


def _warning(metrics: Metrics | None) -> str:
    if metrics is None:
        return "How often this model errs is not known: do not rely on the counts on this page."
    shares = []
    for name in CLASSES:
        recall = metrics.operating_point.per_class[name].recall
        if recall is not None:
            shares.append(f"{100 * recall:.0f} of 100 faces {_plain(name)}")
    return (
        f"On {_SPLITS[metrics.split]} this model finds and correctly classifies {' and '.join(shares)}. Your images "
        "may be harder."
    )


def _limits(run: RunRecord | None, measured: Measurements) -> tuple[str, ...]:
    first = "Its numbers apply to images like those it was evaluated on"
    if measured.metrics is None:
        first = "It may find fewer faces in your images than in those it was trained on"
    limits = [
        f"It has {len(CLASSES)} classes, {' and '.join(CLASSES)}: a mask worn under the nose is given one of them.",
        f"{first}. Other cameras, lighting, distances, people or masks: {NOT_MEASURED}.",
        "It does not recognize people, and is not made for decisions about one person.",
    ]
    metrics = measured.metrics
    trained_on = run.ensemble.hash if run is not None and run.ensemble is not None else None
    if metrics is not None and trained_on != metrics.inputs.ensemble.hash:
        limits.insert(0, "It was evaluated on another ensemble than it was trained on; the two may share images.")
    return tuple(limits)
