"""Decides from local features and thumbnails if two images show the same photograph or the same scene. Pure.

Points are matched both ways with the ratio test (Lowe, 2004). An affine map that many of them agree with is found by
sampling (RANSAC; Fischler and Bolles, 1981) and fitted by least squares: it covers crops, rotations, stretching and
copies inside a collage. Then the pixels are compared where the map lays one image over the other, window by window: a
watermark, a logo, a caption bar or an app's frame gives many agreeing points, but not agreeing pixels between them.

All thresholds are absolute: a verdict depends on the two images alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from facemask_train.core.boxes import UnitMap
from facemask_train.dataset.linking.local_features import LocalFeatures

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Points = NDArray[np.float64]
    Thumbnail = NDArray[np.uint8]

Verdict = Literal["same", "scene", "weak"]
LEAST_POINTS = 12
"""Agreeing points below which nothing is claimed."""

SAME_POINTS, SAME_MEAN, SAME_AGREEING = 16, 0.85, 0.93
"""Of the same photograph: agreeing points, mean correlation of the overlap, share of its windows that agree."""

SCENE_POINTS, SCENE_AGREEING = 15, 0.35
"""Of the same scene: agreeing points, and the share of the windows of the overlap that agree."""

CLOSE_SCENE_POINTS, CLOSE_SCENE_AGREEING = 40, 0.28
"""Likewise where more points agree. Stock photographs under one caption bar reach 32 points and a share of 0.26."""

_RATIO = 0.8
_TOLERANCE = 5.0  # pixels of the reduced image
_SAMPLES, _ROUNDS = 600, 3
_STRETCH, _SCALE = 2.2, 6.0
_LEAST_CELLS = 4  # of 6 x 6 cells of either image in which points agree
_GRID = 6
_WINDOW, _AGREES = 9, 0.6
_STRUCTURE = 4.0  # gray levels: a window with less deviation in both images says nothing
_LEAST_OVERLAP = 24  # windows
_CANVAS = 96


class Agreement(NamedTuple):
    """How the pixels of two images agree where one is laid over the other.

    Attributes:
        mean: the mean correlation of windows with structure.
        agreeing: the share of these windows that agree.
        covered: the share of the first image that the second covers.
    """

    mean: float
    agreeing: float
    covered: float


@dataclass(frozen=True, slots=True)
class Geometry:
    """An affine map that two images agree on.

    Attributes:
        points: how many matched points agree.
        transform: maps the second image onto the first, in fractions of their sides.
        matches: (points, 2) the indices of the agreeing points in the first and the second image.
    """

    points: int
    transform: UnitMap
    matches: NDArray[np.int64]


def match_points(first: LocalFeatures, second: LocalFeatures) -> NDArray[np.int64]:
    """Return pairs of points, (n, 2) indices, that are each other's nearest and pass the ratio test both ways."""
    import numpy as np

    if min(len(first.points), len(second.points)) < LEAST_POINTS:
        return np.zeros((0, 2), np.int64)
    one, other = first.descriptors.astype(np.float32), second.descriptors.astype(np.float32)
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1)[None] - 2 * (one @ other.T)
    there, back = squares.argmin(axis=1), squares.argmin(axis=0)
    rows = np.flatnonzero(back[there] == np.arange(len(one)))
    nearest = squares[rows, there[rows]]
    along = np.partition(squares, 1, axis=1)[rows, 1]
    across = np.partition(squares, 1, axis=0)[1, there[rows]]
    distinct = nearest < _RATIO**2 * np.maximum(np.minimum(along, across), 1e-6)
    return np.stack([rows[distinct], there[rows][distinct]], axis=1)


def find_geometry(first: LocalFeatures, second: LocalFeatures) -> Geometry | None:
    """Return the affine map that most matched points agree on, or None if too few do or they are in one spot."""
    import numpy as np

    matches = match_points(first, second)
    if len(matches) < LEAST_POINTS:
        return None
    target, source = (one.pixels.astype(np.float64)[matches[:, side]] for side, one in enumerate((first, second)))
    agreeing = _agreeing(source, target)
    agreeing &= _once(target, agreeing) & _once(source, agreeing)
    if agreeing.sum() < LEAST_POINTS or not _is_spread(first, second, matches[agreeing]):
        return None
    affine = _fit(source[agreeing], target[agreeing])
    return Geometry(int(agreeing.sum()), _in_fractions(affine, second.size, first.size), matches[agreeing])


