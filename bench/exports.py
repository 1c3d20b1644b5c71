"""What exporting a run costs in accuracy and gains in speed: each format, suppression inside and outside, each size.

python bench/exports.py ROOT RUN [RUN ...] --sizes 320 640

Prints a Markdown table, and writes bench/results/exports.json. Run it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from facemask_train.evaluation.report.markdown import table
from facemask_train.use.export import export

HEADER = ("model", "size, px", "NMS", "format", "MB", "ms a picture (10th to 90th)", "mAP 0.5:0.95", "box error, px")


def measure(root: Path, run: str, size: int, nms: bool) -> dict[str, Any]:
    """Return what `export.json` says of one run at one size."""
    with tempfile.TemporaryDirectory(prefix="fmask-bench-") as scratch:
        return dict(export(root, run=run, imgsz=size, nms=nms, target=Path(scratch) / "export").found)


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
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("root", type=Path)
    parser.add_argument("runs", nargs="+")
    parser.add_argument("--sizes", nargs="+", type=int, default=[320, 640])
    asked = parser.parse_args()
    found = [measure(asked.root, run, size, nms) for run in asked.runs for size in asked.sizes for nms in (True, False)]
    print(table(HEADER, [row for one in found for row in rows(one)]))
    print(f"\n{found[0]['images']} pictures of {found[0]['inputs']['ensemble']['name']}; {found[0]['machine']}")
    target = Path(__file__).parent / "results" / "exports.json"
    target.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
