"""What a person asks of a model, and the folder that holds the answer: an equal question is not answered twice."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from facemask_train.apps import media
from facemask_train.apps.media import Frame, Problem, Source
from facemask_train.core.errors import DataError, UsageError
from facemask_train.core.files import digest_data, digest_file, read_json
from facemask_train.core.parallel import usable_cores
from facemask_train.core.types import Detection, Progress
from facemask_train.model.detector import Detector
from facemask_train.train import runs

_LABEL = 40  # letters of the folder's name
_STREAMS = 4

Answers = Iterator[tuple[Frame, tuple[Detection, ...]]]


def on_gpu(device: str) -> bool:
    """Tell whether the model will be on a GPU."""
    import torch

    return device not in ("", "cpu") or (device == "" and torch.cuda.is_available())


def streams(device: str) -> int:
    """Return how many images are asked about at once: on a CPU one thread for each is faster than all for one."""
    return 1 if on_gpu(device) else min(usable_cores(), _STREAMS)


def together(detector: Detector) -> int:
    """Return how many images make a batch: on a CPU more at once is no faster, and takes memory."""
    return 1 if str(detector.backend.device) == "cpu" else 16


def readable(
    sources: Sequence[Source], frame_interval: float | None, problems: list[Problem], progress: Progress, doing: str
) -> Iterator[Frame]:
    """Yield images and frames; problems are put aside."""
    places = {source.path: place for place, source in enumerate(sources)}
    for one in media.frames(sources, frame_interval=frame_interval):
        progress(doing, places[one.path if isinstance(one, Problem) else one.source], len(sources))
        if isinstance(one, Problem):
            problems.append(one)
        else:
            yield one


def answered(detector: Detector, read: Iterable[Frame], confidence: float, batch: int) -> Answers:
    """Yield each frame with what is found in it."""
    asked: deque[Frame] = deque()

    def pixels() -> Iterator[Any]:
        for frame in read:
            asked.append(frame)
            yield frame.pixels

    for found in detector.predict(pixels(), confidence=confidence, batch=batch):
        yield asked.popleft(), found


def sources_of(arguments: Sequence[str], out: Path | None) -> tuple[Source, ...]:
    """Return the files that are asked about, without what an earlier run has written among them."""
    found = media.find_sources(arguments)
    if out is None:
        return found
    return tuple(one for one in found if not media.place(one.path).is_relative_to(out.resolve()))


def digest_of(sources: Sequence[Source]) -> str:
    """Return a digest of files: their names and contents."""
    return digest_data([[one.name, _content(one.path)] for one in sources])


def _content(path: Path) -> str:
    try:
        return digest_file(path)
    except OSError:  # told as a problem when it is its turn
        return ""


def default_folder(root: Path, kind: str, model: str, arguments: Sequence[str], inputs: Mapping[str, Any]) -> Path:
    """Return a folder below the run's, where git does not look: each question has its own."""
    label = re.sub(r"[^\w-]+", "-", Path(arguments[0]).stem).strip("-")[:_LABEL] or "images"
    return runs.run_folder(root, model) / kind / f"{label}-{digest_data(inputs)[:8]}"


def known(folder: Path, marker: str, inputs: Mapping[str, Any], what: str) -> Mapping[str, Any] | None:
    """Return what a folder says of an equal question, or None where there is no such folder yet.

    Args:
        what: the answer to another question is called.

    Raises:
        UsageError: the folder holds something else.
    """
    found = read_json(folder / marker) if folder.is_dir() else None
    if found is not None and found.get("inputs") == inputs:
        return found
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder}: expected a folder to write, found a file", next_step="choose another --out")
    if folder.exists() and any(folder.iterdir()):
        held = what if found is not None else "other files"
        raise UsageError(f"{folder}: holds {held}, which stay", next_step="choose another --out, or remove it first")
    return None


def told(problems: Sequence[Problem], sources: Sequence[Source]) -> list[dict[str, str]]:
    """Return what could not be read, as JSON holds it."""
    names = {source.path: source.name for source in sources}
    return [{"file": names[one.path], "why": one.why} for one in problems]


def nothing_read(problems: Sequence[Problem]) -> DataError:
    first = f"; {problems[0].path}: {problems[0].why}" if problems else ""
    files = "1 file" if len(problems) == 1 else f"{len(problems)} files"
    return DataError(
        f"expected images or videos, found {files} of which none can be read{first}",
        next_step="check what was named, or save it as JPEG, PNG or mp4",
    )
