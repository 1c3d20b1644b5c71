"""The parts of the demo's page as HTML: images with boxes, counts, a chart over time, facts about the model.

Boxes are separate elements above an image, positioned in percent, so that another threshold does not change pixels
and labels have the same size on a phone and on a wide screen. All text is escaped. Does not import torch or Gradio.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from facemask_train.apps.demo.counts import FaceCounts, describe_counts
from facemask_train.apps.model_facts import PLAIN, ModelFacts
from facemask_train.core.types import Detection
from facemask_train.report import charts, html

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_TEMPLATE = "demo.html"
SIDE = 1280
_MAX_LABELED = 25  # with more faces, labels would cover each other: then only screen readers get them

Size = tuple[int, int]
"""Width and height of an image, in pixels."""


def image(pixels: NDArray[np.uint8], alt: str, *, side: int = SIDE) -> str:
    """Return an image (h, w, 3; RGB), reduced to at most `side` pixels, as an element that contains it."""
    from PIL import Image

    reduced = Image.fromarray(pixels)
    reduced.thumbnail((side, side))
    embedded = html.embed(reduced, alt)
    return _macro("image", embedded.uri, embedded.width, embedded.height, f"{reduced.width / reduced.height:.4f}", alt)


@dataclass(frozen=True, slots=True)
class Box:
    """A box above an image: its position in percent, and where its label has no room."""

    name: str
    label: str
    left: str
    top: str
    width: str
    height: str
    near_right: bool
    near_top: bool

    @classmethod
    def of(cls, one: Detection, size: Size) -> Box:
        x_scale, y_scale = 100 / size[0], 100 / size[1]
        x_min, y_min, x_max, y_max = one.corners
        return cls(
            one.name,
            f"{'mask' if one.name == 'mask' else 'no mask'} {100 * one.confidence:.0f} %",
            left=f"{x_min * x_scale:.2f}",
            top=f"{y_min * y_scale:.2f}",
            width=f"{(x_max - x_min) * x_scale:.2f}",
            height=f"{(y_max - y_min) * y_scale:.2f}",
            near_right=x_min * x_scale > 70,
            near_top=y_min * y_scale < 8,
        )


def boxes(faces: Sequence[Detection], size: Size) -> str:
    """Return the boxes above an image of this size."""
    return _macro("boxes", [Box.of(one, size) for one in faces], len(faces) <= _MAX_LABELED) if faces else ""


def image_counts(counts: FaceCounts, threshold: float, note: str = "") -> str:
    """Return the counts and the rate of one image."""
    return _counts(counts, f"{describe_counts(counts, threshold)} {note}".strip())


def video_counts(times: Sequence[float], counts: Sequence[FaceCounts], threshold: float) -> str:
    """Return the counts of a video's sampled frames (at these times, in seconds): their sum, and a chart over time."""
    total = FaceCounts(sum(one.mask for one in counts), sum(one.no_mask for one in counts))
    text = (
        f"{total.faces} sightings in {len(counts)} frames above confidence {threshold:.2f}. A person who stays in view "
        "is counted in each frame. The rate is not corrected for faces that the model missed or misclassified."
    )
    return _counts(total, text) + chart(times, counts)


def _counts(counts: FaceCounts, text: str) -> str:
    rate = "-" if counts.rate is None else f"{100 * counts.rate:.0f} %"
    return _macro("counts", counts.mask, counts.no_mask, rate, text)


def chart(times: Sequence[float], counts: Sequence[FaceCounts]) -> str:
    """Return the counts of sampled frames over time (seconds), with a table of the numbers."""
    label = "Faces over time; the numbers are in the table below"
    drawn = charts.stacked_columns([(one.mask, one.no_mask) for one in counts], label=label)
    rows = [(clock(time), one.mask, one.no_mask) for time, one in zip(times, counts, strict=True)]
    return _macro("chart", drawn, max(one.faces for one in counts), rows)


def clock(seconds: float) -> str:
    """Return a time as `1:05`."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


def problem(message: str) -> str:
    return _macro("problem", message)


def note(message: str) -> str:
    return _macro("note", message)


def header(facts: ModelFacts) -> str:
    """Return the top of the page: the model's name and its warning."""
    return _macro("header", facts.model, facts.warning)


def model_facts(facts: ModelFacts, privacy: str) -> str:
    """Return what is known about the model, its limits, and what happens to a visitor's images."""
    return _macro("model_facts", facts.facts, facts.limits, privacy)


def examples(images: Sequence[tuple[NDArray[np.uint8], FaceCounts]]) -> str:
    """Return buttons with the example images; their alt texts have the true counts."""
    from PIL import Image

    embedded = [
        html.embed(Image.fromarray(pixels), f"Drawn: {true.mask} {PLAIN['mask']}, {true.no_mask} {PLAIN['no_mask']}")
        for pixels, true in images
    ]
    return _macro("examples", embedded)


def _macro(name: str, *arguments: object) -> str:
    return str(html.macro(_TEMPLATE, name, *arguments))
