"""The Batman test: does the detected class change where it must not, and does it change where it must?

Every labeled face that is large enough, and that the model detects with the right class on an untouched copy, is
perturbed (`perturb.py`), one perturbation at a time, and detected again. The untouched copy is re-encoded in the same
way, so only the perturbation can cause a change. The outcome is `same`, `flipped` (another class) or `lost` (no
detection on the face).

Each perturbation has a control (`controls.py`): the same image touched as much where it cannot matter. `rates.py`
turns the outcomes of both into rates.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from facemask_train.core.boxes import iou
from facemask_train.core.drawing import open_upright
from facemask_train.core.files import digest_data
from facemask_train.core.types import CLASSES, Annotation, Box, Detection, Progress, no_progress
from facemask_train.eval.measures.matching import MATCH_IOU
from facemask_train.eval.perturbations.controls import (
    BESIDE,
    QUALITY,
    REENCODED,
    SHIFTED,
    patch_beside,
    reencode,
    shift_by_pixel,
)
from facemask_train.eval.perturbations.distance import at_distance
from facemask_train.eval.perturbations.perturb import BY_NAME, Perturbation, perturb, perturbations_for
from facemask_train.model.detector import Detector

if TYPE_CHECKING:
    from facemask_train.core.types import Array

MIN_FACE_SIDE = 32.0
"""Smaller faces are not perturbed: both sides of the box, in pixels of the image."""

MAX_FACES = 100
"""The default for how many faces of a class are perturbed, chosen by the digest of the image's name."""

Result = Literal["same", "flipped", "lost"]
RESULTS: tuple[Result, ...] = ("same", "flipped", "lost")

_DRAWN_AHEAD = 16  # images that are drawn while the model works on earlier ones


@dataclass(frozen=True, slots=True)
class Face:
    """A labeled face of a split: its image (relative to the ensemble), its number there, and its label.

    `group` is the image's scene group; empty if it is not known, and the image then stands for itself.
    """

    image: str
    number: int
    label: Annotation
    group: str = ""

    @property
    def cluster(self) -> str:
        """What is resampled as a whole."""
        return self.group or self.image


