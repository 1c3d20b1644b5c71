"""Looks for copies across splits with another method than the one that grouped the images: ORB, on the finished splits.

ORB (Rublee et al., 2011) describes corners by bits; its points, its matching (Hamming distance, cross-checked), its
search (all descriptors, no lists) and its geometry (OpenCV's own RANSAC for a similarity) share no code with
`retrieval.py` and `geometric_check.py`. A copy is proved by many agreeing points and by the correlation of all pixels
that both images show.

What it cannot see: images with few corners, faces of one person in two photographs, copies that are mirrored or
stretched, crops to less than about a third of the area.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from collections.abc import Set as AbstractSet
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
_BATCH = 4000  # images that are searched at a time, so that memory is bounded
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
    order = sorted(range(len(found)), key=lambda one: (-found[one].response, found[one].pt, found[one].size))[
        :ORB_POINTS
    ]
    points = np.array([found[one].pt for one in order], np.float32)
    points = (points / np.array(size, np.float32)).astype(np.float32)
    return OrbFeatures(points, bits[order], size)


def find_copies(
    images: OrbSource, digests: Sequence[str], ranks: Sequence[int], parted: AbstractSet[tuple[int, int]]
) -> CheckResult:
    """Return the images that have a copy in an earlier split.

    Args:
        digests: the sha256 of each image.
        ranks: the split of each image: 0 for train, 1 for val, 2 for test.
        parted: pairs of indices, the lower first, that a person has looked at.
    """
    later = sorted((index for index, rank in enumerate(ranks) if rank), key=digests.__getitem__)
    asked = sorted(later[:MOST_QUERIES])
    copies = []
    for rank in sorted(set(ranks) - {0}):
        earlier = [index for index, other in enumerate(ranks) if other < rank]
        queries = [index for index in asked if ranks[index] == rank]
        for one, other in _candidates(images, queries, earlier):
            found = None if (min(one, other), max(one, other)) in parted else _compare(images, one, other)
            if found is not None:
                copies.append(found)
    return CheckResult(len(asked), len(later), tuple(copies))


def _candidates(images: OrbSource, queries: Sequence[int], earlier: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield pairs (query, earlier image) of which several of the strongest points are near, the most votes first."""
    import faiss
    import numpy as np

    votes: dict[int, Counter[int]] = {query: Counter() for query in queries}
    wanted, asked = _strongest(images, queries)
    for start in range(0, len(earlier), _BATCH):
        bits, owners = _strongest(images, earlier[start : start + _BATCH])
        if not len(bits) or not len(wanted):
            continue
        index = faiss.IndexBinaryFlat(8 * ORB_BYTES)
        index.add(bits)
        distances, hits = index.search(wanted, _NEIGHBORS)
        near = (distances <= _FARTHEST) & (hits >= 0)
        rows = np.nonzero(near)[0]
        once = np.unique(np.stack([rows, owners[hits[near]]], axis=1), axis=0)
        for row, image in once.tolist():
            votes[int(asked[row])][image] += 1
    for query, found in votes.items():
        best = sorted(found.items(), key=lambda one: (-one[1], one[0]))[:_CANDIDATES]
        yield from ((query, image) for image, count in best if count >= _VOTES)


def _strongest(images: OrbSource, members: Sequence[int]) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    import numpy as np

    found = [images.orb(index).bits[:_STRONGEST] for index in members]
    owners = np.repeat(np.asarray(members, np.int64), [len(one) for one in found])
    return np.concatenate([*found, np.zeros((0, ORB_BYTES), np.uint8)]), owners


def _compare(images: OrbSource, later: int, earlier: int) -> CrossSplitCopy | None:
    """Return the copy that two images are of each other, or None."""
    import cv2
    import numpy as np

    one, other = images.orb(later), images.orb(earlier)
    matches = cv2.BFMatcher(cv2.NORM_HAMMING, crossCheck=True).match(one.bits, other.bits)
    close = [match for match in matches if match.distance <= _FARTHEST]
    if len(close) < COPY_POINTS:
        return None
    source = (one.points * np.array(one.size, np.float32))[[match.queryIdx for match in close]]
    target = (other.points * np.array(other.size, np.float32))[[match.trainIdx for match in close]]
    cv2.setRNGSeed(0)
    similarity, agreeing = cv2.estimateAffinePartial2D(source, target, ransacReprojThreshold=_TOLERANCE)
    if similarity is None or agreeing.sum() < COPY_POINTS:
        return None
    spread = np.ptp(source[agreeing.ravel() > 0], axis=0).prod() / (one.size[0] * one.size[1])
    correlation = _correlation(images.thumbnail(later), one.size, images.thumbnail(earlier), other.size, similarity)
    if spread < _LEAST_SPREAD or correlation < COPY_CORRELATION:
        return None
    return CrossSplitCopy(later, earlier, int(agreeing.sum()), round(correlation, 3))


def _correlation(
    one: NDArray[np.uint8], size: tuple[int, int], other: NDArray[np.uint8], target: tuple[int, int], similarity: Any
) -> float:
    """Return the correlation of all pixels that two images show, one laid over the other; -1 if they share too few."""
    import cv2
    import numpy as np

    drawn = cv2.resize(other, target, interpolation=cv2.INTER_LINEAR)
    laid = cv2.warpAffine(cv2.resize(one, size, interpolation=cv2.INTER_LINEAR), similarity, target)
    inside = cv2.warpAffine(np.full(size[::-1], 255, np.uint8), similarity, target) == 255
    if inside.mean() < _LEAST_SPREAD or inside.sum() < 400:
        return -1.0
    blurred = [cv2.GaussianBlur(image, (0, 0), 4).astype(np.float64)[inside] for image in (drawn, laid)]
    deviations = [image - image.mean() for image in blurred]
    norm = np.sqrt((deviations[0] ** 2).sum() * (deviations[1] ** 2).sum())
    return float((deviations[0] * deviations[1]).sum() / max(norm, 1e-9))
