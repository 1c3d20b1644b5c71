"""One training step: warm-up, forward pass, losses in float32, accumulation. Importing this imports the package.

Arguments and the meaning of every hyperparameter are those of the `ultralytics` trainer.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

from facemask_train.core.dist_env import cores_per_process, dist_env
from facemask_train.core.parallel import usable_cores
from facemask_train.training.failures import LossHistory
from facemask_train.training.plan import TrainPlan

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_AMP: dict[str, bool | str] = {"fp32": False, "bf16": "bf16", "fp16": True}
_log = logging.getLogger(__name__)


class StepTrainer(DetectionTrainer):  # type: ignore[misc]
    """The package's trainer with fmask's training step, which follows the plan.

    `pending` counts the batches whose gradients no optimizer step has used yet. `lr_scale` is the factor by which the
    learning rate was lowered. `nominal` is the number of images per optimizer step after the warm-up.
    """

    # attributes that the package sets, for the type checker
    model: Any
    amp: Any
    loss: Any
    tloss: Any
    loss_items: Any
    loss_names: tuple[str, ...]
    metrics: Any
    fitness: Any
    batch_size: int
    accumulate: int
    epoch: int
    epoch_time: float | None
    stop: bool

    def __init__(self, *, plan: TrainPlan, **kwargs: Any) -> None:
        """Prepare to train as planned; `kwargs` go to the package's trainer."""
        super().__init__(**kwargs)
        self.plan = plan
        self.pending, self.lr_scale = 0, 1.0
        self.nominal, self.decay = 0, 0.0
        self.loss_history = LossHistory()
        self.args.amp = _AMP[plan.step.precision] if self._cuda else False
        self.args.channels_last = plan.step.channels_last if self._cuda else None
        self.args.compile = plan.step.compile
        self.args.workers = min(self.args.workers, cores_per_process(usable_cores(), dist_env()))
        torch.set_num_threads(plan.step.threads)

    @property
    def _cuda(self) -> bool:
        return bool(self.device.type == "cuda")

    # ---- setting up ----

    def set_model_attributes(self) -> None:
        super().set_model_attributes()
        if self.plan.step.channels_last:  # the package does this at the same point, but only on a GPU
            self.model = self.model.to(memory_format=torch.channels_last)

    def build_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Return the package's optimizer, with a fused kernel if the plan has one."""
        optimizer: torch.optim.Optimizer = super().build_optimizer(*args, **kwargs)
        if not self.plan.step.fused:
            return optimizer
        groups = [
            {key: group[key] for key in group if key not in ("fused", "foreach")} for group in optimizer.param_groups
        ]
        return type(optimizer)(groups, lr=self.args.lr0, fused=True)  # type: ignore[call-arg]

    def _build_train_pipeline(self) -> None:
        """Build the loaders. If the batch became smaller, accumulation makes up for it and the weight decay stays."""
        super()._build_train_pipeline()
        weighted = [group for group in self.optimizer.param_groups if group.get("param_group") in ("weight", "muon")]
        if not self.nominal:
            self.nominal = self.batch_size * self.accumulate
            self.decay = weighted[0]["weight_decay"]
        self.accumulate = self.full_accumulate()
        for group in weighted:
            group["weight_decay"] = self.decay

    # ---- a batch ----

    def _train_batch(self, index: int, batch: dict[str, Any]) -> None:
        self._apply_warmup(index)
        batch = self.preprocess_batch(batch)
        self.loss, self.loss_items = self._compute_losses(batch)
        self._record_losses(index, batch)
        self.scaler.scale(self.loss).backward()
        self.pending += 1
        if self.pending >= self.accumulate:
            self.optimizer_step()
            self.pending = 0

    def _apply_warmup(self, index: int) -> None:
        """Set learning rates, momentum and accumulation during the warm-up, as the package does."""
        batches = len(self.train_loader)
        last, now = self._get_warmup_iterations(batches), index + batches * self.epoch
        if not last or now > last:
            return
        self.accumulate = max(1, round(float(np.interp(now, [0, last], [1, self.full_accumulate()]))))
        for group in self.optimizer.param_groups:
            first = self.args.warmup_bias_lr * self.lr_scale if group.get("param_group") == "bias" else 0.0
            group["lr"] = float(np.interp(now, [0, last], [first, group["initial_lr"] * self.lf(self.epoch)]))
            if "momentum" in group:
                momenta = [self.args.warmup_momentum, self.args.momentum]
                group["momentum"] = float(np.interp(now, [0, last], momenta))

    def full_accumulate(self) -> int:
        """Return the number of batches per optimizer step after the warm-up."""
        return max(1, round(self.nominal / self.batch_size))

    def autocast(self) -> torch.autocast:
        """Return the autocast context of the model's forward pass; the loss is outside."""
        dtype = _DTYPES[self.plan.step.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=self.plan.step.precision != "fp32")

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess_batch(batch)
        if self.plan.step.channels_last:
            batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)
        return batch

    def _compute_losses(self, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss to minimize and its components, in float32."""
        with self.autocast():
            predictions = self.model(batch["img"])
        loss, parts = unwrap_model(self.model).loss(batch, _to_float32(predictions))
        return loss.sum() * max(self.world_size, 1), parts

    def _record_losses(self, index: int, batch: dict[str, Any]) -> None:
        if not self.loss_names:
            self.loss_names = tuple(self.loss_items)
            if RANK in {-1, 0}:
                self.metrics.update(dict.fromkeys(self.label_loss_items(prefix="val"), 0.0))
        parts, mean = self.loss_items, self.tloss
        self.tloss = parts if mean is None else {key: (mean[key] * index + parts[key]) / (index + 1) for key in parts}
        self.loss_history.add(parts, batch.get("im_file", ()))
        if not self._cuda and RANK == -1:
            self.loss_history.check_last()
        if self.args.plots and index + len(self.train_loader) * self.epoch in self.plot_idx:
            self._try_plot(super().plot_training_samples, batch, index)

    # ---- plots, whose failures never stop a run ----

    def plot_training_labels(self) -> None:
        self._try_plot(super().plot_training_labels)

    def _try_plot(self, plot: Callable[..., None], *args: Any) -> None:
        try:
            plot(*args)
        except Exception as error:  # noqa: BLE001 - a missing package or font: a plot is not worth losing a run
            _log.warning("a plot is left out: %s: %s", type(error).__name__, error)


def _to_float32(predictions: Any) -> Any:
    """Convert predictions to float32, inside any nesting of dicts and lists."""
    if isinstance(predictions, torch.Tensor):
        return predictions.float() if predictions.is_floating_point() else predictions
    if isinstance(predictions, dict):
        return {key: _to_float32(value) for key, value in predictions.items()}
    if isinstance(predictions, (list, tuple)):
        return type(predictions)(_to_float32(value) for value in predictions)
    return predictions
