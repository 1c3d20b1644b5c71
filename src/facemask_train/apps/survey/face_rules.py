"""Which faces are classified and which are unknown: one rule for the survey's images and for the reference set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from facemask_train.apps.survey.samples import MISSED, UNKNOWN, DetectedBoxes, ReferenceFaces
from facemask_train.core.boxes import iou
from facemask_train.core.types import CLASSES, Corners, Detection, ImageResult
from facemask_train.eval.measures.matching import match_boxes
from facemask_train.model.detector import SAME_FACE, one_per_face

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_FACE = 8.0
"""Pixels, at the detector's input size: the finest grid cell of a YOLO detector."""

UNKNOWN_FROM = 0.5
"""The share of the confidence threshold above which a box is an unknown face; below it, a box is ignored."""


@dataclass(frozen=True, slots=True)
class FaceRules:
    """When a face is classified.

    Attributes:
        confidence: the threshold; the detection's confidence has to be above it.
        imgsz: the detector's input size in pixels: the longer side of an image is resized to it.
        min_face: the smallest side of a face, in pixels at that size.
    """

    confidence: float
    imgsz: int
    min_face: float = MIN_FACE

    @property
    def min_confidence(self) -> float:
        """The confidence above which a box is a face, if an unknown one."""
        return UNKNOWN_FROM * self.confidence

    def side(self, corners: Corners, width: int, height: int) -> float:
        """Return a face's side (the square root of its area), in pixels at the detector's input size.

        Args:
            width, height: of the image, in pixels.
        """
        area = max(0.0, corners[2] - corners[0]) * max(0.0, corners[3] - corners[1])
        return float(area**0.5) * self.imgsz / max(width, height)


@dataclass(frozen=True, slots=True)
class ClassifiedFace:
    """One face: its most confident detection, its outcome (MASK, NO_MASK or UNKNOWN), and its side (see above)."""

    detection: Detection
    outcome: int
    side: float


def classify_faces(detections: Iterable[Detection], rules: FaceRules, width: int, height: int) -> list[ClassifiedFace]:
    """Return the faces of one image, the most confident first.

    A face is unknown if it is smaller than `min_face`, if its detection is not above the threshold, or if a detection
    of another class on the same face is above it too.
    """
    candidates = [
        one
        for one in detections
        if one.confidence > rules.min_confidence and rules.side(one.corners, width, height) > 0
    ]
    faces = []
    for one in one_per_face(candidates):
        side = rules.side(one.corners, width, height)
        clear = side >= rules.min_face and one.confidence > rules.confidence and not _contested(one, candidates, rules)
        faces.append(ClassifiedFace(one, CLASSES.index(one.name) if clear else UNKNOWN, side))
    return faces


def _contested(one: Detection, candidates: Sequence[Detection], rules: FaceRules) -> bool:
    return any(
        other.name != one.name and other.confidence > rules.confidence and iou(one.corners, other.corners) >= SAME_FACE
        for other in candidates
    )


def classify_reference(images: Sequence[ImageResult], rules: FaceRules) -> ReferenceFaces:
    """Return the outcome of each labeled face of a reference set, and the boxes without a face."""
    faces: list[tuple[int, int, int, float]] = []
    false_boxes: list[tuple[int, int, float]] = []
    for number, image in enumerate(images):
        found = {id(one.detection): one for one in classify_faces(image.detections, rules, image.width, image.height)}
        deduplicated = replace(image, detections=tuple(one.detection for one in found.values()))
        for pair in match_boxes(deduplicated, rules.min_confidence):
            face = found[id(pair.detection)] if pair.detection is not None else None
            if pair.label is not None:
                side = rules.side(pair.label.box.corners, image.width, image.height)
                faces.append((number, pair.label.class_id, face.outcome if face else MISSED, side))
            elif face is not None:
                false_boxes.append((number, face.outcome, face.side))
    cluster, label, outcome, sides = _columns(faces, 4)
    return ReferenceFaces(
        len(images), _integers(cluster), _integers(label), _integers(outcome), sides, detected_boxes(false_boxes)
    )


def detected_boxes(rows: Sequence[tuple[int, int, float]]) -> DetectedBoxes:
    """Return rows (cluster, outcome, side) as arrays."""
    cluster, outcome, side = _columns(rows, 3)
    return DetectedBoxes(_integers(cluster), _integers(outcome), side)


def _columns(rows: Sequence[Sequence[float]], count: int) -> NDArray[np.float64]:
    import numpy as np

    return np.array(rows, np.float64).reshape(-1, count).T


def _integers(column: NDArray[np.float64]) -> NDArray[np.int64]:
    import numpy as np

    return column.astype(np.int64)
