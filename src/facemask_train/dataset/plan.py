"""What an ensemble will hold, image by image: decided here, made in `write.py`. Pure.

The plan is the manifest: one output for every image of the ensemble, with the file that it comes from, what is done
to it, and its labels. So the result does not depend on workers, order or machine.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from facemask_train.augment.transforms import seed_of, shape_of
from facemask_train.core.files import digest_data
from facemask_train.core.recipe import Augment
from facemask_train.core.types import Annotation
from facemask_train.dataset.grouping.groups import Kept
from facemask_train.dataset.loading.images import Facts, plain_extension

WRITE_VERSION = 2
"""Raised by hand when the same plan gives other bytes: then no image of an earlier build is taken over."""


@dataclass(frozen=True, slots=True)
class Output:
    """One image of the ensemble: its path in it, what it shows, and how it is made.

    `copy` is empty for the original, or the name of one of the recipe's copies; `key` is equal for equal bytes.
    """

    image: str
    copy: str
    operation: str
    seed: int
    width: int
    height: int
    labels: tuple[Annotation, ...]
    key: str

    @property
    def label_file(self) -> str:
        return str(PurePosixPath(self.image.replace("images/", "labels/", 1)).with_suffix(".txt"))


@dataclass(frozen=True, slots=True)
class Planned:
    """One image of a source, and all that is made of it: the original first, then its copies."""

    kept: Kept
    facts: Facts
    outputs: tuple[Output, ...]


def make_plan(
    kept: Iterable[Kept], facts: Mapping[str, Mapping[str, Facts]], augment: Augment | None
) -> Iterator[Planned]:
    """Give the plan of an ensemble, one source image at a time.

    Args:
        facts: by source and path.
        augment: what is added to the training part, and to no other.
    """
    copies = augment.copies if augment is not None else {}
    settings = {
        name: [step.model_dump(mode="json", exclude_none=True) for step in steps] for name, steps in copies.items()
    }
    for one in kept:
        about = facts[one.record.source][one.record.path]
        outputs = [_original(one, about)]
        if augment is not None and one.split == "train":
            outputs += [_copy(one, about, name, augment, settings[name]) for name in sorted(copies)]
        yield Planned(one, about, tuple(outputs))


def _stem(kept: Kept) -> str:
    record = kept.record
    readable = re.sub(r"[^a-z0-9]+", "-", PurePosixPath(record.path).stem.lower()).strip("-")[:40]
    unique = digest_data([record.source, record.path])[:16]  # by path: equal stems in two folders stay apart
    return f"images/{kept.split}/" + "-".join(filter(None, (record.source, readable, unique)))


def original_image(kept: Kept, facts: Facts) -> str:
    """Return the path in the ensemble of an image itself, its augmented copies aside."""
    return _stem(kept) + plain_extension(facts)


def _original(kept: Kept, facts: Facts) -> Output:
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


def _copy(kept: Kept, facts: Facts, name: str, augment: Augment, settings: object) -> Output:
    record, steps = kept.record, augment.copies[name]
    seed = seed_of(augment.seed, name, steps, record.sha256)
    shape = shape_of(steps, record.labels, seed)
    labels = shape.labels(record.labels, record.width, record.height)
    made_of = [WRITE_VERSION, record.sha256, facts.repairs, seed, settings, augment.quality]
    seen = [(label.name, label.box.corners) for label in record.labels]  # what a face-aware step draws depends on them
    operation = " ".join([name, *([f"turn={shape.turn}"] if shape.turn else [])])
    width, height = shape.size(record.width, record.height)
    key = digest_data([*made_of, seen])
    return Output(f"{_stem(kept)}-{name}.jpg", name, operation, seed, width, height, labels, key)
