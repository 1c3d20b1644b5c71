"""The Batman test: does the detected class change where it must not, and does it change where it must?

Every labeled face that is large enough, and that the model detects with the right class on an untouched copy, is
perturbed (`perturb.py`), one perturbation at a time, and detected again. The untouched copy is re-encoded in the same
way, so only the perturbation can cause a change. The outcome is `same`, `flipped` (the other class) or `lost` (no
detection on the face).

The shortcut rate is the share of flipped outcomes among perturbations that must not change the class, the response
rate among those that must. Lost outcomes count in the denominator: they are not flips, and are reported separately.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from facemask_train.core.boxes import iou
from facemask_train.core.drawing import open_upright
from facemask_train.core.files import digest_data
from facemask_train.core.types import CLASSES, Annotation, Box, Detection, Progress, no_progress
from facemask_train.eval.measures.bootstrap import Interval, bootstrap_weights, clustered_proportion
from facemask_train.eval.measures.matching import MATCH_IOU
from facemask_train.eval.perturbations.perturb import PERTURBATIONS, Perturbation, perturb, perturbations_for
from facemask_train.model.detector import Detector

if TYPE_CHECKING:
    from facemask_train.core.types import Array

MIN_FACE_SIDE = 32.0
"""Smaller faces are not perturbed: both sides of the box, in pixels of the image."""

MAX_FACES = 100
"""The default for how many faces of a class are perturbed, chosen by the digest of the image's name."""

MEASURABLE_FACES, MEASURABLE_IMAGES = 20, 10
"""With fewer faces, or faces on fewer images, a rate is not measurable."""

Result = Literal["same", "flipped", "lost"]
RESULTS: tuple[Result, ...] = ("same", "flipped", "lost")

_DRAWN_AHEAD = 16  # images that are drawn while the model works on earlier ones


@dataclass(frozen=True, slots=True)
class Face:
    """A labeled face of a split: its image (relative to the ensemble), its number there, and its label."""

    image: str
    number: int
    label: Annotation


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the model detected on a perturbed face; `confidence` is 0 if the face was lost."""

    face: Face
    perturbation: str
    result: Result
    confidence: float


@dataclass(frozen=True, slots=True)
class FlipRate:
    """The share of flipped outcomes among `n` perturbations of `faces` faces on `images` images.

    `rate` and `interval` are None if there are too few faces to measure it.
    """

    rate: float | None
    interval: Interval | None
    n: int
    faces: int
    images: int
    same: int
    flipped: int
    lost: int

    @property
    def measurable(self) -> bool:
        return self.rate is not None


@dataclass(frozen=True, eq=False, slots=True)
class PerturbationTest:
    """All outcomes, and how many faces of each class were labeled, large enough, and right when untouched."""

    labeled: Mapping[str, int]
    large: Mapping[str, int]
    right: Mapping[str, int]
    outcomes: tuple[Outcome, ...]


def large_faces(
    images: Mapping[str, Sequence[Annotation]], *, min_side: float = MIN_FACE_SIDE, max_faces: int
) -> list[Face]:
    """Return the faces that are large enough, at most `max_faces` of a class, in the order of the images' digests."""
    large = [
        Face(image, number, label)
        for image in sorted(images, key=digest_data)
        for number, label in enumerate(images[image])
        if min(label.box.width, label.box.height) >= min_side
    ]
    return [face for name in CLASSES for face in [one for one in large if one.label.name == name][:max_faces]]


def run_perturbations(
    detector: Detector,
    folder: Path,
    labels: Mapping[str, Sequence[Annotation]],
    *,
    threshold: float,
    min_side: float = MIN_FACE_SIDE,
    max_faces: int = MAX_FACES,
    progress: Progress = no_progress,
) -> PerturbationTest:
    """Perturb the faces of some images, one at a time, and run the detector on each.

    Args:
        folder: the images' names are relative to it.
        labels: the labels of each image.
        threshold: detections count above this confidence.
    """
    large = large_faces(labels, min_side=min_side, max_faces=max_faces)
    images = sorted({face.image for face in large})
    untouched = (reencode(load_image(folder / image)) for image in images)
    detections = dict(zip(images, detector.predict(untouched, confidence=threshold), strict=True))
    right = [face for face in large if result_of(face, detections[face.image]) == "same"]
    jobs = sorted(
        ((face, one) for face in right for one in perturbations_for(face.label.name)), key=lambda job: job[0].image
    )
    outcomes = []
    perturbed = detector.predict(_perturbed_images(folder, jobs), confidence=threshold)
    for (face, perturbation), found in zip(jobs, perturbed, strict=True):
        best = best_detection(face.label.box, found)
        confidence = best.confidence if best else 0.0
        outcomes.append(Outcome(face, perturbation.name, result_of(face, found), confidence))
        progress("detecting perturbed faces", len(outcomes), len(jobs))
    every = (Face(image, number, label) for image, own in labels.items() for number, label in enumerate(own))
    return PerturbationTest(_count(every), _count(large), _count(right), tuple(outcomes))


