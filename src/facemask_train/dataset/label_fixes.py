"""Applies the answers about labels in `fixes.yaml` to the images that a build keeps. Pure.

Applied after duplicates are decided: an answer about one image must not make it contradict its copies. Each answer that
changes a label is an issue of its source, so the totals still add up: an added box counts as one more published row.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from facemask_train.core.boxes import iou
from facemask_train.core.config import FIXES
from facemask_train.core.fixes import Fixes, LabelFix
from facemask_train.core.types import CLASSES, Annotation, Box, Corners, ImageRecord, PublishedRow
from facemask_train.dataset.card import FixCounts
from facemask_train.dataset.grouping.groups import Kept
from facemask_train.dataset.loading.load import LoadedSource, check_kept
from facemask_train.dataset.loading.validate import Issue

SAME_BOX = 0.5
"""The smallest overlap (IoU) with a label from which an answer is about that label."""


@dataclass(frozen=True, slots=True)
class FixedLabels:
    """The kept images and the sources after the corrections, and how many of these were applied."""

    kept: tuple[Kept, ...]
    loaded: dict[str, LoadedSource]
    counts: FixCounts


@dataclass(frozen=True, slots=True)
class _Face:
    """A label and the row behind it; `label` is None once it is removed, `cause` says what was corrected."""

    label: Annotation | None
    row: PublishedRow
    cause: str = ""


def apply_label_fixes(loaded: Mapping[str, LoadedSource], kept: Sequence[Kept], fixes: Fixes) -> FixedLabels:
    """Correct the labels of the kept images.

    An answer is applied if the labels are as it says afterwards, also if they were so before. It is not found if no
    kept image has its content, or the image has no such label.

    Raises:
        FmaskError: the totals do not add up afterwards; this would be a bug.
    """
    by_image: defaultdict[str, list[LabelFix]] = defaultdict(list)
    changes = (one for one in fixes.labels if one.changes)
    for fix in sorted(changes, key=lambda one: (one.box, one.to or one.box)):
        by_image[fix.image].append(fix)
    corrected: dict[str, dict[str, list[_Face]]] = defaultdict(dict)
    found, counts, seen = [], Counter[str](), set[str]()
    for one in kept:
        record = one.record
        own = by_image.get(record.sha256, ())
        if own and record.sha256 not in seen:
            faces = _correct(record, loaded[record.source].rows[record.path], own, counts)
            corrected[record.source][record.path] = faces
            record = replace(record, labels=tuple(face.label for face in faces if face.label is not None))
        seen.add(record.sha256)
        found.append(replace(one, record=record))
    gone = sum(len(own) for image, own in by_image.items() if image not in seen)
    total = FixCounts(counts["applied"], counts["not found"] + gone)
    sources = {name: _noted(one, corrected[name]) for name, one in loaded.items()}
    check_kept(sources, [one.record for one in found])
    return FixedLabels(tuple(found), sources, total)


def _correct(
    record: ImageRecord, rows: Sequence[PublishedRow], fixes: Iterable[LabelFix], counts: Counter[str]
) -> list[_Face]:
    """Return the faces of an image after its corrections, added ones last. No label is corrected twice."""
    faces = [_Face(label, row) for label, row in zip(record.labels, rows, strict=True)]
    added: list[_Face] = []
    free = set(range(len(faces)))
    for fix in fixes:
        place = _nearest(fix, record.labels, free)
        box = _inside(fix.to or fix.box, record) if fix.action in ("add", "move") else None
        if fix.action == "add":
            outcome = "applied" if box is not None else "not found"
            if box is not None and place is None:
                row = PublishedRow(FIXES, len(added) + 1, _added(fix.name), box.corners)
                added.append(_Face(Annotation(fix.name, box), row, "added-by-hand"))
        else:
            outcome = "not found" if place is None or (fix.action == "move" and box is None) else "applied"
            if outcome == "applied" and place is not None:
                free.discard(place)
                faces[place] = _changed(faces[place], fix, box)
        counts[outcome] += 1
    return faces + added


def _nearest(fix: LabelFix, labels: Sequence[Annotation], free: set[int]) -> int | None:
    """Return the label that an answer is about: that of the largest overlap; None if there is none."""
    shared = {place: iou(labels[place].box.corners, fix.box) for place in free}
    best = max(shared, key=lambda place: (shared[place], -place), default=None)
    return best if best is not None and shared[best] >= SAME_BOX else None


def _changed(face: _Face, fix: LabelFix, box: Box | None) -> _Face:
    if fix.action == "remove" or face.label is None:
        return replace(face, label=None, cause="removed-by-hand")
    label = Annotation(fix.name, box or face.label.box)
    return face if label == face.label else replace(face, label=label, cause="corrected-by-hand")


def _inside(corners: Corners, record: ImageRecord) -> Box | None:
    """Return a box cut to the image, or None if nothing of it lies inside."""
    x_min, y_min, x_max, y_max = corners
    cut = max(x_min, 0.0), max(y_min, 0.0), min(x_max, float(record.width)), min(y_max, float(record.height))
    return Box(*cut) if cut[2] > cut[0] and cut[3] > cut[1] else None


# ---- the books ----


def _added(name: str) -> str:
    """Return the published class of an added box; no source has a class of this name."""
    return f"{FIXES}: {name}"


def _noted(source: LoadedSource, corrected: Mapping[str, Sequence[_Face]]) -> LoadedSource:
    """Return a source with an issue for each corrected face, and the added faces among its published rows."""
    if not corrected:
        return source
    rules = replace(source.rules, classes={**source.rules.classes, **{_added(name): name for name in CLASSES}})
    repairs = {
        (one.image, one.file, one.number): one
        for one in source.issues
        if one.item == "box" and one.action == "repaired" and one.image in corrected
    }
    changed: list[Issue] = []
    gone: set[Issue] = set()
    published = Counter(source.published)
    for path, faces in corrected.items():
        for face in (one for one in faces if one.cause):
            published.update([rules.meaning(face.row)] if face.row.file == FIXES else [])
            earlier = repairs.get((path, face.row.file, face.row.number))
            gone |= {earlier} if earlier else set()
            removed = face.label is None
            causes = (earlier.cause if earlier and not removed else "", face.cause)
            text = "+".join(filter(None, causes))
            changed.append(rules.issue(face.row, path, "refused" if removed else "repaired", text, f"in {FIXES}"))
    return replace(
        source,
        rules=rules,
        published=published,
        rows={
            **source.rows,
            **{path: tuple(one.row for one in faces if one.label) for path, faces in corrected.items()},
        },
        issues=(*(one for one in source.issues if one not in gone), *changed),
    )
