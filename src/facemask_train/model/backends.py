"""What can run a detector: PyTorch, ONNX Runtime, OpenVINO. Each is told by the path of its file, and asked alike.

    best.pt                  a checkpoint: PyTorch
    best.onnx                ONNX Runtime
    best_openvino_model/     OpenVINO (the folder, or the .xml in it)

An export says what it is in its own metadata, as the `ultralytics` package writes them. Knows no images' own sizes:
it is asked for images that are letterboxed already.
"""

from __future__ import annotations

import ast
import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facemask_train.core.config import read_yaml
from facemask_train.core.errors import DataError, MissingError, UsageError
from facemask_train.core.parallel import usable_cores
from facemask_train.model.ultralytics_compat import device_name, open_ultralytics, share_cores
from facemask_train.model.validation import CONFIDENCE, check_names, load_model

if TYPE_CHECKING:
    from numpy.typing import NDArray

DEFAULT_IMGSZ = 640
EXPORTED_CONFIDENCE = 0.25
"""What the package suppresses below where suppression is part of an exported graph and nothing else is said."""

POINT = "operating_point"
"""What an export of fmask calls the confidence that was chosen on val, in its metadata."""


@dataclass(frozen=True, eq=False, slots=True)
class Backend:
    """A loaded model, and what it can be asked.

    Attributes:
        name: what runs it.
        ask: (n, h, w, 3) uint8 RGB -> a tensor of (n, 4 + classes, anchors), centres and sizes in pixels, or, where
            suppression is part of the graph, of (n, found, 6): corners, confidence, class id.
        imgsz: the size in pixels that it was trained or exported at.
        size: the only (height, width) that it takes, or None where it takes any multiple of 32.
        batch: the only number of images that it takes at once, or None.
        least: the confidence below which it says nothing, whatever is asked.
        point: the confidence from which its answers count at `imgsz`, where an export says one.
        device: the torch device that it runs on.
    """

    name: str
    ask: Callable[[NDArray[Any]], Any]
    imgsz: int
    size: tuple[int, int] | None = None
    batch: int | None = None
    least: float = 0.0
    point: float | None = None
    device: Any = "cpu"


def is_export(weights: Path) -> bool:
    """Tell an export (a file or folder for ONNX Runtime or OpenVINO) from a checkpoint, by its name."""
    return weights.suffix in (".onnx", ".xml") or weights.is_dir()


def load_backend(weights: Path, device: str = "", precision: str = "float32", streams: int = 1) -> Backend:
    """Load a checkpoint or an export. Threads may ask at once.

    Args:
        streams: how many threads will ask at once; they share the cores.
        device: `cpu`, a GPU's number, or empty: the GPU where there is one. Exports run on the CPU.
        precision: `float32`, or `bfloat16`: faster on processors that have it, and not the same numbers.

    Raises:
        MissingError: there is no such file, or what runs it is not installed.
        DataError: it cannot be used, or its classes are not `CLASSES`.
        UsageError: there is no such device or precision, or not for this backend.
    """
    if precision not in ("float32", "bfloat16"):
        raise UsageError(f"precision {precision!r}: expected float32 or bfloat16", next_step="leave it out")
    if not is_export(weights):
        return _pytorch(weights, device, precision, streams)
    if device not in ("", "cpu"):
        raise UsageError(f"device {device}: an export runs on the CPU", next_step="leave the device out, or give a .pt")
    if not weights.exists():
        raise MissingError(f"{weights}: no such export", next_step="check the path; `fmask export` makes one")
    open_ultralytics()
    share_cores(streams)  # suppression is torch's, whatever runs the model
    load = _onnx if weights.suffix == ".onnx" else _openvino
    return load(weights, precision, streams)


# ---- PyTorch ----


def _pytorch(weights: Path, device: str, precision: str, streams: int) -> Backend:
    model, checkpoint = load_model(weights)
    check_names(weights, model.names.values(), f"fine-tune it first: fmask train --weights {weights}")
    import torch
    from ultralytics.utils.torch_utils import select_device

    device_name(device)  # what is not there is refused
    chosen = select_device(device, verbose=False)
    share_cores(streams)
    # Images come as (n, h, w, 3), which seen as (n, 3, h, w) is the order in memory that the CPU is twice as fast in.
    model = model.fuse(verbose=False).eval().to(chosen, memory_format=torch.channels_last)
    spare = [model]

    def ask(boxed: NDArray[Any]) -> Any:
        tensor = torch.from_numpy(boxed).to(chosen).permute(0, 3, 1, 2).float() / 255
        own = _taken(spare, model)
        with torch.inference_mode(), torch.autocast(chosen.type, torch.bfloat16, enabled=precision == "bfloat16"):
            raw = own(tensor)
        spare.append(own)
        return (raw[0] if isinstance(raw, (tuple, list)) else raw).float()

    imgsz = (checkpoint.get("train_args") or {}).get("imgsz")
    return Backend("PyTorch", ask, imgsz if isinstance(imgsz, int) else DEFAULT_IMGSZ, device=chosen)


def _taken(spare: list[Any], model: Any) -> Any:
    """Take a model that no other thread asks, or a copy: its head remembers the size of the last image."""
    try:
        return spare.pop()
    except IndexError:
        made = copy.deepcopy(model)
        made.model[-1].shape = None  # whatever the original was about to remember
        return made


