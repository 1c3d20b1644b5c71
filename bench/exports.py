"""The accuracy and speed of the exports of a run: each format, NMS inside and outside, each size.

    python bench/exports.py ROOT RUN [RUN ...] --sizes 320 640

Prints a Markdown table, and writes bench/results/exports.json. Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from facemask_train.apps.export import parity
from facemask_train.apps.export.export import export, find_check_split
from facemask_train.apps.export.verify import PYTORCH
from facemask_train.eval.audit import split_labels
from facemask_train.eval.eval_target import find_model
from facemask_train.model.detector import load_detector
from facemask_train.report.markdown import table

HEADER = ("model", "size, px", "NMS", "format", "MB", "ms an image (10th to 90th)", "mAP 0.5:0.95", "box error, px")


def measure(root: Path, run: str, size: int, nms: bool) -> dict[str, Any]:
    """Return the `export.json` of one run at one size, and the effect of bfloat16 on OpenVINO."""
    with tempfile.TemporaryDirectory(prefix="fmask-bench-") as scratch:
        done = export(root, run=run, imgsz=size, nms=nms, target=Path(scratch) / "export")
        file = next(Path(scratch, "export").glob("*_openvino_model"))
        return {**done.record.to_json(), "bfloat16": in_bfloat16(root, run, size, file)}


def in_bfloat16(root: Path, run: str, size: int, file: Path) -> dict[str, float]:
    """Return mAP 0.5:0.95 with OpenVINO in bfloat16, its difference from PyTorch in float32, and milliseconds."""
    model = find_model(root, run, None)
    exam = find_check_split(root, model, None, None)
    backends = {
        PYTORCH: load_detector(model.weights, imgsz=size, device="cpu"),
        "bfloat16": load_detector(file, imgsz=size, device="cpu", precision="bfloat16"),
    }
    results = parity.run_backends(backends, exam.folder, split_labels(exam))
    apart = parity.compare(results[PYTORCH].images, results["bfloat16"].images, imgsz=size)
    return {
        "map50_95": parity.map50_95(results["bfloat16"].images),
        "difference": apart.map_difference,
        "milliseconds": parity.latency(results["bfloat16"].seconds).median,
    }


def rows(found: dict[str, Any]) -> list[tuple[str, ...]]:
    inputs = found["inputs"]
    return [
        (
            found["run"], str(inputs["imgsz"]), "inside" if inputs["nms"] else "outside", one["format"],
            f"{one['megabytes']:.1f}",
            "{median:.1f} ({p10:.1f} to {p90:.1f})".format(**one["milliseconds"]),
            f"{100 * one['map50_95']:.2f}",
            "-" if one["parity"] is None else f"{one['parity']['box_error']:.4f}",
        )
        for one in found["models"]
    ] + [
        (
            found["run"], str(inputs["imgsz"]), "inside" if inputs["nms"] else "outside", "openvino, bfloat16", "",
            f"{found['bfloat16']['milliseconds']:.1f}", f"{100 * found['bfloat16']['map50_95']:.2f}", "",
        )
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--sizes", nargs="+", type=int, default=[320, 640])
    arguments = parser.parse_args()
    found = [
        measure(arguments.root, run, size, nms)
        for run in arguments.runs
        for size in arguments.sizes
        for nms in (True, False)
    ]
    print(table(HEADER, [row for one in found for row in rows(one)]))
    print(f"\n{found[0]['images']} images of {found[0]['inputs']['ensemble']['name']}; {found[0]['machine']}")
    target = Path(__file__).parent / "results" / "exports.json"
    target.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
