"""Plans zoomed copies of training images until no class is rare at any relative size. Pure.

A detector that saw large faces almost only with masks takes size for the answer: it calls every bare close-up masked.
Zoomed copies are crops around faces of the class that is rare at a size. Which faces, and where the crop lies, follows
from the seed and the images' contents alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random

from facemask_train.augment.zoom import Crop, crop_around
from facemask_train.core.boxes import RELATIVE_SIZES, SIZE_NAMES, size_index
from facemask_train.core.files import digest_data
from facemask_train.core.recipe import Augment, Balance
from facemask_train.core.types import CLASSES, Annotation, ImageRecord
from facemask_train.dataset.grouping.groups import Kept

LARGEST = 0.8
"""The largest relative size that a zoomed face gets."""

Zooms = Mapping[tuple[str, str], Sequence[Crop]]
"""The crops of each training image, by source and path."""


@dataclass(frozen=True, slots=True)
class Balanced:
    """Zoomed copies, and the faces drawn at each size without and with them, all copies counted: by (class, size)."""

    zooms: Zooms
    before: Mapping[tuple[str, str], int]
    after: Mapping[tuple[str, str], int]

    @property
    def copies(self) -> int:
        return sum(map(len, self.zooms.values()))


def plan_zooms(kept: Iterable[Kept], augment: Augment | None) -> Balanced:
    """Return the zoomed copies of a recipe's training images; none if the recipe does not ask for them."""
    records = [one.record for one in kept if one.split == "train"]
    drawn = _Drawn.of(records, 1 + len(augment.copies) if augment is not None else 1)
    before = dict(drawn.faces)
    if augment is not None and augment.balance is not None:
        faces = sorted(_faces(records, augment.balance, augment.seed))
        for size in reversed(range(len(SIZE_NAMES))):  # a crop makes faces larger, so the largest size goes first
            _fill(drawn, faces, size, augment.balance)
    named = ({(name, SIZE_NAMES[size]): count for (name, size), count in one.items()} for one in (before, drawn.faces))
    return Balanced(dict(drawn.zooms), *named)


@dataclass(frozen=True, slots=True, order=True)
class _Face:
    """A face that may be zoomed. Faces are sorted by `order`, which is a digest."""

    order: str
    index: int = field(compare=False)
    record: ImageRecord = field(compare=False)

    @property
    def label(self) -> Annotation:
        return self.record.labels[self.index]

    @property
    def size(self) -> int:
        return size_index(self.label, self.record.width, self.record.height)


def _faces(records: Iterable[ImageRecord], balance: Balance, seed: int) -> Iterator[_Face]:
    for record in records:
        for index, label in enumerate(record.labels):
            if min(label.box.width, label.box.height) >= balance.min_side:
                yield _Face(digest_data(["zoom", seed, record.sha256, index]), index, record)


@dataclass(slots=True)
class _Drawn:
    """The faces drawn so far, by class and index of the size, the crops, and the copies of each face."""

    faces: Counter[tuple[str, int]]
    zooms: dict[tuple[str, str], list[Crop]]
    copies: Counter[str]

    @classmethod
    def of(cls, records: Iterable[ImageRecord], times: int) -> _Drawn:
        """Return the faces of images that are all drawn so many times."""
        faces: Counter[tuple[str, int]] = Counter()
        for record in records:
            for label in record.labels:
                faces[label.name, size_index(label, record.width, record.height)] += times
        return cls(faces, defaultdict(list), Counter())

    def rarest(self, size: int, balance: Balance) -> str | None:
        """Return the class that has less than its share at a size; None if there is none, or too few faces."""
        counts = {name: self.faces[name, size] for name in CLASSES}
        rare, total = min(counts, key=lambda name: counts[name]), sum(counts.values())
        return rare if total >= balance.min_faces and counts[rare] < balance.share * total else None

    def add(self, face: _Face, crop: Crop) -> None:
        for label in crop.labels(face.record.labels):
            self.faces[label.name, size_index(label, crop.width, crop.height)] += 1
        self.zooms[face.record.source, face.record.path].append(crop)
        self.copies[face.order] += 1


def _fill(drawn: _Drawn, faces: Sequence[_Face], size: int, balance: Balance) -> None:
    """Add crops at one size, round after round through the faces, until no class is rare or no face is left."""
    for _ in range(balance.max_copies):
        for face in faces:
            rare = drawn.rarest(size, balance)
            if rare is None:
                return
            if face.label.name == rare and face.size <= size and drawn.copies[face.order] < balance.max_copies:
                crop = _crop(face, size, drawn.copies[face.order])
                if crop is not None:
                    drawn.add(face, crop)


def _crop(face: _Face, size: int, number: int) -> Crop | None:
    """Return the crop of a face at a size; None if there is none, or rounding has moved it to another size."""
    rng, record = Random(digest_data([face.order, size, number])), face.record
    low, high = RELATIVE_SIZES[size], min(RELATIVE_SIZES[size + 1], LARGEST)
    crop = crop_around(
        record.labels, face.index, record.width, record.height, size=rng.uniform(max(low, 0.02), high), rng=rng
    )
    return crop if crop is not None and size_index(face.label, crop.width, crop.height) == size else None


def balance_notes(balanced: Balanced, balance: Balance) -> list[str]:
    """Return what a person should know: how many copies were added, and the sizes at which a class stays rare."""
    notes = [f"Zoomed copies that balance the classes by relative size: {balanced.copies:,}."]
    for size in SIZE_NAMES:
        counts = {name: balanced.after.get((name, size), 0) for name in CLASSES}
        rare, total = min(counts, key=lambda name: counts[name]), sum(counts.values())
        if total >= balance.min_faces and counts[rare] < balance.share * total:
            notes.append(
                f"At {size} of the image's longer side, {rare} stays at {100 * counts[rare] / total:.1f} % of the faces"
                f" drawn ({100 * balance.share:g} % wanted): there are too few faces that can be zoomed to this size."
            )
    return notes
