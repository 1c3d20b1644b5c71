"""Compares two ensembles by published image: added, removed, moved, relabeled. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from facemask_train.core.types import Annotation
from facemask_train.dataset.contents import EnsembleContents, EnsembleImage, ImageName

_TOLERANCE = 0.01  # pixels; smaller differences come from rounding


@dataclass(frozen=True, slots=True)
class Change:
    """A published image in both ensembles; None in the one that lacks it, with the reason (details in `detail`)."""

    before: EnsembleImage | None
    after: EnsembleImage | None
    reason: str = ""
    detail: str = ""

    @property
    def image(self) -> EnsembleImage:
        found = self.after or self.before
        assert found is not None
        return found


@dataclass(frozen=True, slots=True)
class CopyChanges:
    """Augmented copies of one name: how many were added, removed, or have other pixels or labels."""

    name: str
    added: int
    removed: int
    changed: int


@dataclass(frozen=True, slots=True)
class DiffCounts:
    """How many images changed between two ensembles, and how many are the same in both."""

    before: str
    after: str
    added: int
    removed: int
    moved: int
    relabeled: int
    redrawn: int
    same: int
    equal: bool
    copies: tuple[CopyChanges, ...]


@dataclass(frozen=True, slots=True)
class EnsembleDiff:
    """The changes from one ensemble to another, and the page that shows them.

    An image in both ensembles can be moved, relabeled and redrawn (its file has other bytes) at once.
    """

    path: Path
    before: str
    after: str
    added: tuple[Change, ...]
    removed: tuple[Change, ...]
    moved: tuple[Change, ...]
    relabeled: tuple[Change, ...]
    redrawn: tuple[Change, ...]
    same: int
    copies: tuple[CopyChanges, ...]

    def counts(self) -> DiffCounts:
        """Return the numbers of changes."""
        return DiffCounts(
            before=self.before,
            after=self.after,
            added=len(self.added),
            removed=len(self.removed),
            moved=len(self.moved),
            relabeled=len(self.relabeled),
            redrawn=len(self.redrawn),
            same=self.same,
            equal=self.equal,
            copies=self.copies,
        )

    @property
    def equal(self) -> bool:
        """Whether both have the same images with the same labels in the same splits."""
        parts = (self.added, self.removed, self.moved, self.relabeled, self.redrawn)
        return not any(parts) and not any(one.added or one.removed or one.changed for one in self.copies)

    def reasons(self, changes: Iterable[Change]) -> dict[str, int]:
        """Count changes by reason, the most frequent first."""
        found = Counter(one.reason for one in changes)
        return dict(sorted(found.items(), key=lambda pair: (-pair[1], pair[0])))

    def moves(self) -> dict[str, int]:
        """Count moved images by direction: `val to train`."""
        found = Counter(f"{one.before.split} to {one.after.split}" for one in self.moved if one.before and one.after)
        return dict(sorted(found.items()))


def compare_ensembles(before: EnsembleContents, after: EnsembleContents, path: Path) -> EnsembleDiff:
    """Compare the contents of two ensembles.

    Args:
        path: of the page that will show the result.
    """
    old, new = before.originals, after.originals
    both = [Change(old[name], new[name]) for name in new if name in old]
    moved = tuple(one for one in both if one.before and one.after and one.before.split != one.after.split)
    relabeled = tuple(one for one in both if one.before and one.after and not same_labels(one.before, one.after))
    redrawn = tuple(
        one for one in both if one.before and one.after and one.before.output_sha256 != one.after.output_sha256
    )
    changed = {one.image.name for one in (*moved, *relabeled, *redrawn)}
    return EnsembleDiff(
        path,
        before.name,
        after.name,
        added=tuple(Change(None, new[name], *reason) for name, *reason in _absent(new, old, before)),
        removed=tuple(Change(old[name], None, *reason) for name, *reason in _absent(old, new, after)),
        moved=moved,
        relabeled=relabeled,
        redrawn=redrawn,
        same=len(both) - len(changed),
        copies=tuple(_copies(before, after)),
    )


def _absent(
    there: Mapping[ImageName, EnsembleImage], here: Mapping[ImageName, EnsembleImage], without: EnsembleContents
) -> Iterator[tuple[ImageName, str, str]]:
    """Yield each image that only one ensemble has, with the reason why the other lacks it, and details."""
    excluded, sources = without.excluded, without.card.sources
    for name in there:
        if name not in here:
            if name in excluded:
                yield name, f"{excluded[name].action}: {excluded[name].cause}", excluded[name].detail
            elif name[0] not in sources:
                yield name, f"{name[0]} is not a source of {without.name}", ""
            else:
                yield name, f"not yet in {name[0]} when {without.name} was built", ""


def same_labels(one: EnsembleImage, other: EnsembleImage) -> bool:
    """Return whether two images have equal classes and boxes, to a hundredth of a pixel, in any order."""
    return not any(changed_labels(one.labels, other.labels))


def changed_labels(
    some: Sequence[Annotation], others: Sequence[Annotation]
) -> tuple[list[Annotation], list[Annotation]]:
    """Return the labels that only the first image has, and those that only the second has."""
    if some == others:
        return [], []
    unmatched, only_some = list(others), []
    for label in some:
        equal = next((other for other in unmatched if _same(label, other)), None)
        if equal is None:
            only_some.append(label)
        else:
            unmatched.remove(equal)
    return only_some, unmatched


def _same(one: Annotation, other: Annotation) -> bool:
    corners = zip(one.box.corners, other.box.corners, strict=True)
    return one.name == other.name and all(abs(a - b) <= _TOLERANCE for a, b in corners)


def _copies(before: EnsembleContents, after: EnsembleContents) -> Iterator[CopyChanges]:
    old = {(one.copy, *one.name): one for one in before.images if one.copy}
    new = {(one.copy, *one.name): one for one in after.images if one.copy}
    for name in sorted({key[0] for key in (*old, *new)}):
        before_keys, after_keys = ({key for key in found if key[0] == name} for found in (old, new))
        changed = sum(_differ(old[key], new[key]) for key in before_keys & after_keys)
        yield CopyChanges(name, len(after_keys - before_keys), len(before_keys - after_keys), changed)


def _differ(one: EnsembleImage, other: EnsembleImage) -> bool:
    return one.output_sha256 != other.output_sha256 or not same_labels(one, other)
