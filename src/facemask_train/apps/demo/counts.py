"""Faces counted in one image, the share of them that wears a mask, and that in words.

Knows no model and no page. The share is as counted: nothing corrects it for faces that were missed or misread.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from facemask_train.core.types import Detection


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
        "model missed or misread are not made good, and one image says little of a place."
    )
