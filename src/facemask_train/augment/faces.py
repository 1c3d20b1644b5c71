"""Edits of labeled faces that break "two tones, so a mask", and the rules that keep their labels true.

A bare face may get a lower half of another color or light, a beard, a hand or a cup; a masked face a mask in the tone
of its own skin; either a cap, or a shadow over the upper half. A face that an edit would make unjudgeable stays as it
was, and so does everybody else's face. Hoods, sunglasses and scarves are drawn by nothing here: the exam asks for them.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from facemask_train.augment import beard as beards
from facemask_train.augment import covers, tones
from facemask_train.augment.face_patch import Face, Margins, crop_face
from facemask_train.augment.relief import Drawn
from facemask_train.core.recipe import FaceKind, Faces
from facemask_train.core.types import Annotation, Box

if TYPE_CHECKING:
    from facemask_train.augment.face_patch import Field, ImageArray, Window

BARE_ONLY: tuple[FaceKind, ...] = ("recolor", "relight", "beard", "hand", "cup")
MASKED_ONLY: tuple[FaceKind, ...] = ("tint",)
EITHER: tuple[FaceKind, ...] = ("cap", "shadow")

TOO_SMALL, OVERLAPPED, CUT, UNJUDGEABLE, NOT_DRAWN = "too small", "overlapped", "cut off", "unjudgeable", "not drawn"
"""Why a face was left as it was."""

MAX_OVERLAP = 0.08
"""The share of a face's box that other boxes may cover: neighbors in a crowd touch, but an edit of a face that stands
behind another would be painted on what is in front."""

MAX_ON_OTHERS = 0.04
"""The share of a drawn thing that other boxes may cut off: more looks cut by a knife."""

CUT_RATIO = 1.6
"""A box at the image's edge with sides in a ratio over this is cut: whole faces are at most 1.5 times as high as wide
in the published boxes, and none is wider than high by as much."""

LEAST_CHANGE = 2.5
"""Levels, on average over the box: less cannot be seen, and would be counted as an edit."""

MEAN_LEVELS = (28.0, 232.0)
"""The mean level that an edited face may have: beyond, an image file keeps too little of its features."""

LEAST_KEPT = 0.4
"""The share of the light and dark of the features that has to remain where the label depends on them."""

LEAST_LIKENESS = 0.55
"""The least correlation of these features before and after: less means that others were drawn over them."""

MAX_COVERED = 0.6
"""The share of the box that a drawn thing may cover: eyes, nose and brow are about 45 % of it."""

MAX_OVER_EYES = 0.06
"""The share of the band of the eyes that a drawn thing may cover."""

MARGINS: Mapping[FaceKind, Margins] = {
    "recolor": (0.1, 0.0, 0.12),
    "relight": (0.1, 0.0, 0.12),
    "tint": (0.1, 0.0, 0.12),
    "shadow": (0.15, 0.3, 0.0),
    "beard": (0.12, 0.15, 0.3),
    "hand": (0.8, 0.0, 1.2),
    "cup": (0.8, 0.0, 1.2),
    "cap": (0.3, 0.6, 0.0),
}
"""How far each kind may paint beyond the box."""

TONES: Mapping[FaceKind, Callable[[Face, Random], ImageArray | None]] = {
    "recolor": tones.recolor,
    "relight": tones.relight,
    "tint": tones.tint,
    "shadow": tones.shadow,
}

COVERS: Mapping[FaceKind, Callable[[Face, Random], Drawn | None]] = {
    "beard": beards.beard,
    "hand": covers.hand,
    "cup": covers.cup,
    "cap": covers.cap,
}

FEATURES: Mapping[FaceKind, tuple[float, float]] = {
    "recolor": (0.0, 0.9),
    "relight": (0.0, 0.9),
    "tint": (-0.2, 0.95),
    "shadow": (-0.7, 0.3),
    "beard": (-0.6, 0.1),
    "hand": (-0.7, -0.15),
    "cup": (-0.7, -0.15),
    "cap": (-0.35, 0.8),
}
"""The band of the face, on the `v` axis, whose features have to survive each kind."""

EYES = (-0.48, -0.18)
"""The band of the eyes, on the `v` axis."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What became of one face: `label` is its place among the labels, `kind` what was drawn or tried.

    `reason` is empty where the edit was applied, or says why the face was left as it was.
    """

    label: int
    kind: FaceKind | None
    reason: str = ""

    @property
    def applied(self) -> bool:
        return not self.reason


@dataclass(frozen=True, slots=True)
class Change:
    """New pixels (height, width, 3; RGB) for a window of an image."""

    window: Window
    pixels: ImageArray


def kinds_for(name: str, weights: Mapping[FaceKind, float]) -> dict[FaceKind, float]:
    """Return the kinds that fit a class and may be drawn, with their weights."""
    fitting = (*(MASKED_ONLY if name == "mask" else BARE_ONLY), *EITHER)
    return {kind: weights[kind] for kind in fitting if weights.get(kind, 0) > 0}


def edit_faces(
    image: ImageArray, labels: Sequence[Annotation], settings: Faces, seed: int
) -> tuple[ImageArray, tuple[Edit, ...]]:
    """Return an image (height, width, 3; RGB) with a share of its faces edited, and what became of each of these.

    Each face draws from a generator of its own, so no face's edit depends on how the others went.
    """
    edits: list[Edit] = []
    edited = False
    for index, label in enumerate(labels):
        rng = Random(_seed(seed, index))
        kinds = kinds_for(label.name, settings.kinds)
        if not kinds or rng.random() >= settings.share:
            continue
        kind = rng.choices(tuple(kinds), weights=tuple(kinds.values()))[0]
        if min(label.box.width, label.box.height) < settings.min_side:
            edits.append(Edit(index, None, TOO_SMALL))
            continue
        change, reason = edit_face(image, labels, index, kind, rng)
        if change is not None:
            image = image if edited else image.copy()
            image[change.window] = change.pixels
            edited = True
        edits.append(Edit(index, kind, reason))
    return image, tuple(edits)


def _seed(seed: int, index: int) -> int:
    return int.from_bytes(hashlib.sha256(f"{seed}:face:{index}".encode()).digest()[:8], "big")


def edit_face(
    image: ImageArray, labels: Sequence[Annotation], index: int, kind: FaceKind, rng: Random
) -> tuple[Change | None, str]:
    """Return the edit of one face and no reason, or None and the reason why the face stays as it was.

    Nothing within another label's box is changed, nor anything farther from the face's box than `MARGINS`.
    """
    others = [label.box for place, label in enumerate(labels) if place != index]
    label = labels[index]
    refused = unfit(label.box, others, image.shape[1], image.shape[0])
    if refused:
        return None, refused
    face = crop_face(image, label.box, MARGINS[kind], masked=label.name == "mask")
    after, covered = _drawn(face, kind, rng)
    if after is None:
        return None, NOT_DRAWN
    if covered is not None and _share_on(others, face, covered) > MAX_ON_OTHERS:
        return None, OVERLAPPED
    _keep_others(after, face, others)
    refused = spoiled(face, after, kind, covered)
    if refused:
        return None, refused
    height, width = after.shape[:2]
    return Change((slice(face.top, face.top + height), slice(face.left, face.left + width)), after), ""


def _drawn(face: Face, kind: FaceKind, rng: Random) -> tuple[ImageArray | None, Field | None]:
    if kind in TONES:
        return TONES[kind](face, rng), None
    return COVERS[kind](face, rng) or (None, None)


def _share_on(others: Sequence[Box], face: Face, covered: Field) -> float:
    """Return the share of what was drawn that lies within other boxes."""
    lost = sum(float(covered[_within(face, box)].sum()) for box in others)
    return lost / max(1e-6, float(covered.sum()))


def _keep_others(after: ImageArray, face: Face, others: Sequence[Box]) -> None:
    """Put back what is within everybody else's box."""
    for box in others:
        after[_within(face, box)] = face.pixels[_within(face, box)]


