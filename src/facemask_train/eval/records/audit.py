"""`audit.json` and `probe.json`: whether a model takes shortcuts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from facemask_train.core.records import Record, VersionError
from facemask_train.eval.perturbations.shortcuts import FlipRate

_log = logging.getLogger(__name__)

ThresholdSource = Literal["val", "export", "user", "default"]
"""Who chose a confidence threshold: the best F1 on val (known from an evaluation, or from an export), or the user."""


@dataclass(frozen=True, slots=True)
class EnsembleReference:
    """An ensemble by name and hash."""

    name: str
    hash: str


@dataclass(frozen=True, slots=True)
class DetectionInputs:
    """Everything that determines the detections on a split.

    Attributes:
        weights: the sha256 of the checkpoint.
        batch: matters because the images of a batch are padded to the same shape.
    """

    weights: str
    ensemble: EnsembleReference
    split: str
    imgsz: int
    batch: int
    lowest_confidence: float
    suppression_iou: float
    detections_per_image: int

    def same_detector(self, other: DetectionInputs) -> bool:
        """Return whether the same detector ran on the same ensemble, on any split."""
        keys = [key for key in DetectionInputs.__dataclass_fields__ if key != "split"]
        return all(getattr(self, key) == getattr(other, key) for key in keys)


@dataclass(frozen=True, slots=True)
class AuditInputs(DetectionInputs):
    """Everything that determines an audit's result.

    Attributes:
        min_face_side: smaller faces are not perturbed, in pixels.
        faces: the most faces of a class that are perturbed.
        version: of the audit.
    """

    threshold: float
    threshold_chosen: ThresholdSource
    min_face_side: float
    faces: int
    version: int


@dataclass(frozen=True, slots=True)
class FaceCounts:
    """How many faces of each class are labeled, large enough, and detected with the right class when untouched."""

    labeled: Mapping[str, int]
    large: Mapping[str, int]
    right: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PerturbationRate(FlipRate):
    """The flip rate of one perturbation on the faces of one class."""

    perturbation: str
    name: str
    must_change: bool
    seen: bool


@dataclass(frozen=True, slots=True)
class Audit(Record):
    """The result of an audit.

    Attributes:
        shortcut_rate: over the perturbations that must not change the class and that training never sees.
        shortcut_rate_seen: over those that training may have seen.
        response_rate: over the perturbations that must change the class.
    """

    FILE: ClassVar[str] = "audit.json"
    VERSION: ClassVar[int] = 2
    MAKE: ClassVar[str] = "fmask audit"

    run: str
    ensemble: str
    split: str
    threshold: float
    threshold_chosen: ThresholdSource
    faces: FaceCounts
    shortcut_rate: FlipRate
    shortcut_rate_by_class: Mapping[str, FlipRate]
    shortcut_rate_seen: FlipRate
    response_rate: FlipRate
    perturbations: tuple[PerturbationRate, ...]
    inputs: AuditInputs


ProbeResult = Literal["right", "wrong", "not detected"]


@dataclass(frozen=True, slots=True)
class ProbePrediction:
    """An image, the class that it should be, and the most confident detection in it (empty, 0 if there is none)."""

    image: str
    should_be: str
    result: ProbeResult
    detected: str
    confidence: float


@dataclass(frozen=True, slots=True)
class Probe(Record):
    """What a model detects in a folder of the user's own images."""

    FILE: ClassVar[str] = "probe.json"
    VERSION: ClassVar[int] = 2
    MAKE: ClassVar[str] = "fmask audit --probe DIR"

    run: str
    images: str
    threshold: float
    threshold_chosen: ThresholdSource
    right: int
    wrong: int
    not_detected: int
    predictions: tuple[ProbePrediction, ...]


def read_audits(run: Path) -> dict[Path, Audit]:
    """Return the audits of a run by their folders, sorted; those of another version are left out with a warning.

    Raises:
        DataError: a file is damaged.
    """
    found = {}
    for path in sorted((run / "audit").glob(f"[!.]*/{Audit.FILE}")):
        try:
            found[path.parent] = Audit.load(path.parent)
        except VersionError as error:
            _log.warning("%s; it is ignored: %s", error, error.next_step)
    return found
