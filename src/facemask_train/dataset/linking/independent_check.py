"""Looks for copies across splits with another method than the one that grouped the images: ORB, on the finished splits.

ORB (Rublee et al., 2011) describes corners by bits; its points, its matching (Hamming distance, cross-checked), its
search (all descriptors, no lists) and its geometry (OpenCV's own RANSAC for a similarity) share no code with
`retrieval.py` and `geometric_check.py`. A copy is proved by many agreeing points and by the correlation of all pixels
that both images show.

What it cannot see: images with few corners, faces of one person in two photographs, copies that are mirrored or
stretched, crops to less than about a third of the area.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from facemask_train.dataset.linking.local_features import reduced

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

ORB_VERSION = 1
"""Raised by hand when the same image gives other features than before."""

ORB_BYTES, ORB_POINTS = 32, 300
COPY_POINTS, COPY_CORRELATION = 30, 0.8
"""Of a copy: agreeing points, and the correlation of the pixels that both images show."""

MOST_QUERIES = 2000
"""Images of val and test that are looked up at most, so that the time is bounded; the first by digest."""

_STRONGEST = 100
_VOTES, _FARTHEST, _NEIGHBORS, _CANDIDATES = 5, 48, 6, 4
_TOLERANCE = 5.0
_LEAST_SPREAD = 0.02  # of the image: the area of the box around the agreeing points


@dataclass(frozen=True, slots=True)
class OrbFeatures:
    """The ORB features of one image: points (n, 2) as fractions of its sides, bits (n, ORB_BYTES), reduced size."""

    points: NDArray[np.float32]
    bits: NDArray[np.uint8]
    size: tuple[int, int]


class CrossSplitCopy(NamedTuple):
    """An image of val or test (`later`) with a copy in an earlier split, both by index."""

    later: int
    earlier: int
    points: int
    correlation: float


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What the check found.

    Attributes:
        checked: images of val and test that were looked up.
        of: images of val and test.
        copies: those with a copy in an earlier split.
    """

    checked: int
    of: int
    copies: tuple[CrossSplitCopy, ...]


class OrbSource(Protocol):
    """What the check reads of each image."""

    def orb(self, index: int) -> OrbFeatures:
        """Return the features of an image."""
        ...

    def thumbnail(self, index: int) -> NDArray[np.uint8]:
        """Return the thumbnail of an image, (SIDE, SIDE)."""
        ...


def detect_orb(image: NDArray[np.uint8]) -> OrbFeatures:
    """Return the ORB features of a gray image, (height, width), the strongest first."""
    import cv2
    import numpy as np

    small = reduced(image)
    size = (small.shape[1], small.shape[0])
    found, bits = cv2.ORB_create(nfeatures=ORB_POINTS, fastThreshold=10).detectAndCompute(small, None)  # type: ignore[attr-defined]
    if bits is None:
        return OrbFeatures(np.zeros((0, 2), np.float32), np.zeros((0, ORB_BYTES), np.uint8), size)
    order = sorted(range(len(found)), key=lambda one: (-found[one].response, found[one].pt, found[one].size))[:ORB_POINTS]
    points = np.array([found[one].pt for one in order], np.float32) / np.array(size, np.float32)
    return OrbFeatures(points, bits[order], size)


