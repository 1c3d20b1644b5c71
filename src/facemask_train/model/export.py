"""Convert a checkpoint to ONNX or OpenVINO. Does not check the result; `apps/export` compares it with the checkpoint.

Both formats take images (n, 3, h, w), RGB from 0 to 1, for any n and sides that are multiples of the stride. Output:

- with NMS in the graph, `detections` (n, k, 6): corners in pixels, confidence, class id, the most confident first.
  k is at most 300, and rows with confidence 0 are padding. A reader needs neither torch nor its own NMS.
- without NMS, `output0` (n, 4 + classes, anchors): center, width, height, and the confidence of each class.

The metadata have the keys of the `ultralytics` package, so `yolo predict` can read the files too.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from facemask_train.core.types import CLASSES
from facemask_train.model.backends import OPERATING_POINT
from facemask_train.model.onnx_detector import OUTPUT, STRIDE
from facemask_train.model.validation import CONFIDENCE, IOU, MAX_DETECTIONS, load_model

OPSET = 18
_RAW_OUTPUT = "output0"


def to_onnx(weights: Path, target: Path, *, imgsz: int, nms: bool, metadata: Mapping[str, str]) -> None:
    """Convert a checkpoint to an ONNX file.

    Args:
        imgsz: the image size in pixels, for the metadata; the graph accepts other sizes too.
        nms: build non-maximum suppression into the graph: per class, at `validation.IOU`, as everywhere in fmask.
        metadata: additional metadata of the file.

    Raises:
        MissingError, DataError: as in `validation.load_model`.
    """
    import onnx

    _trace(weights, target, imgsz)
    model = onnx.load(target)
    if nms:
        _append_nms(model)
    onnx.helper.set_model_props(model, {**_metadata(imgsz, nms), **metadata})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, target)


def to_openvino(source: Path, folder: Path) -> None:
    """Convert an ONNX file that `to_onnx` wrote to an OpenVINO model in a new folder."""
    import onnx
    import openvino
    import yaml

    props = {one.key: one.value for one in onnx.load(source).metadata_props}
    model = openvino.convert_model(source)
    folder.mkdir()
    for key, value in props.items():
        model.set_rt_info(value, ["model_info", key])
    openvino.save_model(model, folder / f"{source.stem}.xml", compress_to_fp16=False)
    literals = {*_metadata(0, nms=True), OPERATING_POINT}
    metadata = {key: yaml.safe_load(value) if key in literals else value for key, value in props.items()}
    (folder / "metadata.yaml").write_text(yaml.safe_dump(metadata, sort_keys=False), encoding="utf-8")


def _trace(weights: Path, target: Path, imgsz: int) -> None:
    """Write the network as an ONNX file, from the images to the raw output of its head."""
    import torch

    model, _ = load_model(weights)
    model = model.fuse(verbose=False).eval()
    head = model.model[-1]
    head.export, head.dynamic, head.format = True, True, "onnx"
    images = torch.zeros(1, 3, imgsz, imgsz)
    dynamic_axes = {"images": {0: "batch", 2: "height", 3: "width"}, _RAW_OUTPUT: {0: "batch", 2: "anchors"}}
    with warnings.catch_warnings(), torch.inference_mode():
        # The tracer warns about a newer exporter, which needs another package and has no advantage here.
        warnings.simplefilter("ignore")
        model(images)
        torch.onnx.export(
            model, (images,), str(target), opset_version=OPSET, input_names=["images"], output_names=[_RAW_OUTPUT],
            dynamic_axes=dynamic_axes, dynamo=False,
        )  # fmt: skip


def _metadata(imgsz: int, nms: bool) -> dict[str, str]:
    """Return the metadata that the `ultralytics` package reads, as texts."""
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


def _append_nms(model: Any) -> None:
    """Append non-maximum suppression to a network's raw output.

    The kept boxes are scattered into a table of confidences (n, classes x anchors) that is 0 elsewhere, and the
    highest values of the table are the detections. This works for any batch size and gives a dense output.
    """
    from onnx import TensorProto, helper

    graph = model.graph
    integers = {"zero": 0, "one": 1, "four": 4, "last": -1, "end": 2**31}
    integers |= {"max_det": MAX_DETECTIONS, "classes": len(CLASSES)}
    for name, number in integers.items():
        graph.initializer.append(helper.make_tensor(f"nms.{name}", TensorProto.INT64, [1], [number]))
    for name, value in {"iou": IOU, "confidence": CONFIDENCE, "half": 0.5}.items():
        graph.initializer.append(helper.make_tensor(f"nms.{name}", TensorProto.FLOAT, [1], [value]))
    graph.initializer.append(helper.make_tensor("nms.rows", TensorProto.INT64, [2], [0, -1]))
    graph.node.extend(_nms_nodes())
    del graph.output[:]
    graph.output.append(helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, ["batch", "detections", 6]))


def _nms_nodes() -> list[Any]:
    from onnx import TensorProto, helper

    def node(operator: str, inputs: str, outputs: str, **attributes: Any) -> Any:
        """Return a node. Its inputs and outputs are given as names separated by spaces."""
        names = _qualified(inputs.split()), _qualified(outputs.split())
        return helper.make_node(operator, *names, name=f"nms/{outputs}", **attributes)

    return [
        node("Slice", f"{_RAW_OUTPUT} zero four one", "raw_boxes"),
        node("Slice", f"{_RAW_OUTPUT} four end one", "scores"),
        node("Transpose", "raw_boxes", "boxes", perm=[0, 2, 1]),
        node("NonMaxSuppression", "boxes scores max_det iou confidence", "kept", center_point_box=1),
        node("GatherND", "scores kept", "kept_scores"),
        node("Sub", "scores scores", "zeros"),
        node("ScatterND", "zeros kept kept_scores", "table"),
        node("Reshape", "table rows", "flat"),
        node("Shape", "scores", "anchors", start=2, end=3),
        node("Mul", "anchors classes", "cells"),
        node("Min", "cells max_det", "k"),
        node("TopK", "flat k", "top_scores top_cells", axis=1),
        node("Div", "top_cells anchors", "class_id"),
        node("Mod", "top_cells anchors", "anchor"),
        node("Unsqueeze", "anchor last", "index"),
        node("GatherND", "boxes index", "top_boxes", batch_dims=1),
        node("Split", "top_boxes", "center size", axis=2, num_outputs=2),
        node("Mul", "size half", "half_size"),
        node("Sub", "center half_size", "low"),
        node("Add", "center half_size", "high"),
        node("Unsqueeze", "top_scores last", "score_column"),
        node("Cast", "class_id", "class_float", to=TensorProto.FLOAT),
        node("Unsqueeze", "class_float last", "class_column"),
        node("Concat", "low high score_column class_column", OUTPUT, axis=2),
    ]


def _qualified(names: Sequence[str]) -> list[str]:
    """Prefix the names of the suppression's own values; those of the network and of the result stay as they are."""
    return [name if name in (_RAW_OUTPUT, OUTPUT) else f"nms.{name}" for name in names]
