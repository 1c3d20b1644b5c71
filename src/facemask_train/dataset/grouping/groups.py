"""What becomes of images that are the same image: one is kept, and exclusions and conflicts act on all of them.

Pure: from records and pairs to decisions. The copies' labels are laid over the kept image's and compared; what they
agree on is an agreement of copies, which may have one author, not of people.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from facemask_train.core.boxes import inverse, laid_over, match
from facemask_train.core.recipe import Prefer, Recipe, Split
from facemask_train.core.types import SPLITS, WORN_INCORRECTLY_CAUSE, Annotation, ImageRecord
from facemask_train.dataset.card import Agreement, GroupCounts
from facemask_train.dataset.grouping.duplicates import Pair, groups_of
from facemask_train.dataset.grouping.label_agreement import Copy, Member, agreements, overlap
from facemask_train.dataset.grouping.split import Families, families, published_split

COPY_OF_WORN = f"copy-of-{WORN_INCORRECTLY_CAUSE}"
CONFLICT = "class-conflict"
COPY = "copy"
LEAK = "copy-in-later-split"


@dataclass(frozen=True, slots=True)
class Kept:
    """An image of the ensemble: its split, and the first image of its family (the sha256 of it)."""

    record: ImageRecord
    split: str
    family: str


@dataclass(frozen=True, slots=True)
class Fate:
    """What a group decides of an image that had a record: merged into another, or refused, and why."""

    member: Member
    action: Literal["merged", "refused"]
    cause: str
    detail: str


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the ensemble holds, what became of the rest, and the groups.

    `leaks` are images of val and test that are the same image as, or of one scene with, one of an earlier split.
    `overlap` counts, by pair of sources, the first's images that have a copy in the second.
    """

    kept: tuple[Kept, ...]
    fates: tuple[Fate, ...]
    copies: tuple[Copy, ...]
    agreements: tuple[Agreement, ...]
    overlap: Mapping[str, Mapping[str, int]]
    counts: GroupCounts
    leaks: int


def decide(members: Sequence[Member], pairs: Sequence[Pair], recipe: Recipe) -> Decisions:
    """Decide what becomes of every image that has a record.

    Args:
        members: all readable images, in the order of the recipe's sources, then of their paths.
        pairs: by index in `members`, as `find_pairs` gives them: of equal bytes, the first image stands for all.
    """
    leader = groups_of(pairs)
    groups: dict[int, list[int]] = defaultdict(list)
    for index in sorted({*leader, *leader.values()}):
        groups[leader.get(index, index)].append(index)
    ties = {(pair.first, pair.second) for pair in pairs}
    contents = _Contents.of(members, ties)
    kin = _families(members, ties, recipe)
    turns = {(pair.first, pair.second): pair for pair in pairs}
    tainted = _tainted(members, pairs) if recipe.worn_incorrectly == "drop-image" else {}
    fates: dict[int, Fate] = {}
    of_one_image = [_Group(members, group, turns, recipe) for group in groups.values()]
    for group in of_one_image:
        fates |= group.fates(tainted)
    fates |= _lone_taints(members, tainted, fates)
    if recipe.split == "published" and recipe.leaks == "remove":
        fates |= _leaving(members, contents, kin.splits, fates)
    copies = [copy for number, group in enumerate(of_one_image) for copy in group.copies(number, fates)]
    kept = {
        index: Kept(member.record, kin.splits[index], members[kin.first[index]].sha256)
        for index, member in enumerate(members)
        if member.record is not None and index not in fates
    }
    return Decisions(
        tuple(kept.values()),
        tuple(fates[index] for index in sorted(fates)),
        tuple(copies),
        tuple(agreements(copies)),
        overlap(members, groups.values(), recipe.sources),
        _counts(groups, kin, ties, copies),
        _leaks(kept, contents),
    )


