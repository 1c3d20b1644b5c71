"""The training loop: epochs, validation, and recovery from failures. Importing this imports the package.

It replaces the loop of the `ultralytics` trainer, which cannot resume exactly (it loses the batches since the last
optimizer step and their gradients) and does not survive running out of memory after the first epoch. Callbacks,
arguments and the meaning of every hyperparameter are the package's.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from ultralytics.utils import RANK
from ultralytics.utils.torch_utils import unwrap_model

from facemask_train.core.errors import StoppedError, TrainingError
from facemask_train.core.files import write_json
from facemask_train.training.failures import LossHistory, NotFinite, SignalHandler, is_out_of_memory
from facemask_train.training.plan import TrainPlan
from facemask_train.training.runs import RunEvent
from facemask_train.training.state import begin_epoch, newest, restore
from facemask_train.training.step import StepTrainer

EVIDENCE = "not-finite.json"
LR_REDUCTION = 0.25
"""The factor for the learning rate when an epoch is repeated because of values that are not finite."""

Note = Callable[[RunEvent], None]
_log = logging.getLogger(__name__)


class Loop(StepTrainer):
    """The package's trainer with fmask's loop."""

    def __init__(self, *, plan: TrainPlan, note: Note, **kwargs: Any) -> None:
        """Prepare to train.

        Args:
            note: called with each event that belongs in the run's record.
        """
        super().__init__(plan=plan, **kwargs)
        self.note = note
        self.signals = SignalHandler()

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
            self._save()  # a failure in the first epoch restores this
        self.epoch = self.start_epoch
        with SignalHandler() as self.signals:
            while not self.stop:
                if self._try_epoch():
                    self.epoch += 1
        self.epoch -= 1
        if self.args.plots and RANK in {-1, 0}:
            self._try_plot(self.plot_metrics)
        self.run_callbacks("on_train_end")
        for loader in (self.train_loader, self.test_loader):
            if hasattr(loader, "close"):
                loader.close()

    def _save(self) -> None:
        if RANK in {-1, 0}:
            self.save_model()

    def _try_epoch(self) -> bool:
        """Run an epoch. Return whether it is done; after a failure it has to be repeated from its start."""
        try:
            self._train_epoch()
            self._end_epoch()
        except NotFinite as error:
            evidence = error.evidence
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or RANK != -1:
                raise
            evidence = {}
        else:
            return True
        # Outside the handlers: an error that is being handled keeps its tensors alive.
        if evidence:
            self._retry_with_lower_rate(evidence)
        else:
            self._retry_with_smaller_batch()
        return False

    def _train_epoch(self) -> None:
        self.run_callbacks("on_train_epoch_start")
        self._model_train()
        begin_epoch(self.train_loader, self.args.seed, self.epoch)
        if self.args.close_mosaic and self.epoch >= self.epochs - self.args.close_mosaic:
            self._close_dataloader_mosaic()
        for group in self.optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.lf(self.epoch)
        self.tloss, self.loss_history = None, LossHistory()
        for index, batch in enumerate(self.train_loader):
            self.run_callbacks("on_train_batch_start")
            self._train_batch(index, batch)
            self.run_callbacks("on_train_batch_end")
            if self.stop:
                break
            self._check_signals(index + 1)

    def _end_epoch(self) -> None:
        self._check_finite()
        criterion = unwrap_model(self.model).criterion
        if hasattr(criterion, "update"):
            criterion.update()
        self.lr = {f"lr/pg{number}": group["lr"] for number, group in enumerate(self.optimizer.param_groups)}
        self.run_callbacks("on_train_epoch_end")
        final = self.epoch + 1 >= self.epochs
        regular = self.args.val and (self.epoch + 1) % self.plan.val_every == 0
        self._validate(due=regular or final or self.stop or self.stopper.possible_stop)
        if RANK in {-1, 0}:
            self.save_metrics({**self.label_loss_items(self.tloss), **self.metrics, **self.lr})
            self.stop |= self.stopper(self.epoch + 1, self.fitness) or final
            self._save()
            self.run_callbacks("on_model_save")
        self.epoch_time, self.epoch_time_start = time.time() - self.epoch_time_start, time.time()
        self.run_callbacks("on_fit_epoch_end")
        self.stop = self._broadcast_from_main(self.stop)
        self._check_signals(0)

    def _check_finite(self) -> None:
        """Raise `NotFinite` on all ranks if a loss of this epoch or a weight at its end is not finite."""
        found: dict[str, Any] = {}
        try:
            self.loss_history.check_all()
        except NotFinite as error:
            found = error.evidence
        if not found and not all(bool(weight.isfinite().all()) for weight in self.model.parameters()):
            found = {"what": "weights", **self.loss_history.evidence(len(self.loss_history.losses) - 1)}
        if self._any_process(bool(found)):
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
        """Validate in float32, whatever precision the step has. Plots that fail are turned off."""
        amp, self.amp = self.amp, False
        try:
            return super().validate()
        except Exception as error:
            if not self.validator.args.plots or is_out_of_memory(error):
                raise
            _log.warning("plots are turned off: %s: %s", type(error).__name__, error)
            self.args.plots = self.validator.args.plots = False
            return super().validate()
        finally:
            self.amp = amp

    # ---- recovery from failures ----

    def _check_signals(self, batch: int) -> None:
        if (
            not self.signals.name or self.stop or (batch and RANK != -1)
        ):  # several processes stop together, after an epoch
            return
        where = f"in epoch {self.epoch + 1}, which will start over" if batch else f"after epoch {self.epoch + 1}"
        raise StoppedError(
            f"{self.save_dir}: {self.signals.name} stopped training {where}",
            next_step=f"fmask train --resume --name {self.save_dir.name}",
        )

    def _retry_with_smaller_batch(self) -> None:
        """Repeat the epoch with half the batch and twice the accumulation."""
        old = self.batch_size
        if old == 1:
            raise TrainingError(
                f"{self.save_dir}: out of memory with a batch of 1 in epoch {self.epoch + 1}",
                next_step="free memory and continue with --resume, or start again with a smaller --imgsz or model",
            )
        self.args.batch = self.batch_size = old // 2
        self._restore_last_state()
        accumulated = f"{self.full_accumulate()} batches per optimizer step"
        _log.warning("out of memory with a batch of %d: continuing with %d, %s", old, self.batch_size, accumulated)
        details = {"epoch": self.epoch + 1, "previous batch": old}
        self.note(RunEvent("out of memory", batch=self.batch_size, details=details))

    def _retry_with_lower_rate(self, evidence: dict[str, object]) -> None:
        """Repeat the epoch with a lower learning rate, or stop if that was tried before."""
        epoch = self.epoch + 1
        evidence = {"epoch": epoch, "lr": self.optimizer.param_groups[0]["lr"], **evidence}
        if RANK in {-1, 0}:
            write_json(self.save_dir / EVIDENCE, evidence)
        if self.lr_scale < 1:
            raise TrainingError(
                f"{self.save_dir}: {evidence['what']} not finite in epoch {epoch}, batch {evidence.get('batch', '?')},"
                f" also with a lower learning rate; losses, learning rate and images are in {EVIDENCE}",
                next_step="check these images and labels; then train again with a lower --set lr0, "
                "or with --precision fp32",
            )
        self._restore_last_state()
        self.lr_scale *= LR_REDUCTION
        for group in self.optimizer.param_groups:
            group["initial_lr"] *= LR_REDUCTION
        _log.warning(
            "%s not finite in epoch %d: repeating it with %g x the learning rate", evidence["what"], epoch, LR_REDUCTION
        )
        self.note(RunEvent("not finite", details={"epoch": epoch, "lr factor": LR_REDUCTION, "evidence": EVIDENCE}))

    def _restore_last_state(self) -> None:
        """Restore the last checkpoint, with loaders for the current batch."""
        self.loss = self.loss_items = self.tloss = None
        self.loss_history = LossHistory()
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

    # ---- several processes ----

    def _broadcast_from_main(self, value: bool) -> bool:
        """Return the main process's value."""
        if RANK == -1:
            return value
        values: list[bool | None] = [value if RANK == 0 else None]
        dist.broadcast_object_list(values, 0)
        return bool(values[0])

    def _any_process(self, value: bool) -> bool:
        """Return whether the value is true in any process."""
        if RANK == -1:
            return value
        flag = torch.tensor(float(value), device=self.device)
        dist.all_reduce(flag, dist.ReduceOp.MAX)
        return bool(flag)
