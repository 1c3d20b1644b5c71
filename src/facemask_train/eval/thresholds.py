"""The confidence from which a detection counts: chosen on the validation split, never on the images scored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from facemask_train.core.files import read_json
from facemask_train.eval.eval_target import Exam, Model, Setup
from facemask_train.model import validation

DEFAULT = 0.25
"""What is taken where nothing can be chosen: the `ultralytics` package's own for predictions."""


@dataclass(frozen=True, slots=True)
class Threshold:
    """A confidence, and who chose it: the best F1 on `val`, the `user`, or nobody (the package's `default`).

    `export` is an earlier `val` of which only an exported file tells.
    """

    value: float
    chosen: Literal["val", "export", "user", "default"]

    @property
    def why(self) -> str:
        """Who chose it, in words."""
        return {
            "val": "chosen on val",
            "export": "chosen on val, as the export itself says",
            "user": "fixed by you",
            "default": "the package's default: no evaluation chose one",
        }[self.chosen]


def inputs(model: Model, exam: Exam, setup: Setup) -> dict[str, Any]:
    """Return all that decides a split's detections. The batch is among them: its images are padded to one shape."""
    return {
        "weights": model.digest,
        "ensemble": {"name": exam.card.name, "hash": exam.card.hash},
        "split": exam.split,
        "imgsz": setup.imgsz,
        "batch": setup.batch,
        "lowest_confidence": validation.CONFIDENCE,
        "suppression_iou": validation.IOU,
        "detections_per_image": validation.MAX_DETECTIONS,
    }


def choose(model: Model, exam: Exam, setup: Setup, given: float | None) -> Threshold:
    """Return the user's confidence, or the one with the best mean F1 on the ensemble's validation split.

    The validation split is scored for it, unless an evaluation of this model on this ensemble says it already.
    """
    if given is not None:
        return Threshold(given, "user")
    known = _known(model, exam, setup)
    if known is not None:
        return known
    val = exam.of("val")
    if val is None:
        return Threshold(DEFAULT, "default")
    scored = validation.validate(model.weights, val.folder / "data.yaml", "val", **setup.options)
    return Threshold(round(scored.confidence, 6), "val")


def chosen(model: Model, imgsz: int) -> Threshold:
    """Return what an evaluation of these very weights at this image size chose on val, and else the default.

    Of several evaluations, the one on the ensemble that the run was trained on, or else the one written last.
    """
    own = (model.run.get("ensemble") or {}).get("name")
    found = []
    for path in model.folder.glob("evaluation/*/metrics.json"):
        said = read_json(path) or {}
        point, made_of = said.get("operating_point") or {}, said.get("inputs") or {}
        if point.get("chosen") == "val" and (made_of.get("weights"), made_of.get("imgsz")) == (model.digest, imgsz):
            found.append((said.get("ensemble") == own, path.stat().st_mtime_ns, float(point["threshold"])))
    return Threshold(max(found)[-1], "val") if found else Threshold(DEFAULT, "default")


def _known(model: Model, exam: Exam, setup: Setup) -> Threshold | None:
    """Return what an evaluation of this model on any split of this ensemble has chosen on val."""
    for path in sorted((model.folder / "evaluation").glob(f"{exam.card.name}-*/metrics.json")):
        found = read_json(path) or {}
        point, said = found.get("operating_point") or {}, found.get("inputs") or {}
        if point.get("chosen") == "val" and _same(said, inputs(model, exam, setup)):
            return Threshold(float(point["threshold"]), "val")
    return None


def _same(said: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    return all(said.get(key) == value for key, value in wanted.items() if key != "split")
