"""What changed from one ensemble to another, by source image: added, removed, moved, relabelled. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facemask_train.core.types import Annotation
from facemask_train.dataset.contents import Held, Holdings, Name

_TOLERANCE = 0.01  # pixels; less is how a number was written


@dataclass(frozen=True, slots=True)
class Change:
    """One published image as the two ensembles have it; None where one has it not, and then why (in full: detail)."""

    before: Held | None
    after: Held | None
    why: str = ""
    detail: str = ""

    @property
    def held(self) -> Held:
        found = self.after or self.before
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class Copies:
    """Augmented copies of one name: how many were added, removed, and made anew with other pixels or labels."""

    name: str
    added: int
    removed: int
    changed: int


@dataclass(frozen=True, slots=True)
class Difference:
    """What changed from `before` to `after`, and the page that shows it.

    An image that is in both can be moved, relabelled and redrawn (its file has other bytes) at once.
    """

    path: Path
    before: str
    after: str
    added: tuple[Change, ...]
    removed: tuple[Change, ...]
    moved: tuple[Change, ...]
    relabelled: tuple[Change, ...]
    redrawn: tuple[Change, ...]
    same: int
    copies: tuple[Copies, ...]

    @property
    def equal(self) -> bool:
        """Say if the two hold the same images with the same labels in the same splits."""
        parts = (self.added, self.removed, self.moved, self.relabelled, self.redrawn)
        return not any(parts) and not any(one.added or one.removed or one.changed for one in self.copies)

    def whys(self, changes: Iterable[Change]) -> dict[str, int]:
        """Count changes by why they happened, the most frequent first."""
        found = Counter(one.why for one in changes)
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))

    def moves(self) -> dict[str, int]:
        """Count moved images by way: `val to train`."""
        found = Counter(f"{one.before.split} to {one.after.split}" for one in self.moved if one.before and one.after)
        return dict(sorted(found.items()))


def compare(before: Holdings, after: Holdings, path: Path) -> Difference:
    """Compare what two ensembles hold.

    Args:
        path: where the page will be.
    """
    old, new = before.originals, after.originals
    both = [Change(old[name], new[name]) for name in new if name in old]
    moved = tuple(one for one in both if one.before and one.after and one.before.split != one.after.split)
    relabelled = tuple(one for one in both if one.before and one.after and not same_labels(one.before, one.after))
    redrawn = tuple(
        one for one in both if one.before and one.after and one.before.output_sha256 != one.after.output_sha256
    )
    changed = {one.held.name for one in (*moved, *relabelled, *redrawn)}
    return Difference(
        path,
        before.name,
        after.name,
        added=tuple(Change(None, new[name], *why) for name, *why in _absent(new, old, before)),
        removed=tuple(Change(old[name], None, *why) for name, *why in _absent(old, new, after)),
        moved=moved,
        relabelled=relabelled,
        redrawn=redrawn,
        same=len(both) - len(changed),
        copies=tuple(_copies(before, after)),
    )


def _absent(
    there: Mapping[Name, Held], here: Mapping[Name, Held], without: Holdings
) -> Iterator[tuple[Name, str, str]]:
    """Give each image that is there and not here, and what the ensemble without it says of it, and in detail."""
    gone = without.gone
    sources = without.card.sources
    for name in there:
        if name not in here:
            if name in gone:
                yield name, f"{gone[name].action}: {gone[name].cause}", gone[name].detail
            elif name[0] not in sources:
                yield name, f"{name[0]} is no source of {without.name}", ""
            else:
                yield name, f"not in {name[0]} when {without.name} was built", ""


def same_labels(one: Held, other: Held) -> bool:
    """Say if two images have the same faces: classes, and boxes within a hundredth of a pixel, in any order."""
    return not any(changed_labels(one.labels, other.labels))


def changed_labels(
    some: Sequence[Annotation], others: Sequence[Annotation]
) -> tuple[list[Annotation], list[Annotation]]:
    """Return the labels that only the first has, and those that only the second has."""
    if some == others:
        return [], []
    left, alone = list(others), []
    for label in some:
        twin = next((other for other in left if _same(label, other)), None)
        if twin is None:
            alone.append(label)
        else:
            left.remove(twin)
    return alone, left


def _same(one: Annotation, other: Annotation) -> bool:
    corners = zip(one.box.corners, other.box.corners, strict=True)
    return one.name == other.name and all(abs(mine - theirs) <= _TOLERANCE for mine, theirs in corners)


def _copies(before: Holdings, after: Holdings) -> Iterator[Copies]:
    old = {(one.copy, *one.name): one for one in before.images if one.copy}
    new = {(one.copy, *one.name): one for one in after.images if one.copy}
    for name in sorted({key[0] for key in (*old, *new)}):
        mine, theirs = ({key for key in found if key[0] == name} for found in (old, new))
        changed = sum(_differ(old[key], new[key]) for key in mine & theirs)
        yield Copies(name, len(theirs - mine), len(mine - theirs), changed)


def _differ(one: Held, other: Held) -> bool:
    return one.output_sha256 != other.output_sha256 or not same_labels(one, other)
