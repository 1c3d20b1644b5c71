"""Reads checkpoints of the original YOLOv5 repository: a pickled `models.yolo.Model`, of which no line is run.

Every class that such a file names is replaced by one that only keeps its state. The tensors of the backbone and the
neck have the same names and shapes in the package's `yolov5n.yaml` to `yolov5x.yaml`. The original head predicts
offsets to anchors and has no counterpart in the package's head, so a converted checkpoint is a start for training.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.core.errors import DataError
from facemask_train.core.files import digest_file, locked, storage_errors, write_bytes
from facemask_train.core.types import CLASSES
from facemask_train.model.ultralytics_compat import open_ultralytics

if TYPE_CHECKING:
    from torch import Tensor

_SIZES = {16: "n", 32: "s", 48: "m", 64: "l", 80: "x"}
"""The sizes of YOLOv5 by the channels of the first convolution."""

_HEAD = 24
"""The layer of the head; the layers before it are the backbone and the neck."""

_MODEL = "models.yolo.Model"
_KNOWN = re.compile(
    r"models\.(yolo|common|experimental)\.\w+|torch\.nn\.modules\.\w+\.\w+"
    r"|numpy\.(dtype|ndarray|(_?core)\.multiarray\.(_reconstruct|scalar))"
)
"""What an original checkpoint names beyond tensors; nothing of it is imported."""

_log = logging.getLogger(__name__)


class _StandIn:
    """Takes the place of an object of a class that is not imported, and keeps its state."""

    def __init__(self, *_arguments: object) -> None:
        self.state: object = None

    def __setstate__(self, state: object) -> None:
        self.state = state


def is_legacy(weights: Path) -> bool:
    """Return whether a file is a checkpoint as the original YOLOv5 repository saves it."""
    return _MODEL in _named(weights)


def convert_legacy(root: Path, weights: Path) -> Path:
    """Return a checkpoint of the package with the backbone and neck of an original one, and a new head.

    It is written to `data/checkpoints/` once, under a name that holds the content's digest.

    Raises:
        DataError: the file is damaged, or is not a YOLOv5n, s, m, l or x of release 6.0 or later.
    """
    digest = digest_file(weights)
    target = root / "data" / "checkpoints" / f"{weights.stem}-{digest[:12]}.pt"
    with locked(target):
        if not target.is_file():
            content, taken, new = _converted(weights)
            with storage_errors(target):
                write_bytes(target, content)
            _log.info(
                "%s: from the original YOLOv5 repository; %d of %d tensors of the backbone and neck were taken,"
                " the %d tensors of the detection head are new",
                weights, taken, taken, new,
            )  # fmt: skip
    return target


def _converted(weights: Path) -> tuple[bytes, int, int]:
    """Return the content of the converted checkpoint, and the number of tensors that were taken and that are new."""
    import torch

    tensors = {name: one for name, one in _tensors(weights) if _layer(name) < _HEAD}
    first = tensors.get("model.0.conv.weight")
    size = _SIZES.get(first.shape[0] if first is not None and first.ndim else 0, "")
    if not size:
        raise _not_convertible(weights, "its first layer is that of none of them")
    model = _new_model(f"yolov5{size}.yaml")
    expected = {name: one for name, one in model.state_dict().items() if _layer(name) < _HEAD}
    fitting = {name: one for name, one in tensors.items() if name in expected and expected[name].shape == one.shape}
    if len(fitting) < len(expected) or len(tensors) > len(expected):
        raise _not_convertible(weights, f"{len(fitting)} of its {len(tensors)} tensors fit the {len(expected)} there")
    model.load_state_dict(fitting, strict=False)
    model.args = {"task": "detect"}
    stream = BytesIO()
    torch.save({"epoch": -1, "model": model, "ema": None, "optimizer": None, "train_args": model.args}, stream)
    return stream.getvalue(), len(fitting), len(model.state_dict()) - len(fitting)


def _new_model(yaml: str) -> Any:
    """Return a detector with a new head, the same each time."""
    open_ultralytics()
    import torch
    from ultralytics.nn.tasks import DetectionModel

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = DetectionModel(yaml, nc=len(CLASSES), verbose=False)
    model.names = dict(enumerate(CLASSES))
    return model


def _layer(name: str) -> int:
    """Return the layer of a tensor: `model.3.conv.weight` is of layer 3."""
    found = re.match(r"model\.(\d+)\.", name)
    return int(found[1]) if found else _HEAD


def _not_convertible(weights: Path, found: str) -> DataError:
    return DataError(
        f"{weights}: expected a YOLOv5n, s, m, l or x of the original repository (release 6.0 or later); {found}",
        next_step="train from another checkpoint: --weights yolov5s.pt, or from scratch: --weights yolov5s.yaml",
    )


# ---- reading ----


def _named(weights: Path) -> list[str]:
    """Return the classes and functions that a checkpoint names beyond those of tensors; none if it cannot be read."""
    from torch.serialization import get_unsafe_globals_in_checkpoint

    try:
        return sorted(get_unsafe_globals_in_checkpoint(str(weights)))
    except Exception:  # noqa: BLE001 - arbitrary bytes can raise any exception
        return []


def _tensors(weights: Path) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters and buffers of the pickled model by name (`model.0.conv.weight`).

    Raises:
        DataError: the file names something else than a model consists of, or is damaged.
    """
    import torch

    named = _named(weights)
    if foreign := [name for name in named if not _KNOWN.fullmatch(name)]:
        raise _not_convertible(weights, f"it names {foreign[0]}, which no such checkpoint does")
    try:
        with torch.serialization.safe_globals([(_StandIn, name) for name in named]):
            checkpoint = torch.load(weights, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling arbitrary bytes can raise any exception
        raise _not_convertible(weights, "it is damaged") from error
    models = [checkpoint.get(key) for key in ("ema", "model")] if isinstance(checkpoint, dict) else []
    found = next((one for one in models if isinstance(one, _StandIn)), None)
    yield from _walk(found)


def _walk(model: object) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a module and of those in it, each module once: a file can say that one contains itself."""
    import torch

    waiting: list[tuple[str, object]] = [("", model)]
    seen = set[int]()
    while waiting:
        prefix, module = waiting.pop()
        state = _state(module)
        if id(module) in seen:
            continue
        seen.add(id(module))
        for kind in ("_parameters", "_buffers"):
            for name, value in _mapping(state, kind).items():
                if isinstance(value, torch.Tensor) and value.layout == torch.strided:
                    yield f"{prefix}{name}", value
        waiting += [(f"{prefix}{name}.", one) for name, one in _mapping(state, "_modules").items()]


def _state(module: object) -> Mapping[str, object]:
    """Return the attributes of a pickled module. Those of torch may be there as themselves: the package allows them."""
    import torch

    state = (
        module.state if isinstance(module, _StandIn) else vars(module) if isinstance(module, torch.nn.Module) else {}
    )
    return state if isinstance(state, Mapping) else {}


def _mapping(state: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = state.get(key)
    return found if isinstance(found, Mapping) else {}
