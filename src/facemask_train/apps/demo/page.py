"""The demo's page in Gradio: tabs for an image, a webcam and a video, and facts about the model below them.

Images are embedded in the page as data, so the server writes none of them to its disk.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from facemask_train.apps.demo import handlers as demo_handlers
from facemask_train.apps.demo import html, uploads
from facemask_train.apps.demo.handlers import FRAMES, FaceFinder, Handlers, PageUpdate, ServedModel, recount

IDLE, CLOSED = 20 * 60, 2 * 60
"""Seconds after which the results of an idle page, and of a closed one, are deleted. A phone may reopen a page."""

WAITING = 15 * 60
"""Seconds after which an upload is deleted whose visitor left before it was processed."""

_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_VISIBLE: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
_SLOT = '<figure><div class="fm-stage">${image#}${boxes#}</div><figcaption>${name#}</figcaption></figure>'
_CHOSEN_BY = {
    "val": "chosen on the validation images",
    "export": "chosen on the validation images, according to the model's file",
    "user": "set by the person who runs this page",
    "default": "the default, because no evaluation chose one",
}
_CHOOSE = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-number]');
  if (button) trigger('click', {number: Number(button.dataset.number)});
});
"""


def build(served: ServedModel, limits: uploads.Limits, folder: Path) -> Any:
    """Return the page as Gradio blocks. Gradio has to store uploads in `folder`."""
    import gradio as gr

    handlers = Handlers(FaceFinder(served), limits, folder, demo_handlers.examples())
    handlers.finder.warm_up()
    with gr.Blocks(title="fmask: who wears a mask?", analytics_enabled=False) as page:
        gr.HTML(html.header(served.facts))
        with gr.Tabs():
            with gr.Tab("Image"):
                _image_tab(handlers, served)
            with gr.Tab("Webcam"):
                _webcam_tab(handlers, served)
            with gr.Tab("Video"):
                _video_tab(handlers, served)
        gr.HTML(html.model_facts(served.facts, _privacy(limits)))
    return page


def _privacy(limits: uploads.Limits) -> str:
    return (
        "A file that you send is read once and then deleted. If you leave before it is processed, it is deleted within "
        f"{WAITING // 60} minutes. Its EXIF data (place, camera, time) is not used. The results stay in memory, never "
        f"on a disk, until the page has been closed for {CLOSED // 60} minutes or idle for {IDLE // 60} minutes. "
        f"Images may have up to {limits.megabytes} MB and {limits.megapixels} megapixels, videos up to "
        f"{limits.megabytes} MB; of a video, up to {limits.frames} frames of the first {limits.seconds} seconds are "
        "processed."
    )


# ---- the tabs ----


def _image_tab(handlers: Handlers, served: ServedModel) -> None:
    import gradio as gr

    given = _file_field("Choose an image, or drop it here", "image")
    panel = _panel(served, 1, handlers.example(0, served.confidence))

    def uploaded(path: str | None, threshold: float) -> list[Any]:
        return [*_updates(handlers.image(path, threshold)), None]  # empties the field

    given.upload(uploaded, [given, panel.threshold], [*panel.outputs, given], concurrency_limit=2, **_VISIBLE)
    drawn = gr.HTML(html.examples(handlers.examples), js_on_load=_CHOOSE)

    def chosen(threshold: float, event: Any) -> list[Any]:
        return _updates(handlers.example(int(event.number), threshold))

    chosen.__annotations__["event"] = gr.EventData  # Gradio cannot resolve a name that is local to a function
    drawn.click(chosen, panel.threshold, panel.outputs, concurrency_limit=2, **_VISIBLE)


def _webcam_tab(handlers: Handlers, served: ServedModel) -> None:
    import gradio as gr

    camera = gr.Image(
        label="Webcam: one frame per second is counted, none is stored",
        sources=["webcam"],
        streaming=True,
        webcam_options=gr.WebcamOptions(mirror=False),
        height=300,
    )
    camera.preprocess = _bytes_of
    panel = _panel(served, 1)

    def streamed(frame: bytes | None, threshold: float) -> list[Any]:
        return [gr.skip()] * 3 if frame is None else _updates(handlers.frame(frame, threshold))

    # A stream keeps its place in the queue while it runs; its frames wait for the model like any other image.
    limits = {"stream_every": 1.0, "time_limit": 120, "concurrency_limit": 10}
    camera.stream(streamed, [camera, panel.threshold], panel.outputs, **limits, **_QUIET)


