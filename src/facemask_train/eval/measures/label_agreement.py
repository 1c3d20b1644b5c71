"""Label agreement: how well two sets of labels agree where an image was labeled twice.

The labels of the duplicate are scored as if they were detections and the labels of the kept image the truth. The
sources share an origin, so this measures how exactly labels were copied, not how well two annotators would agree.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from facemask_train.dataset.contents import GroupMember
from facemask_train.eval.measures.average_precision import match_detections
from facemask_train.eval.measures.boxes_table import Boxes, BoxesTable, boxes_from_rows, overlaps


@dataclass(frozen=True, slots=True)
class LabelAgreement:
    """The agreement of duplicates with the images that were kept.

    Attributes:
        pairs: how many pairs of images were compared.
        kept_boxes, duplicate_boxes: the boxes of either side.
        matched: boxes that match at IoU 0.5, regardless of class.
        same_class: those that match with the same class.
        iou: the mean IoU of the matched boxes.
    """

    pairs: int
    kept_boxes: int
    duplicate_boxes: int
    matched: int
    same_class: int
    iou: float | None

    @property
    def precision(self) -> float | None:
        """The share of the duplicates' boxes that the kept image has too, with the same class."""
        return self.same_class / self.duplicate_boxes if self.duplicate_boxes else None

    @property
    def recall(self) -> float | None:
        """The share of the kept boxes that the duplicate has too, with the same class."""
        return self.same_class / self.kept_boxes if self.kept_boxes else None


def label_agreement(members: Sequence[GroupMember]) -> LabelAgreement | None:
    """Compare the labels of each merged duplicate with those of the image that was kept; None without a pair."""
    kept = {one.group: one for one in members if one.role == "kept"}
    pairs = [(kept[one.group], one) for one in members if one.role == "merged" and one.group in kept]
    if not pairs:
        return None
    table = BoxesTable(len(pairs), _boxes([one for one, _ in pairs]), _boxes([other for _, other in pairs]))
    near = overlaps(table, 0.5)
    same_class = int((match_detections(table, near, (0.5,)) >= 0).sum())
    # Matched once more as if there were one class.
    classless = BoxesTable(table.image_count, _without_class(table.labels), _without_class(table.detections))
    matches = match_detections(classless, near, (0.5,))[0]
    iou = dict(zip(zip(near.detection.tolist(), near.label.tolist(), strict=True), near.iou.tolist(), strict=True))
    matched = [iou[index, int(label)] for index, label in enumerate(matches) if label >= 0]
    mean = sum(matched) / len(matched) if matched else None
    return LabelAgreement(len(pairs), len(table.labels), len(table.detections), len(matched), same_class, mean)


def _boxes(members: Sequence[GroupMember]) -> Boxes:
    return boxes_from_rows(
        [
            (index, label.class_id, label.box.corners, 1.0)
            for index, member in enumerate(members)
            for label in member.labels
        ]
    )


def _without_class(boxes: Boxes) -> Boxes:
    import numpy as np

    return Boxes(boxes.image, np.zeros_like(boxes.class_id), boxes.corners, boxes.confidence)
