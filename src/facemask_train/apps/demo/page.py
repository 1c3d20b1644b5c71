"""The demo's page, laid out with Gradio: image, webcam and video, and what is known of the model below them.

Images reach the page as data in itself, so the server writes none to its disk. Knows no run and no port.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from facemask_train.apps.demo import answers as demo_answers
from facemask_train.apps.demo import html, uploads
from facemask_train.apps.demo.answers import FRAMES, Answers, Asker, Reply, Served, recount

IDLE, CLOSED = 20 * 60, 2 * 60
"""Seconds for which an idle page keeps what was found, and a closed one (a phone may only have turned away)."""

WAITING = 15 * 60
"""Seconds after which an upload that nobody asked about is removed: its visitor left before it was answered."""

_QUIET: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}
_SEEN: dict[str, Any] = {"api_visibility": "private", "show_progress": "minimal"}
_SLOT = '<figure><div class="fm-stage">${image#}${boxes#}</div><figcaption>${name#}</figcaption></figure>'
_WHY = {
    "val": "chosen on the validation images",
    "export": "chosen on the validation images, as the model's file says",
    "user": "set by whoever serves this page",
    "default": "the usual default, as nothing chose one",
}
_CHOOSE = """
element.addEventListener('click', (event) => {
  const button = event.target.closest('button[data-number]');
  if (button) trigger('click', {number: Number(button.dataset.number)});
});
"""


def build(served: Served, limits: uploads.Limits, folder: Path) -> Any:
    """Return the page as Gradio blocks; uploads are expected in `folder`."""
    import gradio as gr

    answers = Answers(Asker(served), limits, folder, demo_answers.examples())
    answers.asker.warm_up()
    with gr.Blocks(title="fmask: who wears a mask?", analytics_enabled=False) as page:
        gr.HTML(html.opening(served.said))
        with gr.Tabs():
            with gr.Tab("Image"):
                _image_tab(answers, served)
            with gr.Tab("Webcam"):
                _webcam_tab(answers, served)
            with gr.Tab("Video"):
                _video_tab(answers, served)
        gr.HTML(html.statement(served.said, _kept(limits)))
    return page


def _kept(limits: uploads.Limits) -> str:
    return (
        "A file that you send is read once and deleted; if you leave before its turn, it is deleted within "
        f"{WAITING // 60} minutes. Its EXIF data (place, camera, time) is dropped. What you see here stays in memory, "
        f"never on a disk, until the page has been closed for {CLOSED // 60} minutes or idle for {IDLE // 60}. Taken "
        f"are images up to {limits.megabytes} MB and {limits.megapixels} megapixels, and videos up to "
        f"{limits.megabytes} MB, of which at most {limits.frames} frames of the first {limits.seconds} seconds are "
        "looked at."
    )


# ---- the tabs ----


def _image_tab(answers: Answers, served: Served) -> None:
    import gradio as gr

    given = _file_field("Choose an image, or drop it here", "image")
    panel = _panel(served, 1, answers.example(0, served.confidence))

    def uploaded(path: str | None, threshold: float) -> list[Any]:
        return [*_updates(answers.image(path, threshold)), None]  # and the field is empty again

    given.upload(uploaded, [given, panel.threshold], [*panel.outputs, given], concurrency_limit=2, **_SEEN)
    drawn = gr.HTML(html.examples(answers.drawn), js_on_load=_CHOOSE)

    def chosen(threshold: float, event: Any) -> list[Any]:
        return _updates(answers.example(int(event.number), threshold))

    chosen.__annotations__["event"] = gr.EventData  # Gradio looks for it, and finds no name inside a function
    drawn.click(chosen, panel.threshold, panel.outputs, concurrency_limit=2, **_SEEN)


def _webcam_tab(answers: Answers, served: Served) -> None:
    import gradio as gr

    camera = gr.Image(
        label="Webcam: one frame a second is counted, none is kept",
        sources=["webcam"],
        streaming=True,
        webcam_options=gr.WebcamOptions(mirror=False),
        height=300,
    )
    camera.preprocess = _bytes_of
    panel = _panel(served, 1)

    def streamed(frame: bytes | None, threshold: float) -> list[Any]:
        return [gr.skip()] * 3 if frame is None else _updates(answers.frame(frame, threshold))

    # A stream holds its place in the queue while it runs; its frames wait for the model like everybody's images.
    limits = {"stream_every": 1.0, "time_limit": 120, "concurrency_limit": 10}
    camera.stream(streamed, [camera, panel.threshold], panel.outputs, **limits, **_QUIET)


def _video_tab(answers: Answers, served: Served) -> None:
    import gradio as gr

    given = _file_field("Choose a video, or drop it here", "video")
    panel = _panel(served, FRAMES)

    def uploaded(path: str | None, threshold: float) -> Iterator[list[Any]]:
        for said in answers.video(path, threshold):
            yield [gr.skip(), said, gr.skip()] if isinstance(said, str) else _updates(said)

    done = given.upload(uploaded, [given, panel.threshold], panel.outputs, concurrency_limit=1, **_SEEN)
    done.then(lambda: None, None, given, **_QUIET)


def _file_field(label: str, kind: str) -> Any:
    """Return a field for one file, which gives the path of the upload; the stock field would make a second file."""
    import gradio as gr

    field = gr.File(label=label, file_types=[kind], height=140)
    field.preprocess = lambda payload: None if payload is None else payload.path
    return field


def _bytes_of(payload: Any) -> bytes | None:
    """Return a webcam's frame as it came; the stock field would decode it, and write it to the disk."""
    if payload is None or not (payload.url or "").startswith("data:"):
        return None
    return base64.b64decode(payload.url.partition(",")[2])


