"""One face as the edits need it: its pixels, and estimates of its skin, lighting, grain and sharpness. Edits nothing.

An edit is planned on a grid (40 to 60 samples across a face) whatever the face's size, so that its cost is nearly
constant and small faces get smooth, oversampled shapes. It is then enlarged or reduced to the pixels.
Face coordinates: `u` to the right and `v` down, 0 in the middle of the box and 1 at its right and lower edge.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any

from facemask_train.core.types import Box

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    ImageArray = NDArray[np.uint8]
    Field = NDArray[np.floating[Any]]

GRID = (40, 60)
"""The least and the most samples across a face's width; a finger is 5 to 7 of them."""

WINDOW = 128
"""Pixels; grain and sharpness are measured in a window of at most this side, in the middle of the face."""

TILE = 80
"""Pixels; synthetic grain repeats after this many, which is invisible and faster than generating all of it."""

BROWS, MOUTH = -0.55, 0.46
"""The positions of brows and mouth on the `v` axis, as measured on upright labeled faces."""

MIN_FLESH = 0.35
"""The smallest share of the lower face that must look like skin for an edit that follows its outline."""

Window = tuple[slice, slice]
"""The rows and the columns of a part of a face's pixels."""

Margins = tuple[float, float, float]
"""How far an edit may extend beyond the box: on either side, above, below, in widths and heights of the box."""


