"""Reads and validates one fetched source, and counts the outcome of every image and box."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from facemask_train import formats
from facemask_train.core.config import Source
from facemask_train.core.errors import FmaskError
from facemask_train.core.recipe import Recipe
from facemask_train.core.types import CLASSES, WORN_INCORRECTLY, ImageRecord, PublishedRow
from facemask_train.dataset.card import ItemCounts
from facemask_train.dataset.grouping.groups import Outcome
from facemask_train.dataset.grouping.split import published_split
from facemask_train.dataset.loading.box_sheet import with_box_sheet
from facemask_train.dataset.loading.class_map import class_meanings, show_classes
from facemask_train.dataset.loading.exif import read_oriented, warn
from facemask_train.dataset.loading.image_index import ImageIndex
from facemask_train.dataset.loading.readable import check_readable
from facemask_train.dataset.loading.validate import UNKNOWN, Issue, LabelRules, validate
from facemask_train.formats.box_readings import AmbiguousBoxesError
from facemask_train.formats.limits import using
from facemask_train.formats.split_lists import read_split_lists
from facemask_train.sources.source_record import altered, source_folder


@dataclass(frozen=True, slots=True)
class LoadedSource:
    """One source after validation.

    Attributes:
        index: all its image files.
        records: the usable images with their annotations.
        rows: the published rows behind each record's annotations, by image path.
        issues: everything that was repaired, merged or refused.
        published: how many rows were published, by what their class means.
        notes: sentences that a person should read.
        splits: the published split of each image that has one, by its path, if the recipe keeps published splits.
    """

    index: ImageIndex
    records: tuple[ImageRecord, ...]
    rows: Mapping[str, tuple[PublishedRow, ...]]
    issues: tuple[Issue, ...]
    rules: LabelRules
    published: Mapping[str, int]
    notes: tuple[str, ...] = ()
    splits: Mapping[str, str] = field(default_factory=dict)

    def with_outcomes(self, outcomes: Mapping[str, Outcome]) -> LoadedSource:
        """Return the source with the outcomes that groups decided for its images, by path.

        The repairs of these images are removed from the issues, since they are not carried out.
        """
        remaining = [one for one in self.issues if one.action != "repaired" or one.image not in outcomes]
        return replace(
            self, issues=(*remaining, *(row for path, outcome in outcomes.items() for row in self._rows(path, outcome)))
        )

    def _rows(self, path: str, outcome: Outcome) -> Iterator[Issue]:
        yield Issue(self.rules.source, path, "image", outcome.action, outcome.cause, outcome.detail)
        for row in self.rows[path]:
            yield self.rules.issue(row, path, outcome.action, outcome.cause, outcome.detail)

    def images(self) -> ItemCounts:
        """Return the outcomes of all images."""
        acts = Counter(issue.action for issue in self.issues if issue.item == "image")
        total = len(self.index.facts)
        return ItemCounts(
            total, total - acts["merged"] - acts["refused"], acts["merged"], acts["repaired"], acts["refused"]
        )

    def boxes(self) -> dict[str, ItemCounts]:
        """Return the outcomes of all boxes, by what their class means."""
        acts = Counter((issue.label, issue.action) for issue in self.issues if issue.item == "box")
        return {
            label: ItemCounts(
                self.published[label],
                self.published[label] - acts[label, "merged"] - acts[label, "refused"],
                acts[label, "merged"],
                acts[label, "repaired"],
                acts[label, "refused"],
            )
            for label in (*CLASSES, WORN_INCORRECTLY, UNKNOWN)
            if self.published.get(label)
        }


def load_source(root: Path, name: str, source: Source, index: ImageIndex, recipe: Recipe) -> LoadedSource:
    """Read and validate one fetched source.

    Raises:
        DataError: an image was added or removed after the source was fetched.
    """
    files = source_folder(root, name) / "files"
    read = partial(formats.read, files, source.format, limits=source.limits)
    try:
        exif = read_oriented(read, index.by_path, source.exif)
    except AmbiguousBoxesError as error:
        raise with_box_sheet(files, root / "data" / "class-maps" / f"{name}-boxes.jpg", error) from error
    reading = exif.reading
    unexpected = sorted({image.path for image in reading.images} ^ set(index.by_path))
    if unexpected:
        raise altered(files / unexpected[0], "none" if unexpected[0] in index.by_path else "one that is new")
    check_readable(files, reading, source.max_unreadable)
    rules = LabelRules(name, class_meanings(root, name, source, reading), recipe.worn_incorrectly, exif.stored)
    validated = validate(reading, index.by_path, rules)
    rows = [row for image in reading.images for row in image.rows] + list(reading.orphans)
    published = Counter(rules.meaning(row) for row in rows)
    show_classes(root, name, validated.rows)
    note = warn(files, root / "data" / "class-maps" / f"{name}-exif.jpg", name, index.by_path, exif)
    notes = (note,) if note else ()
    splits = _published_splits(files, index, source) if recipe.split == "published" else {}
    return LoadedSource(index, validated.records, validated.rows, validated.issues, rules, published, notes, splits)


def _published_splits(files: Path, index: ImageIndex, source: Source) -> dict[str, str]:
    """Return the split of each image that has a published one: by a list, or else by its folder."""
    paths = list(index.by_path)
    with using(source.limits):
        listed = read_split_lists(files, paths)
    return {path: split for path in paths if (split := listed.get(path) or published_split(path))}


def check_totals(name: str, loaded: LoadedSource, images: int, labels: int) -> None:
    """Check that total = kept + merged + refused, by comparing the counts with what the ensemble keeps.

    Args:
        images, labels: the images and labels of the source that the ensemble keeps.

    Raises:
        FmaskError: they differ: an image or a box was lost without an issue.
    """
    counted = (loaded.images().kept, sum(counts.kept for counts in loaded.boxes().values()))
    if counted != (images, labels):
        raise FmaskError(
            f"{name}: expected {counted} images and boxes to be kept, found {(images, labels)}; this is a bug"
        )


def check_kept(loaded: Mapping[str, LoadedSource], kept: Sequence[ImageRecord]) -> None:
    """Check the totals of all sources against the images that the ensemble keeps."""
    for name, source in loaded.items():
        records = [one for one in kept if one.source == name]
        check_totals(name, source, len(records), sum(len(record.labels) for record in records))
