"""Decides which image of each group of duplicates is kept, and which images are refused. Pure.

Exclusions and label conflicts act on whole groups. The labels of duplicates are mapped onto the kept image and
compared.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from facemask_train.core.boxes import UnitMap, composed, inverse, inverted, laid_over, mapped, match, unit_map
from facemask_train.core.recipe import Prefer, Recipe, Split
from facemask_train.core.types import SPLITS, WORN_INCORRECTLY_CAUSE, Annotation, ImageRecord
from facemask_train.dataset.card import Agreement, GroupCounts
from facemask_train.dataset.grouping.duplicates import Pair, groups_of
from facemask_train.dataset.grouping.label_agreement import Duplicate, SourceImage, agreements, overlap
from facemask_train.dataset.grouping.split import SplitGroups, assign_splits, published_split

COPY_OF_WORN = f"copy-of-{WORN_INCORRECTLY_CAUSE}"
CONFLICT = "class-conflict"
COPY = "copy"
LEAK = "copy-in-later-split"


@dataclass(frozen=True, slots=True)
class Kept:
    """An image that the ensemble keeps: its split, and the sha256 of the first image of its split group."""

    record: ImageRecord
    split: str
    split_group: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Why an image that could have been kept is not: it is merged into a duplicate, or refused."""

    image: SourceImage
    action: Literal["merged", "refused"]
    cause: str
    detail: str


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the ensemble contains, the outcomes of all other images, and the groups.

    Attributes:
        duplicates: the images of all groups, with their outcomes.
        agreements: how the labels of duplicates agree, by pair of sources.
        overlap: by pair of sources, how many images of the first have a duplicate in the second.
        leaks: images of val or test with a duplicate or near-duplicate in an earlier split.
    """

    kept: tuple[Kept, ...]
    outcomes: tuple[Outcome, ...]
    duplicates: tuple[Duplicate, ...]
    agreements: tuple[Agreement, ...]
    overlap: Mapping[str, Mapping[str, int]]
    counts: GroupCounts
    leaks: int


def decide(
    images: Sequence[SourceImage], pairs: Sequence[Pair], recipe: Recipe, ties: Iterable[tuple[int, int]] = ()
) -> Decisions:
    """Decide the outcome of every image that has a record.

    Args:
        images: all readable images, in the order of the recipe's sources, then of their paths.
        pairs: by index in `images`, as `find_pairs` returns them.
        ties: further pairs of indices, the lower first, that share a split and nothing else.
    """
    leader = groups_of(pairs)
    groups: dict[int, list[int]] = defaultdict(list)
    for index in sorted({*leader, *leader.values()}):
        groups[leader.get(index, index)].append(index)
    links = {*((pair.first, pair.second) for pair in pairs), *ties}
    by_content = _ByContent.of(images, links)
    split_groups = _split_groups(images, links, recipe)
    pairs_by_index = {(pair.first, pair.second): pair for pair in pairs}
    excluded = _excluded(images, pairs) if recipe.worn_incorrectly == "drop-image" else {}
    outcomes: dict[int, Outcome] = {}
    duplicate_groups = [_Group(images, group, pairs_by_index, recipe) for group in groups.values()]
    for group in duplicate_groups:
        outcomes |= group.outcomes(excluded)
    outcomes |= _refuse_ungrouped(images, excluded, outcomes)
    if recipe.split == "published" and recipe.leaks == "remove":
        outcomes |= _remove_leaks(images, by_content, split_groups.splits, outcomes)
    duplicates = [one for number, group in enumerate(duplicate_groups) for one in group.duplicates(number, outcomes)]
    kept = {
        index: Kept(image.record, split_groups.splits[index], images[split_groups.first[index]].sha256)
        for index, image in enumerate(images)
        if image.record is not None and index not in outcomes
    }
    return Decisions(
        tuple(kept.values()),
        tuple(outcomes[index] for index in sorted(outcomes)),
        tuple(duplicates),
        tuple(agreements(duplicates)),
        overlap(images, groups.values(), recipe.sources),
        _counts(groups, split_groups, links, duplicates),
        _leaks(kept, by_content),
    )


@dataclass(frozen=True, slots=True)
class _ByContent:
    """Images by their bytes: a link of one image holds for all images with equal bytes.

    Attributes:
        images: the indices of the images with each content; a content is identified by its first image.
        links: pairs of linked contents, in both orders; a content is also paired with itself if it has equal images.
    """

    images: Mapping[int, Sequence[int]]
    links: Sequence[tuple[int, int]]

    @classmethod
    def of(cls, images: Sequence[SourceImage], links: Iterable[tuple[int, int]]) -> _ByContent:
        first: dict[str, int] = {}
        content = [first.setdefault(image.sha256, index) for index, image in enumerate(images)]
        by_content: dict[int, list[int]] = defaultdict(list)
        for index, first_index in enumerate(content):
            by_content[first_index].append(index)
        linked = {(content[one], content[other]) for one, other in links}
        return cls(by_content, sorted({*linked, *((other, one) for one, other in linked)}))


def _split_groups(images: Sequence[SourceImage], links: Iterable[tuple[int, int]], recipe: Recipe) -> SplitGroups:
    ranks = {source: rank for rank, source in enumerate(recipe.sources)}
    split = recipe.split if isinstance(recipe.split, Split) else Split()
    found = assign_splits([one.sha256 for one in images], [ranks[one.source] for one in images], links, split)
    if isinstance(recipe.split, Split):
        return found
    return SplitGroups(found.first, [one.split or published_split(one.path) or "train" for one in images], 0)


def _excluded(images: Sequence[SourceImage], pairs: Iterable[Pair]) -> dict[int, int]:
    """Return the images that show an incorrectly worn mask or are linked to one that does, each with that image.

    Near-duplicates count too: in the next shot of a scene the mask still sits wrong, whatever another source calls it.
    Links are not followed any further: an image two links away may show something else.
    """
    worn: dict[str, int] = {}
    for index, image in enumerate(images):
        if image.cause == WORN_INCORRECTLY_CAUSE:
            worn.setdefault(image.sha256, index)
    found = dict(worn)  # by content
    for pair in pairs:
        one, other = images[pair.first].sha256, images[pair.second].sha256
        for here, there in ((one, other), (other, one)):
            if here in worn:
                found.setdefault(there, worn[here])
    return {index: found[image.sha256] for index, image in enumerate(images) if image.sha256 in found}


def _refuse_ungrouped(
    images: Sequence[SourceImage], excluded: Mapping[int, int], outcomes: Mapping[int, Outcome]
) -> dict[int, Outcome]:
    """Refuse images outside of all groups that are linked to one with an incorrectly worn mask."""
    return {
        index: Outcome(images[index], "refused", COPY_OF_WORN, f"duplicate or near-duplicate of {images[worn].name}")
        for index, worn in excluded.items()
        if images[index].record is not None and index not in outcomes
    }


def _remove_leaks(
    images: Sequence[SourceImage], by_content: _ByContent, splits: Sequence[str], outcomes: Mapping[int, Outcome]
) -> dict[int, Outcome]:
    """Refuse images linked to one of a later published split: first those linked to test, then those linked to val."""
    there = {index for index, image in enumerate(images) if image.record is not None and index not in outcomes}
    found: dict[int, Outcome] = {}
    for rank, split in reversed(list(enumerate(SPLITS))):
        for one, other in by_content.links:
            later = (i for i in by_content.images[one] if splits[i] == split and i in there and i not in found)
            cause = next(later, None)
            if cause is not None:
                detail = f"duplicate or near-duplicate of {images[cause].name} ({split})"
                for index in by_content.images[other]:
                    if index in there and SPLITS.index(splits[index]) < rank:
                        found.setdefault(index, Outcome(images[index], "refused", LEAK, detail))
    return found


@dataclass(frozen=True, slots=True)
class _Group:
    """One group of duplicates, and what its decisions need.

    Attributes:
        images: all images.
        group: the indices of the group's images; the others are duplicates of the first.
        pairs_by_index: all pairs by their indices.
    """

    images: Sequence[SourceImage]
    group: Sequence[int]
    pairs_by_index: Mapping[tuple[int, int], Pair]
    recipe: Recipe

    def outcomes(self, excluded: Mapping[int, int]) -> dict[int, Outcome]:
        usable = [index for index in self.group if self.images[index].record is not None]
        bad = next((excluded[index] for index in self.group if index in excluded), None)
        if bad is not None:
            detail = f"duplicate or near-duplicate of {self.images[bad].name}"
            return {index: Outcome(self.images[index], "refused", COPY_OF_WORN, detail) for index in usable}
        return {} if self.recipe.split == "published" else self._merged(usable)

    def _merged(self, usable: Sequence[int]) -> dict[int, Outcome]:
        """Keep the first image, or follow the recipe's policy if the labels of the duplicates conflict.

        If the images of the preferred source conflict with each other, nothing is kept.
        """
        if len(usable) < 2:
            return {}
        first, conflict = usable[0], self._conflict(usable)
        if conflict:
            preferred = [index for index in usable if self.images[index].source == self._preferred]
            if not preferred or self._conflict(preferred):
                return {index: Outcome(self.images[index], "refused", CONFLICT, conflict) for index in usable}
            first = preferred[0]
        detail = f"of {self.images[first].name}"
        return {index: Outcome(self.images[index], "merged", COPY, detail) for index in usable if index != first}

    @property
    def _preferred(self) -> str:
        return self.recipe.conflicts.prefer if isinstance(self.recipe.conflicts, Prefer) else ""

    def _conflict(self, usable: Sequence[int]) -> str:
        """Describe the first box to which two duplicates give different classes, or return an empty string."""
        first = self.images[usable[0]]
        labels = _labels(first)
        for index in usable[1:]:
            others = self._mapped_labels(index, usable[0])
            for i, j, _ in match(labels, others):
                if labels[i].name != others[j].name:
                    box = ", ".join(f"{corner:.0f}" for corner in labels[i].box.corners)
                    other = self.images[index].name
                    return f"({box}) is {labels[i].name} in {first.name} and {others[j].name} in {other}"
        return ""

    def duplicates(self, number: int, outcomes: Mapping[int, Outcome]) -> Iterator[Duplicate]:
        """Yield the images of the group with their outcomes."""
        kept = next((i for i in self.group if self.images[i].record is not None and i not in outcomes), None)
        kept_labels = () if kept is None else _labels(self.images[kept])
        for index in self.group:
            image, pair = self.images[index], self.pairs_by_index.get((self.group[0], index))
            orientation, similarity = (pair.orientation, pair.worst) if pair else (0, 1.0)
            labels = () if kept is None else self._mapped_labels(index, kept)
            pairs = {j: (i, overlap) for i, j, overlap in match(kept_labels, labels)}
            matches = [pairs.get(j, (-1, 0.0)) for j in range(len(labels))]
            yield Duplicate(
                number,
                image,
                *self._role(index, outcomes),
                orientation,
                similarity,
                labels,
                tuple(i for i, _ in matches),
                tuple(overlap for _, overlap in matches),
            )

    def _role(self, index: int, outcomes: Mapping[int, Outcome]) -> tuple[Literal["kept", "merged", "refused"], str]:
        if index in outcomes:
            return outcomes[index].action, outcomes[index].cause
        return ("kept", "") if self.images[index].record is not None else ("refused", self.images[index].cause)

    def _mapped_labels(self, index: int, kept: int) -> tuple[Annotation, ...]:
        """Return the labels of an image in the pixels of the kept image."""
        record, target = self.images[index].record, self.images[kept].record
        if record is None or target is None:
            return ()
        there = self.pairs_by_index.get((self.group[0], index))
        back = self.pairs_by_index.get((self.group[0], kept))
        sizes = (record.width, record.height), (target.width, target.height)
        if (there and there.transform) or (back and back.transform):
            return mapped(record.labels, *sizes, composed(_map(there), inverted(_map(back))))
        steps = (there.orientation if there else 0, inverse(back.orientation if back else 0))
        return laid_over(record.labels, *sizes, steps)


def _map(pair: Pair | None) -> UnitMap:
    """Return the map of a pair's second image onto the first; without a pair, that of the first onto itself."""
    if pair is None:
        return unit_map(0)
    return pair.transform or unit_map(pair.orientation)


