"""What the demo does with an image, a webcam frame, a video or another threshold. Does not import Gradio.

The model runs once per image. The detections are kept, so that another threshold only counts them again.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, TypeAlias

from facemask_train.apps.demo import html, uploads
from facemask_train.apps.demo.counts import FaceCounts, above_threshold, count_faces
from facemask_train.apps.model_facts import ModelFacts
from facemask_train.core.errors import FmaskError
from facemask_train.core.types import Detection
from facemask_train.eval.thresholds import Threshold
from facemask_train.model.detector import one_per_face
from facemask_train.model.validation import Predictor

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    ImageArray: TypeAlias = NDArray[np.uint8]

_log = logging.getLogger(__name__)

MIN_CONFIDENCE = 0.05
"""Detections below this confidence are not kept; the threshold cannot be set lower."""

FRAMES = 6
"""How many frames of a video are shown."""

_FRAME_SIDE = 640
_EXAMPLE_SEEDS = (3, 7, 12, 20)
_NOTHING = "There is nothing to count. Send an image first; results are deleted after 20 minutes."


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A loaded model, the facts about it, and the threshold that the page starts with."""

    detector: Predictor
    facts: ModelFacts
    threshold: Threshold

    @property
    def confidence(self) -> float:
        return self.threshold.value

    @property
    def min_confidence(self) -> float:
        return min(MIN_CONFIDENCE, self.confidence)


@dataclass(frozen=True, slots=True)
class FrameFaces:
    """The faces in an image, or in a video frame at this time (seconds), and the image's size."""

    size: html.Size
    faces: tuple[Detection, ...]
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class SessionResult:
    """What is kept of a visitor's file: the faces in an image or in the frames of a video, and a note."""

    frames: tuple[FrameFaces, ...]
    is_video: bool = False
    note: str = ""


@dataclass(frozen=True, slots=True)
class PageUpdate:
    """What changes on the page: slots by name (`image0`, `boxes0`, `name0`, ...), the counts, and the kept result."""

    slots: dict[str, str]
    counts: str
    result: SessionResult | None


def empty_slots(count: int) -> dict[str, str]:
    """Return the slots of this many images, all empty."""
    return {f"{kind}{slot}": "" for slot in range(count) for kind in ("image", "boxes", "name")}


class FaceFinder:
    """Runs the model on one image at a time: it uses all cores for one, so two at a time are no faster."""

    def __init__(self, served: ServedModel) -> None:
        self._served, self._lock = served, threading.Lock()

    def find(self, image: ImageArray, time: float = 0.0) -> FrameFaces:
        """Return the faces in an image (h, w, 3; RGB)."""
        with self._lock:
            found = next(iter(self._served.detector.predict([image], confidence=self._served.min_confidence)))
        return FrameFaces((image.shape[1], image.shape[0]), one_per_face(found), time)

    def warm_up(self) -> None:
        """Run the model once on a black image: a process's first run takes longer than the others."""
        import numpy as np

        side = self._served.detector.imgsz
        self.find(np.zeros((side, side, 3), np.uint8))


def examples() -> list[tuple[ImageArray, FaceCounts]]:
    """Return the example images, (h, w, 3) RGB, with their true counts."""
    from facemask_train.sources.sample.scenes import draw_scene

    scenes = [draw_scene(Random(f"fmask demo {number}")) for number in _EXAMPLE_SEEDS]
    masked = [sum(face.kind == "mask" for face in scene.faces) for scene in scenes]
    return [
        (scene.image, FaceCounts(mask, len(scene.faces) - mask)) for scene, mask in zip(scenes, masked, strict=True)
    ]


