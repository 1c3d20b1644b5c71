"""How the labels of duplicates agree, and which sources share images. Pure.

Duplicates may have been labeled by the same person, so this is not an agreement between annotators.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal

from facemask_train.core.types import Annotation, ImageRecord
from facemask_train.dataset.card import Agreement


@dataclass(frozen=True, slots=True)
class SourceImage:
    """One readable image of a source; `record` is None if it was refused, for the reason in `cause`.

    `split` is the one that a list of the source puts it in, if any.
    """

    source: str
    path: str
    sha256: str
    record: ImageRecord | None
    cause: str = ""
    split: str = ""

    @property
    def name(self) -> str:
        return f"{self.source}/{self.path}"


@dataclass(frozen=True, slots=True)
class Duplicate:
    """One image of a group of two or more duplicates, kept or not.

    Attributes:
        orientation: puts this image in the orientation of the group's first image.
        similarity: to the group's first image, in the least similar window.
        labels: in the pixels of the kept image; none if no image of the group is kept.
        matched: for each label, the index of the kept image's label that it matches (-1: none).
        overlaps: for each label, the IoU with that label.
    """

    group: int
    image: SourceImage
    role: Literal["kept", "merged", "refused"]
    cause: str
    orientation: int
    similarity: float
    labels: tuple[Annotation, ...] = ()
    matched: tuple[int, ...] = ()
    overlaps: tuple[float, ...] = ()


def agreements(duplicates: Sequence[Duplicate]) -> Iterator[Agreement]:
    """Summarize by pair of sources how the labels of merged duplicates agree with the kept ones."""
    kept = {one.group: one for one in reversed(duplicates) if one.role == "kept"}
    found: dict[tuple[str, str], list[Duplicate]] = defaultdict(list)
    for one in duplicates:
        if one.role == "merged" and one.group in kept:
            found[kept[one.group].image.source, one.image.source].append(one)
    for sources, merged in sorted(found.items()):
        yield _agreement(*sources, merged, kept)


def _agreement(kept_source: str, source: str, merged: Sequence[Duplicate], kept: Mapping[int, Duplicate]) -> Agreement:
    pairs = [
        (kept[one.group].labels[index].name, label.name, iou)
        for one in merged
        for label, index, iou in zip(one.labels, one.matched, one.overlaps, strict=True)
        if index >= 0
    ]
    return Agreement(
        kept_source,
        source,
        images=len(merged),
        matched=len(pairs),
        flipped=sum(kept_name != name for kept_name, name, _ in pairs),
        only_kept=sum(len(kept[one.group].labels) for one in merged) - len(pairs),
        only_merged=sum(len(one.labels) for one in merged) - len(pairs),
        median_iou=round(median(iou for *_, iou in pairs), 4) if pairs else None,
    )


def overlap(
    images: Sequence[SourceImage], groups: Iterable[Sequence[int]], sources: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Count for each pair of sources how many images of the first have a duplicate in the second.

    For a source and itself, this counts images with another duplicate in the same source.
    """
    counts: Counter[tuple[str, str]] = Counter()
    for group in groups:
        by_source = Counter(images[index].source for index in group)
        for one in by_source:
            for other in by_source:
                counts[one, other] += by_source[one] if one != other or by_source[one] > 1 else 0
    return {one: {other: counts[one, other] for other in sources} for one in sources}
