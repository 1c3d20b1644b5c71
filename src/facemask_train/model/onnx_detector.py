"""A detector that needs only ONNX Runtime, OpenCV and numpy, for files of `fmask export` with NMS in the graph.

It gives the same detections as `detector.Detector`. The exported Space uses it: without torch it starts in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.types import CLASSES, Detection, by_confidence
from facemask_train.model.backends import read_operating_point

if TYPE_CHECKING:
    from facemask_train.core.types import Array

OUTPUT = "detections"
"""The name of the graph's only output."""

STRIDE = 32
_GRAY = (114, 114, 114)


@dataclass(frozen=True, eq=False, slots=True)
class OnnxDetector:
    """An ONNX Runtime session, the input size in pixels, and the confidence threshold that the file stores."""

    session: Any
    imgsz: int
    operating_point: float | None = None

    def predict(self, images: Iterable[Array], *, confidence: float = 0.25) -> Iterator[tuple[Detection, ...]]:
        """Yield the detections of each image above a confidence, the most confident first.

        Args:
            images: (h, w, 3) uint8 RGB arrays.
        """
        import numpy as np

        for image in images:
            transform = LetterboxTransform.fit(image.shape[0], image.shape[1], self.imgsz)
            letterboxed = transform.apply(image).transpose(2, 0, 1)[None]
            rows = self.session.run(None, {"images": np.divide(letterboxed, 255, dtype=np.float32)})[0][0]
            rows = rows[rows[:, 4] > confidence]
            corners = transform.to_image(rows[:, :4]).tolist()
            found = zip(corners, rows[:, 4].tolist(), rows[:, 5].tolist(), strict=True)
            yield by_confidence(Detection(CLASSES[int(class_id)], score, tuple(box)) for box, score, class_id in found)


@dataclass(frozen=True, slots=True)
class LetterboxTransform:
    """How an image of `height` x `width` pixels is scaled and padded to the network's input.

    As in the validator of the `ultralytics` package: the smallest rectangle whose sides are multiples of the stride.
    """

    height: int
    width: int
    scaled: tuple[int, int]
    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def fit(cls, height: int, width: int, imgsz: int) -> LetterboxTransform:
        """Return the transform that scales the longer side to `imgsz`."""
        ratio = min(imgsz / height, imgsz / width)
        scaled = max(round(height * ratio), 1), max(round(width * ratio), 1)
        pad_y, pad_x = ((imgsz - side) % STRIDE / 2 for side in scaled)
        return cls(
            height, width, scaled,
            round(pad_y - 0.1), round(pad_y + 0.1), round(pad_x - 0.1), round(pad_x + 0.1),
        )  # fmt: skip

    def apply(self, image: Array) -> Array:
        """Return the letterboxed image, (h, w, 3)."""
        import cv2

        if image.shape[:2] != self.scaled:
            image = cv2.resize(image, self.scaled[::-1], interpolation=cv2.INTER_LINEAR)
        letterboxed: Array = cv2.copyMakeBorder(
            image, self.top, self.bottom, self.left, self.right, cv2.BORDER_CONSTANT, value=_GRAY
        )
        return letterboxed

    def to_image(self, corners: Array) -> Array:
        """Map corners (n, 4) in the network's input to pixels of the image, clipped to it."""
        import numpy as np

        offset = np.array([self.left, self.top] * 2, np.float32)
        gain = np.array([self.scaled[1] / self.width, self.scaled[0] / self.height] * 2, np.float32)
        limit = np.array([self.width, self.height] * 2, np.float32)
        mapped: Array = np.clip((corners - offset) / gain, 0, limit)
        return mapped


def load_onnx_detector(path: Path, *, imgsz: int) -> OnnxDetector:
    """Load an ONNX file that has non-maximum suppression in its graph.

    Raises:
        MissingError: there is no such file.
        DataError: the file was not made by `fmask export --nms inside`.
    """
    import onnxruntime

    if not path.is_file():
        raise MissingError(f"{path}: no such file", next_step="fmask export --format space")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a separate error class for each kind of invalid file
        raise DataError(f"{path}: expected an ONNX model; {error}", next_step="fmask export --format space") from error
    names = [one.name for one in session.get_outputs()]
    if names != [OUTPUT]:
        raise DataError(
            f"{path}: expected one output, {OUTPUT}; found {', '.join(names)}", next_step="fmask export --nms inside"
        )
    return OnnxDetector(session, imgsz, read_operating_point(session.get_modelmeta().custom_metadata_map))
