"""Ensemble cards for tests that draw an ensemble themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from facemask_train.core.files import digest_data
from facemask_train.core.types import CLASSES, SPLITS
from facemask_train.dataset.card import BuildInputs, EnsembleCard, FixCounts, GroupCounts, ItemCounts, SplitCounts


def card_for(name: str, rows: Sequence[Mapping[str, Any]]) -> EnsembleCard:
    """Return the card that fits the rows of a manifest: of originals that are no duplicates."""

    def count(split: str, face: str) -> int:
        return sum(label["name"] == face for row in rows if row["split"] == split for label in row["labels"])

    splits = SplitCounts(*(sum(row["split"] == split for row in rows) for split in SPLITS))
    faces = {split: {face: count(split, face) for face in CLASSES} for split in SPLITS}
    boxes = sum(sum(by_class.values()) for by_class in faces.values())
    return EnsembleCard(
        name=name,
        hash=digest_data(rows),
        images_digest="",
        manifest_digest="",
        packages={},
        description="",
        classes=CLASSES,
        split_by="group",
        images=ItemCounts(len(rows), len(rows)),
        boxes=ItemCounts(boxes, boxes),
        outputs=len(rows),
        splits=splits,
        originals=splits,
        faces=faces,
        groups=GroupCounts(),
        leaks=0,
        links=None,
        check=None,
        overlap={},
        agreement=(),
        face_edits={},
        fixes=FixCounts(),
        notes=(),
        sources={},
        issues=(),
        inputs=BuildInputs((), {}, {}),
    )


def change_card(folder: Path, **changes: Any) -> EnsembleCard:
    """Change fields of a finished ensemble's card, and return it."""
    card = replace(EnsembleCard.load(folder), **changes)
    card.save(folder)
    return card
