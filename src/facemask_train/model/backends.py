"""The runtimes that can run a detector: PyTorch, ONNX Runtime and OpenVINO. The path of the file selects one.

    best.pt                  a checkpoint: PyTorch
    best.onnx                ONNX Runtime
    best_openvino_model/     OpenVINO (the folder, or the .xml file in it)

An export describes itself in its metadata, in the format of the `ultralytics` package. Backends take letterboxed
images; `detector` does the letterboxing.
"""

from __future__ import annotations

import ast
import copy
import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from facemask_train.core.config import read_yaml
from facemask_train.core.errors import DataError, MissingError, UsageError
from facemask_train.core.parallel import usable_cores
from facemask_train.model.checkpoint_checks import imgsz_defect, named_by_id
from facemask_train.model.ultralytics_compat import device_name, open_ultralytics, share_cores
from facemask_train.model.validation import CONFIDENCE, check_names, load_model

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Images = NDArray[np.uint8]
    Forward = Callable[[Images], torch.Tensor]

DEFAULT_IMGSZ = 640
DEFAULT_EXPORT_CONFIDENCE = 0.25
"""The confidence threshold that `ultralytics` builds into an exported graph when none is given."""

OPERATING_POINT = "operating_point"
"""The metadata key under which fmask's exports store the confidence threshold that was chosen on val."""


@dataclass(frozen=True, eq=False, slots=True)
class Backend:
    """A loaded model and its limits.

    Attributes:
        name: the runtime's name.
        forward: (n, h, w, 3) uint8 RGB -> a tensor of (n, 4 + classes, anchors) with centers and sizes in pixels, or,
            if non-maximum suppression is part of the graph, of (n, k, 6): corners, confidence, class id.
        imgsz: the image size in pixels that the model was trained or exported at.
        fixed_size: the only (height, width) that the model accepts, or None if it accepts any multiple of 32.
        fixed_batch: the only batch size that the model accepts, or None.
        min_confidence: the graph itself drops detections below this confidence.
        operating_point: the confidence threshold at `imgsz`, if the export stores one.
        device: the torch device that the model runs on.
    """

    name: str
    forward: Forward
    imgsz: int
    fixed_size: tuple[int, int] | None = None
    fixed_batch: int | None = None
    min_confidence: float = 0.0
    operating_point: float | None = None
    device: torch.device | str = "cpu"


def is_export(weights: Path) -> bool:
    """Return whether a path names an export (ONNX or OpenVINO) rather than a checkpoint."""
    return weights.suffix in (".onnx", ".xml") or weights.is_dir()


def load_backend(weights: Path, device: str = "", precision: str = "float32", streams: int = 1) -> Backend:
    """Load a checkpoint or an export. The backend can be used from several threads at once.

    Args:
        device: `cpu`, a GPU's number, or empty for the GPU if there is one. Exports run on the CPU.
        precision: `float32`, or `bfloat16`, which is faster on processors that support it and changes the numbers.
        streams: how many threads will use the backend at once; they share the cores.

    Raises:
        MissingError: the file does not exist, or its runtime is not installed.
        DataError: the file is unusable, or its classes are not `CLASSES`.
        UsageError: the device or the precision does not exist, or this backend does not support it.
    """
    if precision not in ("float32", "bfloat16"):
        raise UsageError(f"precision {precision!r}: expected float32 or bfloat16", next_step="leave it out")
    if not is_export(weights):
        return _load_pytorch(weights, device, precision, streams)
    if device not in ("", "cpu"):
        raise UsageError(
            f"device {device}: exports run on the CPU only", next_step="leave the device out, or give a .pt file"
        )
    if not weights.exists():
        raise MissingError(f"{weights}: no such export", next_step="check the path; `fmask export` makes one")
    open_ultralytics()
    share_cores(streams)  # non-maximum suppression runs in torch, whatever runs the model
    load = _load_onnx if weights.suffix == ".onnx" else _load_openvino
    return load(weights, precision, streams)


# ---- PyTorch ----


