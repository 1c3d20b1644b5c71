"""Shows a person the readings of boxes that fit a source equally well, so that one of them can be chosen."""

from __future__ import annotations

from pathlib import Path

from facemask_train.core.contact_sheet import Tile, TileBox, TileSection, save_contact_sheet, tile_image
from facemask_train.core.drawing import LABELED, open_upright
from facemask_train.core.errors import DataError
from facemask_train.formats.box_readings import AmbiguousBoxesError, BoxReading, Values

_EXAMPLES = 3  # images


def with_box_sheet(files: Path, target: Path, error: AmbiguousBoxesError) -> DataError:
    """Save a contact sheet of three images with a box of each in every reading, and return the error that names it.

    Args:
        files: the folder of the source's files.
        target: the JPEG to write.
    """
    examples = dict(error.examples)  # one box of each image
    sections = [
        TileSection(
            reading.describe(), [_tile(files / path, box, reading) for path, box in list(examples.items())[:_EXAMPLES]]
        )
        for reading in error.readings
    ]
    note = "Only one of these readings fits the faces: convert the labels from it"
    save_contact_sheet(target, sections, title="Boxes that can be read in several ways", note=note, columns=_EXAMPLES)
    return DataError(
        str(error),
        next_step=f"look at {target} to see which it is, convert the labels to the defined form, and fetch the source"
        " again",
    )


def _tile(path: Path, box: Values, reading: BoxReading) -> Tile:
    image = open_upright(path)
    mark = TileBox(reading.corners(box, image.size), LABELED, thick=True)
    return Tile(tile_image(image, [mark]), path.name)
