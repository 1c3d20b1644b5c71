"""Plans every image of an ensemble; `write.py` then writes them. Pure.

The plan becomes the manifest: one output for each image of the ensemble, with its source file, the operation on it,
and its labels. So the result does not depend on the number of workers, their order, or the machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from facemask_train.augment.transforms import seed_of, shape_of
from facemask_train.augment.zoom import Crop
from facemask_train.core.files import digest_data
from facemask_train.core.recipe import ZOOMED, Augment
from facemask_train.core.types import Annotation
from facemask_train.dataset.balance import Zooms
from facemask_train.dataset.grouping.groups import Kept
from facemask_train.dataset.loading.images import ImageFacts, plain_extension

WRITE_VERSION = 2
"""Raised by hand when the same plan gives other bytes, so that no image of an earlier build is reused."""


@dataclass(frozen=True, slots=True)
class Output:
    """One planned image of the ensemble.

    Attributes:
        image: its path in the ensemble.
        copy: the name of the augmented copy; empty for the original.
        key: equal keys mean equal bytes.
        crop: the part of the original that a zoomed copy shows.
    """

    image: str
    copy: str
    operation: str
    seed: int
    width: int
    height: int
    labels: tuple[Annotation, ...]
    key: str
    crop: Crop | None = None

    @property
    def label_file(self) -> str:
        return str(PurePosixPath(self.image.replace("images/", "labels/", 1)).with_suffix(".txt"))


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One image of a source and all its outputs: the original first, then its augmented copies."""

    kept: Kept
    facts: ImageFacts
    outputs: tuple[Output, ...]


def make_plan(
    kept: Iterable[Kept], facts: Mapping[str, Mapping[str, ImageFacts]], augment: Augment | None, zooms: Zooms
) -> Iterator[PlannedImage]:
    """Yield the plan of an ensemble, one source image at a time.

    Args:
        facts: by source and path.
        augment: the augmented copies of training images; other splits are never augmented.
        zooms: the crops that become zoomed copies.
    """
    copies = augment.copies if augment is not None else {}
    settings = {
        name: [step.model_dump(mode="json", exclude_none=True) for step in steps] for name, steps in copies.items()
    }
    for one in kept:
        image_facts = facts[one.record.source][one.record.path]
        outputs = [_original(one, image_facts)]
        if augment is not None and one.split == "train":
            outputs += [_copy(one, image_facts, name, augment, settings[name]) for name in sorted(copies)]
            crops = zooms.get((one.record.source, one.record.path), ())
            outputs += [_zoomed(one, image_facts, number, crop, augment) for number, crop in enumerate(crops, 1)]
        yield PlannedImage(one, image_facts, tuple(outputs))


def _stem(kept: Kept) -> str:
    record = kept.record
    readable = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(record.path).stem.lower()).strip("-")[:40]
    unique = digest_data([record.source, record.path])[
        :16
    ]  # of the whole path, so equal names in two folders get different stems
    return f"images/{kept.split}/" + "-".join(filter(None, (record.source, readable, unique)))


def original_image(kept: Kept, facts: ImageFacts) -> str:
    """Return the path in the ensemble of the original of an image."""
    return _stem(kept) + plain_extension(facts)


def _original(kept: Kept, facts: ImageFacts) -> Output:
    record, operation = kept.record, "+".join(facts.repairs) or "copy"
    return Output(
        original_image(kept, facts),
        "",
        operation,
        0,
        record.width,
        record.height,
        record.labels,
        digest_data([WRITE_VERSION, record.sha256, operation]),
    )


def _copy(kept: Kept, facts: ImageFacts, name: str, augment: Augment, settings: object) -> Output:
    record, steps = kept.record, augment.copies[name]
    seed = seed_of(augment.seed, name, steps, record.sha256)
    shape = shape_of(steps, record.labels, seed)
    labels = shape.labels(record.labels, record.width, record.height)
    inputs = [WRITE_VERSION, record.sha256, facts.repairs, seed, settings, augment.quality]
    faces = [(label.name, label.box.corners) for label in record.labels]  # face-aware steps depend on them
    operation = " ".join([name, *([f"turn={shape.turn}"] if shape.turn else [])])
    width, height = shape.size(record.width, record.height)
    key = digest_data([*inputs, faces])
    return Output(f"{_stem(kept)}-{name}.jpg", name, operation, seed, width, height, labels, key)


def _zoomed(kept: Kept, facts: ImageFacts, number: int, crop: Crop, augment: Augment) -> Output:
    record, part = kept.record, [crop.x_min, crop.y_min, crop.x_max, crop.y_max]
    return Output(
        f"{_stem(kept)}-{ZOOMED}-{number}.jpg",
        ZOOMED,
        f"{ZOOMED} {','.join(map(str, part))}",
        0,
        crop.width,
        crop.height,
        crop.labels(record.labels),
        digest_data([WRITE_VERSION, record.sha256, facts.repairs, ZOOMED, part, augment.quality]),
        crop,
    )
