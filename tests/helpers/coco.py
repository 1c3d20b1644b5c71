"""pycocotools on this project's arrays: the reference for average precision."""

from __future__ import annotations

import contextlib
import io
from typing import Any

from facemask_train.eval.measures.boxes_table import BoxesTable


def evaluator(one: BoxesTable, module: Any = None) -> Any:
    """Return a COCOeval that has read these labels and detections; `module` can be another with the same classes."""
    if module is None:
        from pycocotools import coco, cocoeval

        make, evaluate = coco.COCO, cocoeval.COCOeval
    else:
        make, evaluate = module
    categories = [{"id": 0, "name": "mask"}, {"id": 1, "name": "no_mask"}]
    images = [{"id": index + 1, "width": 1000, "height": 1000} for index in range(one.image_count)]
    labels = [{"id": index + 1, "iscrowd": 0, **row} for index, row in enumerate(_rows(one.labels))]
    found = [
        {"id": index + 1, "score": sure, "iscrowd": 0, **row}
        for index, (row, sure) in enumerate(zip(_rows(one.detections), one.detections.confidence.tolist(), strict=True))
    ]
    truth, answers = make(), make()
    for side, rows in ((truth, labels), (answers, found)):
        side.dataset = {"images": images, "annotations": rows, "categories": categories, "info": {}}
        with contextlib.redirect_stdout(io.StringIO()):
            side.createIndex()
    evaluation = evaluate(truth, answers, "bbox")
    evaluation.params.maxDets = [1, 10, 300]
    return evaluation


def areas(one: BoxesTable) -> list[list[float] | None]:
    """Return each class's average precision at the ten overlaps, None where it has no label."""
    evaluation = evaluator(one)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]  # overlaps, recalls, classes
    return [
        None if (precision[:, :, name] < 0).all() else precision[:, :, name].mean(axis=1).tolist() for name in (0, 1)
    ]


def _rows(side: Any) -> list[dict[str, Any]]:
    return [
        {
            "image_id": image + 1,
            "category_id": name,
            "bbox": [box[0], box[1], box[2] - box[0], box[3] - box[1]],
            "area": (box[2] - box[0]) * (box[3] - box[1]),
        }
        for image, name, box in zip(side.image.tolist(), side.class_id.tolist(), side.corners.tolist(), strict=True)
    ]
