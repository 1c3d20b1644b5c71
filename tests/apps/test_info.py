"""`fmask info`: what is found, and that no secret is in it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from facemask_train.apps.info import FolderSize, read_info
from helpers.command_line import fmask

SECRET = "kaggle-secret-0123456789"


def test_versions_machine_and_folders(tmp_path: Path) -> None:
    (tmp_path / "runs/r/weights").mkdir(parents=True)
    (tmp_path / "runs/r/weights/best.pt").write_bytes(b"x" * 1_500_000)
    (tmp_path / "runs/.lock").touch()
    found = read_info(tmp_path)
    assert found.packages["torch"]
    assert found.cores >= 1
    assert found.memory > 0 < found.free_disk
    assert found.folders[-1] == FolderSize("runs", 1, 1.5)
    assert found.folders[0] == FolderSize("data/raw", 0, 0.0)


@pytest.mark.parametrize(
    ("environment", "file", "kaggle", "wandb"),
    [
        ({}, "", "", ""),
        ({"KAGGLE_API_TOKEN": SECRET, "WANDB_API_KEY": SECRET}, "", "KAGGLE_API_TOKEN", "WANDB_API_KEY"),
        ({"KAGGLE_USERNAME": "me"}, "", "", ""),
        ({"KAGGLE_USERNAME": "me", "KAGGLE_KEY": SECRET}, "", "KAGGLE_USERNAME and KAGGLE_KEY", ""),
        ({}, ".kaggle/kaggle.json", "kaggle.json", ""),
        ({}, ".netrc", "", ".netrc"),
    ],
)
def test_credentials_are_found_and_never_shown(
    environment: dict[str, str], file: str, kaggle: str, wandb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    if file:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text(f"machine api.wandb.ai login user password {SECRET}")
    found = read_info(tmp_path)
    assert SECRET not in repr(found)
    assert (Path(found.kaggle).name, Path(found.wandb).name) == (kaggle, wandb)


def test_the_command_prints_json_and_a_table(tmp_path: Path) -> None:
    found = json.loads(fmask("info", "--json", cwd=tmp_path).stdout)
    assert found["fmask"]
    assert [one["folder"] for one in found["folders"]] == ["data/raw", "data/ensembles", "runs"]
    shown = fmask("info", cwd=tmp_path)
    assert (shown.returncode, "Kaggle credentials" in shown.stdout) == (0, True)
