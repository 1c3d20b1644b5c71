"""`fmask runs remove`: exactly the named runs go, none that is in use, and nobody is surprised."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from facemask_train.core.errors import StorageError
from facemask_train.core.files import locked
from facemask_train.training.history.removal import RemovedRun, describe, remove
from facemask_train.training.history.summary import find_run
from facemask_train.training.runs import RunRecord
from helpers.command_line import fmask
from helpers.records import is_fixed


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A project with the runs one, two and three, each with 1.5 MB of weights."""
    for name in ("one", "two", "three"):
        folder = tmp_path / "runs" / name
        (folder / "weights").mkdir(parents=True)
        record = {"version": RunRecord.VERSION, "name": name, "kind": "training", "state": "finished"}
        (folder / "run.json").write_text(json.dumps(record))
        (folder / "weights/best.pt").write_bytes(b"x" * 1_500_000)
        (folder / "elsewhere").symlink_to(tmp_path / "runs")
    return tmp_path


def left(root: Path) -> list[str]:
    return sorted(path.name for path in (root / "runs").iterdir() if not path.name.startswith("."))


def answer(root: Path, typed: bytes, *arguments: str) -> tuple[int, str]:
    """Run `fmask runs remove` with a terminal on which somebody types; return the exit code and standard output."""
    ours, theirs = pty.openpty()
    try:
        os.write(ours, typed)
        done = subprocess.run(
            [sys.executable, "-m", "facemask_train", "runs", "remove", *arguments],
            cwd=root, stdin=theirs, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        os.close(theirs)
        os.close(ours)
    return done.returncode, done.stdout


def test_a_run_goes_in_one_piece_and_takes_nothing_along(root: Path) -> None:
    gone = remove(find_run(root, "two"))
    assert (gone.name, gone.path, gone.state, gone.megabytes) == ("two", str(root / "runs/two"), "finished", 1.5)
    assert left(root) == ["one", "three"]
    assert not [path for path in (root / "runs").iterdir() if "partial" in path.name]
    assert (root / "runs/one/weights/best.pt").stat().st_size == 1_500_000
    assert is_fixed(RemovedRun)


def test_of_a_link_only_the_link_is_removed(root: Path) -> None:
    (root / "runs/three").rename(root / "archive")
    (root / "runs/three").symlink_to(root / "archive")
    assert describe(find_run(root, "three")).megabytes == 0
    remove(find_run(root, "three"))
    assert left(root) == ["one", "two"]
    assert (root / "archive/weights/best.pt").is_file()


@pytest.mark.parametrize("used", ["runs/two", "runs/two/evaluation/v8-test"])
def test_a_run_in_use_is_refused_and_whole(used: str, root: Path) -> None:
    with locked(root / used), pytest.raises(StorageError, match="another fmask command is using this folder"):
        remove(find_run(root, "two"))
    assert left(root) == ["one", "three", "two"]
    assert (root / "runs/two/weights/best.pt").is_file()
    remove(find_run(root, "two"))


def test_nothing_goes_without_a_yes(root: Path) -> None:
    refused = fmask("runs", "remove", "one", cwd=root)
    assert (refused.returncode, "run it again with --yes" in refused.stderr) == (2, True)
    assert "runs/one: finished, 1.5 MB" in refused.stderr
    assert answer(root, b"\n", "one") == (0, "nothing was removed\n")
    assert left(root) == ["one", "three", "two"]
    assert answer(root, b"y\n", "one", "three", "one") == (0, "removed runs/one\nremoved runs/three\n3.0 MB freed\n")
    assert left(root) == ["two"]


@pytest.mark.parametrize(("name", "code"), [("../runs/one", 2), ("..", 2), ("", 2), ("twoo", 4), ("one/", 2)])
def test_a_name_that_is_no_run_removes_nothing(name: str, code: int, root: Path) -> None:
    refused = fmask("runs", "remove", "one", name, "--yes", "--json", cwd=root)
    assert (refused.returncode, json.loads(refused.stdout)["error"]["exit_code"]) == (code, code)
    assert left(root) == ["one", "three", "two"]


def test_the_command_prints_one_object(root: Path) -> None:
    done = json.loads(fmask("runs", "--json", "remove", "two", "-y", cwd=root).stdout)
    assert done == {
        "removed": [{"name": "two", "path": "runs/two", "state": "finished", "megabytes": 1.5}],
        "megabytes": 1.5,
    }
