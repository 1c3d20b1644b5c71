"""Where one image was labelled twice (in two sources, or two files): how far the two label sets agree.

Scored as if the copy's labels were a detector and the kept ones the truth. The sources share an origin, so this is the
agreement of copies: it says how exactly labels were copied, and nothing of how well two people would agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facemask_train.core.types import CLASSES
from facemask_train.eval.measures.average_precision import match
from facemask_train.eval.measures.boxes_table import Faces, Flat, faces, overlaps

FILE = "groups.parquet"


@dataclass(frozen=True, slots=True)
class Agreement:
    """How copies agree: pairs of images, boxes on either side, and of these the ones that match at IoU 0.5.

    `matched` whatever the class, `same` with the same class; `iou` is the mean overlap of the matched ones.
    """

    pairs: int
    kept: int
    copied: int
    matched: int
    same: int
    iou: float | None

    @property
    def precision(self) -> float | None:
        """The share of the copies' boxes that the kept image has too, with the same class."""
        return self.same / self.copied if self.copied else None

    @property
    def recall(self) -> float | None:
        """The share of the kept boxes that the copy has too, with the same class."""
        return self.same / self.kept if self.kept else None


def read_groups(folder: Path) -> list[dict[str, Any]]:
    """Return the rows of an ensemble's groups of copies; an ensemble made before there were groups has none."""
    import pyarrow.parquet as pq

    path = folder / FILE
    rows: list[dict[str, Any]] = pq.read_table(path).to_pylist() if path.is_file() else []
    return rows


def agreement(rows: Sequence[Mapping[str, Any]]) -> Agreement | None:
    """Compare the labels of each merged copy with those of the image that was kept; None without a pair.

    Args:
        rows: of `groups.parquet`: `group`, `role` (`kept`, `merged` or `refused`) and `labels` in the kept image's
            pixels.
    """
    kept = {row["group"]: row for row in rows if row["role"] == "kept"}
    pairs = [(kept[row["group"]], row) for row in rows if row["role"] == "merged" and row["group"] in kept]
    if not pairs:
        return None
    flat = Flat(len(pairs), _faces([one for one, _ in pairs]), _faces([other for _, other in pairs]))
    near = overlaps(flat, 0.5)
    right = int((match(flat, near, (0.5,)) >= 0).sum())
    # The classes aside: as one class, matched again.
    blind = Flat(flat.images, _blind(flat.labels), _blind(flat.found))
    answers = match(blind, near, (0.5,))[0]
    answered = dict(zip(zip(near.found.tolist(), near.label.tolist(), strict=True), near.iou.tolist(), strict=True))
    shared = [answered[i, int(label)] for i, label in enumerate(answers) if label >= 0]
    mean = sum(shared) / len(shared) if shared else None
    return Agreement(len(pairs), len(flat.labels), len(flat.found), len(shared), right, mean)


def _faces(rows: Sequence[Mapping[str, Any]]) -> Faces:
    corners = ("x_min", "y_min", "x_max", "y_max")
    return faces(
        [
            (index, CLASSES.index(label["name"]), tuple(float(label[key]) for key in corners), 1.0)  # type: ignore[misc]
            for index, row in enumerate(rows)
            for label in row["labels"] or ()
        ]
    )


def _blind(one: Faces) -> Faces:
    import numpy as np

    return Faces(one.image, np.zeros_like(one.name), one.box, one.confidence)
