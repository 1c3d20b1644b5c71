"""Which loader feeds a training and where its images lie, decided from settings and sizes alone: no torch in here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

LoaderKind = Literal["auto", "device", "stock"]
Place = Literal["device", "host", "disk"]
_SHARE = 0.5  # of the free memory: the step needs some too
_OFF = {"cutmix": 0, "copy_paste": 0, "bgr": 0, "rect": False, "cache": False, "time": None}


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen, and why: it stands in `run.json`, and a resumed run keeps to it."""

    value: Literal["device", "stock"]
    reason: str


def unsupported(args: Mapping[str, Any]) -> list[str]:
    """Return the settings that the device loader cannot honour, each as KEY=VALUE; the package's own loader can.

    `multi_scale` is none of them (the step itself does it), nor are those that only a classifier heeds.
    """
    found = [f"{key}={args[key]}" for key, off in _OFF.items() if args.get(key, off) not in (off, None)]
    if args.get("augmentations") != []:  # None is the package's own four, where albumentations is installed
        found.append("augmentations")
    return found


def choose_loader(wanted: LoaderKind, args: Mapping[str, Any], *, gpu: bool) -> Choice:
    """Return `device` or `stock`.

    Args:
        args: the trainer's settings, the package's defaults included.
    """
    if wanted == "stock":
        return Choice("stock", "asked for")
    hindrances = unsupported(args)
    if hindrances:
        return Choice("stock", f"the device loader cannot do {', '.join(hindrances)}")
    if wanted == "device":
        return Choice("device", "asked for")
    return (
        Choice("device", "on a GPU")
        if gpu
        else Choice("stock", "on a CPU the package's own is faster (measured: bench/README.md)")
    )


def placement(size: int, device_free: int, host_free: int) -> Place:
    """Return where the images are to lie: in the nearest memory that they fill to half of what is free at most.

    Args:
        size: of all images, in bytes; the others are what is free.
    """
    if size <= _SHARE * device_free:
        return "device"
    return "host" if size <= _SHARE * host_free else "disk"