@dataclass(frozen=True, slots=True)
class _Contents:
    """Images by their bytes: what holds of one holds of all that are equal to it.

    `holders` are the images (by index) of each content, which is known by its first one; `ties` pairs of contents,
    either way round, each with itself too.
    """

    holders: Mapping[int, Sequence[int]]
    ties: Sequence[tuple[int, int]]

    @classmethod
    def of(cls, members: Sequence[Member], ties: Iterable[tuple[int, int]]) -> _Contents:
        first: dict[str, int] = {}
        content = [first.setdefault(member.sha256, index) for index, member in enumerate(members)]
        holders: dict[int, list[int]] = defaultdict(list)
        for index, known in enumerate(content):
            holders[known].append(index)
        ways = {(content[one], content[other]) for one, other in ties}
        return cls(holders, sorted({*ways, *((other, one) for one, other in ways)}))


def _families(members: Sequence[Member], ties: Iterable[tuple[int, int]], recipe: Recipe) -> Families:
    places = {source: place for place, source in enumerate(recipe.sources)}
    shares = recipe.split if isinstance(recipe.split, Split) else Split()
    found = families([one.sha256 for one in members], [places[one.source] for one in members], ties, shares)
    if isinstance(recipe.split, Split):
        return found
    return Families(found.first, [published_split(member.path) or "train" for member in members], 0)


def _tainted(members: Sequence[Member], pairs: Iterable[Pair]) -> dict[int, int]:
    """Return the images that show a mask worn incorrectly, or are tied to one that does -> that one.

    Kin count too: a moment later the mask still sits wrong, whatever another source calls it. An image that is tied to
    one that is tied is left alone: at two steps it may be another.
    """
    worn: dict[str, int] = {}
    for index, member in enumerate(members):
        if member.cause == WORN_INCORRECTLY_CAUSE:
            worn.setdefault(member.sha256, index)
    found = dict(worn)  # by content
    for pair in pairs:
        one, other = members[pair.first].sha256, members[pair.second].sha256
        for here, there in ((one, other), (other, one)):
            if here in worn:
                found.setdefault(there, worn[here])
    return {index: found[member.sha256] for index, member in enumerate(members) if member.sha256 in found}


def _lone_taints(members: Sequence[Member], tainted: Mapping[int, int], fates: Mapping[int, Fate]) -> dict[int, Fate]:
    """Refuse what is outside of any group and still tied to an image with a mask worn incorrectly."""
    return {
        index: Fate(members[index], "refused", COPY_OF_WORN, f"the same image or scene as {members[worn].name}")
        for index, worn in tainted.items()
        if index != worn and members[index].record is not None and index not in fates
    }


def _leaving(
    members: Sequence[Member], contents: _Contents, splits: Sequence[str], fates: Mapping[int, Fate]
) -> dict[int, Fate]:
    """Refuse what is tied to an image of a later published split: first what test ties, then what val ties."""
    there = {index for index, member in enumerate(members) if member.record is not None and index not in fates}
    found: dict[int, Fate] = {}
    for place, split in reversed(list(enumerate(SPLITS))):
        for one, other in contents.ties:
            holders = (i for i in contents.holders[one] if splits[i] == split and i in there and i not in found)
            holder = next(holders, None)
            if holder is not None:
                detail = f"the same image as, or of one scene with, {members[holder].name} ({split})"
                for index in contents.holders[other]:
                    if index in there and SPLITS.index(splits[index]) < place:
                        found.setdefault(index, Fate(members[index], "refused", LEAK, detail))
    return found


