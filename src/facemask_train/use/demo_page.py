"""The demo's page: picture, webcam and video, each with its threshold, its counts and what they do not say.

A picture is asked about once; another threshold counts the answers anew, which the session keeps for 20 minutes. The
page gets pictures as data in itself, so the server writes none. Knows no run and no port.
"""

from __future__ import annotations

import base64
import logging
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from facemask_train.detect import Detection
from facemask_train.errors import FmaskError
from facemask_train.use import parts, uploads
from facemask_train.use.statement import Statement
from facemask_train.use.tally import Tally, above, count, one_each

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from facemask_train.inference import Detector

_log = logging.getLogger(__name__)

LOWEST = 0.05
"""The lowest confidence that the model is asked for, and that the threshold can be set to."""

IDLE = 20 * 60
CLOSED = 2 * 60
"""Seconds for which an idle page keeps what was found, and a closed one (a phone may only have turned away)."""

_SHOWN_FRAMES = 6
_FRAME_SIDE = 640
_EXAMPLES = (3, 7, 12, 20)
_NOTHING = "There is nothing to count here: send a picture first (what was found is forgotten after 20 minutes)."


@dataclass(frozen=True, slots=True)
class Served:
    """What the page is about: a loaded model, what is known of it, and the threshold to start from."""

    detector: Detector
    said: Statement
    confidence: float

    @property
    def lowest(self) -> float:
        return min(LOWEST, self.confidence)


@dataclass(frozen=True, slots=True)
class Seen:
    """What was found in a picture, or in a frame at this time: all that is kept of it."""

    size: parts.Size
    faces: tuple[Detection, ...]
    time: float = 0.0

    def above(self, threshold: float) -> tuple[Detection, ...]:
        return above(self.faces, threshold)


class Asker:
    """Asks the model one picture at a time: torch uses every core for one, so two at once gain nothing."""

    def __init__(self, served: Served) -> None:
        self._served, self._lock = served, threading.Lock()

    def ask(self, picture: NDArray[Any], time: float = 0.0) -> Seen:
        with self._lock:
            found = next(iter(self._served.detector.answers([picture], confidence=self._served.lowest)))
        return Seen((picture.shape[1], picture.shape[0]), one_each(found), time)


def examples() -> list[tuple[NDArray[Any], Tally]]:
    """Return the example pictures, (h, w, 3) RGB, with the true counts."""
    from facemask_train.sources.scenes import draw_scene

    scenes = [draw_scene(Random(f"fmask demo {number}")) for number in _EXAMPLES]
    return [
        (scene.picture, Tally(masked := sum(face.kind == "mask" for face in scene.faces), len(scene.faces) - masked))
        for scene in scenes
    ]


# ---- what each tab answers ----


def _told(error: Exception) -> str:
    """Return what a visitor is told of an error: what is theirs to mend, and never a traceback."""
    if isinstance(error, FmaskError):
        return str(error)
    _log.error("an answer failed", exc_info=error)
    return "Something went wrong here; it is not your file's fault. Try once more."


@dataclass(frozen=True, slots=True)
class Answers:
    """What the page's events call. Each returns the updates of a panel: picture, counts, what was found."""

    asker: Asker
    limits: uploads.Limits
    drawn: Sequence[tuple[NDArray[Any], Tally]]

    def upload(self, path: str | None, threshold: float) -> tuple[Any, ...]:
        """Answer an uploaded picture, and empty the field that it came in."""
        if path is None:
            return (*_refused("No file came with this. Choose a picture."), None)
        try:
            picture = uploads.read_picture(uploads.take(Path(path)), self.limits)
            return (*self._answer(picture, threshold, "Your picture"), None)
        except Exception as error:  # noqa: BLE001 - the page's last line of defence
            return (*_refused(_told(error)), None)

    def example(self, threshold: float, number: int) -> tuple[Any, ...]:
        picture, true = self.drawn[number % len(self.drawn)]
        return self._answer(picture, threshold, f"A drawn picture: {true.mask} with a mask, {true.no_mask} without")

    def snapshot(self, taken: bytes | None, threshold: float) -> tuple[Any, ...]:
        """Answer a frame of the webcam."""
        if taken is None:
            return _unchanged()
        try:
            picture = uploads.read_picture(taken, self.limits)
            return self._answer(picture, threshold, "A frame of your webcam", side=_FRAME_SIDE)
        except Exception as error:  # noqa: BLE001 - the page's last line of defence
            return _refused(_told(error))

    def _answer(self, picture: NDArray[Any], threshold: float, alt: str, **how: Any) -> tuple[Any, ...]:
        import gradio as gr

        seen = self.asker.ask(picture)
        faces = seen.above(threshold)
        update = gr.HTML(picture=parts.shown(picture, alt, **how), boxes=parts.boxes(faces, seen.size))
        return update, parts.counted(count(faces), threshold), seen

    def video(self, path: str | None, threshold: float) -> Iterator[tuple[Any, ...]]:
        """Answer a video frame by frame, saying how far it is, and at the end with the chart and some frames."""
        if path is None:
            yield (*_refused("No file came with this. Choose a video."), None)
            return
        seen: list[Seen] = []
        pictures: list[str] = []
        try:
            for frame in uploads.read_video(Path(path), self.limits):
                seen.append(self.asker.ask(frame.picture, frame.time))
                alt = f"Your video at {parts.clock(frame.time)}"
                pictures.append(parts.shown(frame.picture, alt, side=_FRAME_SIDE))
                yield _working(f"{len(seen)} frames looked at, now at {parts.clock(frame.time)}.")
        except Exception as error:  # noqa: BLE001 - the page's last line of defence
            yield (*_refused(_told(error)), None)
            return
        finally:
            uploads.discard(Path(path))
        picked = spread(len(seen), _SHOWN_FRAMES)
        props = {f"picture{slot}": pictures[number] for slot, number in enumerate(picked)}
        yield (*_of_video(seen, threshold, props), tuple(seen), None)


