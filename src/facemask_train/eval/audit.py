"""`fmask audit`: tests whether a model takes shortcuts on one split, into `runs/NAME/audit/ENSEMBLE-SPLIT/`."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.files import replacing, stage
from facemask_train.core.records import field_values
from facemask_train.core.types import CLASSES, Annotation, Progress, no_progress
from facemask_train.dataset.contents import EnsembleImage, read_images
from facemask_train.eval.eval_target import (
    EvalSplit,
    InferenceOptions,
    Model,
    find_eval_ensemble,
    find_model,
    open_eval_split,
)
from facemask_train.eval.measures.bootstrap import Interval
from facemask_train.eval.perturbations import rates, shortcuts
from facemask_train.eval.perturbations.controls import CONTROLS
from facemask_train.eval.perturbations.perturb import BARE, PERTURBATIONS, seen_in_training
from facemask_train.eval.perturbations.rates import ControlRates, ExcessRate, Share
from facemask_train.eval.perturbations.shortcuts import Outcome, PerturbationTest
from facemask_train.eval.probe import ProbeRun, probe_images, read_expected
from facemask_train.eval.records.audit import (
    Audit,
    AuditInputs,
    ControlRate,
    DetectionInputs,
    FaceCounts,
    PerturbationRate,
)
from facemask_train.eval.thresholds import DEFAULT_CONFIDENCE, Threshold, choose_threshold, detection_inputs
from facemask_train.eval.tracking import tracked_rates, upload
from facemask_train.eval.training_data import training_edits
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
        training_edits=training_edits(model, target),
        version=Audit.VERSION,
    )
    folder = model.folder / "audit" / f"{target.card.name}-{target.split}"
    with stage(folder):
        known = _finished(folder, inputs)
        if known is not None:
            return AuditResult(known, folder, up_to_date=True)
        with replacing(folder) as partial:
            detector = load_detector(model.weights, imgsz=options.imgsz, device=options.device)
            tested = shortcuts.run_perturbations(
                detector,
                target.folder,
                split_labels(target),
                threshold=threshold.value,
                groups=scene_groups(split_images(target)),
                max_faces=faces,
                progress=options.progress,
            )
            result = _audit(model, target, tested, inputs)
            _write(partial, target, tested.outcomes, result)
    return AuditResult(result, folder, up_to_date=False)


def _finished(folder: Path, inputs: AuditInputs) -> Audit | None:
    """Return the audit of a whole folder with these inputs, if there is one."""
    known, files = Audit.load_if_current(folder), (OUTCOMES, GALLERY)
    whole = known is not None and known.inputs == inputs and all((folder / name).is_file() for name in files)
    return known if whole else None


def split_labels(target: EvalSplit) -> dict[str, tuple[Annotation, ...]]:
    """Return the labels of each image of a split, from the ensemble's manifest."""
    return {one.image: one.labels for one in split_images(target)}


def scene_groups(images: Iterable[EnsembleImage]) -> dict[str, str]:
    """Return the scene group of each image; the image itself where the manifest names none."""
    return {one.image: one.split_group or one.image for one in images}


def split_images(target: EvalSplit) -> list[EnsembleImage]:
    """Return the images of a split, sorted by path."""
    found = (one for one in read_images(target.folder) if one.split == target.split)
    return sorted(found, key=lambda one: one.image)


