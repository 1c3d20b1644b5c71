"""From the plan to files: images and labels, one source image after the other, in any number of processes.

Images of an earlier build of the same ensemble that would come out the same are taken over, once their bytes are seen
to be whole.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.augment.faces import Edit
from facemask_train.augment.transforms import render
from facemask_train.core.files import canonical, digest_file
from facemask_train.core.parallel import WorkerPool
from facemask_train.core.recipe import Augment
from facemask_train.core.types import SPLITS, Annotation, Progress
from facemask_train.dataset.loading.images import decoded_plain, make_plain, read_published
from facemask_train.dataset.plan import Output, Planned
from facemask_train.dataset.tables import Earlier, Written, manifest_row, manifest_schema
from facemask_train.formats import yolo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROWS = 2048  # manifest rows that are held at a time


@dataclass(frozen=True, slots=True)
class Workshop:
    """What every process needs: where sources lie, where the ensemble is made, and how copies are made."""

    sources: Mapping[str, Path]
    folder: Path
    augment: Augment | None


@dataclass
class Totals:
    """What was written, summed up as it went by."""

    outputs: Counter[str]
    images: Counter[str]
    faces: Counter[tuple[str, str]]
    edits: Counter[tuple[str, str]]
    taken_over: int
    decided: Any
    image_digest: Any
    manifest: str = ""

    @classmethod
    def none(cls) -> Totals:
        return cls(Counter(), Counter(), Counter(), Counter(), 0, hashlib.sha256(), hashlib.sha256())


def write(
    plan: Iterator[Planned],
    count: int,
    shop: Workshop,
    earlier: Mapping[str, Earlier],
    pool: WorkerPool,
    progress: Progress,
) -> Totals:
    """Make every output of the plan and its label file, and the manifest of them; return what was written.

    Args:
        count: source images in the plan.
        earlier: by output key.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part in ("images", "labels"):
        for split in SPLITS:
            (shop.folder / part / split).mkdir(parents=True)
    waiting: deque[Planned] = deque()  # what processes are at work on, so that the plan is never held whole
    jobs = (_job(planned, earlier, waiting) for planned in plan)
    results = pool.map(partial(_make_all, shop), jobs, count, what="write", progress=progress)
    totals, rows, schema = Totals.none(), [], manifest_schema()
    with pq.ParquetWriter(shop.folder / "manifest.parquet", schema) as table:
        for result in results:
            planned = waiting.popleft()
            totals.images[planned.kept.split] += 1
            for output, made in zip(planned.outputs, result, strict=True):
                rows.append(manifest_row(planned, output))
                _add_up(totals, rows[-1], made)
                rows[-1] |= {"output_sha256": made.sha256, "edits": list(made.edits)}
            if len(rows) >= _ROWS:
                table.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows.clear()
        table.write_table(pa.Table.from_pylist(rows, schema=schema))
    totals.manifest = digest_file(shop.folder / "manifest.parquet")
    return totals


_Job = tuple[Planned, tuple[Earlier | None, ...]]


def _job(planned: Planned, earlier: Mapping[str, Earlier], waiting: deque[Planned]) -> _Job:
    waiting.append(planned)
    return planned, tuple(earlier.get(output.key) for output in planned.outputs)


def _add_up(totals: Totals, row: Mapping[str, Any], made: Written) -> None:
    """Count an output, given its manifest row as it was planned."""
    totals.outputs[row["split"]] += 1
    totals.faces.update((row["split"], label["name"]) for label in row["labels"])
    for edit in made.edits:
        _, kind, outcome = edit.split(" ")
        totals.edits[kind, outcome] += 1
    totals.taken_over += made.taken_over
    totals.decided.update(canonical(row).encode())
    totals.image_digest.update(canonical([row["image"], made.sha256]).encode())


# ---- in a process ----


def _make_all(shop: Workshop, jobs: Sequence[_Job]) -> list[tuple[Written, ...]]:
    return [_make(shop, *job) for job in jobs]


def _make(shop: Workshop, planned: Planned, earlier: Sequence[Earlier | None]) -> tuple[Written, ...]:
    record = planned.kept.record
    source = _Source(shop.sources[record.source], planned)
    return tuple(
        _take_over(shop.folder / output.image, old) or _make_one(shop, source, record.labels, output)
        for output, old in zip(_labelled(shop.folder, planned.outputs), earlier, strict=True)
    )


def _labelled(folder: Path, outputs: Sequence[Output]) -> Iterator[Output]:
    """Write each output's label file as it goes by."""
    for output in outputs:
        text = yolo.lines(output.labels, output.width, output.height)
        (folder / output.label_file).write_text(text, encoding="utf-8", newline="\n")
        yield output


def _take_over(image: Path, old: Earlier | None) -> Written | None:
    """Take an image over from an earlier build, if it still has the bytes that it was given then."""
    if old is None or not old.image.is_file() or digest_file(old.image) != old.written.sha256:
        return None
    try:
        os.link(old.image, image)  # the earlier build is removed afterwards, so nobody shares the file
    except OSError:
        shutil.copyfile(old.image, image)
    return old.written._replace(taken_over=True)


class _Source:
    """A published image, read and decoded once for all that is made of it, and only if something is."""

    def __init__(self, files: Path, planned: Planned) -> None:
        self._files, self._facts = files, planned.facts

    @cached_property
    def plain(self) -> bytes:
        return make_plain(read_published(self._files, self._facts), self._facts)[0]

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        return decoded_plain(self.plain, self._facts)


def _make_one(shop: Workshop, source: _Source, labels: Sequence[Annotation], output: Output) -> Written:
    content, edits = source.plain, tuple[str, ...]()
    if output.copy and shop.augment is not None:
        made = render(source.image, labels, shop.augment.copies[output.copy], output.seed)
        content, edits = _jpeg(made.image, shop.augment.quality), tuple(map(_in_words, made.edits))
    (shop.folder / output.image).write_bytes(content)
    return Written(hashlib.sha256(content).hexdigest(), edits)


def _jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    import cv2

    _, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return content.tobytes()


def _in_words(edit: Edit) -> str:
    """Return what became of a face as the manifest has it: `3 beard done`, `0 cap unjudgeable`, `1 - too-small`."""
    return f"{edit.label} {edit.kind or '-'} {(edit.reason or 'done').replace(' ', '-')}"
