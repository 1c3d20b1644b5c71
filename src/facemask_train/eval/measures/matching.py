"""Matching detections with labels at one confidence: the errors, and the confusion matrix. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from facemask_train.core.boxes import iou
from facemask_train.core.types import CLASSES, Annotation, Detection, ImageResult

if TYPE_CHECKING:
    from facemask_train.core.types import Array

MATCH_IOU = 0.5
"""A detection matches a label above this IoU, as in mAP 0.5."""

ErrorKind = Literal["missed", "wrong class", "false positive"]
ERROR_KINDS: tuple[ErrorKind, ...] = ("missed", "wrong class", "false positive")


@dataclass(frozen=True, slots=True)
class Match:
    """A label and the detection that matches it; one of them is None where there is no match."""

    label: Annotation | None
    detection: Detection | None

    @property
    def error(self) -> ErrorKind | None:
        """What is wrong with it, if anything."""
        if self.detection is None:
            return "missed"
        if self.label is None:
            return "false positive"
        return None if self.label.name == self.detection.name else "wrong class"


@dataclass(frozen=True, slots=True)
class DetectionError:
    """One error and the image that it is in."""

    kind: ErrorKind
    result: ImageResult
    match: Match

    @property
    def severity(self) -> float:
        """How bad the error is among those of its kind: the area of a missed face (in pixels), else the confidence."""
        if self.match.detection is not None:
            return self.match.detection.confidence
        return self.match.label.box.area if self.match.label is not None else 0.0


def match_boxes(image: ImageResult, confidence: float) -> list[Match]:
    """Match the labels of an image with its detections above `confidence`, regardless of class.

    The most confident detection goes first; each takes the free label that it overlaps most.
    """
    free = list(image.labels)
    matches: list[Match] = []
    for detection in (one for one in image.detections if one.confidence > confidence):
        best = max(free, key=lambda label: iou(label.box.corners, detection.corners), default=None)
        if best is not None and iou(best.box.corners, detection.corners) > MATCH_IOU:
            free.remove(best)
            matches.append(Match(best, detection))
        else:
            matches.append(Match(None, detection))
    return matches + [Match(label, None) for label in free]


def confusion_matrix(images: Iterable[ImageResult], confidence: float) -> Array:
    """Count the matches of all images.

    Returns:
        (classes + 1, classes + 1) int64. Rows are classes as labeled, then "no face"; columns are classes as
        detected, then "missed". The last cell is always 0.
    """
    import numpy as np

    counts = np.zeros((len(CLASSES) + 1, len(CLASSES) + 1), dtype=np.int64)
    for image in images:
        for match in match_boxes(image, confidence):
            counts[_index(match.label), _index(match.detection)] += 1
    return counts


def _index(box: Annotation | Detection | None) -> int:
    return len(CLASSES) if box is None else CLASSES.index(box.name)


def detection_errors(images: Iterable[ImageResult], confidence: float) -> list[DetectionError]:
    """Return every error of all images, kind by kind, the worst of each kind first."""
    errors = [
        DetectionError(match.error, image, match)
        for image in images
        for match in match_boxes(image, confidence)
        if match.error is not None
    ]
    return sorted(errors, key=lambda one: (ERROR_KINDS.index(one.kind), -one.severity, one.result.image))


def worst_errors(
    errors: Sequence[DetectionError], kind: ErrorKind, *, at_most: int, per_image: int = 2
) -> list[DetectionError]:
    """Return the worst errors of one kind, at most `per_image` from any one image."""
    chosen: list[DetectionError] = []
    for error in errors:
        of_image = sum(one.result.image == error.result.image for one in chosen)
        if error.kind == kind and of_image < per_image and len(chosen) < at_most:
            chosen.append(error)
    return chosen
