"""What the readers share: listing files, parsing numbers, and pairing annotations with images.

Independent of the layout. An annotation is one XML file, one label file, or the entries of one image in a COCO file.
"""

from __future__ import annotations

import codecs
import math
import posixpath
import re
import reprlib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from facemask_train.core.errors import DataError
from facemask_train.core.types import PublishedImage, PublishedRow
from facemask_train.formats.media_types import IMAGE_SUFFIXES, kind_of, suffix

Sizes = Mapping[str, tuple[int, int]]
"""An image's path relative to the source's folder -> its (width, height) as displayed; without unreadable images."""

# A folder of one of these names does not tell which image a file belongs to: `images/train/a.jpg`,
# `labels/train/a.txt` and `train/annotations/a.xml` are all at home in `train`. It includes the `ultralytics` rule
# (the last `images` of the path becomes `labels`) and VOC's own `JPEGImages` and `Annotations`.
_HOLDERS = frozenset(
    ["images", "image", "imgs", "img", "jpegimages", "labels", "label", "annotations", "annotation", "xmls", "xml"]
)
_SPLITS = frozenset(["train", "valid", "val", "validation", "test"])

# float() alone would take `1_000`, `nan` and digits of other scripts, which no other tool reads as numbers.
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")

_SNIFFED = 4096  # bytes


class NothingFoundError(DataError):
    """A folder has no annotations of the layout that it was read as."""


_short = reprlib.Repr()
_short.maxstring = _short.maxother = 60


@dataclass(frozen=True, slots=True)
class ImageAnnotation:
    """The annotation of one image in one file; `named` is the image's file name according to the annotation."""

    file: str
    rows: tuple[PublishedRow, ...] = ()
    cause: str = ""
    detail: str = ""
    declared: tuple[int, int] | None = None
    named: str = ""


Claim = tuple[ImageAnnotation, Sequence[str]]
"""An annotation and its images: none (an orphan), one, or several that cannot be told apart."""


def list_files(folder: Path, *, broken: bool = False) -> list[str]:
    """Return every file as a sorted relative posix path; hidden ones and `__MACOSX` are left out.

    Args:
        broken: links that lead nowhere too.
    """
    found = (path for path in folder.rglob("*") if path.is_file() or (broken and is_broken(path)))
    paths = (path.relative_to(folder) for path in found)
    return sorted(path.as_posix() for path in paths if not any(map(_hidden, path.parts)))


def is_broken(path: Path) -> bool:
    """Return whether a path is a broken or circular link."""
    return path.is_symlink() and not path.exists()


def _hidden(part: str) -> bool:
    return part.startswith(".") or part == "__MACOSX"


def list_images(folder: Path) -> list[str]:
    """Return every image file as a sorted relative posix path, and every video, which has to be reported."""
    return [file for file in list_files(folder) if kind_of(folder / file)]


def text_of(data: bytes) -> str:
    """Decode a text file of unknown origin: UTF-8, UTF-16 (also without a byte order mark), else Latin-1."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return data.decode("utf-16", errors="replace")
    if b"\0" in data[:_SNIFFED]:
        odd, even = data[1:_SNIFFED:2].count(0), data[:_SNIFFED:2].count(0)
        if max(odd, even) > 4 * min(odd, even):
            return data.decode("utf-16-le" if odd > even else "utf-16-be", errors="replace")
    data = data.removeprefix(codecs.BOM_UTF8)
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("latin-1")


def number(text: str) -> float | None:
    """Return a finite decimal number, or None."""
    value = float(text) if _NUMBER.fullmatch(text) else math.nan
    return value if math.isfinite(value) else None


def json_number(value: Any) -> float | None:
    """Return a finite number in a JSON file, also one that is written as a text."""
    if isinstance(value, str):
        return number(value.strip())
    try:
        found = float(value) if isinstance(value, int | float) else math.nan
    except OverflowError:  # JSON allows whole numbers that no float can hold
        return None
    return found if math.isfinite(found) else None


def valid_text(value: object) -> str:
    """Return a JSON text without the half surrogate pairs that no file can hold; empty if the value is no text."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else ""


def nothing_found(folder: Path, expected: str) -> NothingFoundError:
    """Return the error for a folder without annotations of a layout."""
    return NothingFoundError(
        f"{folder}: expected {expected}, found none",
        next_step="check `format:` of this source in configs/sources.yaml; leave it out to have it detected",
    )


def quoted(value: object) -> str:
    """Return a value as a message shows it: its repr, cut short, also where aliases make it grow without end."""
    return _short.repr(value)


def pair(images: Sequence[str], named: Mapping[str, str]) -> dict[str, list[str]]:
    """Find the image of each annotation file.

    In this order: the image of the same stem in the same place (beside it, or in a parallel `images/` folder); the one
    of the same stem anywhere; the one that the annotation names, whatever its extension; then the same again without
    regard to case, Unicode form, percent encoding, and a double suffix (`a.jpg.txt`). Each step considers only the
    images that no annotation found in an earlier one. The stem precedes the name, because images are renamed and
    re-encoded together with the file of their annotation, while the name inside it stays as it was.

    Args:
        named: annotation file -> the image's name that it gives, empty where it gives none.

    Returns:
        Annotation file -> its images: none, one, or several that cannot be told apart.
    """
    owners: dict[str, list[str]] = {file: [] for file in named}
    own = {file: file for file in named}
    steps: tuple[tuple[Callable[[str], object], Mapping[str, str]], ...] = (
        *((_place, own), (_stem, own), (_stem, named)),
        *((_like_place, own), (like_stem, own), (like_stem, named)),
    )
    for key_of, wanted in steps:
        claimed = {image for found in owners.values() for image in found}
        free = index_by([image for image in images if image not in claimed], key_of)
        for file in [file for file, found in owners.items() if not found]:
            found = [image for image in free[key_of(wanted[file])] if same_split(image, file)]
            owners[file] = _narrow(found, file, named[file])
    return owners