@dataclass(frozen=True)
class Face:
    """A face and what is around it.

    `pixels` (height, width, 3; RGB) is the image from row `top` and column `left` on; `x`, `y` are the middle of the
    box in these pixels and `half_width`, `half_height` half its sides. `masked`: it wears a mask.
    """

    pixels: ImageArray
    left: int
    top: int
    x: float
    y: float
    half_width: float
    half_height: float
    masked: bool

    @property
    def fineness(self) -> float:
        """The samples of the grid across the face."""
        return min(float(GRID[1]), max(float(GRID[0]), 2 * self.half_width))

    @cached_property
    def small(self) -> Field:
        """The pixels on the grid (rows, columns, 3; RGB from 0 to 255)."""
        import cv2
        import numpy as np

        height, width = self.pixels.shape[:2]
        scale = self.fineness / (2 * self.half_width)
        size = max(4, round(width * scale)), max(4, round(height * scale))
        found = cv2.resize(self.pixels, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
        result: Field = found.astype(np.float32)
        return result

    @cached_property
    def u(self) -> Field:
        """The `u` of each column of the grid (1, columns)."""
        import numpy as np

        columns = self.small.shape[1]
        pixels = (np.arange(columns, dtype=np.float32) + 0.5) * (self.pixels.shape[1] / columns)
        found: Field = ((pixels - self.x) / self.half_width)[None, :].astype(np.float32)
        return found

    @cached_property
    def v(self) -> Field:
        """The `v` of each row of the grid (rows, 1)."""
        import numpy as np

        rows = self.small.shape[0]
        pixels = (np.arange(rows, dtype=np.float32) + 0.5) * (self.pixels.shape[0] / rows)
        found: Field = ((pixels - self.y) / self.half_height)[:, None].astype(np.float32)
        return found

    @property
    def aspect(self) -> float:
        """The ratio of the height of the box to its width."""
        return self.half_height / self.half_width

    @cached_property
    def about(self) -> Window:
        """The rows and columns of the grid that contain the box and a small margin, for measurements."""
        rows, columns = _between(self.v[:, 0], -1.3, 1.3).nonzero()[0], _between(self.u[0], -1.3, 1.3).nonzero()[0]
        return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)

    @cached_property
    def lab(self) -> Field:
        """The grid in CIE Lab; computed only around the face."""
        import numpy as np

        found = np.zeros_like(self.small)
        found[self.about] = to_lab(self.small[self.about])
        return found

    @cached_property
    def skin(self) -> Field:
        """The skin's Lab (3,): the median of the brighter part of the brow, nose and upper cheeks.

        Hair, brows, eyes and glasses are darker than the skin around them; highlights are brighter.
        """
        import numpy as np

        low = -0.1 if self.masked else 0.2
        part = self.lab[_between(self.v[:, 0], -0.7, low)][:, _between(self.u[0], -0.5, 0.5)].reshape(-1, 3)
        bottom, top = np.quantile(part[:, 0], (0.4, 0.9))
        chosen = part[(part[:, 0] >= bottom) & (part[:, 0] <= top)]
        found: Field = np.median(chosen, axis=0).astype(np.float32)
        return found

    @cached_property
    def light(self) -> Field:
        """The color of a white object in this light (3,), from 0 to 1 per channel."""
        import numpy as np

        brightest = np.quantile(self.small[::2, ::2].reshape(-1, 3), 0.96, axis=0) / 255
        found: Field = np.clip(0.6 * brightest + 0.4 * brightest.mean(), 0.25, 1.0).astype(np.float32)
        return found

    @cached_property
    def slope(self) -> float:
        """The direction of the light: from -1 (from the left) to 1 (from the right)."""
        import numpy as np

        rows, columns = _between(self.v[:, 0], -0.6, 0.1), _between(self.u[0], -0.6, 0.6)
        along = self.u[0][columns]
        level = np.median(self.lab[rows][:, columns, 0], axis=0)
        fitted = float((level * along).mean() / (along**2).mean()) if along.size else 0.0
        return max(-1.0, min(1.0, fitted / 25))

    @cached_property
    def gray(self) -> bool:
        """Whether the image has no colors here."""
        import numpy as np

        return float(np.quantile(np.abs(self.lab[self.about][..., 1:]), 0.98)) < 2.5

    @cached_property
    def window(self) -> Field:
        """The luminance of the middle of the face, in the image's pixels (at most `WINDOW` per side)."""
        import cv2
        import numpy as np

        reach_x, reach_y = min(self.half_width, WINDOW / 2), min(self.half_height, WINDOW / 2)
        rows = slice(max(0, int(self.y - reach_y)), int(self.y + reach_y) + 1)
        columns = slice(max(0, int(self.x - reach_x)), int(self.x + reach_x) + 1)
        found: Field = cv2.cvtColor(self.pixels[rows, columns], cv2.COLOR_RGB2GRAY).astype(np.float32)
        return found

    @cached_property
    def grain(self) -> float:
        """The standard deviation of the image's noise, in levels (by an operator that ignores gradients)."""
        import cv2
        import numpy as np

        kernel = np.array([[1, -2, 1], [-2, 4, -2], [1, -2, 1]], np.float32)
        measured = float(np.median(np.abs(cv2.filter2D(self.window, -1, kernel)))) / (0.6745 * 6)
        return min(12.0, measured, 1.5 + 0.08 * self.half_width)  # half the detail of a small face would count as grain

    @cached_property
    def softness(self) -> float:
        """The blur of the sharpest edges in the face, as a Gaussian's standard deviation in pixels."""
        import cv2
        import numpy as np

        slope = cv2.magnitude(cv2.Sobel(self.window, -1, 1, 0) / 8, cv2.Sobel(self.window, -1, 0, 1) / 8)
        reach = max(3, round(0.1 * self.half_width) * 2 + 1)
        kernel = np.ones((reach, reach), np.uint8)
        height = cv2.dilate(self.window, kernel) - cv2.erode(self.window, kernel)
        sharp = slope >= np.quantile(slope, 0.97)
        sigma = float(np.median(height[sharp] / np.maximum(slope[sharp], 0.5))) / math.sqrt(2 * math.pi)
        return min(max(0.45, sigma * 0.8), 0.45 + 0.07 * self.half_width)

    @cached_property
    def skinlike(self) -> NDArray[np.uint8]:
        """1 where the color is similar to that of the skin, around the face (rows and columns of `about`)."""
        import numpy as np

        rows, columns = self.about
        away = (self.lab[self.about] - self.skin) * (1 / np.array([26, 9, 11], np.float32))
        inside = self.u[:, columns] ** 2 + self.v[rows] ** 2 < 1.3
        found: NDArray[np.uint8] = ((np.einsum("ijk,ijk->ij", away, away) < 4.0) & inside).astype(np.uint8)
        return found

    @cached_property
    def flesh(self) -> Field:
        """The confidence that each grid point is skin of the face, or enclosed by it: 0 to 1 (rows, columns).

        Points with a color similar to that of the skin, and what they enclose (eyes, lips, nostrils).
        """
        import cv2
        import numpy as np

        across = round(0.26 * self.fineness)
        mask = cv2.morphologyEx(self.skinlike, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
        mask = cv2.morphologyEx(mask, cv2.MORPH_CLOSE, cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (across, across)))
        found: Field = np.zeros(self.small.shape[:2], np.float32)
        found[self.about] = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 1.4)
        return found

    @cached_property
    def brows(self) -> float:
        """Where the brows, or the eyes, begin on the `v` axis; `BROWS` if they cannot be found.

        Their rows have skin in the middle, over the nose, and none on either side of it.
        """
        import numpy as np

        rows, columns = self.about
        across, down = self.u[0, columns] - self.turned, self.v[rows, 0]
        sides = (self.skinlike[:, _between(across, low, low + 0.4)] for low in (-0.6, 0.2))
        left, right = (side.mean(axis=1) if side.size else np.ones(len(down)) for side in sides)
        bridge = self.skinlike[:, _between(across, -0.1, 0.1)].mean(axis=1)
        found = np.flatnonzero((left < 0.8) & (right < 0.8) & (bridge > 0.6) & _between(down, -0.85, -0.1))
        if not found.size:
            return BROWS
        lowest = found[np.append(True, np.diff(found) > 1)][-1]  # anything higher is hair parted in the middle
        return min(BROWS, float(down[lowest]) - 0.1)  # the eyes are detected more often than the brows above them

    @cached_property
    def turned(self) -> float:
        """Where the middle of the face is on the `u` axis: not 0 if it looks to the side."""
        weights = self.flesh[_between(self.v[:, 0], -0.6, 0.3)].sum(axis=0)
        total = float(weights.sum())
        return max(-0.35, min(0.35, float((weights * self.u[0]).sum()) / total)) if total > 0 else 0.0

    @cached_property
    def bare_below(self) -> float:
        """The share of the lower face that looks like skin, 0 to 1: low in a profile, or if it is covered."""
        lower = self.v[:, 0] > 0.1
        return float(self.flesh[lower][self.u**2 + self.v[lower] ** 2 < 0.8].mean()) if lower.any() else 0.0

    def color(self, red: float, green: float, blue: float) -> Field:
        """Return the appearance of an object of this color in the light of this image (3,)."""
        import numpy as np

        seen = np.array([red, green, blue], np.float32) * self.light
        return np.full(3, seen @ np.array([0.3, 0.59, 0.11]), np.float32) if self.gray else seen

    def enlarge(self, field: Field | ImageArray, window: Window | None = None) -> Any:
        """Return a field of the grid (of either type), resized to the pixels or to a window of them."""
        import cv2
        import numpy as np

        height, width = self.pixels.shape[:2]
        fine = width / field.shape[1], height / field.shape[0]
        if fine[0] < 1:
            whole = cv2.resize(field, (width, height), interpolation=cv2.INTER_AREA)
            return whole if window is None else whole[window]
        rows, columns = window or (slice(0, height), slice(0, width))
        across, down = 1 / fine[0], 1 / fine[1]
        shift_x, shift_y = (columns.start + 0.5) * across - 0.5, (rows.start + 0.5) * down - 0.5
        place = np.array([[across, 0, shift_x], [0, down, shift_y]], np.float32)
        size = columns.stop - columns.start, rows.stop - rows.start
        flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
        return cv2.warpAffine(field, place, size, flags=flags, borderMode=cv2.BORDER_REPLICATE)

    def window_of(self, chosen: NDArray[np.bool_]) -> Window | None:
        """Return the rows and columns of the pixels that contain the chosen grid points, or None if there are none."""
        import numpy as np

        sides = []
        for axis, size in ((1, self.pixels.shape[0]), (0, self.pixels.shape[1])):
            places = np.flatnonzero(chosen.any(axis=axis))
            if not places.size:
                return None
            fine = size / chosen.shape[1 - axis]
            sides.append(slice(max(0, int((places[0] - 1) * fine)), min(size, math.ceil((places[-1] + 2) * fine))))
        return sides[0], sides[1]

    def painted(self, window: Window, pixels: Field | ImageArray) -> ImageArray:
        """Return the face's pixels with a window of them replaced, rounded."""
        found = self.pixels.copy()
        found[window] = rounded(pixels)
        return found

    def noise(self, rng: Random, height: int, width: int) -> NDArray[np.int16]:
        """Return grain like that of the image (height, width, 3), in levels; it repeats after `TILE` pixels."""
        import numpy as np

        drawn = np.random.default_rng(rng.getrandbits(64))
        rows, columns = min(height, TILE), min(width, TILE)
        gray = drawn.standard_normal((rows, columns, 1), np.float32)  # most camera noise is colorless
        colored = drawn.standard_normal((rows, columns, 3), np.float32)
        tile = np.rint((0.9 * gray + 0.45 * colored) * self.grain).astype(np.int16)
        return np.tile(tile, (-(-height // TILE), -(-width // TILE), 1))[:height, :width]


def _between(values: Field, low: float, high: float) -> NDArray[np.bool_]:
    return (values >= low) & (values <= high)


def crop_face(image: ImageArray, box: Box, margins: Margins, *, masked: bool) -> Face:
    """Return a face with its surroundings, as a view of the image (height, width, 3; RGB)."""
    aside, above, below = margins
    height, width = image.shape[:2]
    left, right = max(0, int(box.x_min - aside * box.width)), min(width, math.ceil(box.x_max + aside * box.width))
    top, bottom = max(0, int(box.y_min - above * box.height)), min(height, math.ceil(box.y_max + below * box.height))
    return Face(
        image[top:bottom, left:right],
        left,
        top,
        (box.x_min + box.x_max) / 2 - left,
        (box.y_min + box.y_max) / 2 - top,
        box.width / 2,
        box.height / 2,
        masked,
    )


def to_lab(rgb: Field) -> Field:
    """Return CIE Lab (lightness 0 to 100) of RGB from 0 to 255 (..., 3)."""
    import cv2

    found: Field = cv2.cvtColor(rgb * (1 / 255), cv2.COLOR_RGB2LAB)
    return found


def to_rgb(lab: Field) -> Field:
    """Return RGB from 0 to 255 of CIE Lab (..., 3)."""
    import cv2

    found: Field = cv2.cvtColor(lab, cv2.COLOR_LAB2RGB) * 255
    return found


def rounded(pixels: Field | ImageArray) -> ImageArray:
    """Return levels as whole numbers from 0 to 255."""
    import cv2

    found: ImageArray = cv2.addWeighted(pixels, 1, pixels, 0, 0, dtype=cv2.CV_8U)
    return found


def step(distance: Field, soft: float) -> Field:
    """Return 0 to 1 across an edge at 0 that is `soft` wide (in the units of `distance`)."""
    import numpy as np

    part = np.clip(distance / soft + 0.5, 0, 1)
    found: Field = part * part * (3 - 2 * part)
    return found
