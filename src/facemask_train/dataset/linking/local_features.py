"""Local features of an image: SIFT points of its reduced copy, with RootSIFT descriptors in bytes.

A whole-image hash does not see a crop, a small rotation, or an image in a collage; points that are described one by
one do. RootSIFT (Arandjelovic and Zisserman, 2012) is the square root of a SIFT descriptor that sums to 1, so that the
Euclidean distance of two is the Hellinger distance of the originals. Does not read files or labels.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FEATURES_VERSION = 1
"""Raised by hand when the same image gives other features than before."""

LENGTH = 128
"""Bytes of a descriptor."""

MAX_SIDE, MAX_POINTS = 400, 400
"""The longer side to which an image is reduced, in pixels, and the most points that are kept of it."""

_DETECTED = 2 * MAX_POINTS
_CELLS = 4  # the image is divided into 4 x 4 cells, so that points are not all in one text or one watermark
_UNIT = 255  # a component of a RootSIFT descriptor is in [0, 1]; few exceed 0.5
_LEAST_CONTRAST = 0.02


@dataclass(frozen=True, slots=True)
class LocalFeatures:
    """The local features of one image.

    Attributes:
        points: (n, 2) float32, x and y as fractions of the sides of the image.
        descriptors: (n, LENGTH) uint8, the strongest first.
        size: width and height of the reduced copy, in pixels.
    """

    points: NDArray[np.float32]
    descriptors: NDArray[np.uint8]
    size: tuple[int, int]

    @property
    def pixels(self) -> NDArray[np.float32]:
        """The points in pixels of the reduced copy, (n, 2)."""
        import numpy as np

        return self.points * np.asarray(self.size, np.float32)


def detect(image: NDArray[np.uint8]) -> LocalFeatures:
    """Return the local features of a gray image, (height, width)."""
    import cv2
    import numpy as np

    small = reduced(image)
    size = (small.shape[1], small.shape[0])
    sift = cv2.SIFT_create(nfeatures=_DETECTED, contrastThreshold=_LEAST_CONTRAST)  # type: ignore[attr-defined]
    found, raw = sift.detectAndCompute(small, None)
    kept = _spread(found, size)
    if not kept:
        return LocalFeatures(np.zeros((0, 2), np.float32), np.zeros((0, LENGTH), np.uint8), size)
    points = np.array([found[index].pt for index in kept], np.float32)
    points = (points / np.array(size, np.float32)).astype(np.float32)
    return LocalFeatures(points, _root(raw[kept]), size)


def reduced(image: NDArray[np.uint8], side: int = MAX_SIDE) -> NDArray[np.uint8]:
    """Return a gray image whose longer side is at most `side` pixels, and whose shorter side is at least one."""
    import cv2

    height, width = image.shape
    scale = side / max(height, width)
    if scale >= 1:
        return image
    shape = (max(1, round(width * scale)), max(1, round(height * scale)))
    small: NDArray[np.uint8] = cv2.resize(image, shape, interpolation=cv2.INTER_AREA)
    return small


def _spread(found: Sequence[Any], size: tuple[int, int]) -> list[int]:
    """Return the indices of the strongest points: at first at most a share of each cell, then those that are left.

    The order does not depend on that of the detector: by strength, then place, size and angle.
    """
    keys = [(-one.response, one.pt, one.size, one.angle) for one in found]
    share, counts = 2 * MAX_POINTS // _CELLS**2, Counter[tuple[int, int]]()
    first, rest = list[int](), list[int]()
    for index in sorted(range(len(keys)), key=keys.__getitem__):
        x, y = found[index].pt
        cell = (int(x * _CELLS / size[0]), int(y * _CELLS / size[1]))
        counts[cell] += 1
        (first if counts[cell] <= share else rest).append(index)
    return (first[:MAX_POINTS] + rest)[:MAX_POINTS]


def _root(descriptors: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return SIFT descriptors, (n, 128), as RootSIFT in bytes."""
    import numpy as np

    share = descriptors / np.maximum(descriptors.sum(axis=1, keepdims=True), 1e-6)
    root: NDArray[np.uint8] = np.minimum(np.rint(np.sqrt(share) * _UNIT), 255).astype(np.uint8)
    return root


def mirrored(features: LocalFeatures) -> LocalFeatures:
    """Return the features of the image mirrored left to right.

    A mirror reverses the four rows of cells of a descriptor and the sense of its eight directions.
    """
    import numpy as np

    points = features.points * np.array([-1, 1], np.float32) + np.array([1, 0], np.float32)
    return replace(features, points=points, descriptors=mirror_descriptors(features.descriptors))


def mirror_descriptors(descriptors: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return descriptors, (n, LENGTH), as if their image were mirrored left to right."""
    turned: NDArray[np.uint8] = descriptors[:, _mirror()]
    return turned


@cache
def _mirror() -> NDArray[np.int64]:
    import numpy as np

    places = np.arange(LENGTH).reshape(4, 4, 8)
    return places[::-1, :, (-np.arange(8)) % 8].reshape(LENGTH)
