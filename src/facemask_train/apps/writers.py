"""What `fmask predict` writes: images and videos with boxes, YOLO labels, one COCO file, one CSV. Knows no model.

    images/NAME.jpg, NAME.mp4   with boxes; in a video also how many of each class a frame shows
    labels/NAME.txt               YOLO; a frame of a video: labels/clip.mp4/000012.txt; with classes.txt
    coco.json                     COCO, with a `score` for each box
    detections.csv                a row for each box

NAME is the file's path below the folder that holds all that was asked for. Boxes are in pixels of the image upright.
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
from facemask_train.core.drawing import CLASS_COLOURS, outline, tag
from facemask_train.core.errors import FmaskError
from facemask_train.core.files import write_bytes
from facemask_train.core.parallel import usable_cores
from facemask_train.core.types import CLASSES, Annotation, Box, Detection
from facemask_train.formats import coco, yolo

if TYPE_CHECKING:
    from numpy.typing import NDArray

KINDS = ("images", "yolo", "coco", "csv")
COLUMNS = ("file", "frame", "seconds", "taken", "class", "confidence", "x_min", "y_min", "x_max", "y_max")
_JPEG_SIDE = 65_500  # pixels; the format holds no longer side
_QUALITY = 90
_WAITING = 8  # images that wait to be written


@dataclass
class Tables:
    """The CSV, the YOLO labels and the COCO file of one folder, those that are wanted."""

    folder: Path
    names: dict[Path, str]
    kinds: Sequence[str]
    stream: TextIO | None = None
    listed: dict[str, tuple[int, int, tuple[Annotation, ...]]] = field(default_factory=dict)
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

    def add(self, frame: Frame, found: Sequence[Detection]) -> None:
        """Take in one frame's detections."""
        height, width = frame.pixels.shape[:2]
        labels = tuple(Annotation(one.name, Box(*one.corners)) for one in found)
        if self.stream is not None:
            csv.writer(self.stream, lineterminator="\n").writerows(_rows(frame, found))
        if "yolo" in self.kinds:
            place = self.names[frame.source] if frame.time is None else f"{frame.name}/{frame.index:06d}"
            path = self.folder / "labels" / f"{place}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(yolo.lines(labels, width, height), encoding="utf-8")
        if "coco" in self.kinds:
            key = frame.name if frame.time is None else f"{frame.name}/{frame.index:06d}.jpg"
            self.listed[key] = (width, height, labels)
            self.scores[key] = [one.confidence for one in found]

    def finish(self) -> None:
        """Write what can be written only when all is known."""
        if "coco" in self.kinds:
            write_bytes(self.folder / "coco.json", coco.to_json(self.listed, self.scores).encode())


def _rows(frame: Frame, found: Sequence[Detection]) -> list[list[object]]:
    seconds = "" if frame.time is None else f"{frame.time:.3f}"
    taken = "" if frame.taken is None else frame.taken.isoformat()
    head = [frame.name, frame.index, seconds, taken]
    return [[*head, one.name, f"{one.confidence:.4f}", *(f"{side:.2f}" for side in one.corners)] for one in found]


# ---- images and videos ----


class ImageWriter:
    """Writes annotated images in threads, and each video as one file. Use it in a `with` block.

    Args:
        rate: source's path -> frames a second of the written video.
    """

    def __init__(self, folder: Path, names: dict[Path, str], rate: Callable[[Path], float]) -> None:
        self._folder, self._names, self._rate = folder / "images", names, rate
        self._pool = ThreadPoolExecutor(usable_cores(), thread_name_prefix="write")
        self._waiting: list[Future[None]] = []
        self._video: _Video | None = None

    def __enter__(self) -> ImageWriter:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                self._close()
                for done in self._waiting:
                    done.result()
        finally:
            if self._video is not None and self._video.writer is not None:
                self._video.writer.release()
            self._pool.shutdown(wait=True, cancel_futures=True)

    def add(self, frame: Frame, pixels: NDArray[Any], found: Sequence[Detection]) -> None:
        """Write one frame, with `pixels` in the place of its own."""
        if self._video is not None and (frame.time is None or self._video.source != frame.source):
            self._close()
        path = self._folder / self._names[frame.source]
        path.parent.mkdir(parents=True, exist_ok=True)
        if frame.time is None:
            self._later(path, pixels, found)
            return
        if self._video is None:
            self._video = _Video(frame.source, path.with_name(f"{path.name}.mp4"), self._rate(frame.source))
        self._video.add(annotated(pixels, found, counted=True))

    def _later(self, path: Path, pixels: NDArray[Any], found: Sequence[Detection]) -> None:
        if len(self._waiting) >= _WAITING:
            self._waiting.pop(0).result()
        self._waiting.append(self._pool.submit(_save, path, pixels, tuple(found)))

    def _close(self) -> None:
        video, self._video = self._video, None
        if video is not None:
            video.close()


def _save(path: Path, pixels: NDArray[Any], found: Sequence[Detection]) -> None:
    """Write an image from its pixels alone: no EXIF, no position, no thumbnail of the original."""
    from PIL import Image

    image = Image.fromarray(annotated(pixels, found))
    if max(image.size) > _JPEG_SIDE:
        image.save(path.with_name(f"{path.name}.png"))
    else:
        image.save(path.with_name(f"{path.name}.jpg"), quality=_QUALITY)


def annotated(pixels: NDArray[Any], found: Sequence[Detection], *, counted: bool = False) -> NDArray[Any]:
    """Return an image (h, w, 3) with its boxes; with `counted`, also with how many of each class there are."""
    import numpy as np
    from PIL import Image, ImageDraw

    image = Image.fromarray(pixels)
    draw = ImageDraw.Draw(image)
    side = max(image.size)
    thick, size = max(2, round(side / 400)), max(10, round(side / 60))
    for one in reversed(found):  # the surest on top
        outline(draw, one.corners, CLASS_COLOURS[one.name], thick)
    for one in reversed(found):
        tag(draw, one.corners, f"{_said(one.name)} {one.confidence:.2f}", CLASS_COLOURS[one.name], size)
    if counted:
        told = ", ".join(f"{_said(name)} {sum(one.name == name for one in found)}" for name in CLASSES)
        tag(draw, (0, 0, side, side), told, "white", round(size * 1.3))
    return np.asarray(image)


def _said(name: str) -> str:
    return name.replace("_", " ")


class _Video:
    """One mp4 that is being written, of the size of its first frame."""

    def __init__(self, source: Path, path: Path, rate: float) -> None:
        self.source, self.path, self.rate, self.frames = source, path, rate, 0
        self.writer: Any = None

    def add(self, pixels: NDArray[Any]) -> None:
        import cv2

        height, width = pixels.shape[:2]
        if self.writer is None:
            self.writer = cv2.VideoWriter(str(self.path), cv2.VideoWriter.fourcc(*"mp4v"), self.rate, (width, height))
        self.writer.write(cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR))
        self.frames += 1

    def close(self) -> None:
        """Finish the file, and open it as a player would.

        Raises:
            FmaskError: it does not play, or not all of it.
        """
        import cv2

        self.writer.release()
        check = media.open_video(self.path)
        read, count = check.read()[0], int(check.get(cv2.CAP_PROP_FRAME_COUNT))
        check.release()
        if not read or count != self.frames:
            raise FmaskError(
                f"{self.path.name}: expected a video of {self.frames} frames, wrote one of {count if read else 0}",
                next_step="leave videos out, or save them without images: --save csv",
            )
