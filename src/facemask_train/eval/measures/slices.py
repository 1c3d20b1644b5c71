"""Metrics on slices of a split: by source, face size, faces per image, brightness and sharpness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from facemask_train.core.drawing import open_upright
from facemask_train.core.types import CLASSES, Progress, no_progress
from facemask_train.eval.measures.bootstrap import Estimate
from facemask_train.eval.measures.metrics import ALL, ScoredSplit, average_precisions, rates_at_confidence

if TYPE_CHECKING:
    from facemask_train.core.types import Array

FACE_SIZES = (0, 16, 32, 64, 128, float("inf"))
"""Bounds of the face sizes: the square root of the box's area, in pixels of the original image."""

FACES_PER_IMAGE = ((1, 1), (2, 3), (4, 7), (8, 10**9))
"""Numbers of labeled faces in an image, from and to."""

RESAMPLES = 300
"""Fewer than for the headline numbers: the interval uses the resamples' standard deviation, not their extremes."""

SHARPNESS_SIDE = 640
"""The longer side, in pixels, to which an image is scaled to measure its sharpness."""


@dataclass(frozen=True, slots=True)
class ImageTraits:
    """Properties of an image other than its faces.

    Attributes:
        brightness: the mean luma, 0 to 255.
        sharpness: the variance of the Laplacian; low in blurred images.
    """

    source: str
    brightness: float
    sharpness: float


@dataclass(frozen=True, slots=True)
class Slice:
    """The metrics of one slice. A slice by face size has only images with a face in it.

    Attributes:
        by: the property that the split is sliced by.
        n: the number of labeled faces.
        too_few: whether there are too few images or faces for useful numbers.
    """

    by: str
    name: str
    images: int
    n: int
    too_few: bool
    map50: Estimate
    precision: Estimate
    recall: Estimate


class _Part(NamedTuple):
    """A slice before it is scored: boolean masks of its labels and detections."""

    by: str
    name: str
    labels: Array
    detections: Array


def measure_images(
    folder: Path, sources: Mapping[str, str], progress: Progress = no_progress
) -> dict[str, ImageTraits]:
    """Measure the brightness and sharpness of images.

    Args:
        sources: the source of each image, by the image's path relative to `folder`.
    """
    traits = {}
    for done, image in enumerate(sources):
        traits[image] = ImageTraits(sources[image], *_brightness_and_sharpness(folder / image))
        progress("measuring images", done + 1, len(sources))
    return traits


def _brightness_and_sharpness(path: Path) -> tuple[float, float]:
    import cv2
    import numpy as np

    gray = np.asarray(open_upright(path).convert("L"))
    scale = SHARPNESS_SIDE / max(gray.shape)
    size = (max(1, round(gray.shape[1] * scale)), max(1, round(gray.shape[0] * scale)))
    resized = cv2.resize(gray, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    return round(float(gray.mean()), 3), round(float(cv2.Laplacian(resized, cv2.CV_64F).var()), 3)


def slices(split: ScoredSplit, traits: Sequence[ImageTraits], confidence: float) -> list[Slice]:
    """Return the metrics of every slice that has a labeled face.

    Args:
        traits: of each image of the split, in its order.
        confidence: precision and recall are those of the detections above it.
    """
    parts = (*_by_source(split, traits), *_by_size(split), *_by_faces(split), *_by_thirds(split, traits))
    return [_slice(split, part, confidence) for part in parts if part.labels.any()]


def _part(split: ScoredSplit, by: str, name: str, images: Array) -> _Part:
    """Return the slice of the images for which `images` (bool) is true."""
    return _Part(by, name, images[split.table.labels.image], images[split.table.detections.image])


def _by_source(split: ScoredSplit, traits: Sequence[ImageTraits]) -> Iterator[_Part]:
    import numpy as np

    sources = np.array([one.source for one in traits])
    for source in sorted(set(sources.tolist())):
        yield _part(split, "source", source or "unknown", sources == source)


def _by_size(split: ScoredSplit) -> Iterator[_Part]:
    """A matched detection is in the slice of its label, any other in that of its own size."""
    import numpy as np

    labels, detections, matches = split.table.labels, split.table.detections, split.matches[0]
    label_size, own_size = np.sqrt(labels.area), np.sqrt(np.maximum(detections.area, 0))
    for low, high in pairwise(FACE_SIZES):
        inside = (label_size >= low) & (label_size < high)
        matched_inside = inside[matches] if len(inside) else False
        own_inside = (own_size >= low) & (own_size < high)
        yield _Part("face size", _pixels(low, high), inside, np.where(matches >= 0, matched_inside, own_inside))


def _by_faces(split: ScoredSplit) -> Iterator[_Part]:
    import numpy as np

    faces = np.bincount(split.table.labels.image, minlength=split.table.image_count)
    for fewest, most in FACES_PER_IMAGE:
        name = f"{fewest}" if fewest == most else f"{fewest} to {most}" if most < 10**9 else f"{fewest} or more"
        yield _part(split, "faces per image", name, (faces >= fewest) & (faces <= most))


def _by_thirds(split: ScoredSplit, traits: Sequence[ImageTraits]) -> Iterator[_Part]:
    import numpy as np

    for by, values, names in (
        ("brightness", [one.brightness for one in traits], ("dark", "medium", "bright")),
        ("sharpness", [one.sharpness for one in traits], ("blurred", "medium", "sharp")),
    ):
        array = np.array(values)
        low, high = np.quantile(array, [1 / 3, 2 / 3]).tolist()
        masks = (array < low, (array >= low) & (array < high), array >= high)
        bounds = (f"below {low:.0f}", f"{low:.0f} to {high:.0f}", f"{high:.0f} or more")
        for name, mask, text in zip(names, masks, bounds, strict=True):
            yield _part(split, by, f"{name} third ({text})", mask)


def _pixels(low: float, high: float) -> str:
    if low == 0:
        return f"below {high:g} px"
    return f"{low:g} px or more" if high == float("inf") else f"{low:g} to {high:g} px"


def _slice(split: ScoredSplit, part: _Part, confidence: float) -> Slice:
    import numpy as np

    labels = split.table.labels
    shown = np.unique(labels.image[part.labels])
    images, scenes = len(shown), len(np.unique(split.groups[shown]))
    ranked = {}
    for index, name in enumerate(CLASSES):
        whole = split.ranked[name]
        keep = part.detections[whole.index]
        of_class = part.labels & (labels.class_id == index)
        ranked[name] = replace(
            whole,
            index=whole.index[keep],
            image=whole.image[keep],
            confidence=whole.confidence[keep],
            true_positive=whole.true_positive[:1, keep],
            labels=np.bincount(labels.image[of_class], minlength=split.table.image_count),
        )
    own = replace(split, images=images, scenes=scenes, weights=split.weights[:, :RESAMPLES], ranked=ranked)
    map50, rates = average_precisions(own)[ALL]["map50"], rates_at_confidence(own, confidence)[ALL]
    n = int(part.labels.sum())
    return Slice(part.by, part.name, images, n, own.too_few(ALL), map50, rates["precision"], rates["recall"])
