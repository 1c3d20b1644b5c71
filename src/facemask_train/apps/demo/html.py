"""The parts of the demo's page as HTML: images with boxes over them, counts, a chart over time, the statement.

Boxes lie over an image as elements of their own, in percent of it, so another threshold moves no pixels, and a label
is as large on a phone as on a wide screen. All text is escaped. Knows no model and no Gradio.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from facemask_train.apps.demo.counts import Tally, in_words
from facemask_train.apps.model_facts import PLAIN, Statement
from facemask_train.core.types import Detection
from facemask_train.report import html

if TYPE_CHECKING:
    from numpy.typing import NDArray

_TEMPLATE = "demo.html"
SIDE = 1280
_NAMED = 25  # with more faces than this, labels would hide each other: they are then for screen readers alone
_CHART = (600, 150)

Size = tuple[int, int]
"""Width and height of an image, in pixels."""


def shown(pixels: NDArray[Any], alt: str, *, side: int = SIDE) -> str:
    """Return an image (h, w, 3; RGB) as an element that holds it, reduced to `side` pixels at most."""
    from PIL import Image

    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    embedded = html.embed(image, alt)
    return _macro("image", embedded.uri, embedded.width, embedded.height, f"{image.width / image.height:.4f}", alt)


def boxes(faces: Sequence[Detection], size: Size) -> str:
    """Return boxes that lie over an image of this size."""
    return _macro("boxes", [_box(one, size) for one in faces], len(faces) <= _NAMED) if faces else ""


def _box(one: Detection, size: Size) -> dict[str, Any]:
    across, down = 100 / size[0], 100 / size[1]
    x_min, y_min, x_max, y_max = one.corners
    return {
        "name": one.name,
        "said": f"{'mask' if one.name == 'mask' else 'no mask'} {100 * one.confidence:.0f} %",
        "late": x_min * across > 70,  # no room for a label to its right
        "low": y_min * down < 8,  # no room for a label above the box
        "left": f"{x_min * across:.2f}",
        "top": f"{y_min * down:.2f}",
        "width": f"{(x_max - x_min) * across:.2f}",
        "height": f"{(y_max - y_min) * down:.2f}",
    }


def counted(tally: Tally, threshold: float, aside: str = "") -> str:
    """Return the counts and the rate of one image."""
    return _totals(tally, f"{in_words(tally, threshold)} {aside}".strip())


def over_time(times: Sequence[float], tallies: Sequence[Tally], threshold: float) -> str:
    """Return the counts of a video's sampled frames (at these times, in seconds): summed, and over time."""
    total = Tally(sum(one.mask for one in tallies), sum(one.no_mask for one in tallies))
    said = (
        f"{total.faces} sightings in {len(tallies)} frames above confidence {threshold:.2f}. A person who stays in "
        "view is counted in each frame. The rate is uncorrected: faces that the model missed or misread are not made "
        "good."
    )
    return _totals(total, said) + chart(times, tallies)


def _totals(tally: Tally, said: str) -> str:
    rate = "-" if tally.rate is None else f"{100 * tally.rate:.0f} %"
    return _macro("tally", tally.mask, tally.no_mask, rate, said)


def chart(times: Sequence[float], tallies: Sequence[Tally]) -> str:
    """Return the counts of sampled frames over time (seconds), with the numbers to open below."""
    width, height = _CHART
    top = max(1, *(tally.faces for tally in tallies))
    step, unit = width / len(tallies), (height - 4) / top
    columns = [
        {
            "x": f"{number * step + step * 0.1:.2f}",
            "width": f"{step * 0.8:.2f}",
            "mask_y": f"{height - tally.mask * unit:.2f}",
            "mask_height": f"{tally.mask * unit:.2f}",
            "no_mask_y": f"{height - tally.faces * unit:.2f}",
            "no_mask_height": f"{tally.no_mask * unit:.2f}",
        }
        for number, tally in enumerate(tallies)
    ]
    rows = [(clock(time), tally.mask, tally.no_mask) for time, tally in zip(times, tallies, strict=True)]
    return _macro("chart", columns, width, height, top, rows)


def clock(seconds: float) -> str:
    """Return a time as `1:05`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def problem(message: str) -> str:
    return _macro("problem", message)


def note(message: str) -> str:
    return _macro("note", message)


def opening(said: Statement) -> str:
    return _macro("opening", said.model, said.warning)


def statement(said: Statement, kept: str) -> str:
    """Return what is known of the model, and what becomes of the visitor's images."""
    return _macro("statement", said.model, said.facts, said.limits, kept)


def examples(images: Sequence[tuple[NDArray[Any], Tally]]) -> str:
    """Return buttons with the example images, and in their alt texts who is drawn in them."""
    from PIL import Image

    made = [
        html.embed(Image.fromarray(image), f"Drawn: {true.mask} {PLAIN['mask']}, {true.no_mask} {PLAIN['no_mask']}")
        for image, true in images
    ]
    return _macro("examples", made)


def _macro(name: str, *arguments: Any) -> str:
    return str(html.macro(_TEMPLATE, name, *arguments))
