"""What the demo answers to an image, a webcam's frame or a video, and to another threshold. Knows no Gradio.

An image is asked about once. What was found is kept, so another threshold counts the answers anew without the model.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from facemask_train.apps.demo import html, uploads
from facemask_train.apps.demo.counts import Tally, above, count
from facemask_train.apps.model_facts import Statement
from facemask_train.core.errors import FmaskError
from facemask_train.core.types import Detection
from facemask_train.eval.thresholds import Threshold
from facemask_train.model.detector import one_per_face
from facemask_train.model.validation import Predictor

if TYPE_CHECKING:
    from numpy.typing import NDArray

    ImageArray = NDArray[Any]

_log = logging.getLogger(__name__)

LOWEST = 0.05
"""The lowest confidence that the model is asked for, and that the threshold can be set to."""

FRAMES = 6
"""How many frames of a video are shown."""

_FRAME_SIDE = 640
_EXAMPLES = (3, 7, 12, 20)
_NOTHING = "There is nothing to count here: send something first (what was found is forgotten after 20 minutes)."


@dataclass(frozen=True, slots=True)
class Served:
    """What the page is about: a loaded model, what is known of it, and the threshold to start from."""

    detector: Predictor
    said: Statement
    start: Threshold

    @property
    def confidence(self) -> float:
        return self.start.value

    @property
    def lowest(self) -> float:
        return min(LOWEST, self.confidence)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found in an image, or in a frame at this time (seconds): its size and its faces."""

    size: html.Size
    faces: tuple[Detection, ...]
    time: float = 0.0


@dataclass(frozen=True, slots=True)
class Found:
    """All that is kept of what was sent: an image, or frames `over_time`; and what stands beside its counts."""

    seen: tuple[Seen, ...]
    over_time: bool = False
    aside: str = ""


@dataclass(frozen=True, slots=True)
class Reply:
    """What changes on the page: slots by name (`image0`, `boxes0`, `name0`, ...), the counts, and what is kept."""

    slots: dict[str, str]
    counts: str
    found: Found | None


def slots(number: int) -> dict[str, str]:
    """Return the slots of so many images, all empty."""
    return {f"{kind}{slot}": "" for slot in range(number) for kind in ("image", "boxes", "name")}


class Asker:
    """Asks the model one image at a time: torch uses every core for one, so two at once gain nothing."""

    def __init__(self, served: Served) -> None:
        self._served, self._lock = served, threading.Lock()

    def ask(self, image: ImageArray, time: float = 0.0) -> Seen:
        """Return what is found in an image (h, w, 3; RGB)."""
        with self._lock:
            answers = next(iter(self._served.detector.predict([image], confidence=self._served.lowest)))
        return Seen((image.shape[1], image.shape[0]), one_per_face(answers), time)

    def warm_up(self) -> None:
        """Ask about nothing: the first answer of a process takes longer than the others."""
        import numpy as np

        side = self._served.detector.imgsz
        self.ask(np.zeros((side, side, 3), np.uint8))


