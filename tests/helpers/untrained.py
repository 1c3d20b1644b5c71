"""An untrained detector that still detects something: seeded weights, modified to detect objects in some places."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray


def scene(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    """Return an image (h, w, 3) of soft blobs: as uneven as a photo, unlike noise."""
    import cv2

    coarse = np.random.default_rng(seed).integers(0, 256, (7, 9, 3), dtype=np.uint8)
    return cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)


def write_model(
    path: Path,
    *,
    imgsz: int,
    kind: str = "yolov5n",
    share: float = 0.05,
    images: Sequence[NDArray[np.uint8]] | None = None,
    reach: int | None = None,
) -> None:
    """Write a checkpoint of two classes whose confidence is above 0.25 for about a `share` of all its answers.

    Args:
        images: on which it is so: (imgsz, imgsz, 3) each; scenes where left out.
        reach: how far a box extends from its anchor point to each side, in strides: about this far. Where it is left
            out, any of the 16 distances is as likely as another, which gives boxes of 15 strides.
    """
    import torch

    from facemask_train.model.ultralytics_compat import open_ultralytics

    open_ultralytics()
    from ultralytics.nn.tasks import DetectionModel

    torch.manual_seed(0)
    model = DetectionModel(f"{kind}.yaml", nc=2, verbose=False)
    model.names = {0: "mask", 1: "no_mask"}
    shown = images or [scene(seed, imgsz, imgsz) for seed in range(4)]
    tensor = torch.from_numpy(np.stack(shown)).permute(0, 3, 1, 2) / 255
    _settle(model, tensor)
    with torch.inference_mode():
        scores = model.eval()(tensor)[0][:, 4:].flatten().logit()
    spread, least = 1.5 / float(scores.std()), float(scores.quantile(1 - share))
    for branch in model.model[-1].cv3:
        last = branch[-1]
        last.weight.data *= spread
        last.bias.data = (last.bias.data - least) * spread - 1.1  # the logit of 0.25
    if reach is not None:
        for branch in model.model[-1].cv2:
            branch[-1].bias.data.view(4, -1)[:, reach] += 8.0  # the distances are a softmax over 16 bins
    model.args = {"imgsz": imgsz}
    torch.save({"model": model, "train_args": {"imgsz": imgsz, "task": "detect"}}, path)


def _settle(model: object, images: object) -> None:
    """Let the normalizations take on what they see: without it, all answers of fresh weights are one."""
    import torch

    norms = [part for part in model.modules() if isinstance(part, torch.nn.BatchNorm2d)]  # type: ignore[attr-defined]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        model.train()(images)  # type: ignore[attr-defined]


def export(weights: Path, folder: Path, *, to: str, imgsz: int, dynamic: bool = False, nms: bool = False) -> Path:
    """Write an export as the `ultralytics` package itself does, into a separate folder."""
    from ultralytics import YOLO

    folder.mkdir()
    copy = shutil.copy(weights, folder / "best.pt")
    options = {"imgsz": imgsz, "dynamic": dynamic, "nms": nms, "device": "cpu", "verbose": False}
    options |= {"simplify": False} if to == "onnx" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the tracer that the package still uses
        return Path(YOLO(copy).export(format=to, **options))
