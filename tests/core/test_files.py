"""Finished folders: complete or absent, even after an error or a crash; one command at a time."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from facemask_train.core.errors import DataError, StorageError
from facemask_train.core.files import latest, locked, read_json, recover, replacing, stage, storage_errors, write_json


def test_a_folder_is_moved_into_place_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "v"
    for content in ("old", "new"):
        with replacing(target) as folder:
            (folder / "a").write_text(content)
    assert (target / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_an_error_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "v"
    with replacing(target) as folder:
        (folder / "a").write_text("old")
    with pytest.raises(RuntimeError), replacing(target) as folder:
        (folder / "a").write_text("half")
        raise RuntimeError
    assert (target / "a").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["v"]


def test_recover_restores_a_folder_that_was_being_replaced(tmp_path: Path) -> None:
    old, partial = tmp_path / ".v.old", tmp_path / ".v.partial-0123abcd"
    for folder in (old, partial):
        folder.mkdir()
        (folder / "a").write_text(folder.name)
    recover(tmp_path / "v")
    assert (tmp_path / "v" / "a").read_text() == ".v.old"
    assert not partial.exists()


def test_a_second_command_on_a_folder_is_refused(tmp_path: Path) -> None:
    with locked(tmp_path / "v"), pytest.raises(StorageError, match="another fmask command"), locked(tmp_path / "v"):
        pass
    with locked(tmp_path / "v"):
        pass


def test_a_step_is_locked_and_starts_from_the_last_complete_folder(tmp_path: Path) -> None:
    (tmp_path / ".v.old").mkdir()
    (tmp_path / ".v.old" / "a").write_text("old")
    with stage(tmp_path / "v"):
        assert (tmp_path / "v" / "a").read_text() == "old"
        with pytest.raises(StorageError, match="another fmask command"), stage(tmp_path / "v"):
            pass


@pytest.mark.parametrize(("number", "says"), [(errno.ENOSPC, "the disk is full"), (errno.EROFS, "cannot be written")])
def test_system_errors_become_storage_errors(number: int, says: str, tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=says), storage_errors(tmp_path):
        raise OSError(number, "x", str(tmp_path))


def test_a_marker_that_is_not_json_names_the_file(tmp_path: Path) -> None:
    assert read_json(tmp_path / "m.json") is None
    (tmp_path / "m.json").write_text("{")
    with pytest.raises(DataError, match=r"m\.json: expected JSON"):
        read_json(tmp_path / "m.json")


def test_the_latest_is_the_one_finished_last(tmp_path: Path) -> None:
    for name in ("b", "a"):
        (tmp_path / name).mkdir()
        write_json(tmp_path / name / "m.json", {})
    (tmp_path / "c").mkdir()
    assert latest(tmp_path, "m.json") == tmp_path / "a"
    assert latest(tmp_path / "none", "m.json") is None


def test_each_attempt_has_its_own_folder(tmp_path: Path) -> None:
    """A process that outlives a killed command writes into nobody's new folder."""
    seen = []
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "v") as folder:
            seen.append(folder)
            raise KeyboardInterrupt
    assert seen[0] != seen[1]
    seen[0].mkdir()  # what such a process may leave
    with replacing(tmp_path / "v") as folder:
        (folder / "x").write_text("")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["v"]
