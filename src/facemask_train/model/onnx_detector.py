"""A detector with nothing but ONNX Runtime, OpenCV and numpy, for a file of `fmask export` with suppression inside.

It answers as `inference.Detector` does, and is what a Space asks: without torch that starts in seconds.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.core.errors import DataError, MissingError
from facemask_train.core.types import CLASSES, Detection, by_confidence
from facemask_train.model.backends import operating_point

if TYPE_CHECKING:
    from facemask_train.core.types import Array

FOUND = "detections"
"""What the output of such a file is called."""

STRIDE = 32
_GREY = (114, 114, 114)


@dataclass(frozen=True, eq=False, slots=True)
class LightDetector:
    """A loaded file, the size that images are brought to (pixels), and the confidence that it says was chosen."""

    session: Any
    imgsz: int
    point: float | None = None

    def answers(self, images: Iterable[Array], *, confidence: float = 0.25) -> Iterator[tuple[Detection, ...]]:
        """Yield what is found in each image, (h, w, 3) uint8 RGB, above a confidence, the most confident first."""
        import numpy as np

        for image in images:
            placed = Placed.of(image.shape[0], image.shape[1], self.imgsz)
            boxed = placed.letterbox(image).transpose(2, 0, 1)[None]
            rows = self.session.run(None, {"images": np.divide(boxed, 255, dtype=np.float32)})[0][0]
            rows = rows[rows[:, 4] > confidence]
            corners = placed.back(rows[:, :4]).tolist()
            found = zip(corners, rows[:, 4].tolist(), rows[:, 5].tolist(), strict=True)
            answers = (Detection(CLASSES[int(index)], sure, tuple(box)) for box, sure, index in found)
            yield by_confidence(answers)


@dataclass(frozen=True, slots=True)
class Placed:
    """Where an image of `height` x `width` comes to lie in what the network sees: scaled, and padded around.

    As the validator of the `ultralytics` package does it: the least rectangle with sides that are multiples of 32.
    """

    height: int
    width: int
    scaled: tuple[int, int]
    top: int
    bottom: int
    left: int
    right: int

    @classmethod
    def of(cls, height: int, width: int, imgsz: int) -> Placed:
        ratio = min(imgsz / height, imgsz / width)
        scaled = max(round(height * ratio), 1), max(round(width * ratio), 1)
        down, across = ((imgsz - side) % STRIDE / 2 for side in scaled)
        return cls(
            height, width, scaled,
            round(down - 0.1), round(down + 0.1), round(across - 0.1), round(across + 0.1),
        )  # fmt: skip

    def letterbox(self, image: Array) -> Array:
        """Return the image as the network sees it, (h, w, 3)."""
        import cv2

        if image.shape[:2] != self.scaled:
            image = cv2.resize(image, self.scaled[::-1], interpolation=cv2.INTER_LINEAR)
        boxed: Array = cv2.copyMakeBorder(
            image, self.top, self.bottom, self.left, self.right, cv2.BORDER_CONSTANT, value=_GREY
        )
        return boxed

    def back(self, corners: Array) -> Array:
        """Return corners (n, 4) in what the network sees as corners in the image, clipped to it."""
        import numpy as np

        offset = np.array([self.left, self.top] * 2, np.float32)
        gain = np.array([self.scaled[1] / self.width, self.scaled[0] / self.height] * 2, np.float32)
        limit = np.array([self.width, self.height] * 2, np.float32)
        placed: Array = np.clip((corners - offset) / gain, 0, limit)
        return placed


def load_light(path: Path, *, imgsz: int) -> LightDetector:
    """Load an ONNX file with suppression inside.

    Raises:
        MissingError: there is no such file.
        DataError: it is not a file that `fmask export` made, with suppression inside.
    """
    import onnxruntime

    if not path.is_file():
        raise MissingError(f"{path}: no such file", next_step="fmask export --format space")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has an error class of its own for each way in which a file is no model
        raise DataError(f"{path}: expected an ONNX model; {error}", next_step="fmask export --format space") from error
    names = [one.name for one in session.get_outputs()]
    if names != [FOUND]:
        raise DataError(
            f"{path}: expected one output, {FOUND}; found {', '.join(names)}", next_step="fmask export --nms inside"
        )
    return LightDetector(session, imgsz, operating_point(session.get_modelmeta().custom_metadata_map))
