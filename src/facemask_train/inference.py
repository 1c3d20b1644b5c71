"""A checkpoint that answers for pictures at hand: arrays in, detections out. Knows no files but the checkpoint's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.detect import IOU, MAX_DETECTIONS, Detection, load_model
from facemask_train.engine import use_all_cores
from facemask_train.errors import DataError
from facemask_train.records import CLASSES

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Picture = NDArray[Any]


@dataclass(frozen=True, eq=False, slots=True)
class Detector:
    """A loaded model, the size that pictures are brought to (pixels), and the device it is on."""

    model: Any
    imgsz: int
    device: Any

    def answers(
        self, pictures: Iterable[Picture], *, confidence: float = 0.25, batch: int = 16
    ) -> Iterator[tuple[Detection, ...]]:
        """Yield what is found in each picture above a confidence, the most confident first.

        Args:
            pictures: (h, w, 3) uint8 RGB arrays. Neighbours of one size are asked together.
        """
        held: list[Picture] = []
        for picture in pictures:
            if held and (len(held) == batch or picture.shape != held[0].shape):
                yield from self._ask(held, confidence)
                held = []
            held.append(picture)
        if held:
            yield from self._ask(held, confidence)

    def _ask(self, pictures: list[Picture], confidence: float) -> Iterator[tuple[Detection, ...]]:
        import torch
        from ultralytics.utils import nms, ops

        tensor = self._tensor(pictures)
        with torch.inference_mode():
            raw = self.model(tensor)
        found = nms.non_max_suppression(
            raw[0] if isinstance(raw, (tuple, list)) else raw,
            confidence, IOU, max_det=MAX_DETECTIONS, nc=len(CLASSES), multi_label=True, max_time_img=10,
        )  # fmt: skip
        for picture, boxes in zip(pictures, found, strict=True):
            corners = ops.scale_boxes(tensor.shape[2:], boxes[:, :4], picture.shape[:2]).tolist()
            rows = zip(corners, boxes[:, 4].tolist(), boxes[:, 5].tolist(), strict=True)
            answers = (Detection(CLASSES[int(index)], sure, tuple(box)) for box, sure, index in rows)
            yield tuple(sorted(answers, key=lambda one: (-one.confidence, one.name, one.corners)))

    def _tensor(self, pictures: list[Picture]) -> Any:
        """Return pictures of one size, letterboxed as the validator does, as one tensor (n, 3, h, w) from 0 to 1."""
        import numpy as np
        import torch
        from ultralytics.data.augment import LetterBox

        box = LetterBox((self.imgsz, self.imgsz), auto=True, stride=32)
        boxed = np.stack([box(image=picture) for picture in pictures])
        return torch.from_numpy(boxed).to(self.device).permute(0, 3, 1, 2).float() / 255


def load_detector(weights: Path, *, imgsz: int, device: str = "") -> Detector:
    """Load a checkpoint for inference, fused, on the device that is asked for (a GPU where there is one).

    Raises:
        MissingError: there is no such checkpoint.
        DataError: it cannot be used, or its classes are not `CLASSES`.
    """
    model, _ = load_model(weights)
    if list(model.names.values()) != list(CLASSES):
        raise DataError(
            f"{weights}: expected a detector of {', '.join(CLASSES)}, in this order; found "
            f"{', '.join(list(model.names.values())[:4])}",
            next_step=f"fine-tune it first: fmask train --weights {weights}",
        )
    from ultralytics.utils.torch_utils import select_device

    chosen = select_device(device, verbose=False)
    use_all_cores()
    return Detector(model.fuse(verbose=False).eval().to(chosen), imgsz, chosen)
