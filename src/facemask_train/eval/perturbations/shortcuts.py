"""The Batman test: does an answer change where it must not, and does it change where it must?

Every labelled face that is large enough, and that the model finds and names rightly on an untouched copy, is edited
(`edits.py`), one edit at a time, and asked again. The untouched copy goes through the same re-encoding, so what an
answer changes for is the edit. An edit's outcome is `same`, `flipped` (the other class) or `lost` (no box on the face).

The shortcut rate is the share of flipped outcomes among edits that must not change the answer, the response rate among
those that must. Outcomes that are lost count among all: they are no flip, and are shown beside.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from facemask_train.core.boxes import iou
from facemask_train.core.drawing import open_upright
from facemask_train.core.files import digest_data
from facemask_train.core.types import CLASSES, Annotation, Box, Detection, Progress, no_progress
from facemask_train.eval.measures.bootstrap import Interval, resample, share
from facemask_train.eval.measures.matching import MATCH_IOU
from facemask_train.eval.perturbations.kinds import KINDS, Kind, edit, kinds_for
from facemask_train.model.detector import Detector

if TYPE_CHECKING:
    from facemask_train.core.types import Array

LEAST_SIDE = 32.0
"""A face is large enough when both sides of its box are this long, in pixels of the image."""

MOST_FACES = 100
"""How many faces of a class are asked at most, drawn by the digest of their image's name."""

MEASURABLE_FACES, MEASURABLE_IMAGES = 20, 10
"""With fewer faces, or faces of fewer images, a rate is not measurable."""

Result = Literal["same", "flipped", "lost"]
RESULTS: tuple[Result, ...] = ("same", "flipped", "lost")


@dataclass(frozen=True, slots=True)
class Face:
    """One labelled face of a split: its image (relative to the ensemble), its number there, and its label."""

    image: str
    number: int
    label: Annotation


@dataclass(frozen=True, slots=True)
class Outcome:
    """What an edited face was answered with; `confidence` is 0 where it was lost."""

    face: Face
    kind: str
    result: Result
    confidence: float


@dataclass(frozen=True, slots=True)
class Rate:
    """A share of edits: `n` edits on `faces` faces of `images` images, by result.

    `rate` and `interval` are None where there are too few faces: not measurable.
    """

    rate: float | None
    interval: Interval | None
    n: int
    faces: int
    images: int
    same: int
    flipped: int
    lost: int


@dataclass(frozen=True, eq=False, slots=True)
class Asked:
    """How many faces are labelled, large enough, and named rightly when untouched; and every edit's outcome."""

    labelled: Mapping[str, int]
    large: Mapping[str, int]
    right: Mapping[str, int]
    outcomes: tuple[Outcome, ...]


def large_faces(images: Mapping[str, Sequence[Annotation]], *, least: float = LEAST_SIDE, most: int) -> list[Face]:
    """Return the faces that are large enough, at most so many of a class, in the order of the images' digests."""
    everything = [
        Face(image, number, label)
        for image in sorted(images, key=digest_data)
        for number, label in enumerate(images[image])
        if min(label.box.width, label.box.height) >= least
    ]
    return [face for name in CLASSES for face in [one for one in everything if one.label.name == name][:most]]


def ask(
    detector: Detector,
    folder: Path,
    labelled: Mapping[str, Sequence[Annotation]],
    *,
    threshold: float,
    least: float = LEAST_SIDE,
    most: int = MOST_FACES,
    progress: Progress = no_progress,
) -> Asked:
    """Edit the faces of some images, one edit at a time, and ask the model about each.

    Args:
        folder: the images' names are relative to it.
        labelled: the labels of each image.
        threshold: an answer counts above this confidence.
    """
    large = large_faces(labelled, least=least, most=most)
    images = sorted({face.image for face in large})
    untouched = (recoded(load(folder / image)) for image in images)
    answers = dict(zip(images, detector.predict(untouched, confidence=threshold), strict=True))
    right = [face for face in large if result(face, answers[face.image]) == "same"]
    jobs = sorted(((face, kind) for face in right for kind in kinds_for(face.label.name)), key=lambda job: job[0].image)
    found = []
    for (face, kind), given in zip(jobs, detector.predict(_edited(folder, jobs), confidence=threshold), strict=True):
        found.append(Outcome(face, kind.name, result(face, given), _confidence(face, given)))
        progress("asking about edited faces", len(found), len(jobs))
    return Asked(
        _count(Face(image, n, label) for image, labels in labelled.items() for n, label in enumerate(labels)),
        _count(large), _count(right), tuple(found),
    )  # fmt: skip


