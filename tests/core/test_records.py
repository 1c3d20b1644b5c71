"""Tests of the versioned records: what is read again, and what is not."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import pytest

from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.files import write_json
from facemask_train.core.records import Record, VersionError


@dataclass(frozen=True, slots=True)
class Counts(Record):
    FILE: ClassVar[str] = "counts.json"
    VERSION: ClassVar[int] = 3
    MAKE: ClassVar[str] = "fmask count"
    faces: int
    names: tuple[str, ...]


def test_a_saved_record_is_read_back(tmp_path: Path) -> None:
    made = Counts(2, ("a", "b"))
    made.save(tmp_path)
    assert Counts.load(tmp_path) == Counts.load_if_current(tmp_path) == made


def test_a_missing_record_is_an_error_only_if_it_is_needed(tmp_path: Path) -> None:
    with pytest.raises(MissingError, match="no such file") as raised:
        Counts.load(tmp_path)
    assert raised.value.next_step == "fmask count"
    assert Counts.load_if_current(tmp_path) is None


def test_a_record_of_another_version_is_not_guessed_at(tmp_path: Path) -> None:
    write_json(tmp_path / Counts.FILE, {"version": 2, "faces": 2, "names": []})
    with pytest.raises(VersionError, match="expected version 3, found 2"):
        Counts.load(tmp_path)
    assert Counts.load_if_current(tmp_path) is None


def test_a_wrong_field_is_named_and_never_ignored(tmp_path: Path) -> None:
    write_json(tmp_path / Counts.FILE, {"version": 3, "faces": "many", "names": []})
    with pytest.raises(DataError, match=r"counts\.json: faces: "):
        Counts.load_if_current(tmp_path)
