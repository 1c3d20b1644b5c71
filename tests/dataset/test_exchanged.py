"""Sources whose copies in another source say the opposite: told if enough faces are shared."""

from __future__ import annotations

import pytest

from facemask_train.core.types import Annotation, Box, ImageRecord
from facemask_train.dataset.grouping.duplicates import Pair
from facemask_train.dataset.grouping.exchanged import exchanged_classes
from facemask_train.dataset.grouping.label_agreement import SourceImage

FACE = Box(10, 10, 40, 40)


def image(source: str, number: int, name: str, box: Box = FACE, size: tuple[int, int] = (100, 80)) -> SourceImage:
    record = ImageRecord(source, f"{number}.jpg", f"{source}{number}", *size, (Annotation(name, box),))
    return SourceImage(source, record.path, record.sha256, record)


def shared(count: int, opposite: int, **changes: object) -> tuple[list[SourceImage], list[Pair]]:
    """Return two sources that share images of one face each; the second says the opposite in some."""
    images = [image("one", n, "mask") for n in range(count)]
    images += [image("two", n, "no_mask" if n < opposite else "mask") for n in range(count)]
    pair = {"orientation": 0, "worst": 1.0, "mean": 1.0, "same": True} | changes
    return images, [Pair(n, count + n, **pair) for n in range(count)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("count", "opposite", "told"), [(5, 5, True), (5, 3, True), (6, 3, False), (4, 4, False), (9, 0, False)]
)
def test_more_than_half_of_enough_common_faces(count: int, opposite: int, told: bool) -> None:
    found = exchanged_classes(*shared(count, opposite))
    assert list(found) == (["two"] if told else [])
    if told:
        (sentence,) = found["two"]
        assert sentence.startswith("two: its classes look exchanged, or those of one: in the images that both have")
        assert f"{opposite} of {count} faces" in sentence


def test_near_duplicates_and_copies_in_one_source_say_nothing() -> None:
    assert exchanged_classes(*shared(6, 6, same=False)) == {}
    _, pairs = shared(6, 6)
    images = [image("one", n, "mask" if n < 6 else "no_mask") for n in range(12)]
    assert exchanged_classes(images, pairs) == {}


def test_refused_images_say_nothing() -> None:
    images, pairs = shared(6, 6)
    refused = [SourceImage(one.source, one.path, one.sha256, None, "truncated") for one in images[:6]]
    assert exchanged_classes([*refused, *images[6:]], pairs) == {}


def test_faces_are_found_again_in_a_turned_and_rescaled_copy() -> None:
    """The copy is turned by a quarter clockwise and half as large; orientation 1 turns it back."""
    images, _ = shared(5, 5)
    copies = [image("two", n, "no_mask", Box(20, 5, 35, 20), (40, 50)) for n in range(5)]
    pairs = [Pair(n, 5 + n, 1, 1.0, 1.0, same=True) for n in range(5)]
    assert list(exchanged_classes([*images[:5], *copies], pairs)) == ["two"]
    assert exchanged_classes([*images[:5], *copies], [Pair(n, 5 + n, 0, 1.0, 1.0, same=True) for n in range(5)]) == {}