def _labels(image: SourceImage) -> tuple[Annotation, ...]:
    return image.record.labels if image.record is not None else ()


def _counts(
    groups: Mapping[int, Sequence[int]],
    split_groups: SplitGroups,
    links: Iterable[tuple[int, int]],
    duplicates: Sequence[Duplicate],
) -> GroupCounts:
    """Return the figures on duplicates for the card."""
    linked = Counter(int(split_groups.first[index]) for index in {index for link in links for index in link})
    conflicts = {one.group for one in duplicates if one.cause == CONFLICT}
    excluded = {one.group for one in duplicates if one.cause in (COPY_OF_WORN, WORN_INCORRECTLY_CAUSE)}
    return GroupCounts(
        groups=len(groups),
        images=sum(map(len, groups.values())),
        largest=max(map(len, groups.values()), default=0),
        split_groups=len(linked),
        largest_split_group=max(linked.values(), default=0),
        conflicts=len(conflicts),
        excluded=len(excluded),
        joined=split_groups.joined,
    )


def _leaks(kept: Mapping[int, Kept], by_content: _ByContent) -> int:
    """Count the images of val and test that are linked to a kept image of an earlier split."""
    leaking: set[int] = set()
    for one, other in by_content.links:
        ranks = {
            index: SPLITS.index(kept[index].split)
            for content in (one, other)
            for index in by_content.images[content]
            if index in kept
        }
        leaking |= {index for index, rank in ranks.items() if rank > min(ranks.values())}
    return len(leaking)
