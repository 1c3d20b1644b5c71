"""`fetch`: where files come from, when it does nothing, and what a kill at any moment leaves."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from facemask_train.core import files as stage_files
from facemask_train.core.errors import DataError, DigestError, MissingError, NetworkError, StorageError, UsageError
from facemask_train.sources import fetch as module
from facemask_train.sources import kaggle
from facemask_train.sources.fetch import Fetched, fetch
from facemask_train.sources.sample import archives
from facemask_train.sources.source_record import read_source, source_folder
from helpers import crash
from helpers.fake_kaggle import FakeKaggle

FILES = {"images/a.jpg": b"image" * 99, "labels/a.txt": b"0 .5 .5 .1 .1\n", "labels.cache": b"x", ".DS_Store": b"x"}
MODIFIED = 1_590_110_000
SOURCES = """
sources:
  one: {handle: owner/name, license: CC0-1.0}
  two: {handle: owner/second}
  three: {handle: owner/third}
  extra: {handle: owner/extra, optional: true}
  mine: {path: mine, license: own, optional: true}
  packed: {path: packed.zip, license: own, optional: true}
  drawn: {sample: voc, license: CC0-1.0, optional: true}
"""


def zip_of(path: Path, files: dict[str, bytes] = FILES) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as packed:
        for name, content in files.items():
            packed.writestr(zipfile.ZipInfo(name), content)
    os.utime(path, (MODIFIED, MODIFIED))
    return path


def new_root(root: Path) -> Path:
    (root / "configs").mkdir(parents=True)
    (root / "configs/sources.yaml").write_text(SOURCES)
    return root


def edit(root: Path, old: str, new: str) -> None:
    path = root / "configs/sources.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))


def refuse_to_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail whatever reads a source's files once more, or brings them again."""

    def refuse(*_: object, **__: object) -> None:
        pytest.fail("a source that is up to date was read again")

    for where, name in (
        (module.archive, "digest_folder"),
        (module.stage_files, "digest_file"),
        (module, "_bring"),
        (kaggle, "download"),
    ):
        monkeypatch.setattr(where, name, refuse)


def only(found: list[Fetched]) -> Fetched:
    (one,) = found
    return one


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return new_root(tmp_path / "root")


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    zip_of(tmp_path / "hand/name.zip")
    return tmp_path / "hand"


# Archives that a person downloaded