def index_by(paths: Iterable[str], key: Callable[[str], object]) -> defaultdict[object, list[str]]:
    """Group paths by a key; a key that nothing has gives an empty list."""
    index: defaultdict[object, list[str]] = defaultdict(list)
    for path in paths:
        index[key(path)].append(path)
    return index


def name_of(path: str) -> str:
    """Return the last part of a posix path."""
    return path.rpartition("/")[2]


def _stem(path: str) -> str:
    return PurePosixPath(path).stem


def _home(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/")[:-1] if part.lower() not in _HOLDERS)


def like_stem(path: str) -> str:
    """Return a stem without what differs between systems and exporters: Unicode form, case, percent encoding.

    An image suffix before the last one is left off too: `a.jpg.txt` belongs to `a.jpg`.
    """
    stem = PurePosixPath(unquote(name_of(path))).stem
    stem = stem.removesuffix(PurePosixPath(stem).suffix) if suffix(stem) in IMAGE_SUFFIXES else stem
    return unicodedata.normalize("NFC", stem).casefold()


def _like_place(path: str) -> tuple[tuple[str, ...], str]:
    home = tuple(unicodedata.normalize("NFC", unquote(part)).casefold() for part in _home(path))
    return home, like_stem(path)


def _place(path: str) -> tuple[tuple[str, ...], str]:
    return _home(path), _stem(path)


def same_split(one: str, other: str) -> bool:
    """Return whether two paths could be in the same split: `train/1.txt` never belongs to `valid/1.jpg`."""
    splits = [{part.lower() for part in path.split("/")[:-1]} & _SPLITS for path in (one, other)]
    return not all(splits) or splits[0] == splits[1]


def _narrow(candidates: Sequence[str], file: str, name: str) -> list[str]:
    """Prefer the images beside the annotation, then those in its parallel folder, then those that it names."""
    found = list(candidates)
    if len(found) > 1:
        found = [path for path in found if path.rpartition("/")[0] == file.rpartition("/")[0]] or found
        found = [path for path in found if _home(path) == _home(file)] or found
        found = [path for path in found if name_of(path) == name] or found
    return found


def find_images(named: Sequence[tuple[str, str]], images: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    """Find the image of each (annotation file, name of an image in it).

    It is where it should be, or else the only free one of its name.
    """
    known = frozenset(images)
    owners = {(file, name): [path for path in _likely(file, name) if path in known][:1] for file, name in named}
    claimed = {path for found in owners.values() for path in found}
    free = index_by([image for image in images if image not in claimed], name_of)
    for file, name in [key for key, found in owners.items() if not found]:
        found = [path for path in free[name_of(name)] if same_split(path, file) and same_split(path, name)]
        owners[file, name] = found if len(found) == 1 else []
    return owners


def _likely(file: str, name: str) -> list[str]:
    """Return where an image should be: relative to the file, to its `images/`, or to its split's folder."""
    base, stem = posixpath.dirname(file), PurePosixPath(file).stem
    split = stem.rpartition("_")[2]  # instances_train2017.json
    places = ("", "images", "..", "../images", f"../{split}", f"../images/{split}", split, f"images/{split}")
    return [posixpath.normpath(posixpath.join(base, place, name)) for place in places]


def assemble(
    images: Sequence[str], claims: Iterable[Claim]
) -> tuple[tuple[PublishedImage, ...], tuple[PublishedRow, ...]]:
    """Give each image its rows, and return them with the rows of absent images: no row is lost, none twice.

    Two annotations of one image are harmless where they agree (their rows are then duplicates), and
    `two-annotations` where they do not. One annotation of several images is `shared-annotation` for each of them;
    its rows are counted with the first.
    """
    found: defaultdict[str, list[ImageAnnotation]] = defaultdict(list)
    orphans: list[PublishedRow] = []
    for annotation, owners in claims:
        if not owners:
            orphans += [_orphan(row, annotation) for row in annotation.rows]
        elif len(owners) == 1:
            found[owners[0]].append(annotation)
        else:
            shared = replace(annotation, cause="shared-annotation", detail=f"{annotation.file}: {', '.join(owners)}")
            found[owners[0]].append(shared)
            for owner in owners[1:]:
                found[owner].append(replace(shared, rows=()))
    return tuple(_publish(image, found[image]) for image in images), tuple(orphans)


def _orphan(row: PublishedRow, annotation: ImageAnnotation) -> PublishedRow:
    named = f"no image {quoted(annotation.named)}" if annotation.named else "no image of this file's name"
    return replace(row, corners=None, cause="no-image", detail=annotation.detail or named)


def _publish(image: str, annotations: Sequence[ImageAnnotation]) -> PublishedImage:
    if not annotations:
        return PublishedImage(image, cause="no-label-file", detail="no annotation was found for this image")
    rows = tuple(row for annotation in annotations for row in annotation.rows)
    first = next((annotation for annotation in annotations if annotation.cause), annotations[0])
    cause, detail = first.cause, first.detail
    if not cause and len(set(map(_said, annotations))) > 1:
        cause, detail = "two-annotations", " and ".join(annotation.file for annotation in annotations)
    return PublishedImage(image, rows, cause, detail, first.declared)


def _said(annotation: ImageAnnotation) -> tuple[object, ...]:
    return tuple((row.name, row.corners, row.cause) for row in annotation.rows)
