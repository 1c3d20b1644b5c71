"""Objects in front of a face: a hand or a cup at the mouth of a bare face, a cap on any head.

Each function takes a face and a generator, and returns the edited pixels of the face (height, width, 3; RGB) and how
much of each pixel the object covers (height, width; 0 to 1), or None if it cannot be drawn.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING

from facemask_train.augment.face_patch import MOUTH, Face, to_rgb
from facemask_train.augment.relief import Drawn, Point, Relief, draw_relief, lathe, limbs, over, plane, uneven

if TYPE_CHECKING:
    from facemask_train.augment.face_patch import Field

Color = tuple[int, int, int]
Profile = list[Point]
"""The radius (second) of an object at positions along its axis (first), from top to bottom."""

CLOTHS: tuple[Color, ...] = (
    (28, 30, 36), (44, 52, 84), (30, 60, 120), (160, 34, 40), (238, 238, 236), (120, 122, 126), (70, 84, 60),
    (196, 168, 122), (112, 76, 50), (226, 180, 60), (210, 96, 50), (120, 70, 130), (60, 130, 130), (232, 150, 176),
    (70, 26, 34), (90, 140, 190),
)  # fmt: skip

CUPS: tuple[Color, ...] = (
    (246, 244, 238), (250, 250, 250), (150, 104, 66), (190, 150, 104), (30, 90, 70), (40, 40, 44), (190, 40, 44),
    (60, 110, 170), (236, 196, 70), (222, 130, 160), (90, 160, 170),
)  # fmt: skip


def _hand_skin(face: Face, rng: Random) -> Field:
    """Return the skin color of the hands, derived from that of the face (3,; RGB)."""
    import numpy as np

    lab = face.skin + np.array([rng.uniform(-4, 4), rng.uniform(-1, 3), rng.uniform(-2, 2)], np.float32)
    found: Field = to_rgb(lab[None, None])[0, 0]
    return found


def _clothes(face: Face, rng: Random) -> Field:
    """Return the color of the person's clothes: the one under the chin in the image, or a random one (3,; RGB)."""
    import numpy as np

    low = face.small[face.v[:, 0] > 1.35]
    if low.size and rng.random() < 0.7:
        return np.median(low.reshape(-1, 3), axis=0).astype(np.float32)
    return face.color(*rng.choice(CLOTHS))


# ------------------------------------------------------------------ hand


def hand(face: Face, rng: Random) -> Drawn | None:
    """Draw a hand in front of the mouth: four fingers and a thumb, the back of the hand, and the arm in its sleeve."""
    side, held = rng.choice((-1, 1)), _Held(rng.uniform(0.05, 0.42), rng.uniform(0.92, 1.1))
    mouth = MOUTH * face.aspect + rng.uniform(0.0, 0.1)
    x, y = plane(face, face.turned + side * rng.uniform(0.2, 0.42), mouth, 0, side)
    skin, (wrist, elbow) = _hand_skin(face, rng), _arm(rng, held)
    bare = rng.uniform(0.12, 0.4)
    hem = (wrist[0] + bare * (elbow[0] - wrist[0]), wrist[1] + bare * (elbow[1] - wrist[1]))
    arm = limbs(x, y, [(*wrist, 0.24 * held.size, *elbow, 0.36 * held.size, -0.2)], skin)
    sleeve = limbs(x, y, [(*hem, 0.33 * held.size, *elbow, 0.5 * held.size, -0.16)], _clothes(face, rng))
    front = _creased(limbs(x, y, [*_fingers(rng, held), *_back(held)], skin))
    return draw_relief(face, uneven(over(over(arm, sleeve), front), rng), rng, ambient=0.62)


def _creased(fingers: Relief) -> Relief:
    """Return fingers with dark lines where they touch, because little light gets between them."""
    import numpy as np

    part = fingers.part
    color = np.array(fingers.color)
    color[part] *= (1 - 0.42 * np.exp(-np.maximum(fingers.inside[part], 0) / 0.028))[..., None]
    return Relief(fingers.inside, fingers.height, color, part)


