"""`audit.json` and `probe.json`: whether a model takes shortcuts."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from facemask_train.core.records import Record, VersionError
from facemask_train.eval.perturbations.rates import ExcessRate, Share

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
        training_edits: the face-aware edits in the run's training images (see `Audit`).
        version: of the audit.
    """

    threshold: float
    threshold_chosen: ThresholdSource
    min_face_side: float
    faces: int
    training_edits: tuple[str, ...] | None
    version: int


@dataclass(frozen=True, slots=True)
class FaceCounts:
    """How many faces of each class are labeled, large enough, and detected with the right class when untouched."""

    labeled: Mapping[str, int]
    large: Mapping[str, int]
    right: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class PerturbationRate(ExcessRate):
    """What one perturbation does to the faces of one class.

    Attributes:
        must_change: whether the class must change; the rate is then how often it did, and there is no control.
        doubt: why it does not count in the headline; empty if it does, or must change the class.
        seen: whether training showed its counterpart, or may have.
        named: whether the excess is above 0, with a margin for the number of perturbations.
    """

    perturbation: str
    name: str
    must_change: bool
    doubt: str
    seen: bool
    named: bool


@dataclass(frozen=True, slots=True)
class ControlRate:
    """How many faces of a class a control flipped or lost."""

    control: str
    name: str
    n: int
    flipped: int
    lost: int


@dataclass(frozen=True, slots=True)
class Audit(Record):
    """The result of an audit.

    Attributes:
        headline: the class of faces that the headline is about: bare ones.
        excess: by class, over the perturbations that must not change the class and that training never showed: how
            often a face that was right is flipped or lost, beyond its controls.
        excess_seen: by class, over those that training showed, or may have shown.
        found: by class, the share of the large faces that are detected with the right class when untouched.
        response: how often the perturbations that must change the class do so.
        training_edits: the face-aware edits in the training images of the run's ensemble; None if that is not known,
            and every perturbation with a counterpart then counts as seen.
    """

    FILE: ClassVar[str] = "audit.json"
    VERSION: ClassVar[int] = 3
    MAKE: ClassVar[str] = "fmask audit"

    run: str
    ensemble: str
    split: str
    threshold: float
    threshold_chosen: ThresholdSource
    faces: FaceCounts
    headline: str
    excess: Mapping[str, ExcessRate]
    excess_seen: Mapping[str, ExcessRate]
    found: Mapping[str, Share]
    response: Share
    training_edits: tuple[str, ...] | None
    perturbations: tuple[PerturbationRate, ...]
    controls: tuple[ControlRate, ...]
    inputs: AuditInputs

    @property
    def bare(self) -> ExcessRate:
        """The headline: what the perturbations that training never showed do to bare faces, beyond their controls."""
        return self.excess[self.headline]


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
