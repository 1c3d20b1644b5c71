"""Facts for bug reports: versions, the machine, whether there are credentials, and folder sizes."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from facemask_train.core.files import file_sizes
from facemask_train.core.parallel import usable_cores

PACKAGES = (
    *("torch", "torchvision", "ultralytics-opencv-headless", "albumentations", "opencv-python-headless", "numpy"),
    *("pandas", "kaggle", "wandb", "gradio", "onnxruntime", "openvino", "ray"),
)
"""The packages whose versions decide how fmask behaves; the last four are optional."""

_FOLDERS = ("data/raw", "data/ensembles", "runs")
_KAGGLE = (("KAGGLE_API_TOKEN",), ("KAGGLE_USERNAME", "KAGGLE_KEY"))


@dataclass(frozen=True, slots=True)
class FolderSize:
    """A folder of the project, how many entries it has, and what its files take, in megabytes."""

    folder: str
    entries: int
    megabytes: float


@dataclass(frozen=True, slots=True)
class Info:
    """Facts about an installation and its project.

    Attributes:
        packages: the version of each package; None if it is not installed.
        memory, free_disk: in gigabytes; the disk is that of the project.
        gpus: the names of the GPUs that torch can use.
        kaggle, wandb: where credentials were found; empty if there are none. Never the credentials.
    """

    fmask: str
    python: str
    system: str
    packages: Mapping[str, str | None]
    cores: int
    memory: float
    gpus: tuple[str, ...]
    free_disk: float
    kaggle: str
    wandb: str
    folders: tuple[FolderSize, ...]


def read_info(root: Path) -> Info:
    """Return what is known about this installation, this machine, and the project at `root`."""
    import psutil
    import torch

    return Info(
        fmask=importlib.metadata.version("facemask-train"),
        python=platform.python_version(),
        system=platform.platform(),
        packages={name: _version(name) for name in PACKAGES},
        cores=usable_cores(),
        memory=round(psutil.virtual_memory().total / 1e9, 1),
        gpus=tuple(torch.cuda.get_device_name(number) for number in range(torch.cuda.device_count())),
        free_disk=round(shutil.disk_usage(root).free / 1e9, 1),
        kaggle=_kaggle(),
        wandb=_wandb(),
        folders=tuple(_folder(root, name) for name in _FOLDERS),
    )


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _kaggle() -> str:
    """Return where Kaggle's credentials are, in the order in which they are used."""
    for names in _KAGGLE:
        if all(os.environ.get(name) for name in names):
            return " and ".join(names)
    file = Path(os.environ.get("KAGGLE_CONFIG_DIR", Path.home() / ".kaggle")) / "kaggle.json"
    return str(file) if file.is_file() else ""


def _wandb() -> str:
    """Return where the credentials of Weights & Biases are."""
    if os.environ.get("WANDB_API_KEY"):
        return "WANDB_API_KEY"
    file = Path(os.environ.get("NETRC", Path.home() / ".netrc"))
    try:
        return str(file) if "api.wandb.ai" in file.read_text(encoding="utf-8", errors="replace") else ""
    except OSError:
        return ""


def _folder(root: Path, name: str) -> FolderSize:
    folder = root / name
    entries = [one for one in folder.iterdir() if not one.name.startswith(".")] if folder.is_dir() else []
    return FolderSize(name, len(entries), round(sum(file_sizes(folder)) / 1e6, 1))
