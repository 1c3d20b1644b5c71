"""`fmask audit`: looks for shortcuts of a model on one split, into `runs/NAME/audit/ENSEMBLE-SPLIT/`."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.files import inside, locked, read_json, recover, replacing, write_json
from facemask_train.core.types import CLASSES, Annotation, Box, Progress, no_progress
from facemask_train.eval.eval_target import Exam, Model, Setup, find_exam, find_model, open_exam
from facemask_train.eval.perturbations import shortcuts
from facemask_train.eval.perturbations.shortcuts import Asked, Outcome, Rate
from facemask_train.eval.probe import Probe, read_wanted
from facemask_train.eval.probe import probe as ask_about
from facemask_train.eval.thresholds import DEFAULT, Threshold, choose, inputs
from facemask_train.eval.tracked import send
from facemask_train.model.detector import load_detector

if TYPE_CHECKING:
    from facemask_train.train.tracking.tracker import Report

AUDIT_VERSION = 1
"""Raised by hand when edits, or what is said of their answers, change: earlier audits are then made anew."""

RESULT, OUTCOMES, GALLERY = "audit.json", "outcomes.parquet", "shortcuts.jpg"
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Audit:
    """A finished audit: its folder, and what its `audit.json` says."""

    folder: Path
    found: Mapping[str, Any]
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
    faces: int = shortcuts.MOST_FACES,
    tracker: Literal["wandb", "none"] = "wandb",
    progress: Progress = no_progress,
) -> Audit:
    """Edit faces of a split that a model names rightly, and ask it again; an equal audit is not repeated.

    Args:
        run, weights, data, split, imgsz: as in `evaluate`.
        threshold: the confidence above which an answer counts; without it, chosen on the ensemble's val split.
        faces: how many faces of a class are asked at most.

    Raises:
        MissingError, UsageError, DataError: as in `evaluate`.
    """
    model = find_model(root, run, weights)
    exam = open_exam(find_exam(root, model, data), split)
    setup = Setup(model.imgsz(imgsz), batch, device, progress)
    found = audit_exam(model, exam, setup, choose(model, exam, setup, threshold), faces=faces)
    if found.up_to_date:
        _log.info("%s: up to date", found.folder)
        return found
    key = f"audit/{found.folder.name}"
    report = send(tracker, model, key, summary(key, found.found), [found.folder / GALLERY], found.folder)
    return Audit(found.folder, found.found, up_to_date=False, tracked=report)


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
) -> Probe:
    """Ask a model about a folder of one's own images (`probe.probe`).

    Args:
        threshold: without it, as for the run's ensemble; where there is none, the `ultralytics` package's own.

    Raises:
        MissingError, UsageError, DataError: as in `evaluate`, and of the folder, its csv and its images.
    """
    read_wanted(images)
    model = find_model(root, run, weights)
    setup = Setup(model.imgsz(imgsz), batch, device, progress)
    if threshold is not None:
        return ask_about(model, setup, Threshold(threshold, "user"), images)
    try:
        exam = open_exam(find_exam(root, model, data), "val")
    except (MissingError, DataError):
        return ask_about(model, setup, Threshold(DEFAULT, "default"), images)
    return ask_about(model, setup, choose(model, exam, setup, None), images)


def audit_exam(
    model: Model, exam: Exam, setup: Setup, threshold: Threshold, *, faces: int = shortcuts.MOST_FACES
) -> Audit:
    """Audit a model on a split with a threshold that is known; nothing is sent to a tracker."""
    target = model.folder / "audit" / f"{exam.card.name}-{exam.split}"
    said = {
        "version": AUDIT_VERSION,
        **inputs(model, exam, setup),
        "threshold": asdict(threshold),
        "least_side": shortcuts.LEAST_SIDE,
        "faces": faces,
    }
    with locked(target):
        recover(target)
        found = read_json(target / RESULT)
        whole = all((target / name).is_file() for name in (OUTCOMES, GALLERY))
        if found is not None and whole and found["inputs"] == said:
            return Audit(target, found, up_to_date=True)
        with replacing(target) as folder:
            detector = load_detector(model.weights, imgsz=setup.imgsz, device=setup.device)
            asked = shortcuts.ask(
                detector, exam.folder, labels_of(exam), threshold=threshold.value, most=faces, progress=setup.progress
            )
            found = _result(model, exam, asked, threshold, said)
            _write(folder, exam, asked.outcomes, found)
    return Audit(target, found, up_to_date=False)


def labels_of(exam: Exam) -> dict[str, list[Annotation]]:
    """Return the labels of each image of a split, as the ensemble's manifest has them."""
    return {
        row["image"]: [
            Annotation(one["name"], Box(*(float(one[key]) for key in ("x_min", "y_min", "x_max", "y_max"))))
            for one in row["labels"]
        ]
        for row in manifest_rows(exam)
    }


