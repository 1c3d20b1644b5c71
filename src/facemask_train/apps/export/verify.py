"""Verify exported models: each has to find what PyTorch finds, on the images of an ensemble's split."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from facemask_train.apps.export import parity
from facemask_train.apps.export.parity import BackendResult
from facemask_train.apps.records.export import (
    BOX_TOLERANCE,
    MAP_TOLERANCE,
    Export,
    ExportedModel,
    Latency,
    Parity,
)
from facemask_train.core.errors import DataError
from facemask_train.core.parallel import usable_cores
from facemask_train.core.types import Progress, no_progress
from facemask_train.eval.audit import split_labels
from facemask_train.eval.eval_target import EvalSplit, Model
from facemask_train.model.validation import Predictor

PYTORCH = "pytorch"
HEADER = ("file", "MB", "ms per image", "p10 to p90", "mAP 0.5:0.95", "box error, px")
"""The columns of `table_rows`."""


def verify(
    model: Model,
    split: EvalSplit,
    backends: Mapping[str, Predictor],
    files: Mapping[str, Path],
    *,
    imgsz: int,
    progress: Progress = no_progress,
) -> tuple[ExportedModel, ...]:
    """Run all backends of a model on the same images, and compare them with PyTorch.

    Args:
        backends: by format, PyTorch among them.
        files: of each backend.
        imgsz: input size in pixels.

    Raises:
        DataError: a backend differs from PyTorch by more than the tolerance.
    """
    results = parity.run_backends(backends, split.folder, split_labels(split), progress=progress)
    reference = results[PYTORCH].images
    rows = []
    for name, result in results.items():
        found = parity.compare(reference, result.images, imgsz=imgsz)
        if not found.close:
            raise _too_far(name, model, split, found)
        rows.append(_exported_model(name, files[name], result, None if name == PYTORCH else found))
    return tuple(rows)


def _too_far(name: str, model: Model, split: EvalSplit, found: Parity) -> DataError:
    return DataError(
        f"{model.folder.name} as {name} differs from PyTorch on {split.card.name}, {split.split}: mAP 0.5:0.95 by "
        f"{100 * found.map_difference:+.2f} points (allowed: {100 * MAP_TOLERANCE:.1f}), a corner by "
        f"{found.box_error:.2f} px (allowed: {BOX_TOLERANCE:g}), and {found.lost} of {found.boxes} boxes are missing; "
        "nothing was written",
        next_step="report it with these numbers, or leave this format out (--format)",
    )


def _exported_model(name: str, path: Path, result: BackendResult, found: Parity | None) -> ExportedModel:
    time = parity.latency(result.seconds)
    return ExportedModel(
        format=name,
        file="" if found is None else path.name,
        megabytes=round(size(path) / 1e6, 2),
        milliseconds=Latency(round(time.median, 2), round(time.p10, 2), round(time.p90, 2)),
        map50_95=round(parity.map50_95(result.images), 6),
        parity=None if found is None else _rounded(found),
    )


def _rounded(found: Parity) -> Parity:
    return replace(
        found,
        map_difference=round(found.map_difference, 6),
        box_error=round(found.box_error, 6),
        box_error_image=round(found.box_error_image, 6),
        confidence_error=round(found.confidence_error, 6),
    )


def size(path: Path) -> int:
    """Return the size of a file, or of all files in a folder, in bytes."""
    return path.stat().st_size if path.is_file() else sum(one.stat().st_size for one in path.rglob("*"))


def machine() -> str:
    """Return the machine that times are measured on, in words."""
    return f"{_processor()}, {usable_cores()} cores, {platform.system()}"


def _processor() -> str:
    """Return the processor's name where Linux has it, else its architecture."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def table_rows(record: Export) -> list[tuple[str, ...]]:
    """Return a row for each file: its size, latency, mAP and largest box error. See `HEADER`."""
    return [
        (
            one.file or "best.pt (PyTorch)",
            f"{one.megabytes:.1f}",
            f"{one.milliseconds.median:.1f}",
            f"{one.milliseconds.p10:.1f} to {one.milliseconds.p90:.1f}",
            f"{100 * one.map50_95:.2f}",
            "-" if one.parity is None else f"{one.parity.box_error:.4f}",
        )
        for one in record.models
    ]
