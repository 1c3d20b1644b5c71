"""What `fmask predict` and `fmask survey` share: input files, batches, and an output folder that is reused."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from facemask_train.apps import media
from facemask_train.apps.media import Frame, Problem, Source
from facemask_train.apps.records.predictions import Predictions, UnreadableFile
from facemask_train.apps.records.survey import Survey
from facemask_train.core.errors import DataError, UsageError
from facemask_train.core.files import digest_data, digest_file
from facemask_train.core.parallel import usable_cores
from facemask_train.core.records import to_json
from facemask_train.core.types import Detection, Progress
from facemask_train.model.detector import Detector
from facemask_train.training import runs

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_LABEL_LENGTH = 40  # characters in a folder's name
_MAX_STREAMS = 4
_GPU_BATCH = 16

DetectedFrames: TypeAlias = Iterator[tuple[Frame, tuple[Detection, ...]]]
"""Frames with all detections in them."""

R = TypeVar("R", Predictions, Survey)


def on_gpu(device: str) -> bool:
    """Return whether a model on this device (`--device`) runs on a GPU."""
    import torch

    return device not in ("", "cpu") or (device == "" and torch.cuda.is_available())


def streams(device: str) -> int:
    """Return how many batches run at the same time: on a CPU, one thread per image is faster than all for one."""
    return 1 if on_gpu(device) else min(usable_cores(), _MAX_STREAMS)


def batch_size(detector: Detector) -> int:
    """Return the default batch size: on a CPU a larger batch is no faster, and takes more memory."""
    return 1 if str(detector.backend.device) == "cpu" else _GPU_BATCH


# ---- input ----


def find_sources(arguments: Sequence[str], out: Path | None) -> tuple[Source, ...]:
    """Return the input files, without those that an earlier run wrote into `out`."""
    found = media.find_sources(arguments)
    if out is None:
        return found
    return tuple(one for one in found if not media.resolve(one.path).is_relative_to(out.resolve()))


def digest_sources(sources: Sequence[Source]) -> str:
    """Return a digest of the files' names and contents."""
    return digest_data([[one.name, _content(one.path)] for one in sources])


def _content(path: Path) -> str:
    try:
        return digest_file(path)
    except OSError:  # reported as a problem when the file is decoded
        return ""


def read_frames(
    sources: Sequence[Source],
    problems: list[Problem],
    progress: Progress,
    task: str,
    *,
    frame_interval: float | None,
    max_pixels: int,
) -> Iterator[Frame]:
    """Yield the frames of all sources, and append what cannot be read to `problems`."""
    places = {source.path: place for place, source in enumerate(sources)}
    for one in media.frames(sources, frame_interval=frame_interval, max_pixels=max_pixels):
        progress(task, places[one.path if isinstance(one, Problem) else one.source], len(sources))
        if isinstance(one, Problem):
            problems.append(one)
        else:
            yield one


def detect(detector: Detector, frames: Iterable[Frame], confidence: float, batch: int) -> DetectedFrames:
    """Yield each frame with the detections in it, above a confidence."""
    pending: deque[Frame] = deque()

    def pixels() -> Iterator[NDArray[np.uint8]]:
        for frame in frames:
            pending.append(frame)
            yield frame.pixels

    for detections in detector.predict(pixels(), confidence=confidence, batch=batch):
        yield pending.popleft(), detections


def unreadable_files(problems: Sequence[Problem], sources: Sequence[Source]) -> tuple[UnreadableFile, ...]:
    """Return the files that could not be read, as a record has them."""
    names = {source.path: source.name for source in sources}
    return tuple(UnreadableFile(names[one.path], one.reason) for one in problems)


def nothing_read(problems: Sequence[Problem]) -> DataError:
    """Return the error for input of which no file can be read."""
    first = f"; {problems[0].path}: {problems[0].reason}" if problems else ""
    files = "1 file" if len(problems) == 1 else f"{len(problems)} files"
    return DataError(
        f"expected images or videos, found {files}, none of them readable{first}",
        next_step="check the paths, or convert the files to JPEG, PNG or mp4",
    )


# ---- output folder ----


def default_folder(root: Path, kind: str, model: str, arguments: Sequence[str], inputs: object) -> Path:
    """Return a folder below the run's: the same for equal inputs, another for any others."""
    label = re.sub(r"[^\w-]+", "-", Path(arguments[0]).stem).strip("-")[:_LABEL_LENGTH] or "images"
    return runs.run_folder(root, model) / kind / f"{label}-{digest_data(to_json(inputs))[:8]}"


def find_finished(folder: Path, kind: type[R], inputs: object, other: str) -> R | None:
    """Return a folder's record if it was made from equal inputs, or None if there is no such folder yet.

    Args:
        other: what to call the results of other inputs in the message.

    Raises:
        UsageError: the folder contains something else.
    """
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder to write to, found a file", next_step="choose another --output")
    found = kind.load_if_current(folder)
    if found is not None and found.inputs == inputs:
        return found
    if folder.exists() and any(folder.iterdir()):
        content = other if (folder / kind.FILE).is_file() else "other files"
        raise UsageError(
            f"{folder}: already contains {content}, which are not overwritten",
            next_step="choose another --output, or remove the folder first",
        )
    return None
