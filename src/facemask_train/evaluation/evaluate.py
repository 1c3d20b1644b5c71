"""`fmask evaluate`: a run's best weights on one split of an ensemble, as numbers, detections, pictures and a page."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from facemask_train import detect
from facemask_train.config import read_yaml
from facemask_train.ensemble.versions import MARKER, find_ensemble, read_ensemble
from facemask_train.errors import DataError, MissingError, UsageError
from facemask_train.evaluation.matching import KINDS, MATCH_IOU, confusion, misses
from facemask_train.folders import digest_file, locked, read_json, recover, replacing, storage_errors, write_json
from facemask_train.records import CLASSES, SPLITS, Progress, no_progress
from facemask_train.training import runs

if TYPE_CHECKING:
    from facemask_train.training.tracking import Report

EVALUATE_VERSION = 1
"""Raised by hand when what an evaluation holds changes, so that earlier ones are made anew."""

DEFAULT_IMGSZ = 640
REPORT, METRICS = "report.md", "metrics.json"
PICTURES = ("curves.png", "confusion.png", "misses.jpg")
_FILES = (METRICS, REPORT, "detections.parquet", *PICTURES)
_DIGITS = 6
_log = logging.getLogger(__name__)

Numbers = Mapping[str, float | int | None]


@dataclass(frozen=True, slots=True)
class Evaluation:
    """A finished evaluation. The four numbers are the validator's, 0 to 1: means over the classes.

    `per_class` has the same four for each class, with `n` (its labelled faces) and `images`; they are None for a class
    without labelled faces. `tracked` says what went to the tracker, and is None where nothing was to be sent.
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
    report: Path
    folder: Path
    up_to_date: bool
    tracked: Report | None = None


@dataclass(frozen=True, slots=True)
class Model:
    """What is evaluated: a run's folder with its `run.json`, and the weights (their path and digest)."""

    folder: Path
    run: Mapping[str, Any]
    weights: Path
    digest: str


@dataclass(frozen=True, slots=True)
class Exam:
    """What it is evaluated on: an ensemble's folder with its `ensemble.json`, and the split."""

    folder: Path
    card: Mapping[str, Any]
    split: str

    @property
    def images(self) -> int:
        return int(self.card["splits"].get(self.split, 0))

    @property
    def boxes(self) -> int:
        return sum(self.card["faces"][self.split].values())


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
    tracker: Literal["wandb", "none"] = "wandb",
    progress: Progress = no_progress,
) -> Evaluation:
    """Score a model on one split, into `runs/NAME/evaluation/ENSEMBLE-SPLIT/`; an equal evaluation is not repeated.

    Args:
        run: a run's name; without it, and without `weights`, the run that finished last.
        weights: any checkpoint; one that is no run's `best.pt` gets a run folder of its own.
        data: an ensemble's name, folder or data.yaml; without it, the ensemble that the run was trained on.
        imgsz: picture size in pixels; without it, the run's.

    Raises:
        MissingError: no run, weights or ensemble to evaluate.
        UsageError: an unknown split, or a run together with weights.
        DataError: a split without pictures or faces, a checkpoint that cannot be used, or class names other than
            `CLASSES`.
    """
    model = _model(root, run, weights)
    exam = _exam(_ensemble(root, model, data), split)
    _warn_of_another_ensemble(model, exam)
    target = model.folder / "evaluation" / f"{exam.card['name']}-{split}"
    size = imgsz or model.run["settings"].get("imgsz") or DEFAULT_IMGSZ
    inputs = _inputs(model, exam, size, batch)
    with locked(target):
        recover(target)
        found = _finished(target, inputs)
        if found is not None:
            _log.info("%s: up to date", target)
            return _evaluation(target, found, up_to_date=True)
        with replacing(target) as folder:
            scored = detect.validate(
                model.weights, exam.folder / "data.yaml", split,
                imgsz=size, batch=batch, device=device, progress=progress,
            )  # fmt: skip
            _check(scored, exam)
            found = _metrics(model, exam, scored, inputs)
            _write(folder, model, exam, scored, found)
    return _evaluation(target, found, up_to_date=False, tracked=_track(tracker, model, target, found))


# ---- what is evaluated ----


def _model(root: Path, run: str | None, weights: Path | None) -> Model:
    if run is not None and weights is not None:
        raise UsageError("a run and weights were both given: expected one of them", next_step="leave one out")
    if weights is None:
        return _of_run(runs.run_folder(root, run) if run is not None else runs.last_run(root, "finished"))
    folder = _run_behind(root, weights)
    return _of_weights(root, weights) if folder is None else _of_run(folder)


def _run_behind(root: Path, weights: Path) -> Path | None:
    """Return the run whose best weights these are."""
    folder = root / "runs" / weights.resolve().parent.parent.name
    if weights.resolve() != (folder / "weights" / "best.pt").resolve() or not (folder / runs.MARKER).is_file():
        return None
    return folder


