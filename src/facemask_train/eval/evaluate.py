"""`fmask evaluate`: a run's best weights on one split of an ensemble, as numbers, detections, images and a page."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from facemask_train.core.errors import DataError
from facemask_train.core.files import digest_file, locked, read_json, recover, replacing, write_json
from facemask_train.core.types import Progress, no_progress
from facemask_train.dataset.versions import MARKER
from facemask_train.eval import detections_table, metrics_record, thresholds
from facemask_train.eval.audit import AUDIT_VERSION, GALLERY, Audit, audit_exam, manifest_rows, summary
from facemask_train.eval.eval_target import (
    Exam,
    Model,
    Setup,
    find_exam,
    find_model,
    open_exam,
    warn_of_another_ensemble,
)
from facemask_train.eval.measures.boxes_table import flatten
from facemask_train.eval.measures.label_agreement import agreement, read_groups
from facemask_train.eval.measures.metrics import prepare
from facemask_train.eval.measures.slices import Traits, traits
from facemask_train.eval.thresholds import Threshold
from facemask_train.eval.tracked import send
from facemask_train.model import validation as model_validation

if TYPE_CHECKING:
    from facemask_train.train.tracking.tracker import Report

EVALUATE_VERSION = 2
"""Raised by hand when what an evaluation holds changes, so that earlier ones are made anew."""

REPORT, PAGE, METRICS = "report.md", "report.html", "metrics.json"
IMAGES = ("curves.png", "confusion.png", "misses.jpg", "suspects.jpg")
FILES = (METRICS, REPORT, PAGE, detections_table.DETECTIONS, detections_table.IMAGES, *IMAGES)
_log = logging.getLogger(__name__)

Numbers = Mapping[str, float | int | bool | None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A finished evaluation; `metrics` is all that its `metrics.json` says.

    The numbers are from 0 to 1: means over the classes. `map50` and `map50_95` are COCO's, `precision` and `recall`
    the validator's. `per_class` has the same for each class, with `n` (its labelled faces) and `images`; they are None
    for a class without labelled faces. `tracked` says what went to the tracker, None where nothing was to be sent.
    """

    run: str
    ensemble: str
    split: str
    images: int
    boxes: int
    map50: float
    map50_95: float
    precision: float
    recall: float
    per_class: Mapping[str, Numbers]
    intervals: Mapping[str, Any]
    operating_point: Mapping[str, Any]
    metrics: Mapping[str, Any]
    report: Path
    page: Path
    folder: Path
    up_to_date: bool
    tracked: Report | None = None


def evaluate(
    root: Path,
    *,
    run: str | None = None,
    weights: Path | None = None,
    data: str | None = None,
    split: str = "test",
    imgsz: int | None = None,
    batch: int = 16,
    device: str = "",
    confidence: float | None = None,
    audit: bool = True,
    tracker: Literal["wandb", "none"] = "wandb",
    progress: Progress = no_progress,
) -> Evaluation:
    """Score a model on one split, into `runs/NAME/evaluation/ENSEMBLE-SPLIT/`; an equal evaluation is not repeated.

    Args:
        run: a run's name; without it, and without `weights`, the run that finished last.
        weights: any checkpoint; one that is no run's `best.pt` gets a run folder of its own.
        data: an ensemble's name, folder or data.yaml; without it, the ensemble that the run was trained on.
        imgsz: image size in pixels; without it, the run's.
        confidence: the operating point; without it, the best F1 on the ensemble's val split.
        audit: look for shortcuts too (`audit.audit`).

    Raises:
        MissingError: no run, weights or ensemble to evaluate.
        UsageError: an unknown split, or a run together with weights.
        DataError: a split without images or faces, a checkpoint that cannot be used, or class names other than
            `CLASSES`.
    """
    model = find_model(root, run, weights)
    exam = open_exam(find_exam(root, model, data), split)
    warn_of_another_ensemble(model, exam)
    target = model.folder / "evaluation" / f"{exam.card.name}-{split}"
    setup = Setup(model.imgsz(imgsz), batch, device, progress)
    inputs = {
        "version": EVALUATE_VERSION,
        **thresholds.inputs(model, exam, setup),
        "threshold": confidence if confidence is not None else "chosen on val",
        "audit": AUDIT_VERSION if audit else None,
    }
    with locked(target):
        recover(target)
        found = _finished(target, inputs)
        if found is not None:
            _log.info("%s: up to date", target)
            return _evaluation(target, found, up_to_date=True)
        scored = model_validation.validate(model.weights, exam.folder / "data.yaml", split, **setup.options)
        _check(scored, exam)
        if confidence is None and split == "val":
            point = Threshold(round(scored.confidence, 6), "val")
        else:
            point = thresholds.choose(model, exam, setup, confidence)
        audited = audit_exam(model, exam, setup, point) if audit else None
        with replacing(target) as folder:
            found = _write(folder, Scored(model, exam, scored, point, audited), inputs, progress)
    return _evaluation(target, found, up_to_date=False, tracked=_track(tracker, model, target, found, audited))


