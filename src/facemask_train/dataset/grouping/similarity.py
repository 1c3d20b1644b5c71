"""Measures how similar two thumbnails are, to tell duplicates from two shots of one scene.

The thumbnails are aligned (a crop of up to a few percent per side shifts and stretches one against the other), then
compared window by window. A duplicate is similar in every window; two shots of one scene differ where something
moved. Does not use hashes, files or labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Gray = NDArray[np.float32]
    """(side, side) gray levels from 0 to 255."""

_BLUR = 1.5  # pixels (standard deviation): removes the detail that rescaling to a quarter removes
_WINDOW = 7  # pixels per side of a window: a twelfth of the image
_FLAT = 8.0  # gray levels: weaker structure is noise and counts as similar
_RIM = 3  # pixels at the edge that smoothing distorts
_ROUNDS = 4  # of the alignment; a crop of 5 % per side is found in three
_MAX_MOVE = 0.12  # largest shift or stretch that the alignment may find, as a share of the side
_TEXTURED = 0.08  # share of the windows that must have structure for the similarity to mean anything


@dataclass(frozen=True, slots=True)
class Similarity:
    """The correlation of two images, from -1 to 1: of their least similar window, and the mean of all windows."""

    worst: float
    mean: float


def has_structure(thumbnail: NDArray[np.uint8]) -> bool:
    """Return whether a thumbnail, (side, side), has enough structure for its similarity to mean anything."""
    return _texture(_smooth(thumbnail)) >= _TEXTURED


def measure_similarity(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Similarity:
    """Return the similarity of two thumbnails, (side, side), in the same orientation, before or after alignment."""
    one, other = _smooth(first), _smooth(second)
    found = _compare(one, other)
    return found if found.worst > 0.9 else max(found, _compare(one, _aligned(one, other)), key=_mean)


def _mean(found: Similarity) -> float:
    return found.mean


def _smooth(thumbnail: NDArray[np.uint8]) -> Gray:
    import cv2
    import numpy as np

    smooth: Gray = cv2.GaussianBlur(thumbnail.astype(np.float32), (0, 0), _BLUR)
    return smooth


def _blurred(values: Gray) -> Gray:
    import cv2

    mean: Gray = cv2.blur(values, (_WINDOW, _WINDOW))
    return mean


def _texture(image: Gray) -> float:
    """Return the share of an image's windows that have structure."""
    mean = _blurred(image)
    return float(((_blurred(image * image) - mean * mean) > _FLAT**2).mean())


def _compare(one: Gray, other: Gray) -> Similarity:
    """Correlate two images window by window; a window without structure in both counts as similar."""
    import numpy as np

    mean, other_mean = _blurred(one), _blurred(other)
    variance = _blurred(one * one) - mean * mean
    other_variance = _blurred(other * other) - other_mean * other_mean
    shared = _blurred(one * other) - mean * other_mean
    flat = _FLAT**2
    correlation = (shared + flat) / (np.sqrt(np.maximum(variance, 0) * np.maximum(other_variance, 0)) + flat)
    return Similarity(float(correlation.min()), float(correlation.mean()))


def _aligned(one: Gray, other: Gray) -> Gray:
    """Return `other` shifted and stretched along both axes to fit `one`; pixels missing at an edge come from `one`.

    Gauss-Newton on (stretch, shift) of each axis, with a gain and an offset for brightness, on every second pixel.
    """
    import numpy as np

    side = one.shape[0]
    along = ((np.arange(side, dtype=np.float32) - (side - 1) / 2) / side)[1:-1:2]
    x, y = np.meshgrid(along, along)
    target = one[1:-1:2, 1:-1:2].ravel()
    moved = np.array([0.0, 0.0, 0.0, 0.0])
    for _ in range(_ROUNDS):
        warped = _warped(other, moved)
        slope_x, slope_y = (
            (warped[1:-1:2, 2::2] - warped[1:-1:2, :-2:2]) / 2,
            (warped[2::2, 1:-1:2] - warped[:-2:2, 1:-1:2]) / 2,
        )
        here = warped[1:-1:2, 1:-1:2]
        columns = (slope_x * x * side, slope_x * side, slope_y * y * side, slope_y * side, here, np.ones_like(here))
        system = np.stack([column.ravel() for column in columns])
        *step, gain, _ = np.linalg.solve(system @ system.T + 1e-2 * np.eye(6), system @ target)
        moved = np.clip(moved + np.clip(np.array(step) / max(gain, 0.2), -0.04, 0.04), -_MAX_MOVE, _MAX_MOVE)
    known = np.zeros_like(other)
    known[_RIM:-_RIM, _RIM:-_RIM] = 1  # the rim was smoothed without the pixels that a crop removed
    inside = _warped(known, moved, outside=0.0)
    return np.where(inside > 0.99, _warped(other, moved), one)


def _warped(image: Gray, moved: NDArray[Any], *, outside: float | None = None) -> Gray:
    """Return an image stretched about its center by 1 + `moved[0]` and shifted by `moved[1]` sides; likewise in y."""
    import cv2
    import numpy as np

    side = image.shape[0]
    stretch_x, shift_x, stretch_y, shift_y = moved
    middle = (side - 1) / 2
    matrix = np.array(
        [
            [1 + stretch_x, 0, shift_x * side - middle * stretch_x],
            [0, 1 + stretch_y, shift_y * side - middle * stretch_y],
        ],
        np.float32,
    )
    border = cv2.BORDER_REPLICATE if outside is None else cv2.BORDER_CONSTANT
    warped: Gray = cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=border
    )
    return warped
