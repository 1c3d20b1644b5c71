"""The perturbations of the audit: what each changes on a face, and whether the detected class must change.

They share no code with the augmentations of the ensembles and do not imitate their drawings. So a model that passes
the audit has learned more than how one set of drawings looks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from facemask_train.core.recipe import FaceKind
from facemask_train.core.types import CLASSES, Box
from facemask_train.eval.perturbations import headwear, lowerface, maskwear
from facemask_train.eval.perturbations.canvas import Canvas, composite, face_canvas

if TYPE_CHECKING:
    from facemask_train.core.types import Array

BARE = "no_mask"
"""The class of bare faces, which the headline is about."""


@dataclass(frozen=True, slots=True)
class Perturbation:
    """A way to change the image of a face.

    Attributes:
        classes: the classes of the faces that it applies to.
        draw: draws it on a canvas over a face, given a random generator and the face's class; None for a distance.
        factor: for a distance, the face's size relative to the image's, as a multiple of what it was.
        must_change: whether the detected class must change; otherwise it must stay the same.
        doubt: who would disagree with the label afterwards, or why a face may be lost. With a doubt it is reported,
            and does not count in the headline.
        training: the face-aware edits of ensembles that are its counterpart (`augment.faces`).
        lit: whether the paint is lit like the face; recolorings are already.
        seed: what the random generator is seeded with in place of the name: an earlier name, whose images stay.
    """

    name: str
    classes: tuple[str, ...]
    draw: Callable[[Canvas, Random, str], None] | None = None
    factor: float = 1.0
    must_change: bool = False
    doubt: str = ""
    training: tuple[FaceKind, ...] = ()
    lit: bool = True
    seed: str = ""

    @property
    def counts(self) -> bool:
        """Whether it counts in the headline: the class must stay, beyond doubt."""
        return not self.must_change and not self.doubt


_BARE, _MASKED = (BARE,), ("mask",)
_READ_AS_MASK = "some people take it for a mask"
_TOO_SMALL = "a detector may lose a face that becomes too small for it"

PERTURBATIONS: tuple[Perturbation, ...] = (
    Perturbation("closer, 2x", CLASSES, factor=2),
    Perturbation("closer, 4x", CLASSES, factor=4),
    Perturbation("lower half tinted", _BARE, lowerface.tint_skin, training=("recolor",), lit=False),
    Perturbation("lower half relit", _BARE, lowerface.relight, training=("relight",), lit=False),
    Perturbation("beard", _BARE, lowerface.beard, training=("beard",)),
    Perturbation("hand", _BARE, lowerface.hand, training=("hand",)),
    Perturbation("cup", _BARE, lowerface.cup, training=("cup",)),
    Perturbation(
        "mask in skin color", _MASKED, maskwear.mask_to_skin, training=("tint",), lit=False, seed="mask in skin colour"
    ),
    Perturbation("mask in black", _MASKED, maskwear.mask_to_black, lit=False),
    Perturbation("mask with a pattern", _MASKED, maskwear.mask_to_pattern, lit=False),
    Perturbation("cap", CLASSES, headwear.cap, training=("cap",)),
    Perturbation("hard shadow", CLASSES, headwear.shadow, training=("shadow",), lit=False),
    Perturbation("sunglasses", CLASSES, headwear.sunglasses),
    Perturbation("hood", CLASSES, headwear.hood),
    Perturbation("cowl", CLASSES, headwear.cowl),
    Perturbation("farther, 0.5x", CLASSES, factor=0.5, doubt=_TOO_SMALL),
    Perturbation("scarf", _BARE, lowerface.scarf, doubt=_READ_AS_MASK),
    Perturbation(
        "lower half recolored",
        _BARE,
        lowerface.recolor,
        doubt=_READ_AS_MASK,
        training=("recolor",),
        lit=False,
        seed="lower half recoloured",
    ),
    Perturbation("mask put on", _BARE, maskwear.put_mask_on, must_change=True),
)
"""Every perturbation, in the order in which they are reported."""

BY_NAME = {one.name: one for one in PERTURBATIONS}


def perturbations_for(name: str) -> tuple[Perturbation, ...]:
    """Return the perturbations that apply to faces of a class."""
    return tuple(one for one in PERTURBATIONS if name in one.classes)


def seen_in_training(edits: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the perturbations that have a counterpart among these face-aware edits."""
    drawn = set(edits)
    return tuple(one.name for one in PERTURBATIONS if drawn.intersection(one.training))


def perturb(image: Array, box: Box, name: str, perturbation: Perturbation, seed: str) -> Array:
    """Return a copy of an image (h, w, 3; uint8 RGB) with one face perturbed; the same seed gives the same pixels.

    A distance leaves the pixels as they are (see `distance.at_distance`).

    Args:
        box: of the face, in pixels.
        name: the class of the face.
    """
    if perturbation.draw is None:
        return image
    canvas = face_canvas(image, box)
    perturbation.draw(canvas, Random(f"{seed} {perturbation.seed or perturbation.name}"), name)
    return composite(canvas, image, box, lit=perturbation.lit)