def _finished(target: Path, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    found = read_json(target / METRICS)
    whole = found is not None and all((target / name).is_file() for name in FILES)
    return found if whole and found is not None and found["inputs"] == inputs else None


def _check(scored: model_validation.Validation, exam: Exam) -> None:
    """Make sure that what was scored is what the ensemble says it holds."""
    found = (len(scored.images), scored.mean.n)
    if found != (exam.images, exam.boxes):
        raise DataError(
            f"{exam.folder}: expected {exam.images} images with {exam.boxes} faces in {exam.split}, as "
            f"{MARKER} says; the loader found {found[0]} with {found[1]}",
            next_step="build the ensemble again: its files were changed or are damaged",
        )


# ---- what comes out ----


@dataclass(frozen=True, eq=False, slots=True)
class Scored:
    """All that is known once the model has been asked, before anything is written."""

    model: Model
    exam: Exam
    validation: model_validation.Validation
    point: Threshold
    audited: Audit | None

    @property
    def title(self) -> str:
        return f"{self.model.folder.name} on {self.exam.card.name}, {self.exam.split}"


def _write(folder: Path, scored: Scored, inputs: Mapping[str, Any], progress: Progress) -> dict[str, Any]:
    """Write the evaluation's files, `metrics.json` last, and return what it says."""
    from facemask_train.report import evaluation as evaluation_page
    from facemask_train.report import markdown

    exam, images = scored.exam, scored.validation.images
    sources = {row["image"]: row.get("source") or "" for row in manifest_rows(exam)}
    known = traits(exam.folder, {one.image: sources.get(one.image, "") for one in images}, progress)
    digests = {one.image: digest_file(exam.folder / one.image) for one in images}
    found = {
        **_metrics(scored, known),
        "images_digest": detections_table.images_digest(images, digests),
        "inputs": dict(inputs),
    }
    detections_table.write_detections(folder / detections_table.DETECTIONS, images)
    detections_table.write_images(folder / detections_table.IMAGES, images, known, digests)
    _draw(folder, scored, found)
    text = markdown.page(scored.title, found, scored.model.run, exam.card, IMAGES)
    (folder / REPORT).write_text(text, encoding="utf-8", newline="\n")
    shown = {name: folder / name for name in ("misses.jpg", "suspects.jpg")}
    shown |= {} if scored.audited is None else {GALLERY: scored.audited.folder / GALLERY}
    html = evaluation_page.page(scored.title, found, scored.validation.curves, scored.model.run, exam.card, shown)
    (folder / PAGE).write_text(html, encoding="utf-8", newline="\n")
    write_json(folder / METRICS, found)
    return found


def _metrics(scored: Scored, known: Mapping[str, Traits]) -> dict[str, Any]:
    exam, validation, audited = scored.exam, scored.validation, scored.audited
    sample = prepare(flatten(validation.images))
    measured = [known[one.image] for one in validation.images]
    return {
        "run": scored.model.folder.name,
        "ensemble": exam.card.name,
        "split": exam.split,
        "model": validation.model,
        "images": exam.images,
        "boxes": exam.boxes,
        **metrics_record.numbers(validation, sample),
        "operating_point": metrics_record.operating_point(sample, scored.point),
        **metrics_record.anatomy(sample, validation.images, measured, scored.point.value),
        "agreement_of_copies": metrics_record.agreement_of_copies(agreement(read_groups(exam.folder))),
        "audit": None if audited is None else {key: value for key, value in audited.found.items() if key != "inputs"},
    }


def _draw(folder: Path, scored: Scored, found: Mapping[str, Any]) -> None:
    import numpy as np

    from facemask_train.eval.measures.label_errors import Suspect
    from facemask_train.eval.measures.matching import misses
    from facemask_train.report import galleries, plots

    validation, at, data = scored.validation, scored.point.value, scored.exam.folder
    plots.draw_curves(validation, folder / "curves.png")
    plots.draw_confusion(np.array(found["confusion"]["counts"]), at, folder / "confusion.png")
    errors = misses(validation.images, at)
    galleries.draw_misses(errors, data, at, f"Worst misses: {scored.title}", folder / "misses.jpg")
    suspected = [Suspect(**one) for one in found["suspects"]]
    named = {one.image: one for one in validation.images}
    galleries.draw_suspects(suspected, named, data, folder / "suspects.jpg")


def _evaluation(
    target: Path, found: Mapping[str, Any], *, up_to_date: bool, tracked: Report | None = None
) -> Evaluation:
    keys = ("run", "ensemble", "split", "images", "boxes", "map50", "map50_95", "precision", "recall", "per_class")
    return Evaluation(
        **{key: found[key] for key in (*keys, "intervals", "operating_point")},
        metrics=found,
        report=target / REPORT,
        page=target / PAGE,
        folder=target,
        up_to_date=up_to_date,
        tracked=tracked,
    )


def _track(kind: str, model: Model, target: Path, found: Mapping[str, Any], audited: Audit | None) -> Report | None:
    """Send the numbers, images and pages to the run's own tracker run."""
    key = f"evaluation/{target.name}"
    values = _summary(key, found) | ({} if audited is None else summary(key, audited.found))
    shown = [target / name for name in IMAGES] + ([] if audited is None else [audited.folder / GALLERY])
    return send(kind, model, key, values, shown, target)


def _summary(key: str, found: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers under the names they have in training: `evaluation/v5-test/class/mask/recall`, ..."""
    from facemask_train.train.tracking.tracker import METRICS as TRACKED
    from facemask_train.train.tracking.tracker import metric_values

    own = dict(zip(TRACKED, ("precision", "recall", "map50", "map50_95"), strict=True))
    overall = {metric: found[name] for metric, name in own.items()}
    rows = {name: {metric: row[ours] for metric, ours in own.items()} for name, row in found["per_class"].items()}
    values = {f"{key}/{name}": value for name, value in metric_values(overall, rows).items()}
    for metric, ours in own.items():
        low, high = found["intervals"][ours] or (None, None)
        values |= {f"{key}/metrics/{metric}/low": low, f"{key}/metrics/{metric}/high": high}
    return values