@dataclass(frozen=True, slots=True)
class Trial:
    """One copy of a face's image: the name of the perturbation, and of the control; one of them may be empty."""

    face: Face
    perturbation: str
    control: str = ""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the model detected in a trial: `detected` is a class, or empty with confidence 0 if the face was lost."""

    face: Face
    perturbation: str
    result: Result
    confidence: float
    control: str = ""
    detected: str = ""


@dataclass(frozen=True, eq=False, slots=True)
class PerturbationTest:
    """All outcomes, the faces that were large enough, and those of them that were right when untouched.

    `labeled` is the number of labeled faces of each class, of any size.
    """

    labeled: Mapping[str, int]
    large: tuple[Face, ...]
    right: tuple[Face, ...]
    outcomes: tuple[Outcome, ...]


def large_faces(
    images: Mapping[str, Sequence[Annotation]],
    *,
    min_side: float = MIN_FACE_SIDE,
    max_faces: int,
    groups: Mapping[str, str] | None = None,
) -> list[Face]:
    """Return the faces that are large enough, at most `max_faces` of a class, in the order of the images' digests.

    Args:
        groups: the scene group of each image, where it is known.
    """
    known = groups or {}
    large = [
        Face(image, number, label, known.get(image, ""))
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
    groups: Mapping[str, str] | None = None,
    min_side: float = MIN_FACE_SIDE,
    max_faces: int = MAX_FACES,
    progress: Progress = no_progress,
) -> PerturbationTest:
    """Perturb the faces of some images, one at a time, and run the detector on each copy and each control.

    Args:
        folder: the images' names are relative to it.
        labels: the labels of each image.
        threshold: detections count above this confidence.
        groups: the scene group of each image, where it is known.
    """
    large = large_faces(labels, min_side=min_side, max_faces=max_faces, groups=groups)
    images = sorted({face.image for face in large})
    untouched = (reencode(load_image(folder / image)) for image in images)
    detections = dict(zip(images, detector.predict(untouched, confidence=threshold), strict=True))
    right = [face for face in large if result_of(face.label, detections[face.image]) == "same"]
    trials = [trial for face in sorted(right, key=lambda one: one.image) for trial in trials_of(face)]
    outcomes = tuple(_outcomes(detector, folder, trials, threshold, progress))
    every = [label.name for own in labels.values() for label in own]
    labeled = {name: every.count(name) for name in CLASSES}
    return PerturbationTest(labeled, tuple(large), tuple(right), outcomes)


def trials_of(face: Face) -> list[Trial]:
    """Return the trials of a face: its perturbations, their controls, and the controls that are the same for all."""
    kinds = perturbations_for(face.label.name)
    beside = [Trial(face, one.name, BESIDE) for one in kinds if one.draw is not None and not one.must_change]
    return [
        *(Trial(face, one.name) for one in kinds),
        *beside,
        Trial(face, "", REENCODED),
        Trial(face, "", SHIFTED),
    ]


def _outcomes(
    detector: Detector, folder: Path, trials: Sequence[Trial], threshold: float, progress: Progress
) -> Iterator[Outcome]:
    drawn: deque[tuple[Trial, Box]] = deque()
    predicted = detector.predict(_drawn_images(folder, trials, drawn, progress), confidence=threshold)
    for found in predicted:
        trial, box = drawn.popleft()
        label = Annotation(trial.face.label.name, box)
        best = best_detection(box, found)
        name, confidence = (best.name, best.confidence) if best else ("", 0.0)
        yield Outcome(trial.face, trial.perturbation, result_of(label, found), confidence, trial.control, name)


def _drawn_images(
    folder: Path, trials: Sequence[Trial], drawn: deque[tuple[Trial, Box]], progress: Progress
) -> Iterator[Array]:
    """Yield the images of the trials that have one, in order, and append these trials and their boxes to `drawn`.

    The next images are drawn while the model works.
    """
    waiting: deque[Future[tuple[Array, Box] | None]] = deque()
    with ThreadPoolExecutor(2) as pool:
        for index, trial in enumerate(trials):
            while index + len(waiting) < len(trials) and len(waiting) <= _DRAWN_AHEAD:
                waiting.append(pool.submit(trial_image, folder, trials[index + len(waiting)]))
            made = waiting.popleft().result()
            progress("detecting perturbed faces", index + 1, len(trials))
            if made is not None:
                drawn.append((trial, made[1]))
                yield made[0]


def trial_image(folder: Path, trial: Trial) -> tuple[Array, Box] | None:
    """Return the whole image of a trial, re-encoded, and the face's box in it; the same on every call.

    Returns:
        None if there is no such image: no room beside the face, or the face is too large to come closer.
    """
    image, box = load_image(folder / trial.face.image), trial.face.label.box
    if trial.perturbation:
        made = _perturbed(image, trial, BY_NAME[trial.perturbation])
    elif trial.control == SHIFTED:
        made = shift_by_pixel(image, box)
    else:
        made = reencode(image, QUALITY), box
    return None if made is None else (reencode(made[0]), made[1])


def _perturbed(image: Array, trial: Trial, perturbation: Perturbation) -> tuple[Array, Box] | None:
    label, seed = trial.face.label, f"{trial.face.image} {trial.face.number}"
    if perturbation.draw is None:
        return at_distance(image, label.box, perturbation.factor)
    made = perturb(image, label.box, label.name, perturbation, seed)
    if not trial.control:
        return made, label.box
    beside = patch_beside(image, made, label.box)
    return None if beside is None else (beside, label.box)


@lru_cache(maxsize=8)
def load_image(path: Path) -> Array:
    """Return an image as displayed: (h, w, 3) uint8 RGB, read-only."""
    import numpy as np

    return np.asarray(open_upright(path))


def result_of(label: Annotation, detections: Iterable[Detection]) -> Result:
    """Return what happened to a face; the most confident detection on it decides."""
    best = best_detection(label.box, detections)
    if best is None:
        return "lost"
    return "same" if best.name == label.name else "flipped"


def best_detection(box: Box, detections: Iterable[Detection]) -> Detection | None:
    """Return the most confident detection with an IoU of 0.5 or more with a box."""
    overlapping = [one for one in detections if iou(one.corners, box.corners) >= MATCH_IOU]
    return max(overlapping, key=lambda one: one.confidence, default=None)