# ---- exports ----


def _onnx(weights: Path, precision: str, streams: int) -> Backend:
    if precision != "float32":
        raise UsageError("ONNX Runtime has float32 alone on the CPU", next_step="leave --precision out")
    runtime = _installed("onnxruntime", weights)
    import numpy as np
    import torch

    options = runtime.SessionOptions()
    options.intra_op_num_threads = max(1, usable_cores() // streams)
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime has an error class of its own for each way in which a file is no model
        raise _unusable(weights, str(error)) from error
    entry = session.get_inputs()[0]
    kind = np.float16 if "float16" in entry.type else np.float32

    def ask(boxed: NDArray[Any]) -> Any:
        asked = np.divide(np.ascontiguousarray(boxed.transpose(0, 3, 1, 2)), 255, dtype=np.float32).astype(kind)
        return torch.from_numpy(session.run(None, {entry.name: asked})[0]).float()

    told = {key: _literal(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    shape = [side if isinstance(side, int) else None for side in entry.shape]
    return _exported("ONNX Runtime", weights, ask, told, shape)


def _openvino(weights: Path, precision: str, streams: int) -> Backend:
    runtime = _installed("openvino", weights)
    import numpy as np
    import torch

    path = weights if weights.suffix == ".xml" else next(iter(sorted(weights.glob("*.xml"))), None)
    if path is None:
        raise _unusable(weights, "the folder holds no .xml file, as an OpenVINO model has one")
    core = _core(runtime)
    # By itself it takes bfloat16 where the processor has it, which moves boxes by pixels.
    hints = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "bf16" if precision == "bfloat16" else "f32"}
    own = streams if usable_cores() >= 2 * streams else 1  # one thread for each image is no gain here, unlike elsewhere
    hints |= {"NUM_STREAMS": str(own), "INFERENCE_NUM_THREADS": str(usable_cores()), "ENABLE_CPU_PINNING": "NO"}
    try:
        model = core.read_model(path)
        compiled = core.compile_model(model, "CPU", hints)
    except RuntimeError as error:
        raise _unusable(weights, str(error)) from error

    def ask(boxed: NDArray[Any]) -> Any:
        asked = np.divide(np.ascontiguousarray(boxed.transpose(0, 3, 1, 2)), 255, dtype=np.float32)
        found = compiled.create_infer_request().infer({0: asked})  # one for each call: threads may ask at once
        return torch.from_numpy(np.array(found[0])).float()

    about = path.with_name("metadata.yaml")
    told = read_yaml(about) if about.is_file() else {}
    shape = [side.get_length() if side.is_static else None for side in model.input(0).get_partial_shape()]
    batch, _, height, width = shape
    # Asked for the first time by two threads at once, OpenVINO's bindings can wait for each other for ever.
    ask(np.zeros((batch or 1, height or 64, width or 64, 3), np.uint8))
    return _exported("OpenVINO", weights, ask, told, shape)


@functools.cache
def _core(runtime: Any) -> Any:
    """Return OpenVINO's core, one for the whole process.

    Its plugin gives the thread that it is opened in a stack for signals. If the last core is let go in another thread,
    that stack is gone and still in use: the next Ctrl-C is a segmentation fault.
    """
    return runtime.Core()


def _installed(module: str, weights: Path) -> Any:
    """Return an optional package.

    Raises:
        MissingError: it is not installed; says how to.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingError(
            f"{weights}: needs {module}, which is not installed ({error})",
            next_step="pip install 'facemask-train[export]', or give the run's .pt",
        ) from error


def _unusable(weights: Path, found: str) -> DataError:
    said = " ".join(found.split())
    return DataError(
        f"{weights}: expected a whole export of a detector; {said[:200]}", next_step="export it again: fmask export"
    )


def _literal(text: str) -> Any:
    """Return a value of ONNX metadata, which are Python literals as text; any other text stays a text."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text


def _exported(
    name: str, weights: Path, ask: Callable[[NDArray[Any]], Any], told: Mapping[str, Any], shape: list[int | None]
) -> Backend:
    """Return an export's backend, checked by what its metadata tell and by the (n, 3, h, w) that its graph takes."""
    names = told.get("names")
    check_names(weights, names.values() if isinstance(names, dict) else (), "export a run of fmask: fmask export")
    batch, _, height, width = shape
    size = (height, width) if height and width else None
    asked = told.get("imgsz")
    imgsz = max(size) if size else max(asked) if isinstance(asked, (list, tuple)) and asked else DEFAULT_IMGSZ
    return Backend(name, ask, int(imgsz), size, batch, _least(told), operating_point(told))


def operating_point(told: Mapping[str, Any]) -> float | None:
    """Return the confidence from which answers count, as an export's metadata say it; None where they do not."""
    try:
        said = float(told[POINT])
    except (KeyError, TypeError, ValueError):
        return None
    return said if 0 <= said <= 1 else None


def _least(told: Mapping[str, Any]) -> float:
    """Return the confidence below which the graph itself leaves boxes out."""
    settings = told.get("args") or {}
    if not (settings.get("nms") or told.get("end2end")):
        return 0.0
    said = told.get("conf", settings.get("conf"))
    if isinstance(said, (int, float)):
        return float(said)
    return CONFIDENCE if "fmask" in str(told.get("description")) else EXPORTED_CONFIDENCE
