"""The record of a finished ensemble: `ensemble.json`, which describes what was built and from what.

Contains counts, digests and notes; the images themselves are in the ensemble's tables (see `contents.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

from facemask_train.core.records import Record
from facemask_train.core.types import SPLITS

Action = Literal["repaired", "refused", "merged"]


@dataclass(frozen=True, slots=True)
class ItemCounts:
    """How many images or boxes were published, and the outcome: total = kept + merged + refused.

    `repaired` ones are among those that were kept.
    """

    total: int = 0
    kept: int = 0
    merged: int = 0
    repaired: int = 0
    refused: int = 0

    def __add__(self, other: ItemCounts) -> ItemCounts:
        return ItemCounts(
            self.total + other.total,
            self.kept + other.kept,
            self.merged + other.merged,
            self.repaired + other.repaired,
            self.refused + other.refused,
        )


@dataclass(frozen=True, slots=True)
class SplitCounts:
    """A number for each split."""

    train: int = 0
    val: int = 0
    test: int = 0

    def __getitem__(self, split: str) -> int:
        return dict(self.items())[split]

    def items(self) -> Iterator[tuple[str, int]]:
        """Yield (split, number) in the order of `SPLITS`."""
        yield from zip(SPLITS, (self.train, self.val, self.test), strict=True)

    @property
    def total(self) -> int:
        return self.train + self.val + self.test


FaceCounts = Mapping[str, Mapping[str, int]]
"""The number of faces by split and class name."""


@dataclass(frozen=True, slots=True)
class SourceCounts:
    """The images and boxes that one source published, and their outcomes; boxes by what their class means."""

    images: ItemCounts
    boxes: Mapping[str, ItemCounts]


@dataclass(frozen=True, slots=True)
class GroupCounts:
    """Figures on duplicates.

    Attributes:
        groups: groups of images that are the same image.
        images: images in those groups.
        largest: images in the largest group.
        split_groups: groups of images that share a split because they are duplicates or near-duplicates.
        largest_split_group: images in the largest of these.
        conflicts: groups that were refused because their labels contradict each other.
        excluded: groups that were refused because one of the images shows an incorrectly worn mask.
        joined: split groups that were in different splits until a later source connected them.
    """

    groups: int = 0
    images: int = 0
    largest: int = 0
    split_groups: int = 0
    largest_split_group: int = 0
    conflicts: int = 0
    excluded: int = 0
    joined: int = 0


@dataclass(frozen=True, slots=True)
class LinkCounts:
    """Links between images that local features found beyond the hashes.

    Attributes:
        same: of one photograph, such as a crop and its original.
        scene: of one scene or series.
        weak: doubtful, between an image and a small group; these share a split too.
        untied: doubtful, between two large groups; these tie nothing, and a person should look at them.
    """

    same: int = 0
    scene: int = 0
    weak: int = 0
    untied: int = 0


@dataclass(frozen=True, slots=True)
class SplitCheck:
    """What the independent check of the splits looked at: ORB points and the correlation of pixels.

    Attributes:
        checked: images of val and test that were looked up in the earlier splits.
        of: images of val and test.
        copies: those with a copy in an earlier split; none unless leaks are kept.
    """

    checked: int
    of: int
    copies: int


@dataclass(frozen=True, slots=True)
class Agreement:
    """How the labels of merged duplicates from one source agree with the labels of the kept images of another.

    Attributes:
        kept: the source of the kept images.
        merged: the source of the merged duplicates.
        images: merged images.
        matched: boxes that match a kept one; `flipped` of them have another class.
        only_kept: boxes of the kept images that no box of the duplicate matches.
        only_merged: boxes of the duplicates that no box of the kept image matches.
        median_iou: of the matched boxes; None if there are none.
    """

    kept: str
    merged: str
    images: int
    matched: int
    flipped: int
    only_kept: int
    only_merged: int
    median_iou: float | None


@dataclass(frozen=True, slots=True)
class IssueCount:
    """How many images or boxes were repaired, refused or merged for one cause."""

    item: Literal["image", "box"]
    action: Action
    cause: str
    count: int


@dataclass(frozen=True, slots=True)
class FixCounts:
    """How many corrections of labels in `fixes.yaml` were applied, and how many found no such image or label."""

    applied: int = 0
    not_found: int = 0


@dataclass(frozen=True, slots=True)
class SourceInputs:
    """What a build takes from one source: the digest of its content, and the settings that decide how it is read."""

    digest: str
    format: str
    classes: Mapping[str, str]
    max_unreadable: float
    limits: Mapping[str, int]
    exif: str


@dataclass(frozen=True, slots=True)
class BuildInputs:
    """Everything that a build depends on: equal inputs give an equal ensemble.

    Attributes:
        code: the versions of the build, the image index and the writer.
        recipe: the recipe's settings as JSON, its description left out.
        sources: by name.
        fixes: a digest of the corrections by hand; empty if there are none.
    """

    code: tuple[int, ...]
    recipe: Mapping[str, object]
    sources: Mapping[str, SourceInputs]
    fixes: str = ""


@dataclass(frozen=True, slots=True)
class EnsembleCard(Record):
    """The content of `ensemble.json`. No time and no path is in it, so equal builds have equal cards.

    Attributes:
        hash: digest of the inputs and of every planned output; equal on every machine.
        images_digest: digest of the bytes of all images.
        manifest_digest: digest of `manifest.parquet`.
        packages: versions of the packages that the images' bytes depend on.
        classes: class names in the order of their ids.
        split_by: whether images were split by group, or as their sources published them.
        images, boxes: outcomes of everything that the sources published.
        outputs: images in the ensemble, augmented copies included.
        splits: the same by split.
        originals: images without augmented copies, by split.
        faces: faces in all images, augmented copies included.
        leaks: images of val or test with a duplicate or near-duplicate in an earlier split.
        links: what local features found beyond the hashes; None if the recipe does without.
        check: what the independent check of the splits looked at; None without local features.
        overlap: by source, how many of its images have a duplicate in each source.
        agreement: how the labels of duplicates agree, by pair of sources.
        face_edits: how many faces of augmented copies were edited, by kind of edit and outcome.
        fixes: how many corrections of labels by hand were applied.
        notes: sentences that a person should read.
        issues: everything that was repaired, merged or refused, by cause.
    """

    FILE: ClassVar[str] = "ensemble.json"
    VERSION: ClassVar[int] = 4
    MAKE: ClassVar[str] = "fmask build-dataset --version NAME"

    name: str
    hash: str
    images_digest: str
    manifest_digest: str
    packages: Mapping[str, str]
    description: str
    classes: tuple[str, ...]
    split_by: Literal["group", "published"]
    images: ItemCounts
    boxes: ItemCounts
    outputs: int
    splits: SplitCounts
    originals: SplitCounts
    faces: FaceCounts
    groups: GroupCounts
    leaks: int
    links: LinkCounts | None
    check: SplitCheck | None
    overlap: Mapping[str, Mapping[str, int]]
    agreement: tuple[Agreement, ...]
    face_edits: Mapping[str, Mapping[str, int]]
    fixes: FixCounts
    notes: tuple[str, ...]
    sources: Mapping[str, SourceCounts]
    issues: tuple[IssueCount, ...]
    inputs: BuildInputs

    def faces_in(self, split: str) -> int:
        """Return the number of faces of all classes in a split."""
        return sum(self.faces[split].values())
