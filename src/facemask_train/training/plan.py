"""The training plan: every choice that a training depends on, and the reason for each automatic one.

`plan_training` is a pure function of the settings, the trainer's defaults and the facts about the machine. The trainer,
the data loader, the callbacks and `run.json` read the plan and nothing else. Does not import torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

from facemask_train.core.config import TrainSettings
from facemask_train.training.precision import Machine, StepPlan, plan_step

LoaderKind = Literal["device", "stock"]
ImageMemory = Literal["device", "host", "disk"]
_MEMORY_SHARE = 0.5  # of the free memory: a training step needs some too
_UNSUPPORTED = {"cutmix": 0, "copy_paste": 0, "bgr": 0, "rect": False, "cache": False, "time": None}


@dataclass(frozen=True, slots=True)
class LoaderPlan:
    """Which loader feeds the training, and where the device loader keeps the images (`auto`: `choose_memory`)."""

    kind: LoaderKind
    reason: str
    memory: Literal["auto"] | ImageMemory = "auto"


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """One training process: its machine, its device, and its share of the batch."""

    rank: int
    host: str
    device: str
    batch: int


@dataclass(frozen=True, slots=True)
class TrainPlan:
    """All choices of a training. Reasons are stored beside the choices that were made automatically.

    Attributes:
        weights: the initial weights: a checkpoint's path, or a model's yaml (from scratch).
        batch: images per batch over all processes; smaller than requested if memory ran out.
        val_every: epochs from one validation to the next.
        overrides: other settings of the `ultralytics` trainer, by its own names.
        loader: the data loader.
        step: precision, memory format, optimizer kernel and threads.
        machine: the facts that `step` was decided from.
        processes: one entry for each process, by rank.
    """

    weights: str
    epochs: int
    patience: int
    imgsz: int
    batch: int
    seed: int
    workers: int
    optimizer: str
    lr0: float
    val_every: int
    overrides: Mapping[str, object]
    loader: LoaderPlan
    step: StepPlan
    machine: Machine
    processes: tuple[ProcessPlan, ...]

    @property
    def device(self) -> str:
        """The device of the main process."""
        return self.processes[0].device

    @property
    def backend(self) -> str:
        """The communication backend of the processes."""
        return "gloo" if self.device == "cpu" else "nccl"


def plan_training(
    settings: TrainSettings,
    weights: str,
    *,
    machine: Machine,
    processes: Sequence[ProcessPlan],
    defaults: Mapping[str, object],
) -> TrainPlan:
    """Decide how to train.

    Args:
        weights: the initial weights, as `checkpoints.resolve_weights` returns them.
        defaults: the default settings of the `ultralytics` trainer.

    Raises:
        UsageError: float16 was requested on a CPU.
    """
    trainer_settings = {**defaults, "augmentations": [], **settings.extra}
    return TrainPlan(
        weights=weights,
        epochs=settings.epochs,
        patience=settings.patience,
        imgsz=settings.imgsz,
        batch=settings.batch,
        seed=settings.seed,
        workers=settings.workers,
        optimizer=settings.optimizer,
        lr0=settings.lr0,
        val_every=settings.val_every,
        overrides=dict(settings.extra),
        loader=choose_loader(settings.loader, trainer_settings, gpu=machine.cuda),
        step=plan_step(settings, machine),
        machine=machine,
        processes=tuple(processes),
    )


def replan(
    plan: TrainPlan, settings: TrainSettings, *, machine: Machine, processes: Sequence[ProcessPlan]
) -> tuple[TrainPlan, list[str]]:
    """Return the plan of a resumed run, and in words what differs from before.

    On the machine that it was made for, the step plan stays as it is; on another one it is made again. All other
    choices stay: they decide what the run computes.
    """
    changes: list[str] = []
    step = plan.step
    if plan.machine != machine:
        step = plan_step(settings, machine)
        before = {**asdict(plan.machine), **_choices(plan.step)}
        after = {**asdict(machine), **_choices(step)}
        changes = [f"{key} {before[key]} -> {after[key]}" for key in after if before[key] != after[key]]
    if len(plan.processes) != len(processes):
        changes.append(f"training processes {len(plan.processes)} -> {len(processes)}")
    return replace(plan, step=step, machine=machine, processes=tuple(processes)), changes


def _choices(step: StepPlan) -> dict[str, object]:
    return {key: value for key, value in asdict(step).items() if key != "reasons"}


def unsupported_settings(settings: Mapping[str, object]) -> list[str]:
    """Return the trainer settings that the device loader does not support, each as KEY=VALUE.

    `multi_scale` is supported, since the step itself does it. Settings for classifiers do not matter.
    """
    found = [f"{key}={settings[key]}" for key, off in _UNSUPPORTED.items() if settings.get(key, off) not in (off, None)]
    if settings.get("augmentations") != []:  # None: the package's own four, if albumentations is installed
        found.append("augmentations")
    return found


def choose_loader(
    requested: Literal["auto", "device", "stock"], settings: Mapping[str, object], *, gpu: bool
) -> LoaderPlan:
    """Choose the data loader.

    Args:
        settings: all settings of the trainer, defaults included.
    """
    if requested == "stock":
        return LoaderPlan("stock", "requested")
    unsupported = unsupported_settings(settings)
    if unsupported:
        return LoaderPlan("stock", f"the device loader does not support {', '.join(unsupported)}")
    if requested == "device":
        return LoaderPlan("device", "requested")
    if gpu:
        return LoaderPlan("device", "the device is a GPU")
    return LoaderPlan("stock", "on a CPU the package's own loader is faster (measured: bench/README.md)")


def choose_memory(size: int, device_free: int, host_free: int) -> ImageMemory:
    """Choose where the device loader keeps its images: the nearest memory that they fill to at most one half.

    Args:
        size: bytes of all images.
        device_free: free bytes of the device's memory; `host_free` likewise of the host's.
    """
    if size <= _MEMORY_SHARE * device_free:
        return "device"
    return "host" if size <= _MEMORY_SHARE * host_free else "disk"


def trainer_overrides(
    plan: TrainPlan, *, data: str, save_dir: str, project: str, device: str, checkpoint: str = ""
) -> dict[str, object]:
    """Return the settings that the `ultralytics` trainer is constructed with.

    Args:
        data: the path of the data.yaml.
        save_dir: the run's folder. It has to be absolute: the package may move a relative one.
        checkpoint: the checkpoint to resume from; empty to start with the plan's weights.
    """
    overrides: dict[str, object] = {
        "plots": False,
        "verbose": False,
        "augmentations": [],  # otherwise they depend on whether albumentations is installed
        "epochs": plan.epochs,
        "patience": plan.patience,
        "imgsz": plan.imgsz,
        "seed": plan.seed,
        "workers": plan.workers,
        "optimizer": plan.optimizer,
        "lr0": plan.lr0,
        "batch": plan.batch,
        "device": device,
        **plan.overrides,
        "model": plan.weights,
        "data": data,
        "save_dir": save_dir,
        "project": project,
    }
    if not checkpoint:
        return overrides
    # The checkpoint has the other settings, but not `augmentations`: without it the package would add its own.
    kept = ("data", "device", "save_dir", "workers", "batch", "augmentations")
    return {key: overrides[key] for key in kept} | {"model": checkpoint, "resume": checkpoint}