def _agreeing(source: Points, target: Points) -> NDArray[np.bool_]:
    """Return which points agree with the best plausible map: of sampled ones, then fitted to those that agree."""
    import numpy as np

    samples = np.random.default_rng(0).integers(0, len(source), (_SAMPLES, 3))
    samples = samples[(samples[:, 0] != samples[:, 1]) & (samples[:, 1] != samples[:, 2])]
    samples = samples[samples[:, 0] != samples[:, 2]]
    system = np.concatenate([source[samples], np.ones((len(samples), 3, 1))], axis=2)
    sound = np.abs(np.linalg.det(system)) > 50  # twice the area of the triangle, in square pixels
    affines = np.linalg.solve(system[sound], target[samples[sound]]).transpose(0, 2, 1)
    affines = affines[_plausible(affines)]
    best = np.zeros(len(source), bool)
    if not len(affines):
        return best
    laid = np.einsum("mij,nj->mni", affines[:, :, :2], source) + affines[:, None, :, 2]
    close = ((laid - target) ** 2).sum(axis=2) < _TOLERANCE**2
    best = close[close.sum(axis=1).argmax()]
    for _ in range(_ROUNDS):
        affine = _fit(source[best], target[best])
        if best.sum() < 3 or not _plausible(affine[None])[0]:
            break
        best = ((source @ affine[:, :2].T + affine[:, 2] - target) ** 2).sum(axis=1) < _TOLERANCE**2
    agreeing: NDArray[np.bool_] = best
    return agreeing


def _plausible(affines: Points) -> NDArray[np.bool_]:
    """Return which maps, (n, 2, 3), neither mirror nor stretch nor scale an image too much."""
    import numpy as np

    a, b, c, d = (affines[:, row, column] for row in (0, 1) for column in (0, 1))
    area, norm = a * d - b * c, a * a + b * b + c * c + d * d
    root = np.sqrt(np.maximum(norm * norm - 4 * area * area, 0))
    longest, shortest = np.sqrt((norm + root) / 2), np.sqrt(np.maximum((norm - root) / 2, 1e-12))
    plausible: NDArray[np.bool_] = (
        (area > 0) & (longest < _STRETCH * shortest) & (longest < _SCALE) & (shortest > 1 / _SCALE)
    )
    return plausible


def _fit(source: Points, target: Points) -> Points:
    """Return the affine map, (2, 3), that lays `source` on `target` with the least squares."""
    import numpy as np

    columns = np.concatenate([source, np.ones((len(source), 1))], axis=1)
    found: Points = np.linalg.lstsq(columns, target, rcond=None)[0].T
    return found


