"""The perturbations of the audit: what each changes on a face, and whether the detected class must change.

They share no code with the augmentations of the ensembles and do not imitate their drawings. So a model that passes
the audit has learned more than how one set of drawings looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from facemask_train.core.types import CLASSES, Box
from facemask_train.eval.perturbations import headwear, lowerface, maskwear
from facemask_train.eval.perturbations.canvas import Canvas, composite, face_canvas

if TYPE_CHECKING:
    from facemask_train.core.types import Array


@dataclass(frozen=True, slots=True)
class Perturbation:
    """A way to change the image of a face.

    Attributes:
        classes: the classes of the faces that it applies to.
        draw: draws it on a canvas over a face, given a random generator and the face's class.
        must_change: whether the detected class must change; otherwise it must stay the same.
        seen: whether the augmentations of v8 have a counterpart; the others are in no training data made by fmask.
        lit: whether the paint is lit like the face; recolorings are already.
        seed: what the random generator is seeded with in place of the name: an earlier name, whose images stay.
    """

    name: str
    classes: tuple[str, ...]
    draw: Callable[[Canvas, Random, str], None]
    must_change: bool = False
    seen: bool = True
    lit: bool = True
    seed: str = ""


_BARE, _MASKED = ("no_mask",), ("mask",)

PERTURBATIONS: tuple[Perturbation, ...] = (
    Perturbation("lower half recolored", _BARE, lowerface.recolor, lit=False, seed="lower half recoloured"),
    Perturbation("lower half relit", _BARE, lowerface.relight, lit=False),
    Perturbation("beard", _BARE, lowerface.beard),
    Perturbation("hand", _BARE, lowerface.hand),
    Perturbation("cup", _BARE, lowerface.cup),
    Perturbation("mask in skin color", _MASKED, maskwear.mask_to_skin, lit=False, seed="mask in skin colour"),
    Perturbation("mask in black", _MASKED, maskwear.mask_to_black, lit=False),
    Perturbation("mask with a pattern", _MASKED, maskwear.mask_to_pattern, lit=False),
    Perturbation("cap", CLASSES, headwear.cap),
    Perturbation("hard shadow", CLASSES, headwear.shadow, lit=False),
    Perturbation("scarf", _BARE, lowerface.scarf, seen=False),
    Perturbation("sunglasses", CLASSES, headwear.sunglasses, seen=False),
    Perturbation("hood", CLASSES, headwear.hood, seen=False),
    Perturbation("cowl", CLASSES, headwear.cowl, seen=False),
    Perturbation("mask put on", _BARE, maskwear.put_mask_on, must_change=True),
)
"""Every perturbation, in the order in which they are reported."""

BY_NAME = {one.name: one for one in PERTURBATIONS}


def perturbations_for(name: str) -> tuple[Perturbation, ...]:
    """Return the perturbations that apply to faces of a class."""
    return tuple(one for one in PERTURBATIONS if name in one.classes)


def perturb(image: Array, box: Box, name: str, perturbation: Perturbation, seed: str) -> Array:
    """Return a copy of an image (h, w, 3; uint8 RGB) with one face perturbed; the same seed gives the same pixels.

    Args:
        box: of the face, in pixels.
        name: the class of the face.
    """
    canvas = face_canvas(image, box)
    perturbation.draw(canvas, Random(f"{seed} {perturbation.seed or perturbation.name}"), name)
    return composite(canvas, image, box, lit=perturbation.lit)
