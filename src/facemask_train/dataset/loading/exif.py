"""Decides whether the labels of images with an EXIF orientation were drawn on the image as displayed or as stored.

Some tools apply the orientation, others ignore it, and most label files do not say. Taken as evidence, for each image:
the size that its annotation states, and boxes that fit inside only one of the two. If all evidence in a source agrees,
its other images follow it. If nothing is evidence, the labels are taken as displayed, and a person is told; `exif:` of
the source decides then.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from facemask_train.core.boxes import oriented
from facemask_train.core.config import ExifSetting
from facemask_train.core.contact_sheet import Tile, TileBox, TileSection, save_contact_sheet, tile_image
from facemask_train.core.drawing import LABELED, open_upright
from facemask_train.core.types import Corners, PublishedImage, SourceReading
from facemask_train.dataset.loading.images import ImageFacts
from facemask_train.formats import Sizes

EXIF_ORIENTATIONS = {2: 4, 3: 2, 4: 6, 5: 5, 6: 3, 7: 7, 8: 1}
"""The orientation (see `core.boxes.oriented`) that makes an image upright, by the EXIF orientation."""

_SLACK = 0.02  # of each side: published boxes often reach a little past the edge
_AGREEING = 2  # images whose evidence agrees, from which the others follow it
_SHOWN = 6  # images on the contact sheet
_log = logging.getLogger(__name__)

Drawn = Literal["displayed", "stored", ""]


@dataclass(frozen=True, slots=True)
class ExifReading:
    """The labels of a source, and what those of images with an EXIF orientation were drawn on.

    Attributes:
        reading: the rows; in pixels of the stored image for the images in `stored`.
        stored: the images whose labels were drawn on the pixels as stored.
        unsettled: the labeled images for which nothing says so, with the rows that they have if drawn as stored; in
            `reading` they are taken as displayed.
    """

    reading: SourceReading
    stored: frozenset[str] = frozenset()
    unsettled: Mapping[str, PublishedImage] = field(default_factory=dict)


def read_oriented(
    read: Callable[[Sizes], SourceReading], facts: Mapping[str, ImageFacts], setting: ExifSetting
) -> ExifReading:
    """Read the labels of a source, and find out what they were drawn on.

    Args:
        read: reads the labels, given the size of each image that can be read.
        facts: by image path.
        setting: `apply` or `ignore` if a person has decided, else `auto`.
    """
    usable = {path: one for path, one in facts.items() if not one.cause}
    sizes = {path: (one.width, one.height) for path, one in usable.items()}
    displayed = read(sizes)
    turned = [image.path for image in displayed.images if _is_turned(image, facts.get(image.path))]
    if not turned or setting == "apply":
        return ExifReading(displayed)
    stored = {image.path: image for image in read(sizes | {path: facts[path].stored for path in turned}).images}
    drawn = {image.path: _evidence(image, stored[image.path], facts[image.path])
             for image in displayed.images if image.path in turned}  # fmt: skip
    drawn = dict.fromkeys(turned, "stored") if setting == "ignore" else _agreed(drawn)
    images = tuple(stored[one.path] if drawn.get(one.path) == "stored" else one for one in displayed.images)
    return ExifReading(
        replace(displayed, images=images),
        frozenset(path for path, found in drawn.items() if found == "stored"),
        {path: stored[path] for path, found in drawn.items() if not found},
    )


def _is_turned(image: PublishedImage, facts: ImageFacts | None) -> bool:
    usable = facts is not None and not facts.cause and facts.orientation != 1
    return usable and any(row.corners for row in image.rows)


def _agreed(drawn: Mapping[str, Drawn]) -> dict[str, Drawn]:
    """Return the evidence of each image; if all of it agrees, for the images that have none too."""
    said = [found for found in drawn.values() if found]
    others: Drawn = said[0] if len(said) >= _AGREEING and len(set(said)) == 1 else ""
    return {path: found or others for path, found in drawn.items()}


def _evidence(displayed: PublishedImage, stored: PublishedImage, facts: ImageFacts) -> Drawn:
    """Return what one image says by itself; an empty string if it says nothing."""
    size = (facts.width, facts.height)
    if size == facts.stored:
        return ""
    if displayed.declared in (size, facts.stored):
        return "displayed" if displayed.declared == size else "stored"
    fits = _all_inside(displayed, size), _all_inside(stored, facts.stored)
    if fits[0] == fits[1]:
        return ""
    return "displayed" if fits[0] else "stored"


def _all_inside(image: PublishedImage, size: tuple[int, int]) -> bool:
    across, down = ((1 + _SLACK) * side for side in size)
    return all(row.corners[2] <= across and row.corners[3] <= down for row in image.rows if row.corners)


def upright(corners: Corners, facts: ImageFacts) -> Corners:
    """Return a box that was drawn on the image as stored, in the pixels of the image as displayed."""
    return oriented(corners, *facts.stored, EXIF_ORIENTATIONS[facts.orientation])


def warn(files: Path, target: Path, name: str, facts: Mapping[str, ImageFacts], found: ExifReading) -> str:
    """Save a contact sheet of both readings of the unsettled labels, and return the sentence that a person should read.

    Args:
        files: the folder of the source's files.
        target: the JPEG to write.
        name: the source.

    Returns:
        The sentence; an empty string if everything is settled.
    """
    if not found.unsettled:
        return ""
    displayed = {image.path: image for image in found.reading.images}
    paths = list(found.unsettled)[:_SHOWN]
    tiles = (
        [_tile(files, displayed[path], facts[path], stored=False) for path in paths],
        [_tile(files, found.unsettled[path], facts[path], stored=True) for path in paths],
    )
    sections = [
        TileSection("exif: apply", tiles[0], "as displayed"),
        TileSection("exif: ignore", tiles[1], "as stored"),
    ]
    note = "Only one of the two fits the faces: set it as `exif:` of this source in configs/sources.yaml"
    save_contact_sheet(target, sections, title=f"{name}: images with an EXIF orientation", note=note)
    text = (
        f"{name}: {len(found.unsettled)} labeled images have an EXIF orientation, and nothing says whether their labels"
        " are of the image as displayed or as stored; they are taken as displayed"
    )
    _log.warning("%s. Look at %s, then set `exif: apply` or `exif: ignore` in configs/sources.yaml", text, target)
    return f"{text}."


def _tile(files: Path, image: PublishedImage, facts: ImageFacts, *, stored: bool) -> Tile:
    boxes = [row.corners for row in image.rows if row.corners]
    marks = [TileBox(upright(box, facts) if stored else box, LABELED) for box in boxes]
    return Tile(tile_image(open_upright(files / image.path), marks), image.path.rpartition("/")[2])
