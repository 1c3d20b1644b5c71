"""Score a checkpoint with the package's own validator: every detection, metrics and curves. Does not import `train`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import yaml

from facemask_train.core.config import read_yaml
from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.types import (
    CLASSES,
    Annotation,
    Box,
    Corners,
    Detection,
    ImageResult,
    Progress,
    by_confidence,
    no_progress,
)
from facemask_train.model.checkpoint_checks import find_defect, named_by_id
from facemask_train.model.legacy_checkpoint import is_legacy
from facemask_train.model.ultralytics_compat import device_name, open_ultralytics, use_all_cores

if TYPE_CHECKING:
    import numpy as np

CONFIDENCE = 0.001
IOU = 0.7
MAX_DETECTIONS = 300
"""The defaults of the `ultralytics` validator: lowest confidence, NMS IoU, detections per image."""


class Predictor(Protocol):
    """A loaded model on any runtime: images (h, w, 3; uint8 RGB) in, the detections of each image out."""

    @property
    def imgsz(self) -> int: ...

    def predict(self, images: Iterable[Any], *, confidence: float = ...) -> Iterator[tuple[Detection, ...]]: ...


@dataclass(frozen=True, slots=True)
class Score:
    """The validator's metrics, 0 to 1. `n` counts labeled faces, `images` the images that have at least one.

    Without a labeled face there is nothing to measure, and the metrics are None.
    """

    precision: float | None
    recall: float | None
    map50: float | None
    map50_95: float | None
    n: int
    images: int


@dataclass(frozen=True, eq=False, slots=True)
class Curves:
    """The validator's curves at IoU 0.5. Each row of a (k, 1000) array belongs to one of the k labeled `names`.

    `axis` (1000,) runs from 0 to 1: recall for `precision_at_recall`, confidence for the others.
    """

    names: tuple[str, ...]
    axis: np.ndarray
    precision_at_recall: np.ndarray
    precision: np.ndarray
    recall: np.ndarray
    f1: np.ndarray


@dataclass(frozen=True, eq=False, slots=True)
class Validation:
    """The results of one pass over a split.

    Precision and recall are given at `confidence`, which has the best mean F1. The means over classes (`mean`) leave
    out classes without a labeled face. `images` are sorted by `image`.
    """

    model: str
    mean: Score
    per_class: Mapping[str, Score]
    confidence: float
    curves: Curves
    images: tuple[ImageResult, ...]


def load_model(weights: Path) -> tuple[Any, dict[str, Any]]:
    """Load a detector from an `ultralytics` checkpoint, as weights only, so that it cannot run code.

    Returns:
        The model (float32, on the CPU) and the checkpoint's own dictionary (`train_args` and others).

    Raises:
        MissingError: there is no such file.
        DataError: the file is not a complete checkpoint of an `ultralytics` detector, or its weights are not finite,
            or the model does not run on an image.
    """
    if not weights.is_file():
        raise MissingError(f"{weights}: no such checkpoint", next_step="check the path; `fmask train` makes one")
    if weights.suffix != ".pt":
        raise _invalid_checkpoint(weights, f"the file name ends in '{weights.suffix}'")
    open_ultralytics()
    from ultralytics.nn.tasks import load_checkpoint

    try:
        model, checkpoint = load_checkpoint(str(weights))
    except Exception as error:  # unpickling arbitrary bytes can raise any exception
        if is_legacy(weights):
            raise DataError(
                f"{weights}: comes from the original YOLOv5 repository, whose detection head does not fit this package",
                next_step=f"fine-tune it first, with a new head: fmask train --weights {weights}",
            ) from error
        raise _invalid_checkpoint(weights, _diagnose(error)) from error
    if getattr(model, "task", "") != "detect" or not hasattr(model, "names"):
        raise _invalid_checkpoint(weights, f"it contains a {type(model).__name__}")
    model.names = named_by_id(model.names)
    if defect := find_defect(model, checkpoint):
        raise _invalid_checkpoint(weights, defect)
    return model, checkpoint


def _invalid_checkpoint(weights: Path, found: str) -> DataError:
    return DataError(
        f"{weights}: expected a detector's checkpoint (.pt) of the `ultralytics` package; {found}",
        next_step="give the weights/best.pt of a run, or train one: fmask train",
    )


def _diagnose(error: Exception) -> str:
    text = f"{error} {error.__cause__}"
    if "truncated" in text:
        return "the file is empty, truncated or damaged"
    return "it contains something else, or types that cannot be loaded as weights only"


def validate(
    weights: Path,
    data_yaml: Path,
    split: str,
    *,
    imgsz: int,
    batch: int = 16,
    device: str = "",
    progress: Progress = no_progress,
) -> Validation:
    """Score a checkpoint on one split in one pass, with the package's own validator and its default settings.

    Only images and labels are read from the dataset's folders, and nothing is written there.

    Raises:
        MissingError: there is no such checkpoint or data.yaml.
        DataError: the checkpoint is unusable, its classes are not `CLASSES`, or the split has no readable image.
        UsageError: there is no such device.
    """
    model, _ = load_model(weights)
    check_names(weights, model.names.values(), f"fine-tune it first: fmask train --weights {weights}")
    device_name(device)  # raises if there is no such device
    with tempfile.TemporaryDirectory(prefix="fmask-") as scratch:
        data = _split_yaml(data_yaml, split, Path(scratch))
        settings = {"imgsz": imgsz, "batch": batch, "device": device, "data": str(data), "save_dir": scratch}
        validator = _validator(settings, data_yaml.parent, progress)
        try:
            validator(model=model)
        except (FileNotFoundError, RuntimeError) as error:
            if "images found" not in str(error) and "loading data" not in str(error):
                raise
            raise _no_images(data_yaml, split) from error
    return _validation(_model_name(model), validator)


def check_names(weights: Path, names: Iterable[Any], next_step: str) -> None:
    """Check that a model's classes are `CLASSES`, in the same order.

    Raises:
        DataError: they are not.
    """
    found = list(map(str, names))
    if found != list(CLASSES):
        listed = (", ".join(found[:4]) or "none") + (f" and {len(found) - 4} more" if len(found) > 4 else "")
        raise DataError(
            f"{weights}: expected a detector with the classes {', '.join(CLASSES)}, in this order; found {listed}",
            next_step=next_step,
        )


def _split_yaml(data_yaml: Path, split: str, scratch: Path) -> Path:
    """Write a data.yaml for one split. The original is not passed on: the package executes its `download` key."""
    entry, home = read_yaml(data_yaml).get(split), data_yaml.parent.resolve()
    folder = (home / entry).resolve() if isinstance(entry, str) else home
    if not folder.is_relative_to(home) or folder == home or not folder.is_dir():
        raise _no_images(data_yaml, split)
    path = scratch / "data.yaml"
    names = dict(enumerate(CLASSES))
    path.write_text(yaml.safe_dump({"train": str(folder), "val": str(folder), "names": names}), encoding="utf-8")
    return path


def _no_images(data_yaml: Path, split: str) -> DataError:
    return DataError(
        f"{data_yaml}: expected images under '{split}', found none",
        next_step="choose another split (--split), or build an ensemble that has this one",
    )


def _model_name(model: Any) -> str:
    """Return the name of a model's architecture: YOLOv5n."""
    stem = Path(str(model.yaml.get("yaml_file", "model"))).stem
    return stem.replace("yolo", "YOLO", 1)


