"""Finds sources whose classes look exchanged: copies of their images in another source say the opposite. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from facemask_train.core.boxes import laid_over, mapped, match
from facemask_train.dataset.grouping.duplicates import Pair
from facemask_train.dataset.grouping.label_agreement import SourceImage

MIN_FACES = 5
"""Faces that two sources must share before their classes can look exchanged."""


def exchanged_classes(images: Sequence[SourceImage], pairs: Iterable[Pair]) -> dict[str, list[str]]:
    """Return sentences on the sources whose copies say the opposite for more than half of their common faces.

    Args:
        images: those that `pairs` refers to.

    Returns:
        Sentences by the source that comes later in the recipe.
    """
    same: Counter[tuple[str, str]] = Counter()
    opposite: Counter[tuple[str, str]] = Counter()
    for pair in pairs:
        one, other = images[pair.first], images[pair.second]
        if pair.same and one.source != other.source:
            for first, second in _common_faces(one, other, pair):
                counts = same if first == second else opposite
                counts[one.source, other.source] += 1
    found: dict[str, list[str]] = {}
    for (one_source, other_source), count in opposite.items():
        total = count + same[one_source, other_source]
        if total >= MIN_FACES and 2 * count > total:
            found.setdefault(other_source, []).append(
                f"{other_source}: its classes look exchanged, or those of {one_source}: in the images that both have,"
                f" they say the opposite for {count} of {total} faces."
            )
    return found


def _common_faces(one: SourceImage, other: SourceImage, pair: Pair) -> list[tuple[str, str]]:
    """Return the class that each of two copies gives a face that both have labeled."""
    if one.record is None or other.record is None:
        return []
    sizes = (other.record.width, other.record.height), (one.record.width, one.record.height)
    if pair.transform:
        laid = mapped(other.record.labels, *sizes, pair.transform)
    else:
        laid = laid_over(other.record.labels, *sizes, (pair.orientation,))
    return [(one.record.labels[i].name, laid[j].name) for i, j, _ in match(one.record.labels, laid)]
