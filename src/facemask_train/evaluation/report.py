"""An evaluation's page in Markdown: the reference's table, the same per class, what was scored, and the limits."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from facemask_train.records import CLASSES

# A recall of 0.75 over 72 faces has a 95 % interval of 0.1 to either side: with fewer, one number says little.
ENOUGH_FACES = 72
ENOUGH_PICTURES = 100

_COLUMNS = (
    "model", "dataset", "images", "checkpoint", "training time", "mAP 0.5", "mAP 0.5:0.95", "precision", "recall",
)  # fmt: skip
_PUBLISHED = (
    "YOLOv5s, as published (1)", "Face Masks v8", "27,000", "COCO, best epoch 44", "3.5 h on one V100",
    "94", "53", "93", "89",
)  # fmt: skip
_ABOUT_PUBLISHED = (
    "In percent. (1) The reference project's own figures on its own test split. It rotated before it split, "
    "and its sources share pictures: they are optimistic, and measured on other pictures than the row above."
)
_UNITS = ((3600, 1, "h"), (60, 0, "min"), (1, 0, "s"))
_FOUR = ("map50", "map50_95", "precision", "recall")
_ALT = {
    "curves.png": "Precision and recall curves",
    "confusion.png": "Confusion matrix",
    "misses.jpg": "The worst misses",
}


def page(
    title: str, found: Mapping[str, Any], run: Mapping[str, Any], card: Mapping[str, Any], pictures: Sequence[str]
) -> str:
    """Return the report.

    Args:
        found: what `metrics.json` holds.
        run: the run's `run.json`.
        card: the ensemble's `ensemble.json`.
        pictures: names of the picture files beside the report.
    """
    row = (*_who(found, run, card), *(_percent(found[key]) for key in _FOUR))
    parts = [
        f"# {title}",
        _table(_COLUMNS, [row, _PUBLISHED]),
        _ABOUT_PUBLISHED,
        f"## By class\n\n{_by_class(found)}",
        f"## What was scored\n\n{_scored(found)}",
        f"## Limits\n\n{_bullets(_limits(found, run, card))}",
        *(f"![{_ALT[name]}]({name})" for name in pictures),
    ]
    return "\n\n".join(parts) + "\n"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _bullets(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _who(found: Mapping[str, Any], run: Mapping[str, Any], card: Mapping[str, Any]) -> tuple[str, ...]:
    """Return model, dataset, images, checkpoint and training time. The images are those of the whole ensemble."""
    images = f"{sum(card['splits'].values()):,}"
    if run["kind"] == "weights":
        return found["model"], found["ensemble"], images, run["weights"]["file"], "not known"
    start = str(run["settings"]["weights"]).replace("\\", "/").rpartition("/")[2]
    epochs = run.get("epochs")
    checkpoint = f"{start}, best of {epochs} epochs" if epochs else start
    return found["model"], found["ensemble"], images, checkpoint, _time(run)


def _time(run: Mapping[str, Any]) -> str:
    """Return the training time in the words of the published table: `3.5 h on one V100`."""
    seconds = run.get("seconds")
    if not seconds:
        return "not known"
    length = next((f"{seconds / unit:.{digits}f} {name}" for unit, digits, name in _UNITS if seconds >= unit), "< 1 s")
    return f"{length} on {'a CPU' if run['device'] == 'cpu' else 'one ' + run['device']}"


def _by_class(found: Mapping[str, Any]) -> str:
    header = ("class", "faces (n)", "pictures", "mAP 0.5", "mAP 0.5:0.95", "precision", "recall")
    rows = []
    for name in CLASSES:
        score = found["per_class"][name]
        mark = "" if score["n"] >= ENOUGH_FACES else " (2)"
        rows.append((name, f"{score['n']}{mark}", str(score["images"]), *(_percent(score[key]) for key in _FOUR)))
    few = any(found["per_class"][name]["n"] < ENOUGH_FACES for name in CLASSES)
    note = f"\n\n(2) Too few to measure: with fewer than {ENOUGH_FACES} faces, one number says little." if few else ""
    return _table(header, rows) + note


def _scored(found: Mapping[str, Any]) -> str:
    inputs, missed = found["inputs"], found["misses"]
    return _bullets(
        [
            f"{found['images']} pictures with {found['boxes']} faces: the {found['split']} split of ensemble "
            f"{found['ensemble']} (`{inputs['ensemble']['hash'][:12]}`).",
            f"Weights `{inputs['weights'][:12]}`, pictures at {inputs['imgsz']} px, batch {inputs['batch']}.",
            "The validator of the `ultralytics` package with its default settings: detections from confidence "
            f"{inputs['lowest_confidence']}, non-maximum suppression at IoU {inputs['suppression_iou']}.",
            f"Precision and recall stand at confidence {found['confidence']:.3f}, where the mean F1 of the classes "
            "is best on these same pictures. The means leave out a class without labelled faces.",
            f"Above that confidence, matched at IoU {found['match_iou']} whatever the class: "
            f"{missed['missed']} faces missed, {missed['wrong class']} given the wrong class, "
            f"{missed['false box']} boxes that answer no labelled face (a second box on a face is one).",
        ]
    )


def _limits(found: Mapping[str, Any], run: Mapping[str, Any], card: Mapping[str, Any]) -> list[str]:
    limits = []
    if found["images"] < ENOUGH_PICTURES:
        limits.append(f"Too few to measure: {found['images']} pictures; {ENOUGH_PICTURES} or more say something.")
    if found["split"] == "train":
        limits.append("These are pictures that models are trained on: the numbers say nothing of new ones.")
    if found["split"] == "val":
        limits.append("The best epoch was chosen on a validation split: on it, numbers are a little too good.")
    if (run.get("ensemble") or {}).get("hash") != card["hash"]:
        limits.append(f"{_trained_on(run)}: pictures that the model was trained on may be among those scored.")
    if card.get("split_by", "file") == "file":
        limits.append(
            "The ensemble was split by file: near-duplicates of a scored picture may be among the training pictures."
        )
    return [*limits, "No intervals yet: read small differences as none."]


def _trained_on(run: Mapping[str, Any]) -> str:
    ensemble = run.get("ensemble")
    if not ensemble:
        return "It is not known what these weights were trained on"
    return f"The run was trained on another ensemble, {ensemble['name']} (`{ensemble['hash'][:12]}`)"
