"""What a finished ensemble holds, read back from its own tables. The reading side of `write.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from facemask_train.core.errors import DataError
from facemask_train.core.files import inside
from facemask_train.core.types import SPLITS, Annotation, Box
from facemask_train.dataset.card import EnsembleCard
from facemask_train.dataset.loading.validate import Problem
from facemask_train.dataset.versions import find_ensemble, read_ensemble

Name = tuple[str, str]
"""What a published image is called everywhere: its source, and its path in it."""

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Held:
    """One image of an ensemble: a row of its manifest. `copy` is empty for the original; boxes are in pixels."""

    image: str
    split: str
    source: str
    source_image: str
    sha256: str
    family: str
    copy: str
    output_sha256: str
    width: int
    height: int
    labels: tuple[Annotation, ...]
    edits: tuple[str, ...]

    @property
    def name(self) -> Name:
        return self.source, self.source_image

    @property
    def size(self) -> tuple[int, int]:
        return self.width, self.height


@dataclass(frozen=True, slots=True)
class Member:
    """One image of a group of copies: a row of its groups. `labels` are laid over the group's first kept image."""

    group: int
    source: str
    source_image: str
    sha256: str
    role: str
    cause: str
    orientation: int
    likeness: float
    labels: tuple[Annotation, ...]

    @property
    def name(self) -> Name:
        return self.source, self.source_image


@dataclass(frozen=True)  # no slots: what is looked up often is kept
class Holdings:
    """A finished ensemble: its folder, its card (`ensemble.json`), and the rows of its tables."""

    folder: Path
    card: EnsembleCard
    images: tuple[Held, ...]
    members: tuple[Member, ...]
    problems: tuple[Problem, ...]

    @property
    def name(self) -> str:
        return self.folder.name

    @cached_property
    def originals(self) -> dict[Name, Held]:
        return {one.name: one for one in self.images if not one.copy}

    def of_split(self, split: str) -> list[Held]:
        return [one for one in self.images if one.split == split]

    @cached_property
    def gone(self) -> dict[Name, Problem]:
        """Return why each published image that is not in the ensemble is not."""
        away = (one for one in self.problems if one.item == "image" and one.action in ("merged", "refused"))
        return {(one.source, one.image): one for one in away}


def read_holdings(root: Path, version: str) -> Holdings:
    """Return what an ensemble holds, found by name, number or path as everywhere.

    Raises:
        MissingError: there is no such ensemble; the nearest name is given.
        DataError: one of its tables is gone, or is not as this fmask writes it.
    """
    folder = find_ensemble(root, version)
    card = read_ensemble(folder)
    images = tuple(sorted(_rows(folder, "manifest", _held), key=_place))
    for held in images:
        inside(folder, held.image, str(folder / "manifest.parquet"))
    return Holdings(folder, card, images, _rows(folder, "groups", _member), _rows(folder, "problems", _problem))


def page_path(root: Path, name: str) -> Path:
    """Return where the page about one ensemble, or about two, is written: never into a finished ensemble."""
    return root / "data" / "inspect" / f"{name}.html"


def _place(held: Held) -> tuple[int, str, str, str]:
    return SPLITS.index(held.split), *held.name, held.copy


def _rows(folder: Path, table: str, make: Callable[[Mapping[str, Any]], Row]) -> tuple[Row, ...]:
    """Return the rows of one table.

    Raises:
        DataError: it is not there, or lacks a column, or holds what no ensemble does.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = folder / f"{table}.parquet"
    try:
        return tuple(make(row) for row in pq.read_table(path, partitioning=None).to_pylist())
    except (OSError, KeyError, TypeError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"{path}: expected the table that fmask build-dataset writes, found none, or another ({error!r})",
            next_step=f"remove {folder} and build it again: fmask build-dataset --version {folder.name}",
        ) from error


def _held(row: Mapping[str, Any]) -> Held:
    found = {key: row[key] for key in Held.__dataclass_fields__}
    if row["split"] not in SPLITS:
        raise ValueError(f"a split is one of {SPLITS}, found {row['split']!r}")
    return Held(**{**found, "labels": _labels(row["labels"]), "edits": tuple(row["edits"] or ())})


def _member(row: Mapping[str, Any]) -> Member:
    found = {key: row[key] for key in Member.__dataclass_fields__}
    return Member(**{**found, "labels": _labels(row["labels"])})


def _problem(row: Mapping[str, Any]) -> Problem:
    return Problem(**{key: row[key] for key in Problem.__dataclass_fields__})


def _labels(rows: Any) -> tuple[Annotation, ...]:
    return tuple(
        Annotation(row["name"], Box(row["x_min"], row["y_min"], row["x_max"], row["y_max"])) for row in rows or ()
    )
