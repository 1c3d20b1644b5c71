"""Are two images that have like hashes the same image? A second measure, of another kind than the hash.

The thumbnails are laid over each other (a crop of up to a few percent a side shifts and stretches one against the
other), then compared window by window: a copy is alike everywhere, two moments of one scene are not where somebody
moved. Knows no hash, no file and no label.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Grey = NDArray[np.float32]
    """(side, side) in grey levels, 0 to 255."""

_BLUR = 1.5  # pixels (standard deviation): takes away what a rescaling to a quarter takes away
_WINDOW = 7  # pixels a side of the windows that are compared: a twelfth of the image
_FLAT = 8.0  # grey levels: structure weaker than this is noise, and counts as alike
_RIM = 3  # pixels that smoothing spoils at an edge
_ROUNDS = 4  # of the alignment; a crop of 5 % a side is found in three
_FARTHEST = 0.12  # shift or stretch that the alignment may find, as a share of the side
_TEXTURED = 0.08  # share of the windows that need structure before likeness means anything


@dataclass(frozen=True, slots=True)
class Likeness:
    """How alike two images are, from -1 to 1: at the `worst` window and on the `mean`."""

    worst: float
    mean: float


def has_structure(thumbnail: NDArray[np.uint8]) -> bool:
    """Say if a thumbnail, (side, side), has enough structure for likeness to mean anything."""
    return _texture(_smooth(thumbnail)) >= _TEXTURED


def likeness(first: NDArray[np.uint8], second: NDArray[np.uint8]) -> Likeness:
    """Compare two thumbnails, (side, side), that are in the same orientation and have structure."""
    one, other = _smooth(first), _smooth(second)
    found = _compare(one, other)
    return found if found.worst > 0.9 else max(found, _compare(one, _laid_over(one, other)), key=_mean)


def _mean(found: Likeness) -> float:
    return found.mean


def _smooth(thumbnail: NDArray[np.uint8]) -> Grey:
    import cv2
    import numpy as np

    smooth: Grey = cv2.GaussianBlur(thumbnail.astype(np.float32), (0, 0), _BLUR)
    return smooth


def _blurred(values: Grey) -> Grey:
    import cv2

    mean: Grey = cv2.blur(values, (_WINDOW, _WINDOW))
    return mean


def _texture(image: Grey) -> float:
    """Return the share of an image's windows that have structure."""
    mean = _blurred(image)
    return float(((_blurred(image * image) - mean * mean) > _FLAT**2).mean())


def _compare(one: Grey, other: Grey) -> Likeness:
    """Correlate two images window by window; one that is flat in both is alike."""
    import numpy as np

    mean, its_mean = _blurred(one), _blurred(other)
    variance = _blurred(one * one) - mean * mean
    its_variance = _blurred(other * other) - its_mean * its_mean
    shared = _blurred(one * other) - mean * its_mean
    flat = _FLAT**2
    alike = (shared + flat) / (np.sqrt(np.maximum(variance, 0) * np.maximum(its_variance, 0)) + flat)
    return Likeness(float(alike.min()), float(alike.mean()))


def _laid_over(one: Grey, other: Grey) -> Grey:
    """Return `other` moved and stretched along both axes so that it fits `one`; what it lacks at an edge is `one`'s.

    Gauss-Newton on (stretch, shift) of each axis, with a gain and an offset for the light, on every second pixel.
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
        moved = np.clip(moved + np.clip(np.array(step) / max(gain, 0.2), -0.04, 0.04), -_FARTHEST, _FARTHEST)
    known = np.zeros_like(other)
    known[_RIM:-_RIM, _RIM:-_RIM] = 1  # the rim was smoothed without what a crop took away
    inside = _warped(known, moved, outside=0.0)
    return np.where(inside > 0.99, _warped(other, moved), one)


def _warped(image: Grey, moved: NDArray[Any], *, outside: float | None = None) -> Grey:
    """Return an image stretched about its middle by 1 + `moved[0]` and shifted by `moved[1]` sides; then in y."""
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
    warped: Grey = cv2.warpAffine(
        image, matrix, (side, side), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP, borderMode=border
    )
    return warped
