"""Summarizes what an ensemble contains: the figures of `fmask inspect`. Pure: from table rows to counts.

Faces are counted in all images, as a model sees them in training. Sizes and faces per image are counted in originals
only, since an augmented copy repeats them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from facemask_train.core.types import SPLITS, Annotation
from facemask_train.dataset.card import (
    Agreement,
    FaceCounts,
    GroupCounts,
    IssueCount,
    ItemCounts,
    SplitCounts,
)
from facemask_train.dataset.contents import EnsembleContents, EnsembleImage
from facemask_train.dataset.loading.validate import Issue

SIZE_EDGES = (0, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
"""Where each bin of the shorter side of a box begins, in pixels; the last has no end."""

QUANTILES = {"min": 0, "p5": 5, "p25": 25, "median": 50, "p75": 75, "p95": 95, "max": 100}


@dataclass(frozen=True, slots=True)
class SizeQuantiles:
    """Quantiles of the shorter side of `n` boxes, in pixels; None if there are no boxes."""

    n: int
    min: float | None
    p5: float | None
    p25: float | None
    median: float | None
    p75: float | None
    p95: float | None
    max: float | None

    @property
    def values(self) -> tuple[float | None, ...]:
        """The quantiles in the order of `QUANTILES`."""
        return self.min, self.p5, self.p25, self.median, self.p75, self.p95, self.max


@dataclass(frozen=True, slots=True)
class SizeHistogram:
    """How many faces have a shorter side from each edge up to the next, by class."""

    edges: tuple[int, ...]
    faces: Mapping[str, tuple[int, ...]]


@dataclass(frozen=True, slots=True)
class ImageCounts:
    """Images and the faces in them."""

    images: int
    faces: int


@dataclass(frozen=True, slots=True)
class EnsembleSummary:
    """The figures of an ensemble, for its page, the terminal and JSON.

    Attributes:
        images: outcomes of all published images.
        split_images: images by split, augmented copies included; `originals` without them.
        copies: augmented copies by name.
        faces: in all images; `faces_of_originals` without augmented copies.
        sizes, size_histogram: of the shorter side of the boxes in originals.
        faces_per_image: the number of originals by how many faces they have.
        sources: originals and their faces, by source and split.
        issues: everything that was repaired, merged or refused, by cause.
    """

    name: str
    hash: str
    classes: tuple[str, ...]
    images: ItemCounts
    split_images: SplitCounts
    originals: SplitCounts
    copies: Mapping[str, int]
    faces: FaceCounts
    faces_of_originals: FaceCounts
    sizes: Mapping[str, SizeQuantiles]
    size_histogram: SizeHistogram
    faces_per_image: Mapping[int, int]
    sources: Mapping[str, Mapping[str, ImageCounts]]
    groups: GroupCounts
    leaks: int
    overlap: Mapping[str, Mapping[str, int]]
    agreement: tuple[Agreement, ...]
    face_edits: Mapping[str, Mapping[str, int]]
    issues: tuple[IssueCount, ...]
    notes: tuple[str, ...]

    def faces_of(self, name: str) -> int:
        """Return the number of faces of a class in all splits."""
        return sum(by_class[name] for by_class in self.faces.values())


def summarize(contents: EnsembleContents) -> EnsembleSummary:
    """Count what an ensemble contains."""
    originals, card = list(contents.originals.values()), contents.card
    return EnsembleSummary(
        name=contents.name,
        hash=card.hash,
        classes=card.classes,
        images=card.images,
        split_images=_by_split(contents.images),
        originals=_by_split(originals),
        copies=dict(sorted(Counter(one.copy for one in contents.images if one.copy).items())),
        faces=_faces(contents.images, card.classes),
        faces_of_originals=_faces(originals, card.classes),
        sizes={name: _quantiles(_sides(originals, name)) for name in card.classes},
        size_histogram=SizeHistogram(SIZE_EDGES, {name: _binned(_sides(originals, name)) for name in card.classes}),
        faces_per_image=dict(sorted(Counter(len(one.labels) for one in originals).items())),
        sources=_by_source(originals, card.sources),
        groups=card.groups,
        leaks=card.leaks,
        overlap=card.overlap,
        agreement=card.agreement,
        face_edits=_face_edits(contents.images),
        issues=_issues(contents.issues),
        notes=card.notes,
    )


def _by_split(images: Iterable[EnsembleImage]) -> SplitCounts:
    return SplitCounts(**Counter(one.split for one in images))


def _faces(images: Iterable[EnsembleImage], classes: Sequence[str]) -> FaceCounts:
    found = Counter((one.split, label.name) for one in images for label in one.labels)
    return {split: {name: found[split, name] for name in classes} for split in SPLITS}


def shorter_side(label: Annotation) -> float:
    """Return the shorter side of a face's box, in pixels: what decides if it can be seen."""
    return min(label.box.width, label.box.height)


def _sides(images: Iterable[EnsembleImage], name: str) -> list[float]:
    return [shorter_side(label) for one in images for label in one.labels if label.name == name]


def _quantiles(sides: Sequence[float]) -> SizeQuantiles:
    import numpy as np

    found = np.percentile(sides, list(QUANTILES.values())).tolist() if sides else [None] * len(QUANTILES)
    return SizeQuantiles(len(sides), *(None if value is None else round(value, 1) for value in found))


def _binned(sides: Sequence[float]) -> tuple[int, ...]:
    found = Counter(sum(edge <= side for edge in SIZE_EDGES) - 1 for side in sides)
    return tuple(found[index] for index in range(len(SIZE_EDGES)))


def _by_source(images: Iterable[EnsembleImage], sources: Iterable[str]) -> dict[str, dict[str, ImageCounts]]:
    """Return the originals and their faces, by source and split."""
    found: Counter[tuple[str, str]] = Counter()
    faces: Counter[tuple[str, str]] = Counter()
    for one in images:
        found[one.source, one.split] += 1
        faces[one.source, one.split] += len(one.labels)
    return {
        source: {split: ImageCounts(found[source, split], faces[source, split]) for split in SPLITS}
        for source in sources
    }


def _face_edits(images: Iterable[EnsembleImage]) -> dict[str, dict[str, int]]:
    """Count the face-aware edits by kind and outcome (`3 beard done` in the manifest)."""
    found: Counter[tuple[str, str]] = Counter()
    for one in images:
        for edit in one.edits:
            _, kind, outcome = edit.split(" ")
            found[kind, outcome] += 1
    kinds: dict[str, dict[str, int]] = {}
    for (kind, outcome), count in sorted(found.items()):
        kinds.setdefault(kind, {})[outcome] = count
    return kinds


def _issues(issues: Iterable[Issue]) -> tuple[IssueCount, ...]:
    found = Counter((one.item, one.action, one.cause) for one in issues)
    return tuple(IssueCount(*key, found[key]) for key in sorted(found))


def share(counts: Mapping[str, int], name: str) -> str:
    """Return a class's share of the faces, for people."""
    total = sum(counts.values())
    return f"{100 * counts[name] / total:.0f} %" if total else "-"