def _audit(model: Model, target: EvalSplit, tested: PerturbationTest, inputs: AuditInputs) -> Audit:
    outcomes, edits = tested.outcomes, inputs.training_edits
    seen = seen_in_training(edits) if edits is not None else tuple(one.name for one in PERTURBATIONS if one.training)
    controls = rates.control_rates(outcomes)

    def excess(*, shown: bool) -> dict[str, ExcessRate]:
        names = rates.counted(seen, shown=shown)
        found = {name: rates.excess_rate(rates.perturbed(outcomes, names, name), controls) for name in CLASSES}
        return {name: _rounded(rate) for name, rate in found.items()}

    return Audit(
        run=model.folder.name,
        ensemble=target.card.name,
        split=target.split,
        threshold=inputs.threshold,
        threshold_chosen=inputs.threshold_chosen,
        faces=FaceCounts(tested.labeled, _by_class(tested.large), _by_class(tested.right)),
        headline=BARE,
        excess=excess(shown=False),
        excess_seen=excess(shown=True),
        found={name: _rounded_share(rates.found_share(tested.large, tested.right, name)) for name in CLASSES},
        response=_rounded_share(rates.response_rate(outcomes)),
        training_edits=edits,
        perturbations=tuple(_perturbation_rates(outcomes, controls, seen)),
        controls=tuple(_controls(outcomes)),
        inputs=inputs,
    )


def _by_class(faces: Sequence[shortcuts.Face]) -> dict[str, int]:
    names = [face.label.name for face in faces]
    return {name: names.count(name) for name in CLASSES}


def _perturbation_rates(
    outcomes: Sequence[Outcome], controls: ControlRates, seen: Sequence[str]
) -> Iterator[PerturbationRate]:
    """Yield the rates of each perturbation on each class that it applies to."""
    for one in PERTURBATIONS:
        looks = {name: sum(name in other.classes and other.counts for other in PERTURBATIONS) for name in one.classes}
        for name in one.classes:
            own = rates.perturbed(outcomes, [one.name], name)
            rate = rates.flip_rate(own) if one.must_change else rates.excess_rate(own, controls)
            yield PerturbationRate(
                **field_values(_rounded(rate), ExcessRate),
                perturbation=one.name,
                name=name,
                must_change=one.must_change,
                doubt=one.doubt,
                seen=one.name in seen,
                named=one.counts and rate.beyond_chance(looks[name]),
            )


def _controls(outcomes: Sequence[Outcome]) -> Iterator[ControlRate]:
    for control in CONTROLS:
        for name in CLASSES:
            own = [one.result for one in outcomes if one.control == control and one.face.label.name == name]
            yield ControlRate(control, name, len(own), own.count("flipped"), own.count("lost"))


def _rounded(rate: ExcessRate) -> ExcessRate:
    return replace(
        rate,
        rate=_rounded_value(rate.rate),
        interval=_rounded_interval(rate.interval),
        control=_rounded_value(rate.control),
        control_interval=_rounded_interval(rate.control_interval),
        excess=_rounded_value(rate.excess),
        excess_interval=_rounded_interval(rate.excess_interval),
    )


def _rounded_share(share: Share) -> Share:
    return replace(share, value=_rounded_value(share.value), interval=_rounded_interval(share.interval))


def _rounded_value(value: float | None) -> float | None:
    return None if value is None else round(value, _DIGITS)


def _rounded_interval(interval: Interval | None) -> Interval | None:
    return None if interval is None else (round(interval[0], _DIGITS), round(interval[1], _DIGITS))


def _write(folder: Path, target: EvalSplit, outcomes: Sequence[Outcome], result: Audit) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from facemask_train.report.galleries import draw_outcomes

    rows = [
        {
            "image": one.face.image,
            "name": one.face.label.name,
            "perturbation": one.perturbation,
            "control": one.control,
            "result": one.result,
            "detected": one.detected,
            "group": one.face.cluster,
            "face": one.face.number,
            "confidence": one.confidence,
        }
        for one in outcomes
    ]
    texts = ("image", "name", "perturbation", "control", "result", "detected", "group")
    fields = [*((key, pa.string()) for key in texts), ("face", pa.int64()), ("confidence", pa.float64())]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), folder / OUTCOMES)
    title = f"Perturbed faces: {result.run} on {result.ensemble}, {result.split}"
    seen = {one.perturbation for one in result.perturbations if one.seen}
    draw_outcomes(outcomes, seen, target.folder, title, result.threshold, folder / GALLERY)
    result.save(folder)