def test_a_folder_of_archives_is_fetched(root: Path, by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    one, two, three = fetch(root, [], origin=by_hand)
    assert (one.name, one.path, one.state) == ("one", root / "data/raw/one", "fetched")
    assert (two.state, two.digest, two.pin) == (three.state, three.digest, three.pin) == ("absent", "", "")
    assert one.pin == f"digest: {one.digest}"
    assert "two: absent: second.zip" in caplog.text
    assert not source_folder(root, "two").exists()


def test_the_written_files(root: Path, by_hand: Path, caplog: pytest.LogCaptureFixture) -> None:
    one = fetch(root, ["one"], origin=by_hand)[0]
    assert sorted(crash.tree(one.path)) == [
        *("files", "files/images", "files/images/a.jpg", "files/labels", "files/labels/a.txt", "source.json")
    ]
    assert json.loads((one.path / "source.json").read_text()) == {
        "version": 2,
        "name": "one",
        "origin": "name.zip",
        "handle": "owner/name",
        "kaggle_version": None,
        "license": "CC0-1.0",
        "digest": one.digest,
        "archive": {
            "name": "name.zip",
            "bytes": (by_hand / "name.zip").stat().st_size,
            "sha256": stage_files.digest_file(by_hand / "name.zip"),
            "modified": "2020-05-22T01:13:20+00:00",
        },
        "files": 2,
        "bytes": 509,
        "skipped": [{"name": ".DS_Store", "cause": "litter"}, {"name": "labels.cache", "cause": "runs-code"}],
    }
    assert "one: skipped 1 files (runs-code)" in caplog.text


def test_a_rerun_does_nothing(root: Path, by_hand: Path) -> None:
    first = only(fetch(root, ["one"], origin=by_hand))
    written = (first.path / "source.json").stat()
    again = only(fetch(root, ["one"], origin=by_hand))
    offline = only(fetch(root, ["one"]))  # without a request: there is neither a server nor a token
    assert (first.state, again.state, offline.state) == ("fetched", "up-to-date", "up-to-date")
    assert first.digest == again.digest == offline.digest
    now = (first.path / "source.json").stat()
    assert (now.st_ino, now.st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


def test_the_same_bytes_in_another_folder(root: Path, by_hand: Path, tmp_path: Path) -> None:
    other = new_root(tmp_path / "elsewhere/deeper")
    shutil.copytree(by_hand, tmp_path / "copy")
    fetch(root, [], origin=by_hand)
    fetch(other, [], origin=tmp_path / "copy")
    assert crash.tree(root) == crash.tree(other)
    assert str(tmp_path) not in (root / "data/raw/one/source.json").read_text()


def test_another_archive_replaces_the_first(root: Path, by_hand: Path) -> None:
    first = only(fetch(root, ["one"], origin=by_hand))
    zip_of(by_hand / "name.zip", {"new.jpg": b"new"})
    second = only(fetch(root, ["one"], origin=by_hand))
    assert second.state == "fetched"
    assert second.digest != first.digest
    assert [path.name for path in (second.path / "files").iterdir()] == ["new.jpg"]


def test_a_source_whose_files_are_missing_is_fetched_again(root: Path, by_hand: Path) -> None:
    first = only(fetch(root, ["one"], origin=by_hand))
    shutil.rmtree(first.path / "files")
    assert only(fetch(root, ["one"], origin=by_hand)).state == "fetched"


@pytest.mark.parametrize("name", ["name (1).zip", "name(2).zip", "name 2.zip", "Name.ZIP"])
def test_names_of_browser_downloads_are_recognized(root: Path, tmp_path: Path, name: str) -> None:
    zip_of(tmp_path / "hand" / name)
    for other in ("name-1.zip", "names.zip", "my name.zip", "name.zip.part"):
        (tmp_path / "hand" / other).write_bytes(b"another dataset")
    one, *_ = fetch(root, [], origin=tmp_path / "hand")
    assert one.state == "fetched"
    assert read_source(root, "one").origin == name


def test_the_plain_name_is_preferred_to_copies_and_new_copies_to_old(
    root: Path, by_hand: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for number in (9, 10):
        zip_of(by_hand / f"name ({number}).zip", {"a.jpg": str(number).encode()})
    fetch(root, ["one"], origin=by_hand)
    assert read_source(root, "one").origin == "name.zip"
    assert "took name.zip of name (10).zip, name (9).zip, name.zip" in caplog.text
    (by_hand / "name.zip").unlink()
    fetch(root, ["one"], origin=by_hand)
    assert read_source(root, "one").origin == "name (10).zip"


def test_a_single_archive(root: Path, by_hand: Path, tmp_path: Path) -> None:
    assert only(fetch(root, [], origin=by_hand / "name.zip")).name == "one"
    zip_of(tmp_path / "archive.zip")
    assert only(fetch(root, ["two"], origin=tmp_path / "archive.zip")).name == "two"
    assert only(fetch(root, [], origin=zip_of(by_hand / "extra (1).zip"))).name == "extra"


def test_ambiguous_and_missing_archives_are_errors(root: Path, by_hand: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="expected one of Kaggle's file names"):
        fetch(root, [], origin=zip_of(tmp_path / "archive.zip"))
    with pytest.raises(UsageError, match="one archive for 2 sources"):
        fetch(root, ["one", "two"], origin=by_hand / "name.zip")
    with pytest.raises(UsageError, match="did you mean 'three'"):
        fetch(root, ["thre"])
    with pytest.raises(MissingError, match="no such file or folder"):
        fetch(root, [], origin=tmp_path / "nowhere")
    with pytest.raises(MissingError, match=r"second\.zip: no such file") as caught:
        fetch(root, ["one", "two"], origin=by_hand)
    assert "fmask fetch two --from" in caught.value.next_step
    assert not (root / "data").exists()  # decided before anything was done


def test_a_damaged_archive_replaces_nothing(root: Path, by_hand: Path) -> None:
    fetch(root, [], origin=by_hand)
    before = crash.tree(root)
    content = (by_hand / "name.zip").read_bytes()
    (by_hand / "name.zip").write_bytes(content[:-30])
    with pytest.raises(DataError, match="truncated or damaged"):
        fetch(root, [], origin=by_hand)
    assert crash.tree(root) == before
    assert (by_hand / "name.zip").exists()


# Pins


def test_a_pinned_digest(root: Path, by_hand: Path) -> None:
    digest = only(fetch(root, ["one"], origin=by_hand)).digest
    edit(root, "license: CC0-1.0}\n  two", f"license: CC0-1.0, digest: '{digest}'}}\n  two")
    pinned = only(fetch(root, ["one"], origin=by_hand))
    assert (pinned.state, pinned.pin) == ("up-to-date", "")
    before = crash.tree(root)
    zip_of(by_hand / "name.zip", {"new.jpg": b"new"})
    with pytest.raises(DigestError, match=f"expected the content {digest}, found sha256:") as caught:
        fetch(root, ["one"], origin=by_hand)
    assert "digest: sha256:" in caught.value.next_step
    assert crash.tree(root) == before


def test_a_pin_that_differs_from_the_fetched_files(root: Path, by_hand: Path) -> None:
    fetch(root, ["one"], origin=by_hand)
    edit(root, "license: CC0-1.0}\n  two", f"license: CC0-1.0, digest: 'sha256:{'0' * 64}'}}\n  two")
    with pytest.raises(DigestError):
        fetch(root, ["one"], origin=by_hand)


# The user's own, and fmask's own


def test_a_folder_of_the_users_own(root: Path) -> None:
    (root / "mine/in").mkdir(parents=True)
    (root / "mine/in/a.jpg").write_bytes(b"a")
    assert only(fetch(root, ["mine"])).state == "fetched"
    assert only(fetch(root, ["mine"])).state == "up-to-date"
    found = read_source(root, "mine")
    assert (found.origin, found.handle, found.archive, found.license) == ("mine", None, None, "own")
    (root / "mine/in/a.jpg").write_bytes(b"b")
    assert only(fetch(root, ["mine"])).state == "fetched"
    assert (root / "data/raw/mine/files/in/a.jpg").read_bytes() == b"b"
    edit(root, "{path: mine, license: own", "{path: mine, license: MIT")
    assert only(fetch(root, ["mine"])).state == "fetched"
    assert read_source(root, "mine").license == "MIT"


def test_an_archive_of_the_users_own(root: Path) -> None:
    zip_of(root / "packed.zip")
    assert only(fetch(root, ["packed"])).state == "fetched"
    assert only(fetch(root, ["packed"])).state == "up-to-date"
    with tarfile.open(root / "packed.tar.gz", "w:gz") as packed:
        packed.add(root / "data/raw/packed/files", arcname=".")
    edit(root, "packed.zip", "packed.tar.gz")
    before = read_source(root, "packed")
    assert only(fetch(root, ["packed"])).state == "fetched"
    after = read_source(root, "packed")
    assert after.digest == before.digest
    assert after.archive.name == "packed.tar.gz"


def test_a_path_in_the_home_folder(root: Path) -> None:
    zip_of(Path.home() / "fetched.zip")
    edit(root, "packed.zip", "~/fetched.zip")
    assert only(fetch(root, ["packed"])).state == "fetched"


def test_a_missing_path(root: Path) -> None:
    with pytest.raises(MissingError, match="mine: no such file or folder"):
        fetch(root, ["mine"])


@pytest.mark.parametrize("path", [".", "data", "data/raw/mine", "data/raw/mine/files"])
def test_a_path_that_contains_the_copy_or_is_inside_it(root: Path, path: str) -> None:
    (root / path).mkdir(parents=True, exist_ok=True)
    edit(root, "{path: mine", f"{{path: {path}")
    with pytest.raises(UsageError, match="or lies inside it"):
        fetch(root, ["mine"])


def test_a_link_in_a_folder_is_refused(root: Path) -> None:
    (root / "mine").mkdir()
    (root / "mine/a.jpg").symlink_to("/etc/passwd")
    with pytest.raises(DataError, match="link or a device"):
        fetch(root, ["mine"])
    assert not source_folder(root, "mine").exists()


def test_a_sample(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[str] = []

    def write_archive(layout: str, target: Path, *, progress: object) -> None:
        drawn.append(layout)
        zip_of(target)
        os.utime(target)

    monkeypatch.setattr(archives, "write_archive", write_archive)
    assert [only(fetch(root, ["drawn"])).state for _ in range(2)] == ["fetched", "up-to-date"]
    assert drawn == ["voc"]
    assert read_source(root, "drawn").archive.modified is None
    assert only(fetch(root, ["drawn"])).pin == ""
    assert not (root / "data/raw/.downloads/drawn").exists()


def test_a_source_that_is_not_fetched(root: Path) -> None:
    with pytest.raises(MissingError) as caught:
        read_source(root, "one")
    assert caught.value.next_step == "fmask fetch one"
    assert str(root / "data/raw/one/source.json") in str(caught.value)


def test_two_commands_at_once(root: Path, by_hand: Path) -> None:
    script = (
        "import sys, pathlib, time\n"
        "from facemask_train.sources.fetch import fetch\n"
        "def hold(what, done, total):\n"
        "    print('at work', flush=True)\n"
        "    sys.stdin.read()\n"
        "fetch(pathlib.Path(sys.argv[1]), ['one'], origin=pathlib.Path(sys.argv[2]), progress=hold)\n"
    )
    arguments = [sys.executable, "-c", script, str(root), str(by_hand)]
    with subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == b"at work\n"
        with pytest.raises(StorageError, match="another fmask command"):
            fetch(root, ["one"], origin=by_hand)
        first.communicate(b"")
    assert first.returncode == 0
    assert only(fetch(root, ["one"], origin=by_hand)).state == "up-to-date"


# Kaggle


@pytest.fixture
def online(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeKaggle]:
    monkeypatch.setenv("KAGGLE_USERNAME", "somebody")
    monkeypatch.setenv("KAGGLE_KEY", "a-secret-key")
    monkeypatch.setattr(kaggle, "PAUSE", 0.01)
    with FakeKaggle(zip_of(tmp_path / "served.zip").read_bytes()) as server:
        yield server


def test_a_download(
    root: Path, by_hand: Path, online: FakeKaggle, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []
    one = only(fetch(root, ["one"], progress=lambda what, done, total: seen.append(what)))
    assert one.state == "fetched"
    assert {"one: downloading", "one: unpacking"} <= set(seen)
    found = read_source(root, "one")
    assert (found.origin, found.kaggle_version, found.license) == ("owner/name", 3, "CC0: Public Domain")
    assert found.archive.modified == "2020-05-22T01:11:47+00:00"
    assert found.archive.name == "name.zip"
    assert not list((root / "data/raw/.downloads").iterdir())
    assert "a-secret-key" not in caplog.text + (one.path / "source.json").read_text()
    assert one.digest == only(fetch(new_root(tmp_path / "other"), ["one"], origin=by_hand)).digest


def test_a_source_is_downloaded_once(root: Path, online: FakeKaggle, monkeypatch: pytest.MonkeyPatch) -> None:
    fetch(root, ["one"])
    online.received.clear()
    refuse_to_read(monkeypatch)
    assert only(fetch(root, ["one"])).state == "up-to-date"
    assert online.received == []


def test_another_version_or_handle_is_downloaded(root: Path, online: FakeKaggle) -> None:
    fetch(root, ["one"])
    edit(root, "{handle: owner/name", "{version: 3, handle: owner/name")
    assert only(fetch(root, ["one"])).state == "up-to-date"
    edit(root, "version: 3", "version: 2")
    assert only(fetch(root, ["one"])).state == "fetched"
    assert read_source(root, "one").kaggle_version == 2
    edit(root, "owner/name", "owner/renamed")
    with pytest.raises(NetworkError, match="owner/renamed"):
        fetch(root, ["one"])


@pytest.mark.parametrize("damage", ["truncated", "flipped"])
def test_a_damaged_download_is_repeated(root: Path, online: FakeKaggle, damage: str) -> None:
    whole = online.content
    flipped = bytearray(whole)
    flipped[100] ^= 4
    online.content = whole[:-40] if damage == "truncated" else bytes(flipped)
    with pytest.raises(DataError, match="truncated or damaged") as caught:
        fetch(root, ["one"])
    assert "fmask fetch one" in caught.value.next_step
    assert not source_folder(root, "one").exists()
    assert not list((root / "data/raw/.downloads").iterdir())
    online.content = whole
    assert only(fetch(root, ["one"])).state == "fetched"


def test_a_download_that_is_not_the_pinned_one_is_kept_for_a_new_pin(root: Path, online: FakeKaggle) -> None:
    edit(root, "license: CC0-1.0}\n  two", f"license: CC0-1.0, digest: 'sha256:{'0' * 64}'}}\n  two")
    with pytest.raises(DigestError) as caught:
        fetch(root, ["one"])
    assert not source_folder(root, "one").exists()
    edit(root, f"sha256:{'0' * 64}", caught.value.next_step.rpartition("digest: ")[2])
    served = (root / "data/raw/.downloads/one/owner.name.3/name.zip").stat()
    assert only(fetch(root, ["one"])).state == "fetched"
    assert served.st_size == len(online.content)
    assert not list((root / "data/raw/.downloads").iterdir())


def test_the_remains_of_a_broken_download_are_removed(
    root: Path, online: FakeKaggle, by_hand: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kaggle, "ATTEMPTS", 1)
    online.cuts = [200]
    with pytest.raises(NetworkError):
        fetch(root, ["one"])
    assert list((root / "data/raw/.downloads/one").iterdir())
    fetch(root, ["one"], origin=by_hand)
    assert not list((root / "data/raw/.downloads").iterdir())


def test_a_failing_source_does_not_undo_earlier_ones(root: Path, online: FakeKaggle) -> None:
    with pytest.raises(NetworkError, match="owner/second"):
        fetch(root, [])
    assert read_source(root, "one").kaggle_version == 3


# Deaths

LOCAL = """
import os, pathlib, sys
from facemask_train.sources.fetch import fetch
root = pathlib.Path(sys.argv[1])
fetch(root, [], origin=root.parent / "hand")
"""
DOWNLOAD = """
import pathlib, sys
from helpers import fake_kaggle
from facemask_train.sources.fetch import fetch
root = pathlib.Path(sys.argv[1])
fake_kaggle.point(int((root.parent / "port").read_text()))
fetch(root, ["one"])
"""


@pytest.mark.slow
def test_a_kill_at_any_point_of_a_first_fetch(tmp_path: Path, by_hand: Path) -> None:
    fetch(new_root(tmp_path / "undisturbed"), [], origin=by_hand)
    expected = crash.tree(tmp_path / "undisturbed")
    deaths = 0
    for left in crash.every_death(LOCAL, lambda point: new_root(tmp_path / str(point))):
        fetch(left, [], origin=by_hand)
        assert crash.tree(left) == expected, left.name
        deaths += 1
    assert deaths >= 6  # around the marker, its rename, and the folder's


@pytest.mark.slow
def test_a_kill_at_any_point_of_a_replacement(tmp_path: Path, by_hand: Path) -> None:
    """The rerun may have the new archive, the old one, or none: what is there is whole and needs neither."""
    old = zip_of(tmp_path / "old/name.zip", {"old.jpg": b"old"}).parent

    def prepare(point: int) -> Path:
        fetch(new_root(tmp_path / str(point)), [], origin=old)
        return tmp_path / str(point)

    expected_old = crash.tree(prepare(0))
    fetch(tmp_path / "0", [], origin=by_hand)
    expected_new = crash.tree(tmp_path / "0")
    deaths = 0
    for left in crash.every_death(LOCAL, prepare):
        shutil.copytree(left, back := tmp_path / f"back{left.name}")
        shutil.copytree(left, kept := tmp_path / f"kept{left.name}")
        fetch(left, [], origin=by_hand)
        fetch(back, [], origin=old)
        assert only(fetch(kept, ["one"])).state == "up-to-date"
        assert crash.tree(left) == expected_new, left.name
        assert crash.tree(back) == expected_old, left.name
        deaths += 1
    assert deaths >= 10  # two more renames' sides: the old folder's


@pytest.mark.slow
def test_a_kill_at_any_point_of_a_download(tmp_path: Path, online: FakeKaggle) -> None:
    (tmp_path / "port").write_text(str(online.port))
    fetch(new_root(tmp_path / "undisturbed"), ["one"])
    expected = crash.tree(tmp_path / "undisturbed")
    deaths = 0
    for left in crash.every_death(DOWNLOAD, lambda point: new_root(tmp_path / str(point))):
        fetch(left, ["one"])
        assert crash.tree(left) == expected, left.name
        deaths += 1
    assert deaths >= 8  # as above, and around the removal of the download


@pytest.mark.parametrize("moment", ["one: downloading", "one: unpacking"])
def test_a_kill_in_the_middle(tmp_path: Path, online: FakeKaggle, moment: str) -> None:
    (tmp_path / "port").write_text(str(online.port))
    fetch(new_root(tmp_path / "undisturbed"), ["one"])
    left = new_root(tmp_path / "left")
    dying = DOWNLOAD.replace(
        '["one"])', f'["one"], progress=lambda what, *_: what == {moment!r} and __import__("os")._exit({crash.DEATH}))'
    )
    assert crash.die_at(0, dying, left)
    assert not source_folder(left, "one").exists()
    fetch(left, ["one"])
    assert crash.tree(left) == crash.tree(tmp_path / "undisturbed")


# The real archives


def test_the_real_archives(root: Path, shared: Path, tmp_path: Path) -> None:
    (root / "configs/sources.yaml").unlink()  # those that ship with fmask
    found = {one.name: one for one in fetch(root, [], origin=shared / "kaggle")}
    assert {name: one.state for name, one in found.items()} == {
        "andrewmvd": "fetched",
        "aditya276": "fetched",
        "karm1a": "absent",
    }
    assert read_source(root, "andrewmvd").files == 1364
    assert read_source(root, "aditya276").files == 1594
    with pytest.MonkeyPatch.context() as patch:
        refuse_to_read(patch)
        assert {one.state for one in fetch(root, ["andrewmvd", "aditya276"])} == {"up-to-date"}
    assert module.archive.digest_folder(found["aditya276"].path / "files") == found["aditya276"].digest


def test_a_source_of_another_version_is_reported_and_fetched_again(root: Path, by_hand: Path) -> None:
    one = fetch(root, ["one"], origin=by_hand)[0]
    path = one.path / "source.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "version": 99}))
    with pytest.raises(DataError, match="expected version 2, found 99") as caught:
        read_source(root, "one")
    assert caught.value.next_step == f"remove {one.path}, then: fmask fetch one"
    assert fetch(root, ["one"], origin=by_hand)[0].state == "fetched"
    assert json.loads(path.read_text()) == record


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("given", [True, False])
def test_an_archive_that_is_a_named_pipe_is_refused_at_once(tmp_path: Path, given: bool) -> None:
    """Opening it would wait for a writer without end, so this test would never finish."""
    os.mkfifo(tmp_path / "in.zip")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/sources.yaml").write_text("sources: {s: {path: in.zip}}")
    with pytest.raises(DataError, match=r"in\.zip: expected a regular file .*, found a named pipe"):
        fetch(tmp_path, ["s"], origin=(tmp_path / "in.zip") if given else None)
