"""Finds the splits that a source publishes as lists: text files with one image on each line.

Read are `train.txt`, `val.txt` and `test.txt` (under all names of `SPLIT_NAMES`) anywhere in the folder, which covers
VOC's `ImageSets/Main/`, and the lists that a darknet `*.data` file or a yaml file names. An entry is a path or a name,
with or without an extension. The folders in it may be those of another machine: it belongs to the image whose path
agrees with it from the end, if there is only one.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath

from facemask_train.core.errors import DataError
from facemask_train.formats.limits import is_small_list, read_names_file
from facemask_train.formats.media_types import IMAGE_SUFFIXES, suffix
from facemask_train.formats.pairing import like_stem, list_files, name_of, text_of

SPLIT_NAMES = {"train": "train", "valid": "val", "val": "val", "validation": "val", "test": "test"}
"""Splits by the name of the folder or the list that a source published them in."""

_NAMED = re.compile(r"^\s*(train|valid|val|test)\s*[=:]\s*['\"]?([^'\"\r\n]+?\.txt)['\"]?\s*$", re.MULTILINE)
_log = logging.getLogger(__name__)


def read_split_lists(folder: Path, images: Sequence[str]) -> dict[str, str]:
    """Return the split of each image that a list names: `train`, `val` or `test`.

    Raises:
        DataError: an image is in the lists of two splits.
    """
    by_stem = _by_stem(images)
    found: dict[str, tuple[str, str]] = {}  # image -> split, list
    for file, split in _lists(folder):
        for image in _listed(folder / file, file, by_stem):
            earlier, other = found.setdefault(image, (split, file))
            if earlier != split:
                raise DataError(
                    f"{folder}: expected each image in the list of one split, found {image} in {other} and {file}",
                    next_step="remove the image from one of the lists, and fetch the source again",
                )
    return {image: split for image, (split, _) in found.items()}


def _lists(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield each file that may be a list, and its split: what a `*.data` or yaml file says goes before its name."""
    files = list_files(folder)
    named = dict(_named(folder, files))
    for file in files:
        path = PurePosixPath(file)
        split = named.get(path.name) or SPLIT_NAMES.get(path.stem.lower(), "")
        if split and path.suffix.lower() == ".txt" and is_small_list(folder / file):
            yield file, split


def _named(folder: Path, files: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield the name of each list that a `*.data` or yaml file names, and its split."""
    for file in files:
        if suffix(file) in (".data", ".yaml", ".yml"):
            for key, path in _NAMED.findall(text_of(read_names_file(folder / file))):
                yield name_of(path.replace("\\", "/")), SPLIT_NAMES[key]


def _by_stem(images: Iterable[str]) -> Mapping[str, Sequence[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for image in images:
        found[like_stem(image)].append(image)
    return found


def _listed(path: Path, file: str, by_stem: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the images that a list names; none if most of its lines name no image, as in a label file."""
    entries = [line.strip().replace("\\", "/") for line in text_of(path.read_bytes()).splitlines() if line.strip()]
    found = [image for entry in entries if (image := _image_of(entry, by_stem))]
    if 2 * len(found) < len(entries):
        return []
    if len(found) < len(entries):
        _log.warning("%s: %d of %d lines name no image, or several", file, len(entries) - len(found), len(entries))
    return found


def _image_of(entry: str, by_stem: Mapping[str, Sequence[str]]) -> str:
    """Return the image of an entry; an empty string if there is none, or several that agree with it equally."""
    candidates = by_stem.get(like_stem(entry if suffix(entry) in IMAGE_SUFFIXES else f"{entry}.jpg"), ())
    common = {image: _common(entry, image) for image in candidates}
    best = [image for image, count in common.items() if count == max(common.values())]
    return best[0] if len(best) == 1 else ""


def _common(entry: str, image: str) -> int:
    """Return how many folders of two paths agree, from the end; a name that is equal to the letter counts too."""
    parts = [reversed(PurePosixPath(path).parts[:-1]) for path in (entry, image)]
    count = 0
    for one, other in zip(*parts, strict=False):
        if one != other:
            break
        count += 1
    return 2 * count + (name_of(entry) in (name_of(image), PurePosixPath(image).stem))
