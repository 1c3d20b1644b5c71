"""Versioned JSON records: a frozen dataclass is the content of a JSON file.

A record names its file in `FILE` and its version in `VERSION`. The JSON object has the record's fields as keys, after
the key `version`. The version is raised by hand when the fields change; a file of another version is never guessed at.
"""

from __future__ import annotations

from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, cast

from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.files import read_json, write_json

if TYPE_CHECKING:
    from pydantic import TypeAdapter

T = TypeVar("T")


class VersionError(DataError):
    """The file was written by a version of fmask with other fields in this record."""


class Record:
    """The base of a frozen dataclass that is saved as one JSON file in a folder."""

    __slots__ = ()
    FILE: ClassVar[str]
    VERSION: ClassVar[int]
    MAKE: ClassVar[str]
    """The command that writes the file, for messages."""

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Read the record of a folder.

        Raises:
            MissingError: the folder has no such file.
            VersionError: the file has another version.
            DataError: the file is not JSON, or its fields are not those of the record.
        """
        path = folder / cls.FILE
        data = read_json(path)
        if data is None:
            raise MissingError(f"{path}: no such file", next_step=cls.MAKE)
        if data.get("version") != cls.VERSION:
            raise VersionError(
                f"{path}: expected version {cls.VERSION}, found {data.get('version', 'no version')}",
                next_step=f"run `{cls.MAKE}` again: the file is from another version of fmask",
            )
        return cls.from_json(data, str(path))

    @classmethod
    def load_if_current(cls, folder: Path) -> Self | None:
        """Read the record of a folder, or return None if it has none, or one of another version.

        Raises:
            DataError: the file is not JSON, or its fields are not those of the record.
        """
        try:
            return cls.load(folder)
        except (MissingError, VersionError):
            return None

    @classmethod
    def from_json(cls, data: dict[str, Any], where: str) -> Self:
        """Return the record in a JSON object.

        Args:
            where: the file that the object is from, for the message.

        Raises:
            DataError: a field is missing or has the wrong type.
        """
        return parse(cls, data, where, cls.MAKE)

    def to_json(self) -> dict[str, Any]:
        """Return the record as a JSON object, without its version."""
        return to_json(self)

    def save(self, folder: Path) -> None:
        """Write the record atomically to its file in a folder."""
        write_json(folder / self.FILE, {"version": self.VERSION, **self.to_json()})


def to_json(record: object) -> dict[str, Any]:
    """Return a dataclass and its nested ones as JSON values: lists for tuples, objects for mappings."""
    kind: Any = type(record)
    data: dict[str, Any] = _adapter(kind).dump_python(record, mode="json")
    return data


def field_values(record: object, kind: type) -> dict[str, Any]:
    """Return the fields of `kind` by name, to build a record that extends `kind`."""
    return {one.name: getattr(record, one.name) for one in fields(kind)}


def parse(kind: type[T], data: object, where: str, make: str) -> T:
    """Return a dataclass from JSON values.

    Args:
        where: the file that the values are from, for the message.
        make: the command that writes the file.

    Raises:
        DataError: a field is missing or has the wrong type; the first one is named.
    """
    from pydantic import ValidationError

    try:
        adapter: TypeAdapter[T] = _adapter(cast("Any", kind))
        record = adapter.validate_python(data)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or kind.__name__
        raise DataError(f"{where}: {place}: {first['msg'].lower()}", next_step=f"run `{make}` again") from error
    return record


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(kind)
