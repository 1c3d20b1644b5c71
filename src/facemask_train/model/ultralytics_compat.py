"""The door to the `ultralytics` package: opened without network, pip, other trackers, or the user's own settings.

The package reads its environment when it is first imported, so whoever needs it calls `open_ultralytics` before.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

from facemask_train.core.dist_env import cores_per_process, dist_env
from facemask_train.core.errors import UsageError
from facemask_train.core.parallel import usable_cores

_OTHERS = ("sync", "wandb", "clearml", "comet", "dvc", "mlflow", "raytune", "tensorboard")


def open_ultralytics() -> None:
    """Prepare the environment, import `ultralytics`, and switch off what would call home or write elsewhere.

    Its settings live in a temporary folder of this user, its messages below a warning are silenced (fmask reports
    progress itself), and checkpoints are loaded as weights only: a checkpoint cannot run code.
    """
    home = _settings_folder()
    # Threads that wait by spinning take the cores from whatever else runs: on a busy machine a step took twice as long.
    # A short spin (GNU's OpenMP takes it before the policy) keeps a small model on a quiet one 2.4 x faster than none.
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
    from ultralytics.engine import trainer
    from ultralytics.utils import LOGGER, SETTINGS

    Image.open = stock_open  # the package's own asks for another package where a file is no image
    LOGGER.setLevel(logging.WARNING)
    for key in _OTHERS:  # in memory only: `SETTINGS.update` would write to disk
        dict.__setitem__(SETTINGS, key, False)
    dict.__setitem__(SETTINGS, "api_key", "")
    _leave_files_alone()
    trainer.check_amp = _on_cuda  # the stock check downloads a model


def _on_cuda(model: Any) -> bool:
    return bool(next(model.parameters()).device.type == "cuda")


def _leave_files_alone() -> None:
    """Keep the package from writing into a dataset, from trusting what lies in one, and from renaming a checkpoint.

    A label cache is a pickle (loading a foreign one runs code), images that its scan finds wanting are written anew,
    and a file called yolov5s.pt is taken for a download of yolov5su.pt.
    """
    from ultralytics.data import dataset, utils
    from ultralytics.utils import downloads

    dataset.load_dataset_cache_file = _no_cache
    dataset.save_dataset_cache_file = _no_saving
    utils._replace_image = lambda *_image: None
    downloads.attempt_download_asset = lambda file, *_args, **_kwargs: str(file)


def _no_cache(path: Path) -> dict[str, Any]:
    raise FileNotFoundError(path)  # the package then scans the labels, as where there is no cache


def _no_saving(_prefix: str, _path: Path, cache: dict[str, Any], version: str) -> None:
    cache["version"] = version  # all that the caller needs of the original


def use_all_cores() -> None:
    """Give torch every core: `ultralytics` leaves one idle, which on two cores is half the machine.

    Where several processes of a machine train together, each gets its share.
    """
    share_cores(1)


def share_cores(threads: int) -> None:
    """Give each of so many threads that ask torch at once its share of the cores."""
    import torch

    torch.set_num_threads(max(1, cores_per_process(usable_cores(), dist_env()) // threads))


def device_name(wanted: str) -> str:
    """Return the name of the device that is asked for: `cpu`, a GPU's number, or (empty) the GPU where there is one.

    Raises:
        UsageError: there is no such device.
    """
    import torch

    number, gpus = wanted.removeprefix("cuda:"), torch.cuda.device_count()
    if wanted == "cpu" or not (wanted or gpus):
        return "cpu"
    mend = "--device cpu, or leave it out"
    if not (number or "0").isdecimal():
        raise UsageError(f"--device {wanted}: expected cpu or a GPU's number", next_step=mend)
    if int(number or 0) >= gpus:
        found = f"torch finds {gpus}, numbered from 0" if gpus else "torch finds no GPU here"
        raise UsageError(f"--device {wanted}: {found}", next_step=mend)
    return str(torch.cuda.get_device_name(int(number or 0)))


def _settings_folder() -> Path:
    """Return a settings folder with the font that the package would otherwise look for on the network."""
    import matplotlib

    home = Path(tempfile.gettempdir()) / f"fmask-{os.getuid() if hasattr(os, 'getuid') else 'user'}"
    font = home / "Ultralytics" / "Arial.ttf"
    if not font.exists():
        font.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf"), font)
    return home