def _once(points: Points, chosen: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which of the chosen points are the first at their pixel: SIFT describes one place in several ways."""
    import numpy as np

    kept = np.zeros(len(points), bool)
    indices = np.flatnonzero(chosen)
    _, first = np.unique(np.rint(points[indices] / 2), axis=0, return_index=True)
    kept[indices[first]] = True
    return kept


def _is_spread(first: LocalFeatures, second: LocalFeatures, matches: NDArray[np.int64]) -> bool:
    """Return whether points agree in several cells of the image in which they are closer together."""
    import numpy as np

    counts = [
        len(np.unique(np.floor(one.points[matches[:, side]] * _GRID), axis=0))
        for side, one in enumerate((first, second))
    ]
    return bool(max(counts) >= _LEAST_CELLS)


def _in_fractions(affine: Points, source: tuple[int, int], target: tuple[int, int]) -> UnitMap:
    import numpy as np

    sides = np.array([*source, 1.0])
    rows = affine * sides[None] / np.array(target, np.float64)[:, None]
    a, b, c, d, e, f = rows.ravel().tolist()
    return a, b, c, d, e, f


# ---- pixels ----


def compare_pixels(first: Thumbnail, second: Thumbnail, transform: UnitMap) -> Agreement | None:
    """Compare two thumbnails, (SIDE, SIDE), where `transform` lays the second over the first; None if hardly anywhere.

    Both are drawn at the coarser resolution of the two, over the part of the first image that the second covers.
    """
    import cv2
    import numpy as np

    one, other, inside = _laid_over(first, second, transform)
    window = (_WINDOW, _WINDOW)
    weight = cv2.blur(inside, window)
    known = weight > 0.99
    mean, other_mean = cv2.blur(one, window), cv2.blur(other, window)
    variance = np.maximum(cv2.blur(one * one, window) - mean**2, 0)
    other_variance = np.maximum(cv2.blur(other * other, window) - other_mean**2, 0)
    structured = known & (np.maximum(variance, other_variance) > _STRUCTURE**2)
    if structured.sum() < _LEAST_OVERLAP**2 / 4:
        return None
    shared = cv2.blur(one * other, window) - mean * other_mean
    correlation = (shared / (np.sqrt(variance * other_variance) + _STRUCTURE))[structured]
    return Agreement(float(correlation.mean()), float((correlation > _AGREES).mean()), float(inside.mean()))


def _laid_over(
    first: Thumbnail, second: Thumbnail, transform: UnitMap
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.float32]]:
    """Return both images on one canvas that shows what both show, and where the second is, each (_CANVAS, _CANVAS)."""
    import cv2
    import numpy as np

    a, b, c, d, e, f = transform
    corners = np.array([(c, f), (a + c, d + f), (b + c, e + f), (a + b + c, d + e + f)])
    low, high = np.clip(corners.min(axis=0), 0, 1), np.clip(corners.max(axis=0), 0, 1)
    part = np.maximum(high - low, 1e-3)
    side = len(first)
    canvas = np.array([[side * part[0] / _CANVAS, 0, side * low[0]], [0, side * part[1] / _CANVAS, side * low[1]]])
    there = np.array([[a, b, c], [d, e, f], [0, 0, 1]])
    there[:2] = np.diag([side, side]) @ there[:2]
    there = there @ np.diag([1 / side, 1 / side, 1])
    back = np.linalg.inv(there) @ np.vstack([canvas, [0, 0, 1]])
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    scale = float(np.sqrt(abs(np.linalg.det(back[:2, :2]) / max(np.linalg.det(canvas[:, :2]), 1e-9))))
    sharp = cv2.warpAffine(_softened(first, 1 / scale), canvas, (_CANVAS, _CANVAS), flags=flags)
    other = cv2.warpAffine(_softened(second, scale), back[:2], (_CANVAS, _CANVAS), flags=flags)
    inside = cv2.warpAffine(np.ones_like(second, np.float32), back[:2], (_CANVAS, _CANVAS), flags=flags)
    return sharp, other, inside


def _softened(image: Thumbnail, scale: float) -> NDArray[np.float32]:
    """Blur an image that is `scale` times finer than the one it is compared with, and a little in any case."""
    import cv2
    import numpy as np

    sigma = max(1.0, 0.7 * scale)
    soft: NDArray[np.float32] = cv2.GaussianBlur(image.astype(np.float32), (0, 0), sigma)
    return soft


def verdict_of(points: int, pixels: Agreement | None) -> Verdict | None:
    """Return what an agreeing geometry says about two images; None if nothing."""
    if pixels is None or points < LEAST_POINTS:
        return None
    if points >= SAME_POINTS and pixels.mean >= SAME_MEAN and pixels.agreeing >= SAME_AGREEING:
        return "same"
    if points >= SCENE_POINTS and pixels.agreeing >= SCENE_AGREEING:
        return "scene"
    if points >= CLOSE_SCENE_POINTS and pixels.agreeing >= CLOSE_SCENE_AGREEING:
        return "scene"
    return "weak" if pixels.agreeing >= CLOSE_SCENE_AGREEING else None
