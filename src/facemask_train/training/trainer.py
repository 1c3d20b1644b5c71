"""The `ultralytics` detection trainer, made safe to kill: importing this imports the package (open it first).

A checkpoint is written whole or not at all, in float32, so that its numbers are those of its row in `results.csv`.
"""

from __future__ import annotations

import csv
import io
import time
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from ultralytics import __version__ as package_version
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.nn.tasks import torch_safe_load
from ultralytics.utils import DEFAULT_CFG_DICT

from facemask_train.folders import write_bytes
from facemask_train.ranks import place
from facemask_train.training import distributed

_COLUMNS = ("precision", "recall", "mAP50", "mAP50-95")


class Trainer(DetectionTrainer):  # type: ignore[misc]
    """What fmask changes: how checkpoints and rows are written, and what is done when the last epoch is over."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        distributed.take_part(self)

    def _setup_ddp(self) -> None:
        """Open the process group; the package's own takes the rank in the world for one on this machine."""
        distributed.join(self)

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Append one row to `results.csv`: losses, rates, and the four metrics for all and for each class."""
        super().save_metrics(metrics | class_metrics(self.validator.metrics))

    def read_results_csv(self) -> dict[str, list[float]]:
        """Return `results.csv` by column, without polars."""
        rows = read_rows(self.csv)
        return {key: [row[key] for row in rows] for key in (rows[0] if rows else {})}

    def save_model(self) -> bool:
        """Write `last.pt` (all that a resume needs), then `best.pt` and an epoch's own file where they are due."""
        ema = _plain(self.ema.ema)
        about = {
            "train_args": {key: value for key, value in vars(self.args).items() if key in DEFAULT_CFG_DICT},
            "train_metrics": {**self.metrics, "fitness": self.fitness},
            "train_results": self.read_results_csv(),
            "version": package_version,
        }
        state = {
            "epoch": self.epoch,
            "best_fitness": self.best_fitness,
            "stopper": {"best_fitness": self.stopper.best_fitness, "best_epoch": self.stopper.best_epoch},
            "model": None,
            "ema": ema,
            "updates": self.ema.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        write_bytes(self.last, _packed(state | about))
        if self.best_fitness == self.fitness:
            write_best(self.best, ema, about)
        if self.save_period > 0 and (self.epoch + 1) % self.save_period == 0:
            write_best(self.wdir / f"epoch{self.epoch + 1}.pt", ema, about)
        return True

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Go on from a checkpoint; a `best.pt` that a kill kept from being written is written now."""
        super().resume_training(ckpt)
        if (
            place().leads
            and ckpt is not None
            and self.resume
            and ckpt["train_metrics"]["fitness"] == ckpt["best_fitness"]
        ):
            about = {key: ckpt[key] for key in ("train_args", "train_metrics", "train_results", "version")}
            write_best(self.best, _plain(ckpt["ema"]), about)

    def final_eval(self) -> None:
        """Leave the checkpoints as they are; whoever trains scores `best.pt` afterwards, in a pass of its own."""
        distributed.compare(self)


def class_metrics(scores: Any) -> dict[str, float]:
    """Return the four metrics by class as `class/NAME/METRIC`; NaN for a class without labels.

    Args:
        scores: `ultralytics`' DetMetrics, whose rows are ordered by `ap_class_index`, not by class.
    """
    rows = {int(index): row for row, index in enumerate(scores.box.ap_class_index)}
    found: dict[str, float] = {}
    for index, name in scores.names.items():
        values = scores.class_result(rows[int(index)]) if int(index) in rows else [float("nan")] * 4
        found |= {f"class/{name}/{key}": float(value) for key, value in zip(_COLUMNS, values, strict=True)}
    return found


def write_best(path: Path, ema: torch.nn.Module, about: dict[str, Any]) -> None:
    """Write a checkpoint for use: the averaged weights in float32 without the optimiser."""
    write_bytes(path, _packed({"epoch": -1, "model": ema, "ema": None, "optimizer": None, **about}))


def read_rows(path: Path) -> list[dict[str, float]]:
    """Return the rows of a `results.csv`; a last line that a kill cut short is left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    lines = list(csv.reader(text[: text.rfind("\n") + 1].splitlines()))
    header, *rows = lines or [[]]
    return [dict(zip(header, map(float, row), strict=True)) for row in rows if len(row) == len(header)]


def keep_rows(path: Path, epochs: int) -> None:
    """Cut `results.csv` back to its first `epochs` rows: those that the checkpoint knows of."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    write_bytes(path, "".join(f"{line}\n" for line in lines[: epochs + 1]).encode())


def _plain(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy to store: float32, contiguous, without what only training needs."""
    copy: Any = deepcopy(model).float().to(memory_format=torch.contiguous_format)
    copy.criterion = None
    if not isinstance(copy.args, dict):
        copy.args = dict(vars(copy.args))
    return copy  # type: ignore[no-any-return]


def _packed(checkpoint: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def load_state(last: Path) -> dict[str, Any]:
    """Return what `last.pt` holds, loaded as weights only."""
    state, _ = torch_safe_load(str(last))
    return dict(state)


def seconds_per_picture(model: torch.nn.Module, imgsz: int, pictures: int) -> float:
    """Time a forward and a backward pass on a copy of the model: the fastest of three, after one to warm up."""
    copy = deepcopy(model).train()
    batch = torch.zeros(pictures, 3, imgsz, imgsz)  # no random numbers: drawing some would change the training
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        outputs = copy(batch)
        torch.autograd.backward([value.float().sum() for value in _tensors(outputs)])
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:]) / pictures


def _tensors(outputs: Any) -> list[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        return [outputs] if outputs.requires_grad else []
    parts = outputs.values() if isinstance(outputs, dict) else outputs if isinstance(outputs, (list, tuple)) else []
    return [tensor for part in parts for tensor in _tensors(part)]
