"""Images whose labels are suspected to be wrong, the most suspect first. A model's word against a label's.

In the manner of ObjectLab (Tkachenko and others, 2023), a face can be swapped (a sure detection of the other class on
it), overlooked (a sure detection where nothing is labelled), badly placed (a sure detection of its class beside it), or
not a face (nothing found there, however unsure, by a model that finds most). A suspicion is from 0 to 1; an image has
that of its most suspect face. Whoever looks decides: a sure model can be wrong.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from facemask_train.core.types import CLASSES, Corners, ImageResult
from facemask_train.eval.measures.boxes_table import LEAST_OVERLAP
from facemask_train.eval.measures.error_types import sort_mistakes
from facemask_train.eval.measures.metrics import Sample

Why = Literal["swapped", "overlooked", "badly placed", "not a face"]

LEAST = 0.5
"""A suspicion below this is none."""


@dataclass(frozen=True, slots=True)
class Suspect:
    """One suspected label: the image, how, how much, and the boxes (of the label, of the detection) in pixels."""

    image: str
    why: Why
    suspicion: float
    label: Corners | None
    found: Corners | None
    name: str


def suspects(sample: Sample, images: Sequence[ImageResult]) -> list[Suspect]:
    """Return the most suspect label of each image that has one, the most suspect image first."""
    everything = [*_detected(sample, images), *_unanswered(sample, images)]
    worst: dict[str, Suspect] = {}
    for one in everything:
        if one.suspicion >= LEAST and (one.image not in worst or one.suspicion > worst[one.image].suspicion):
            worst[one.image] = one
    return sorted(worst.values(), key=lambda one: (-one.suspicion, one.image))


def _detected(sample: Sample, images: Sequence[ImageResult]) -> list[Suspect]:
    """Return what sure detections say against labels."""
    kinds = sort_mistakes(sample)
    flat = sample.flat
    overlap = dict(
        zip(
            zip(sample.pairs.found.tolist(), sample.pairs.label.tolist(), strict=True),
            sample.pairs.iou.tolist(),
            strict=True,
        )
    )
    out = []
    for index in _sure(sample):
        label, sure = int(kinds.label[index]), float(flat.found.confidence[index])
        image, name = images[int(flat.found.image[index])].image, CLASSES[int(flat.found.name[index])]
        box = _corners(flat.found.box[index])
        kind = int(kinds.of[index])
        if kind == 0 and not _outdone(sample, index, label):
            out.append(Suspect(image, "swapped", sure, _corners(flat.labels.box[label]), box, name))
        elif kind == 1:
            off = (1 - overlap[index, label]) / (1 - LEAST_OVERLAP)
            out.append(Suspect(image, "badly placed", sure * off, _corners(flat.labels.box[label]), box, name))
        elif kind == 4:
            out.append(Suspect(image, "overlooked", sure, None, box, name))
    return out


def _sure(sample: Sample) -> list[int]:
    import numpy as np

    sure: list[int] = np.flatnonzero(sample.flat.found.confidence >= LEAST).tolist()
    return sure


def _outdone(sample: Sample, index: int, label: int) -> bool:
    """Say if a surer detection has the label's own class on it."""
    import numpy as np

    right = np.flatnonzero(sample.answers[0] == label)
    return bool(len(right) and sample.flat.found.confidence[right].max() >= sample.flat.found.confidence[index])


def _unanswered(sample: Sample, images: Sequence[ImageResult]) -> list[Suspect]:
    """Return labels where nothing is found: as suspect as faces of that size, or smaller, usually are found."""
    import numpy as np

    flat, pairs = sample.flat, sample.pairs
    highest = np.zeros(len(flat.labels))
    near = pairs.iou >= 0.3
    np.maximum.at(highest, pairs.label[near], flat.found.confidence[pairs.found[near]])
    order = np.argsort(flat.labels.area, kind="stable")
    found = (highest[order] >= 0.25).astype(float)
    # Of the labels up to each size, the share that is found: a missed large face is odd only where small ones are seen.
    usual = np.cumsum(found) / np.arange(1, len(found) + 1) if len(found) else found
    out = []
    for place, index in enumerate(order.tolist()):
        suspicion = float(usual[place] * (1 - highest[index]))
        image, name = images[int(flat.labels.image[index])].image, CLASSES[int(flat.labels.name[index])]
        out.append(Suspect(image, "not a face", suspicion, _corners(flat.labels.box[index]), None, name))
    return out


def _corners(box: object) -> Corners:
    x_min, y_min, x_max, y_max = map(float, box)  # type: ignore[call-overload]
    return x_min, y_min, x_max, y_max
