"""Reads a finished ensemble back from its tables. The counterpart of `write.py`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from facemask_train.core.errors import DataError
from facemask_train.core.files import inside
from facemask_train.core.types import SPLITS, Annotation, Box
from facemask_train.dataset.card import EnsembleCard
from facemask_train.dataset.loading.validate import Issue
from facemask_train.dataset.versions import find_ensemble, read_ensemble

ImageName = tuple[str, str]
"""Identifies a published image: its source, and its path in the source."""

Row = TypeVar("Row")

_TableRow = Mapping[str, Any]  # as pyarrow returns it


@dataclass(frozen=True, slots=True)
class EnsembleImage:
    """One image of an ensemble: a row of its manifest.

    Attributes:
        copy: the name of the augmented copy; empty for the original.
        labels: with boxes in pixels.
        edits: face-aware edits, such as `3 beard done`.
    """

    image: str
    split: str
    source: str
    source_image: str
    sha256: str
    split_group: str
    copy: str
    output_sha256: str
    width: int
    height: int
    labels: tuple[Annotation, ...]
    edits: tuple[str, ...]

    @property
    def name(self) -> ImageName:
        return self.source, self.source_image

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class GroupMember:
    """One image of a group of duplicates: a row of `groups.parquet`.

    Attributes:
        orientation: puts the image in the orientation of the group's first image (see `core.boxes.oriented`).
        labels: in the pixels of the kept image.
    """

    group: int
    source: str
    source_image: str
    sha256: str
    role: str
    cause: str
    orientation: int
    similarity: float
    labels: tuple[Annotation, ...]

    @property
    def name(self) -> ImageName:
        return self.source, self.source_image


@dataclass(frozen=True)  # without slots, for cached properties
class EnsembleContents:
    """A finished ensemble: its folder, its card, and the rows of its tables."""

    folder: Path
    card: EnsembleCard
    images: tuple[EnsembleImage, ...]
    members: tuple[GroupMember, ...]
    issues: tuple[Issue, ...]

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def originals(self) -> dict[ImageName, EnsembleImage]:
        return {one.name: one for one in self.images if not one.copy}

    def of_split(self, split: str) -> list[EnsembleImage]:
        return [one for one in self.images if one.split == split]

    @cached_property
    def excluded(self) -> dict[ImageName, Issue]:
        """The issue that excluded each published image that is not in the ensemble."""
        reasons = (one for one in self.issues if one.item == "image" and one.action in ("merged", "refused"))
        return {(one.source, one.image): one for one in reasons}


def read_contents(root: Path, version: str) -> EnsembleContents:
    """Read an ensemble, found by name, number or path.

    Raises:
        MissingError: there is no such ensemble; the nearest name is given.
        DataError: a table is missing, or not in the form that this version of fmask writes.
    """
    folder = find_ensemble(root, version)
    card = read_ensemble(folder)
    return EnsembleContents(folder, card, read_images(folder), read_groups(folder), _rows(folder, "issues", _issue))


def read_images(folder: Path) -> tuple[EnsembleImage, ...]:
    """Return the images of an ensemble, sorted by split, source, published image and copy.

    Raises:
        DataError: the manifest is missing, invalid, or names an image outside the folder.
    """
    images = tuple(sorted(_rows(folder, "manifest", _image), key=_position))
    for image in images:
        inside(folder, image.image, str(folder / "manifest.parquet"))
    return images


def read_groups(folder: Path) -> tuple[GroupMember, ...]:
    """Return the images of an ensemble's groups of duplicates.

    Raises:
        DataError: the table is missing or invalid.
    """
    return _rows(folder, "groups", _member)


def page_path(root: Path, name: str) -> Path:
    """Return the path of the page on one or two ensembles; it is never inside a finished ensemble."""
    return root / "data" / "inspect" / f"{name}.html"


def _position(image: EnsembleImage) -> tuple[int, str, str, str]:
    return SPLITS.index(image.split), *image.name, image.copy


def _rows(folder: Path, table: str, parse: Callable[[_TableRow], Row]) -> tuple[Row, ...]:
    """Return the rows of one table.

    Raises:
        DataError: the table is missing, lacks a column, or has an invalid value.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"{table}.parquet"
    try:
        return tuple(parse(row) for row in pq.read_table(path, partitioning=None).to_pylist())
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"{path}: expected the table that fmask build-dataset writes, found none or another one ({error!r})",
            next_step=f"remove {folder} and build it again: fmask build-dataset --version {folder.name}",
        ) from error


def _image(row: _TableRow) -> EnsembleImage:
    found = {key: row[key] for key in EnsembleImage.__dataclass_fields__}
    if row["split"] not in SPLITS:
        raise ValueError(f"expected a split, one of {SPLITS}, found {row['split']!r}")
    return EnsembleImage(**{**found, "labels": labels_from_rows(row["labels"]), "edits": tuple(row["edits"] or ())})


def _member(row: _TableRow) -> GroupMember:
    found = {key: row[key] for key in GroupMember.__dataclass_fields__}
    return GroupMember(**{**found, "labels": labels_from_rows(row["labels"])})


def _issue(row: _TableRow) -> Issue:
    return Issue(**{key: row[key] for key in Issue.__dataclass_fields__})


def labels_from_rows(rows: Iterable[_TableRow] | None) -> tuple[Annotation, ...]:
    """Return the labels in a cell of a table, boxes in pixels."""
    return tuple(
        Annotation(row["name"], Box(row["x_min"], row["y_min"], row["x_max"], row["y_max"])) for row in rows or ()
    )
