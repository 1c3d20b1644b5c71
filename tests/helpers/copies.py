"""Copies of an image as they occur in datasets, and similar images that are not copies."""

from __future__ import annotations

from random import Random

import cv2
import numpy as np

from facemask_train.core.types import Corners
from facemask_train.dataset.grouping.hashing import orient_image

ImageArray = np.ndarray
"""(height, width, 3), RGB."""


def encoded(image: ImageArray, quality: int = 90, kind: str = ".jpg") -> bytes:
    options = [cv2.IMWRITE_JPEG_QUALITY, quality] if kind == ".jpg" else []
    return cv2.imencode(kind, np.ascontiguousarray(image[..., ::-1]), options)[1].tobytes()


def reencoded(image: ImageArray, quality: int) -> ImageArray:
    return decoded(encoded(image, quality))


def decoded(content: bytes) -> ImageArray:
    return np.ascontiguousarray(cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)[..., ::-1])


def rescaled(image: ImageArray, factor: float) -> ImageArray:
    way = cv2.INTER_AREA if factor < 1 else cv2.INTER_CUBIC
    return cv2.resize(image, None, fx=factor, fy=factor, interpolation=way)


def cropped(image: ImageArray, shares: Corners) -> ImageArray:
    """Cut a share of the width or height off the left, top, right and bottom."""
    height, width = image.shape[:2]
    left, top, right, bottom = shares
    return image[
        round(top * height) : height - round(bottom * height), round(left * width) : width - round(right * width)
    ]


def copy_of(image: ImageArray, rng: Random, *, crop: float, scale: float, quality: int, orientation: int) -> ImageArray:
    """Return a copy that was cropped (each side by `crop` or not at all), rescaled, turned and re-encoded."""
    sides = (rng.choice((0.0, crop)), rng.choice((0.0, crop)), rng.choice((0.0, crop)), rng.choice((0.0, crop)))
    return reencoded(orient_image(rescaled(cropped(image, sides), scale), orientation), quality)


def moment(image: ImageArray, box: Corners, rng: Random) -> ImageArray:
    """Return another moment of a scene: what is in the box, mirrored, has moved by some of its width."""
    height, width = image.shape[:2]
    x_min, y_min, x_max, y_max = (int(value) for value in box)
    patch = image[y_min:y_max, x_min:x_max, :][:, ::-1].copy()
    hole = np.zeros((height, width), np.uint8)
    hole[y_min:y_max, x_min:x_max] = 255
    empty = cv2.inpaint(np.ascontiguousarray(image), hole, 3, cv2.INPAINT_TELEA)
    across = int(rng.choice((-1, 1)) * rng.uniform(0.35, 0.8) * (x_max - x_min))
    left = min(max(0, x_min + across), width - patch.shape[1])
    top = min(max(0, y_min + int(rng.uniform(-0.3, 0.3) * patch.shape[0])), height - patch.shape[0])
    empty[top : top + patch.shape[0], left : left + patch.shape[1]] = patch
    return reencoded(empty, 90)


def wall(seed: int, size: tuple[int, int] = (320, 240)) -> ImageArray:
    """Return a near-uniform image: a plain wall in uneven light, with noise."""
    rng = np.random.default_rng(seed)
    width, height = size
    slope = np.linspace(0, rng.uniform(-30, 30), width)[None] + np.linspace(0, rng.uniform(-30, 30), height)[:, None]
    gray = rng.uniform(90, 180) + slope + rng.normal(0, 3, (height, width))
    return np.repeat(np.clip(gray, 0, 255).astype(np.uint8)[..., None], 3, axis=2)