@dataclass(frozen=True, slots=True)
class _Held:
    """The pose of a hand: its tilt in radians, and its size. Its axes point to the fingertips and the little finger."""

    lean: float
    size: float

    def limb(self, points: Sequence[Point], thick: Sequence[float], lift: float) -> list[tuple[float, ...]]:
        """Return the limbs along some points of the hand, `thick` at each, as `limbs` takes them."""
        cos, sin = math.cos(self.lean) * self.size, math.sin(self.lean) * self.size
        placed = [
            (-x * cos - y * sin, y * cos - x * sin, r * self.size) for (x, y), r in zip(points, thick, strict=True)
        ]
        return [(*one, *other, lift) for one, other in itertools.pairwise(placed)]


FINGERS = ((0.84, 0.125), (0.96, 0.13), (0.9, 0.122), (0.7, 0.108))
"""The length and the radius of each finger, from the index finger on."""


def _fingers(rng: Random, held: _Held) -> list[tuple[float, ...]]:
    found: list[tuple[float, ...]] = []
    spread, bend = rng.uniform(0.0, 0.07), rng.uniform(-0.05, 0.14)
    for number, (long, thick) in enumerate(FINGERS):
        row, fan = -0.345 + 0.235 * number, spread * (number - 1.5)
        points = [(-0.1, row), (0.5 * long, row + 0.5 * fan), (long, row + 1.4 * fan + bend * long)]
        found += held.limb(points, (thick * 1.06, thick, thick * 0.8), 0.02 * (1.5 - abs(number - 1.5)))
    return found


def _back(held: _Held) -> list[tuple[float, ...]]:
    """Return the back of the hand, and its thumb."""
    found = held.limb([(-0.72, -0.26), (-0.4, -0.52), (-0.08, -0.6)], (0.17, 0.14, 0.105), -0.05)
    for row in (-0.26, 0.0, 0.24):
        found += held.limb([(-0.12, row), (-0.8, row * 0.62)], (0.2, 0.21), -0.03)
    return found


def _arm(rng: Random, held: _Held) -> tuple[Point, Point]:
    """Return where the wrist and the elbow are."""
    x, y = 0.9 * held.size * math.cos(held.lean), 0.9 * held.size * math.sin(held.lean)
    angle, long = held.lean + rng.uniform(0.55, 0.9), 2.6 * held.size
    return (x, y), (x + long * math.cos(angle), y + long * math.sin(angle))


# ------------------------------------------------------------------ cup


def cup(face: Face, rng: Random) -> Drawn | None:
    """Draw a cup, a glass with a lid or a bottle at the mouth, and in most cases the hand that holds it."""
    side = rng.choice((-1, 1))
    lean = rng.uniform(-0.12, 0.3)
    x, y = plane(face, face.turned * 1.2, MOUTH * face.aspect + rng.uniform(-0.12, 0.02), lean, side)
    thing, grip = rng.choice((_paper, _paper, _mug, _bottle))(face, rng, x, y)
    if rng.random() < 0.85:
        thing = over(thing, uneven(_grip(face, rng, x, y, grip), rng))
    return draw_relief(face, thing, rng, ambient=0.55)


def _paper(face: Face, rng: Random, x: Field, y: Field) -> tuple[Relief, Profile]:
    """Return a paper cup, with a sleeve or a lid or neither."""
    wide, long = rng.uniform(0.4, 0.5), rng.uniform(1.05, 1.35)
    profile: Profile = [(0.0, wide), (0.06, wide * 1.05), (0.07, wide * 0.98), (long, wide * 0.7)]
    body = lathe(x, y, profile, face.color(*rng.choice(CUPS)), round_=0.1)
    if rng.random() < 0.5:
        band = lathe(x, y, [(0.3, wide * 0.94), (long * 0.8, wide * 0.78)], face.color(*rng.choice(CUPS)), round_=0.1)
        body = over(body, band)
    if rng.random() < 0.5:
        lid = lathe(x, y, [(-0.1, wide * 0.86), (0.0, wide * 0.95), (0.03, wide * 1.1), (0.1, wide * 1.1)],
                     face.color(*rng.choice(((248, 248, 248), (36, 36, 38)))), round_=0.1)  # fmt: skip
        body = over(body, lid)
    return body, profile


