"""What an ensemble holds, in numbers. Pure: from its rows to counts.

Faces are counted in all images, as a model meets them; their sizes, and how many an image has, in originals alone,
since a copy repeats them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from facemask_train.core.types import CLASSES, SPLITS, Annotation
from facemask_train.dataset.contents import Held, Holdings
from facemask_train.dataset.loading.validate import Problem

SIZE_EDGES = (0, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384)
"""Where each bin of the shorter side of a box begins, in pixels; the last has no end."""

QUANTILES = {"min": 0, "p5": 5, "p25": 25, "median": 50, "p75": 75, "p95": 95, "max": 100}


def counts_of(held: Holdings) -> dict[str, Any]:
    """Return all that a page and a terminal tell of an ensemble, in plain values for JSON."""
    originals = list(held.originals.values())
    card = held.card
    return {
        "version": held.name,
        "hash": card["hash"],
        "images": dict(card["images"]),
        "split_images": _by_split(held.images),
        "originals": _by_split(originals),
        "copies": dict(sorted(Counter(one.copy for one in held.images if one.copy).items())),
        "faces": _faces(held.images),
        "faces_of_originals": _faces(originals),
        "sizes": {name: _quantiles(_sides(originals, name)) for name in CLASSES},
        "size_bins": {"edges": list(SIZE_EDGES), **{name: _binned(_sides(originals, name)) for name in CLASSES}},
        "faces_per_image": _per_image(originals),
        "sources": _by_source(originals, card["sources"]),
        "groups": dict(card["groups"]),
        "leaks": card["leaks"],
        "overlap": card["overlap"],
        "agreement": card["agreement"],
        "face_edits": _edits(held.images),
        "problems": _causes(held.problems),
        "notes": list(card["notes"]),
    }


def _by_split(images: Iterable[Held]) -> dict[str, int]:
    found = Counter(one.split for one in images)
    return {split: found[split] for split in SPLITS}


def _faces(images: Iterable[Held]) -> dict[str, dict[str, int]]:
    found = Counter((one.split, label.name) for one in images for label in one.labels)
    return {split: {name: found[split, name] for name in CLASSES} for split in SPLITS}


def shorter_side(label: Annotation) -> float:
    """Return the shorter side of a face's box, in pixels: what decides if it can be seen."""
    return min(label.box.width, label.box.height)


def _sides(images: Iterable[Held], name: str) -> list[float]:
    return [shorter_side(label) for one in images for label in one.labels if label.name == name]


def _quantiles(sides: Sequence[float]) -> dict[str, float | int | None]:
    import numpy as np

    found = np.percentile(sides, list(QUANTILES.values())).tolist() if sides else [None] * len(QUANTILES)
    rounded = [None if value is None else round(value, 1) for value in found]
    return {"n": len(sides), **dict(zip(QUANTILES, rounded, strict=True))}


def _binned(sides: Sequence[float]) -> list[int]:
    found = Counter(sum(edge <= side for edge in SIZE_EDGES) - 1 for side in sides)
    return [found[place] for place in range(len(SIZE_EDGES))]


def _per_image(images: Iterable[Held]) -> dict[str, int]:
    found = Counter(len(one.labels) for one in images)
    return {str(faces): found[faces] for faces in sorted(found)}


def _by_source(images: Iterable[Held], sources: Iterable[str]) -> dict[str, dict[str, dict[str, int]]]:
    """Return the originals and their faces, by source and split."""
    found: Counter[tuple[str, str]] = Counter()
    faces: Counter[tuple[str, str]] = Counter()
    for one in images:
        found[one.source, one.split] += 1
        faces[one.source, one.split] += len(one.labels)
    return {
        source: {split: {"images": found[source, split], "faces": faces[source, split]} for split in SPLITS}
        for source in sources
    }


def _edits(images: Iterable[Held]) -> dict[str, dict[str, int]]:
    """Return what became of the faces of face-aware copies, by kind and outcome (`3 beard done` in the manifest)."""
    found: Counter[tuple[str, str]] = Counter()
    for one in images:
        for edit in one.edits:
            _, kind, outcome = edit.split(" ")
            found[kind, outcome] += 1
    kinds: dict[str, dict[str, int]] = {}
    for (kind, outcome), count in sorted(found.items()):
        kinds.setdefault(kind, {})[outcome] = count
    return kinds


def _causes(problems: Iterable[Problem]) -> list[dict[str, Any]]:
    found = Counter((one.item, one.action, one.cause) for one in problems)
    return [
        {"item": item, "action": action, "cause": cause, "count": count}
        for (item, action, cause), count in sorted(found.items())
    ]


def share(counts: Mapping[str, int], name: str) -> str:
    """Return a class's share of the faces, for people."""
    total = sum(counts.values())
    return f"{100 * counts[name] / total:.0f} %" if total else "-"
