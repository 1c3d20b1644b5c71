"""The image index: a source is examined once, and again only if its bytes changed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from facemask_train.core.errors import MissingError, StorageError
from facemask_train.core.files import locked
from facemask_train.core.parallel import WorkerPool
from facemask_train.dataset.grouping.hashing import SIDE
from facemask_train.dataset.loading import image_index as module
from facemask_train.dataset.loading.image_index import ImageIndex, index_images
from facemask_train.sources.fetch import fetch
from helpers.worlds import WIDTH, image, make_root, write

ALONE = WorkerPool(workers=1)


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the paths that are examined from now on, in this process."""
    paths: list[str] = []
    stock = module.examine_bytes

    def watched(content: bytes, path: str, digest: str) -> object:
        paths.append(path)
        return stock(content, path, digest)

    monkeypatch.setattr(module, "examine_bytes", watched)
    return paths


def equal(one: ImageIndex, other: ImageIndex) -> bool:
    arrays = (one.hashes == other.hashes).all() and (one.thumbnails == other.thumbnails).all()
    return bool(arrays) and one.facts == other.facts


def test_the_index_has_facts_hashes_and_thumbnails(tmp_path: Path, seen: list[str]) -> None:
    root = make_root(tmp_path, images=3)
    write(root / "own/second/pics", {"broken.jpg": b"no image"})
    fetch(root, ["second"])
    found = index_images(root, "second", pool=ALONE)
    assert [facts.path for facts in found.facts] == ["pics/b 0.jpg", "pics/b 1.jpg", "pics/b 2.jpg", "pics/broken.jpg"]
    assert [facts.cause for facts in found.facts] == ["", "", "", "unreadable"]
    assert found.thumbnails.shape == (4, SIDE, SIDE)
    assert not found.hashes[3].any()
    assert not found.thumbnails[3].any()
    assert len({tuple(row) for row in found.hashes.tolist()}) == 4
    assert found.by_path["pics/b 1.jpg"].width == WIDTH
    assert isinstance(found.thumbnails, np.memmap)  # read where it lies, so that memory stays flat


def test_an_unchanged_source_is_not_read_again(tmp_path: Path, seen: list[str]) -> None:
    root = make_root(tmp_path, images=3)
    fetch(root, ["second"])
    first = index_images(root, "second", pool=ALONE)
    seen.clear()
    (root / "data/raw/second/files/pics/b 0.jpg").unlink()  # what is fetched is not looked at
    assert equal(first, index_images(root, "second", pool=ALONE))
    assert seen == []


