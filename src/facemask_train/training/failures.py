"""Detect what can go wrong during training: out of memory, values that are not finite, a signal to stop.

Does not know the trainer; `loop.py` handles the failures.
"""

from __future__ import annotations

import logging
import math
import os
import signal
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import FrameType, TracebackType
from typing import Any, Self

_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "insufficient memory",
    "cublas_status_alloc_failed",
    "cudnn_status_internal_error",
    "unable to find an engine",
)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_log = logging.getLogger(__name__)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an error of torch (CPU or CUDA), OpenCV or Python means that memory ran out."""
    if isinstance(error, MemoryError):
        return True
    text = str(error).lower()
    known = isinstance(error, RuntimeError) or type(error).__module__ == "cv2"
    return known and any(sign in text for sign in _OUT_OF_MEMORY)


class NotFinite(Exception):  # noqa: N818 - not a bug: the loop restores the last state and tries once more
    """A loss or a weight became infinite or NaN. `evidence` says where, and which images were involved."""

    def __init__(self, evidence: Mapping[str, Any]) -> None:
        super().__init__(str(evidence))
        self.evidence = dict(evidence)


@dataclass(slots=True)
class LossHistory:
    """The losses and the image files of an epoch's batches: the evidence if a loss is not finite.

    Losses stay tensors on their device until they are checked, so that a GPU does not wait for each batch.
    """

    losses: list[Mapping[str, Any]] = field(default_factory=list)
    images: list[Sequence[str]] = field(default_factory=list)

    def add(self, losses: Mapping[str, Any], images: Sequence[str]) -> None:
        self.losses.append(losses)
        self.images.append(images)

    def check_last(self) -> None:
        """Raise `NotFinite` if the last batch's losses are not finite."""
        self._check(len(self.losses) - 1)

    def check_all(self) -> None:
        """Raise `NotFinite` for the first batch whose losses are not finite."""
        for index in range(len(self.losses)):
            self._check(index)

    def _check(self, index: int) -> None:
        losses = {key: float(value) for key, value in self.losses[index].items()}
        if not all(map(math.isfinite, losses.values())):
            raise NotFinite({"what": "loss", **self.evidence(index)})

    def evidence(self, index: int) -> dict[str, object]:
        """Return the losses and images of a batch (counted from 1), and of the batch before it."""
        return {"batch": index + 1, **self._batch(index), **({"before": self._batch(index - 1)} if index else {})}

    def _batch(self, index: int) -> dict[str, object]:
        losses = {key: repr(float(value)) for key, value in self.losses[index].items()}
        return {"losses": losses, "images": list(self.images[index])}


class SignalHandler:
    """Store SIGINT and SIGTERM so that training can stop cleanly. A second signal has its usual effect."""

    def __init__(self) -> None:
        self.name = ""
        self._previous: dict[int, Any] = {}
        self._process = os.getpid()

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._on_signal) for number in _SIGNALS}
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore_handlers()

    def _restore_handlers(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if os.getpid() != self._process:  # in a loader's process: the main process ends it
            return
        self.name = signal.Signals(number).name
        self._restore_handlers()
        _log.warning("%s: stopping after this batch (send it again to stop at once)", self.name)
