"""`fmask audit`: tests whether a model takes shortcuts on one split, into `runs/NAME/audit/ENSEMBLE-SPLIT/`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.files import inside, locked, recover, replacing
from facemask_train.core.records import VersionError, field_values
from facemask_train.core.types import CLASSES, Annotation, Box, Progress, no_progress
from facemask_train.eval.eval_target import (
    EvalSplit,
    InferenceOptions,
    Model,
    find_eval_ensemble,
    find_model,
    open_eval_split,
)
from facemask_train.eval.perturbations import shortcuts
from facemask_train.eval.perturbations.shortcuts import FlipRate, Outcome, PerturbationTest
from facemask_train.eval.probe import ProbeRun, probe_images, read_expected
from facemask_train.eval.records.audit import Audit, AuditInputs, DetectionInputs, FaceCounts, PerturbationRate
from facemask_train.eval.thresholds import DEFAULT_CONFIDENCE, Threshold, choose_threshold, detection_inputs
from facemask_train.eval.tracking import tracked_rates, upload
from facemask_train.model.detector import load_detector

if TYPE_CHECKING:
    from facemask_train.training.tracking.tracker import Report

OUTCOMES, GALLERY = "outcomes.parquet", "shortcuts.jpg"
_DIGITS = 6
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class AuditResult:
    """A finished audit.

    Attributes:
        up_to_date: an equal audit was there already.
        tracked: what was uploaded to the tracker; None if nothing was to be uploaded.
    """

    audit: Audit
    folder: Path
    up_to_date: bool
    tracked: Report | None = None


def audit(
    root: Path,
    *,
    run: str | None = None,
    weights: Path | None = None,
    data: str | None = None,
    split: str = "test",
    imgsz: int | None = None,
    batch: int = 16,
    device: str = "",
    threshold: float | None = None,
    faces: int = shortcuts.MAX_FACES,
    tracker: Literal["wandb", "none"] = "wandb",
    progress: Progress = no_progress,
) -> AuditResult:
    """Perturb faces that a model detects with the right class, and detect them again. An equal audit is not repeated.

    Args:
        run, weights, data, split, imgsz: as in `evaluate`.
        threshold: the confidence above which a detection counts. Default: chosen on the ensemble's val split.
        faces: the most faces of a class that are perturbed.

    Raises:
        MissingError, UsageError, DataError: as in `evaluate`.
    """
    model = find_model(root, run, weights)
    target = open_eval_split(find_eval_ensemble(root, model, data), split)
    options = InferenceOptions(model.imgsz(imgsz), batch, device, progress)
    result = audit_split(model, target, options, choose_threshold(model, target, options, threshold), faces=faces)
    if result.up_to_date:
        _log.info("%s: up to date", result.folder)
        return result
    key = f"audit/{result.folder.name}"
    values, images = tracked_rates(key, result.audit), [result.folder / GALLERY]
    return replace(result, tracked=upload(tracker, model, key, values, images, result.folder))


def probe(
    root: Path,
    images: Path,
    *,
    run: str | None = None,
    weights: Path | None = None,
    data: str | None = None,
    imgsz: int | None = None,
    batch: int = 16,
    device: str = "",
    threshold: float | None = None,
    progress: Progress = no_progress,
) -> ProbeRun:
    """Run a model on a folder of the user's own images (`probe.probe_images`).

    Args:
        threshold: Default: as for the run's ensemble, or the `ultralytics` package's default if there is none.

    Raises:
        MissingError, UsageError, DataError: as in `evaluate`, and for the folder, its csv and its images.
    """
    read_expected(images)
    model = find_model(root, run, weights)
    options = InferenceOptions(model.imgsz(imgsz), batch, device, progress)
    if threshold is not None:
        return probe_images(model, options, Threshold(threshold, "user"), images)
    try:
        val = open_eval_split(find_eval_ensemble(root, model, data), "val")
    except (MissingError, DataError):
        return probe_images(model, options, Threshold(DEFAULT_CONFIDENCE, "default"), images)
    return probe_images(model, options, choose_threshold(model, val, options, None), images)


def audit_split(
    model: Model,
    target: EvalSplit,
    options: InferenceOptions,
    threshold: Threshold,
    *,
    faces: int = shortcuts.MAX_FACES,
) -> AuditResult:
    """Audit a model on a split at a given threshold. Uploads nothing."""
    inputs = AuditInputs(
        **field_values(detection_inputs(model, target, options), DetectionInputs),
        threshold=threshold.value,
        threshold_chosen=threshold.chosen,
        min_face_side=shortcuts.MIN_FACE_SIDE,
        faces=faces,
        version=Audit.VERSION,
    )
    folder = model.folder / "audit" / f"{target.card.name}-{target.split}"
    with locked(folder):
        recover(folder)
        known = _finished(folder, inputs)
        if known is not None:
            return AuditResult(known, folder, up_to_date=True)
        with replacing(folder) as partial:
            detector = load_detector(model.weights, imgsz=options.imgsz, device=options.device)
            labels = split_labels(target)
            tested = shortcuts.run_perturbations(
                detector,
                target.folder,
                labels,
                threshold=threshold.value,
                max_faces=faces,
                progress=options.progress,
            )
            result = _audit(model, target, tested, inputs)
            _write(partial, target, tested.outcomes, result)
    return AuditResult(result, folder, up_to_date=False)


def _finished(folder: Path, inputs: AuditInputs) -> Audit | None:
    """Return the audit of a whole folder with these inputs, if there is one."""
    try:
        known = Audit.load(folder)
    except (MissingError, VersionError):
        return None
    return known if known.inputs == inputs and all((folder / name).is_file() for name in (OUTCOMES, GALLERY)) else None


def split_labels(target: EvalSplit) -> dict[str, list[Annotation]]:
    """Return the labels of each image of a split, from the ensemble's manifest."""
    return {
        row["image"]: [
            Annotation(one["name"], Box(*(float(one[key]) for key in ("x_min", "y_min", "x_max", "y_max"))))
            for one in row["labels"]
        ]
        for row in manifest_rows(target)
    }


