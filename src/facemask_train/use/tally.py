"""Faces counted in one picture: one answer for each face, the share that wears a mask, and that in words.

Knows no model and no page. The share is as counted: nothing corrects it for faces that were missed or misread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from facemask_train.detect import Detection
from facemask_train.geometry import iou

SAME_FACE = 0.5
"""The overlap from which two boxes are answers about one face; the evaluation matches at the same."""


@dataclass(frozen=True, slots=True)
class Tally:
    """How many faces were found with a mask and without."""

    mask: int
    no_mask: int

    @property
    def faces(self) -> int:
        return self.mask + self.no_mask

    @property
    def rate(self) -> float | None:
        """The share with a mask, 0 to 1; None where no face was found."""
        return self.mask / self.faces if self.faces else None


def one_each(detections: Iterable[Detection]) -> tuple[Detection, ...]:
    """Return one answer for each face: of boxes that lie on each other, whatever their classes, the surest.

    What is left above a threshold is the same, whether the threshold is applied before or after.
    """
    kept: list[Detection] = []
    for one in sorted(detections, key=lambda found: (-found.confidence, found.name, found.corners)):
        if all(iou(one.corners, other.corners) < SAME_FACE for other in kept):
            kept.append(one)
    return tuple(kept)


def above(faces: Iterable[Detection], threshold: float) -> tuple[Detection, ...]:
    """Return the answers of at least this confidence."""
    return tuple(one for one in faces if one.confidence >= threshold)


def count(faces: Sequence[Detection]) -> Tally:
    masked = sum(one.name == "mask" for one in faces)
    return Tally(masked, len(faces) - masked)


def in_words(tally: Tally, threshold: float) -> str:
    """Return what was counted, and what that does not say."""
    if not tally.faces:
        return (
            f"No face found above confidence {threshold:.2f}. That does not say that there is none: "
            "the model misses some, small ones most of all."
        )
    faces = "1 face" if tally.faces == 1 else f"{tally.faces} faces"
    return (
        f"{faces} found: {tally.mask} with a mask, {tally.no_mask} without. The rate is uncorrected: faces that the "
        "model missed or misread are not made good, and one picture says little of a place."
    )