def _load_pytorch(weights: Path, device: str, precision: str, streams: int) -> Backend:
    model, checkpoint = load_model(weights)
    check_names(weights, model.names.values(), f"fine-tune it first: fmask train --weights {weights}")
    import torch
    from ultralytics.utils.torch_utils import select_device

    device_name(device)  # raises if there is no such device
    chosen: torch.device = select_device(device, verbose=False)
    share_cores(streams)
    # Images arrive as (n, h, w, 3). Viewed as (n, 3, h, w) that is channels-last, which is twice as fast on a CPU.
    model = model.fuse(verbose=False).eval().to(chosen, memory_format=torch.channels_last)
    idle = [model]

    def forward(images: Images) -> torch.Tensor:
        tensor = torch.from_numpy(images).to(chosen).permute(0, 3, 1, 2).float() / 255
        own = _take_model(idle, model)
        with torch.inference_mode(), torch.autocast(chosen.type, torch.bfloat16, enabled=precision == "bfloat16"):
            raw = own(tensor)
        idle.append(own)
        output: torch.Tensor = raw[0] if isinstance(raw, (tuple, list)) else raw
        return output.float()

    imgsz = (checkpoint.get("train_args") or {}).get("imgsz")
    return Backend("PyTorch", forward, imgsz if isinstance(imgsz, int) else DEFAULT_IMGSZ, device=chosen)


def _take_model(idle: list[torch.nn.Module], model: Any) -> torch.nn.Module:
    """Return a model that no other thread uses, or a copy: the head caches the size of the last image."""
    try:
        return idle.pop()
    except IndexError:
        clone: Any = copy.deepcopy(model)
        clone.model[-1].shape = None  # drop the size that the original may be caching right now
        return clone  # type: ignore[no-any-return]


# ---- exports ----


@dataclass(frozen=True, slots=True)
class _GraphInput:
    """The input shape of an exported graph; None if a dimension is dynamic."""

    batch: int | None
    height: int | None
    width: int | None


def _load_onnx(weights: Path, precision: str, streams: int) -> Backend:
    if precision != "float32":
        raise UsageError("ONNX Runtime supports float32 only on the CPU", next_step="leave --precision out")
    runtime: Any = _import_runtime("onnxruntime", weights)
    import numpy as np
    import torch

    options = runtime.SessionOptions()
    options.intra_op_num_threads = max(1, usable_cores() // streams)
    options.log_severity_level = 3
    try:
        session = runtime.InferenceSession(str(weights), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime has a separate error class for each kind of invalid file
        raise _invalid_export(weights, str(error)) from error
    entry = session.get_inputs()[0]
    dtype = np.float16 if "float16" in entry.type else np.float32

    def forward(images: Images) -> torch.Tensor:
        scaled = np.divide(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), 255, dtype=np.float32).astype(dtype)
        return torch.from_numpy(session.run(None, {entry.name: scaled})[0]).float()

    metadata = {key: _parse_literal(text) for key, text in session.get_modelmeta().custom_metadata_map.items()}
    batch, _, height, width = (side if isinstance(side, int) else None for side in entry.shape)
    return _export_backend("ONNX Runtime", weights, forward, metadata, _GraphInput(batch, height, width))


def _load_openvino(weights: Path, precision: str, streams: int) -> Backend:
    runtime: Any = _import_runtime("openvino", weights)
    import numpy as np
    import torch

    path = weights if weights.suffix == ".xml" else next(iter(sorted(weights.glob("*.xml"))), None)
    if path is None:
        raise _invalid_export(weights, "the folder has no .xml file, which every OpenVINO model has")
    core = _openvino_core(runtime)
    try:
        model = core.read_model(path)
        compiled = core.compile_model(model, "CPU", _openvino_config(precision, streams))
    except RuntimeError as error:
        raise _invalid_export(weights, str(error)) from error

    def forward(images: Images) -> torch.Tensor:
        scaled = np.divide(np.ascontiguousarray(images.transpose(0, 3, 1, 2)), 255, dtype=np.float32)
        output = compiled.create_infer_request().infer({0: scaled})  # a request per call keeps threads apart
        return torch.from_numpy(np.array(output[0])).float()

    sidecar = path.with_name("metadata.yaml")
    metadata = read_yaml(sidecar) if sidecar.is_file() else {}
    shape = [side.get_length() if side.is_static else None for side in model.input(0).get_partial_shape()]
    batch, _, height, width = shape
    # OpenVINO's bindings can deadlock if two threads make the first call at the same time.
    forward(np.zeros((batch or 1, height or 64, width or 64, 3), np.uint8))
    return _export_backend("OpenVINO", weights, forward, metadata, _GraphInput(batch, height, width))


def _openvino_config(precision: str, streams: int) -> dict[str, str]:
    """Return the settings of the CPU plugin."""
    # Without a hint the plugin uses bfloat16 on processors that support it, which moves boxes by whole pixels.
    hint = "bf16" if precision == "bfloat16" else "f32"
    # With a single core per stream, streams of the plugin's own do not pay off.
    own_streams = streams if usable_cores() >= 2 * streams else 1
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": hint,
        "NUM_STREAMS": str(own_streams),
        "INFERENCE_NUM_THREADS": str(usable_cores()),
        "ENABLE_CPU_PINNING": "NO",
    }


