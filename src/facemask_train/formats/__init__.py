"""A source's folder to records, and back: rows as published, each with its corners in pixels, or the cause why not.

Class maps and checks are in `dataset/loading/validate.py`. A new format is one file with `read` and `evidence`
and one line in `READERS` (here) and `EVIDENCE` (`detect_format.py`).
"""

from __future__ import annotations

from pathlib import Path

from facemask_train.core.config import Limits
from facemask_train.core.errors import DataError, UsageError, nearest
from facemask_train.core.types import SourceReading
from facemask_train.formats import coco, cvat, labelme, voc, yolo
from facemask_train.formats.detect_format import instead, probe
from facemask_train.formats.limits import using
from facemask_train.formats.pairing import NothingFoundError, Sizes, list_images

__all__ = ["READERS", "Sizes", "list_images", "probe", "read"]

READERS = {"voc": voc.read, "yolo": yolo.read, "coco": coco.read, "cvat": cvat.read, "labelme": labelme.read}


def read(folder: Path, layout: str, sizes: Sizes, limits: Limits | None = None) -> SourceReading:
    """Read a source's folder: every image file once, in sorted order, and every annotation row once.

    Args:
        layout: one of `READERS`, or `probe`.
        sizes: the size of each image that can be read.
        limits: the limits of its annotation files; None uses the default ones.

    Raises:
        DataError: the folder has no images, or not this layout, or a file of it cannot be used as a whole.
        UsageError: there is no such layout.
    """
    if layout not in (*READERS, "probe"):
        known = ", ".join(READERS)
        raise UsageError(f"no layout is called '{layout}'{nearest(layout, READERS)}", next_step=f"use one of: {known}")
    images = list_images(folder)
    if not images:
        raise DataError(f"{folder}: expected images, found none", next_step="check what is in this source's archive")
    with using(limits or Limits()):
        chosen = probe(folder) if layout == "probe" else layout
        try:
            return READERS[chosen](folder, images, sizes)
        except NothingFoundError as error:
            raise instead(folder, chosen) or error from error
