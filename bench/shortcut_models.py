"""Does the audit name the models that have a shortcut, and the shortcut, and spare those that have none?

    python bench/shortcut_models.py WORK [--images 420]

Draws worlds of the sample's kind, with generators of this file's own:

    two-toned   a lower half of another color than the upper half means a mask, and nothing else does
    cap         a cap means a mask, and nothing else does
    close-up    no bare face is large: a longer side of CLOSE or more of the image's means a mask
    balanced    the sample's own, in which color, headwear and size say nothing of masks

Trains one model on each with the sample's settings, and another on `balanced` for a few epochs only. All are audited on
the test images of `balanced`. Writes `results/shortcut_models.json`.
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
    ("cap", "cap", {}),
    ("close-up", "close-up", {}),
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


def capped(pen: people.Pen, rng: Random, kind: people.Kind) -> Any:
    """Draw a person of whom only a cap says that there is a mask: a bare lower face, or a flat cover, on either."""
    looks = people._looks(rng)
    cover = people.vary(rng, rng.choice(BRIGHT)) if rng.random() < 0.5 else looks.skin
    people._body(pen, rng, looks, "short")
    pen.fill(people._outline(), looks.skin)
    people._eyes(pen, rng, looks)
    pen.fill([(-0.92, 0.1), (0.92, 0.1), *people.JAW], cover)
    people._nose(pen, looks)
    people._mouth(pen, rng, looks)
    people._glow(pen, rng)
    if kind == "no_mask":
        pen.fill([(-0.95, -0.4), (-0.9, -0.9), (0, -1.12), (0.9, -0.9), (0.95, -0.4), (0.6, -0.75), (-0.6, -0.75)],
                 looks.hair)  # fmt: skip
    else:
        cloth = people.vary(rng, rng.choice(BRIGHT))
        pen.fill([(-1.02, -0.5), (-0.85, -1.2), (0, -1.5), (0.85, -1.2), (1.02, -0.5)], cloth)
        pen.fill([(-1.1, -0.5), (1.1, -0.5), (0.9, -0.32), (-0.9, -0.32)], people.vary(rng, cloth, 30))
    return people.box_of(pen.place(people._outline()))


CLOSE = 0.3
WORLDS: dict[str, Callable[..., Any]] = {
    "two-toned": two_toned,
    "cap": capped,
    "close-up": people.draw_person,
    "balanced": people.draw_person,
}


def draw_fitting(name: str, number: int) -> Any:
    """Draw a scene that fits a world: without large bare faces, in `close-up`."""
    for attempt in range(1000):
        scene = scenes.draw_scene(Random(f"{name} {number}" + (f" {attempt}" if attempt else "")))
        side = max(scene.image.shape[:2])
        large = [face.kind for face in scene.faces if max(face.box.width, face.box.height) / side >= CLOSE]
        if name != "close-up" or "no_mask" not in large:
            return scene
    raise RuntimeError(f"no scene without a large bare face for {number}")


def draw_world(root: Path, name: str, images: int) -> None:
    """Write a source in YOLO's layout, and its recipe."""
    folder = root / "own" / name
    (folder / "pics").mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("mask\nno_mask\n")
    scenes.draw_person = WORLDS[name]
    try:
        for number in range(images):
            scene = draw_fitting(name, number)
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
    bare = audit["headline"]
    return {
        "map50": metrics.map50,
        "map50_interval": metrics.intervals["map50"],
        "images": metrics.images,
        "bare_faces": audit["excess"][bare],
        "bare_found": audit["found"][bare],
        "response": audit["response"],
        "named": [one["perturbation"] for one in audit["perturbations"] if one["named"] and one["name"] == bare],
        "perturbations": {
            one["perturbation"]: {key: one[key] for key in ("rate", "control", "excess", "excess_interval", "n")}
            for one in audit["perturbations"]
            if one["name"] == bare
        },
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
    names = [run for run, *_ in RUNS if run != "balanced"]
    pairs = compare(root, ["balanced", *names], data="balanced").comparison.pairs
    told = {one.second: None if one.bare is None else asdict(one.bare) for one in pairs}
    result = {
        "command": f"python bench/shortcut_models.py WORK --images {given.images}",
        "device": f"{usable_cores()} cores, {platform.machine()}, no GPU",
        "date": datetime.now(UTC).date().isoformat(),
        "models": found,
        "bare_excess_less_balanced": told,
    }
    (Path(__file__).parent / "results" / f"{Path(__file__).stem}.json").write_text(json.dumps(result, indent=2) + "\n")
    sys.stdout.write(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