@functools.cache
def _openvino_core(runtime: Any) -> Any:
    """Return the OpenVINO core of this process.

    The plugin gives the thread that opens it an alternate signal stack. If the last core is released in another
    thread, that stack is freed while it is still in use, and the next Ctrl-C is a segmentation fault.
    """
    return runtime.Core()


def _import_runtime(module: str, weights: Path) -> ModuleType:
    """Import an optional package.

    Raises:
        MissingError: the package is not installed; the message says how to install it.
    """
    import importlib

    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise MissingError(
            f"{weights}: needs {module}, which is not installed ({error})",
            next_step="pip install 'facemask-train[export]', or give the run's .pt file",
        ) from error


def _invalid_export(weights: Path, reason: str) -> DataError:
    text = " ".join(reason.split())
    return DataError(
        f"{weights}: expected the complete export of a detector; {text[:200]}",
        next_step="export it again: fmask export",
    )


def _parse_literal(text: str) -> object:
    """Parse a value of ONNX metadata, which are Python literals; return any other text as it is."""
    try:
        value: object = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return text
    return value


def _export_backend(
    name: str, weights: Path, forward: Forward, metadata: Mapping[str, object], graph: _GraphInput
) -> Backend:
    """Return an export's backend after checking its class names."""
    names = named_by_id(metadata.get("names"))
    check_names(weights, names.values() if isinstance(names, dict) else (), "export a run of fmask: fmask export")
    size = (graph.height, graph.width) if graph.height and graph.width else None
    exported = metadata.get("imgsz")
    sides = [side for side in exported if isinstance(side, int)] if isinstance(exported, (list, tuple)) else []
    imgsz = max(size or sides or [DEFAULT_IMGSZ])
    if defect := imgsz_defect(imgsz):
        raise _invalid_export(weights, defect)
    return Backend(name, forward, imgsz, size, graph.batch, _min_confidence(metadata), read_operating_point(metadata))


def read_operating_point(metadata: Mapping[str, object]) -> float | None:
    """Return the confidence threshold that an export's metadata store, or None."""
    stored = metadata.get(OPERATING_POINT)
    try:
        value = float(stored) if isinstance(stored, (str, int, float)) else -1.0
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def _min_confidence(metadata: Mapping[str, object]) -> float:
    """Return the confidence below which the graph itself drops boxes."""
    args = metadata.get("args")
    settings: Mapping[str, object] = args if isinstance(args, dict) else {}
    if not (settings.get("nms") or metadata.get("end2end")):
        return 0.0
    stored = metadata.get("conf", settings.get("conf"))
    if isinstance(stored, (int, float)):
        return float(stored)
    return CONFIDENCE if "fmask" in str(metadata.get("description")) else DEFAULT_EXPORT_CONFIDENCE
