"""Published splits as lists: which image an entry means, and which files are lists."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from facemask_train.core.config import Limits
from facemask_train.core.errors import DataError
from facemask_train.core.parallel import WorkerPool
from facemask_train.dataset.build import build
from facemask_train.formats.limits import using
from facemask_train.formats.split_lists import read_split_lists
from facemask_train.sources.fetch import fetch
from helpers.worlds import make_root, write

IMAGES = ["img/a.jpg", "img/b.jpg", "img/c.jpg"]


def lists(folder: Path, files: Mapping[str, str | bytes], images: list[str] = IMAGES) -> dict[str, str]:
    write(folder, dict(files))
    return read_split_lists(folder, images)


@pytest.mark.parametrize(
    "files",
    [
        {"train.txt": "img/a.jpg\nimg/b.jpg\n", "val.txt": "img/c.jpg\n"},
        {"train.txt": "data/obj/a.jpg\r\ndata/obj/b.jpg\r\n", "valid.txt": "data/obj/c.jpg"},  # where darknet ran
        {"ImageSets/Main/train.txt": "a\nb\n", "ImageSets/Main/val.txt": "c\n"},
        {"lists/Train.TXT": "./img/a.png\n\n  ./img/b.png\n", "lists/validation.txt": r"C:\data\img\c.png"},
        {"train.txt": "img/a.jpg\nimg/b.jpg\nimg/absent.jpg", "val.txt": "img/c.jpg"},
        {"train.txt": "\ufeffimg/a.jpg\nimg/b.jpg".encode("utf-16"), "val.txt": "img/c.jpg"},
    ],
)
def test_a_list_puts_its_images_in_its_split(tmp_path: Path, files: dict[str, str | bytes]) -> None:
    assert lists(tmp_path, files) == {"img/a.jpg": "train", "img/b.jpg": "train", "img/c.jpg": "val"}


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("obj.data", "classes = 2\ntrain = data/first.txt\nvalid = data/test.txt\nnames = obj.names\n"),
        ("data.yaml", "train: ./first.txt\nval: ./test.txt\nnames: [a]\n"),
    ],
)
def test_what_a_data_file_says_of_a_list_goes_before_its_name(tmp_path: Path, file: str, text: str) -> None:
    found = lists(tmp_path, {file: text, "first.txt": "img/a.jpg\n", "test.txt": "img/b.jpg\n"})
    assert found == {"img/a.jpg": "train", "img/b.jpg": "val"}


def test_equal_names_are_told_apart_by_their_folders(tmp_path: Path) -> None:
    images = ["x/one/1.jpg", "x/two/1.jpg", "y/2.jpg", "z/2.jpg"]
    found = lists(tmp_path, {"train.txt": "data/one/1.jpg\n", "test.txt": "two/1.jpg\n2.jpg\n"}, images)
    assert found == {"x/one/1.jpg": "train", "x/two/1.jpg": "test"}


@pytest.mark.parametrize("text", ["0 0.5 0.5 0.1 0.1\n", "img/a.jpg\nnothing\nof\nthis\n", "", "\n\n"])
def test_another_text_file_is_no_list(tmp_path: Path, text: str) -> None:
    assert lists(tmp_path, {"train.txt": text}) == {}


def test_other_names_are_no_lists(tmp_path: Path) -> None:
    assert lists(tmp_path, {"trainval.txt": "a\n", "mask_train.txt": "a 1\n", "train.csv": "img/a.jpg\n"}) == {}


def test_an_image_in_two_splits_stops(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found img/a\.jpg in train\.txt and val\.txt") as caught:
        lists(tmp_path, {"train.txt": "img/a.jpg\n", "val.txt": "img/a.jpg\n"})
    assert caught.value.next_step


def test_an_endless_list_is_not_read(tmp_path: Path) -> None:
    with using(Limits(json_bytes=5)):
        assert lists(tmp_path, {"train.txt": "img/a.jpg\n"}) == {}


@given(st.lists(st.text(max_size=30), max_size=6))
def test_any_text_gives_a_split_or_none(tmp_path_factory: pytest.TempPathFactory, lines: list[str]) -> None:
    folder = tmp_path_factory.mktemp("any")
    found = lists(folder, {"train.txt": "\n".join(lines).encode("utf-8", "replace")})
    assert set(found) <= set(IMAGES)
    assert set(found.values()) <= {"train"}


def test_a_build_keeps_the_splits_of_lists(tmp_path: Path) -> None:
    root = make_root(tmp_path, images=6, recipe={"sources": ["second"], "split": "published"})
    names = [f"data/obj/b {index}.jpg\n" for index in range(6)]
    write(
        root / "own/second",
        {"train.txt": "".join(names[:3]), "valid.txt": names[3], "test.txt": names[4]},
    )
    fetch(root, ["second"])
    card = build(root, "tiny", pool=WorkerPool(workers=1)).card
    assert dict(card.originals.items()) == {"train": 4, "val": 1, "test": 1}
    assert "Images outside of any split folder or list, assigned to train: 1." in card.notes
