"""How one training step is run on this machine: precision, memory format, optimiser, threads. Decides, and says why.

`read_machine` looks at the machine; `choose` is a pure function of what it found and of what was asked for.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

from facemask_train.core.config import TrainSettings
from facemask_train.core.errors import UsageError
from facemask_train.core.parallel import usable_cores

Precision = Literal["fp32", "bf16", "fp16"]
_FUSED = ("SGD", "Adam", "AdamW")
_ASKED = "asked for"


@dataclass(frozen=True, slots=True)
class Machine:
    """What the choice depends on.

    `bf16` says if the device itself multiplies in bfloat16: where it is only emulated, it is slower than float32.
    `processes` is how many training processes share this machine's cores.
    """

    device: str
    cuda: bool
    cores: int
    bf16: bool
    processes: int = 1


@dataclass(frozen=True, slots=True)
class Step:
    """What was chosen, and why, by the name of the choice."""

    precision: Precision
    channels_last: bool
    fused: bool
    compile: bool
    threads: int
    why: Mapping[str, str]

    def told(self) -> str:
        """Return the choice in one line."""
        parts = [
            {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[self.precision],
            "channels last" if self.channels_last else "channels first",
            "fused optimiser" if self.fused else "plain optimiser",
            *(["compiled"] if self.compile else []),
            f"{self.threads} threads" if self.threads > 1 else "1 thread",
        ]
        return f"a step in {', '.join(parts)}; losses and validation in float32"


def choose(settings: TrainSettings, machine: Machine) -> Step:
    """Return how to run a step on this machine.

    Raises:
        UsageError: float16 was asked for on a CPU.
    """
    precision, why = _precision(settings.precision, machine)
    channels_last = settings.channels_last in ("auto", True)
    unsafe = precision == "fp16" and settings.optimizer == "SGD"
    fused = settings.fused in ("auto", True) and settings.optimizer in _FUSED and not unsafe
    share = max(1, machine.cores // machine.processes)
    return Step(
        precision=precision,
        channels_last=channels_last,
        fused=fused,
        compile=settings.compile is True and machine.cuda,
        threads=settings.threads or share,
        why={
            "precision": why,
            "channels_last": _switch(settings.channels_last, "the layout that convolutions are fastest in"),
            "fused": _fused(settings, fused=fused, unsafe=unsafe),
            "compile": _compile(settings, machine),
            "threads": _threads(settings.threads, machine),
        },
    )


def _precision(asked: str, machine: Machine) -> tuple[Precision, str]:
    if asked == "fp16" and not machine.cuda:
        raise UsageError("--precision fp16: a CPU has no fast float16", next_step="--precision auto (or bf16, fp32)")
    if asked in ("fp32", "bf16", "fp16"):
        emulated = asked == "bf16" and not machine.bf16
        return asked, _ASKED + (" (this device only emulates it)" if emulated else "")  # type: ignore[return-value]
    if machine.bf16:
        return "bf16", "the device multiplies in bfloat16, whose range is that of float32"
    if machine.cuda:
        return "fp16", "the device has float16 and only emulates bfloat16"
    return "fp32", "this processor only emulates bfloat16, which is slower than float32"


def _switch(asked: object, why: str) -> str:
    return why if asked == "auto" else _ASKED if asked else "turned off"


def _fused(settings: TrainSettings, *, fused: bool, unsafe: bool) -> str:
    if settings.fused is not False and unsafe:
        return "a first step that float16 makes it skip leaves it without momentum: NaN on the second"
    if settings.fused is not False and not fused:
        return f"{settings.optimizer} has no fused form"
    return _switch(settings.fused, "one kernel updates all weights")


def _compile(settings: TrainSettings, machine: Machine) -> str:
    if settings.compile is True and not machine.cuda:
        return "compiling is for a GPU only"
    return (
        "its start takes longer than a short training gains: --set compile=true turns it on"
        if settings.compile == "auto"
        else (_ASKED if settings.compile else "turned off")
    )


def _threads(asked: int, machine: Machine) -> str:
    if asked:
        return _ASKED
    shared = f", shared by {machine.processes} processes" if machine.processes > 1 else ""
    return f"all {machine.cores} cores{shared}"


def read_machine(device: str, name: str) -> Machine:
    """Return what this machine is.

    Args:
        device: as asked for: empty, `cpu`, or a GPU's number.
        name: the device's name, for the records.
    """
    import torch

    cuda = device != "cpu" and torch.cuda.is_available()
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False) if cuda else _processor_has_bf16()
    return Machine(name, cuda, usable_cores(), bf16, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


def _processor_has_bf16() -> bool:
    """Say if the processor has instructions for bfloat16 (AVX512-BF16 or AMX), and torch the kernels that use them."""
    import torch

    instructions = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    has = any(getattr(torch.cpu, name, lambda: False)() for name in instructions)
    return bool(has and torch.backends.mkldnn.enabled and torch.ops.mkldnn._is_mkldnn_bf16_supported())


def to_json(step: Step, machine: Machine) -> dict[str, Any]:
    """Return what `run.json` says of the choice: each with its reason, and the machine that it was made for."""
    values = {key: value for key, value in asdict(step).items() if key != "why"}
    return {
        "machine": asdict(machine),
        **{key: {"is": value, "why": step.why[key]} for key, value in values.items()},
    }


def from_json(chosen: Mapping[str, Any]) -> Step:
    """Return the choice that `to_json` has written; what else was chosen stands beside it, and is left alone."""
    keys = [one.name for one in fields(Step) if one.name != "why"]
    return Step(**{key: chosen[key]["is"] for key in keys}, why={key: chosen[key]["why"] for key in keys})


def recall(settings: TrainSettings, machine: Machine, chosen: Mapping[str, Any] | None) -> tuple[Step, list[str]]:
    """Return how a resumed run goes on, and what is different from before, in words.

    On the machine that the recorded choice was made for, it is taken as it is; on another one it is made anew.
    """
    fresh = choose(settings, machine)
    if not chosen:
        return fresh, []
    if chosen["machine"] == asdict(machine):
        return from_json(chosen), []
    recorded = {key: chosen[key]["is"] for key in fresh.why}
    before = {**chosen["machine"], **recorded}
    after = {**asdict(machine), **{key: getattr(fresh, key) for key in recorded}}
    return fresh, [f"{key} {before.get(key)} -> {after[key]}" for key in after if before.get(key) != after[key]]
