"""The `ultralytics` detection trainer, made safe to kill: importing this imports the package (open it first).

A checkpoint is written whole or not at all, in float32, so that its numbers are those of its row in `results.csv`.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from facemask_train.core.dist_env import dist_env
from facemask_train.train.history.results import read_rows
from facemask_train.train.loading.data_loader import open_loader
from facemask_train.train.loop import Loop
from facemask_train.train.parallel import distributed
from facemask_train.train.state import PREVIOUS, described, keep, packed, plain, snapshot

_COLUMNS = ("precision", "recall", "mAP50", "mAP50-95")


class Trainer(Loop):
    """What fmask changes beside the loop: how checkpoints and rows are written."""

    loader = "stock"  # or "device": whoever trains says so before training starts

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        distributed.take_part(self)

    def _setup_ddp(self) -> None:
        """Open the process group; the package's own takes the rank in the world for one on this machine."""
        distributed.join(self)

    def get_dataloader(self, dataset_path: str, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        """Return the loader of a split; that of training is the device loader where it was chosen."""
        if mode != "train" or self.loader == "stock":
            return super().get_dataloader(dataset_path, batch_size, rank, mode)
        dataset = self.build_dataset(dataset_path, mode, batch_size)
        return open_loader(dataset, self.args, self.device, batch_size=batch_size, epochs=self.epochs)

    def save_metrics(self, metrics: dict[str, Any]) -> None:
        """Append one row to `results.csv`: losses, rates, and the four metrics for all and for each class."""
        names = self.data["names"].values()
        classes = {f"class/{name}/{key}": float("nan") for name in names for key in _COLUMNS}
        if self.fitness is not None:  # else no validation in this epoch: the validator holds an earlier one's, or none
            classes |= class_metrics(self.validator.metrics)
        super().save_metrics(metrics | classes)

    def read_results_csv(self) -> dict[str, list[float]]:
        """Return `results.csv` by column, without polars."""
        rows = read_rows(self.csv)
        return {key: [row[key] for row in rows] for key in (rows[0] if rows else {})}

    def save_model(self) -> bool:
        """Write `last.pt` (all that a resume needs), then `best.pt` and an epoch's own file where they are due."""
        state = snapshot(self)
        keep(self.last, packed(state), previous=self.wdir / PREVIOUS)
        if self.fitness is not None and self.best_fitness == self.fitness:
            write_best(self.best, state["ema"], described(self))
        if self.save_period > 0 and self.epoch >= 0 and (self.epoch + 1) % self.save_period == 0:
            write_best(self.wdir / f"epoch{self.epoch + 1}.pt", state["ema"], described(self))
        return True

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Go on from a checkpoint; a `best.pt` that a kill kept from being written is written now."""
        if ckpt is None or not self.resume:
            return
        self.start_epoch = ckpt["epoch"] + 1
        self._restore(ckpt)
        fitness = ckpt["train_metrics"]["fitness"]
        if dist_env().is_main and fitness is not None and fitness == ckpt["best_fitness"]:
            write_best(self.best, plain(ckpt["ema"]), {key: ckpt[key] for key in _ABOUT})


_ABOUT = ("train_args", "train_metrics", "train_results", "version")


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
    keep(path, packed({"epoch": -1, "model": ema, "ema": None, "optimizer": None, **about}))


def seconds_per_image(model: torch.nn.Module, imgsz: int, images: int, autocast: AbstractContextManager[Any]) -> float:
    """Time a forward and a backward pass on a copy of the model: the fastest of three, after one to warm up.

    Args:
        autocast: what the forward pass runs in; entered four times.
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
