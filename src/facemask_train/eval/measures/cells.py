"""Cells: how many labeled faces of each class, relative size and source are found with the right class.

A pool hides its parts: a recall of 0.95 over all faces says nothing of bare close-ups if the test set has three. A
class at a size that the test set does not hold is a cell with n = 0: it was not measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from facemask_train.core.boxes import SIZE_NAMES, size_index
from facemask_train.core.types import CLASSES, ImageResult
from facemask_train.eval.measures.bootstrap import UNDEFINED, Estimate, clustered_proportion, per_group
from facemask_train.eval.measures.matching import MATCH_IOU
from facemask_train.eval.measures.metrics import ENOUGH_FACES, ScoredSplit

if TYPE_CHECKING:
    from facemask_train.core.types import Array

ANY_SOURCE = ""


@dataclass(frozen=True, slots=True)
class Cell:
    """The labeled faces of one class and relative size in one source, or in all (`ANY_SOURCE`).

    Attributes:
        n: the number of labeled faces, on `images` images of `scenes` scene groups.
        wrong: how many are found with another class; `missed` are not found at all.
        right: the share that is found with the right class at the operating point; undefined if n is 0.
        too_few: whether the interval is not to be relied on.
    """

    name: str
    size: str
    source: str
    n: int
    images: int
    scenes: int
    wrong: int
    missed: int
    right: Estimate
    too_few: bool


def cells(split: ScoredSplit, images: Sequence[ImageResult], sources: Sequence[str], confidence: float) -> list[Cell]:
    """Return every cell: of all sources first, then source by source, also those without a face.

    Args:
        images: of the split, in its order; `sources` is that of each.
        confidence: of the operating point.
    """
    import numpy as np

    labels = split.table.labels
    sizes = np.array([size_index(one, image.width, image.height) for image in images for one in image.labels], np.int64)
    right, found = _found(split, confidence)
    own = np.array(sources, dtype=object)[labels.image] if len(labels) else np.empty(0, object)
    result = []
    for source in (ANY_SOURCE, *sorted(set(sources))):
        within = np.ones(len(labels), bool) if source == ANY_SOURCE else own == source
        for index, name in enumerate(CLASSES):
            for size, size_name in enumerate(SIZE_NAMES):
                mask = within & (labels.class_id == index) & (sizes == size)
                result.append(_cell(split, mask, right, found, (name, size_name, source)))
    return result


def _found(split: ScoredSplit, confidence: float) -> tuple[Array, Array]:
    """Return which labels are found with the right class, and which with any: (labels,) bool each."""
    import numpy as np

    table, matches, pairs = split.table, split.matches[0], split.overlaps
    right, found = np.zeros((2, len(table.labels)), bool)
    right[matches[(matches >= 0) & (table.detections.confidence > confidence)]] = True
    near = (pairs.iou >= MATCH_IOU) & (table.detections.confidence[pairs.detection] > confidence)
    found[pairs.label[near]] = True
    return right, found | right


def _cell(split: ScoredSplit, mask: Array, right: Array, found: Array, key: tuple[str, str, str]) -> Cell:
    import numpy as np

    image, count = split.table.labels.image, split.table.image_count
    own, n = np.unique(image[mask]), int(mask.sum())
    scenes = len(np.unique(split.groups[own]))
    estimate = UNDEFINED
    if n:
        hits, trials = (
            per_group(np.bincount(image[part], minlength=count), split.groups) for part in (mask & right, mask)
        )
        estimate = clustered_proportion(hits, trials, split.scene_weights)
    wrong, missed = int((mask & found & ~right).sum()), int((mask & ~found).sum())
    return Cell(*key, n, len(own), scenes, wrong, missed, estimate, n < ENOUGH_FACES)
