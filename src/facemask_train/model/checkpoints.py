"""Where the first weights come from: a local file, a model's yaml, or a download that is checked before it is used.

A checkpoint is only ever loaded as weights (`engine.open_ultralytics` sees to it), never as code.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from facemask_train.core.config import TrainSettings
from facemask_train.core.errors import DigestError, MissingError, NetworkError, UsageError, nearest
from facemask_train.core.files import digest_file, locked, storage_errors
from facemask_train.core.types import Progress, no_progress

_RELEASE = "https://github.com/ultralytics/assets/releases/download/v8.4.0"
KNOWN = {f"yolov5{size}.pt": f"{_RELEASE}/yolov5{size}u.pt" for size in "nsmlx"}
"""COCO checkpoints by the reference's names. The package's YOLOv5 has an anchor-free head, hence the `u`."""

PINNED: dict[str, str] = {}
"""sha256 by file name, for those that are known. A download that is not listed is recorded and reported instead."""

CONNECT_SECONDS = 5.0
READ_SECONDS = 15.0
_log = logging.getLogger(__name__)


def resolve(root: Path, weights: str, *, progress: Progress = no_progress) -> str:
    """Return what the trainer can start from: the path of a local checkpoint, or a model's yaml.

    Args:
        weights: a path, a model's yaml (`yolov5s.yaml`: from scratch), or the name of a COCO checkpoint
            (`yolov5s.pt`), which is downloaded into `data/checkpoints/` once.

    Raises:
        MissingError: no such file, and no checkpoint of that name is known.
        NetworkError: it cannot be downloaded.
        DigestError: it is not the file that was pinned.
    """
    path = Path(weights).expanduser()
    if path.suffix in (".yaml", ".yml"):
        return _model_yaml(path)
    if path.is_file():
        return str(path.resolve())
    name = f"{weights.removesuffix('.pt')}.pt"
    plain = name.replace("u.pt", ".pt")
    if plain not in KNOWN or path.name != weights:
        raise MissingError(
            f"{weights}: no such checkpoint{nearest(path.name, KNOWN)}; known by name: {', '.join(KNOWN)}",
            next_step="give the path of a .pt file, one of those names, or --weights yolov5s.yaml (from scratch)",
        )
    return str(_downloaded(root, KNOWN[plain], progress))


def _model_yaml(path: Path) -> str:
    """Return a model's yaml: a local one, or one that the package knows by name."""
    from ultralytics.utils.checks import check_yaml

    if path.is_file():
        return str(path.resolve())
    name = path.name
    unified = name[:6] + name[7:] if name.startswith("yolov5") and name[6:7] in tuple("nsmlx") else name
    if not check_yaml(unified, hard=False):
        raise MissingError(f"{path}: no such model yaml", next_step="for example: --weights yolov5s.yaml")
    return name


def _downloaded(root: Path, url: str, progress: Progress) -> Path:
    target = root / "data" / "checkpoints" / url.rpartition("/")[2]
    with locked(target):
        if not target.exists():
            _download(url, target, progress)
        digest = digest_file(target)
        pinned = PINNED.get(target.name)
        if pinned and pinned != digest:
            target.unlink()
            raise DigestError(
                f"{target}: expected sha256 {pinned}, found {digest}; the file was removed",
                next_step="run the command again, or give a local checkpoint with --weights PATH",
            )
    _log.info("weights %s (sha256 %s, %s)", target.name, digest, "as pinned" if pinned else "no digest is pinned")
    return target


def _download(url: str, target: Path, progress: Progress) -> None:
    import requests

    partial = target.with_name(f".{target.name}.partial")
    ways_on = "give a local file with --weights PATH, or train from scratch with --weights yolov5s.yaml"
    try:
        _look_up(urlsplit(url).hostname or "")
        with requests.get(url, stream=True, timeout=(CONNECT_SECONDS, READ_SECONDS)) as answer:
            answer.raise_for_status()
            total = int(answer.headers.get("Content-Length", 0))
            with storage_errors(target), partial.open("wb") as stream:
                for chunk in answer.iter_content(1 << 20):
                    stream.write(chunk)
                    progress(f"download {target.name}", stream.tell(), total)
        if total and partial.stat().st_size != total:
            raise requests.ConnectionError(f"expected {total} bytes, found {partial.stat().st_size}")
    except (requests.RequestException, TimeoutError, socket.gaierror) as error:
        partial.unlink(missing_ok=True)
        raise NetworkError(f"{url}: cannot be downloaded ({error})", next_step=ways_on) from error
    partial.replace(target)


def _look_up(host: str) -> None:
    """Resolve a host name with a time limit: the system's own resolver can keep a caller for half a minute.

    Raises:
        TimeoutError: no answer in `CONNECT_SECONDS`.
        socket.gaierror: there is no such host, or no network.
    """
    failure: list[OSError] = []
    answered = threading.Event()

    def look_up() -> None:
        try:
            socket.getaddrinfo(host, 443)
        except OSError as error:
            failure.append(error)
        answered.set()

    threading.Thread(target=look_up, daemon=True).start()
    if not answered.wait(CONNECT_SECONDS):
        raise TimeoutError(f"no answer from the name server for {host} in {CONNECT_SECONDS:g} s")
    if failure:
        raise failure[0]


def check_extra(extra: dict[str, Any], own: tuple[str, ...], instead: Mapping[str, str]) -> None:
    """Refuse a trainer setting that `ultralytics` does not know, or that fmask sets itself.

    Args:
        instead: settings that fmask's loop does not have, and what to use instead.

    Raises:
        UsageError: names the nearest right one.
    """
    from ultralytics.utils import DEFAULT_CFG_DICT

    for key, value in extra.items():
        if key in own:
            raise UsageError(f"--set {key}: fmask sets this itself", next_step="see fmask train --help")
        if key in instead and value is not None:
            raise UsageError(f"--set {key}: fmask's own loop does not have this", next_step=f"use {instead[key]}")
        if key not in DEFAULT_CFG_DICT:
            close = nearest(key, [*TrainSettings.model_fields, *DEFAULT_CFG_DICT])
            raise UsageError(
                f"--set {key}: the trainer has no such setting{close}",
                next_step="the settings are those of the ultralytics trainer: lr0, mosaic, close_mosaic, ...",
            )
