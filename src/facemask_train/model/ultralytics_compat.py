"""The entry point to the `ultralytics` package: no network, no pip, no other trackers, no settings of the user's.

The package reads its environment when it is first imported, so call `open_ultralytics` before importing it.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from facemask_train.core.dist_env import cores_per_process, dist_env
from facemask_train.core.errors import UsageError
from facemask_train.core.parallel import usable_cores

TESTED = ("8.4.190", "8.4.190")
"""The first and the last version of `ultralytics` that fmask is tested with; pyproject.toml has the same bounds.

fmask overrides private methods of the package. `tests/model/ultralytics_bodies.txt` lists them, to be checked again
before a newer version is let in.
"""

_INTEGRATIONS = ("sync", "wandb", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard")


def open_ultralytics() -> None:
    """Prepare the environment, import `ultralytics`, and turn off what would access the network or write elsewhere.

    Its settings go to a temporary folder of this user, its messages below a warning are silenced (fmask reports
    progress itself), and checkpoints are loaded as weights only, so a checkpoint cannot run code.

    Raises:
        UsageError: fmask is not tested with the installed version.
    """
    home = _settings_folder()
    # Threads that spin while they wait take cores from other programs: on a busy machine a step took twice as long.
    # A short spin (which GNU OpenMP prefers to the policy) keeps a small model 2.4 x faster on an idle machine.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "4000")
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
    os.environ.update(
        {
            "YOLO_CONFIG_DIR": str(home),
            "YOLO_OFFLINE": "true",
            "YOLO_AUTOINSTALL": "false",
            "YOLO_VERBOSE": "false",
            "ULTRALYTICS_SAFE_LOAD": "1",
            "NO_ALBUMENTATIONS_UPDATE": "1",
        }
    )
    from PIL import Image

    stock_open = Image.open
    import ultralytics

    check_version(ultralytics.__version__)
    from ultralytics.engine import trainer
    from ultralytics.utils import LOGGER, SETTINGS

    Image.open = stock_open  # the package's replacement tries to install a package for a file that is not an image
    LOGGER.setLevel(logging.WARNING)
    for key in _INTEGRATIONS:  # in memory only: `SETTINGS.update` would write to disk
        dict.__setitem__(SETTINGS, key, False)
    dict.__setitem__(SETTINGS, "api_key", "")
    _protect_files()
    trainer.check_amp = _is_on_cuda  # the stock check downloads a model


def check_version(found: str) -> None:
    """Refuse a version of `ultralytics` outside of `TESTED`.

    Raises:
        UsageError: names the version that was found, those that fmask is tested with, and the command to install one.
    """
    first, last = TESTED
    if _numbers(first) <= _numbers(found) <= _numbers(last):
        return
    expected = f"{last}, the one" if first == last else f"{first} to {last}, those"
    raise UsageError(
        f"ultralytics {found}: expected version {expected} that fmask is tested with",
        next_step=f"pip install 'ultralytics-opencv-headless=={last}'",
    )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))


def _is_on_cuda(model: Any) -> bool:
    return bool(next(model.parameters()).device.type == "cuda")


def _protect_files() -> None:
    """Keep the package from writing to a dataset, from trusting cache files in it, and from renaming a checkpoint.

    A label cache is a pickle (loading a foreign one runs code), the label scan rewrites damaged images in place, and
    a file named yolov5s.pt is replaced by a download of yolov5su.pt.
    """
    from ultralytics.data import dataset, utils
    from ultralytics.utils import downloads

    dataset.load_dataset_cache_file = _refuse_cache
    dataset.save_dataset_cache_file = _skip_saving
    utils._replace_image = lambda *_image: None
    downloads.attempt_download_asset = lambda file, *_args, **_kwargs: str(file)


def _refuse_cache(path: Path) -> NoReturn:
    raise FileNotFoundError(path)  # the package then scans the labels


def _skip_saving(_prefix: str, _path: Path, cache: dict[str, object], version: str) -> None:
    cache["version"] = version  # the only effect of the original that its caller relies on


def use_all_cores() -> None:
    """Let torch use every core: `ultralytics` leaves one idle, which is half of a two-core machine.

    If several processes train together on this machine, each gets its share.
    """
    share_cores(1)


def share_cores(threads: int) -> None:
    """Divide the cores among `threads` threads that call torch at the same time."""
    import torch

    torch.set_num_threads(max(1, cores_per_process(usable_cores(), dist_env()) // threads))


def device_name(wanted: str) -> str:
    """Return a device's name: `cpu`, or the model of the GPU.

    Args:
        wanted: `cpu`, a GPU's number, or empty for the GPU if there is one.

    Raises:
        UsageError: there is no such device.
    """
    import torch

    number, gpus = wanted.removeprefix("cuda:"), torch.cuda.device_count()
    if wanted == "cpu" or not (wanted or gpus):
        return "cpu"
    fix = "--device cpu, or leave it out"
    if not (number or "0").isdecimal():
        raise UsageError(f"--device {wanted}: expected cpu or a GPU's number", next_step=fix)
    if int(number or 0) >= gpus:
        found = f"torch finds {gpus}, numbered from 0" if gpus else "torch finds no GPU here"
        raise UsageError(f"--device {wanted}: {found}", next_step=fix)
    return str(torch.cuda.get_device_name(int(number or 0)))


def _settings_folder() -> Path:
    """Return a settings folder with the font that the package would otherwise download."""
    import matplotlib

    home = Path(tempfile.gettempdir()) / f"fmask-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    font = home / "Ultralytics" / "Arial.ttf"
    if not font.exists():
        font.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), font)
    return home