def _of_run(folder: Path) -> Model:
    about = runs.read_run(folder)
    if about["kind"] != "training":
        raise UsageError(f"{folder}: no training made this run", next_step="give its checkpoint with --weights")
    weights = folder / "weights" / "best.pt"
    if not weights.is_file():
        raise MissingError(
            f"{weights}: expected the best weights of run {folder.name}, found no such file",
            next_step=f"fmask train --resume {folder.name}, or give a checkpoint with --weights",
        )
    return Model(folder, about, weights, digest_file(weights))


def _of_weights(root: Path, weights: Path) -> Model:
    """Give weights that no run made a run folder that says so. A checkpoint that cannot be loaded leaves none."""
    if not weights.is_file():
        raise MissingError(f"{weights}: no such checkpoint", next_step="check the path; `fmask train` makes one")
    digest = digest_file(weights)
    folder = runs.run_folder(root, f"{weights.stem}-{digest[:8]}")
    with locked(folder), storage_errors(folder):
        about = read_json(folder / runs.MARKER)
        if about is None:
            _, checkpoint = detect.load_model(weights)
            about = _about_weights(folder.name, weights.name, digest, checkpoint.get("train_args") or {})
            folder.mkdir(parents=True, exist_ok=True)
            runs.write_run(folder, about)
    return Model(folder, about, weights, digest)


def _about_weights(name: str, file: str, digest: str, train_args: Mapping[str, Any]) -> dict[str, Any]:
    imgsz = train_args.get("imgsz")
    return {
        "name": name,
        "kind": "weights",
        "state": "finished",
        "note": "weights that were given to `fmask evaluate`; no run of this folder made them",
        "weights": {"file": file, "sha256": digest},
        "settings": {"weights": file, "imgsz": imgsz if isinstance(imgsz, int) else DEFAULT_IMGSZ},
    }


# ---- what it is evaluated on ----


def _ensemble(root: Path, model: Model, data: str | None) -> Path:
    """Return the ensemble's folder: the one that is asked for, else the run's own, else the latest."""
    trained_on = model.run.get("ensemble")
    if data is not None or not trained_on:
        return find_ensemble(root, data or "")
    return find_ensemble(root, str(root / trained_on["path"]))


def _exam(folder: Path, split: str) -> Exam:
    if split not in SPLITS:
        raise UsageError(f"--split {split}: no such split", next_step=f"one of: {', '.join(SPLITS)}")
    exam = Exam(folder, read_ensemble(folder), split)
    _check_names(folder / "data.yaml")
    if not exam.images or not exam.boxes:
        raise DataError(
            f"{folder}: expected pictures with faces in the {split} split; it has {exam.images} pictures with "
            f"{exam.boxes} faces",
            next_step="score another split (--split), or build an ensemble that has this one",
        )
    return exam


def _check_names(path: Path) -> None:
    names = read_yaml(path).get("names")
    found = list(names.values()) if isinstance(names, dict) else names
    if found != list(CLASSES):
        raise DataError(
            f"{path}: expected the class names {list(CLASSES)}, in this order; found {found}",
            next_step="make it a source in configs/sources.yaml, and build an ensemble from it",
        )


def _warn_of_another_ensemble(model: Model, exam: Exam) -> None:
    trained_on = model.run.get("ensemble") or {}
    if trained_on.get("name") == exam.card["name"] and trained_on.get("hash") != exam.card["hash"]:
        _log.warning(
            "%s was built anew since run %s was trained on it: pictures that it was trained on may now be in %s",
            exam.card["name"], model.folder.name, exam.split,
        )  # fmt: skip


# ---- what comes out ----


def _inputs(model: Model, exam: Exam, imgsz: int, batch: int) -> dict[str, Any]:
    """Return all that decides the numbers. The batch is among them: a batch's pictures are padded to one shape."""
    return {
        "version": EVALUATE_VERSION,
        "weights": model.digest,
        "ensemble": {"name": exam.card["name"], "hash": exam.card["hash"]},
        "split": exam.split,
        "imgsz": imgsz,
        "batch": batch,
        "lowest_confidence": detect.CONFIDENCE,
        "suppression_iou": detect.IOU,
        "detections_per_image": detect.MAX_DETECTIONS,
    }


def _finished(target: Path, inputs: Mapping[str, Any]) -> dict[str, Any] | None:
    found = read_json(target / METRICS)
    whole = found is not None and all((target / name).is_file() for name in _FILES)
    return found if whole and found is not None and found["inputs"] == inputs else None


def _check(scored: detect.Validation, exam: Exam) -> None:
    """Make sure that what was scored is what the ensemble says it holds."""
    found = (len(scored.pictures), scored.mean.n)
    if found != (exam.images, exam.boxes):
        raise DataError(
            f"{exam.folder}: expected {exam.images} pictures with {exam.boxes} faces in {exam.split}, as "
            f"{MARKER} says; the loader found {found[0]} with {found[1]}",
            next_step="build the ensemble again: its files were changed or are damaged",
        )


