"""The groups of copies in images, so that a person sees a wrong merge (`fmask inspect --duplicates`).

The least alike stand first. Copies are turned as the kept image is, and their labels laid over it. Images that are
not in the ensemble come from `data/raw/`; one that is gone is said to be.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.boxes import inverse
from facemask_train.core.types import CLASSES
from facemask_train.dataset.contents import Held, Holdings, Member, Name
from facemask_train.dataset.grouping.groups import CONFLICT
from facemask_train.report import html
from facemask_train.report.dataset.published import published_marks
from facemask_train.report.dataset.thumbnails import SHOWN_CLASSES, Mark, draw, marks_of
from facemask_train.sources.source_record import source_folder

if TYPE_CHECKING:
    from markupsafe import Markup

_MOST = {"copies": 72, "conflicts": 36, "exclusions": 24, "kin": 36}  # sets that are shown: some 6 MB in all
_MOST_IN_SET = 8  # images
_LIKENESS_BINS = 12
_TURNS = (
    "as it is",
    "turned 90°",
    "turned 180°",
    "turned 270°",
    "mirrored",
    *(f"mirrored, turned {by}°" for by in (90, 180, 270)),
)


@dataclass(frozen=True, slots=True)
class _Group:
    """The images of one group, and the first of them that the ensemble keeps."""

    members: tuple[Member, ...]
    kept: Held | None

    @property
    def conflicts(self) -> bool:
        return any(one.cause == CONFLICT for one in self.members)

    @property
    def likeness(self) -> float:
        return min(one.likeness for one in self.members)


def group_sections(root: Path, held: Holdings) -> Iterator[html.Section]:
    """Give the sections: copies, conflicts, exclusions, and images that are only kin."""
    groups = sorted(_groups(held), key=lambda one: one.likeness)
    alike = [one for one in groups if one.kept]
    conflicts = [one for one in groups if not one.kept and one.conflicts]
    excluded = [one for one in groups if not one.kept and not one.conflicts]
    yield _copies(root, held, alike)
    yield _refused(root, held, conflicts, "Conflicts", "conflicts", "whose copies give one face different classes")
    yield _refused(root, held, excluded, "Exclusions", "exclusions", "of which nothing is kept, for other causes")
    yield _kin(held)


def _groups(held: Holdings) -> list[_Group]:
    originals = held.originals
    members: dict[int, list[Member]] = defaultdict(list)
    for one in held.members:
        members[one.group].append(one)
    return [
        _Group(
            tuple(group),
            next((originals[one.name] for one in group if one.role == "kept" and one.name in originals), None),
        )
        for _, group in sorted(members.items())
    ]


def _told(shown: int, total: int, what: str, order: str = "") -> str:
    if total == 0:
        return f"There is no group {what}."
    if total == 1:
        return f"There is one group {what}."
    part = f"All {total:,}" if shown == total else f"{shown:,} of {total:,}"
    return f"{part} groups {what}{order}."


# ---- groups of which an image is kept ----


def _copies(root: Path, held: Holdings, groups: Sequence[_Group]) -> html.Section:
    shown = groups[: _MOST["copies"]]
    lede = _told(len(shown), len(groups), "of copies of which an image is kept", ", the least alike first")
    parts: list[Markup] = []
    if shown:
        parts = [_likenesses(groups), html.legend(CLASSES), html.sets(_set(root, held, one) for one in shown)]
    return html.Section("Copies in images", tuple(parts), lede)


def _likenesses(groups: Sequence[_Group]) -> Markup:
    """Return how alike copies are: few should stand near the threshold."""
    found = [one.likeness for group in groups for one in group.members[1:]]
    low = min([0.7, *found])
    width = (1 - low) / _LIKENESS_BINS
    places = [min(_LIKENESS_BINS - 1, int((likeness - low) / width)) for likeness in found]
    columns = [places.count(place) for place in range(_LIKENESS_BINS)]
    ticks = [f"{low + place * width:.2f}" for place in range(_LIKENESS_BINS)]
    return html.histogram(
        ticks, [("copies", columns)], axis="likeness from", caption="Copies by how like they are to their group's first"
    )


def _set(root: Path, held: Holdings, group: _Group) -> html.ImageSet:
    assert group.kept is not None
    back = next(one.orientation for one in group.members if one.name == group.kept.name)
    items = [
        _member(root, held, one, group.kept, (one.orientation, inverse(back))) for one in group.members[:_MOST_IN_SET]
    ]
    there = {held.originals[one.name].split for one in group.members if one.name in held.originals}
    aside = f"likeness {group.likeness:.3f} · {' and '.join(sorted(there))}"
    return html.ImageSet(_title(group.members), aside, tuple(items))


def _title(members: Sequence[Member]) -> str:
    more = f", the first {_MOST_IN_SET}" if len(members) > _MOST_IN_SET else ""
    return f"Group {members[0].group}: {len(members)} images{more}"


def _member(root: Path, held: Holdings, one: Member, kept: Held, turns: tuple[int, int]) -> html.Shown:
    is_kept = one.name == kept.name
    marks = marks_of(kept.labels if is_kept else one.labels)
    own = held.originals.get(one.name)
    path = held.folder / own.image if own else _raw(root, one.name)
    words = [*([] if is_kept else [f"{one.likeness:.3f}"]), *([_TURNS[one.orientation]] if one.orientation else [])]
    caption = " · ".join([*words, f"{one.source} · {one.source_image}"])
    role = one.role if one.role != "refused" else f"refused: {one.cause}"
    sha256 = "" if own else one.sha256
    return draw(path, marks, kept.size, caption=caption, mark=role, orientations=turns, sha256=sha256)


def _raw(root: Path, name: Name) -> Path:
    return source_folder(root, name[0]) / "files" / name[1]


# ---- groups of which nothing is kept ----


def _refused(root: Path, held: Holdings, groups: Sequence[_Group], title: str, kind: str, what: str) -> html.Section:
    shown = groups[: _MOST[kind]]
    lede = _told(len(shown), len(groups), what, ", the least alike first")
    if not shown:
        return html.Section(title, (), lede)
    marks = published_marks(root, held, [one.name for group in shown for one in group.members])
    made = html.sets(_refused_set(root, held, group, marks) for group in shown)
    return html.Section(title, (html.legend(SHOWN_CLASSES), made), f"{lede} Boxes as published.")


def _refused_set(root: Path, held: Holdings, group: _Group, marks: dict[Name, list[Mark]]) -> html.ImageSet:
    items = [
        draw(
            _raw(root, one.name),
            marks.get(one.name, []),
            caption=" · ".join(([_TURNS[one.orientation]] if one.orientation else []) + list(one.name)),
            mark=one.cause,
            orientations=(one.orientation,),
            sha256=one.sha256,
        )
        for one in group.members[:_MOST_IN_SET]
    ]
    details = dict.fromkeys(held.gone[one.name].detail for one in group.members if one.cause == CONFLICT)
    return html.ImageSet(_title(group.members), f"likeness {group.likeness:.3f}", tuple(items), "; ".join(details))


# ---- kin ----


def _kin(held: Holdings) -> html.Section:
    families = _families(held)
    shown = families[: _MOST["kin"]]
    lede = (
        "Images that are tied and not the same: two moments of one scene, a copy with something drawn on it. Each"
        f" stands for itself, and a family shares a split. {len(shown):,} of {len(families):,} families."
    )
    items = [_family(held, family) for family in shown]
    return html.Section("Kin", (html.legend(CLASSES), html.sets(items)) if items else (), lede)


def _families(held: Holdings) -> list[list[Held]]:
    """Return the originals of one family that are not all of one group of copies, the largest families first."""
    groups = {one.name: one.group for one in held.members}
    families: dict[str, list[Held]] = defaultdict(list)
    for one in held.originals.values():
        families[one.family].append(one)
    tied = [found for found in families.values() if len(found) > 1]
    apart = [found for found in tied if len({groups.get(one.name, one.name) for one in found}) > 1]
    return sorted(apart, key=lambda found: (-len(found), found[0].image))


def _family(held: Holdings, family: Sequence[Held]) -> html.ImageSet:
    items = [
        draw(held.folder / one.image, marks_of(one.labels), one.size, caption=f"{one.source} · {one.source_image}")
        for one in family[:_MOST_IN_SET]
    ]
    more = f", the first {_MOST_IN_SET}" if len(family) > _MOST_IN_SET else ""
    splits = ", ".join(sorted({one.split for one in family}))
    return html.ImageSet(f"{len(family)} images{more}", splits, tuple(items))