def again(seen: Seen | None, threshold: float) -> tuple[Any, ...]:
    """Count what was found in a picture anew, above another threshold."""
    import gradio as gr

    if seen is None:
        return gr.HTML(picture="", boxes=""), parts.note(_NOTHING)
    faces = seen.above(threshold)
    return gr.HTML(boxes=parts.boxes(faces, seen.size)), parts.counted(count(faces), threshold)


def video_again(seen: tuple[Seen, ...] | None, threshold: float) -> tuple[Any, ...]:
    """Count what was found in a video anew, above another threshold."""
    import gradio as gr

    if not seen:
        return gr.HTML(**_EMPTY), parts.note(_NOTHING)
    return _of_video(seen, threshold, {})


def _of_video(seen: Sequence[Seen], threshold: float, props: dict[str, str]) -> tuple[Any, Any]:
    import gradio as gr

    picked = spread(len(seen), _SHOWN_FRAMES)
    faces = [one.above(threshold) for one in seen]
    overlays = {f"boxes{slot}": parts.boxes(faces[number], seen[number].size) for slot, number in enumerate(picked)}
    names = {f"name{slot}": f"at {parts.clock(seen[number].time)}" for slot, number in enumerate(picked)}
    empty = {f"picture{slot}": "" for slot in range(len(picked), _SHOWN_FRAMES)} if props else {}
    return gr.HTML(**props, **empty, **overlays, **names), summed(seen, threshold)


def summed(seen: Sequence[Seen], threshold: float) -> str:
    """Return the counts of a video's frames: summed, and over time."""
    tallies = [count(one.above(threshold)) for one in seen]
    total = Tally(sum(one.mask for one in tallies), sum(one.no_mask for one in tallies))
    said = (
        f"{total.faces} sightings in {len(seen)} frames above confidence {threshold:.2f}. A person who stays in view "
        "is counted in each frame. The rate is uncorrected: faces that the model missed or misread are not made good."
    )
    return parts.totals(total, said) + parts.chart([one.time for one in seen], tallies)


def spread(length: int, most: int) -> list[int]:
    """Return at most so many of the numbers 0 to length - 1, the first and the last among them."""
    if length <= most:
        return list(range(length))
    return [round(number * (length - 1) / (most - 1)) for number in range(most)]


_EMPTY = {"picture": "", "boxes": ""} | {
    f"{kind}{slot}": "" for slot in range(_SHOWN_FRAMES) for kind in ("picture", "boxes", "name")
}
"""No picture in any panel's slots."""


def _refused(message: str) -> tuple[Any, ...]:
    import gradio as gr

    return gr.HTML(**_EMPTY), parts.problem(message), None


def _working(message: str) -> tuple[Any, ...]:
    import gradio as gr

    return gr.skip(), parts.note(message), gr.skip(), gr.skip()


def _unchanged() -> tuple[Any, ...]:
    import gradio as gr

    return gr.skip(), gr.skip(), gr.skip()


# ---- the page ----


def build(served: Served, limits: uploads.Limits) -> Any:
    """Return the page as Gradio blocks."""
    import gradio as gr

    answers = Answers(Asker(served), limits, examples())
    with gr.Blocks(title="fmask: who wears a mask?", analytics_enabled=False) as page:
        gr.HTML(parts.opening(served.said))
        with gr.Tabs():
            with gr.Tab("Picture"):
                _picture_tab(answers, served)
            with gr.Tab("Webcam"):
                _webcam_tab(answers, served)
            with gr.Tab("Video"):
                _video_tab(answers, served)
        gr.HTML(parts.statement(served.said, _kept(limits)))
    return page


def _kept(limits: uploads.Limits) -> str:
    return (
        "Nothing that you send is kept: a file is read once and deleted, its EXIF data (place, camera, time) is "
        "dropped, and only the boxes that were found stay in memory, for 20 minutes. Taken are pictures up to "
        f"{limits.megabytes} MB and {limits.megapixels} megapixels, and videos up to {limits.megabytes} MB, of which "
        f"{limits.frames} frames of the first {limits.seconds} seconds are looked at."
    )