# ---- where answers are shown ----


@dataclass(frozen=True, slots=True)
class Panel:
    """Where an answer is shown: the threshold, and the outputs (images, counts, what was found)."""

    threshold: Any
    outputs: list[Any]


def _panel(served: Served, number: int, first: Reply | None = None) -> Panel:
    """Lay out images, counts and a threshold that counts anew without asking the model again.

    Args:
        first: what is shown before anything was sent.
    """
    import gradio as gr

    first = first or Reply({}, html.note("The counts will stand here."), None)
    template = (
        f'<div class="fm-frames fm-{number}">' + "".join(_SLOT.replace("#", str(n)) for n in range(number)) + "</div>"
    )
    with gr.Row(equal_height=False):
        with gr.Column(scale=3, min_width=300):
            shown = gr.HTML(
                html_template=template, js_on_load=None, **(demo_answers.slots(number) | _known(first.slots, number))
            )
        with gr.Column(scale=2, min_width=300):
            counts = gr.HTML(first.counts)
            threshold = gr.Slider(
                round(served.lowest, 2),
                1,
                value=round(served.confidence, 2),
                step=0.01,
                label="Threshold: answers less sure than this do not count",
                info=f"It starts at {served.confidence:.2f}: {_WHY[served.start.chosen]}.",
            )
    found = gr.State(first.found)

    def again(kept: Any, chosen: float) -> list[Any]:
        reply = recount(kept, chosen)
        return [gr.HTML(**_known(reply.slots, number)), reply.counts]

    threshold.input(
        again, [found, threshold], [shown, counts], trigger_mode="always_last", concurrency_limit=4, **_QUIET
    )
    return Panel(threshold, [shown, counts, found])


def _known(slots: dict[str, str], number: int) -> dict[str, str]:
    """Return the slots that a panel of so many images has."""
    return {key: slots[key] for key in demo_answers.slots(number) if key in slots}


def _updates(reply: Reply) -> list[Any]:
    import gradio as gr

    return [gr.HTML(**reply.slots), reply.counts, reply.found]


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
