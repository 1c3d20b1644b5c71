"""`fmask evaluate`: scores a run's best weights on one split of an ensemble, with a report."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from facemask_train.core.errors import DataError
from facemask_train.core.files import digest_file, replacing, stage
from facemask_train.core.records import field_values
from facemask_train.core.types import Progress, no_progress
from facemask_train.dataset.contents import read_groups
from facemask_train.dataset.versions import MARKER
from facemask_train.eval import detections_table
from facemask_train.eval.audit import GALLERY, AuditResult, audit_split, scene_groups, split_images
from facemask_train.eval.compute_metrics import Evaluated, compute_metrics
from facemask_train.eval.eval_target import (
    EvalSplit,
    InferenceOptions,
    Model,
    find_eval_ensemble,
    find_model,
    open_eval_split,
    warn_if_rebuilt,
)
from facemask_train.eval.measures.label_agreement import label_agreement
from facemask_train.eval.measures.slices import measure_images
from facemask_train.eval.records.audit import Audit, DetectionInputs
from facemask_train.eval.records.metrics import EvaluationInputs, Metrics
from facemask_train.eval.thresholds import Threshold, choose_threshold, detection_inputs
from facemask_train.eval.tracking import tracked_metrics, tracked_rates, upload
from facemask_train.eval.training_data import training_faces
from facemask_train.model import validation as model_validation
from facemask_train.model.validation import Validation

if TYPE_CHECKING:
    from pandas import DataFrame

    from facemask_train.training.tracking.tracker import Report

REPORT, PAGE = "report.md", "report.html"
CURVES, CONFUSION, ERRORS, LABEL_ERRORS = "curves.png", "confusion.png", "errors.jpg", "label_errors.jpg"
IMAGES = (CURVES, CONFUSION, ERRORS, LABEL_ERRORS)
FILES = (Metrics.FILE, REPORT, PAGE, detections_table.DETECTIONS, detections_table.IMAGES, *IMAGES)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A finished evaluation.

    Attributes:
        up_to_date: an equal evaluation was there already.
        tracked: what was uploaded to the tracker; None if nothing was to be uploaded.
    """

    metrics: Metrics
    folder: Path
    up_to_date: bool
    tracked: Report | None = None

    @property
    def report(self) -> Path:
        """The report in Markdown."""
        return self.folder / REPORT

    @property
    def page(self) -> Path:
        """The report as an HTML page."""
        return self.folder / PAGE

    @property
    def table(self) -> DataFrame:
        """The metrics as a table: value, low, high and n by class and metric."""
        return self.metrics.table

    def _repr_html_(self) -> str:
        return str(self.table.to_html())


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
    """Score a model on one split, into `runs/NAME/evaluation/ENSEMBLE-SPLIT/`. An equal evaluation is not repeated.

    Args:
        run: the name of a run. Default: the run that finished last, unless `weights` are given.
        weights: any checkpoint; one that is not a run's `best.pt` gets a run folder of its own.
        data: the name, folder or data.yaml of an ensemble. Default: the ensemble that the run was trained on.
        imgsz: image size in pixels. Default: the run's.
        confidence: the operating point. Default: the best F1 on the ensemble's val split.
        audit: test for shortcuts too (`audit.audit`).

    Raises:
        MissingError: there is no run, checkpoint or ensemble to evaluate.
        UsageError: an unknown split, or a run together with weights.
        DataError: the split has no images or faces, the checkpoint cannot be used, or the class names are not
            `CLASSES`.
    """
    model = find_model(root, run, weights)
    target = open_eval_split(find_eval_ensemble(root, model, data), split)
    warn_if_rebuilt(model, target)
    options = InferenceOptions(model.imgsz(imgsz), batch, device, progress)
    inputs = EvaluationInputs(
        **field_values(detection_inputs(model, target, options), DetectionInputs),
        threshold=confidence,
        audit=Audit.VERSION if audit else None,
        version=Metrics.VERSION,
    )
    folder = model.folder / "evaluation" / f"{target.card.name}-{split}"
    with stage(folder):
        known = _finished(folder, inputs)
        if known is not None:
            _log.info("%s: up to date", folder)
            return Evaluation(known, folder, up_to_date=True)
        scored = _score(model, target, options, inputs)
        with replacing(folder) as partial:
            metrics = _write(partial, scored, inputs, progress)
    return Evaluation(metrics, folder, up_to_date=False, tracked=_upload(tracker, scored, metrics, folder))


def _finished(folder: Path, inputs: EvaluationInputs) -> Metrics | None:
    """Return the metrics of a whole evaluation with these inputs, if there is one."""
    metrics = Metrics.load_if_current(folder)
    whole = metrics is not None and metrics.inputs == inputs and all((folder / name).is_file() for name in FILES)
    return metrics if whole else None


