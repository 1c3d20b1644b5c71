"""How one training step runs on this machine: precision, memory format, optimizer kernel, threads.

`plan_step` is a pure function of the settings and of the facts that `read_machine` gathers.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from facemask_train.core.config import TrainSettings
from facemask_train.core.errors import UsageError
from facemask_train.core.parallel import usable_cores

Precision = Literal["fp32", "bf16", "fp16"]
_FUSED = ("SGD", "Adam", "AdamW")
_REQUESTED = "requested"
_NAMES = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}


@dataclass(frozen=True, slots=True)
class Machine:
    """The facts that the plan depends on.

    Attributes:
        device: the device's name: `cpu`, or the model of the GPU.
        cuda: whether the device is a GPU.
        cores: how many cores this machine's processes may use.
        bf16: whether the device computes in bfloat16 natively; emulated, it is slower than float32.
        processes: how many training processes share the cores.
    """

    device: str
    cuda: bool
    cores: int
    bf16: bool
    processes: int = 1


@dataclass(frozen=True, slots=True)
class StepPlan:
    """How a training step runs, with a reason for each choice by the name of its field."""

    precision: Precision
    channels_last: bool
    fused: bool
    compile: bool
    threads: int
    reasons: Mapping[str, str]

    def describe(self) -> str:
        """Return the plan in one line."""
        parts = [
            _NAMES[self.precision],
            "channels last" if self.channels_last else "channels first",
            "fused optimizer" if self.fused else "plain optimizer",
            *(["compiled"] if self.compile else []),
            f"{self.threads} threads" if self.threads > 1 else "1 thread",
        ]
        return f"a step in {', '.join(parts)}; losses and validation in float32"


def plan_step(settings: TrainSettings, machine: Machine) -> StepPlan:
    """Decide how a step runs on this machine.

    Raises:
        UsageError: float16 was requested on a CPU.
    """
    precision, reason = _choose_precision(settings.precision, machine)
    unsafe = precision == "fp16" and settings.optimizer == "SGD"
    fused = settings.fused in ("auto", True) and settings.optimizer in _FUSED and not unsafe
    return StepPlan(
        precision=precision,
        channels_last=settings.channels_last in ("auto", True),
        fused=fused,
        compile=settings.compile is True and machine.cuda,
        threads=settings.threads or max(1, machine.cores // machine.processes),
        reasons={
            "precision": reason,
            "channels_last": _switch_reason(settings.channels_last, "convolutions are fastest in this layout"),
            "fused": _fused_reason(settings, fused=fused, unsafe=unsafe),
            "compile": _compile_reason(settings, machine),
            "threads": _threads_reason(settings.threads, machine),
        },
    )


def _choose_precision(requested: str, machine: Machine) -> tuple[Precision, str]:
    if requested == "fp16" and not machine.cuda:
        raise UsageError("--precision fp16: a CPU has no fast float16", next_step="--precision auto (or bf16, fp32)")
    if requested in ("fp32", "bf16", "fp16"):
        emulated = requested == "bf16" and not machine.bf16
        return requested, _REQUESTED + (" (this device only emulates it)" if emulated else "")  # type: ignore[return-value]
    if machine.bf16:
        return "bf16", "the device computes in bfloat16, which has the range of float32"
    if machine.cuda:
        return "fp16", "the device has float16 and only emulates bfloat16"
    return "fp32", "this processor only emulates bfloat16, which is slower than float32"


def _switch_reason(requested: object, automatic: str) -> str:
    return automatic if requested == "auto" else _REQUESTED if requested else "turned off"


def _fused_reason(settings: TrainSettings, *, fused: bool, unsafe: bool) -> str:
    if settings.fused is not False and unsafe:
        return "if float16 skips the first step, fused SGD has no momentum and gives NaN in the second"
    if settings.fused is not False and not fused:
        return f"{settings.optimizer} has no fused kernel"
    return _switch_reason(settings.fused, "one kernel updates all weights")


def _compile_reason(settings: TrainSettings, machine: Machine) -> str:
    if settings.compile is True and not machine.cuda:
        return "compiling works on a GPU only"
    if settings.compile == "auto":
        return "compiling takes longer than a short training gains: --set compile=true turns it on"
    return _REQUESTED if settings.compile else "turned off"


def _threads_reason(requested: int, machine: Machine) -> str:
    if requested:
        return _REQUESTED
    shared = f", shared by {machine.processes} processes" if machine.processes > 1 else ""
    return f"all {machine.cores} cores{shared}"


def read_machine(device: str, name: str) -> Machine:
    """Gather the facts about this machine.

    Args:
        device: empty, `cpu`, or a GPU's number.
        name: the device's name, for the records.
    """
    import torch

    cuda = device != "cpu" and torch.cuda.is_available()
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if cuda else _cpu_has_bf16()
    return Machine(name, cuda, usable_cores(), bf16, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _cpu_has_bf16() -> bool:
    """Return whether the processor has bfloat16 instructions (AVX512-BF16 or AMX) and torch has kernels for them."""
    import torch

    instructions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    has = any(getattr(torch.cpu, name, lambda: False)() for name in instructions)
    return bool(has and torch.backends.mkldnn.enabled and torch.ops.mkldnn._is_mkldnn_bf16_supported())