def test_jobs_name_absolute_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker process may have been started in another current folder."""
    fetch(make_root(tmp_path, images=2), ["second"])
    folders: list[Path] = []
    stock = module._examine_batch

    def watched(jobs: list[tuple[Path, str, str]]) -> object:
        folders.extend(files for files, _, _ in jobs)
        return stock(jobs)

    monkeypatch.setattr(module, "_examine_batch", watched)
    monkeypatch.chdir(tmp_path)
    index_images(Path(), "second", pool=ALONE)
    assert len(folders) == 2
    assert all(files.is_absolute() for files in folders)


def test_only_changed_files_of_a_changed_source_are_examined(tmp_path: Path, seen: list[str]) -> None:
    root = make_root(tmp_path, images=4)
    fetch(root, ["second"])
    index_images(root, "second", pool=ALONE)
    seen.clear()
    write(root / "own/second/pics", {"b 1.jpg": image(900), "new.jpg": image(901), "new.txt": "0 0.5 0.5 0.1 0.1\n"})
    (root / "own/second/pics/b 2.jpg").unlink()
    fetch(root, ["second"])
    found = index_images(root, "second", pool=ALONE)
    assert seen == ["pics/b 1.jpg", "pics/new.jpg"]
    anew = make_root(tmp_path / "anew", images=4)
    for name in ("b 1.jpg", "new.jpg"):
        write(anew / "own/second/pics", {name: (root / "own/second/pics" / name).read_bytes()})
    (anew / "own/second/pics/b 2.jpg").unlink()
    fetch(anew, ["second"])
    assert equal(found, index_images(anew, "second", pool=ALONE))


def test_another_version_of_the_code_examines_all_files(tmp_path: Path, seen: list[str]) -> None:
    root = make_root(tmp_path, images=2)
    fetch(root, ["second"])
    index_images(root, "second", pool=ALONE)
    marker = root / "data/cache/second/index.json"
    marker.write_text(json.dumps({**json.loads(marker.read_text()), "code": 0}))
    seen.clear()
    index_images(root, "second", pool=ALONE)
    assert len(seen) == 2


@pytest.mark.parametrize("damage", ["thumbnails cut", "thumbnails gone", "table cut", "table odd", "marker cut"])
def test_a_damaged_index_is_rebuilt(tmp_path: Path, seen: list[str], damage: str) -> None:
    root = make_root(tmp_path, images=3)
    fetch(root, ["second"])
    whole = index_images(root, "second", pool=ALONE)
    whole = replace(whole, thumbnails=np.array(whole.thumbnails))  # from the file that is damaged now
    name, _, what = damage.partition(" ")
    file = {"thumbnails": "thumbnails.bin", "table": "images.parquet", "marker": "index.json"}[name]
    path = root / "data/cache/second" / file
    content = path.read_bytes()
    if what == "gone":
        path.unlink()
    elif what == "odd":
        pd.read_parquet(path).drop(columns=["hash"]).to_parquet(path)
    else:
        path.write_bytes(content[: len(content) // 2])
    seen.clear()
    assert equal(whole, index_images(root, "second", pool=ALONE))
    assert len(seen) == 3
    assert path.read_bytes() == content


def test_workers_and_folders_make_no_difference(tmp_path: Path) -> None:
    made = []
    for number, workers in enumerate((1, 2)):
        root = make_root(tmp_path / f"{number}", images=70)
        fetch(root, ["first"])
        made.append(index_images(root, "first", pool=WorkerPool(workers=workers)))
    assert equal(*made)
    trees = [sorted(path.read_bytes() for path in (tmp_path / name / "data/cache/first").iterdir()) for name in "01"]
    assert trees[0] == trees[1]


def test_a_source_that_is_missing_or_locked_is_named(tmp_path: Path) -> None:
    root = make_root(tmp_path, images=1)
    with pytest.raises(MissingError, match="first"):
        index_images(root, "first", pool=ALONE)
    fetch(root, ["first"])
    with locked(root / "data/cache/first"), pytest.raises(StorageError, match="another fmask"):
        index_images(root, "first", pool=ALONE)


def test_a_source_without_images_has_an_empty_index(tmp_path: Path) -> None:
    root = make_root(tmp_path, images=1)
    for path in (root / "own/second/pics").glob("*.jpg"):
        path.unlink()
    fetch(root, ["second"])
    found = index_images(root, "second", pool=ALONE)
    assert (found.facts, found.hashes.shape, found.thumbnails.shape) == ((), (0, 4), (0, SIDE, SIDE))


def test_files_that_are_no_images_or_cannot_be_decoded_have_a_row(tmp_path: Path) -> None:
    files = tmp_path / "files"
    names = {
        "a.mp4": b"\0\0\0\x18ftypmp42",
        "clip": b"\x1aE\xdf\xa3",
        "b.cr2": image(1),
        "c.psd": b"8BPS\0",
        "d": image(2),
    }
    write(files, dict(names))
    jobs = [(files, path, "") for path in sorted(names)]
    found = {one.facts.path: one.facts for one in module._examine_batch(jobs) if one}
    assert {path: facts.cause for path, facts in found.items()} == {
        "a.mp4": "video",
        "b.cr2": "unsupported",
        "c.psd": "unreadable",
        "clip": "video",
        "d": "",
    }
    assert found["d"].repairs == ("wrong-extension",)
    assert all(facts.sha256 for facts in found.values())
    known = [(files, path, found[path].sha256) for path in names]
    assert module._examine_batch(known)[2] is None  # unchanged files are not examined again