def _video_tab(handlers: Handlers, served: ServedModel) -> None:
    import gradio as gr

    given = _file_field("Choose a video, or drop it here", "video")
    panel = _panel(served, FRAMES)

    def uploaded(path: str | None, threshold: float) -> Iterator[list[Any]]:
        for one in handlers.video(path, threshold):
            yield [gr.skip(), one, gr.skip()] if isinstance(one, str) else _updates(one)

    done = given.upload(uploaded, [given, panel.threshold], panel.outputs, concurrency_limit=1, **_VISIBLE)
    done.then(lambda: None, None, given, **_QUIET)


def _file_field(label: str, kind: str) -> Any:
    """Return a field for one file that gives the upload's path. Gradio's own preprocessing would make a second file."""
    import gradio as gr

    field = gr.File(label=label, file_types=[kind], height=140)
    field.preprocess = lambda payload: None if payload is None else payload.path
    return field


def _bytes_of(payload: Any) -> bytes | None:
    """Return a webcam's frame as sent. Gradio's own preprocessing would write it to the disk."""
    if payload is None or not (payload.url or "").startswith("data:"):
        return None
    return base64.b64decode(payload.url.partition(",")[2])


# ---- results ----


@dataclass(frozen=True, slots=True)
class Panel:
    """The threshold, and the outputs of a request: images, counts, the kept result."""

    threshold: Any
    outputs: list[Any]


def _panel(served: ServedModel, count: int, first: PageUpdate | None = None) -> Panel:
    """Lay out images, counts and a threshold. Moving it counts again without running the model.

    Args:
        count: how many images are shown.
        first: what is shown before the first request.
    """
    import gradio as gr

    first = first or PageUpdate({}, html.note("The counts appear here."), None)
    template = (
        f'<div class="fm-frames fm-{count}">' + "".join(_SLOT.replace("#", str(n)) for n in range(count)) + "</div>"
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            shown = gr.HTML(
                html_template=template,
                js_on_load=None,
                **(demo_handlers.empty_slots(count) | _own_slots(first.slots, count)),
            )
        with gr.Column(scale=2, min_width=300):
            counts = gr.HTML(first.counts)
            threshold = gr.Slider(
                round(served.min_confidence, 2),
                1,
                value=round(served.confidence, 2),
                step=0.01,
                label="Confidence threshold",
                info=f"Less confident detections do not count. It starts at {served.confidence:.2f}, "
                f"{_CHOSEN_BY[served.threshold.chosen]}.",
            )
    result = gr.State(first.result)

    def again(kept: Any, chosen: float) -> list[Any]:
        update = recount(kept, chosen)
        return [gr.HTML(**_own_slots(update.slots, count)), update.counts]

    threshold.input(
        again, [result, threshold], [shown, counts], trigger_mode="always_last", concurrency_limit=4, **_QUIET
    )
    return Panel(threshold, [shown, counts, result])


def _own_slots(slots: dict[str, str], count: int) -> dict[str, str]:
    """Return the slots that a panel with this many images has."""
    return {key: slots[key] for key in demo_handlers.empty_slots(count) if key in slots}


def _updates(update: PageUpdate) -> list[Any]:
    import gradio as gr

    return [gr.HTML(**update.slots), update.counts, update.result]


# ---- sessions ----


def drop_sessions(page: Any, idle: float = IDLE, closed: float = CLOSED) -> None:
    """Delete the results of sessions that have been idle, or closed, for this many seconds."""
    holder, now = page.state_holder, datetime.now()
    with holder.lock:
        for key, session in list(holder.session_data.items()):
            since = (now - holder.time_last_used.get(key, now)).total_seconds()
            if since > (closed if session.is_closed else idle):
                holder.session_data.pop(key, None)
                holder.time_last_used.pop(key, None)
