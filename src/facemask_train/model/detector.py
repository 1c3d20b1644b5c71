"""The detector: image arrays in, detections out, on any backend. Reads no files but the model's."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.core.boxes import iou
from facemask_train.core.errors import UsageError
from facemask_train.core.types import CLASSES, Detection, by_confidence
from facemask_train.model.backends import Backend, load_backend
from facemask_train.model.validation import IOU, MAX_DETECTIONS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ImageArray = NDArray[Any]

_STRIDE = 32
SAME_FACE = 0.5
"""Two boxes with at least this IoU are detections of the same face. The evaluation matches at the same IoU."""


@dataclass(frozen=True, eq=False, slots=True)
class _Prepared:
    """An image and its letterboxed copy."""

    image: ImageArray
    letterboxed: ImageArray


@dataclass(frozen=True, eq=False, slots=True)
class Detector:
    """A loaded model, its input size in pixels, and how many batches run at once."""

    backend: Backend
    imgsz: int
    streams: int = 1

    def predict(
        self, images: Iterable[ImageArray], *, confidence: float = 0.25, batch: int = 16
    ) -> Iterator[tuple[Detection, ...]]:
        """Yield the detections of each image above a confidence, the most confident first.

        One face can have a detection of each class; `one_per_face` keeps the most confident.

        Args:
            images: (h, w, 3) uint8 RGB arrays. Consecutive images of the same letterboxed size form a batch.
            batch: the largest batch size.
        """
        batches = self._batches(images, self.backend.fixed_batch or batch)
        if self.streams == 1:
            for group in batches:
                yield from self._predict_batch(group, confidence)
            return
        with ThreadPoolExecutor(self.streams, thread_name_prefix="predict") as pool:
            pending: deque[Future[list[tuple[Detection, ...]]]] = deque()
            for group in batches:
                pending.append(pool.submit(self._predict_batch, group, confidence))
                if len(pending) > self.streams:
                    yield from pending.popleft().result()
            while pending:
                yield from pending.popleft().result()

    def _batches(self, images: Iterable[ImageArray], size: int) -> Iterator[list[_Prepared]]:
        """Yield batches of at most `size` images that have the same letterboxed shape."""
        group: list[_Prepared] = []
        for image in images:
            letterboxed = self._letterbox(image)
            if group and (len(group) == size or letterboxed.shape != group[0].letterboxed.shape):
                yield group
                group = []
            group.append(_Prepared(image, letterboxed))
        if group:
            yield group

    @property
    def _input_size(self) -> tuple[int, int]:
        """The (height, width) that images are scaled to: whole strides, as in the package."""
        side = -(-self.imgsz // _STRIDE) * _STRIDE
        return self.backend.fixed_size or (side, side)

    def _letterbox(self, image: ImageArray) -> ImageArray:
        """Letterbox an image as the package's validator does: the smallest rectangle, or the export's fixed size."""
        from ultralytics.data.augment import LetterBox

        transform = LetterBox(self._input_size, auto=self.backend.fixed_size is None, stride=_STRIDE)
        letterboxed: ImageArray = transform(image=image)
        return letterboxed

    def _ratio_pad(self, item: _Prepared) -> tuple[tuple[float, float], tuple[int, int]]:
        """Return the scale (y, x) and the padding (x, y) of a letterboxed image.

        From the two shapes alone the package guesses them, and is off by up to two pixels if a side was rounded.
        """
        height, width = self._input_size
        image = item.image
        ratio = min(height / image.shape[0], width / image.shape[1])
        sides = [max(round(side * ratio), 1) for side in image.shape[:2]]
        top, left = (round((full - side) / 2 - 0.1) for full, side in zip(item.letterboxed.shape, sides, strict=False))
        return (sides[0] / image.shape[0], sides[1] / image.shape[1]), (left, top)

    def _predict_batch(self, group: list[_Prepared], confidence: float) -> list[tuple[Detection, ...]]:
        import numpy as np
        from ultralytics.utils import nms, ops

        padding = max((self.backend.fixed_batch or 0) - len(group), 0)  # a fixed batch has to be full
        arrays = [item.letterboxed for item in group]
        output = self.backend.forward(np.stack(arrays + [np.zeros_like(arrays[0])] * padding))
        kept = nms.non_max_suppression(
            output[: len(group)],
            confidence, IOU, max_det=MAX_DETECTIONS, nc=len(CLASSES), multi_label=True, max_time_img=10,
        )  # fmt: skip
        detections = []
        for item, boxes in zip(group, kept, strict=True):
            ratio_pad = self._ratio_pad(item)
            shapes = item.letterboxed.shape[:2], item.image.shape[:2]
            corners = ops.scale_boxes(shapes[0], boxes[:, :4], shapes[1], ratio_pad).tolist()
            rows = zip(corners, boxes[:, 4].tolist(), boxes[:, 5].tolist(), strict=True)
            found = (Detection(CLASSES[int(class_id)], score, tuple(box)) for box, score, class_id in rows)
            detections.append(by_confidence(found))
        return detections


def one_per_face(detections: Iterable[Detection], *, min_iou: float = SAME_FACE) -> tuple[Detection, ...]:
    """Keep the most confident detection of each face: class-agnostic non-maximum suppression.

    Args:
        min_iou: the IoU from which two boxes are the same face.
    """
    kept: list[Detection] = []
    for one in by_confidence(detections):
        if all(iou(one.corners, other.corners) < min_iou for other in kept):
            kept.append(one)
    return tuple(kept)


def load_detector(
    weights: Path, *, imgsz: int | None = None, device: str = "", precision: str = "float32", streams: int = 1
) -> Detector:
    """Load a checkpoint (.pt) or an export (.onnx, an OpenVINO folder) for inference; see `backends`.

    Args:
        imgsz: the input size in pixels; None uses the model's own.
        streams: batches that run at once, in threads that share the cores: higher throughput, and higher latency
            for each image.

    Raises:
        MissingError: the file does not exist, or its runtime is not installed.
        DataError: the file is unusable, or its classes are not `CLASSES`.
        UsageError: the export has a different, fixed input size.
    """
    backend = load_backend(weights, device, precision, streams)
    if imgsz is not None and backend.fixed_size is not None and backend.fixed_size != (imgsz, imgsz):
        height, width = backend.fixed_size
        raise UsageError(
            f"{weights}: this export accepts {width} x {height} px images only, not {imgsz} px",
            next_step="leave --imgsz out, or export it with dynamic shapes",
        )
    return Detector(backend, imgsz or backend.imgsz, streams)
