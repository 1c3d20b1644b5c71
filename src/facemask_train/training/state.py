"""The complete training state, and the two checkpoints that store it, so that a resumed run continues exactly.

Importing this imports the package: open it first. The randomness of an epoch is a function of the seed and the epoch
(`begin_epoch`), so the state of generators and loaders need not be stored. Does not import the loop.
"""

from __future__ import annotations

import hashlib
import io
import logging
import pickle
import random
import shutil
import zipfile
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ultralytics import __version__ as package_version
from ultralytics.nn.tasks import torch_safe_load
from ultralytics.utils import DEFAULT_CFG_DICT, RANK
from ultralytics.utils.torch_utils import ModelEMA, unwrap_model

from facemask_train.core.errors import DataError, StorageError
from facemask_train.core.files import write_bytes

LAST, PREVIOUS = "last.pt", "previous.pt"
_STOPPER = ("best_fitness", "best_epoch", "possible_stop")
_UNREADABLE = (OSError, RuntimeError, EOFError, ValueError, KeyError, pickle.UnpicklingError, zipfile.BadZipFile)
_log = logging.getLogger(__name__)


def begin_epoch(loader: Any, seed: int, epoch: int) -> None:
    """Make the randomness of an epoch a function of the seed and the epoch's number, whatever ran before.

    The package's own loader carries state from one epoch to the next (shuffling, workers, the images kept for
    mosaics), so it is reset. fmask's loader has `set_epoch`.
    """
    digest = hashlib.sha256(f"{seed}:{epoch}:{RANK}".encode()).digest()
    number = int.from_bytes(digest[:4])
    random.seed(number)
    np.random.seed(number)
    torch.manual_seed(number)
    if hasattr(loader, "set_epoch"):
        loader.set_epoch(epoch)
        return
    if hasattr(loader.sampler, "set_epoch"):
        loader.sampler.set_epoch(epoch)
    loader.generator.manual_seed(number)
    loader.reset()
    _renew_mosaic_buffer(loader.dataset)


def _renew_mosaic_buffer(dataset: Any) -> None:
    """Refill the buffer that mosaics draw from, with as many images as in the middle of an epoch."""
    if not dataset.max_buffer_length or dataset.cache == "ram":
        return
    empty: list[Any] = [None] * len(dataset.ims)
    dataset.ims, dataset.im_hw0, dataset.im_hw = empty, list(empty), list(empty)
    dataset.buffer = random.sample(range(len(dataset.ims)), dataset.max_buffer_length - 1)


def snapshot(trainer: Any) -> dict[str, Any]:
    """Return the checkpoint after an epoch (-1: before the first): everything that `restore` needs, in float32.

    It is also a valid checkpoint of the package, which loads `ema` as the model and finds its other keys too.
    """
    gradients = [weight.grad for weight in trainer.model.parameters()] if trainer.pending else None
    return {
        "epoch": trainer.epoch,
        "stopped": bool(trainer.stop),
        "weights": unwrap_model(trainer.model).state_dict(),
        "gradients": gradients,
        "pending": trainer.pending,
        "lr_scale": trainer.lr_scale,
        "nominal": trainer.nominal,
        "batch": trainer.batch_size,
        "best_fitness": trainer.best_fitness,
        "stopper": {key: getattr(trainer.stopper, key) for key in _STOPPER},
        "model": None,
        "ema": plain_copy(trainer.ema.ema),
        "updates": trainer.ema.updates,
        "optimizer": trainer.optimizer.state_dict(),
        "scaler": trainer.scaler.state_dict(),
        **checkpoint_metadata(trainer),
    }


def checkpoint_metadata(trainer: Any) -> dict[str, Any]:
    """Return the metadata that every checkpoint has, also one for inference."""
    return {
        "train_args": {key: value for key, value in vars(trainer.args).items() if key in DEFAULT_CFG_DICT},
        "train_metrics": {**trainer.metrics, "fitness": trainer.fitness},
        "train_results": trainer.read_results_csv(),
        "version": package_version,
    }


