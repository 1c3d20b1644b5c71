"""Compare the backends of one model on the same images: accuracy, box positions and time."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.apps.records.export import Latency, Parity
from facemask_train.core.types import CLASSES, Annotation, Detection, ImageResult, Progress, no_progress
from facemask_train.eval.measures.average_precision import average_precision, match_detections, rank_detections
from facemask_train.eval.measures.boxes_table import boxes_table, overlaps
from facemask_train.model.validation import CONFIDENCE, Predictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_COMPARED = 20
"""How many boxes of an image are compared: the most confident, whatever their confidence."""

_SAME_BOX = 4.0  # pixels at the network's input size: a box further away is another one
_WARM_UP = 3  # runs that are not timed


@dataclass(frozen=True, slots=True)
class BackendResult:
    """What one backend found: the images with all detections, and the time for each in seconds."""

    images: tuple[ImageResult, ...]
    seconds: tuple[float, ...]


def run_backends(
    backends: Mapping[str, Predictor],
    folder: Path,
    labels: Mapping[str, Sequence[Annotation]],
    *,
    progress: Progress = no_progress,
) -> dict[str, BackendResult]:
    """Run several backends on the same images, one image at a time, in turn, so that all share the machine's load.

    Args:
        folder: that the names of the images are relative to.
        labels: the faces in each image.
    """
    found: dict[str, list[ImageResult]] = {name: [] for name in backends}
    seconds: dict[str, list[float]] = {name: [] for name in backends}
    for done, (image, faces) in enumerate(sorted(labels.items())):
        progress("comparing", done, len(labels))
        pixels = read_image(folder / image)
        height, width = pixels.shape[:2]
        for name, backend in backends.items():
            for _ in range(_WARM_UP if not done else 0):
                _timed(backend, pixels)
            took, detections = _timed(backend, pixels)
            seconds[name].append(took)
            found[name].append(ImageResult(image, width, height, tuple(faces), detections))
    return {name: BackendResult(tuple(found[name]), tuple(seconds[name])) for name in backends}


def _timed(backend: Predictor, image: NDArray[np.uint8]) -> tuple[float, tuple[Detection, ...]]:
    began = time.perf_counter()
    (detections,) = backend.predict([image], confidence=CONFIDENCE)
    return time.perf_counter() - began, detections


def read_image(path: Path) -> NDArray[np.uint8]:
    """Return an image of an ensemble as an (h, w, 3) uint8 RGB array."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def map50_95(images: Sequence[ImageResult]) -> float:
    """Return COCO's mAP 0.5:0.95 over the classes with labels, 0 to 1, as an evaluation does."""
    table = boxes_table(images)
    matches = match_detections(table, overlaps(table))
    curves = [average_precision(rank_detections(table, matches, index)) for index in range(len(CLASSES))]
    means = [float(one.mean()) for one in curves if one is not None]
    return sum(means) / max(1, len(means))


def compare(reference: Sequence[ImageResult], other: Sequence[ImageResult], *, imgsz: int) -> Parity:
    """Compare a backend's detections with PyTorch's on the same images.

    Args:
        imgsz: the input size in pixels.
    """
    boxes, lost, box_error, box_error_image, confidence_error = 0, 0, 0.0, 0.0, 0.0
    for expected, found in zip(reference, other, strict=True):
        scale = imgsz / max(expected.width, expected.height)
        for face in expected.detections[:MAX_COMPARED]:
            boxes += 1
            partner = _nearest(face, found.detections)
            distance = None if partner is None else _distance(partner, face)
            if partner is None or distance is None or distance * scale > _SAME_BOX:
                lost += 1
                continue
            box_error, box_error_image = max(box_error, distance * scale), max(box_error_image, distance)
            confidence_error = max(confidence_error, abs(face.confidence - partner.confidence))
    difference = map50_95(other) - map50_95(reference)
    return Parity(difference, boxes, box_error, box_error_image, confidence_error, lost)


def _nearest(face: Detection, others: Sequence[Detection]) -> Detection | None:
    """Return the nearest box of the same class."""
    same = (one for one in others if one.name == face.name)
    return min(same, key=lambda one: _distance(one, face), default=None)


def _distance(one: Detection, other: Detection) -> float:
    """Return the largest distance between the sides of two boxes, in pixels."""
    return max(abs(a - b) for a, b in zip(one.corners, other.corners, strict=True))


def latency(seconds: Sequence[float]) -> Latency:
    """Return the median, the 10th and the 90th percentile, in milliseconds."""
    import numpy as np

    median, p10, p90 = (1000 * np.percentile(seconds, (50, 10, 90))).tolist()
    return Latency(median, p10, p90)