def _count(faces: Iterable[Face]) -> dict[str, int]:
    names = [face.label.name for face in faces]
    return {name: names.count(name) for name in CLASSES}


def _edited(folder: Path, jobs: Sequence[tuple[Face, Kind]]) -> Iterator[Array]:
    """Draw ahead of the model, a few images at a time: drawing and asking take turns on the same cores."""
    with ThreadPoolExecutor(2) as pool:
        ahead = 16
        waiting = [pool.submit(draw, folder, *job) for job in jobs[:ahead]]
        for index in range(len(jobs)):
            if index + ahead < len(jobs):
                waiting.append(pool.submit(draw, folder, *jobs[index + ahead]))
            yield waiting.pop(0).result()


def draw(folder: Path, face: Face, kind: Kind) -> Array:
    """Return a face's whole image, edited and encoded anew; the same on every call."""
    seed = f"{face.image} {face.number}"
    return recoded(edit(load(folder / face.image), face.label.box, face.label.name, kind, seed))


@lru_cache(maxsize=8)
def load(path: Path) -> Array:
    """Return an image as displayed: (h, w, 3) uint8 RGB, not to be written to."""
    import numpy as np

    return np.asarray(open_upright(path))


def recoded(image: Array) -> Array:
    """Return an image as JPEG makes it: what an untouched copy and an edited one both go through."""
    import numpy as np
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=92, subsampling=0)
    return np.asarray(Image.open(stream).convert("RGB"))


def result(face: Face, answers: Sequence[Detection]) -> Result:
    """Say what became of a face: the most confident box on it decides."""
    found = on_face(face.label.box, answers)
    if found is None:
        return "lost"
    return "same" if found.name == face.label.name else "flipped"


def _confidence(face: Face, answers: Sequence[Detection]) -> float:
    found = on_face(face.label.box, answers)
    return found.confidence if found else 0.0


def on_face(box: Box, answers: Sequence[Detection]) -> Detection | None:
    """Return the most confident detection that overlaps a face by half or more (IoU)."""
    there = [one for one in answers if iou(one.corners, box.corners) >= MATCH_IOU]
    return max(there, key=lambda one: one.confidence, default=None)


# ---- from outcomes to rates ----


def rate(outcomes: Sequence[Outcome]) -> Rate:
    """Return the share of flipped outcomes, its interval clustered by image."""
    import numpy as np

    images = sorted({one.face.image for one in outcomes})
    place = {image: index for index, image in enumerate(images)}
    flipped, asked = np.zeros(len(images)), np.zeros(len(images))
    for one in outcomes:
        asked[place[one.face.image]] += 1
        flipped[place[one.face.image]] += one.result == "flipped"
    faces = len({(one.face.image, one.face.number) for one in outcomes})
    counts = [sum(one.result == word for one in outcomes) for word in RESULTS]
    if faces < MEASURABLE_FACES or len(images) < MEASURABLE_IMAGES:
        return Rate(None, None, len(outcomes), faces, len(images), *counts)
    found = share(flipped, asked, resample(len(images)))
    assert found is not None
    return Rate(*found, len(outcomes), faces, len(images), *counts)


def shortcut_rate(outcomes: Sequence[Outcome], *, seen: bool, name: str = "") -> Rate:
    """Return the rate over kinds that must not change the answer: those that training may know, or the others.

    Args:
        name: only faces of this class.
    """
    kinds = {kind.name for kind in KINDS if kind.seen == seen and not kind.must_change}
    return rate([one for one in outcomes if one.kind in kinds and name in ("", one.face.label.name)])


def response_rate(outcomes: Sequence[Outcome]) -> Rate:
    """Return the rate over kinds that must change the answer."""
    kinds = {kind.name for kind in KINDS if kind.must_change}
    return rate([one for one in outcomes if one.kind in kinds])


def by_kind(outcomes: Sequence[Outcome]) -> list[tuple[Kind, str, Rate]]:
    """Return the rate of each kind on each class of faces that it is drawn on."""
    return [
        (kind, name, rate([one for one in outcomes if (one.kind, one.face.label.name) == (kind.name, name)]))
        for kind in KINDS
        for name in kind.faces
    ]
