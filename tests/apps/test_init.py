"""`fmask init`: a project folder whose settings are those that ship with fmask, and nothing of the user's is lost."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facemask_train.apps.init import ProjectInit, init
from facemask_train.core.config import config_file, read_sources
from facemask_train.core.errors import StorageError
from helpers.command_line import fmask
from helpers.records import is_fixed

SHIPPED = {
    path.relative_to(folder).as_posix(): path.read_bytes()
    for folder in [Path(__file__).parents[2] / "configs"]
    for path in folder.rglob("*.yaml")
}


def settings(folder: Path) -> dict[str, bytes]:
    files = (path for path in (folder / "configs").rglob("*") if path.is_file())
    return {path.relative_to(folder / "configs").as_posix(): path.read_bytes() for path in files}


def test_a_new_folder_has_every_shipped_setting_and_reads_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "a b" / "wards"
    made = init(folder)
    assert len(SHIPPED) >= 9
    assert settings(folder) == SHIPPED
    assert made == ProjectInit(str(folder), tuple(sorted(f"configs/{name}" for name in SHIPPED)), ())
    assert (folder / "data").is_dir()
    assert (folder / "runs").is_dir()
    assert config_file(folder, "ensembles/v8.yaml") == folder / "configs/ensembles/v8.yaml"
    assert read_sources(folder) == read_sources(tmp_path)
    assert is_fixed(ProjectInit)


def test_what_is_there_is_kept_and_what_is_missing_is_added(tmp_path: Path) -> None:
    init(tmp_path)
    (tmp_path / "configs/train.yaml").write_text("mine")
    (tmp_path / "configs/ensembles/ours.yaml").write_text("ours")
    (tmp_path / "configs/ensembles/v5.yaml").unlink()
    (tmp_path / "configs/sources.yaml").unlink()
    (tmp_path / "configs/sources.yaml").symlink_to("on a disk that is not mounted.yaml")
    again = init(tmp_path)
    assert again.written == ("configs/ensembles/v5.yaml",)
    assert len(again.kept) == len(SHIPPED) - 1
    assert (tmp_path / "configs/train.yaml").read_text() == "mine"
    assert (tmp_path / "configs/ensembles/ours.yaml").read_text() == "ours"
    assert (tmp_path / "configs/sources.yaml").is_symlink()
    assert init(tmp_path).written == ()


@pytest.mark.parametrize("name", ["", "configs", "runs", "configs/ensembles"])
def test_a_file_in_the_way_is_named_and_kept(name: str, tmp_path: Path) -> None:
    folder = tmp_path / "wards"
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("mine")
    with pytest.raises(StorageError, match="found a file"):
        init(folder)
    assert (folder / name).read_text() == "mine"


def test_the_command_takes_a_folder_by_position_or_by_option(tmp_path: Path) -> None:
    made = json.loads(fmask("init", "my wards", "--json", cwd=tmp_path).stdout)
    assert (made["folder"], len(made["written"]), made["kept"]) == ("my wards", len(SHIPPED), [])
    shown = fmask("init", "--root", "my wards", cwd=tmp_path).stdout.splitlines()
    assert shown[0] == f"my wards: 0 files written, {len(SHIPPED)} kept as they were"
    assert shown[-1] == "next: fmask pipeline --sample --root 'my wards'"
    assert fmask("init", "one", "--root", "other", cwd=tmp_path).returncode == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == ["my wards"]
