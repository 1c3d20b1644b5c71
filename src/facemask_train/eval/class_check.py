"""Compares a model's confident detections with the labels of an ensemble, source by source and class by class.

A source whose classes are exchanged trains a model that predicts the opposite, and nothing in its files shows it. A
model that was trained on other data does. Labels are only compared here, never changed.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.boxes import match
from facemask_train.core.drawing import open_upright
from facemask_train.core.types import CLASSES, Annotation, Box, Detection, Progress, no_progress
from facemask_train.dataset.contents import EnsembleContents, EnsembleImage
from facemask_train.model.detector import Detector, one_per_face

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

CONFIDENCE = 0.5
"""The confidence from which a detection counts."""
MOST_IMAGES = 200
"""Images with faces that are looked at in each source."""
MIN_FACES = 5
"""Compared faces of a source from which its classes can look exchanged."""


@dataclass(frozen=True, slots=True)
class ClassCheck:
    """How a model's detections agree with the labels of one source.

    Attributes:
        images: images that were looked at.
        faces: labeled faces with a confident detection, by their class.
        opposite: those of them that the model gives the other class.
    """

    source: str
    images: int
    faces: Mapping[str, int]
    opposite: Mapping[str, int]

    @property
    def exchanged(self) -> bool:
        """Whether there are enough faces to tell, and the model predicts the other class for more than half of them."""
        total = sum(self.faces.values())
        return total >= MIN_FACES and 2 * sum(self.opposite.values()) > total

    def describe(self) -> str:
        """Return the result as a sentence."""
        if not any(self.faces.values()):
            return f"{self.source}: the model finds none of the labeled faces with confidence, so nothing was compared"
        shares = ", ".join(f"{name} {self.opposite[name]} of {self.faces[name]}" for name in CLASSES)
        if self.exchanged:
            return f"{self.source}: classes look exchanged: the model says the opposite ({shares})"
        return f"{self.source}: the model says the opposite for {shares}"


def check_classes(
    contents: EnsembleContents, detector: Detector, *, progress: Progress = no_progress
) -> tuple[ClassCheck, ...]:
    """Compare the labels of an ensemble with a detector's detections; augmented copies are left out."""
    by_source: defaultdict[str, list[EnsembleImage]] = defaultdict(list)
    for image in contents.originals.values():
        if image.labels:
            by_source[image.source].append(image)
    return tuple(
        _check_source(contents.folder, source, _sample(images), detector, progress)
        for source, images in sorted(by_source.items())
    )


def _sample(images: Sequence[EnsembleImage]) -> list[EnsembleImage]:
    """Return at most `MOST_IMAGES` images, the same in every run, from all over the source."""
    return sorted(images, key=lambda image: image.sha256)[:MOST_IMAGES]


def _check_source(
    folder: Path, source: str, images: Sequence[EnsembleImage], detector: Detector, progress: Progress
) -> ClassCheck:
    faces: Counter[str] = Counter()
    opposite: Counter[str] = Counter()
    predicted = detector.predict(_pixels(folder, images), confidence=CONFIDENCE, batch=1)
    for done, (image, found) in enumerate(zip(images, predicted, strict=True), start=1):
        for labeled, predicted_class in _pairs(image.labels, found):
            faces[labeled] += 1
            opposite[labeled] += labeled != predicted_class
        progress(f"check the classes of {source}", done, len(images))
    return ClassCheck(
        source, len(images), {name: faces[name] for name in CLASSES}, {name: opposite[name] for name in CLASSES}
    )


def _pixels(folder: Path, images: Sequence[EnsembleImage]) -> Iterator[NDArray[np.uint8]]:
    import numpy as np

    return (np.asarray(open_upright(folder / image.image)) for image in images)


def _pairs(labels: Sequence[Annotation], found: Sequence[Detection]) -> Iterator[tuple[str, str]]:
    """Yield the labeled and the predicted class of each face that both have."""
    predicted = [
        Annotation(one.name, Box(*one.corners))
        for one in one_per_face(found)
        if one.corners[2] > one.corners[0] and one.corners[3] > one.corners[1]
    ]
    for index, other, _ in match(labels, predicted):
        yield labels[index].name, predicted[other].name