def restore(trainer: Any, state: dict[str, Any]) -> None:
    """Restore the state of `snapshot` in a trainer whose pipeline is built, on any device."""
    model = unwrap_model(trainer.model)
    model.load_state_dict(state["weights"])
    for weight, gradient in zip(trainer.model.parameters(), state["gradients"] or [], strict=False):
        weight.grad = None if gradient is None else gradient.to(weight.device)
    _restore_optimizer(trainer.optimizer, state["optimizer"])
    if state["scaler"] and trainer.scaler.is_enabled():
        trainer.scaler.load_state_dict(state["scaler"])
    trainer.ema = ModelEMA(trainer.model)  # after a validation, tensors of the old one cannot be updated
    trainer.ema.ema.load_state_dict(state["ema"].float().state_dict())
    trainer.ema.updates = state["updates"]
    trainer.best_fitness = state["best_fitness"]
    for key in _STOPPER:
        setattr(trainer.stopper, key, state["stopper"][key])
    trainer.pending = (
        state["pending"] * state["batch"] // trainer.batch_size
    )  # the batch may be smaller now: memory ran out
    trainer.lr_scale, trainer.nominal = state["lr_scale"], state["nominal"]
    trainer.accumulate = trainer.full_accumulate()
    _restore_criterion(model, state["epoch"])


def _restore_optimizer(optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
    for saved, group in zip(state["param_groups"], optimizer.param_groups, strict=True):
        saved["fused"] = group.get("fused")  # which kernel runs depends on the device and the plan
    optimizer.load_state_dict(state)


def _restore_criterion(model: Any, epoch: int) -> None:
    """Restore the only loss of the package that changes from epoch to epoch: that of heads without NMS."""
    model.criterion = model.init_criterion()
    if hasattr(model.criterion, "update"):
        for _ in range(epoch + 1):
            model.criterion.update()


def plain_copy(model: torch.nn.Module) -> torch.nn.Module:
    """Return a copy to store: float32, contiguous, without what only training needs."""
    copy: Any = deepcopy(model).float().to(memory_format=torch.contiguous_format)
    copy.criterion = None
    if not isinstance(copy.args, dict):
        copy.args = dict(vars(copy.args))
    return copy  # type: ignore[no-any-return]


def serialize(checkpoint: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(checkpoint, buffer)
    return buffer.getvalue()


def save_checkpoint(path: Path, content: bytes, *, previous: Path | None = None) -> None:
    """Write a checkpoint atomically. The one that it replaces becomes `previous`.

    Raises:
        StorageError: there is no space for it; nothing was changed.
    """
    free = shutil.disk_usage(path.parent).free
    if free < len(content):
        raise StorageError(
            f"{path}: the disk is full: this checkpoint needs {_mb(len(content))}, {_mb(free)} are free",
            next_step="free some space, then continue: fmask train --resume",
        )
    fresh = path.with_name(f".{path.name}.new")
    write_bytes(fresh, content)
    if previous is not None and path.exists():
        path.replace(previous)
    fresh.replace(path)


def _mb(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def newest(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    """Return the newest intact checkpoint of a run, as `last.pt`; None if there is none.

    A damaged one is logged and replaced by the one before.

    Raises:
        DataError: no existing checkpoint can be read.
    """
    last, previous = folder / LAST, folder / PREVIOUS
    there = [path for path in (last, previous) if path.exists()]
    damages = []
    for path in there:
        try:
            state = _read(path)
        except _UNREADABLE as error:
            damages.append(f"{path}: {type(error).__name__}: {error}")
            continue
        for damage in damages:
            _log.warning("damaged; using the checkpoint before it (epoch %d): %s", state["epoch"] + 1, damage)
        if path == previous:
            previous.replace(last)
        return last, state
    if there:
        raise DataError(
            f"{damages[0]}; expected a checkpoint to resume from, but the one before it is damaged or missing too",
            next_step="start a new run: fmask train",
        )
    return None


def _read(path: Path) -> dict[str, Any]:
    """Load a checkpoint as weights only, after verifying its checksums, which torch itself does not do."""
    with zipfile.ZipFile(path) as archive:
        broken = archive.testzip()
    if broken is not None:
        raise ValueError(f"the checksum of {broken} is wrong")
    state, _ = torch_safe_load(str(path))
    if "weights" not in state:
        raise ValueError("written by another version: the exact weights are missing")
    return dict(state)
