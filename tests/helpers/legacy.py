"""Checkpoints as the original YOLOv5 repository saves them: a pickled module of classes that are not installed here."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np


def write_legacy(path: Path, *, yaml: str = "yolov5n.yaml", extra: object = None) -> dict[str, Any]:
    """Write a checkpoint of seeded weights, and return its tensors by name.

    Args:
        yaml: the package's description of the model; its head stands for the original one.
        extra: something else that the file holds.
    """
    import torch

    from facemask_train.model.ultralytics_compat import open_ultralytics

    open_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(1)
    model = DetectionModel(yaml, nc=3, verbose=False)
    with original_classes() as classes:
        legacy = _renamed(model, classes).half()
        torch.save({"epoch": -1, "best_fitness": np.array([0.5]), "model": legacy, "extra": extra}, path)
    return dict(legacy.state_dict())


@contextmanager
def original_classes() -> Iterator[dict[str, type]]:
    """Let classes of `models.yolo` and `models.common` exist while a file is written."""
    import torch

    packages = {name: types.ModuleType(name) for name in ("models", "models.yolo", "models.common")}
    classes: dict[str, type] = {}
    for module, names in (("models.yolo", ["Model", "Detect"]), ("models.common", ["Conv", "C3", "SPPF", "Concat"])):
        for name in names:
            classes[name] = type(name, (torch.nn.Module,), {"__module__": module})
            setattr(packages[module], name, classes[name])
    sys.modules |= packages
    try:
        yield classes
    finally:
        for name in packages:
            del sys.modules[name]


def _renamed(module: Any, classes: dict[str, type]) -> Any:
    """Return a module whose parts of the `ultralytics` package are of classes of the original repository."""
    import torch

    for name, child in module.named_children():
        setattr(module, name, _renamed(child, classes))
    if not type(module).__module__.startswith("ultralytics"):
        return module
    kind = {"DetectionModel": "Model", "Detect": "Detect", "C3": "C3", "SPPF": "SPPF", "Concat": "Concat"}
    renamed = classes[kind.get(type(module).__name__, "Conv")]()
    assert isinstance(renamed, torch.nn.Module)
    for part in ("_parameters", "_buffers", "_modules"):
        setattr(renamed, part, getattr(module, part))
    return renamed
