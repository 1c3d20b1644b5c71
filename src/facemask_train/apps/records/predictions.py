"""`predictions.json`: what `fmask predict` was run on, and how many faces it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from facemask_train.core.records import Record
from facemask_train.eval.records.audit import ThresholdSource


@dataclass(frozen=True, slots=True)
class UnreadableFile:
    """An input file that could not be read, or not to its end, and the reason."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class PredictionInputs:
    """Everything that decides the output: equal inputs give equal files.

    Attributes:
        version: of the record, so that output of another version is made again.
        weights: sha256 of the model.
        imgsz: input size in pixels.
        batch: images per batch; it decides rounding.
        frame_interval: seconds between the processed video frames, None for all.
        max_pixels: the largest image that is read, in pixels.
        sources: digest of the input files' names and contents.
    """

    version: int
    weights: str
    backend: str
    precision: str
    imgsz: int
    batch: int
    confidence: float
    save: tuple[str, ...]
    anonymize: bool
    frame_interval: float | None
    max_pixels: int
    sources: str


@dataclass(frozen=True, slots=True)
class FileCounts:
    """What was found in one file; `output` is the name that its outputs have, `faces` counts by class."""

    file: str
    output: str
    frames: int
    faces: dict[str, int]


@dataclass(frozen=True, slots=True)
class Predictions(Record):
    """The faces that were found, in all files and in each.

    Attributes:
        model: the model's name.
        confidence_chosen: who chose the confidence threshold.
        images, videos, frames: how many were processed; an image counts as one frame.
        faces: faces in all frames.
        faces_by_class: the same for each class name.
    """

    FILE: ClassVar[str] = "predictions.json"
    VERSION: ClassVar[int] = 4
    MAKE: ClassVar[str] = "fmask predict"

    inputs: PredictionInputs
    model: str
    confidence_chosen: ThresholdSource
    images: int
    videos: int
    frames: int
    faces: int
    faces_by_class: dict[str, int]
    problems: tuple[UnreadableFile, ...]
    files: tuple[FileCounts, ...]