@dataclass(frozen=True, slots=True)
class Handlers:
    """Handles a visitor's requests.

    Attributes:
        folder: where uploads are stored; nothing outside it is read or removed.
        examples: the example images with their true counts.
    """

    finder: FaceFinder
    limits: uploads.Limits
    folder: Path
    examples: Sequence[tuple[ImageArray, FaceCounts]]

    def image(self, path: str | None, threshold: float) -> PageUpdate:
        """Handle an uploaded image."""

        def update() -> PageUpdate:
            content = uploads.take(uploads.inside(self.folder, path))
            return self._update(uploads.read_image(content, self.limits), threshold, "Your image")

        return _guarded(update, 1)

    def example(self, number: int, threshold: float) -> PageUpdate:
        """Handle a click on an example image; the note says what is drawn in it."""
        image, true = self.examples[number % len(self.examples)]
        note = f"The image shows {true.mask} with a mask and {true.no_mask} without."
        return _guarded(lambda: self._update(image, threshold, f"An example image. {note}", note=note), 1)

    def frame(self, content: bytes, threshold: float) -> PageUpdate:
        """Handle a frame of a webcam."""

        def update() -> PageUpdate:
            image = uploads.read_image(content, self.limits)
            return self._update(image, threshold, "A frame of your webcam", side=_FRAME_SIDE)

        return _guarded(update, 1)

    def _update(
        self, image: ImageArray, threshold: float, alt: str, *, note: str = "", side: int = html.SIDE
    ) -> PageUpdate:
        result = SessionResult((self.finder.find(image),), note=note)
        counted = recount(result, threshold)
        return PageUpdate({**counted.slots, "image0": html.image(image, alt, side=side)}, counted.counts, result)

    def video(self, path: str | None, threshold: float) -> Iterator[str | PageUpdate]:
        """Handle a video: yield its progress after each frame, and the update of the page at the end."""
        found: list[FrameFaces] = []
        images: list[str] = []
        try:
            for frame in uploads.read_video(uploads.inside(self.folder, path), self.limits):
                found.append(self.finder.find(frame.image, frame.time))
                alt = f"Your video at {html.clock(frame.time)}"
                images.append(html.image(frame.image, alt, side=_FRAME_SIDE))
                yield html.note(f"{len(found)} frames processed, now at {html.clock(frame.time)}.")
        except Exception as error:  # noqa: BLE001 - a visitor gets a message, whatever happens
            yield _failed(error, FRAMES)
            return
        finally:
            uploads.discard_inside(self.folder, path)
        result = SessionResult(tuple(found), is_video=True)
        counted = recount(result, threshold)
        shown = {f"image{slot}": images[number] for slot, number in enumerate(spread(len(found), FRAMES))}
        yield PageUpdate({**empty_slots(FRAMES), **counted.slots, **shown}, counted.counts, result)


def recount(result: SessionResult | None, threshold: float) -> PageUpdate:
    """Count the kept faces above a threshold: return the boxes and the counts, without the images."""
    if result is None:
        return PageUpdate(empty_slots(FRAMES), html.note(_NOTHING), None)
    faces = [above_threshold(one.faces, threshold) for one in result.frames]
    slots = {}
    for slot, number in enumerate(spread(len(faces), FRAMES)):
        slots[f"boxes{slot}"] = html.boxes(faces[number], result.frames[number].size)
        slots[f"name{slot}"] = f"at {html.clock(result.frames[number].time)}" if result.is_video else ""
    counts = [count_faces(one) for one in faces]
    if result.is_video:
        return PageUpdate(slots, html.video_counts([one.time for one in result.frames], counts, threshold), result)
    return PageUpdate(slots, html.image_counts(counts[0], threshold, result.note), result)


def spread(length: int, most: int) -> list[int]:
    """Return up to `most` of the numbers 0 to length - 1, evenly spaced, with the first and the last."""
    if length <= most:
        return list(range(length))
    return [round(number * (length - 1) / (most - 1)) for number in range(most)]


def _guarded(update: Callable[[], PageUpdate], count: int) -> PageUpdate:
    """Return the update, or an error message for this many images."""
    try:
        return update()
    except Exception as error:  # noqa: BLE001 - a visitor gets a message, whatever happens
        return _failed(error, count)


def _failed(error: Exception, count: int) -> PageUpdate:
    """Return an error message instead of images: what the visitor can fix, never a traceback."""
    if isinstance(error, FmaskError):
        return PageUpdate(empty_slots(count), html.problem(str(error)), None)
    _log.error("a request failed", exc_info=error)
    return PageUpdate(empty_slots(count), html.problem("Something went wrong on the server. Try again."), None)