def manifest_rows(exam: Exam) -> list[dict[str, Any]]:
    """Return the manifest's rows of a split, sorted by image."""
    import pyarrow.parquet as pq

    manifest = exam.folder / "manifest.parquet"
    rows: list[dict[str, Any]] = pq.read_table(manifest).to_pylist()
    for row in rows:
        inside(exam.folder, row["image"], str(manifest))
    return sorted((row for row in rows if row["split"] == exam.split), key=lambda row: row["image"])


def _result(model: Model, exam: Exam, asked: Asked, threshold: Threshold, said: Mapping[str, Any]) -> dict[str, Any]:
    unseen = {name: shortcuts.shortcut_rate(asked.outcomes, seen=False, name=name) for name in CLASSES}
    return {
        "run": model.folder.name,
        "ensemble": exam.card.name,
        "split": exam.split,
        "threshold": threshold.value,
        "threshold_chosen": threshold.chosen,
        "faces": {"labelled": dict(asked.labelled), "large": dict(asked.large), "right": dict(asked.right)},
        "shortcut_rate": _plain(shortcuts.shortcut_rate(asked.outcomes, seen=False)),
        "shortcut_rate_by_class": {name: _plain(rate) for name, rate in unseen.items()},
        "shortcut_rate_seen": _plain(shortcuts.shortcut_rate(asked.outcomes, seen=True)),
        "response_rate": _plain(shortcuts.response_rate(asked.outcomes)),
        "kinds": [
            {"kind": kind.name, "faces_of": name, "must_change": kind.must_change, "seen": kind.seen, **_plain(rate)}
            for kind, name, rate in shortcuts.by_kind(asked.outcomes)
        ],
        "inputs": dict(said),
    }


def _plain(rate: Rate) -> dict[str, Any]:
    """Return a rate as JSON has it; `measurable` says if there were faces enough."""
    bounds = None if rate.interval is None else [round(x, 6) for x in rate.interval]
    own = {"rate": None if rate.rate is None else round(rate.rate, 6), "interval": bounds, "n": rate.n}
    counts = {key: getattr(rate, key) for key in ("faces", "images", "same", "flipped", "lost")}
    return {**own, "measurable": rate.rate is not None, **counts}


def _write(folder: Path, exam: Exam, outcomes: Sequence[Outcome], found: Mapping[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from facemask_train.report.galleries import draw_outcomes

    rows = [
        {
            "image": one.face.image, "face": one.face.number, "name": one.face.label.name, "kind": one.kind,
            "result": one.result, "confidence": one.confidence,
        }
        for one in outcomes
    ]  # fmt: skip
    texts = ("image", "name", "kind", "result")
    fields = [*((key, pa.string()) for key in texts), ("face", pa.int64()), ("confidence", pa.float64())]
    pq.write_table(pa.Table.from_pylist(rows, schema=pa.schema(fields)), folder / OUTCOMES)
    title = f"Edited faces: {found['run']} on {exam.card.name}, {exam.split}"
    draw_outcomes(outcomes, exam.folder, title, found["threshold"], folder / GALLERY)
    write_json(folder / RESULT, found)


def summary(key: str, found: Mapping[str, Any]) -> dict[str, float | None]:
    """Return the rates under the names that they have at the tracker."""
    rates = ("shortcut_rate", "shortcut_rate_seen", "response_rate")
    values = {f"{key}/{name}": found[name]["rate"] for name in rates}
    bounds = {
        f"{key}/{name}/{side}": found[name]["interval"][index]
        for name in rates
        if found[name]["interval"]
        for index, side in enumerate(("low", "high"))
    }
    return values | bounds