def manifest_rows(target: EvalSplit) -> list[Mapping[str, Any]]:
    """Return the manifest's rows of a split, sorted by image."""
    import pyarrow.parquet as pq

    manifest = target.folder / "manifest.parquet"
    rows: list[Mapping[str, Any]] = pq.read_table(manifest).to_pylist()
    for row in rows:
        inside(target.folder, row["image"], str(manifest))
    return sorted((row for row in rows if row["split"] == target.split), key=lambda row: row["image"])


def _audit(model: Model, target: EvalSplit, tested: PerturbationTest, inputs: AuditInputs) -> Audit:
    outcomes = tested.outcomes
    return Audit(
        run=model.folder.name,
        ensemble=target.card.name,
        split=target.split,
        threshold=inputs.threshold,
        threshold_chosen=inputs.threshold_chosen,
        faces=FaceCounts(tested.labeled, tested.large, tested.right),
        shortcut_rate=_rounded(shortcuts.shortcut_rate(outcomes, seen=False)),
        shortcut_rate_by_class={
            name: _rounded(shortcuts.shortcut_rate(outcomes, seen=False, name=name)) for name in CLASSES
        },
        shortcut_rate_seen=_rounded(shortcuts.shortcut_rate(outcomes, seen=True)),
        response_rate=_rounded(shortcuts.response_rate(outcomes)),
        perturbations=tuple(
            PerturbationRate(
                **field_values(_rounded(rate), FlipRate),
                perturbation=one.name,
                name=name,
                must_change=one.must_change,
                seen=one.seen,
            )
            for one, name, rate in shortcuts.rates_by_perturbation(outcomes)
        ),
        inputs=inputs,
    )


def _rounded(rate: FlipRate) -> FlipRate:
    if rate.rate is None or rate.interval is None:
        return rate
    low, high = rate.interval
    return replace(rate, rate=round(rate.rate, _DIGITS), interval=(round(low, _DIGITS), round(high, _DIGITS)))


def _write(folder: Path, target: EvalSplit, outcomes: Sequence[Outcome], result: Audit) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from facemask_train.report.galleries import draw_outcomes

    rows = [
        {
            "image": one.face.image,
            "name": one.face.label.name,
            "perturbation": one.perturbation,
            "result": one.result,
            "face": one.face.number,
            "confidence": one.confidence,
        }
        for one in outcomes
    ]
    texts = ("image", "name", "perturbation", "result")
    fields = [*((key, pa.string()) for key in texts), ("face", pa.int64()), ("confidence", pa.float64())]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), folder / OUTCOMES)
    title = f"Perturbed faces: {result.run} on {result.ensemble}, {result.split}"
    draw_outcomes(outcomes, target.folder, title, result.threshold, folder / GALLERY)
    result.save(folder)
