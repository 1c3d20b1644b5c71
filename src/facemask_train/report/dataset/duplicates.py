"""The groups of duplicates in images, so that a person can find wrong merges (`fmask inspect --duplicates`).

The least similar groups come first. Duplicates are shown in the orientation of the kept image, with their labels
mapped onto it. Images that are not in the ensemble are read from `data/raw/`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from facemask_train.core.boxes import inverse
from facemask_train.core.types import CLASSES
from facemask_train.dataset.contents import EnsembleContents, EnsembleImage, GroupMember, ImageName
from facemask_train.dataset.grouping.groups import CONFLICT
from facemask_train.report import html
from facemask_train.report.dataset.published import published_marks
from facemask_train.report.dataset.thumbnails import SHOWN_CLASSES, Mark, marks_of, thumbnail
from facemask_train.sources.source_record import source_folder

if TYPE_CHECKING:
    from markupsafe import Markup

_MAX_GROUPS = {"duplicates": 72, "conflicts": 36, "exclusions": 24, "near-duplicates": 36}  # about 6 MB in total
_MAX_IMAGES = 8  # images
_SIMILARITY_BINS = 12
_ORIENTATIONS = (
    "unchanged",
    "rotated 90°",
    "rotated 180°",
    "rotated 270°",
    "mirrored",
    *(f"mirrored, rotated {by}°" for by in (90, 180, 270)),
)


@dataclass(frozen=True, slots=True)
class _Group:
    """The images of one group, and the first one that the ensemble keeps."""

    members: tuple[GroupMember, ...]
    kept: EnsembleImage | None

    @property
    def conflicts(self) -> bool:
        return any(one.cause == CONFLICT for one in self.members)

    @property
    def similarity(self) -> float:
        return min(one.similarity for one in self.members)


def group_sections(root: Path, contents: EnsembleContents) -> Iterator[html.Section]:
    """Yield the sections: duplicates, conflicts, exclusions, and near-duplicates."""
    groups = sorted(_groups(contents), key=lambda one: one.similarity)
    merged = [one for one in groups if one.kept]
    conflicts = [one for one in groups if not one.kept and one.conflicts]
    excluded = [one for one in groups if not one.kept and not one.conflicts]
    yield _duplicates(root, contents, merged)
    yield _refused(root, contents, conflicts, "Conflicts", "conflicts", "whose labels give one face different classes")
    yield _refused(root, contents, excluded, "Exclusions", "exclusions", "of which no image is kept for other reasons")
    yield _near_duplicates(contents)


def _groups(contents: EnsembleContents) -> list[_Group]:
    originals = contents.originals
    members: dict[int, list[GroupMember]] = defaultdict(list)
    for one in contents.members:
        members[one.group].append(one)
    return [
        _Group(
            tuple(group),
            next((originals[one.name] for one in group if one.role == "kept" and one.name in originals), None),
        )
        for _, group in sorted(members.items())
    ]


def _lede(shown: int, total: int, what: str, order: str = "") -> str:
    if total == 0:
        return f"There is no group {what}."
    if total == 1:
        return f"There is one group {what}."
    part = f"All {total:,}" if shown == total else f"{shown:,} of {total:,}"
    return f"{part} groups {what}{order}."


# ---- groups of which an image is kept ----


def _duplicates(root: Path, contents: EnsembleContents, groups: Sequence[_Group]) -> html.Section:
    shown = groups[: _MAX_GROUPS["duplicates"]]
    lede = _lede(len(shown), len(groups), "of duplicates with a kept image", ", the least similar first")
    parts: list[Markup] = []
    if shown:
        parts = [
            _similarity_histogram(groups),
            html.legend(CLASSES),
            html.sets(_set(root, contents, one) for one in shown),
        ]
    return html.Section("Duplicates in images", tuple(parts), lede)


def _similarity_histogram(groups: Sequence[_Group]) -> Markup:
    """Return a histogram of similarities: few should be near the threshold."""
    found = [one.similarity for group in groups for one in group.members[1:]]
    low = min([0.7, *found])
    width = (1 - low) / _SIMILARITY_BINS
    bins = [min(_SIMILARITY_BINS - 1, int((similarity - low) / width)) for similarity in found]
    columns = [bins.count(index) for index in range(_SIMILARITY_BINS)]
    ticks = [f"{low + index * width:.2f}" for index in range(_SIMILARITY_BINS)]
    return html.histogram(
        ticks,
        [("duplicates", columns)],
        axis="similarity from",
        caption="Duplicates by their similarity to the first image of their group",
    )


def _set(root: Path, contents: EnsembleContents, group: _Group) -> html.ImageSet:
    assert group.kept is not None
    back = next(one.orientation for one in group.members if one.name == group.kept.name)
    items = [
        _member(root, contents, one, group.kept, (one.orientation, inverse(back)))
        for one in group.members[:_MAX_IMAGES]
    ]
    splits = {contents.originals[one.name].split for one in group.members if one.name in contents.originals}
    aside = f"similarity {group.similarity:.3f} · {' and '.join(sorted(splits))}"
    return html.ImageSet(_title(group.members), aside, tuple(items))


def _title(members: Sequence[GroupMember]) -> str:
    more = f", the first {_MAX_IMAGES}" if len(members) > _MAX_IMAGES else ""
    return f"Group {members[0].group}: {len(members)} images{more}"


def _member(
    root: Path, contents: EnsembleContents, one: GroupMember, kept: EnsembleImage, orientations: tuple[int, int]
) -> html.GridImage:
    is_kept = one.name == kept.name
    marks = marks_of(kept.labels if is_kept else one.labels)
    own = contents.originals.get(one.name)
    path = contents.folder / own.image if own else _raw(root, one.name)
    details = [
        *([] if is_kept else [f"{one.similarity:.3f}"]),
        *([_ORIENTATIONS[one.orientation]] if one.orientation else []),
    ]
    caption = " · ".join([*details, f"{one.source} · {one.source_image}"])
    role = one.role if one.role != "refused" else f"refused: {one.cause}"
    sha256 = "" if own else one.sha256
    return thumbnail(path, marks, kept.size, caption=caption, mark=role, orientations=orientations, sha256=sha256)


def _raw(root: Path, name: ImageName) -> Path:
    return source_folder(root, name[0]) / "files" / name[1]


# ---- groups of which nothing is kept ----


def _refused(
    root: Path, contents: EnsembleContents, groups: Sequence[_Group], title: str, kind: str, what: str
) -> html.Section:
    shown = groups[: _MAX_GROUPS[kind]]
    lede = _lede(len(shown), len(groups), what, ", the least similar first")
    if not shown:
        return html.Section(title, (), lede)
    marks = published_marks(root, contents, [one.name for group in shown for one in group.members])
    sets = html.sets(_refused_set(root, contents, group, marks) for group in shown)
    return html.Section(title, (html.legend(SHOWN_CLASSES), sets), f"{lede} Boxes as published.")


def _refused_set(
    root: Path, contents: EnsembleContents, group: _Group, marks: dict[ImageName, list[Mark]]
) -> html.ImageSet:
    items = [
        thumbnail(
            _raw(root, one.name),
            marks.get(one.name, []),
            caption=" · ".join(([_ORIENTATIONS[one.orientation]] if one.orientation else []) + list(one.name)),
            mark=one.cause,
            orientations=(one.orientation,),
            sha256=one.sha256,
        )
        for one in group.members[:_MAX_IMAGES]
    ]
    details = dict.fromkeys(contents.excluded[one.name].detail for one in group.members if one.cause == CONFLICT)
    return html.ImageSet(_title(group.members), f"similarity {group.similarity:.3f}", tuple(items), "; ".join(details))


# ---- near-duplicates ----


def _near_duplicates(contents: EnsembleContents) -> html.Section:
    groups = _near_duplicate_groups(contents)
    shown = groups[: _MAX_GROUPS["near-duplicates"]]
    lede = (
        "Similar images that are not duplicates: two shots of one scene, a copy with something drawn on it. They are"
        f" kept as separate images in one split. {len(shown):,} of {len(groups):,} groups."
    )
    items = [_near_duplicate_set(contents, group) for group in shown]
    return html.Section("Near-duplicates", (html.legend(CLASSES), html.sets(items)) if items else (), lede)


def _near_duplicate_groups(contents: EnsembleContents) -> list[list[EnsembleImage]]:
    """Return the split groups that are not a single group of duplicates, the largest first."""
    duplicates = {one.name: one.group for one in contents.members}
    groups: dict[str, list[EnsembleImage]] = defaultdict(list)
    for one in contents.originals.values():
        groups[one.split_group].append(one)
    different = [found for found in groups.values() if len({duplicates.get(one.name, one.name) for one in found}) > 1]
    return sorted(different, key=lambda found: (-len(found), found[0].image))


def _near_duplicate_set(contents: EnsembleContents, group: Sequence[EnsembleImage]) -> html.ImageSet:
    items = [
        thumbnail(
            contents.folder / one.image, marks_of(one.labels), one.size, caption=f"{one.source} · {one.source_image}"
        )
        for one in group[:_MAX_IMAGES]
    ]
    more = f", the first {_MAX_IMAGES}" if len(group) > _MAX_IMAGES else ""
    splits = ", ".join(sorted({one.split for one in group}))
    return html.ImageSet(f"{len(group)} images{more}", splits, tuple(items))