def _validator(settings: Mapping[str, Any], folder: Path, progress: Progress) -> Any:
    """Return the package's validator, extended to collect the labels and detections of every image."""
    from ultralytics.models.yolo.detect import DetectionValidator
    from ultralytics.utils import callbacks

    class CollectingValidator(DetectionValidator):  # type: ignore[misc]
        def update_metrics(self, preds: list[dict[str, Any]], batch: dict[str, Any]) -> None:
            for index, predictions in enumerate(preds):
                images.append(_image_result(self, predictions, self._prepare_batch(index, batch), folder))
            super().update_metrics(preds, batch)

    def on_start(validator: Any) -> None:
        use_all_cores()
        progress("scoring", 0, len(validator.dataloader.dataset))

    def on_batch_end(validator: Any) -> None:
        progress("scoring", len(images), len(validator.dataloader.dataset))

    images: list[ImageResult] = []
    events = callbacks.get_default_callbacks()
    events["on_val_start"].append(on_start)
    events["on_val_batch_end"].append(on_batch_end)
    fixed = {"mode": "val", "split": "val", "rect": True, "plots": False, "verbose": False}
    limits = {"conf": CONFIDENCE, "iou": IOU, "max_det": MAX_DETECTIONS}
    validator = CollectingValidator(args={**fixed, **limits, **settings}, _callbacks=events)
    validator.images = images
    return validator


