"""Writes the planned images and label files, one source image at a time, in any number of processes.

Images of an earlier build with the same key are reused after their bytes have been verified.
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
from facemask_train.dataset.plan import Output, PlannedImage
from facemask_train.dataset.tables import ReusableImage, WrittenImage, manifest_row, manifest_schema
from facemask_train.formats import yolo

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ROWS = 2048  # manifest rows that are contents at a time


@dataclass(frozen=True, slots=True)
class WriteSettings:
    """What every process needs: the folders of the sources, the folder to write to, and the augmented copies."""

    sources: Mapping[str, Path]
    folder: Path
    augment: Augment | None


@dataclass
class Totals:
    """Running totals of what was written.

    Attributes:
        outputs: images by split, augmented copies included; `images` without them.
        faces: by split and class.
        edits: face-aware edits by kind and outcome.
        reused: images that an earlier build had written.
        plan_digest: over all manifest rows as planned.
        images_digest: over the bytes of all images.
    """

    outputs: Counter[str]
    images: Counter[str]
    faces: Counter[tuple[str, str]]
    edits: Counter[tuple[str, str]]
    reused: int
    plan_digest: Any
    images_digest: Any
    manifest_digest: str = ""

    @classmethod
    def empty(cls) -> Totals:
        return cls(Counter(), Counter(), Counter(), Counter(), 0, hashlib.sha256(), hashlib.sha256())

    def add(self, planned: PlannedImage, output: Output, row: Mapping[str, object], written: WrittenImage) -> None:
        """Count an output, given its manifest row as planned."""
        split = planned.kept.split
        self.outputs[split] += 1
        self.faces.update((split, label.name) for label in output.labels)
        for edit in written.edits:
            _, kind, outcome = edit.split(" ")
            self.edits[kind, outcome] += 1
        self.reused += written.reused
        self.plan_digest.update(canonical(row).encode())
        self.images_digest.update(canonical([output.image, written.sha256]).encode())


def write(
    plan: Iterator[PlannedImage],
    count: int,
    settings: WriteSettings,
    reusable: Mapping[str, ReusableImage],
    pool: WorkerPool,
    progress: Progress,
) -> Totals:
    """Write every output of the plan with its label file, and the manifest.

    Args:
        count: source images in the plan.
        reusable: images of an earlier build, by output key.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part in ("images", "labels"):
        for split in SPLITS:
            (settings.folder / part / split).mkdir(parents=True)
    waiting: deque[PlannedImage] = deque()  # what processes are working on, so that the whole plan is never in memory
    jobs = (_job(planned, reusable, waiting) for planned in plan)
    results = pool.map(partial(_write_batch, settings), jobs, count, what="write", progress=progress)
    totals, rows, schema = Totals.empty(), [], manifest_schema()
    with pq.ParquetWriter(settings.folder / "manifest.parquet", schema) as table:
        for result in results:
            planned = waiting.popleft()
            totals.images[planned.kept.split] += 1
            for output, written in zip(planned.outputs, result, strict=True):
                rows.append(manifest_row(planned, output))
                totals.add(planned, output, rows[-1], written)
                rows[-1] |= {"output_sha256": written.sha256, "edits": list(written.edits)}
            if len(rows) >= _ROWS:
                table.write_table(pa.Table.from_pylist(rows, schema=schema))
                rows.clear()
        table.write_table(pa.Table.from_pylist(rows, schema=schema))
    totals.manifest_digest = digest_file(settings.folder / "manifest.parquet")
    return totals


_Job = tuple[PlannedImage, tuple[ReusableImage | None, ...]]


def _job(planned: PlannedImage, reusable: Mapping[str, ReusableImage], waiting: deque[PlannedImage]) -> _Job:
    waiting.append(planned)
    return planned, tuple(reusable.get(output.key) for output in planned.outputs)


# ---- in a process ----


def _write_batch(settings: WriteSettings, jobs: Sequence[_Job]) -> list[tuple[WrittenImage, ...]]:
    return [_write_outputs(settings, *job) for job in jobs]


def _write_outputs(
    settings: WriteSettings, planned: PlannedImage, reusable: Sequence[ReusableImage | None]
) -> tuple[WrittenImage, ...]:
    record = planned.kept.record
    source = _SourceImage(settings.sources[record.source], planned)
    return tuple(
        _reuse(settings.folder / output.image, old) or _write_image(settings, source, record.labels, output)
        for output, old in zip(_with_label_files(settings.folder, planned.outputs), reusable, strict=True)
    )


def _with_label_files(folder: Path, outputs: Sequence[Output]) -> Iterator[Output]:
    """Yield each output after its label file has been written."""
    for output in outputs:
        text = yolo.lines(output.labels, output.width, output.height)
        (folder / output.label_file).write_text(text, encoding="utf-8", newline="\n")
        yield output


def _reuse(image: Path, old: ReusableImage | None) -> WrittenImage | None:
    """Reuse an image of an earlier build if it still has the bytes that were written then."""
    if old is None or not old.image.is_file() or digest_file(old.image) != old.written.sha256:
        return None
    try:
        os.link(old.image, image)  # the earlier build is removed afterwards, so the file is not shared
    except OSError:
        shutil.copyfile(old.image, image)
    return old.written._replace(reused=True)


class _SourceImage:
    """A published image that is read and decoded at most once, when its first output needs it."""

    def __init__(self, files: Path, planned: PlannedImage) -> None:
        self._files, self._facts = files, planned.facts

    @cached_property
    def plain(self) -> bytes:
        return make_plain(read_published(self._files, self._facts), self._facts)[0]

    @cached_property
    def image(self) -> NDArray[np.uint8]:
        return decoded_plain(self.plain, self._facts)


def _write_image(
    settings: WriteSettings, source: _SourceImage, labels: Sequence[Annotation], output: Output
) -> WrittenImage:
    content, edits, crop = source.plain, tuple[str, ...](), output.crop
    if crop is not None and settings.augment is not None:
        part = source.image[crop.y_min : crop.y_max, crop.x_min : crop.x_max]
        content = _jpeg(part, settings.augment.quality)
    elif output.copy and settings.augment is not None:
        rendered = render(source.image, labels, settings.augment.copies[output.copy], output.seed)
        content, edits = _jpeg(rendered.image, settings.augment.quality), tuple(map(_describe_edit, rendered.edits))
    (settings.folder / output.image).write_bytes(content)
    return WrittenImage(hashlib.sha256(content).hexdigest(), edits)


def _jpeg(image: NDArray[np.uint8], quality: int) -> bytes:
    import cv2

    _, content = cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality])
    return content.tobytes()


def _describe_edit(edit: Edit) -> str:
    """Return an edit as in the manifest: `3 beard done`, `0 cap unjudgeable`, `1 - too-small`."""
    return f"{edit.label} {edit.kind or '-'} {(edit.reason or 'done').replace(' ', '-')}"
