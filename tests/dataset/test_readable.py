"""When a build stops because labels were not understood, and when it continues."""

from __future__ import annotations

from pathlib import Path

import pytest

from facemask_train.core.errors import DataError
from facemask_train.core.types import PublishedImage, PublishedRow, SourceReading
from facemask_train.dataset.loading.readable import check_readable

GOOD = PublishedRow("g.txt", 1, "mask", (0, 0, 9, 9))
BAD = PublishedRow("b.txt", 2, "mask", cause="wrong-columns", detail="expected 5 columns, found 3")
LOST = PublishedRow("frame_000005.txt", 1, cause="no-image", detail="no image of this file's name")


def reading(*rows: tuple[PublishedRow, ...], orphans: int = 0) -> SourceReading:
    return SourceReading(tuple(PublishedImage(f"{n}.jpg", one) for n, one in enumerate(rows)), (LOST,) * orphans)


@pytest.mark.parametrize(
    "found",
    [
        reading((GOOD,), (GOOD,)),
        reading((BAD, BAD), (GOOD,)),  # one image alone: it is refused, the others are whole
        reading((GOOD,) * 19, (BAD,), (GOOD,) * 19, (BAD,)),  # 2 of 40 rows
        reading((GOOD,), (GOOD,), orphans=9),  # a part of a data set: its images have their rows
        reading((), ()),  # background
        reading((GOOD,), (), (GOOD,), orphans=1),
    ],
)
def test_a_readable_source_passes(found: SourceReading) -> None:
    check_readable(Path("files"), found, 0.05)


@pytest.mark.parametrize("found", [reading((BAD,), (BAD,)), reading((GOOD,) * 17, (BAD,), (BAD,))])
def test_rows_that_are_not_understood_stop_with_causes_and_examples(found: SourceReading) -> None:
    with pytest.raises(DataError, match=r"wrong-columns: 2.*b\.txt, row 2: expected 5 columns, found 3") as caught:
        check_readable(Path("files"), found, 0.05)
    assert caught.value.exit_code == 3
    assert "max_unreadable" in caught.value.next_step


def test_the_limit_can_be_raised() -> None:
    check_readable(Path("files"), reading((BAD,), (BAD,)), 1.0)


@pytest.mark.parametrize("found", [reading((), (), orphans=2), reading((), (), (GOOD,), orphans=1)])
def test_rows_of_absent_images_beside_images_without_rows_stop(found: SourceReading) -> None:
    with pytest.raises(DataError, match=r"belong to no image.*frame_000005\.txt"):
        check_readable(Path("files"), found, 0.05)
