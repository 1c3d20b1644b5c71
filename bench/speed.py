"""How fast ensembles are built, compared with common alternatives, as whole processes that run alternately.

    python bench/speed.py --archives FOLDER --datumaro PYTHON [--rounds 3]

PYTHON is the interpreter of a separate environment with datumaro (pip install datumaro). Writes
bench/results/speed.json, and prints it. Images and outputs per second of wall time, startup included; medians over the
rounds, and the ratio of each round.

    v5         build-dataset --version 5 from fetched archives, nothing cached: read, check, repair, hash, group,
               decide, split, write
    datumaro   import of the first source as Pascal VOC, remap_labels, random_split, export as YOLO with its images
    one        build-dataset of the first source alone: the same images that datumaro gets
    v8         build-dataset --version 8 --allow-missing, nothing cached
    plain      a plain script: one process, cv2 and albumentations, that writes the same originals and rotated copies,
               and calls fmask's face-aware transform, since no library has one; without checks and groups
    again      build-dataset --version 8 --allow-missing with nothing changed
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
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

HERE = Path(__file__).parent
RECIPE = "name: one\nsources: [andrewmvd]\nsplit: {train: 0.85, val: 0.10, test: 0.05}\n"
LABELMAP = "with_mask:255,0,0::\nwithout_mask:0,255,0::\nmask_weared_incorrect:0,0,255::\n"

DATUMARO = """
import sys
import datumaro as dm
dataset = dm.Dataset.import_from(sys.argv[1], "voc_detection")
dataset.transform("remap_labels", mapping={"with_mask": "mask", "without_mask": "no_mask"}, default="delete")
dataset.transform("random_split", splits=[("train", 0.85), ("val", 0.10), ("test", 0.05)], seed=0)
dataset.export(sys.argv[2], "yolo_ultralytics", save_media=True)
print(len(dataset))
"""

PLAIN = """
import sys
from pathlib import Path
import albumentations as A
import cv2
import pandas as pd
from facemask_train.core.recipe import read_recipe
from facemask_train.augment.transforms import render
from facemask_train.formats import yolo
from facemask_train.core.types import Box, Annotation

root, out = Path(sys.argv[1]), Path(sys.argv[2])
rows = pd.read_parquet(root / "data/ensembles/v8-without-karm1a/manifest.parquet")
rows = rows[rows["copy"] == ""]
steps = read_recipe(root, "8").augment.copies["faces"]
turn = A.Compose([A.RandomRotate90(p=1)], bbox_params=A.BboxParams("pascal_voc", label_fields=["names"]))
out.mkdir()
count = 0

def save(image, labels, stem):
    global count
    cv2.imwrite(str(out / f"{stem}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 92])
    (out / f"{stem}.txt").write_text(yolo.lines(labels, image.shape[1], image.shape[0]))
    count += 1

for number, row in enumerate(rows.to_dict("records")):
    image = cv2.imread(str(root / "data/raw" / row["source"] / "files" / row["source_image"]))
    boxes = [[label[key] for key in ("x_min", "y_min", "x_max", "y_max")] for label in row["labels"]]
    names = [label["name"] for label in row["labels"]]
    labels = [Annotation(name, Box(*box)) for name, box in zip(names, boxes)]
    save(image, labels, f"{number}")
    if row["split"] == "train":
        made = turn(image=image, bboxes=boxes, names=names)
        found = [Annotation(name, Box(*map(float, box))) for name, box in zip(made["names"], made["bboxes"])]
        save(made["image"], found, f"{number}-turned")
        faces = render(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), labels, steps, number)
        save(cv2.cvtColor(faces.image, cv2.COLOR_RGB2BGR), faces.labels, f"{number}-faces")
print(count)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archives", type=Path, required=True)
    parser.add_argument("--datumaro", required=True)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=HERE / "results" / "speed.json")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), arguments.archives.resolve(), arguments.datumaro, arguments.rounds)
    text = json.dumps(found, indent=1)
    arguments.out.write_text(text + "\n")
    print(text)


def measure(root: Path, archives: Path, datumaro: str, rounds: int) -> dict[str, Any]:
    fmask("fetch", "andrewmvd", "aditya276", "--from", str(archives), root=root)
    (root / "configs/ensembles").mkdir(parents=True)
    (root / "configs/ensembles/one.yaml").write_text(RECIPE)
    lay_out_voc(root / "data/raw/andrewmvd/files", root / "voc")
    runs: dict[str, Callable[[], int]] = {
        "v5": lambda: built(root, "5"),
        "one": lambda: built(root, "one"),
        "datumaro": lambda: int(script(datumaro, DATUMARO, root / "voc", fresh(root / "out"))),
        "v8": lambda: built(root, "8", "--allow-missing"),
        "plain": lambda: int(script(sys.executable, PLAIN, root, fresh(root / "out"))),
    }
    times: dict[str, list[float]] = {name: [] for name in [*runs, "again"]}
    counts = {}
    for _ in range(rounds):
        for name, run in runs.items():
            counts[name], seconds = timed(run)
            times[name].append(counts[name] / seconds)
        _, seconds = timed(lambda: fmask("build-dataset", "--version", "8", "--allow-missing", root=root))
        times["again"].append(seconds)
    return report(times, counts)


def report(times: dict[str, list[float]], counts: dict[str, int]) -> dict[str, Any]:
    def ratio(one: str, other: str) -> list[float]:
        return [round(mine / theirs, 2) for mine, theirs in zip(times[one], times[other], strict=True)]

    return {
        "cores": len(os.sched_getaffinity(0)),
        "counts": counts,
        "per second": {name: round(median(values)) for name, values in times.items() if name != "again"},
        "v5 / datumaro": ratio("v5", "datumaro"),
        "one / datumaro": ratio("one", "datumaro"),
        "v8 / plain": ratio("v8", "plain"),
        "again, seconds": [round(value, 2) for value in times["again"]],
    }


def fmask(*arguments: str, root: Path) -> dict[str, Any]:
    command = [sys.executable, "-m", "facemask_train", *arguments, "--root", str(root), "--json"]
    found: dict[str, Any] = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return found


def built(root: Path, version: str, *options: str) -> int:
    """Build from fetched sources with nothing cached; return the images that came in (v8: the outputs)."""
    for part in ("ensembles", "cache"):
        shutil.rmtree(root / "data" / part, ignore_errors=True)
    card = fmask("build-dataset", "--version", version, *options, root=root)
    return card["outputs"] if version == "8" else card["images"]["total"]


def script(python: str, text: str, *arguments: Path) -> str:
    done = subprocess.run([python, "-c", text, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip().rpartition("\n")[2]


def fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    began = time.perf_counter()
    result = run()
    return result, time.perf_counter() - began


def lay_out_voc(files: Path, target: Path) -> None:
    """Arrange the files of a source in the Pascal VOC layout, so that datumaro finds them."""
    for part in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (target / part).mkdir(parents=True)
    stems = sorted(path.stem for path in (files / "annotations").glob("*.xml"))
    for path in sorted((files / "images").iterdir()):
        shutil.copy(path, target / "JPEGImages" / path.name)
    for stem in stems:
        shutil.copy(files / "annotations" / f"{stem}.xml", target / "Annotations")
    (target / "ImageSets/Main/default.txt").write_text("".join(f"{stem}\n" for stem in stems))
    (target / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + LABELMAP)


if __name__ == "__main__":
    main()
