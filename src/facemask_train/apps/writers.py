"""Write what `fmask predict` found: images and videos with boxes, YOLO labels, a COCO file, a CSV.

    images/NAME.jpg, NAME.mp4   with boxes; each frame of a video also shows its counts by class
    labels/NAME.txt             YOLO labels, with classes.txt; for frames of a video labels/clip.mp4/000012.txt
    coco.json                   COCO annotations, with a `score` for each box
    detections.csv              one row per box

NAME is the file's path below the common folder of all input files. Boxes are in pixels of the image as displayed.
Does not import torch.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from facemask_train.apps import media
from facemask_train.apps.media import Frame
from facemask_train.core.drawing import CLASS_COLORS, outline, tag
from facemask_train.core.errors import FmaskError
from facemask_train.core.files import write_bytes
from facemask_train.core.parallel import usable_cores
from facemask_train.core.types import CLASSES, Annotation, Box, Detection
from facemask_train.formats import coco, yolo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KINDS = ("images", "yolo", "coco", "csv")
COLUMNS = ("file", "frame", "seconds", "taken", "class", "confidence", "x_min", "y_min", "x_max", "y_max")
_MAX_JPEG_SIDE = 65_500  # pixels; a limit of the format
_QUALITY = 90
_MAX_PENDING = 8  # images that wait to be written


@dataclass
class Tables:
    """Writes the CSV, the YOLO labels and the COCO file of one folder: those in `kinds`. Use it in a `with` block."""

    folder: Path
    names: dict[Path, str]
    kinds: Sequence[str]
    stream: TextIO | None = None
    boxes: dict[str, tuple[int, int, tuple[Annotation, ...]]] = field(default_factory=dict)
    scores: dict[str, list[float]] = field(default_factory=dict)

    def __enter__(self) -> Tables:
        if "csv" in self.kinds:
            self.stream = (self.folder / "detections.csv").open("w", encoding="utf-8", newline="")
            csv.writer(self.stream, lineterminator="\n").writerow(COLUMNS)
        if "yolo" in self.kinds:
            write_bytes(self.folder / "classes.txt", "".join(f"{name}\n" for name in CLASSES).encode())
        return self

    def __exit__(self, *_: object) -> None:
        if self.stream is not None:
            self.stream.close()

    def add(self, frame: Frame, detections: Sequence[Detection]) -> None:
        """Add one frame's detections."""
        height, width = frame.pixels.shape[:2]
        labels = tuple(Annotation(one.name, Box(*one.corners)) for one in detections)
        if self.stream is not None:
            csv.writer(self.stream, lineterminator="\n").writerows(_rows(frame, detections))
        if "yolo" in self.kinds:
            place = self.names[frame.source] if frame.time is None else f"{frame.name}/{frame.index:06d}"
            path = self.folder / "labels" / f"{place}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yolo.lines(labels, width, height), encoding="utf-8")
        if "coco" in self.kinds:
            key = frame.name if frame.time is None else f"{frame.name}/{frame.index:06d}.jpg"
            self.boxes[key] = (width, height, labels)
            self.scores[key] = [one.confidence for one in detections]

    def finish(self) -> None:
        """Write the file that needs all frames."""
        if "coco" in self.kinds:
            write_bytes(self.folder / "coco.json", coco.to_json(self.boxes, self.scores).encode())


def _rows(frame: Frame, detections: Sequence[Detection]) -> list[list[object]]:
    seconds = "" if frame.time is None else f"{frame.time:.3f}"
    taken = "" if frame.taken is None else frame.taken.isoformat()
    head = [frame.name, frame.index, seconds, taken]
    return [[*head, one.name, f"{one.confidence:.4f}", *(f"{side:.2f}" for side in one.corners)] for one in detections]


# ---- images and videos ----


