"""Checks of a loaded checkpoint: class names, finite weights, a size of a usual image, and a graph that runs.

Loading as weights only rules out code. It does not rule out a model that cannot run, or that never finds anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

MAX_IMGSZ = 8192
"""The largest image size in pixels that a checkpoint may name as its own."""

_TRIAL = 64
"""Pixels per side of the image on which a model is tried: a multiple of the stride of every head."""


def named_by_id(names: Any) -> Any:
    """Return class names by id: older exports have a list of them. What is neither stays as it is."""
    return dict(enumerate(names)) if isinstance(names, (list, tuple)) else names


def find_defect(model: Any, checkpoint: Mapping[str, Any]) -> str:
    """Return what makes a loaded detector unusable, or an empty string."""
    return next(_defects(model, checkpoint), "")


def imgsz_defect(imgsz: Any) -> str:
    """Return what is wrong with an image size that a file names as its own, or an empty string."""
    if isinstance(imgsz, int) and not 32 <= imgsz <= MAX_IMGSZ:
        return f"its image size is {imgsz} px, not one of 32 to {MAX_IMGSZ}"
    return ""


def _defects(model: Any, checkpoint: Mapping[str, Any]) -> Iterator[str]:
    if not isinstance(model.names, dict) or not model.names:
        yield f"its class names are {type(model.names).__name__}, not a list or names by id"
    if wrong := imgsz_defect((checkpoint.get("train_args") or {}).get("imgsz")):
        yield wrong
    if parameter := _not_finite(model):
        yield f"its weights are not finite ({parameter} contains NaN or infinity)"
    if wrong := _trial(model):
        yield wrong


def _not_finite(model: Any) -> str:
    """Return the name of the first parameter or buffer with a value that is not finite."""
    values = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    return next((name for name, value in values.items() if not bool(value.isfinite().all())), "")


def _trial(model: Any) -> str:
    """Run the model on a blank image, and return what is wrong with its output, or an empty string."""
    import torch

    blank = torch.zeros(1, 3, _TRIAL, _TRIAL)
    try:
        with torch.no_grad():
            raw = model.eval()(blank)
        model.model[-1].shape = None  # the head caches the anchors of the size that it saw last
    except Exception as error:  # noqa: BLE001 - a damaged graph can raise any exception
        reason = " ".join(str(error).split())[:160]
        return f"it does not run on an image ({type(error).__name__}: {reason})"
    output = raw[0] if isinstance(raw, (tuple, list)) else raw
    shape = tuple(getattr(output, "shape", ()))
    columns = 4 + len(model.names)
    if len(shape) == 3 and (shape[1] == columns or shape[2] == 6):
        return ""
    return f"its output has the shape {shape}, not (1, {columns}, boxes) for its {len(model.names)} class names"