def _metrics(model: Model, exam: Exam, scored: detect.Validation, inputs: Mapping[str, Any]) -> dict[str, Any]:
    found = misses(scored.pictures, scored.confidence)
    counts = confusion(scored.pictures, scored.confidence)
    return {
        "run": model.folder.name,
        "ensemble": exam.card["name"],
        "split": exam.split,
        "model": scored.model,
        "images": exam.images,
        "boxes": exam.boxes,
        **_numbers(scored.mean),
        "per_class": {
            name: {**_numbers(score), "n": score.n, "images": score.images} for name, score in scored.per_class.items()
        },
        "confidence": round(scored.confidence, _DIGITS),
        "match_iou": MATCH_IOU,
        "confusion": {
            "rows": "as labelled, then nothing labelled",
            "columns": "as detected, then nothing detected",
            "classes": list(CLASSES),
            "counts": counts.tolist(),
        },
        "misses": {kind: sum(miss.kind == kind for miss in found) for kind in KINDS},
        "inputs": dict(inputs),
    }


def _numbers(score: detect.Score) -> dict[str, float | None]:
    values = {key: value for key, value in asdict(score).items() if key not in ("n", "images")}
    return {key: None if value is None else round(value, _DIGITS) for key, value in values.items()}


def _write(folder: Path, model: Model, exam: Exam, scored: detect.Validation, found: Mapping[str, Any]) -> None:
    """Write the evaluation's files, `metrics.json` last."""
    from facemask_train.evaluation import pictures, report

    _write_detections(folder / "detections.parquet", scored.pictures)
    title = f"{model.folder.name} on {exam.card['name']}, {exam.split}"
    counts = confusion(scored.pictures, scored.confidence)
    errors = misses(scored.pictures, scored.confidence)
    pictures.draw_curves(scored, folder / "curves.png")
    pictures.draw_confusion(counts, scored.confidence, folder / "confusion.png")
    pictures.draw_misses(errors, exam.folder, scored.confidence, f"Worst misses: {title}", folder / "misses.jpg")
    text = report.page(title, found, model.run, exam.card, PICTURES)
    (folder / REPORT).write_text(text, encoding="utf-8", newline="\n")
    write_json(folder / METRICS, found)


def _write_detections(path: Path, pictures: Sequence[detect.Picture]) -> None:
    """Write every detection above the lowest confidence, in pixels of the picture as displayed."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [(picture.image, one) for picture in pictures for one in picture.detections]
    columns = {
        "image": pa.array([image for image, _ in rows], pa.string()),
        "name": pa.array([one.name for _, one in rows], pa.string()),
        "confidence": pa.array([one.confidence for _, one in rows], pa.float32()),
    }
    for axis, key in enumerate(("x_min", "y_min", "x_max", "y_max")):
        columns[key] = pa.array([one.corners[axis] for _, one in rows], pa.float32())
    pq.write_table(pa.table(columns), path)


def _evaluation(
    target: Path, found: Mapping[str, Any], *, up_to_date: bool, tracked: Report | None = None
) -> Evaluation:
    keys = ("run", "ensemble", "split", "images", "boxes", "map50", "map50_95", "precision", "recall", "per_class")
    return Evaluation(
        **{key: found[key] for key in keys},
        report=target / REPORT,
        folder=target,
        up_to_date=up_to_date,
        tracked=tracked,
    )


def _track(kind: str, model: Model, target: Path, found: Mapping[str, Any]) -> Report | None:
    """Send the numbers and pictures to the run's own tracker run; weights without a run get one of their own."""
    if "none" in (kind, (model.run.get("tracker") or {}).get("kind")):
        return None
    from facemask_train.training.tracking import open_tracker
    from facemask_train.training.train import PROJECT

    known = model.run.get("tracker") or {"project": PROJECT, "run_id": model.digest[:8]}
    tracker = open_tracker(
        kind,
        model.folder,
        project=known["project"],
        name=model.folder.name,
        config={f"evaluation/{target.name}": found["inputs"]},
        run_id=known["run_id"],
    )
    tracker.summary(_summary(f"evaluation/{target.name}", found))
    tracker.pictures(f"evaluation/{target.name}", [target / name for name in PICTURES])
    report = tracker.finish()
    for line in report.unsent:
        _log.warning("W&B: %s", line)
    if report.sync:
        _log.info("W&B: kept offline; to send it: %s", report.sync)
    return report


def _summary(key: str, found: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the numbers under the names they have in training: `evaluation/v5-test/class/mask/recall`, ..."""
    from facemask_train.training.tracking import METRICS, metric_values

    own = dict(zip(METRICS, ("precision", "recall", "map50", "map50_95"), strict=True))
    overall = {metric: found[name] for metric, name in own.items()}
    rows = {name: {metric: row[ours] for metric, ours in own.items()} for name, row in found["per_class"].items()}
    return {f"{key}/{name}": value for name, value in metric_values(overall, rows).items()}
