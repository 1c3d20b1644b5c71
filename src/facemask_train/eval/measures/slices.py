"""The same numbers on parts of a split: by source, face size, faces per image, brightness and sharpness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.drawing import open_upright
from facemask_train.core.types import Progress, no_progress
from facemask_train.eval.measures.metrics import Number, Sample, at_confidence, average_precisions

if TYPE_CHECKING:
    from facemask_train.core.types import Array

SIZES = (0, 16, 32, 64, 128, float("inf"))
"""Bounds of the face sizes: the square root of the box's area, in pixels of the image as it is."""

CROWDS = ((1, 1), (2, 3), (4, 7), (8, 10**9))
"""How many labelled faces an image has, from and to."""

RESAMPLES = 300
"""Fewer than for the headline, of the same images: an interval takes the resamples' spread, not their extremes."""

SHARPNESS_SIDE = 640
"""The longer side, in pixels, at which sharpness is measured, so that large images are not sharper by their size."""


@dataclass(frozen=True, slots=True)
class Traits:
    """What is known of an image beside its faces.

    `brightness` is its mean luma, 0 to 255; `sharpness` is the variance of its Laplacian, low in blurred images.
    """

    source: str
    brightness: float
    sharpness: float


@dataclass(frozen=True, slots=True)
class Slice:
    """One part: what it was cut by, its name, how many images and faces are in it, and its numbers.

    A slice by face size has no image without a face in it; a false box belongs to the slice of its own size.
    """

    by: str
    name: str
    images: int
    n: int
    map50: Number
    precision: Number
    recall: Number
    few: bool


def traits(folder: Path, sources: Mapping[str, str], progress: Progress = no_progress) -> dict[str, Traits]:
    """Measure images.

    Args:
        sources: by image (its path relative to `folder`), the name of its source.
    """
    found = {}
    for done, image in enumerate(sources):
        found[image] = Traits(sources[image], *_measured(folder / image))
        progress("measuring images", done + 1, len(sources))
    return found


def _measured(path: Path) -> tuple[float, float]:
    import cv2
    import numpy as np

    grey = np.asarray(open_upright(path).convert("L"))
    scale = SHARPNESS_SIDE / max(grey.shape)
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    even = cv2.resize(grey, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return round(float(grey.mean()), 3), round(float(cv2.Laplacian(even, cv2.CV_64F).var()), 3)


def slices(sample: Sample, images: Sequence[Traits], confidence: float) -> list[Slice]:
    """Return the numbers of every part that holds a face: mAP 0.5, and precision and recall above a confidence.

    Args:
        images: the traits of each image of the sample, in its order.
    """
    found = []
    for by, name, labels, detections in _parts(sample, images):
        if labels.any():
            found.append(_slice(sample, by, name, labels, detections, confidence))
    return found


def _parts(sample: Sample, images: Sequence[Traits]) -> Iterator[tuple[str, str, Array, Array]]:
    """Yield what each part is called, and which labels and detections (boolean arrays) are in it."""
    import numpy as np

    labels, found = sample.flat.labels, sample.flat.found

    def of(chosen: Array) -> tuple[Array, Array]:
        return chosen[labels.image], chosen[found.image]

    sources = np.array([one.source for one in images])
    for source in sorted(set(sources.tolist())):
        yield "source", source or "not known", *of(sources == source)
    size, own = np.sqrt(labels.area), np.sqrt(np.maximum(found.area, 0))
    for low, high in pairwise(SIZES):
        inside = (size >= low) & (size < high)
        answer = sample.answers[0]
        yield (
            "face size",
            _range(low, high, " px"),
            inside,
            np.where(answer >= 0, inside[answer] if len(inside) else False, (own >= low) & (own < high)),
        )
    faces = np.bincount(labels.image, minlength=sample.flat.images)
    for fewest, most in CROWDS:
        name = f"{fewest}" if fewest == most else f"{fewest} to {most}" if most < 10**9 else f"{fewest} or more"
        yield "faces in the image", name, *of((faces >= fewest) & (faces <= most))
    for by, values, names in (
        ("brightness", [one.brightness for one in images], ("dark", "middling", "bright")),
        ("sharpness", [one.sharpness for one in images], ("blurred", "middling", "sharp")),
    ):
        array = np.array(values)
        low, high = np.quantile(array, [1 / 3, 2 / 3]).tolist()
        for name, chosen, bounds in zip(
            names, (array < low, (array >= low) & (array < high), array >= high),
            (f"under {low:.0f}", f"{low:.0f} to {high:.0f}", f"{high:.0f} or more"), strict=True,
        ):  # fmt: skip
            yield by, f"{name} third ({bounds})", *of(chosen)


def _range(low: float, high: float, unit: str) -> str:
    if low == 0:
        return f"under {high:g}{unit}"
    return f"{low:g}{unit} or more" if high == float("inf") else f"{low:g} to {high:g}{unit}"


def _slice(sample: Sample, by: str, name: str, labels: Array, detections: Array, confidence: float) -> Slice:
    import numpy as np

    flat = sample.flat
    units = len(np.unique(flat.labels.image[labels]))
    part = replace(sample, units=units, weights=sample.weights[:, :RESAMPLES], ranked={
        one: replace(
            ranked,
            found=ranked.found[keep], image=ranked.image[keep], confidence=ranked.confidence[keep],
            hit=ranked.hit[:1, keep],
            labels=np.bincount(flat.labels.image[labels & (flat.labels.name == index)], minlength=flat.images),
        )
        for index, (one, ranked) in enumerate(sample.ranked.items())
        for keep in [detections[ranked.found]]
    })  # fmt: skip
    areas, rates = average_precisions(part)["all"], at_confidence(part, confidence)["all"]
    few = part.few("all")
    return Slice(by, name, units, int(labels.sum()), areas["map50"], rates["precision"], rates["recall"], few)
