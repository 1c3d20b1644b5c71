"""The loop of training: epochs, batches, steps, and what is done when one of them fails.

It stands in for the package's own, which can neither go on exactly after a kill (the count of batches since the last
step is lost, and so are their gradients) nor survive a lack of memory after the first epoch. Hooks, arguments and the
meaning of every hyper-parameter are the package's. Importing this imports the package (open it first).
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from ultralytics.models.yolo.detect import DetectionTrainer
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

from facemask_train.core.dist_env import cores_per_process, dist_env
from facemask_train.core.errors import StoppedError, TrainingError
from facemask_train.core.files import write_json
from facemask_train.core.parallel import usable_cores
from facemask_train.train.failures import NotFinite, Signals, Trail, is_out_of_memory
from facemask_train.train.precision import Step
from facemask_train.train.state import begin_epoch, newest, restore

EVIDENCE = "not-finite.json"
SLOWER = 0.25
"""What the rate is multiplied with when training goes back because of numbers that are not finite."""

Note = Callable[[dict[str, Any]], None]
_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_log = logging.getLogger(__name__)


class Loop(DetectionTrainer):  # type: ignore[misc]
    """The package's trainer with a loop of its own.

    `waiting` counts the batches whose gradients no step has used yet. `slowed` is what the rate was multiplied with.
    `nominal` is how many images make a step once the warm-up is over.
    """

    # what the package keeps here, for the type checker
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

    def __init__(self, *, step: Step, note: Note, val_every: int = 1, **given: Any) -> None:
        """Prepare to train.

        Args:
            step: how a step is run.
            note: called with each event that the run's records should have.
            val_every: epochs from one validation to the next.
        """
        super().__init__(**given)
        self.step, self.note, self.val_every = step, note, val_every
        self.waiting, self.slowed = 0, 1.0
        self.nominal, self.decay = 0, 0.0
        self.signals, self.trail = Signals(), Trail()
        self.args.amp = {"fp32": False, "bf16": "bf16", "fp16": True}[step.precision] if self._cuda else False
        self.args.channels_last = step.channels_last if self._cuda else None
        self.args.compile = step.compile
        self.args.workers = min(self.args.workers, cores_per_process(usable_cores(), dist_env()))
        torch.set_num_threads(step.threads)

    @property
    def _cuda(self) -> bool:
        return bool(self.device.type == "cuda")

    # ---- setting up ----

    def set_model_attributes(self) -> None:
        super().set_model_attributes()
        if self.step.channels_last:  # the package does this on a GPU alone, at this very moment
            self.model = self.model.to(memory_format=torch.channels_last)

    def build_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """Return the package's optimiser, as one kernel where that was chosen."""
        made: torch.optim.Optimizer = super().build_optimizer(*args, **kwargs)
        if not self.step.fused:
            return made
        groups = [{key: group[key] for key in group if key not in ("fused", "foreach")} for group in made.param_groups]
        return type(made)(groups, lr=self.args.lr0, fused=True)  # type: ignore[call-arg]

    def _build_train_pipeline(self) -> None:
        """Build the loaders; a batch that became smaller is made up for by accumulation, the decay stays."""
        super()._build_train_pipeline()
        weighted = [group for group in self.optimizer.param_groups if group.get("param_group") in ("weight", "muon")]
        if not self.nominal:
            self.nominal = self.batch_size * self.accumulate
            self.decay = weighted[0]["weight_decay"]
        self.accumulate = self.full_accumulate()
        for group in weighted:
            group["weight_decay"] = self.decay

    # ---- the loop ----

    def _do_train(self) -> None:
        if self.world_size > 1:
            self._setup_ddp()
        self._setup_train()
        self.train_time_start = self.epoch_time_start = time.time()
        self.epoch_time = None
        self.run_callbacks("on_train_start")
        if not self.resume:
            self.epoch = -1
            self._keep()  # what a fault in the first epoch goes back to
        self.epoch = self.start_epoch
        with Signals() as self.signals:
            while not self.stop:
                if self._epoch_done():
                    self.epoch += 1
        self.epoch -= 1
        if self.args.plots and RANK in {-1, 0}:
            self._plotted(self.plot_metrics)
        self.run_callbacks("on_train_end")
        for loader in (self.train_loader, self.test_loader):
            if hasattr(loader, "close"):
                loader.close()

    def _keep(self) -> None:
        if RANK in {-1, 0}:
            self.save_model()

    def _epoch_done(self) -> bool:
        """Run an epoch; say if it is done, or has to be done again from its start after a fault."""
        try:
            self._train_epoch()
            self._end_epoch()
        except NotFinite as found:
            evidence = found.evidence
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or RANK != -1:
                raise
            evidence = {}
        else:
            return True
        # outside the handlers: an error that is being handled keeps its tensors alive
        if evidence:
            self._go_back_slower(evidence)
        else:
            self._go_back_smaller()
        return False

    def _train_epoch(self) -> None:
        self.run_callbacks("on_train_epoch_start")
        self._model_train()
        begin_epoch(self.train_loader, self.args.seed, self.epoch)
        if self.args.close_mosaic and self.epoch >= self.epochs - self.args.close_mosaic:
            self._close_dataloader_mosaic()
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.lf(self.epoch)
        self.tloss, self.trail = None, Trail()
        for index, batch in enumerate(self.train_loader):
            self.run_callbacks("on_train_batch_start")
            self._train_batch(index, batch)
            self.run_callbacks("on_train_batch_end")
            if self.stop:
                break
            self._heed_signals(index + 1)

    def _train_batch(self, index: int, batch: dict[str, Any]) -> None:
        self._warm_up(index)
        batch = self.preprocess_batch(batch)
        self.loss, self.loss_items = self._losses(batch)
        self._remember(index, batch)
        self.scaler.scale(self.loss).backward()
        self.waiting += 1
        if self.waiting >= self.accumulate:
            self.optimizer_step()
            self.waiting = 0

    def _warm_up(self, index: int) -> None:
        """Set rates, momentum and accumulation for a batch of the first epochs, as the package does."""
        batches = len(self.train_loader)
        last, now = self._get_warmup_iterations(batches), index + batches * self.epoch
        if not last or now > last:
            return
        self.accumulate = max(1, round(float(np.interp(now, [0, last], [1, self.full_accumulate()]))))
        for group in self.optimizer.param_groups:
            first = self.args.warmup_bias_lr * self.slowed if group.get("param_group") == "bias" else 0.0
            group["lr"] = float(np.interp(now, [0, last], [first, group["initial_lr"] * self.lf(self.epoch)]))
            if "momentum" in group:
                momenta = [self.args.warmup_momentum, self.args.momentum]
                group["momentum"] = float(np.interp(now, [0, last], momenta))

    def full_accumulate(self) -> int:
        """Return how many batches make a step once the warm-up is over."""
        return max(1, round(self.nominal / self.batch_size))

    def autocast(self) -> torch.autocast:
        """Return the context that the model, and nothing else, runs in."""
        dtype = _DTYPES[self.step.precision]
        return torch.autocast(self.device.type, dtype=dtype, enabled=self.step.precision != "fp32")

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        batch = super().preprocess_batch(batch)
        if self.step.channels_last:
            batch["img"] = batch["img"].contiguous(memory_format=torch.channels_last)
        return batch

    def _losses(self, batch: dict[str, Any]) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
        """Return the loss to go down and its parts, in float32."""
        with self.autocast():
            predictions = self.model(batch["img"])
        loss, parts = unwrap_model(self.model).loss(batch, _in_float32(predictions))
        return loss.sum() * max(self.world_size, 1), parts

    def _remember(self, index: int, batch: dict[str, Any]) -> None:
        if not self.loss_names:
            self.loss_names = tuple(self.loss_items)
            if RANK in {-1, 0}:
                self.metrics.update(dict.fromkeys(self.label_loss_items(prefix="val"), 0.0))
        parts, mean = self.loss_items, self.tloss
        self.tloss = parts if mean is None else {key: (mean[key] * index + parts[key]) / (index + 1) for key in parts}
        self.trail.add(parts, batch.get("im_file", ()))
        if not self._cuda and RANK == -1:
            self.trail.check_last()
        if self.args.plots and index + len(self.train_loader) * self.epoch in self.plot_idx:
            self._plotted(super().plot_training_samples, batch, index)

    def _end_epoch(self) -> None:
        self._check_finite()
        criterion = unwrap_model(self.model).criterion
        if hasattr(criterion, "update"):
            criterion.update()
        self.lr = {f"lr/pg{number}": group["lr"] for number, group in enumerate(self.optimizer.param_groups)}
        self.run_callbacks("on_train_epoch_end")
        final = self.epoch + 1 >= self.epochs
        regular = self.args.val and (self.epoch + 1) % self.val_every == 0
        self._validate(due=regular or final or self.stop or self.stopper.possible_stop)
        if RANK in {-1, 0}:
            self.save_metrics({**self.label_loss_items(self.tloss), **self.metrics, **self.lr})
            self.stop |= self.stopper(self.epoch + 1, self.fitness) or final
            self._keep()
            self.run_callbacks("on_model_save")
        self.epoch_time, self.epoch_time_start = time.time() - self.epoch_time_start, time.time()
        self.run_callbacks("on_fit_epoch_end")
        self.stop = self._first_says(self.stop)
        self._heed_signals(0)

    def _check_finite(self) -> None:
        """Raise `NotFinite` on all ranks if a loss of this epoch, or a weight at its end, is not finite."""
        found: dict[str, Any] = {}
        try:
            self.trail.check_all()
        except NotFinite as error:
            found = error.evidence
        if not found and not all(bool(weight.isfinite().all()) for weight in self.model.parameters()):
            found = {"what": "weights", **self.trail.evidence(len(self.trail.losses) - 1)}
        if self._any_says(bool(found)):
            raise NotFinite(found or {"what": "another process"})

    def _validate(self, *, due: bool) -> None:
        if RANK in {-1, 0}:
            self.ema.update_attr(self.model, include=["yaml", "nc", "args", "names", "stride", "class_weights"])
        if due:
            self._clear_memory(0.5)
            self.metrics, self.fitness = self.validate()
        else:
            self.metrics, self.fitness = dict.fromkeys(self.metrics or (), math.nan), None

    def validate(self) -> Any:
        """Validate in float32, whatever the step runs in; plots that fail are left out from then on."""
        amp, self.amp = self.amp, False
        try:
            return super().validate()
        except Exception as error:
            if not self.validator.args.plots or is_out_of_memory(error):
                raise
            _log.warning("plots are left out: %s: %s", type(error).__name__, error)
            self.args.plots = self.validator.args.plots = False
            return super().validate()
        finally:
            self.amp = amp

    # ---- faults ----

    def _heed_signals(self, batch: int) -> None:
        if not self.signals.name or self.stop or (batch and RANK != -1):  # ranks stop together, after an epoch
            return
        where = f"in epoch {self.epoch + 1}, which starts over" if batch else f"after epoch {self.epoch + 1}"
        raise StoppedError(
            f"{self.save_dir}: {self.signals.name} stopped training {where}",
            next_step=f"fmask train --resume --name {self.save_dir.name}",
        )

    def _go_back_smaller(self) -> None:
        """Start the epoch again with half the batch and twice the accumulation."""
        old = self.batch_size
        if old == 1:
            raise TrainingError(
                f"{self.save_dir}: out of memory with a batch of 1 in epoch {self.epoch + 1}",
                next_step="free memory and go on with --resume, or start anew with a smaller --imgsz or model",
            )
        self.args.batch = self.batch_size = old // 2
        self._go_back()
        accumulated = f"{self.full_accumulate()} batches make a step"
        _log.warning("out of memory with a batch of %d: going on with %d, %s", old, self.batch_size, accumulated)
        self.note({"event": "out of memory", "epoch": self.epoch + 1, "batch": self.batch_size, "was": old})

    def _go_back_slower(self, evidence: dict[str, Any]) -> None:
        """Start the epoch again with a lower rate, or stop if that was tried before."""
        epoch = self.epoch + 1
        evidence = {"epoch": epoch, "rate": self.optimizer.param_groups[0]["lr"], **evidence}
        if RANK in {-1, 0}:
            write_json(self.save_dir / EVIDENCE, evidence)
        if self.slowed < 1:
            raise TrainingError(
                f"{self.save_dir}: {evidence['what']} not finite in epoch {epoch}, batch {evidence.get('batch', '?')},"
                f" also with a lower rate; losses, rate and images are in {EVIDENCE}",
                next_step="look at these images and labels; then train anew with a lower --set lr0, "
                "or with --precision fp32",
            )
        self._go_back()
        self.slowed *= SLOWER
        for group in self.optimizer.param_groups:
            group["initial_lr"] *= SLOWER
        _log.warning("%s not finite in epoch %d: starting it again with %g x the rate", evidence["what"], epoch, SLOWER)
        self.note({"event": "not finite", "epoch": epoch, "rate times": SLOWER, "evidence": EVIDENCE})

    def _go_back(self) -> None:
        """Restore the last good state, with loaders for the batch as it is now."""
        self.loss = self.loss_items = self.tloss = None
        self.trail = Trail()
        self.optimizer.zero_grad()
        if hasattr(self.train_loader, "close"):
            self.train_loader.close()
        self._clear_memory()
        self._build_train_pipeline()
        self.validator.dataloader = self.test_loader
        found = newest(self.wdir)
        assert found, "the first checkpoint is written before the first epoch"
        self._restore(found[1])
        self.epoch = found[1]["epoch"] + 1

    def _restore(self, state: dict[str, Any]) -> None:
        restore(self, state)

    # ---- more than one process ----

    def _first_says(self, said: bool) -> bool:
        if RANK == -1:
            return said
        told: list[Any] = [said if RANK == 0 else None]
        dist.broadcast_object_list(told, 0)
        return bool(told[0])

    def _any_says(self, said: bool) -> bool:
        if RANK == -1:
            return said
        flag = torch.tensor(float(said), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)

    # ---- plots, which never stop a run ----

    def plot_training_labels(self) -> None:
        self._plotted(super().plot_training_labels)

    def _plotted(self, plot: Callable[..., None], *args: Any) -> None:
        try:
            plot(*args)
        except Exception as error:  # noqa: BLE001 - a missing package, a font, anything: no image is worth a run
            _log.warning("a plot is left out: %s: %s", type(error).__name__, error)


def _in_float32(predictions: Any) -> Any:
    """Return predictions, in whatever mappings and lists they come, as float32."""
    if isinstance(predictions, torch.Tensor):
        return predictions.float() if predictions.is_floating_point() else predictions
    if isinstance(predictions, dict):
        return {key: _in_float32(value) for key, value in predictions.items()}
    if isinstance(predictions, (list, tuple)):
        return type(predictions)(_in_float32(value) for value in predictions)
    return predictions
