"""Reads the boxes of images that an ensemble has not kept, as their source published them.

The tables of the ensemble contain the outcome of each row (its file, its number, what its class means); the position of
its box is only in the files of the source, if they are still there.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from facemask_train import formats
from facemask_train.core.boxes import oriented
from facemask_train.core.config import Limits, parse
from facemask_train.core.errors import FmaskError
from facemask_train.core.types import Box, PublishedRow
from facemask_train.dataset.contents import EnsembleContents, GroupMember, ImageName
from facemask_train.dataset.loading.images import orientation_of
from facemask_train.report.dataset.thumbnails import Mark
from facemask_train.sources.source_record import source_folder

log = logging.getLogger(__name__)


def published_marks(root: Path, contents: EnsembleContents, names: Iterable[ImageName]) -> dict[ImageName, list[Mark]]:
    """Return the boxes of published images, in the orientation of the first image of their group.

    There are no boxes for a source whose files are missing or cannot be read.
    """
    members = {one.name: one for one in contents.members}
    wanted: dict[str, list[str]] = defaultdict(list)
    for source, path in names:
        wanted[source].append(path)
    meanings = {(one.source, one.file, one.number): one.label for one in contents.issues if one.item == "box"}
    found: dict[ImageName, list[Mark]] = {}
    for source, paths in sorted(wanted.items()):
        for path, size, rows in _published(root, contents, source, paths):
            named = [(row, meanings.get((source, row.file, row.number), "other")) for row in rows]
            found[source, path] = list(_oriented_marks(named, size, members[source, path]))
    return found


def _published(
    root: Path, contents: EnsembleContents, source: str, paths: Iterable[str]
) -> Iterator[tuple[str, tuple[int, int], tuple[PublishedRow, ...]]]:
    """Yield the path of each wanted image, its size in pixels, and its rows."""
    files = source_folder(root, source) / "files"
    sizes = {path: size for path in paths if (size := _size(files / path)) is not None}
    try:
        inputs = contents.card.inputs.sources[source]
        limits = parse(Limits, inputs.limits, where=str(files))
        reading = formats.read(files, inputs.format, sizes, limits)
    except (FmaskError, OSError, KeyError) as error:
        log.info("%s: the published boxes are not shown (%s)", files, error)
        return
    for image in reading.images:
        if image.path in sizes:
            yield image.path, sizes[image.path], image.rows


def _size(path: Path) -> tuple[int, int] | None:
    """Return width and height of an image as displayed, or None if it cannot be read."""
    from PIL import Image

    try:
        with Image.open(path) as image:
            swapped = orientation_of(image) >= 5
            return (image.height, image.width) if swapped else image.size
    except (OSError, ValueError, SyntaxError):
        return None


def _oriented_marks(
    rows: Iterable[tuple[PublishedRow, str]], size: tuple[int, int], member: GroupMember
) -> Iterator[Mark]:
    for row, name in rows:
        try:
            box = Box(*row.corners) if row.corners else None
        except ValueError:  # a box without an area; it is among the issues
            box = None
        if box:
            yield Mark(name, oriented(box.corners, *size, member.orientation))
