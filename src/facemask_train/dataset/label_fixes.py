"""Applies the answers about labels in `fixes.yaml` to the images that a build keeps. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace

from facemask_train.core.boxes import iou
from facemask_train.core.fixes import Fixes, LabelFix
from facemask_train.core.types import Annotation, Box, Corners
from facemask_train.dataset.card import FixCounts
from facemask_train.dataset.grouping.groups import Kept

SAME_BOX = 0.5
"""The smallest overlap (IoU) with a label from which an answer is about that label."""


def apply_label_fixes(kept: Sequence[Kept], fixes: Fixes) -> tuple[tuple[Kept, ...], FixCounts]:
    """Return the images with corrected labels, and how many corrections were applied and not found.

    A correction is not found if no kept image has its content, or the image has no such label. One that the labels
    already agree with counts as applied.
    """
    by_image: defaultdict[str, list[LabelFix]] = defaultdict(list)
    for fix in sorted(fixes.labels, key=lambda one: (one.box, one.to or one.box)):
        if fix.changes:
            by_image[fix.image].append(fix)
    fixed, applied, seen = [], 0, set()
    for one in kept:
        own = by_image.get(one.record.sha256, [])
        seen.add(one.record.sha256)
        labels, count = corrected(one.record.labels, own, one.record.width, one.record.height)
        applied += count
        fixed.append(replace(one, record=replace(one.record, labels=labels)) if own else one)
    return tuple(fixed), FixCounts(applied, sum(map(len, by_image.values())) - applied)


def corrected(
    labels: Sequence[Annotation], fixes: Sequence[LabelFix], width: int, height: int
) -> tuple[tuple[Annotation, ...], int]:
    """Return the labels of one image after its corrections, in order, and how many of these were applied.

    Each correction refers to the published labels: one label is never corrected twice.
    """
    found, added, applied = list[Annotation | None](labels), list[Annotation](), 0
    free = set(range(len(labels)))
    for fix in fixes:
        if fix.action == "add":
            box = _inside(fix.box, width, height)
            if box is not None:
                added.append(Annotation(fix.name, box))
                applied += 1
            continue
        index = max(free, key=lambda place: (iou(labels[place].box.corners, fix.box), -place), default=None)
        if index is None or iou(labels[index].box.corners, fix.box) < SAME_BOX:
            continue
        box = labels[index].box if fix.to is None else _inside(fix.to, width, height)
        found[index] = None if fix.action == "remove" or box is None else Annotation(fix.name, box)
        free.discard(index)
        applied += 1
    return (*(one for one in found if one is not None), *added), applied


def _inside(corners: Corners, width: int, height: int) -> Box | None:
    """Return a box cut to the image, or None if nothing of it lies inside."""
    x_min, y_min, x_max, y_max = corners
    cut = max(x_min, 0.0), max(y_min, 0.0), min(x_max, float(width)), min(y_max, float(height))
    return Box(*cut) if cut[2] > cut[0] and cut[3] > cut[1] else None
