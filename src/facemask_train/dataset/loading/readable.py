"""Stops a build whose labels were not understood: otherwise a model would learn that faces are background."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

from facemask_train.core.errors import DataError
from facemask_train.core.types import PublishedImage, PublishedRow, SourceReading

NOT_UNDERSTOOD = frozenset(["wrong-columns", "not-a-number", "unknown-class", "unreadable-annotation", "no-box"])
"""The causes of rows that could hold a face that nobody can place. An image with such a row is refused."""

_EXAMPLES = 3


def check_readable(folder: Path, reading: SourceReading, max_unreadable: float) -> None:
    """Check that the rows of a source were understood.

    Args:
        folder: the files of the source, for messages.
        max_unreadable: the largest fraction of rows that may not be understood, if they are in several images.

    Raises:
        DataError: too many rows were not understood, or they belong to images that are missing while the images that
            are there have none.
    """
    _check_orphans(folder, reading)
    rows = [row for image in reading.images for row in image.rows]
    images = [image for image in reading.images if any(map(_is_unreadable, image.rows))]
    bad = [row for image in images for row in image.rows if _is_unreadable(row)]
    if len(images) > 1 and len(bad) > max_unreadable * len(rows):
        causes = ", ".join(f"{cause}: {count}" for cause, count in Counter(row.cause for row in bad).most_common())
        raise DataError(
            f"{folder}: {len(bad)} of {len(rows)} label rows, in {len(images)} images, were not understood ({causes});"
            f" they look like {_look(bad)}. {_examples(bad)}",
            next_step="convert the labels, or set `format:` of this source in configs/sources.yaml; `max_unreadable:`"
            " there raises the limit, and refuses these images",
        )


def unreadable(image: PublishedImage) -> PublishedRow | None:
    """Return the first row of an image that was not understood, if any."""
    return next(filter(_is_unreadable, image.rows), None)


def _is_unreadable(row: PublishedRow) -> bool:
    return row.corners is None and row.cause in NOT_UNDERSTOOD


def _check_orphans(folder: Path, reading: SourceReading) -> None:
    annotated = [image for image in reading.images if not image.cause]
    empty = sum(not image.rows for image in annotated)
    placed = sum(len(image.rows) for image in annotated)
    if not reading.orphans or not annotated or len(reading.orphans) < placed or 2 * empty < len(annotated):
        return
    files = list(dict.fromkeys(row.file for row in reading.orphans))
    raise DataError(
        f"{folder}: {len(reading.orphans)} label rows in {len(files)} files belong to no image, while {empty} of"
        f" {len(annotated)} images have labels without rows: the labels seem to belong to other images, or to other"
        f" frames of a video. {_examples(reading.orphans)}",
        next_step="export images and labels together, with the same names (for a video: with the same frame step)",
    )


def _look(rows: Sequence[PublishedRow]) -> str:
    """Return what rows that were not understood seem to be."""
    kinds = Counter(chain.from_iterable(_kinds(row) for row in rows))
    return ", ".join(kind for kind, _ in kinds.most_common(2)) or "nothing known"


def _kinds(row: PublishedRow) -> list[str]:
    if row.cause == "wrong-columns":
        return [f"rows of another form ({row.detail})"]
    if row.cause == "unknown-class":
        return ["classes that the names file does not have"]
    if row.cause == "not-a-number":
        return ["texts instead of numbers"]
    return ["annotations without a box" if row.cause == "no-box" else "damaged annotations"]


def _examples(rows: Sequence[PublishedRow]) -> str:
    shown = "; ".join(f"{row.file}, row {row.number}: {row.detail or row.cause}" for row in rows[:_EXAMPLES])
    return f"For example: {shown}"