@dataclass(frozen=True, slots=True)
class _Group:
    """The members of one group (indices, the first leads), and what its decisions need."""

    members: Sequence[Member]
    group: Sequence[int]
    turns: Mapping[tuple[int, int], Pair]
    recipe: Recipe

    def fates(self, tainted: Mapping[int, int]) -> dict[int, Fate]:
        usable = [index for index in self.group if self.members[index].record is not None]
        bad = next((tainted[index] for index in self.group if index in tainted), None)
        if bad is not None:
            detail = f"the same image or scene as {self.members[bad].name}"
            return {index: Fate(self.members[index], "refused", COPY_OF_WORN, detail) for index in usable}
        return {} if self.recipe.split == "published" else self._merged(usable)

    def _merged(self, usable: Sequence[int]) -> dict[int, Fate]:
        """Keep the first, or what the policy says where the copies' classes contradict each other.

        A preferred source that contradicts itself settles nothing.
        """
        if len(usable) < 2:
            return {}
        first, conflict = usable[0], self._conflict(usable)
        if conflict:
            preferred = [index for index in usable if self.members[index].source == self._preferred]
            if not preferred or self._conflict(preferred):
                return {index: Fate(self.members[index], "refused", CONFLICT, conflict) for index in usable}
            first = preferred[0]
        detail = f"of {self.members[first].name}"
        return {index: Fate(self.members[index], "merged", COPY, detail) for index in usable if index != first}

    @property
    def _preferred(self) -> str:
        return self.recipe.conflicts.prefer if isinstance(self.recipe.conflicts, Prefer) else ""

    def _conflict(self, usable: Sequence[int]) -> str:
        """Return in words the first box that two copies give different classes, or an empty string."""
        first = self.members[usable[0]]
        mine = _labels(first)
        for index in usable[1:]:
            theirs = self._over(index, usable[0])
            for i, j, _ in match(mine, theirs):
                if mine[i].name != theirs[j].name:
                    box = ", ".join(f"{corner:.0f}" for corner in mine[i].box.corners)
                    other = self.members[index].name
                    return f"({box}) is {mine[i].name} in {first.name} and {theirs[j].name} in {other}"
        return ""

    def copies(self, number: int, fates: Mapping[int, Fate]) -> Iterator[Copy]:
        """Give the group's images with what became of each."""
        kept = next((i for i in self.group if self.members[i].record is not None and i not in fates), None)
        base = () if kept is None else _labels(self.members[kept])
        for index in self.group:
            member, pair = self.members[index], self.turns.get((self.group[0], index))
            orientation, alike = (pair.orientation, pair.worst) if pair else (0, 1.0)
            labels = () if kept is None else self._over(index, kept)
            found = {j: (i, overlap) for i, j, overlap in match(base, labels)}
            yield Copy(
                number,
                member,
                *self._role(index, fates),
                orientation,
                alike,
                labels,
                tuple(found.get(j, (-1, 0.0))[0] for j in range(len(labels))),
                tuple(found.get(j, (-1, 0.0))[1] for j in range(len(labels))),
            )

    def _role(self, index: int, fates: Mapping[int, Fate]) -> tuple[Literal["kept", "merged", "refused"], str]:
        if index in fates:
            return fates[index].action, fates[index].cause
        return ("kept", "") if self.members[index].record is not None else ("refused", self.members[index].cause)

    def _over(self, index: int, kept: int) -> tuple[Annotation, ...]:
        """Return a member's labels as they lie on the kept image."""
        record, target = self.members[index].record, self.members[kept].record
        if record is None or target is None:
            return ()
        there = self.turns.get((self.group[0], index))
        back = self.turns.get((self.group[0], kept))
        steps = (there.orientation if there else 0, inverse(back.orientation if back else 0))
        return laid_over(record.labels, (record.width, record.height), (target.width, target.height), steps)


def _labels(member: Member) -> tuple[Annotation, ...]:
    return member.record.labels if member.record is not None else ()


def _counts(
    groups: Mapping[int, Sequence[int]], kin: Families, ties: Iterable[tuple[int, int]], copies: Sequence[Copy]
) -> GroupCounts:
    """Return the figures on duplicates for the card."""
    tied = Counter(int(kin.first[index]) for index in {index for tie in ties for index in tie})
    conflicts = {copy.group for copy in copies if copy.cause == CONFLICT}
    excluded = {copy.group for copy in copies if copy.cause in (COPY_OF_WORN, WORN_INCORRECTLY_CAUSE)}
    return GroupCounts(
        groups=len(groups),
        images=sum(map(len, groups.values())),
        largest=max(map(len, groups.values()), default=0),
        split_groups=len(tied),
        largest_split_group=max(tied.values(), default=0),
        conflicts=len(conflicts),
        excluded=len(excluded),
        joined=kin.joined,
    )


def _leaks(kept: Mapping[int, Kept], contents: _Contents) -> int:
    """Count the images of val and test that are tied to a kept image of an earlier split."""
    leaking: set[int] = set()
    for one, other in contents.ties:
        places = {
            index: SPLITS.index(kept[index].split)
            for content in (one, other)
            for index in contents.holders[content]
            if index in kept
        }
        leaking |= {index for index, place in places.items() if place > min(places.values())}
    return len(leaking)
