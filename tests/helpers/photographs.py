"""Drawn images with as many corners as a photograph, and what is done to photographs."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Gray = NDArray[np.uint8]


def photograph(seed: int, shape: tuple[int, int] = (300, 400)) -> Gray:
    """Return a gray image, (height, width), of random discs and polygons; another one for each seed."""
    rng = np.random.default_rng(seed)
    image = np.full((300, 400), 128, np.uint8)
    for _ in range(160):
        x, y, size = int(rng.integers(0, 400)), int(rng.integers(0, 300)), int(rng.integers(6, 40))
        tone = int(rng.integers(0, 256))
        if rng.random() < 0.5:
            cv2.circle(image, (x, y), size // 2, tone, -1)
        else:
            corners = rng.integers(-size, size, (4, 2)) + np.array([x, y])
            cv2.fillPoly(image, [corners.astype(np.int32)], tone)
    shown: Gray = cv2.resize(cv2.GaussianBlur(image, (3, 3), 0), shape[::-1], interpolation=cv2.INTER_LINEAR)
    return shown


def turned(image: Gray, degrees: float) -> Gray:
    """Return an image rotated about its center, black outside."""
    height, width = image.shape
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
    found: Gray = cv2.warpAffine(image, matrix, (width, height))
    return found


def captioned(image: Gray) -> Gray:
    """Return an image under a bar and a mark that many unrelated ones have."""
    made = image.copy()
    height, width = made.shape
    made[-height // 8 :] = 20
    cv2.putText(made, "stock images 1234567890 AWXKZ", (8, height - 10), 0, 0.7, 240, 2)
    cv2.putText(made, "SAMPLE", (width // 3, height // 2), 0, 1.2, 255, 2)
    return made
