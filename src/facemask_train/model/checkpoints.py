"""The initial weights: a local file, a model's yaml, or a download that is verified before it is used.

Checkpoints are loaded as weights only (`ultralytics_compat.open_ultralytics` enforces it): they cannot run code.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from facemask_train.core.config import TrainSettings, config_file, read_yaml
from facemask_train.core.errors import DigestError, MissingError, NetworkError, UsageError, nearest
from facemask_train.core.files import digest_file, locked, storage_errors
from facemask_train.core.types import Progress, no_progress
from facemask_train.model.legacy_checkpoint import convert_legacy, is_legacy

_RELEASE = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
COCO_CHECKPOINTS = {f"yolov5{size}.pt": f"{_RELEASE}/yolov5{size}u.pt" for size in "nsmlx"}
"""URLs of COCO checkpoints by their YOLOv5 names. The package's YOLOv5 has an anchor-free head, hence the `u`."""

PINS = "checkpoints.yaml"
"""The file in `configs/` with the expected sha256 digests, by file name, under the key `sha256`."""

CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0
_log = logging.getLogger(__name__)


def resolve_weights(root: Path, weights: str, *, progress: Progress = no_progress) -> str:
    """Return the path of a local checkpoint, or a model's yaml, for the trainer to start from.

    Args:
        weights: a path, a model's yaml (`yolov5s.yaml`: train from scratch), or the name of a COCO checkpoint
            (`yolov5s.pt`), which is downloaded to `data/checkpoints/` once. A checkpoint of the original YOLOv5
            repository is converted (see `legacy_checkpoint.py`).

    Raises:
        MissingError: there is no such file, and no COCO checkpoint of this name.
        NetworkError: the download failed.
        DigestError: the downloaded file does not have the expected digest.
        UsageError: `configs/checkpoints.yaml` is not valid.
        DataError: a checkpoint of the original YOLOv5 repository has another architecture, or is damaged.
    """
    path = Path(weights).expanduser()
    if path.suffix in (".yaml", ".yml"):
        return _model_yaml(path)
    if path.is_file():
        return str(convert_legacy(root, path) if is_legacy(path) else path.resolve())
    name = f"{weights.removesuffix('.pt')}.pt"
    plain = name.replace("u.pt", ".pt")
    if plain not in COCO_CHECKPOINTS or path.name != weights:
        raise MissingError(
            f"{weights}: no such checkpoint{nearest(path.name, COCO_CHECKPOINTS)}; "
            f"available by name: {', '.join(COCO_CHECKPOINTS)}",
            next_step="give --weights a path of a .pt file, one of those names, or yolov5s.yaml to train from scratch",
        )
    return str(_cached_download(root, COCO_CHECKPOINTS[plain], progress))


def _model_yaml(path: Path) -> str:
    """Return a model's yaml: the path of a local file, or the name of one that ships with the package."""
    from ultralytics.utils.checks import check_yaml

    if path.is_file():
        return str(path.resolve())
    name = path.name
    unified = name[:6] + name[7:] if name.startswith("yolov5") and name[6:7] in tuple("nsmlx") else name
    if not check_yaml(unified, hard=False):
        raise MissingError(f"{path}: no such model yaml", next_step="for example: --weights yolov5s.yaml")
    return name


def _cached_download(root: Path, url: str, progress: Progress) -> Path:
    target = root / "data" / "checkpoints" / url.rpartition("/")[2]
    pins, expected = expected_digest(root, target.name)
    with locked(target):
        is_new = not target.exists()
        if is_new:
            _download(url, target, progress)
        digest = digest_file(target)
        if expected and expected != digest:
            target.unlink()
            raise DigestError(
                f"{target}: expected sha256 {expected} (from {pins}), found {digest}; the file was removed",
                next_step="run the command again, or give a local checkpoint with --weights PATH",
            )
    if is_new and not expected:
        message = "%s: sha256 %s, not compared with anything. To pin it, add to %s, under sha256: %s: %s"
        _log.warning(message, target.name, digest, root / "configs" / PINS, target.name, digest)
    else:
        _log.info("weights %s (sha256 %s, %s)", target.name, digest, "as pinned" if expected else "not pinned")
    return target


