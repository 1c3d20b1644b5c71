"""Does the audit distinguish a model with the shortcut from one without it?

    python bench/shortcut_models.py WORK [--images 420]

Draws two datasets like the sample, with the generators of this file: in `two-toned`, a face whose lower half differs in
color from its upper half always means a mask, and nothing else does; in `balanced`, which is like the sample, color
says nothing about masks. Trains one model on each with the sample's settings, and a third one on `balanced` for only a
few epochs. All three are audited on the test images of `balanced`. Writes `results/shortcut_models.json`.
"""

from __future__ import annotations

import argparse
import json
import logging
import platform
import sys
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from random import Random
from typing import Any

import yaml
from PIL import Image

from facemask_train.core.config import read_train_settings
from facemask_train.core.parallel import usable_cores
from facemask_train.dataset.build import build
from facemask_train.eval.compare import compare
from facemask_train.eval.evaluate import evaluate
from facemask_train.sources.fetch import fetch
from facemask_train.sources.sample import people, scenes
from facemask_train.training.train import train

SPLIT = {"train": 0.6, "val": 0.15, "test": 0.25}
RUNS = (
    ("two-toned", "two-toned", {}),
    ("balanced", "balanced", {}),
    ("weak", "balanced", {"epochs": 6, "patience": 6}),
)
BRIGHT = ((124, 182, 216), (44, 46, 54), (146, 208, 176), (52, 74, 130), (192, 66, 62), (84, 140, 110), (150, 110, 190))


def two_toned(pen: people.Pen, rng: Random, kind: people.Kind) -> Any:
    """Draw a person whose mask can be recognized only by its two tones.

    The lower face of a masked one is a flat color, without hem, folds or loops; that of a bare one is skin. Nose and
    mouth are drawn on half of either.
    """
    looks = people._looks(rng)
    masked = kind != "no_mask"
    cover = people.vary(rng, rng.choice(BRIGHT)) if masked else people.vary(rng, looks.skin, 6)
    style = rng.choices(("short", "long", "bun", "curls", "bald", "veil"), weights=(5, 4, 2, 3, 1, 2))[0]
    people._body(pen, rng, looks, style)
    pen.fill(people._outline(), looks.skin)
    people._eyes(pen, rng, looks)
    top = rng.uniform(-0.05, 0.2)
    pen.fill([(-0.92, top), (0.0, top + rng.uniform(-0.15, 0.1)), (0.92, top), *people.JAW], cover)
    if rng.random() < 0.5:
        people._nose(pen, looks)
        people._mouth(pen, rng, looks)
    people._glow(pen, rng)
    people._hair(pen, rng, looks, style)
    return people.box_of(pen.place(people._outline()))


WORLDS: dict[str, Callable[..., Any]] = {"two-toned": two_toned, "balanced": people.draw_person}


def draw_world(root: Path, name: str, images: int) -> None:
    """Write a source in YOLO's layout, and its recipe."""
    folder = root / "own" / name
    (folder / "pics").mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("mask\nno_mask\n")
    scenes.draw_person = WORLDS[name]
    try:
        for number in range(images):
            scene = scenes.draw_scene(Random(f"{name} {number}"))
            height, width = scene.image.shape[:2]
            Image.fromarray(scene.image).save(folder / "pics" / f"{number:04d}.jpg", quality=92)
            rows = [
                f"{('mask', 'no_mask').index(face.kind)} {(face.box.x_min + face.box.x_max) / 2 / width:.6f} "
                f"{(face.box.y_min + face.box.y_max) / 2 / height:.6f} {face.box.width / width:.6f} "
                f"{face.box.height / height:.6f}\n"
                for face in scene.faces
            ]
            (folder / "pics" / f"{number:04d}.txt").write_text("".join(rows))
    finally:
        scenes.draw_person = people.draw_person


def write_configs(root: Path) -> None:
    (root / "configs" / "ensembles").mkdir(parents=True, exist_ok=True)
    classes = {"mask": "mask", "no_mask": "no_mask"}
    sources = {name: {"path": str((root / "own" / name).resolve()), "classes": classes} for name in WORLDS}
    (root / "configs" / "sources.yaml").write_text(yaml.safe_dump({"sources": sources}))
    for name in WORLDS:
        recipe = {"name": name, "sources": [name], "split": SPLIT}
        (root / "configs" / "ensembles" / f"{name}.yaml").write_text(yaml.safe_dump(recipe))


def measured(root: Path, run: str) -> dict[str, Any]:
    scored = evaluate(root, run=run, data="balanced", tracker="none")
    metrics = scored.metrics
    assert metrics.audit is not None
    audit = metrics.audit.to_json()
    keys = ("rate", "interval", "n", "faces", "images", "lost")
    rates = ("shortcut_rate", "shortcut_rate_seen", "response_rate")
    return {
        "map50": metrics.map50,
        "map50_interval": metrics.intervals["map50"],
        "images": metrics.images,
        **{name: {key: audit[name][key] for key in keys} for name in rates},
        "bare_faces_unseen": {key: audit["shortcut_rate_by_class"]["no_mask"][key] for key in keys},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("work", type=Path)
    parser.add_argument("--images", type=int, default=420)
    given = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    root = given.work
    for name in WORLDS:
        if not (root / "own" / name).is_dir():
            draw_world(root, name, given.images)
    write_configs(root)
    fetch(root, list(WORLDS))
    for name in WORLDS:
        build(root, name)
    for run, data, changes in RUNS:
        if not (root / "runs" / run / "weights" / "best.pt").is_file():
            train(root, read_train_settings(root, "train-sample", changes), data=data, name=run, tracker="none")
    found = {run: measured(root, run) for run, *_ in RUNS}
    pair = compare(root, ["balanced", "two-toned"], data="balanced").comparison.pairs[0]
    difference = None if pair.shortcut_rate is None else asdict(pair.shortcut_rate)
    result = {
        "command": f"python bench/shortcut_models.py WORK --images {given.images}",
        "device": f"{usable_cores()} cores, {platform.machine()}, no GPU",
        "date": datetime.now(UTC).date().isoformat(),
        "models": found,
        "two_toned_less_balanced": difference,
    }
    (Path(__file__).parent / "results" / f"{Path(__file__).stem}.json").write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
