"""Which detection answers which label at one threshold: the errors, and the confusion matrix. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from facemask_train.core.boxes import iou
from facemask_train.core.types import CLASSES, Annotation, Detection, ImageResult

if TYPE_CHECKING:
    import numpy as np

MATCH_IOU = 0.5
"""A detection answers a label from this overlap on, as in mAP 0.5."""

Kind = Literal["missed", "wrong class", "false box"]
KINDS: tuple[Kind, ...] = ("missed", "wrong class", "false box")


@dataclass(frozen=True, slots=True)
class Pair:
    """A label and the detection that answers it; one of them is None where nothing does."""

    label: Annotation | None
    detection: Detection | None


@dataclass(frozen=True, slots=True)
class Miss:
    """One error: where it is, and what makes it worse than another of its kind."""

    kind: Kind
    result: ImageResult
    pair: Pair

    @property
    def weight(self) -> float:
        """Missed faces weigh by their area in pixels, the others by their confidence."""
        if self.pair.detection is not None:
            return self.pair.detection.confidence
        return self.pair.label.box.area if self.pair.label is not None else 0.0


def pairs(image: ImageResult, confidence: float) -> list[Pair]:
    """Match an image's labels with its detections above `confidence`, whatever their classes.

    The most confident detection chooses first; each takes the label that it overlaps most, of those not yet taken.
    """
    free = list(image.labels)
    found: list[Pair] = []
    for detection in (one for one in image.detections if one.confidence > confidence):
        best = max(free, key=lambda label: iou(label.box.corners, detection.corners), default=None)
        if best is not None and iou(best.box.corners, detection.corners) > MATCH_IOU:
            free.remove(best)
            found.append(Pair(best, detection))
        else:
            found.append(Pair(None, detection))
    return found + [Pair(label, None) for label in free]


def confusion(images: Iterable[ImageResult], confidence: float) -> np.ndarray:
    """Count the pairs of all images.

    Returns:
        (3, 3) counts: a row for each class as labelled and one for "nothing labelled", a column for each class as
        detected and one for "nothing detected". The last cell is always 0: nobody counts what is not there.
    """
    import numpy as np

    counts = np.zeros((len(CLASSES) + 1, len(CLASSES) + 1), dtype=np.int64)
    for image in images:
        for pair in pairs(image, confidence):
            counts[_index(pair.label), _index(pair.detection)] += 1
    return counts


def _index(face: Annotation | Detection | None) -> int:
    return len(CLASSES) if face is None else CLASSES.index(face.name)


def misses(images: Iterable[ImageResult], confidence: float) -> list[Miss]:
    """Return every error of all images, kind by kind, the worst of each kind first."""
    found = [
        Miss(kind, image, pair)
        for image in images
        for pair in pairs(image, confidence)
        if (kind := _kind(pair)) is not None
    ]
    return sorted(found, key=lambda miss: (KINDS.index(miss.kind), -miss.weight, miss.result.image))


def _kind(pair: Pair) -> Kind | None:
    if pair.detection is None:
        return "missed"
    if pair.label is None:
        return "false box"
    return None if pair.label.name == pair.detection.name else "wrong class"


def most_telling(found: Sequence[Miss], kind: Kind, *, at_most: int, per_image: int = 2) -> list[Miss]:
    """Return the worst of one kind, with no more than `per_image` of one image."""
    chosen: list[Miss] = []
    for miss in found:
        of_image = sum(one.result.image == miss.result.image for one in chosen)
        if miss.kind == kind and of_image < per_image and len(chosen) < at_most:
            chosen.append(miss)
    return chosen