def expected_digest(root: Path, name: str) -> tuple[Path, str]:
    """Return the file with the pinned digests, and the sha256 of a checkpoint in it (empty if it is not pinned).

    Raises:
        UsageError: the file has no `sha256` mapping, or the digest is not 64 hexadecimal digits.
    """
    path = config_file(root, PINS)
    pins = read_yaml(path).get("sha256")
    if not isinstance(pins, dict):
        raise UsageError(f"{path}: expected a mapping under 'sha256', found {pins!r}", next_step="fix the file")
    digest = str(pins.get(name, "")).lower()
    if digest and not re.fullmatch("[0-9a-f]{64}", digest):
        raise UsageError(
            f"{path}: sha256: {name}: expected 64 hexadecimal digits, found {digest!r}", next_step="fix the file"
        )
    return path, digest


def _download(url: str, target: Path, progress: Progress) -> None:
    import requests

    partial = target.with_name(f".{target.name}.partial")
    alternatives = "give a local file with --weights PATH, or train from scratch with --weights yolov5s.yaml"
    try:
        _resolve_host(urlsplit(url).hostname or "")
        with requests.get(url, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)) as response:
            response.raise_for_status()
            total = int(response.headers.get("Content-Length", 0))
            with storage_errors(target), partial.open("wb") as stream:
                for chunk in response.iter_content(1 << 20):
                    stream.write(chunk)
                    progress(f"download {target.name}", stream.tell(), total)
        if total and partial.stat().st_size != total:
            raise requests.ConnectionError(f"expected {total} bytes, found {partial.stat().st_size}")
    except (requests.RequestException, TimeoutError, socket.gaierror) as error:
        partial.unlink(missing_ok=True)
        raise NetworkError(f"{url}: the download failed ({error})", next_step=alternatives) from error
    partial.replace(target)


def _resolve_host(host: str) -> None:
    """Resolve a host name with a time limit: the system's resolver can block for half a minute.

    Raises:
        TimeoutError: there was no answer within `CONNECT_SECONDS`.
        socket.gaierror: the host does not exist, or there is no network.
    """
    failure: list[OSError] = []
    done = threading.Event()

    def resolve() -> None:
        try:
            socket.getaddrinfo(host, 443)
        except OSError as error:
            failure.append(error)
        done.set()

    threading.Thread(target=resolve, daemon=True).start()
    if not done.wait(CONNECT_SECONDS):
        raise TimeoutError(f"no answer from the name server for {host} in {CONNECT_SECONDS:g} s")
    if failure:
        raise failure[0]


def check_trainer_settings(
    settings: Mapping[str, object], reserved: Iterable[str], alternatives: Mapping[str, str]
) -> None:
    """Refuse a trainer setting that `ultralytics` does not have, or that fmask controls itself.

    Args:
        settings: settings of the `ultralytics` trainer, by its own names.
        reserved: settings that fmask controls.
        alternatives: settings that fmask's training loop does not support, with what to use instead.

    Raises:
        UsageError: the message names the closest valid setting.
    """
    from ultralytics.utils import DEFAULT_CFG_DICT

    for key, value in settings.items():
        if key in reserved:
            raise UsageError(f"--set {key}: fmask controls this setting", next_step="see fmask train --help")
        if key in alternatives and value is not None:
            raise UsageError(
                f"--set {key}: fmask's training loop does not support this", next_step=f"use {alternatives[key]}"
            )
        if key not in DEFAULT_CFG_DICT:
            close = nearest(key, [*TrainSettings.model_fields, *DEFAULT_CFG_DICT])
            raise UsageError(
                f"--set {key}: the trainer has no such setting{close}",
                next_step="use a setting of the ultralytics trainer: lr0, mosaic, close_mosaic, ...",
            )
