"""Changes of a photograph for bench/split_leaks.py: kinds and strengths, exporters' versions, overlays."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import cv2
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from helpers.copies import encoded, rescaled

ImageArray = np.ndarray
"""(height, width, 3), RGB."""


def resized(image: ImageArray, longest: int = 480) -> ImageArray:
    return rescaled(image, longest / max(image.shape[:2]))


def crop(image: ImageArray, *, strength: float, rng: Random, **_: Any) -> ImageArray:
    """Keep a share of the area, at another aspect ratio, anywhere."""
    height, width = image.shape[:2]
    ratio = rng.uniform(0.85, 1.15)
    across = min(1.0, strength**0.5 * ratio)
    down = min(1.0, strength / across)
    left, top = rng.uniform(0, 1 - across), rng.uniform(0, 1 - down)
    rows, columns = (
        (round(top * height), round((top + down) * height)),
        (round(left * width), round((left + across) * width)),
    )
    return np.ascontiguousarray(image[slice(*rows), slice(*columns)])


def rotate(image: ImageArray, *, strength: float, rng: Random, **_: Any) -> ImageArray:
    height, width = image.shape[:2]
    matrix = cv2.getRotationMatrix2D((width / 2, height / 2), rng.choice((-1, 1)) * strength, 1)
    return cv2.warpAffine(image, matrix, (width, height), flags=cv2.INTER_LINEAR)


def stretch(image: ImageArray, *, strength: float, rng: Random, **_: Any) -> ImageArray:
    across, down = (strength, 1.0) if rng.random() < 0.5 else (1.0, strength)
    return cv2.resize(image, None, fx=across, fy=down, interpolation=cv2.INTER_LINEAR)


def flip(image: ImageArray, **_: Any) -> ImageArray:
    return np.ascontiguousarray(image[:, ::-1])


def frame(image: ImageArray, *, strength: float, rng: Random, **_: Any) -> ImageArray:
    edge = round(strength * min(image.shape[:2]))
    color = [rng.randrange(256) for _ in range(3)]
    return cv2.copyMakeBorder(image, edge, edge, edge, edge, cv2.BORDER_CONSTANT, value=color)


def caption(image: ImageArray, *, strength: float, rng: Random, **_: Any) -> ImageArray:
    height, width = image.shape[:2]
    bar = np.full((max(12, round(strength * height)), width, 3), 255, np.uint8)
    text = "".join(rng.choice("ABCDEFGH IJKLMNOP") for _ in range(24))
    cv2.putText(bar, text, (4, bar.shape[0] // 2 + 6), cv2.FONT_HERSHEY_SIMPLEX, width / 480, (0, 0, 0), 2)
    return np.concatenate([image, bar])


def collage(image: ImageArray, *, strength: int, rng: Random, fillers: Sequence[ImageArray], **_: Any) -> ImageArray:
    """Put an image among others: `strength` panels, two in each row."""
    panels = [cv2.resize(one, (320, 240)) for one in (image, *rng.sample(fillers, strength - 1))]
    rng.shuffle(panels)
    return np.concatenate([np.concatenate(panels[start : start + 2], axis=1) for start in range(0, strength, 2)])


def watermark(image: ImageArray, *, strength: float, **_: Any) -> ImageArray:
    ink = image.copy()
    height, width = image.shape[:2]
    for y in range(30, height + 60, 90):
        for x in range(-(y % 180) // 2, width, 220):
            cv2.putText(ink, "stockphoto.com", (x, y), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 2, cv2.LINE_AA)
    return cv2.addWeighted(ink, strength, image, 1 - strength, 0)


def gray(image: ImageArray, **_: Any) -> ImageArray:
    return cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)


def gamma(image: ImageArray, *, strength: float, **_: Any) -> ImageArray:
    return cv2.LUT(image, (255 * (np.arange(256) / 255) ** strength).astype(np.uint8))


def blur(image: ImageArray, *, strength: float, **_: Any) -> ImageArray:
    return cv2.GaussianBlur(image, (0, 0), strength * max(image.shape[:2]) / 400)


def noise(image: ImageArray, *, strength: float, rng: Random, **_: Any) -> ImageArray:
    drawn = np.random.default_rng(rng.randrange(1 << 30)).normal(0, strength, image.shape)
    return np.clip(image + drawn, 0, 255).astype(np.uint8)


def jpeg(image: ImageArray, *, strength: int, **_: Any) -> ImageArray:
    return cv2.imdecode(np.frombuffer(encoded(image, strength), np.uint8), cv2.IMREAD_COLOR)[..., ::-1].copy()


def small(image: ImageArray, *, strength: int, **_: Any) -> ImageArray:
    return rescaled(image, strength / max(image.shape[:2]))


CHANGES: dict[str, Callable[..., ImageArray]] = {
    one.__name__: one
    for one in (crop, rotate, stretch, flip, frame, caption, collage, watermark, gray, gamma, blur, noise, jpeg, small)
}
STRENGTHS: dict[str, tuple[Any, ...]] = {
    "crop": (0.9, 0.7, 0.5, 0.3),
    "rotate": (1, 5, 15, 30, 45),
    "stretch": (1.1, 1.25, 1.5),
    "flip": (1,),
    "frame": (0.05, 0.1, 0.2),
    "caption": (0.1, 0.2, 0.3),
    "collage": (2, 4, 6),
    "watermark": (0.3, 0.5, 0.7),
    "gray": (1,),
    "gamma": (0.5, 1.6, 2.2),
    "blur": (1, 2, 3),
    "noise": (8, 16, 32),
    "jpeg": (40, 20, 10),
    "small": (240, 160, 120),
}
"""The strengths of each kind; the middle one is used in pairs."""


def changed_twice(image: ImageArray, *, kinds: tuple[str, str], **others: Any) -> ImageArray:
    for kind in kinds:
        strengths = STRENGTHS[kind]
        image = CHANGES[kind](image, strength=strengths[len(strengths) // 2], **others)
    return image


def exported(image: ImageArray, rng: np.random.Generator) -> ImageArray:
    """Return a version as an exporter augments it: mirrored or not, rotated, cropped, lit, stretched to a square."""
    chance = Random(int(rng.integers(1 << 30)))
    image = flip(image) if chance.random() < 0.5 else image
    image = rotate(image, strength=chance.uniform(0, 15), rng=chance)
    image = crop(image, strength=chance.uniform(0.7, 1), rng=chance)
    return gamma(cv2.resize(image, (416, 416)), strength=chance.uniform(0.7, 1.4))


def one_watermark(image: ImageArray) -> ImageArray:
    return watermark(image, strength=0.6)


def one_app_frame(image: ImageArray) -> ImageArray:
    """Return a screenshot of an app that shows an image: the same bars, buttons and texts around each."""
    sheet = np.full((image.shape[0] + 150, image.shape[1] + 40, 3), 245, np.uint8)
    sheet[60 : 60 + image.shape[0], 20 : 20 + image.shape[1]] = image
    for number in range(8):
        cv2.circle(sheet, (30 + 50 * number, sheet.shape[0] - 45), 16, (40, 90 + 15 * number, 200), 3)
        cv2.putText(sheet, "LQ#R@K8W"[number], (22 + 50 * number, 40), cv2.FONT_HERSHEY_SIMPLEX, 1, (20, 20, 20), 3)
    cv2.putText(
        sheet, "Like  Share  Reply 12:45", (20, sheet.shape[0] - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.7, (0, 0, 0), 2
    )
    return sheet
