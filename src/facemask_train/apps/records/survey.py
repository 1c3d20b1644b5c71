"""`survey.json`: the share of faces with a mask by place and time, and what it was computed from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from facemask_train.apps.records.predictions import UnreadableFile
from facemask_train.core.records import Record
from facemask_train.eval.measures.bootstrap import Interval
from facemask_train.eval.records.audit import ThresholdSource

FEW = "small sample: "
"""How the warning about few faces begins."""


@dataclass(frozen=True, slots=True)
class PrevalenceEstimate:
    """The share of faces with a mask, from 0 to 1, with its 95 % confidence interval.

    Attributes:
        rate: corrected for the detector's errors; None if it cannot be estimated, and `warnings` say why.
        interval: of the rate.
        uncorrected: the share of the `n` classified faces that the detector calls masked, with its own interval.
        n: faces that were classified as with or without a mask.
        unknown: faces that were found but are too small or too uncertain to classify.
        unknown_bounds: the rate if none, and if all, of the unknown faces wore a mask.
        images: images and video frames.
        clusters: independent groups of images: see `--cluster-seconds`.
        warnings: what weakens the estimate.
    """

    rate: float | None
    interval: Interval | None
    uncorrected: float | None
    uncorrected_interval: Interval | None
    n: int
    unknown: int
    unknown_bounds: Interval | None
    images: int
    clusters: int
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SurveyBin:
    """The estimate for one place and time; both are empty if they are not known."""

    place: str
    time: str
    estimate: PrevalenceEstimate

    @property
    def name(self) -> str:
        return ", ".join(part for part in (self.place, self.time) if part) or "no place, no time"


@dataclass(frozen=True, slots=True)
class ReferenceCounts:
    """How the detector classified the labeled faces of its reference set.

    Attributes:
        outcomes: the names of the columns: the classes, unknown, missed.
        faces: for each labeled class, the number of its faces with each outcome.
        false_boxes: boxes without a labeled face, by outcome; `missed` does not apply.
    """

    ensemble: str
    split: str
    images: int
    outcomes: tuple[str, ...]
    faces: dict[str, tuple[int, ...]]
    false_boxes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ReferenceDigest:
    """Which evaluation the detector's errors were measured in, with the digest of its detections."""

    ensemble: str
    split: str
    detections: str


@dataclass(frozen=True, slots=True)
class SurveyInputs:
    """Everything that decides the output: equal inputs give equal files.

    Attributes:
        version: of the record, so that output of another version is made again.
        weights: sha256 of the model.
        imgsz: input size in pixels.
        confidence: the threshold above which a face is classified.
        min_face: the side of the smallest face that is classified, in pixels at the detector's input size.
        frame_interval: seconds between the processed video frames.
        max_pixels: the largest image that is read, in pixels.
        cluster_seconds: images of one place or video within this many seconds form one cluster.
        by: the length of a time bin.
        places: digest of the rows of the table of places.
        pattern: of file names, as given.
        start: when the videos begin, in ISO format.
        sources: digest of the input files' names and contents.
    """

    version: int
    weights: str
    backend: str
    imgsz: int
    confidence: float
    min_face: float
    reference: ReferenceDigest
    frame_interval: float
    max_pixels: int
    keep_faces: bool
    cluster_seconds: float
    by: str
    places: str | None
    pattern: str | None
    start: str | None
    sources: str


@dataclass(frozen=True, slots=True)
class Survey(Record):
    """A survey's results.

    Attributes:
        model: the model's name.
        confidence_chosen: who chose the confidence threshold.
        overall: the estimate over all images.
        bins: the estimate for each place and time; empty if neither is known.
        correlation: the intracluster correlation that was estimated over all bins; None if there are too few
            clusters to estimate it.
        reference: the detector's errors.
        problems: files that could not be read.
    """

    FILE: ClassVar[str] = "survey.json"
    VERSION: ClassVar[int] = 5
    MAKE: ClassVar[str] = "fmask survey"

    inputs: SurveyInputs
    model: str
    confidence_chosen: ThresholdSource
    overall: PrevalenceEstimate
    bins: tuple[SurveyBin, ...]
    correlation: float | None
    reference: ReferenceCounts
    problems: tuple[UnreadableFile, ...]
