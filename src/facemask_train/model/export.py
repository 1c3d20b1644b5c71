"""From a checkpoint to the files that other runtimes read: ONNX and OpenVINO. Knows no runs, and judges nothing.

Both take images (n, 3, h, w), RGB from 0 to 1, of any n and sides that are multiples of the stride. They give:

- with suppression inside, `detections` (n, k, 6): corners in pixels, confidence, class id; the most confident first,
  k is 300 at most, and rows of confidence 0 are padding. Whoever reads it needs neither torch nor a suppression.
- with suppression outside, `output0` (n, 4 + classes, anchors): centre, width, height, and each class's confidence.

The metadata has the keys that the `ultralytics` package reads, so its own `yolo predict` takes the files too.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facemask_train.core.types import CLASSES
from facemask_train.model.backends import POINT
from facemask_train.model.onnx_detector import FOUND, STRIDE
from facemask_train.model.validation import CONFIDENCE, IOU, MAX_DETECTIONS, load_model

OPSET = 18
_RAW = "output0"


def to_onnx(weights: Path, target: Path, *, imgsz: int, nms: bool, about: Mapping[str, str]) -> None:
    """Write a checkpoint as an ONNX file.

    Args:
        nms: leave only what survives non-maximum suppression, as everywhere in fmask: class by class, at `detect.IOU`.
        about: what else the file shall say of itself, as texts.

    Raises:
        MissingError, DataError: as in `detect.load_model`.
    """
    import onnx

    _traced(weights, target, imgsz)
    model = onnx.load(target)
    if nms:
        _suppress(model)
    onnx.helper.set_model_props(model, {**_readable(imgsz, nms), **about})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, target)


def to_openvino(source: Path, folder: Path) -> None:
    """Write an ONNX file, as `to_onnx` makes them, as an OpenVINO model in a folder of its own."""
    import onnx
    import openvino
    import yaml

    props = {one.key: one.value for one in onnx.load(source).metadata_props}
    model = openvino.convert_model(source)
    folder.mkdir()
    for key, value in props.items():
        model.set_rt_info(value, ["model_info", key])
    openvino.save_model(model, folder / f"{source.stem}.xml", compress_to_fp16=False)
    read = {*_readable(0, nms=True), POINT}
    said = {key: yaml.safe_load(value) if key in read else value for key, value in props.items()}
    (folder / "metadata.yaml").write_text(yaml.safe_dump(said, sort_keys=False), encoding="utf-8")


def _traced(weights: Path, target: Path, imgsz: int) -> None:
    """Write the network itself, from images to what its head says."""
    import torch

    model, _ = load_model(weights)
    model = model.fuse(verbose=False).eval()
    head = model.model[-1]
    head.export, head.dynamic, head.format = True, True, "onnx"
    images = torch.zeros(1, 3, imgsz, imgsz)
    free = {"images": {0: "batch", 2: "height", 3: "width"}, _RAW: {0: "batch", 2: "anchors"}}
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter(
            "ignore"
        )  # of the tracer: the newer exporter needs a package more, and gains nothing here
        model(images)
        torch.onnx.export(
            model, (images,), str(target), opset_version=OPSET, input_names=["images"], output_names=[_RAW],
            dynamic_axes=free, dynamo=False,
        )  # fmt: skip


def _readable(imgsz: int, nms: bool) -> dict[str, str]:
    return {
        "description": "a face-mask detector, made by fmask",
        "license": "AGPL-3.0",
        "task": "detect",
        "batch": "1",
        "channels": "3",
        "stride": str(STRIDE),
        "imgsz": str([imgsz, imgsz]),
        "names": str(dict(enumerate(CLASSES))),
        "args": str({"nms": nms, "dynamic": True, "conf": CONFIDENCE, "iou": IOU}),
    }


def _suppress(model: Any) -> None:
    """Put non-maximum suppression behind a network's raw output.

    What is kept stands in a table of confidences (n, classes x anchors) that is 0 elsewhere; the highest of it are the
    detections. So it works for any number of images, and the output has one shape.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    whole = {"zero": 0, "one": 1, "four": 4, "last": -1, "many": 2**31, "most": MAX_DETECTIONS, "classes": len(CLASSES)}
    for name, number in whole.items():
        graph.initializer.append(helper.make_tensor(f"nms.{name}", TensorProto.INT64, [1], [number]))
    for name, value in {"overlap": IOU, "least": CONFIDENCE, "half": 0.5}.items():
        graph.initializer.append(helper.make_tensor(f"nms.{name}", TensorProto.FLOAT, [1], [value]))
    graph.initializer.append(helper.make_tensor("nms.rows", TensorProto.INT64, [2], [0, -1]))
    graph.node.extend(_nodes())
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(FOUND, TensorProto.FLOAT, ["batch", "found", 6]))


def _nodes() -> list[Any]:
    from onnx import TensorProto, helper

    def node(kind: str, given: str, made: str, **settings: Any) -> Any:
        """Return a node; of its values, those that are neither the network's nor the result are the suppression's."""
        return helper.make_node(kind, _named(given.split()), _named(made.split()), name=f"nms/{made}", **settings)

    return [
        node("Slice", f"{_RAW} zero four one", "places"),
        node("Slice", f"{_RAW} four many one", "scores"),
        node("Transpose", "places", "boxes", perm=[0, 2, 1]),
        node("NonMaxSuppression", "boxes scores most overlap least", "kept", center_point_box=1),
        node("GatherND", "scores kept", "values"),
        node("Sub", "scores scores", "nothing"),
        node("ScatterND", "nothing kept values", "table"),
        node("Reshape", "table rows", "flat"),
        node("Shape", "scores", "anchors", start=2, end=3),
        node("Mul", "anchors classes", "cells"),
        node("Min", "cells most", "k"),
        node("TopK", "flat k", "confidence place", axis=1),
        node("Div", "place anchors", "class"),
        node("Mod", "place anchors", "anchor"),
        node("Unsqueeze", "anchor last", "index"),
        node("GatherND", "boxes index", "found", batch_dims=1),
        node("Split", "found", "centre size", axis=2, num_outputs=2),
        node("Mul", "size half", "reach"),
        node("Sub", "centre reach", "low"),
        node("Add", "centre reach", "high"),
        node("Unsqueeze", "confidence last", "sure"),
        node("Cast", "class", "number", to=TensorProto.FLOAT),
        node("Unsqueeze", "number last", "name"),
        node("Concat", "low high sure name", FOUND, axis=2),
    ]


def _named(values: Sequence[str]) -> list[str]:
    return [one if one in (_RAW, FOUND) else f"nms.{one}" for one in values]