def _mug(face: Face, rng: Random, x: Field, y: Field) -> tuple[Relief, Profile]:
    """Return a mug with its handle."""
    wide, long = rng.uniform(0.42, 0.52), rng.uniform(0.8, 0.98)
    color = face.color(*rng.choice(CUPS))
    profile: Profile = [(0.0, wide), (0.05, wide * 0.97), (long * 0.85, wide * 0.97), (long, wide * 0.85)]
    handle = [(-wide, 0.2), (-wide - 0.28, 0.3), (-wide - 0.26, 0.58), (-wide, 0.7)]
    joints = [(*one, 0.065, *other, 0.065, 0.1) for one, other in itertools.pairwise(handle)]
    return over(limbs(x, y, joints, color), lathe(x, y, profile, color, round_=0.12)), profile


def _bottle(face: Face, rng: Random, x: Field, y: Field) -> tuple[Relief, Profile]:
    """Return a bottle whose neck is at the mouth."""
    import numpy as np

    wide, neck = rng.uniform(0.28, 0.36), rng.uniform(0.1, 0.13)
    profile: Profile = [(0.0, neck), (0.3, neck * 1.1), (0.62, wide), (1.75, wide), (1.85, wide * 0.9)]
    glass = rng.choice(((36, 70, 44), (84, 50, 26), (150, 190, 210), (190, 210, 216), (50, 90, 150), (200, 60, 60)))
    body = lathe(x, y, profile, face.color(*glass), round_=0.06)
    label = lathe(x, y, [(0.85, wide), (1.35, wide)], face.color(*rng.choice(CUPS)), round_=0.06)
    shine = np.exp(-(((x + 0.45 * wide) / (0.16 * wide)) ** 2))[..., None] * 70 * face.light
    body = Relief(body.inside, body.height, body.color + shine)
    return over(body, label) if rng.random() < 0.7 else body, profile


def _grip(face: Face, rng: Random, x: Field, y: Field, profile: Profile) -> Relief:
    """Return the fingers around an object, the hand beside it, and the arm."""
    import numpy as np

    skin = _hand_skin(face, rng)
    places, radii = zip(*profile, strict=True)
    low = places[-1]
    top = low - rng.uniform(0.75, 0.85) if low > 1 else 0.22
    joints: list[tuple[float, ...]] = []
    for number in range(4):
        row = top + 0.17 * number
        radius = float(np.interp(row, places, radii))
        reach = radius * (0.2 + 0.12 * abs(number - 1.2))
        joints.append((radius * 0.95, row + 0.03, 0.11, -reach, row, 0.088, 0.25))
    side = float(np.interp(top + 0.2, places, radii))
    joints += [(side + 0.12, top + 0.05, 0.17, side + 0.22, top + 0.62, 0.2, 0.1)]
    arm = (side + 0.2, top + 0.5, 0.21, side + 1.3, top + 2.2, 0.34, -0.05)
    sleeve = (side + 0.55, top + 1.0, 0.32, side + 1.5, top + 2.6, 0.46, 0.0)
    covered = over(limbs(x, y, [arm], skin), limbs(x, y, [sleeve], _clothes(face, rng)))
    return over(covered, _creased(limbs(x, y, joints, skin)))


# ------------------------------------------------------------------ cap


def cap(face: Face, rng: Random) -> Drawn | None:
    """Draw a peaked or a knitted cap over the forehead, down to about the brows."""
    color = face.color(*rng.choice(CLOTHS))
    peak = rng.random() < 0.65
    x, y = plane(face, face.turned * 0.3, face.brows * face.aspect, rng.gauss(0, 0.05), 1)
    crown = _crown(face, x, y, rng, color, knitted=not peak)
    if not peak:
        return draw_relief(face, over(crown, _fold(face, x, y, rng, color)), rng, ambient=0.5)
    worn = over(crown, _peak(face, x, y, rng, color))
    return draw_relief(face, worn, rng, ambient=0.45, drop=0.22)


