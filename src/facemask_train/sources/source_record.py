"""`source.json`: what a fetched source is and where it came from. Does not depend on how it is fetched."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.records import Record


@dataclass(frozen=True, slots=True)
class ArchiveInfo:
    """The archive that a source was unpacked from. `modified` is its modification time in UTC, if known."""

    name: str
    bytes: int
    sha256: str
    modified: str | None


@dataclass(frozen=True, slots=True)
class SkippedFile:
    """A file that was not unpacked, and why."""

    name: str
    cause: str


@dataclass(frozen=True, slots=True)
class SourceRecord(Record):
    """The content of `source.json`.

    It is the same after every fetch of the same content, so it does not contain the time of the fetch.
    """

    FILE: ClassVar[str] = "source.json"
    VERSION: ClassVar[int] = 2
    MAKE: ClassVar[str] = "fmask fetch"

    name: str
    origin: str
    """The Kaggle handle, or the name of the file or folder that was given."""
    handle: str | None
    kaggle_version: int | None
    """None for a file that was given by hand."""
    license: str
    digest: str
    """The digest of the content; see `archive.py`."""
    archive: ArchiveInfo | None
    """None for a folder."""
    files: int
    bytes: int
    """Number and size of the unpacked files."""
    skipped: tuple[SkippedFile, ...] = ()


def source_folder(root: Path, name: str) -> Path:
    """Return the folder of a fetched source."""
    return root / "data" / "raw" / name


def read_source(root: Path, name: str) -> SourceRecord:
    """Return the record of a fetched source.

    Raises:
        MissingError: the source has not been fetched.
        DataError: the record is damaged, or from another version of fmask.
    """
    folder = source_folder(root, name)
    try:
        return SourceRecord.load(folder)
    except MissingError as error:
        path = folder / SourceRecord.FILE
        raise MissingError(f"{path}: no such file: '{name}' is not fetched", next_step=f"fmask fetch {name}") from error
    except DataError as error:
        raise DataError(str(error), next_step=fetch_again(folder)) from error


def altered(file: Path, found: str) -> DataError:
    """Return the error for a file of a fetched source that has changed since."""
    folder = next((parent for parent in file.parents if (parent / SourceRecord.FILE).is_file()), file.parent)
    return DataError(f"{file}: expected the file that was fetched, found {found}", next_step=fetch_again(folder))


def fetch_again(folder: Path) -> str:
    """Return the next step of an error about a fetched source."""
    return f"remove {folder}, then: fmask fetch {folder.name}"