def _count(faces: Iterable[Face]) -> dict[str, int]:
    names = [face.label.name for face in faces]
    return {name: names.count(name) for name in CLASSES}


def _perturbed_images(folder: Path, jobs: Sequence[tuple[Face, Perturbation]]) -> Iterator[Array]:
    """Yield the images in order; the next ones are drawn while the model works."""
    with ThreadPoolExecutor(2) as pool:
        waiting = [pool.submit(perturbed_image, folder, *job) for job in jobs[:_DRAWN_AHEAD]]
        for index in range(len(jobs)):
            if index + _DRAWN_AHEAD < len(jobs):
                waiting.append(pool.submit(perturbed_image, folder, *jobs[index + _DRAWN_AHEAD]))
            yield waiting.pop(0).result()


def perturbed_image(folder: Path, face: Face, perturbation: Perturbation) -> Array:
    """Return the whole image of a face, perturbed and re-encoded; the same on every call."""
    image, seed = load_image(folder / face.image), f"{face.image} {face.number}"
    return reencode(perturb(image, face.label.box, face.label.name, perturbation, seed))


@lru_cache(maxsize=8)
def load_image(path: Path) -> Array:
    """Return an image as displayed: (h, w, 3) uint8 RGB, read-only."""
    import numpy as np

    return np.asarray(open_upright(path))


def reencode(image: Array) -> Array:
    """Return an image after JPEG compression, which both untouched and perturbed copies go through."""
    import numpy as np
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=92, subsampling=0)
    return np.asarray(Image.open(stream).convert("RGB"))


def result_of(face: Face, detections: Sequence[Detection]) -> Result:
    """Return what happened to a face; the most confident detection on it decides."""
    best = best_detection(face.label.box, detections)
    if best is None:
        return "lost"
    return "same" if best.name == face.label.name else "flipped"


def best_detection(box: Box, detections: Sequence[Detection]) -> Detection | None:
    """Return the most confident detection with an IoU of 0.5 or more with a box."""
    overlapping = [one for one in detections if iou(one.corners, box.corners) >= MATCH_IOU]
    return max(overlapping, key=lambda one: one.confidence, default=None)


# ---- from outcomes to rates ----


def flip_rate(outcomes: Sequence[Outcome]) -> FlipRate:
    """Return the share of flipped outcomes with its interval, clustered by image."""
    import numpy as np

    images = sorted({one.face.image for one in outcomes})
    position = {image: index for index, image in enumerate(images)}
    flipped, trials = np.zeros(len(images)), np.zeros(len(images))
    for one in outcomes:
        trials[position[one.face.image]] += 1
        flipped[position[one.face.image]] += one.result == "flipped"
    faces = len({(one.face.image, one.face.number) for one in outcomes})
    counts = [sum(one.result == result for one in outcomes) for result in RESULTS]
    if faces < MEASURABLE_FACES or len(images) < MEASURABLE_IMAGES:
        return FlipRate(None, None, len(outcomes), faces, len(images), *counts)
    estimate = clustered_proportion(flipped, trials, bootstrap_weights(len(images)))
    return FlipRate(estimate.value, estimate.interval, len(outcomes), faces, len(images), *counts)


def shortcut_rate(outcomes: Sequence[Outcome], *, seen: bool, name: str = "") -> FlipRate:
    """Return the rate over the perturbations that must not change the class.

    Args:
        seen: those that training may have seen, or else the others.
        name: only faces of this class; of every class if empty.
    """
    names = {one.name for one in PERTURBATIONS if one.seen == seen and not one.must_change}
    return flip_rate([one for one in outcomes if one.perturbation in names and name in ("", one.face.label.name)])


def response_rate(outcomes: Sequence[Outcome]) -> FlipRate:
    """Return the rate over the perturbations that must change the class."""
    names = {one.name for one in PERTURBATIONS if one.must_change}
    return flip_rate([one for one in outcomes if one.perturbation in names])


def rates_by_perturbation(outcomes: Sequence[Outcome]) -> list[tuple[Perturbation, str, FlipRate]]:
    """Return the rate of each perturbation on each class that it applies to."""
    return [
        (perturbation, name, flip_rate([one for one in outcomes if _is_of(one, perturbation, name)]))
        for perturbation in PERTURBATIONS
        for name in perturbation.classes
    ]


def _is_of(outcome: Outcome, perturbation: Perturbation, name: str) -> bool:
    return (outcome.perturbation, outcome.face.label.name) == (perturbation.name, name)