def _image_result(validator: Any, predictions: dict[str, Any], sample: dict[str, Any], folder: Path) -> ImageResult:
    """Return one image's labels and detections, mapped from the letterboxed image to its own pixels."""
    image = Path(os.path.relpath(sample["im_file"], folder.resolve())).as_posix()
    height, width = sample["ori_shape"]
    labels = _named_boxes(validator, sample, sample)
    rows = zip(_named_boxes(validator, predictions, sample), predictions["conf"].tolist(), strict=True)
    detections = (Detection(name, confidence, corners) for (name, corners), confidence in rows)
    return ImageResult(
        image=image,
        width=int(width),
        height=int(height),
        labels=tuple(_label(name, corners, image) for name, corners in labels),
        detections=by_confidence(detections),
    )


def _named_boxes(validator: Any, boxes: dict[str, Any], sample: dict[str, Any]) -> list[tuple[str, Corners]]:
    if not len(boxes["cls"]):
        return []
    scaled = validator.scale_preds(boxes, sample)
    names = [CLASSES[int(index)] for index in scaled["cls"].tolist()]
    return [(name, tuple(corners)) for name, corners in zip(names, scaled["bboxes"].tolist(), strict=True)]


def _label(name: str, corners: Corners, image: str) -> Annotation:
    try:
        return Annotation(name, Box(*corners))
    except ValueError as error:
        raise DataError(f"{image}: invalid label: {error}", next_step="build the ensemble again") from error


def _validation(model: str, validator: Any) -> Validation:
    metrics, box = validator.metrics, validator.metrics.box
    rows = {int(index): row for row, index in enumerate(box.ap_class_index)}
    names = tuple(CLASSES[index] for index in rows)
    results = tuple(sorted(validator.images, key=lambda result: result.image))
    n, images = int(metrics.nt_per_class.sum()), sum(bool(result.labels) for result in results)
    return Validation(
        model=model,
        mean=_score(metrics.mean_results() if rows else None, n, images),
        per_class={name: _class_score(metrics, rows.get(index), index) for index, name in enumerate(CLASSES)},
        confidence=_best_confidence(box) if rows else 0.0,
        curves=Curves(names, box.px, box.prec_values, box.p_curve, box.r_curve, box.f1_curve),
        images=results,
    )


def _class_score(metrics: Any, row: int | None, index: int) -> Score:
    """Return a class's score. `row` is its row in the results, which have none for classes without labels."""
    numbers = None if row is None else metrics.class_result(row)
    return _score(numbers, int(metrics.nt_per_class[index]), int(metrics.nt_per_image[index]))


def _score(numbers: Sequence[float] | None, n: int, images: int) -> Score:
    if numbers is None:
        return Score(None, None, None, None, n, images)
    precision, recall, map50, map50_95 = map(float, numbers)
    return Score(precision, recall, map50, map50_95, n, images)


def _best_confidence(box: Any) -> float:
    """Return the confidence at which the package reports precision and recall: the best (smoothed) mean F1."""
    from ultralytics.utils.metrics import smooth

    return float(box.px[smooth(box.f1_curve.mean(0), 0.1).argmax()])
