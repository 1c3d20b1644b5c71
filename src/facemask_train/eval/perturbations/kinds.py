"""What the audit changes on a face: each kind of edit, what it must not or must change, and how it is drawn.

Nothing here is shared with the training transforms of the ensembles: another hand drew those, and this file neither
imports nor imitates them. So a model that passes has learnt more than how one set of drawings looks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from facemask_train.core.types import CLASSES, Box
from facemask_train.eval.perturbations import headwear, lowerface, maskwear
from facemask_train.eval.perturbations.canvas import Sheet, blank, put_down

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ImageArray = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of edit: on which faces (their class), whether the answer must change, and whether training may know it.

    `seen` kinds have a counterpart among the training transforms of v8; the others are in no training data of fmask's
    making. `lit`: what is laid takes the face's light; recolourings have it already.
    """

    name: str
    faces: tuple[str, ...]
    draw: Callable[[Sheet, Random, str], None]
    must_change: bool = False
    seen: bool = True
    lit: bool = True


_BARE, _MASKED = ("no_mask",), ("mask",)

KINDS: tuple[Kind, ...] = (
    Kind("lower half recoloured", _BARE, lowerface.recolour, lit=False),
    Kind("lower half relit", _BARE, lowerface.relight, lit=False),
    Kind("beard", _BARE, lowerface.beard),
    Kind("hand", _BARE, lowerface.hand),
    Kind("cup", _BARE, lowerface.cup),
    Kind("mask in skin colour", _MASKED, maskwear.mask_to_skin, lit=False),
    Kind("mask in black", _MASKED, maskwear.mask_to_black, lit=False),
    Kind("mask with a pattern", _MASKED, maskwear.mask_to_pattern, lit=False),
    Kind("cap", CLASSES, headwear.cap),
    Kind("hard shadow", CLASSES, headwear.shadow, lit=False),
    Kind("scarf", _BARE, lowerface.scarf, seen=False),
    Kind("sunglasses", CLASSES, headwear.sunglasses, seen=False),
    Kind("hood", CLASSES, headwear.hood, seen=False),
    Kind("cowl", CLASSES, headwear.cowl, seen=False),
    Kind("mask put on", _BARE, maskwear.put_mask_on, must_change=True),
)
"""Every kind, in the order in which they are reported."""


def kinds_for(name: str) -> tuple[Kind, ...]:
    """Return the kinds of edit that a face of this class gets."""
    return tuple(kind for kind in KINDS if name in kind.faces)


def edit(image: ImageArray, box: Box, name: str, kind: Kind, seed: str) -> ImageArray:
    """Return a copy of an image (h, w, 3; uint8 RGB) with one face edited; the same seed gives the same pixels."""
    sheet = blank(image, box)
    kind.draw(sheet, Random(f"{seed} {kind.name}"), name)
    return put_down(sheet, image, box, lit=kind.lit)
