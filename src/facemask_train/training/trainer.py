"""The `ultralytics` detection trainer with atomic checkpoints. Importing this imports the package: open it first.

Checkpoints are in float32, so that their metrics are those of their row in `results.csv`.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from facemask_train.core.dist_env import dist_env
from facemask_train.training.history.results import read_rows
from facemask_train.training.loading.data_loader import open_loader
from facemask_train.training.loop import Loop
from facemask_train.training.parallel import distributed
from facemask_train.training.state import (
    PREVIOUS,
    checkpoint_metadata,
    plain_copy,
    save_checkpoint,
    serialize,
    snapshot,
)

_COLUMNS = ("precision", "recall", "mAP50", "mAP50-95")


class Trainer(Loop):
    """The loop with fmask's loader, checkpoints, and rows of `results.csv`."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        distributed.set_world_size(self)

    def _setup_ddp(self) -> None:
        """Initialize the process group. The package's own method takes the global rank for the local one."""
        distributed.init_process_group(self)

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Return the loader of a split: the device loader for training, if the plan says so."""
        if mode != "train" or self.plan.loader.kind == "stock":
            return super().get_dataloader(dataset_path, batch_size, rank, mode)
        dataset = self.build_dataset(dataset_path, mode, batch_size)
        return open_loader(
            dataset,
            self.args,
            self.device,
            batch_size=batch_size,
            epochs=self.epochs,
            memory=self.plan.loader.memory,
        )

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Append a row to `results.csv`: losses, learning rates, and the four metrics over all classes and by class."""
        names = self.data["names"].values()
        classes = {f"class/{name}/{key}": float("nan") for name in names for key in _COLUMNS}
        if (
            self.fitness is not None
        ):  # otherwise this epoch was not validated, and the validator has metrics of an earlier one
            classes |= class_metrics(self.validator.metrics)
        super().save_metrics(metrics | classes)

    def read_results_csv(self) -> dict[str, list[float]]:
        """Return the columns of `results.csv`, without polars."""
        rows = read_rows(self.csv)
        return {key: [row[key] for row in rows] for key in (rows[0] if rows else {})}

    def save_model(self) -> bool:
        """Write `last.pt`, with all state for a resume, then `best.pt` and the epoch's own file if they are due."""
        state = snapshot(self)
        save_checkpoint(self.last, serialize(state), previous=self.wdir / PREVIOUS)
        if self.fitness is not None and self.best_fitness == self.fitness:
            write_best(self.best, state["ema"], checkpoint_metadata(self))
        if self.save_period > 0 and self.epoch >= 0 and (self.epoch + 1) % self.save_period == 0:
            write_best(self.wdir / f"epoch{self.epoch + 1}.pt", state["ema"], checkpoint_metadata(self))
        return True

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Restore a checkpoint. Write `best.pt` if the process was killed before it could."""
        if ckpt is None or not self.resume:
            return
        self.start_epoch = ckpt["epoch"] + 1
        self._restore(ckpt)
        fitness = ckpt["train_metrics"]["fitness"]
        if dist_env().is_main and fitness is not None and fitness == ckpt["best_fitness"]:
            write_best(self.best, plain_copy(ckpt["ema"]), {key: ckpt[key] for key in _METADATA})


_METADATA = ("train_args", "train_metrics", "train_results", "version")


def class_metrics(scores: Any) -> dict[str, float]:
    """Return the four metrics of each class as `class/NAME/METRIC`; NaN for a class without labels.

    Args:
        scores: a `DetMetrics` of ultralytics, whose rows are ordered by `ap_class_index`, not by class.
    """
    rows = {int(index): row for row, index in enumerate(scores.box.ap_class_index)}
    found: dict[str, float] = {}
    for index, name in scores.names.items():
        values = scores.class_result(rows[int(index)]) if int(index) in rows else [float("nan")] * 4
        found |= {f"class/{name}/{key}": float(value) for key, value in zip(_COLUMNS, values, strict=True)}
    return found


def write_best(path: Path, ema: torch.nn.Module, metadata: dict[str, Any]) -> None:
    """Write a checkpoint for inference: the averaged weights in float32, without the optimizer."""
    save_checkpoint(path, serialize({"epoch": -1, "model": ema, "ema": None, "optimizer": None, **metadata}))


def seconds_per_image(model: torch.nn.Module, imgsz: int, images: int, autocast: AbstractContextManager[Any]) -> float:
    """Time a forward and a backward pass on a copy of the model: the fastest of three after a warm-up.

    Args:
        autocast: the context of the forward pass; it is entered four times.
    """
    copy = deepcopy(model).train()
    batch = torch.zeros(images, 3, imgsz, imgsz)
    seconds = []
    for _ in range(4):
        began = time.perf_counter()
        with autocast:
            outputs = copy(batch)
        torch.autograd.backward([value.float().sum() for value in _tensors(outputs)])
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:]) / images


def _tensors(outputs: Any) -> list[torch.Tensor]:
    if isinstance(outputs, torch.Tensor):
        return [outputs] if outputs.requires_grad else []
    parts = outputs.values() if isinstance(outputs, dict) else outputs if isinstance(outputs, (list, tuple)) else []
    return [tensor for part in parts for tensor in _tensors(part)]
