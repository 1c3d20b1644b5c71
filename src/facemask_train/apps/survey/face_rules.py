"""Which faces are judged and which are unknown: one rule, for the material and for the detector's own test set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from facemask_train.apps.survey.prevalence import MISSED, UNKNOWN, Boxes, Measured
from facemask_train.core.boxes import iou
from facemask_train.core.types import CLASSES, Corners, Detection, ImageResult
from facemask_train.eval.measures.matching import pairs
from facemask_train.model.detector import SAME_FACE, one_per_face

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MIN_FACE = 8.0
"""Pixels of a face's side, as the detector sees it, from which it is judged: the finest grid of a YOLO detector."""

FAINT = 0.5
"""The part of the operating point from which a box is a face that cannot be judged; below it is nothing."""


@dataclass(frozen=True, slots=True)
class Rule:
    """When a face is judged.

    Attributes:
        confidence: the operating point; an answer has to be above it.
        imgsz: the size in pixels that the longer side of an image is brought to.
        min_face: of a face, in pixels of the image at that size.
    """

    confidence: float
    imgsz: int
    min_face: float = MIN_FACE

    @property
    def faint(self) -> float:
        return FAINT * self.confidence

    def side(self, corners: Corners, width: int, height: int) -> float:
        """Return a face's side (the root of its area) in pixels as the detector sees it."""
        area = max(0.0, corners[2] - corners[0]) * max(0.0, corners[3] - corners[1])
        return float(area**0.5) * self.imgsz / max(width, height)


@dataclass(frozen=True, slots=True)
class Judged:
    """One face: its surest detection, what is said of it (MASK, BARE or UNKNOWN), and its side as the detector sees."""

    detection: Detection
    answer: int
    side: float


def judge(found: Iterable[Detection], rule: Rule, width: int, height: int) -> list[Judged]:
    """Return the faces of one image, the surest first.

    A face is unknown if it is smaller than the rule's least side, if its surest answer is not above the operating
    point, or if an answer of the other class is above it too.
    """
    seen = [one for one in found if one.confidence > rule.faint and rule.side(one.corners, width, height) > 0]
    judged = []
    for one in one_per_face(seen):
        side = rule.side(one.corners, width, height)
        sure = side >= rule.min_face and one.confidence > rule.confidence and not _contested(one, seen, rule)
        judged.append(Judged(one, CLASSES.index(one.name) if sure else UNKNOWN, side))
    return judged


def _contested(one: Detection, seen: Sequence[Detection], rule: Rule) -> bool:
    return any(
        other.name != one.name and other.confidence > rule.confidence and iou(one.corners, other.corners) >= SAME_FACE
        for other in seen
    )


def measure(images: Sequence[ImageResult], rule: Rule) -> Measured:
    """Return what a test set says of a detector that is asked by this rule."""
    faces: list[tuple[int, int, int, float]] = []
    false: list[tuple[int, int, float]] = []
    for number, image in enumerate(images):
        judged = {id(one.detection): one for one in judge(image.detections, rule, image.width, image.height)}
        alone = replace(image, detections=tuple(one.detection for one in judged.values()))
        for pair in pairs(alone, rule.faint):
            answer = judged[id(pair.detection)] if pair.detection is not None else None
            if pair.label is not None:
                side = rule.side(pair.label.box.corners, image.width, image.height)
                faces.append((number, pair.label.class_id, answer.answer if answer else MISSED, side))
            elif answer is not None:
                false.append((number, answer.answer, answer.side))
    cluster, name, answers, sides = _columns(faces, 4)
    return Measured(len(images), _ids(cluster), _ids(name), _ids(answers), sides, boxes(false))


def boxes(rows: Sequence[tuple[int, int, float]]) -> Boxes:
    """Return rows (cluster, answer, side) as arrays."""
    cluster, answer, side = _columns(rows, 3)
    return Boxes(_ids(cluster), _ids(answer), side)


def _columns(rows: Sequence[Sequence[float]], many: int) -> NDArray[np.float64]:
    import numpy as np

    return np.array(rows, np.float64).reshape(-1, many).T


def _ids(column: NDArray[np.float64]) -> NDArray[np.int64]:
    import numpy as np

    return column.astype(np.int64)
