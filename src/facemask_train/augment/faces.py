"""Edits of labeled faces that break the rule "two tones mean a mask", and the checks that keep their labels true.

A bare face can get a recolored or relit lower half, a beard, a hand or a cup; a masked face can get a mask in the tone
of its skin; either can get a cap, or a shadow over the upper half. A face that an edit would make unrecognizable is
left unchanged, and so are all other faces. Hoods, sunglasses and scarves are not drawn here: the audit uses them.
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
"""Why a face was left unchanged."""

MAX_OVERLAP = 0.08
"""The share of a face's box that other boxes may cover: boxes in a crowd touch, but an edit of a face that is
behind another would be drawn over what is in front."""

MAX_ON_OTHERS = 0.04
"""The share of a drawn object that other boxes may cut off: more looks unnatural."""

CUT_RATIO = 1.6
"""The aspect ratio from which a box at the edge of the image counts as cut off: in the published boxes, whole faces are
at most 1.5 times as high as wide, and none is that much wider than high."""

MIN_CHANGE = 2.5
"""The smallest mean change over the box, in levels: less would be invisible, but count as an edit."""

MEAN_LEVELS = (28.0, 232.0)
"""The range of the mean level of an edited face: outside, an image file preserves too few of its features."""

MIN_KEPT = 0.4
"""The smallest share of the contrast of the relevant features that must remain."""

MIN_CORRELATION = 0.55
"""The lowest correlation of these features before and after: with less, they were drawn over."""

MAX_COVERED = 0.6
"""The share of the box that a drawn object may cover: eyes, nose and brow are about 45 % of it."""

MAX_OVER_EYES = 0.06
"""The share of the eye region that a drawn object may cover."""

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
"""How far each kind may draw beyond the box."""

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
"""The region of the face, on the `v` axis, whose features must survive each kind of edit."""

EYES = (-0.48, -0.18)
"""The eye region, on the `v` axis."""


@dataclass(frozen=True, slots=True)
class Edit:
    """The outcome for one face: `label` is the index of its label, `kind` the edit that was drawn or tried.

    `reason` is empty if the edit was applied, or else says why the face was left unchanged.
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
    """Return an image (height, width, 3; RGB) with a share of its faces edited, and the outcome of each.

    Each face has its own random generator, so its edit does not depend on the other faces.
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
    """Return the edit of one face and no reason, or None and the reason why the face is left unchanged.

    Pixels inside the boxes of other labels are not changed, nor pixels farther from the face's box than `MARGINS`.
    """
    others = [label.box for place, label in enumerate(labels) if place != index]
    label = labels[index]
    refused = check_face(label.box, others, image.shape[1], image.shape[0])
    if refused:
        return None, refused
    face = crop_face(image, label.box, MARGINS[kind], masked=label.name == "mask")
    after, covered = _drawn(face, kind, rng)
    if after is None:
        return None, NOT_DRAWN
    if covered is not None and _share_on(others, face, covered) > MAX_ON_OTHERS:
        return None, OVERLAPPED
    _keep_others(after, face, others)
    refused = check_edit(face, after, kind, covered)
    if refused:
        return None, refused
    height, width = after.shape[:2]
    return Change((slice(face.top, face.top + height), slice(face.left, face.left + width)), after), ""


def _drawn(face: Face, kind: FaceKind, rng: Random) -> tuple[ImageArray | None, Field | None]:
    if kind in TONES:
        return TONES[kind](face, rng), None
    return COVERS[kind](face, rng) or (None, None)


def _share_on(others: Sequence[Box], face: Face, covered: Field) -> float:
    """Return the share of the drawn pixels that are inside other boxes."""
    lost = sum(float(covered[_within(face, box)].sum()) for box in others)
    return lost / max(1e-6, float(covered.sum()))


def _keep_others(after: ImageArray, face: Face, others: Sequence[Box]) -> None:
    """Restore the pixels inside all other boxes."""
    for box in others:
        after[_within(face, box)] = face.pixels[_within(face, box)]


def _within(face: Face, box: Box) -> Window:
    """Return the rows and columns of a face's crop that another box touches."""
    rows = slice(max(0, math.floor(box.y_min) - face.top), max(0, math.ceil(box.y_max) - face.top))
    return rows, slice(max(0, math.floor(box.x_min) - face.left), max(0, math.ceil(box.x_max) - face.left))


# ---- checks ----


def check_face(box: Box, others: Sequence[Box], width: int, height: int) -> str:
    """Return why a face cannot be edited at all, or an empty string. `width` and `height` are those of the image."""
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


def check_edit(face: Face, after: ImageArray, kind: FaceKind, covered: Field | None) -> str:
    """Return why an edit must be discarded, or an empty string. `after` is the crop of the face with the edit."""
    import cv2

    box = _band(face, -1, 1)
    old, new = (cv2.cvtColor(pixels[box], cv2.COLOR_RGB2GRAY) for pixels in (face.pixels, after))
    if float(cv2.absdiff(face.pixels[box], after[box]).mean()) < MIN_CHANGE:
        return NOT_DRAWN
    if not MEAN_LEVELS[0] <= float(new.mean()) <= MEAN_LEVELS[1]:
        return UNJUDGEABLE
    if covered is not None and (
        covered[box].mean() > MAX_COVERED or covered[_band(face, *EYES)].mean() > MAX_OVER_EYES
    ):
        return UNJUDGEABLE
    rows = _band(face, *FEATURES[kind])[0]
    features = slice(rows.start - box[0].start, rows.stop - box[0].start)
    kept, correlation = remaining_detail(old[features], new[features], fine=0.25 * face.half_width)
    return UNJUDGEABLE if kept < MIN_KEPT or correlation < MIN_CORRELATION else ""


def _band(face: Face, low: float, high: float) -> tuple[slice, slice]:
    """Return the rows and columns of a face's crop from `low` to `high` on the `v` axis."""
    height = face.pixels.shape[0]
    top = min(height - 1, max(0, round(face.y + low * face.half_height)))
    bottom = min(height, max(top + 1, round(face.y + high * face.half_height)))
    return slice(top, bottom), slice(max(0, round(face.x - face.half_width)), round(face.x + face.half_width))


def remaining_detail(before: ImageArray, after: ImageArray, *, fine: float) -> tuple[float, float]:
    """Return how much detail finer than `fine` pixels is left of a gray image: its share, and its correlation."""
    import cv2
    import numpy as np

    scale = min(1.0, 64 / max(before.shape))
    size = max(2, round(before.shape[1] * scale)), max(2, round(before.shape[0] * scale))
    old, new = (cv2.resize(p, size, interpolation=cv2.INTER_AREA).astype(np.float32) for p in (before, after))
    old, new = (p - cv2.GaussianBlur(p, (0, 0), max(0.8, fine * scale)) for p in (old, new))
    power, common = float((old * old).mean()), float((old * new).mean())
    return common / max(power, 1e-6), common / max(1e-6, math.sqrt(power * float((new * new).mean())))