def _crown(face: Face, x: Field, y: Field, rng: Random, color: Field, *, knitted: bool) -> Relief:
    """Return the part of a cap that covers the head: `y` is 0 at the brows."""
    import numpy as np

    wide = rng.uniform(1.17, 1.27) if knitted else rng.uniform(1.08, 1.18)
    high = rng.uniform(1.25, 1.5) if knitted else rng.uniform(1.1, 1.3)
    base = -0.08 + 0.06 * (x / wide) ** 2
    round_ = (np.abs(x / wide) ** 2.4 + np.abs(np.minimum(y - base, 0) / high) ** 2.4) ** (1 / 2.4)
    inside = np.minimum((1 - round_) * min(wide, high), base - y)
    height = 0.9 * np.sqrt(np.maximum(1 - round_**2, 0.03))
    if knitted:
        height = height + _ribs(face) * np.sin(np.arcsin(np.clip(x / wide, -1, 1)) * 34)
        return Relief(inside, height, np.broadcast_to(color, (*inside.shape, 3)))
    seam = np.abs(x[None] - np.array([-0.5, 0.0, 0.5])[:, None, None] * np.sqrt(np.maximum(1 - round_**2, 0)))
    button = np.hypot(x, (y - base + high) * 1.6) < 0.09
    dark = np.maximum(0.25 * np.exp(-((seam.min(axis=0) / 0.03) ** 2)), 0.3 * button)
    return Relief(inside, height, color * (1 - dark)[..., None])


def _ribs(face: Face) -> float:
    """Return how high the ribs of a knitted cap are: on small faces they are finer than a pixel."""
    return 0.02 * min(1.0, face.half_width / 40)


def _fold(face: Face, x: Field, y: Field, rng: Random, color: Field) -> Relief:
    """Return the turned-up hem of a knitted cap."""
    import numpy as np

    middle, half = -0.3 + 0.05 * x**2, rng.uniform(0.17, 0.26)
    inside = np.minimum(half - np.abs(y - middle), 1.24 - np.abs(x))
    height = 0.95 * np.sqrt(np.maximum(1.05 - (x / 1.25) ** 2, 0.03)) + 0.3 * np.sqrt(np.maximum(inside, 0.0))
    height = height + 1.2 * _ribs(face) * np.sin(np.arcsin(np.clip(x / 1.25, -1, 1)) * 34)
    return Relief(inside, height, np.broadcast_to(color * rng.uniform(0.8, 1.05), (*inside.shape, 3)))


def _peak(face: Face, x: Field, y: Field, rng: Random, color: Field) -> Relief:
    """Return the peak of a cap, seen from the front: an arched crescent that points where the face looks."""
    import numpy as np

    across = (x - face.turned * 1.1) / rng.uniform(0.98, 1.1)
    round_ = np.maximum(1 - np.abs(across) ** 2.2, 0) ** 0.6
    arch, deep = rng.uniform(0.0, 0.2) * across**2, rng.uniform(0.4, 0.56)
    lower, upper = arch + 0.14 * round_ - 0.14, arch - deep * round_ - 0.12
    inside = np.minimum(np.minimum(y - upper, lower - y), (1 - np.abs(across)) * 0.9)
    far = np.clip((y - upper) / np.maximum(lower - upper, 0.05), 0, 1)
    height = 1.0 + 0.3 * deep * far * (2 - far) - 0.3 * across**2
    hem = 1 - 0.3 * np.exp(-(((lower - 0.07 - y) / 0.025) ** 2)) - 0.55 * np.exp(-np.maximum(y - upper, 0) / 0.06)
    tone = color * 0.9 if rng.random() < 0.6 else face.color(*rng.choice(CLOTHS))
    return Relief(inside, height, tone * hem[..., None])
