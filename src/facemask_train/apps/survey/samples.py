"""The data of a survey: detected boxes in its images, and labeled faces of the reference set. Arrays, no files."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from facemask_train.apps.survey.proportions import MIN_CORRELATION
from facemask_train.core.errors import DataError
from facemask_train.core.types import CLASSES

if TYPE_CHECKING:
    from facemask_train.core.types import Array

MASK, NO_MASK = CLASSES.index("mask"), CLASSES.index("no_mask")
UNKNOWN, MISSED = len(CLASSES), len(CLASSES) + 1
"""The outcomes of a face: the index of its class if it is classified, else found but not classified, or not found."""

_SIZE_BINS = 5  # of face sizes, with equally many boxes of the reference set in each
_SHRINKAGE = 20  # boxes of the reference set's own size distribution that are added to the survey's
_MAX_WEIGHT = 10.0
_MIN_CLUSTERS = 20


@dataclass(frozen=True, eq=False, slots=True)
class DetectedBoxes:
    """Detected boxes, arrays of shape (n,).

    Attributes:
        cluster: the number of the box's cluster: an image, or a group of images.
        outcome: MASK, NO_MASK or UNKNOWN.
        size: the square root of the box's area, in pixels at the detector's input size.
    """

    cluster: Array
    outcome: Array
    size: Array


@dataclass(frozen=True, eq=False, slots=True)
class ReferenceFaces:
    """What a detector did on its reference set: labeled faces, arrays of shape (n,), and boxes without a face.

    Attributes:
        images: the number of images.
        cluster: the number of the face's image.
        label: MASK or NO_MASK.
        outcome: any of the outcomes.
        size: as in `DetectedBoxes`.
        false_boxes: boxes that match no labeled face.
    """

    images: int
    cluster: Array
    label: Array
    outcome: Array
    size: Array
    false_boxes: DetectedBoxes


@dataclass(frozen=True, eq=False, slots=True)
class SurveySample:
    """What was found in a survey's images: (clusters,) the number of images in each cluster, and all boxes.

    Clusters are independent of each other: an image, or the images of one place or video within a short time.
    """

    images: Array
    boxes: DetectedBoxes


def check_reference(reference: ReferenceFaces) -> None:
    """Make sure that the detector's errors can be estimated from its reference set.

    Raises:
        DataError: it has no face of a class, or the detector classified none of them.
    """
    for index, name in ((MASK, "with a mask"), (NO_MASK, "without a mask")):
        outcomes = reference.outcome[reference.label == index]
        if not len(outcomes):
            raise DataError(f"the reference set has no face {name}, so the detector's errors on them are not known")
        if not (outcomes < UNKNOWN).any():
            raise DataError(f"the detector classified none of the {len(outcomes)} faces {name} in the reference set")


def size_weights(reference: ReferenceFaces, sizes: Array) -> Array:
    """Return a weight for each face of the reference set, so that its boxes have the size distribution of the survey's.

    Args:
        sizes: (n,) of the survey's boxes, as in `DetectedBoxes`.
    """
    import numpy as np

    found = np.r_[reference.size[reference.outcome < MISSED], reference.false_boxes.size]
    edges = np.quantile(found, np.arange(1, _SIZE_BINS) / _SIZE_BINS)
    own = np.bincount(np.searchsorted(edges, found), minlength=_SIZE_BINS) / len(found)
    counts = np.bincount(np.searchsorted(edges, sizes), minlength=_SIZE_BINS)
    target = (counts + _SHRINKAGE * own) / (len(sizes) + _SHRINKAGE)
    ratio = np.divide(target, own, out=np.ones(_SIZE_BINS), where=own > 0)
    weights: Array = ratio.clip(0, _MAX_WEIGHT)[np.searchsorted(edges, reference.size)]
    return weights


def intracluster_correlation(samples: Iterable[SurveySample]) -> float | None:
    """Return the correlation (0 to 1) of the classes of faces in one cluster, pooled over samples of different rates.

    Returns:
        None if fewer than 20 clusters, not counting one per sample, have two classified boxes or more.
    """
    import numpy as np

    excess = within = clusters = 0.0
    for sample in samples:
        classified = sample.boxes.outcome < UNKNOWN
        cluster, masked = sample.boxes.cluster[classified], sample.boxes.outcome[classified] == MASK
        sizes = np.bincount(cluster, minlength=len(sample.images))
        several = int((sizes > 1).sum())
        if several < 2:
            continue
        share = masked.mean()
        residuals = np.bincount(cluster, masked - share, minlength=len(sizes))
        excess += float((residuals**2).sum()) * several / (several - 1) - len(masked) * share * (1 - share)
        within += float((sizes * (sizes - 1)).sum()) * share * (1 - share)
        clusters += several - 1
    if clusters < _MIN_CLUSTERS or not within:
        return None
    return min(1.0, max(MIN_CORRELATION, excess / within))