class ImageWriter:
    """Writes images with boxes in threads, and each video as one file. Use it in a `with` block.

    Args:
        names: a unique name without extension for each source's path.
        rate: returns the frame rate of the written video for a source's path.
    """

    def __init__(self, folder: Path, names: dict[Path, str], rate: Callable[[Path], float]) -> None:
        self._folder, self._names, self._rate = folder / "images", names, rate
        self._pool = ThreadPoolExecutor(usable_cores(), thread_name_prefix="write")
        self._pending: list[Future[None]] = []
        self._video: _Video | None = None

    def __enter__(self) -> ImageWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._close()
                for done in self._pending:
                    done.result()
        finally:
            if self._video is not None and self._video.writer is not None:
                self._video.writer.release()
            self._pool.shutdown(wait=True, cancel_futures=True)

    def add(self, frame: Frame, pixels: NDArray[np.uint8], detections: Sequence[Detection]) -> None:
        """Write one frame with the given pixels."""
        if self._video is not None and (frame.time is None or self._video.source != frame.source):
            self._close()
        path = self._folder / self._names[frame.source]
        path.parent.mkdir(parents=True, exist_ok=True)
        if frame.time is None:
            self._submit(path, pixels, detections)
            return
        if self._video is None:
            self._video = _Video(frame.source, path.with_name(f"{path.name}.mp4"), self._rate(frame.source))
        self._video.add(draw_detections(pixels, detections, counts=True))

    def _submit(self, path: Path, pixels: NDArray[np.uint8], detections: Sequence[Detection]) -> None:
        if len(self._pending) >= _MAX_PENDING:
            self._pending.pop(0).result()
        self._pending.append(self._pool.submit(_save, path, pixels, tuple(detections)))

    def _close(self) -> None:
        video, self._video = self._video, None
        if video is not None:
            video.close()


def _save(path: Path, pixels: NDArray[np.uint8], detections: Sequence[Detection]) -> None:
    """Write an image from its pixels alone, without the EXIF data, location and thumbnail of the original."""
    from PIL import Image

    image = Image.fromarray(draw_detections(pixels, detections))
    if max(image.size) > _MAX_JPEG_SIDE:
        image.save(path.with_name(f"{path.name}.png"))
    else:
        image.save(path.with_name(f"{path.name}.jpg"), quality=_QUALITY)


def draw_detections(
    pixels: NDArray[np.uint8], detections: Sequence[Detection], *, counts: bool = False
) -> NDArray[np.uint8]:
    """Return an image (h, w, 3) with boxes drawn on it; with `counts`, also the number of faces of each class."""
    import numpy as np
    from PIL import Image, ImageDraw

    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    side = max(image.size)
    thick, size = max(2, round(side / 400)), max(10, round(side / 60))
    for one in reversed(detections):  # the most confident on top
        outline(draw, one.corners, CLASS_COLORS[one.name], thick)
    for one in reversed(detections):
        tag(draw, one.corners, f"{_readable(one.name)} {one.confidence:.2f}", CLASS_COLORS[one.name], size)
    if counts:
        text = ", ".join(f"{_readable(name)} {sum(one.name == name for one in detections)}" for name in CLASSES)
        tag(draw, (0, 0, side, side), text, "white", round(size * 1.3))
    return np.asarray(image)


def _readable(name: str) -> str:
    return name.replace("_", " ")


class _Video:
    """One mp4 file that is being written, at the size of its first frame."""

    def __init__(self, source: Path, path: Path, rate: float) -> None:
        self.source, self.path, self.rate, self.frames = source, path, rate, 0
        self.writer: Any = None

    def add(self, pixels: NDArray[np.uint8]) -> None:
        import cv2

        height, width = pixels.shape[:2]
        if self.writer is None:
            self.writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self.rate, (width, height))
        self.writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        self.frames += 1

    def close(self) -> None:
        """Finish the file, and check that it can be played.

        Raises:
            FmaskError: it cannot be opened, or frames are missing.
        """
        import cv2

        self.writer.release()
        check = media.open_video(self.path)
        read, count = check.read()[0], int(check.get(cv2.CAP_PROP_FRAME_COUNT))
        check.release()
        if not read or count != self.frames:
            raise FmaskError(
                f"{self.path.name}: expected a video of {self.frames} frames, wrote one of {count if read else 0}",
                next_step="leave videos out, or write no images: --save csv",
            )