def _within(face: Face, box: Box) -> Window:
    """Return the rows and columns of a face's crop that another box touches."""
    rows = slice(max(0, math.floor(box.y_min) - face.top), max(0, math.ceil(box.y_max) - face.top))
    return rows, slice(max(0, math.floor(box.x_min) - face.left), max(0, math.ceil(box.x_max) - face.left))


# ------------------------------------------------------------------ the rules


def unfit(box: Box, others: Sequence[Box], width: int, height: int) -> str:
    """Return why a face cannot be edited whatever the edit, or nothing. `width` and `height` are the image's."""
    if sum(_common(box, other) for other in others) > MAX_OVERLAP * box.area:
        return OVERLAPPED
    at_side = box.x_min <= 1 or box.x_max >= width - 1
    at_end = box.y_min <= 1 or box.y_max >= height - 1
    if (at_side and box.height > CUT_RATIO * box.width) or (at_end and box.width > box.height):
        return CUT
    return ""


def _common(one: Box, other: Box) -> float:
    across = min(one.x_max, other.x_max) - max(one.x_min, other.x_min)
    down = min(one.y_max, other.y_max) - max(one.y_min, other.y_min)
    return max(0.0, across) * max(0.0, down)


def spoiled(face: Face, after: ImageArray, kind: FaceKind, covered: Field | None) -> str:
    """Return why a face must stay as it was, or nothing: `after` is its crop with the edit."""
    import cv2

    box = _band(face, -1, 1)
    old, new = (cv2.cvtColor(pixels[box], cv2.COLOR_RGB2GRAY) for pixels in (face.pixels, after))
    if float(cv2.absdiff(face.pixels[box], after[box]).mean()) < LEAST_CHANGE:
        return NOT_DRAWN
    if not MEAN_LEVELS[0] <= float(new.mean()) <= MEAN_LEVELS[1]:
        return UNJUDGEABLE
    if covered is not None and (
        covered[box].mean() > MAX_COVERED or covered[_band(face, *EYES)].mean() > MAX_OVER_EYES
    ):
        return UNJUDGEABLE
    rows = _band(face, *FEATURES[kind])[0]
    features = slice(rows.start - box[0].start, rows.stop - box[0].start)
    kept, likeness = survival(old[features], new[features], fine=0.25 * face.half_width)
    return UNJUDGEABLE if kept < LEAST_KEPT or likeness < LEAST_LIKENESS else ""


def _band(face: Face, low: float, high: float) -> tuple[slice, slice]:
    """Return the rows and columns of a face's crop from `low` to `high` on the `v` axis."""
    height = face.pixels.shape[0]
    top = min(height - 1, max(0, round(face.y + low * face.half_height)))
    bottom = min(height, max(top + 1, round(face.y + high * face.half_height)))
    return slice(top, bottom), slice(max(0, round(face.x - face.half_width)), round(face.x + face.half_width))


def survival(before: ImageArray, after: ImageArray, *, fine: float) -> tuple[float, float]:
    """Return how much of what is finer than `fine` pixels is left of a gray image: its share, and its correlation."""
    import cv2
    import numpy as np

    scale = min(1.0, 64 / max(before.shape))
    size = max(2, round(before.shape[1] * scale)), max(2, round(before.shape[0] * scale))
    old, new = (cv2.resize(p, size, interpolation=cv2.INTER_AREA).astype(np.float32) for p in (before, after))
    old, new = (p - cv2.GaussianBlur(p, (0, 0), max(0.8, fine * scale)) for p in (old, new))
    power, common = float((old * old).mean()), float((old * new).mean())
    return common / max(power, 1e-6), common / max(1e-6, math.sqrt(power * float((new * new).mean())))
