"""A model that answers for images at hand: arrays in, detections out. Knows no files but the model's."""

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
"""The overlap (IoU) from which two boxes are answers about one face; the evaluation matches at the same."""


@dataclass(frozen=True, eq=False, slots=True)
class Detector:
    """A loaded model, the size that images are brought to (pixels), and how many groups of them are asked at once."""

    backend: Backend
    imgsz: int
    streams: int = 1

    def answers(
        self, images: Iterable[ImageArray], *, confidence: float = 0.25, batch: int = 16
    ) -> Iterator[tuple[Detection, ...]]:
        """Yield what is found in each image above a confidence, the most confident first.

        A face can have an answer of each class; `one_per_face` leaves the surer one.

        Args:
            images: (h, w, 3) uint8 RGB arrays. Neighbours of one letterboxed size are asked together.
        """
        groups = self._groups(images, self.backend.batch or batch)
        if self.streams == 1:
            for group in groups:
                yield from self._ask(group, confidence)
            return
        with ThreadPoolExecutor(self.streams, thread_name_prefix="ask") as pool:
            waiting: deque[Future[list[tuple[Detection, ...]]]] = deque()
            for group in groups:
                waiting.append(pool.submit(self._ask, group, confidence))
                if len(waiting) > self.streams:
                    yield from waiting.popleft().result()
            while waiting:
                yield from waiting.popleft().result()

    def _groups(self, images: Iterable[ImageArray], many: int) -> Iterator[list[tuple[ImageArray, ImageArray]]]:
        """Yield images with their letterboxed selves, those together that are asked together."""
        held: list[tuple[ImageArray, ImageArray]] = []
        for image in images:
            boxed = self._letterboxed(image)
            if held and (len(held) == many or boxed.shape != held[0][1].shape):
                yield held
                held = []
            held.append((image, boxed))
        if held:
            yield held

    @property
    def _sides(self) -> tuple[int, int]:
        """The (height, width) that images are brought to; as the package does, in whole strides."""
        side = -(-self.imgsz // _STRIDE) * _STRIDE
        return self.backend.size or (side, side)

    def _letterboxed(self, image: ImageArray) -> ImageArray:
        """Return an image as the package's validator shows it: the least rectangle, or the export's own size."""
        from ultralytics.data.augment import LetterBox

        box = LetterBox(self._sides, auto=self.backend.size is None, stride=_STRIDE)
        boxed: ImageArray = box(image=image)
        return boxed

    def _ratio_pad(self, image: ImageArray, boxed: ImageArray) -> tuple[tuple[float, float], tuple[int, int]]:
        """Return how an image was scaled (down, across) and moved (across, down).

        From the two shapes alone the package guesses it, and is off by up to two pixels where a side was rounded.
        """
        height, width = self._sides
        ratio = min(height / image.shape[0], width / image.shape[1])
        sides = [max(round(side * ratio), 1) for side in image.shape[:2]]
        down, across = (round((whole - side) / 2 - 0.1) for whole, side in zip(boxed.shape, sides, strict=False))
        return (sides[0] / image.shape[0], sides[1] / image.shape[1]), (across, down)

    def _ask(self, held: list[tuple[ImageArray, ImageArray]], confidence: float) -> list[tuple[Detection, ...]]:
        import numpy as np
        from ultralytics.utils import nms, ops

        short = (self.backend.batch or 0) - len(held)  # a graph of a fixed batch takes no fewer
        stack = np.stack([boxed for _, boxed in held] + [np.zeros_like(held[0][1])] * max(short, 0))
        found = nms.non_max_suppression(
            self.backend.ask(stack)[: len(held)],
            confidence, IOU, max_det=MAX_DETECTIONS, nc=len(CLASSES), multi_label=True, max_time_img=10,
        )  # fmt: skip
        answered = []
        for (image, boxed), boxes in zip(held, found, strict=True):
            placed = self._ratio_pad(image, boxed)
            corners = ops.scale_boxes(boxed.shape[:2], boxes[:, :4], image.shape[:2], placed).tolist()
            rows = zip(corners, boxes[:, 4].tolist(), boxes[:, 5].tolist(), strict=True)
            answers = (Detection(CLASSES[int(index)], sure, tuple(box)) for box, sure, index in rows)
            answered.append(by_confidence(answers))
        return answered


def one_per_face(found: Iterable[Detection], *, least: float = SAME_FACE) -> tuple[Detection, ...]:
    """Return the surest answer for each face: of boxes that overlap, whatever their classes, the most confident."""
    kept: list[Detection] = []
    for one in by_confidence(found):
        if all(iou(one.corners, other.corners) < least for other in kept):
            kept.append(one)
    return tuple(kept)


def load_detector(
    weights: Path, *, imgsz: int | None = None, device: str = "", precision: str = "float32", streams: int = 1
) -> Detector:
    """Load a checkpoint (.pt) or an export (.onnx, an OpenVINO folder) for inference: see `backends`.

    Args:
        imgsz: the size in pixels that images are brought to; the model's own where it is None.
        streams: groups of images that are asked at once, in threads that share the cores: many images are answered
            in less time, and each by itself in more.

    Raises:
        MissingError: there is no such file, or what runs it is not installed.
        DataError: it cannot be used, or its classes are not `CLASSES`.
        UsageError: the export takes images of another size only.
    """
    backend = load_backend(weights, device, precision, streams)
    if imgsz is not None and backend.size is not None and backend.size != (imgsz, imgsz):
        height, width = backend.size
        raise UsageError(
            f"{weights}: an export for images of {width} x {height} px cannot be asked at {imgsz}",
            next_step="leave --imgsz out, or export it with dynamic shapes",
        )
    return Detector(backend, imgsz or backend.imgsz, streams)