_HOW = {"api_visibility": "private", "show_progress": "minimal"}
_QUICK: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden", "trigger_mode": "always_last"}


def _picture_tab(answers: Answers, served: Served) -> None:
    import gradio as gr

    given = gr.File(label="Choose a picture, or drop it here", file_types=["image"], height=140)
    given.preprocess = _path_of
    panel = _panel(served)
    given.upload(answers.upload, [given, panel.threshold], [*panel.outputs, given], concurrency_limit=2, **_HOW)
    drawn = gr.HTML(parts.examples(answers.drawn), js_on_load=_CHOOSE)

    def chosen(threshold: float, event: Any) -> tuple[Any, ...]:
        return answers.example(threshold, int(event.number))

    chosen.__annotations__["event"] = gr.EventData  # Gradio looks for it; a name inside a function it cannot resolve
    drawn.click(chosen, panel.threshold, panel.outputs, concurrency_limit=2, **_HOW)


_CHOOSE = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-number]');
  if (button) trigger('click', {number: Number(button.dataset.number)});
});
"""


def _webcam_tab(answers: Answers, served: Served) -> None:
    import gradio as gr

    camera = gr.Image(
        label="Webcam: a frame each second is counted, none is kept",
        sources=["webcam"],
        streaming=True,
        webcam_options=gr.WebcamOptions(mirror=False),
        height=300,
    )
    camera.preprocess = _bytes_of
    panel = _panel(served)
    camera.stream(
        answers.snapshot,
        [camera, panel.threshold],
        panel.outputs,
        stream_every=1.0,
        time_limit=60,
        concurrency_limit=10,
        api_visibility="private",
        show_progress="hidden",
    )


_FRAME = '<figure><div class="fm-stage">${picture#}${boxes#}</div><figcaption>${name#}</figcaption></figure>'


def _video_tab(answers: Answers, served: Served) -> None:
    import gradio as gr

    given = gr.File(label="Choose a video, or drop it here", file_types=["video"], height=140)
    given.preprocess = _path_of
    slots = range(_SHOWN_FRAMES)
    template = "".join(_FRAME.replace("#", str(n)) for n in slots)
    props = {f"{kind}{n}": "" for n in slots for kind in ("picture", "boxes", "name")}
    panel = _panel(served, f'<div class="fm-frames">{template}</div>', props, video_again, below=True)
    given.upload(answers.video, [given, panel.threshold], [*panel.outputs, given], concurrency_limit=1, **_HOW)


@dataclass(frozen=True, slots=True)
class Panel:
    """Where an answer is shown: the threshold, and the outputs (picture, counts, what was found)."""

    threshold: Any
    outputs: list[Any]


_STAGE = '<div class="fm-stage">${picture}${boxes}</div>'


def _panel(
    served: Served,
    template: str = _STAGE,
    props: dict[str, str] | None = None,
    count_again: Any = again,
    *,
    below: bool = False,
) -> Panel:
    """Lay out a panel whose threshold counts anew without asking the model again."""
    import gradio as gr

    def stage() -> Any:
        return gr.HTML(
            html_template=template, js_on_load=None, **({"picture": "", "boxes": ""} if props is None else props)
        )

    picture = None if below else stage()
    counts = gr.HTML()
    threshold = gr.Slider(
        served.lowest,
        1,
        value=round(served.confidence, 2),
        step=0.01,
        label="Threshold: answers less sure than this do not count",
    )
    picture = picture or stage()
    seen = gr.State(None)
    threshold.input(count_again, [seen, threshold], [picture, counts], concurrency_limit=4, **_QUICK)
    return Panel(threshold, [picture, counts, seen])


def _path_of(payload: Any) -> str | None:
    """Return where an upload lies; the stock field would make a second file."""
    return None if payload is None else payload.path


def _bytes_of(payload: Any) -> bytes | None:
    """Return a webcam's frame as it came; the stock field would decode it, and write it to the disk."""
    if payload is None:
        return None
    if payload.url and payload.url.startswith("data:"):
        return base64.b64decode(payload.url.partition(",")[2])
    return uploads.take(Path(payload.path)) if payload.path else None


# ---- what is forgotten ----


def forget(page: Any, idle: float = IDLE, closed: float = CLOSED) -> None:
    """Drop what Gradio remembers of sessions that have been idle, or closed, for so many seconds."""
    holder, now = page.state_holder, datetime.now()
    with holder.lock:
        for key, session in list(holder.session_data.items()):
            since = (now - holder.time_last_used.get(key, now)).total_seconds()
            if since > (closed if session.is_closed else idle):
                holder.session_data.pop(key, None)
                holder.time_last_used.pop(key, None)


def warm_up(detector: Detector) -> None:
    """Ask the model once about nothing: the first answer of a process takes longer than the others."""
    import numpy as np

    next(iter(detector.answers([np.zeros((detector.imgsz, detector.imgsz, 3), np.uint8)])))