# ---- scoring ----


@dataclass(frozen=True, eq=False, slots=True)
class Scored:
    """A model on a split, before anything is written."""

    model: Model
    target: EvalSplit
    validation: Validation
    threshold: Threshold
    audited: AuditResult | None

    @property
    def title(self) -> str:
        return f"{self.model.folder.name} on {self.target.card.name}, {self.target.split}"


def _score(model: Model, target: EvalSplit, options: InferenceOptions, inputs: EvaluationInputs) -> Scored:
    scored = model_validation.validate(
        model.weights,
        target.folder / "data.yaml",
        target.split,
        imgsz=options.imgsz,
        batch=options.batch,
        device=options.device,
        progress=options.progress,
    )
    _check_counts(scored, target)
    if inputs.threshold is None and target.split == "val":
        threshold = Threshold(round(scored.confidence, 6), "val")
    else:
        threshold = choose_threshold(model, target, options, inputs.threshold)
    audited = audit_split(model, target, options, threshold) if inputs.audit is not None else None
    return Scored(model, target, scored, threshold, audited)


def _check_counts(scored: Validation, target: EvalSplit) -> None:
    """Check that the images and faces that were scored are those of the ensemble's card."""
    images, boxes = len(scored.images), scored.mean.n
    if (images, boxes) != (target.images, target.boxes):
        raise DataError(
            f"{target.folder}: expected {target.images} images with {target.boxes} faces in {target.split}, as "
            f"{MARKER} says; the loader found {images} with {boxes}",
            next_step="build the ensemble again: its files were changed or are damaged",
        )


# ---- writing ----


def _write(folder: Path, scored: Scored, inputs: EvaluationInputs, progress: Progress) -> Metrics:
    """Write the files of an evaluation, `metrics.json` last."""
    target, images = scored.target, scored.validation.images
    published = split_images(target)
    sources = {one.image: one.source for one in published}
    traits = measure_images(target.folder, {one.image: sources.get(one.image, "") for one in images}, progress)
    groups = scene_groups(published)
    digests = {one.image: digest_file(target.folder / one.image) for one in images}
    metrics = compute_metrics(
        Evaluated(
            run=scored.model.folder.name,
            validation=scored.validation,
            threshold=scored.threshold,
            traits=[traits[one.image] for one in images],
            groups=[groups.get(one.image, one.image) for one in images],
            agreement=label_agreement(read_groups(target.folder)),
            audit=scored.audited.audit if scored.audited else None,
            training_faces=training_faces(scored.model, target),
            images_digest=detections_table.images_digest(images, digests),
            inputs=inputs,
        )
    )
    detections_table.write_detections(folder / detections_table.DETECTIONS, images)
    detections_table.write_images(folder / detections_table.IMAGES, images, traits, digests, groups)
    _draw(folder, scored, metrics)
    _write_reports(folder, scored, metrics)
    metrics.save(folder)
    return metrics


def _draw(folder: Path, scored: Scored, metrics: Metrics) -> None:
    from facemask_train.report import galleries, plots

    validation, data = scored.validation, scored.target.folder
    plots.draw_curves(validation, folder / CURVES)
    plots.draw_confusion(metrics.confusion, scored.threshold.value, folder / CONFUSION)
    galleries.draw_errors(
        validation.images, data, scored.threshold.value, f"Worst errors: {scored.title}", folder / ERRORS
    )
    galleries.draw_label_errors(metrics.label_errors, validation.images, data, folder / LABEL_ERRORS)


def _write_reports(folder: Path, scored: Scored, metrics: Metrics) -> None:
    from facemask_train.report import evaluation as evaluation_page
    from facemask_train.report import html, markdown

    run, card = scored.model.run, scored.target.card
    text = markdown.evaluation_report(scored.title, metrics, run, card, IMAGES)
    (folder / REPORT).write_text(text, encoding="utf-8", newline="\n")
    galleries = {name: folder / name for name in (ERRORS, LABEL_ERRORS)}
    if scored.audited is not None:
        galleries[GALLERY] = scored.audited.folder / GALLERY
    page = evaluation_page.page(scored.title, metrics, scored.validation.curves, run, card, galleries)
    html.write(folder / PAGE, page)


def _upload(kind: str, scored: Scored, metrics: Metrics, folder: Path) -> Report | None:
    """Upload the numbers, images and pages to the tracker run of the model's training."""
    key = f"evaluation/{folder.name}"
    values, images = tracked_metrics(key, metrics), [folder / name for name in IMAGES]
    if scored.audited is not None:
        values |= tracked_rates(key, scored.audited.audit)
        images.append(scored.audited.folder / GALLERY)
    return upload(kind, scored.model, key, values, images, folder)
