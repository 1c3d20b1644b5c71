"""What copies of one image say of each other: how their labels agree, and which sources share images. Pure.

An agreement of copies, which may have one author, not of people.
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
class Member:
    """One readable image of a source; `record` is None where it was refused, and `cause` says why."""

    source: str
    path: str
    sha256: str
    record: ImageRecord | None
    cause: str = ""

    @property
    def name(self) -> str:
        return f"{self.source}/{self.path}"


@dataclass(frozen=True, slots=True)
class Copy:
    """One image of a group of two or more, with its labels laid over the kept image.

    `matched` holds, for each label, the index of the kept image's label that it covers (-1: none), and `overlaps`
    their IoU. `orientation` turns this image as the group's first one is. Without a kept image there are no labels.
    """

    group: int
    member: Member
    role: Literal["kept", "merged", "refused"]
    cause: str
    orientation: int
    likeness: float
    labels: tuple[Annotation, ...] = ()
    matched: tuple[int, ...] = ()
    overlaps: tuple[float, ...] = ()


def agreements(copies: Sequence[Copy]) -> Iterator[Agreement]:
    """Sum up, by pair of sources, how merged copies' labels agree with the kept ones."""
    bases = {copy.group: copy for copy in reversed(copies) if copy.role == "kept"}
    found: dict[tuple[str, str], list[Copy]] = defaultdict(list)
    for copy in copies:
        if copy.role == "merged" and copy.group in bases:
            found[bases[copy.group].member.source, copy.member.source].append(copy)
    for (kept, source), group in sorted(found.items()):
        yield _agreement(kept, source, group, bases)


def _agreement(kept: str, source: str, group: Sequence[Copy], bases: Mapping[int, Copy]) -> Agreement:
    pairs = [
        (bases[copy.group].labels[at].name, label.name, overlap)
        for copy in group
        for label, at, overlap in zip(copy.labels, copy.matched, copy.overlaps, strict=True)
        if at >= 0
    ]
    labels, base = sum(len(copy.labels) for copy in group), sum(len(bases[copy.group].labels) for copy in group)
    return Agreement(
        kept,
        source,
        images=len(group),
        matched=len(pairs),
        flipped=sum(mine != theirs for mine, theirs, _ in pairs),
        only_kept=base - len(pairs),
        only_copy=labels - len(pairs),
        median_iou=round(median(overlap for *_, overlap in pairs), 4) if pairs else None,
    )


def overlap(
    members: Sequence[Member], groups: Iterable[Sequence[int]], sources: Sequence[str]
) -> dict[str, dict[str, int]]:
    """Count, for each pair of sources, the first's images that have a copy in the second (another one, in itself)."""
    counts: Counter[tuple[str, str]] = Counter()
    for group in groups:
        of = Counter(members[index].source for index in group)
        for one in of:
            for other in of:
                counts[one, other] += of[one] if one != other or of[one] > 1 else 0
    return {one: {other: counts[one, other] for other in sources} for one in sources}
