"""The speed of `fmask predict` and of `yolo predict` with default settings: YOLOv5s, 640 px, same weights and images.

    python bench/predict.py --images FOLDER [--rounds 3] [--many 150] [--weights FILE]

Writes bench/results/predict.json, and prints it. All run alternately in one session, on the CPU. The comparison is
fair: either both write annotated images (the default of `yolo predict`), or neither does.

    command     the whole process, from the shell: images per second of wall time, startup included
    process     in a process that has imported its packages and run once before: loading the model, all images

Without --weights, seeded weights of a new YOLOv5s are used, whose confidences are set so that an image has a few boxes:
as fast as trained ones, and free of anyone's data. Exports are made by the `ultralytics` package, for any shape, with
NMS outside. The results include the number of boxes that each one found: the same for fmask's backends in float32.
yolo counts a face twice if it has a detection of each class.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
HERE = Path(__file__).parent
SIZE = 640
WARM = 4
OPENVINO = "openvino/model_openvino_model"
OURS = {
    "pytorch": ("model.pt", "float32"),
    "onnx": ("onnx/model.onnx", "float32"),
    "openvino": (OPENVINO, "float32"),
    "openvino bfloat16": (OPENVINO, "bfloat16"),
}

YOLO = """
import sys, time
from ultralytics import YOLO
weights, warm, folder, out, save, _ = sys.argv[1:]
def ask(source):
    options = {"imgsz": 640, "device": "cpu", "save": save == "1", "project": out}
    found = YOLO(weights).predict(source, stream=True, verbose=False, **options)
    return [len(one.boxes) for one in found]
ask(warm)
began = time.perf_counter()
found = ask(folder)
print(len(found) / (time.perf_counter() - began), sum(found))
"""

FMASK = """
import sys, time
from pathlib import Path
from facemask_train.apps.predict import PredictOptions, predict
weights, warm, folder, out, save, precision = sys.argv[1:]
def ask(source, name):
    options = PredictOptions(("images", "csv") if save == "1" else ("csv",))
    return predict(Path(out), [source], weights=Path(weights), imgsz=640, confidence=0.25, options=options,
                   out=Path(out, name), device="cpu", precision=precision).record
ask(warm, "warm")
began = time.perf_counter()
found = ask(folder, "all")
print(found.frames / (time.perf_counter() - began), found.faces)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--many", type=int, default=150)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--weights", type=Path)
    parser.add_argument("--backends", nargs="+", choices=list(OURS), default=list(OURS))
    parser.add_argument("--out", type=Path, default=HERE / "results" / "predict.json")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fmask-bench-") as name:
        scratch = Path(name)
        many = take(given.images, scratch / "images", given.many)
        take(given.images, scratch / "warm", WARM)
        write_weights(scratch, given.weights)
        rounds = [one_round(scratch, many, given.backends) for _ in range(given.rounds)]
    found = {
        "images": many,
        "imgsz": SIZE,
        "cores": len(os.sched_getaffinity(0)),
        **summary(rounds),
        "rounds": rounds,
    }
    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({key: value for key, value in found.items() if key != "rounds"}, indent=2))


def take(folder: Path, target: Path, many: int) -> int:
    """Copy up to this many images, evenly sampled, and return their number."""
    from facemask_train.formats import list_images

    names = list_images(folder)
    taken = names[:: max(1, len(names) // many)][:many]
    target.mkdir()
    for number, name in enumerate(taken):
        shutil.copy(folder / name, target / f"{number:04d}{Path(name).suffix}")
    return len(taken)


def write_weights(scratch: Path, weights: Path | None) -> None:
    """Write the checkpoint and its exports."""
    import numpy as np
    from PIL import Image

    from helpers.untrained import export, write_model

    model = scratch / "model.pt"
    if weights is not None:
        shutil.copy(weights, model)
    else:
        shown = [
            np.asarray(Image.open(path).convert("RGB").resize((SIZE, SIZE))) for path in (scratch / "warm").iterdir()
        ]
        write_model(model, imgsz=SIZE, kind="yolov5s", share=0.0005, images=shown)
    for kind in ("onnx", "openvino"):
        made = export(model, scratch / kind, to=kind, imgsz=SIZE, dynamic=True)
        made.rename(scratch / OURS[kind][0])


def one_round(scratch: Path, many: int, backends: list[str]) -> dict[str, dict[str, Any]]:
    """Measure each one once: {what: {rate, boxes}}."""
    found: dict[str, dict[str, Any]] = {}
    for saved in (True, False):
        ending = "saved" if saved else "bare"
        found[f"process, yolo, {ending}"] = in_process(YOLO, scratch, OURS["pytorch"], saved)
        found[f"command, yolo, {ending}"] = {"rate": many / timed(yolo_command(scratch, saved), scratch)}
        for kind, how in ((kind, OURS[kind]) for kind in backends):
            found[f"process, {kind}, {ending}"] = in_process(FMASK, scratch, how, saved)
            found[f"command, {kind}, {ending}"] = {"rate": many / timed(fmask_command(scratch, how, saved), scratch)}
    return found


def in_process(code: str, scratch: Path, how: tuple[str, str], saved: bool) -> dict[str, Any]:
    shutil.rmtree(scratch / "out", ignore_errors=True)
    folders = [str(scratch / name) for name in ("warm", "images", "out")]
    weights, precision = how
    done = run([sys.executable, "-c", code, str(scratch / weights), *folders, str(int(saved)), precision], scratch)
    rate, boxes = done.split()[-2:]
    return {"rate": float(rate), "boxes": int(boxes)}


def yolo_command(scratch: Path, saved: bool) -> list[str]:
    yolo = str(Path(sys.executable).with_name("yolo"))
    source = [f"model={scratch / 'model.pt'}", f"source={scratch / 'images'}", f"project={scratch / 'out'}"]
    return [yolo, "predict", *source, f"imgsz={SIZE}", "device=cpu", f"save={saved}"]


def fmask_command(scratch: Path, how: tuple[str, str], saved: bool) -> list[str]:
    weights, precision = how
    save = ["--save", "csv", *(["--save", "images"] if saved else [])]
    model = [
        "--weights",
        str(scratch / weights),
        "--precision",
        precision,
        "--imgsz",
        str(SIZE),
        "--confidence",
        "0.25",
    ]
    here = ["--root", str(scratch), "--out", str(scratch / "out")]
    return [sys.executable, "-m", "facemask_train", "predict", str(scratch / "images"), *model, *save, *here]


def timed(command: list[str], scratch: Path) -> float:
    shutil.rmtree(scratch / "out", ignore_errors=True)
    began = time.perf_counter()
    run(command, scratch)
    return time.perf_counter() - began


def run(command: list[str], scratch: Path) -> str:
    offline = {"YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(scratch / "settings"), "YOLO_AUTOINSTALL": "false"}
    done = subprocess.run(
        command, cwd=scratch, capture_output=True, text=True, env={**os.environ, **offline}, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command)[:300]}\n{done.stderr}")
    return done.stdout


def summary(rounds: list[dict[str, dict[str, Any]]]) -> dict[str, Any]:
    """Return the median rates, and their ratios to yolo's: the median of the ratios of all rounds."""
    rates = {key: round(median(one[key]["rate"] for one in rounds), 2) for key in rounds[0]}
    times = {}
    for key in rates:
        way, what, ending = key.split(", ")
        if what != "yolo":
            base = f"{way}, yolo, {ending}"
            times[key] = round(median(one[key]["rate"] / one[base]["rate"] for one in rounds), 2)
    return {"images_per_second": rates, "times_yolo": times}


if __name__ == "__main__":
    main()
