"""The transforms of a copy: what its steps do to an image and its labels. Does not read files.

Every choice comes from a seed, and each step has its own generator, so changing the settings of one step does not
affect the others. The geometry is computed without pixels (`shape_of`), which is all that a plan needs; `render` makes
the same random choices and the pixels. Pixel steps use `albumentations`, which is imported only if there is one.
"""

from __future__ import annotations

import functools
import hashlib
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import TYPE_CHECKING, Any

from facemask_train.augment import faces
from facemask_train.augment.faces import Edit
from facemask_train.core.boxes import laid_over
from facemask_train.core.files import digest_data
from facemask_train.core.recipe import Blur, ColorJitter, Compression, Noise, Rotate90, Scale, Step, Transform, Weather
from facemask_train.core.types import Annotation, Box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    ImageArray = NDArray[np.uint8]

MIN_SIDE = 10
"""Pixels; the `ultralytics` loader drops images with a smaller side."""

MIN_RECOGNIZABLE = 8
"""Pixels; a smaller face has no features that a step could remove."""

MIN_KEPT, MIN_CORRELATION = 0.25, 0.6
"""How much of the contrast of a face must remain after a step that changes the whole image, and its lowest correlation
with the original: thick fog, or noise in a dark image, leaves less."""


@dataclass(frozen=True, slots=True)
class Shape:
    """The geometry of a copy: a rotation in degrees counterclockwise, and a scale factor for both sides."""

    turn: int = 0
    scale: float = 1.0

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return the new width and height in pixels of an image with the given ones."""
        if self.turn % 180:
            width, height = height, width
        if self.scale == 1.0:
            return width, height
        return max(MIN_SIDE, round(width * self.scale)), max(MIN_SIDE, round(height * self.scale))

    def labels(self, labels: Sequence[Annotation], width: int, height: int) -> tuple[Annotation, ...]:
        """Return the labels of the result, for labels of an image of `width` x `height` pixels."""
        return laid_over(labels, (width, height), self.size(width, height), [self.turn // 90])


@dataclass(frozen=True, slots=True)
class Rendered:
    """A copy: its image (height, width, 3; RGB), its labels, and the outcome for each face that was to be edited.

    `left_out` names the steps that were not applied because they would have made a face unrecognizable.
    """

    image: ImageArray
    labels: tuple[Annotation, ...]
    edits: tuple[Edit, ...] = ()
    left_out: tuple[str, ...] = ()


# ------------------------------------------------------------------ seeds and geometry

_SEED_NAMES = {"rotate90": "turn", "color_jitter": "light"}
"""Earlier names of these steps. Seeds still use them, so that existing recipes give the same pixels."""


def seed_of(augment_seed: int, copy_name: str, steps: Sequence[Transform], sha256: str) -> int:
    """Return the seed (64 bits) of one copy of the image whose content has this digest.

    It depends on the kinds of the steps but not on their settings, so changing one step's settings affects only it.
    """
    kinds = [_SEED_NAMES.get(step.kind, step.kind) for step in steps]
    return _number(digest_data([augment_seed, copy_name, kinds, sha256]))


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _draws(seed: int, number: int, step: Step) -> Random | None:
    """Return the generator of a step, or None if the step is not applied to this image."""
    rng = Random(_number(f"{seed}:step:{number}"))
    return rng if rng.random() < step.p else None


def shape_of(steps: Sequence[Transform], labels: Sequence[Annotation], seed: int) -> Shape:
    """Return the geometry of the copy of an image with these labels and this seed."""
    shape, min_scale = Shape(), _min_scale(labels)
    for number, transform in enumerate(steps):
        rng = _draws(seed, number, transform.step)
        shape = shape if rng is None else _reshaped(shape, transform.step, rng, min_scale)
    return shape


def _min_scale(labels: Sequence[Annotation]) -> float:
    """Return the smallest scale factor that keeps every recognizable face recognizable."""
    sides = [min(label.box.width, label.box.height) for label in labels]
    return max((MIN_RECOGNIZABLE / side for side in sides if side >= MIN_RECOGNIZABLE), default=0.0)


def _reshaped(shape: Shape, step: Step, rng: Random, min_scale: float) -> Shape:
    if isinstance(step, Rotate90):
        return replace(shape, turn=(shape.turn + rng.choice(step.degrees)) % 360)
    if isinstance(step, Scale):
        return replace(shape, scale=max(min_scale, shape.scale * rng.uniform(*step.factor)))
    return shape


# ------------------------------------------------------------------ pixels


def render(image: ImageArray, labels: Sequence[Annotation], steps: Sequence[Transform], seed: int) -> Rendered:
    """Return the copy of an image (height, width, 3; RGB) that the steps and the seed define.

    The argument is never changed. Faces are edited upright, even if an earlier step has rotated the image.
    """
    height, width = image.shape[:2]
    shape, min_scale, now = Shape(), _min_scale(labels), Rendered(image, tuple(labels))
    for number, transform in enumerate(steps):
        rng = _draws(seed, number, transform.step)
        if rng is None:
            continue
        if transform.faces is not None:
            now = _with_faces(now, transform.faces, shape, rng.getrandbits(64))
        elif transform.rotate90 is not None or transform.scale is not None:
            wanted = _reshaped(shape, transform.step, rng, min_scale)
            moved = _moved(now.image, wanted.turn - shape.turn, wanted.size(width, height))
            shape, now = wanted, replace(now, image=moved, labels=wanted.labels(labels, width, height))
        else:
            now = _with_pixels(now, transform, rng.getrandbits(32))
    return replace(now, image=image.copy()) if now.image is image else now


def reduced(image: ImageArray, labels: Sequence[Annotation], side: int) -> tuple[ImageArray, tuple[Annotation, ...]]:
    """Return an image and its labels, scaled down if its longer side has more than `side` pixels."""
    height, width = image.shape[:2]
    shape = Shape(scale=min(1.0, side / max(width, height)))
    return _moved(image, 0, shape.size(width, height)), shape.labels(labels, width, height)


def _moved(image: ImageArray, turn: int, size: tuple[int, int]) -> ImageArray:
    """Return an image rotated by a multiple of 90 degrees and resized to the given width and height."""
    import cv2
    import numpy as np

    turned = np.ascontiguousarray(np.rot90(image, turn // 90)) if turn else image
    before = turned.shape[1], turned.shape[0]
    if before == size:
        return turned
    smaller = size[0] * size[1] < before[0] * before[1]
    resized: ImageArray = cv2.resize(turned, size, interpolation=cv2.INTER_AREA if smaller else cv2.INTER_CUBIC)
    return resized


def _with_faces(now: Rendered, settings: Any, shape: Shape, seed: int) -> Rendered:
    import numpy as np

    height, width = now.image.shape[:2]
    back = Shape((360 - shape.turn) % 360)
    upright = np.ascontiguousarray(np.rot90(now.image, back.turn // 90))
    edited, edits = faces.edit_faces(upright, back.labels(now.labels, width, height), settings, seed)
    if edited is upright:
        return replace(now, edits=(*now.edits, *edits))
    turned = np.ascontiguousarray(np.rot90(edited, shape.turn // 90))
    return replace(now, image=turned, edits=(*now.edits, *edits))


def _with_pixels(now: Rendered, transform: Transform, seed: int) -> Rendered:
    """Apply a step that changes the whole image, unless it would remove the features of a face."""
    changed = _applied(transform, now.image, seed)
    if all(_recognizable(now.image, changed, label.box) for label in now.labels):
        return replace(now, image=changed)
    return replace(now, left_out=(*now.left_out, transform.kind))


def _recognizable(before: ImageArray, after: ImageArray, box: Box) -> bool:
    import cv2

    if min(box.width, box.height) < MIN_RECOGNIZABLE:
        return True
    part = slice(int(box.y_min), int(box.y_max) + 1), slice(int(box.x_min), int(box.x_max) + 1)
    old, new = (cv2.cvtColor(image[part], cv2.COLOR_RGB2GRAY) for image in (before, after))
    kept, correlation = faces.remaining_detail(old, new, fine=box.width / 4)
    return kept >= MIN_KEPT and correlation >= MIN_CORRELATION


# ------------------------------------------------------------------ pixel steps, by albumentations


def _applied(transform: Transform, image: ImageArray, seed: int) -> ImageArray:
    """Return an image after one pixel step; the same seed always gives the same pixels."""
    rng = Random(seed)
    step = transform.step
    if isinstance(step, Weather) and (kind := rng.choice(step.kinds)) == "fog":
        return _fogged(image, seed)
    known: Any = (kind, _radius(image)) if isinstance(step, Weather) else step
    compose = _composed(known)
    compose.set_random_seed(seed)
    changed: ImageArray = compose(image=image)["image"]
    return changed


def _radius(image: ImageArray) -> int:
    """Return the size of drops and flares on an image, in pixels; in coarse steps, so that few transforms are built."""
    height, width = image.shape[:2]
    found: int = max(32, min(height, width) // 96 * 32)
    return found


@functools.cache
def _composed(step: Step | tuple[str, int]) -> Any:
    """Return the transform of a step: built once for each setting, because building takes longer than applying."""
    os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"  # otherwise importing it looks for a newer version on the network
    import albumentations  # type: ignore[import-untyped, unused-ignore]

    makers: Mapping[type, Callable[[Any, Any], list[Any]]] = {
        ColorJitter: _color_jitter,
        Blur: _blur,
        Noise: _noise,
        Compression: _compression,
        tuple: _weather,
    }
    return albumentations.Compose(makers[type(step)](albumentations, step))


def _color_jitter(package: Any, step: ColorJitter) -> list[Any]:
    limits = {
        "brightness_limit": (-step.brightness, step.brightness),
        "contrast_limit": (-step.contrast, step.contrast),
    }
    gamma = round(100 * (1 - step.gamma)), round(100 * (1 + step.gamma))
    return [package.RandomBrightnessContrast(**limits, p=1), package.RandomGamma(gamma_limit=gamma, p=1)]


def _blur(package: Any, step: Blur) -> list[Any]:
    smooth = package.GaussianBlur(blur_limit=step.kernel, p=1 - step.motion)
    centerd = {"allow_shifted": False, "direction_range": (0, 0)}  # otherwise the faces move out of their boxes
    motion = package.MotionBlur(blur_limit=step.kernel, **centerd, p=step.motion)
    return [package.OneOf([smooth, motion], p=1)]


def _noise(package: Any, step: Noise) -> list[Any]:
    return [package.GaussNoise(std_range=step.strength, p=1)]


def _compression(package: Any, step: Compression) -> list[Any]:
    return [package.ImageCompression(quality_range=step.quality, p=1)]


def _weather(package: Any, known: tuple[str, int]) -> list[Any]:
    kind, radius = known
    if kind == "rain":
        return [package.RandomRain(brightness_coefficient=0.85, blur_value=3, p=1)]
    if kind == "snow":  # flakes, as short bright drops: RandomSnow of 2.0.8 changes hues, or inverts lights and darks
        size = max(1, radius // 64)
        flake = {"drop_length": size, "drop_width": size + 1, "drop_color": (235, 238, 242), "slant_range": (-2, 2)}
        return [package.RandomRain(**flake, blur_value=3, brightness_coefficient=0.95, rain_type="heavy", p=1)]
    if kind == "fog":
        return [package.RandomFog(fog_coef_range=(0.6, 1.0), alpha_coef=0.16, p=1)]
    return [package.RandomSunFlare(src_radius=2 * radius, flare_roi=(0, 0, 1, 0.4), p=1)]


FOG_SIDE = 96
"""Pixels of the longer side of the image on which fog is drawn."""


def _fogged(image: ImageArray, seed: int) -> ImageArray:
    """Return an image behind fog.

    Fog is a veil of white that does not depend on what is behind it. The package blends the whole image once for
    each puff, 144 ms at 640 px; here it draws only the veil, small and on black, which is then blended once.
    """
    import cv2
    import numpy as np

    height, width = image.shape[:2]
    small = FOG_SIDE / max(width, height)
    compose = _composed(("fog", 0))
    compose.set_random_seed(seed)
    black = np.zeros((max(8, round(height * small)), max(8, round(width * small)), 3), np.uint8)
    puffs = cv2.GaussianBlur(compose(image=black)["image"][..., 0], (0, 0), FOG_SIDE / 24)
    veil = cv2.resize(puffs, (width, height), interpolation=cv2.INTER_LINEAR)
    thick = veil.astype(np.float32) / 255
    foggy: ImageArray = cv2.blendLinear(np.full_like(image, 255), image, thick, 1 - thick)
    return foggy
