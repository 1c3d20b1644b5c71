"""The same images put to several backends of one model: what they cost in accuracy, in pixels, and in time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.core.types import CLASSES, Annotation, Detection, ImageResult, Progress, no_progress
from facemask_train.eval.measures.average_precision import average_precision, match_detections, rank_detections
from facemask_train.eval.measures.boxes_table import boxes_table, overlaps
from facemask_train.model.validation import CONFIDENCE, Predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAP_TOLERANCE = 0.002
"""How far mAP 0.5:0.95 may be from PyTorch's, either way: 0.2 points."""

BOX_TOLERANCE = 0.1
"""How far a corner may be from PyTorch's, in pixels of the image that the network sees."""

LOST_TOLERANCE = 0.002
"""Which share of PyTorch's boxes may have no box of their class on them: suppression can tip over at a tie."""

SUREST = 20
"""How many boxes of an image are held against each other: the most confident, however sure that is."""

_SAME = 4.0  # pixels, as the network sees them: what is further away is another box
_WARM_UP = 3  # images that are asked before time is taken


@dataclass(frozen=True, slots=True)
class Answers:
    """What one backend said: its images with all detections, and how long each took, in seconds."""

    images: tuple[ImageResult, ...]
    seconds: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Parity:
    """How far a backend is from PyTorch.

    `boxes` were compared; `box_error` is the largest distance of a corner along an axis, in pixels of the image that
    the network sees, and `box_error_image` the same in pixels of the image itself; `lost` boxes have no partner.
    """

    map_difference: float
    boxes: int
    box_error: float
    box_error_image: float
    confidence_error: float
    lost: int

    @property
    def close(self) -> bool:
        """Say if it is near enough to be called the same model."""
        return (
            abs(self.map_difference) <= MAP_TOLERANCE
            and self.box_error <= BOX_TOLERANCE
            and self.lost <= LOST_TOLERANCE * self.boxes
        )


def ask(
    backends: Mapping[str, Predictor],
    folder: Path,
    labels: Mapping[str, Sequence[Annotation]],
    *,
    progress: Progress = no_progress,
) -> dict[str, Answers]:
    """Put images to several backends, one image at a time, in turn: whatever slows the machine slows all of them.

    Args:
        folder: what the names of the images are relative to.
        labels: the faces on each image.
    """
    found: dict[str, list[ImageResult]] = {name: [] for name in backends}
    seconds: dict[str, list[float]] = {name: [] for name in backends}
    for done, (image, own) in enumerate(sorted(labels.items())):
        progress("comparing", done, len(labels))
        array = read(folder / image)
        height, width = array.shape[:2]
        for name, backend in backends.items():
            for _ in range(_WARM_UP if not done else 0):
                _timed(backend, array)
            took, detections = _timed(backend, array)
            seconds[name].append(took)
            found[name].append(ImageResult(image, width, height, tuple(own), detections))
    return {name: Answers(tuple(found[name]), tuple(seconds[name])) for name in backends}


def _timed(backend: Predictor, image: NDArray[Any]) -> tuple[float, tuple[Detection, ...]]:
    began = time.perf_counter()
    (detections,) = backend.predict([image], confidence=CONFIDENCE)
    return time.perf_counter() - began, detections


def read(path: Path) -> NDArray[Any]:
    """Return an ensemble's image as an (h, w, 3) uint8 RGB array; an ensemble's images are plain."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def map50_95(images: Sequence[ImageResult]) -> float:
    """Return COCO's mAP 0.5:0.95 over the classes that have a label, 0 to 1, as an evaluation has it."""
    flat = boxes_table(images)
    answers = match_detections(flat, overlaps(flat))
    areas = [average_precision(rank_detections(flat, answers, index)) for index in range(len(CLASSES))]
    means = [float(one.mean()) for one in areas if one is not None]
    return sum(means) / max(1, len(means))


def compare(reference: Sequence[ImageResult], other: Sequence[ImageResult], *, imgsz: int) -> Parity:
    """Hold what a backend said against what PyTorch said of the same images."""
    boxes, lost, error, shown, unsure = 0, 0, 0.0, 0.0, 0.0
    for one, two in zip(reference, other, strict=True):
        scale = imgsz / max(one.width, one.height)
        for face in one.detections[:SUREST]:
            boxes += 1
            partner = _nearest(face, two.detections)
            if partner is None or _apart(partner, face) * scale > _SAME:
                lost += 1
                continue
            apart = _apart(partner, face)
            error, shown = max(error, apart * scale), max(shown, apart)
            unsure = max(unsure, abs(face.confidence - partner.confidence))
    difference = map50_95(other) - map50_95(reference)
    return Parity(difference, boxes, error, shown, unsure, lost)


def _nearest(face: Detection, others: Sequence[Detection]) -> Detection | None:
    """Return the box of the same class that is nearest to a face's."""
    same = (one for one in others if one.name == face.name)
    return min(same, key=lambda one: _apart(one, face), default=None)


def _apart(one: Detection, other: Detection) -> float:
    """Return how far two boxes are apart: the largest distance of a side, in pixels."""
    return max(abs(a - b) for a, b in zip(one.corners, other.corners, strict=True))


def spread(seconds: Sequence[float]) -> tuple[float, float, float]:
    """Return the median, the 10th and the 90th percentile, in milliseconds."""
    import numpy as np

    middle, low, high = (1000 * np.percentile(seconds, (50, 10, 90))).tolist()
    return middle, low, high