def examples() -> list[tuple[ImageArray, Tally]]:
    """Return the example images, (h, w, 3) RGB, with the true counts."""
    from facemask_train.sources.sample.scenes import draw_scene

    scenes = [draw_scene(Random(f"fmask demo {number}")) for number in _EXAMPLES]
    masked = [sum(face.kind == "mask" for face in scene.faces) for scene in scenes]
    return [(scene.image, Tally(mask, len(scene.faces) - mask)) for scene, mask in zip(scenes, masked, strict=True)]


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers what a visitor sends. `folder` is where uploads lie: nothing outside of it is read or removed."""

    asker: Asker
    limits: uploads.Limits
    folder: Path
    drawn: Sequence[tuple[ImageArray, Tally]]

    def image(self, path: str | None, threshold: float) -> Reply:
        """Answer an uploaded image."""
        return _guarded(lambda: self._uploaded(path, threshold), 1)

    def _uploaded(self, path: str | None, threshold: float) -> Reply:
        content = uploads.take(uploads.inside(self.folder, path))
        return self._answer(uploads.read_image(content, self.limits), threshold, "Your image")

    def example(self, number: int, threshold: float) -> Reply:
        """Answer an image that the project drew, and say what is drawn in it."""
        image, true = self.drawn[number % len(self.drawn)]
        said = f"Drawn are {true.mask} with a mask and {true.no_mask} without."
        return _guarded(lambda: self._answer(image, threshold, f"An example image. {said}", aside=said), 1)

    def frame(self, content: bytes, threshold: float) -> Reply:
        """Answer a frame of a webcam."""

        def answer() -> Reply:
            image = uploads.read_image(content, self.limits)
            return self._answer(image, threshold, "A frame of your webcam", side=_FRAME_SIDE)

        return _guarded(answer, 1)

    def _answer(
        self, image: ImageArray, threshold: float, alt: str, *, aside: str = "", side: int = html.SIDE
    ) -> Reply:
        found = Found((self.asker.ask(image),), aside=aside)
        counted = recount(found, threshold)
        return Reply({**counted.slots, "image0": html.shown(image, alt, side=side)}, counted.counts, found)

    def video(self, path: str | None, threshold: float) -> Iterator[str | Reply]:
        """Answer a video: how far it is, again and again, and at the end the reply."""
        seen: list[Seen] = []
        images: list[str] = []
        try:
            for frame in uploads.read_video(uploads.inside(self.folder, path), self.limits):
                seen.append(self.asker.ask(frame.image, frame.time))
                alt = f"Your video at {html.clock(frame.time)}"
                images.append(html.shown(frame.image, alt, side=_FRAME_SIDE))
                yield html.note(f"{len(seen)} frames looked at, now at {html.clock(frame.time)}.")
        except Exception as error:  # noqa: BLE001 - a visitor gets a message, whatever happens
            yield _refused(error, FRAMES)
            return
        finally:
            uploads.discard_inside(self.folder, path)
        found = Found(tuple(seen), over_time=True)
        counted = recount(found, threshold)
        shown = {f"image{slot}": images[number] for slot, number in enumerate(spread(len(seen), FRAMES))}
        yield Reply({**slots(FRAMES), **counted.slots, **shown}, counted.counts, found)


def recount(found: Found | None, threshold: float) -> Reply:
    """Count what was found above a threshold: the boxes and the counts, without the images."""
    if found is None:
        return Reply(slots(FRAMES), html.note(_NOTHING), None)
    faces = [above(one.faces, threshold) for one in found.seen]
    changed = {}
    for slot, number in enumerate(spread(len(faces), FRAMES)):
        changed[f"boxes{slot}"] = html.boxes(faces[number], found.seen[number].size)
        changed[f"name{slot}"] = f"at {html.clock(found.seen[number].time)}" if found.over_time else ""
    tallies = [count(one) for one in faces]
    if found.over_time:
        return Reply(changed, html.over_time([one.time for one in found.seen], tallies, threshold), found)
    return Reply(changed, html.counted(tallies[0], threshold, found.aside), found)


def spread(length: int, most: int) -> list[int]:
    """Return at most so many of the numbers 0 to length - 1, at equal distances, the first and the last among them."""
    if length <= most:
        return list(range(length))
    return [round(number * (length - 1) / (most - 1)) for number in range(most)]


def _guarded(answer: Callable[[], Reply], number: int) -> Reply:
    """Return the answer, or what a visitor is told where there is none."""
    try:
        return answer()
    except Exception as error:  # noqa: BLE001 - a visitor gets a message, whatever happens
        return _refused(error, number)


def _refused(error: Exception, number: int) -> Reply:
    """Return a message instead of images: what is theirs to mend, never a traceback."""
    if isinstance(error, FmaskError):
        return Reply(slots(number), html.problem(str(error)), None)
    _log.error("an answer failed", exc_info=error)
    return Reply(slots(number), html.problem("Something went wrong on our side. Try once more."), None)
