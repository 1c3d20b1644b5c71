"""Two small sources that share images, and the recipe that merges them."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import yaml

from facemask_train.core.types import CLASSES, Annotation, Box
from facemask_train.formats import voc, yolo
from facemask_train.sources.sample.scenes import Scene, draw_scene
from helpers.copies import copy_of, encoded
from helpers.worlds import SPLIT, write

AUGMENT = {
    "copies": {"turned": [{"rotate90": {"degrees": [90, 180, 270]}}], "small": [{"scale": {"factor": [0.4, 0.9]}}]}
}


def scene(number: int) -> Scene:
    return draw_scene(Random(f"versions {number}"), people=3)


def labels(drawn: Scene) -> list[Annotation]:
    return [Annotation(face.kind, face.box) for face in drawn.faces if face.kind in CLASSES]


def add_voc(root: Path, source: str, stem: str, image: np.ndarray, found: list[Annotation], **names: str) -> None:
    """Add an image to a VOC source; `names` renames a class for one file."""
    height, width = image.shape[:2]
    text = voc.to_xml(f"{stem}.png", found, width=width, height=height)
    for old, new in names.items():
        text = text.replace(f"<name>{old}</name>", f"<name>{new}</name>", 1)
    content = encoded(image, kind=".png")
    write(root / "own" / source, {f"images/{stem}.png": content, f"annotations/{stem}.xml": text})


def add_yolo(root: Path, source: str, name: str, image: np.ndarray, found: list[Annotation]) -> None:
    height, width = image.shape[:2]
    text = yolo.lines(found, width, height)
    write(root / "own" / source, {f"{name}.jpg": encoded(image), f"{name}.txt": text, "classes.txt": "mask\nno_mask"})


def configure(root: Path, recipe: dict[str, object], *names: str) -> None:
    classes = {"mask": "mask", "no_mask": "no_mask", "askew": "worn_incorrectly"}
    sources = {name: {"path": f"own/{name}", "classes": classes} for name in names}
    write(root / "configs", {"sources.yaml": yaml.safe_dump({"sources": sources}, sort_keys=False)})
    # drawn people share their parts, which are no copies
    defaults = {"name": "x", "split": SPLIT, "duplicates": {"local_features": False}}
    write(root / "configs/ensembles", {"x.yaml": yaml.safe_dump({**defaults, **recipe}, sort_keys=False)})


def make_world(root: Path, *, images: int = 12, **recipe: object) -> Path:
    """Write two sources of scenes; the second's first four are copies of the first's: one conflicts, one is of one that
    is worn incorrectly, the others agree.
    """
    for number in range(images):
        drawn = scene(number)
        askew = {labels(drawn)[0].name: "askew"} if number == 3 else {}
        add_voc(root, "one", f"a{number}", drawn.image, labels(drawn), **askew)
        if number >= 4:
            other = scene(100 + number)
            add_yolo(root, "two", f"pics/b{number}", other.image, labels(other))
            continue
        copy = copy_of(drawn.image, Random(number), crop=0, scale=1.5, quality=80, orientation=0)
        found = [Annotation(one.name, Box(*(1.5 * corner for corner in one.box.corners))) for one in labels(drawn)]
        if number == 2:
            found[0] = Annotation(next(name for name in CLASSES if name != found[0].name), found[0].box)
        add_yolo(root, "two", f"pics/b{number}", copy, found)
    configure(root, {"sources": ["one", "two"], **recipe}, "one", "two", "three")
    return root
