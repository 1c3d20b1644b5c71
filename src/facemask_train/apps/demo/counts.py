"""Count the faces in one image. The share with a mask is uncorrected. Does not import torch or Gradio."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from facemask_train.core.types import Detection


@dataclass(frozen=True, slots=True)
class FaceCounts:
    """How many faces were found with a mask and without."""

    mask: int
    no_mask: int

    @property
    def faces(self) -> int:
        return self.mask + self.no_mask

    @property
    def rate(self) -> float | None:
        """The share with a mask, 0 to 1; None if no face was found."""
        return self.mask / self.faces if self.faces else None


def above_threshold(faces: Iterable[Detection], threshold: float) -> tuple[Detection, ...]:
    """Return the detections with at least this confidence."""
    return tuple(one for one in faces if one.confidence >= threshold)


def count_faces(faces: Sequence[Detection]) -> FaceCounts:
    count = Counter(one.name for one in faces)
    return FaceCounts(count["mask"], count["no_mask"])


def describe_counts(counts: FaceCounts, threshold: float) -> str:
    """Return the counts of an image as a sentence, with their limits."""
    if not counts.faces:
        return (
            f"No face was found above confidence {threshold:.2f}. There may still be some: the model misses "
            "faces, above all small ones."
        )
    faces = "1 face" if counts.faces == 1 else f"{counts.faces} faces"
    return (
        f"{faces} found: {counts.mask} with a mask, {counts.no_mask} without. The rate is not corrected for faces that "
        "the model missed or misclassified, and one image says little about a place."
    )
